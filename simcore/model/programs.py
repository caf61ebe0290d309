"""What a span does: operations as programs of steps, the calls in them, and the topics between services."""

__all__ = [
    "Breaker",
    "Cached",
    "CachedStep",
    "Call",
    "CallStep",
    "CpuStep",
    "DelayStep",
    "Hedge",
    "Keys",
    "Lock",
    "LockStep",
    "Numbered",
    "numbered",
    "Operation",
    "Parallel",
    "ParallelStep",
    "Publish",
    "PublishStep",
    "RetryBudget",
    "Step",
    "STEP_KINDS",
    "Topic",
]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from simcore.model.spec import Demand, Fraction, Latency, Name, NonNegative, Positive, Spec


class Breaker(Spec):
    """A circuit breaker, one per calling replica and call site; it sees every attempt."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """Outcomes that it remembers."""
    min_calls: Annotated[int, Field(ge=1, le=1000)] = 10
    """It stays closed until it remembers as many."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Opens when this share of them failed."""
    open_s: Positive = 5.0
    """How long it stays open."""
    probes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Attempts let through when half-open; closes when all of them succeed."""

    @model_validator(mode="after")
    def _reachable(self) -> "Breaker":
        if self.min_calls > self.window:
            raise ValueError(f"min_calls must be <= window = {self.window}, got {self.min_calls}")
        return self


class RetryBudget(Spec):
    """A token bucket, one per calling replica and call site; every retry takes a token."""

    rate_per_s: NonNegative = 1.0
    burst: Annotated[float, Field(ge=1, le=1e9, allow_inf_nan=False)] = 10.0


class Hedge(Spec):
    """Further attempts beside one that is slow; the first success wins."""

    after_s: NonNegative = 0.1
    """Since the attempt before was sent."""
    max: Annotated[int, Field(ge=1, le=7)] = 1


class Call(Spec):
    """A synchronous call of another operation; holds the caller's thread until the reply."""

    to: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
    """``service.operation``."""
    probability: Fraction = 1.0
    timeout_s: Positive = 30.0
    """Per attempt."""
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    backoff_s: NonNegative = 0.05
    """Wait before the first retry; doubled for each further one."""
    backoff_limit_s: NonNegative = 5.0
    jitter: Fraction = 0.5
    """The wait is shortened by up to this fraction."""
    network: Latency | None = None
    """One-way latency; the scenario's ``network`` if absent."""
    required: bool = True
    """Whether the caller fails when the call does; otherwise it goes on without."""
    loss: Fraction = 0.0
    """Probability that a message of this call is lost, either way; the caller then waits for its timeout."""
    breaker: Breaker | None = None
    retry_budget: RetryBudget | None = None
    hedge: Hedge | None = None


class Keys(Spec):
    """Popularity of the cache keys: Zipf, key 0 the most popular."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    zipf: Annotated[float, Field(ge=0, le=5)] = 1.0
    absent: Fraction = 0.0
    """Share of the keys that do not exist: looking them up costs the inner steps, and finds nothing to cache."""
    replicated: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """So many of the most popular keys live on several replicas of the cache (its ``copies``)."""


class Cached(Call):
    """A look-aside cache read: call the cache; on a miss, or if that call fails, run ``steps`` and fill the key.

    The lookup is tried again like any call; its failure is never the caller's (the inner steps run instead).
    The fill happens at the instant at which the inner steps finish, at the replica that then owns the key.
    """

    keys: Keys
    coalesce: bool = False
    """Whether concurrent misses of a key at one replica run the inner steps once."""
    steps: Annotated[list["Step"], Field(max_length=64)] = []


class CpuStep(Spec):
    """CPU demand, served by processor sharing on the replica's cores."""

    cpu: Demand


class DelayStep(Spec):
    """Pure latency; holds the thread, not the CPU."""

    delay: Demand


class CallStep(Spec):
    """A synchronous call."""

    call: Call


class CachedStep(Spec):
    """A look-aside cache read."""

    cached: Cached


class Lock(Spec):
    """A serial section: one span at a time per lock, over all replicas of the service, first come first served."""

    name: Name
    """Steps of the service that name the same lock exclude each other."""
    steps: Annotated[list["Step"], Field(max_length=64)] = []
    """What is done while the lock is held; no further lock."""


class LockStep(Spec):
    """A serial section; holds the thread while it waits."""

    lock: Lock


class Parallel(Spec):
    """Several calls at once, joined."""

    branches: Annotated[list[Call], Field(min_length=1, max_length=16)]
    fail_fast: bool = True
    """Whether the first required call to fail ends the others; otherwise all are waited for."""


class ParallelStep(Spec):
    """Several calls at once; holds the thread until the join."""

    parallel: Parallel


class Publish(Spec):
    """A message to a topic; the span does not wait for it to be consumed."""

    topic: Name
    probability: Fraction = 1.0
    required: bool = True
    """Whether the span fails when the message's partition is full; otherwise it goes on without."""


class PublishStep(Spec):
    """A message to a topic."""

    publish: Publish


#: The keys of which a step has exactly one.
STEP_KINDS = ("cpu", "delay", "call", "cached", "lock", "parallel", "publish")


def _step_tag(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    found = [name for name in STEP_KINDS if name in keys]
    return found[0] if len(found) == 1 else None


Step = Annotated[
    Annotated[CpuStep, Tag("cpu")]
    | Annotated[DelayStep, Tag("delay")]
    | Annotated[CallStep, Tag("call")]
    | Annotated[CachedStep, Tag("cached")]
    | Annotated[LockStep, Tag("lock")]
    | Annotated[ParallelStep, Tag("parallel")]
    | Annotated[PublishStep, Tag("publish")],
    Discriminator(
        _step_tag,
        custom_error_type="step_kind",
        custom_error_message="a step must have exactly one of the keys " + ", ".join(STEP_KINDS),
    ),
]

Cached.model_rebuild()
Lock.model_rebuild()


class Operation(Spec):
    """A small program that a span walks through."""

    steps: Annotated[list[Step], Field(max_length=64)] = []
    cancellable: bool = False
    """Whether a span stops when its caller gives up; otherwise it goes on as zombie work."""


class Topic(Spec):
    """A queue of messages between services: each of its partitions is consumed in order, one message at a time."""

    to: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
    """``service.operation`` that consumes the messages."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 1
    """Messages are spread over them at random; each is consumed by one replica at a time."""
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Messages that a partition may hold, the one that is being delivered included; more are refused."""
    timeout_s: Positive = 30.0
    """Per delivery."""
    redeliveries: Annotated[int, Field(ge=0, le=31)] = 3
    """How often a message is delivered again that was not consumed; then it is given up."""
    backoff_s: NonNegative = 0.05
    """Wait before the first redelivery, in which the partition stands still; doubled for each further one."""
    backoff_limit_s: NonNegative = 5.0
    jitter: Fraction = 0.5
    """The wait is shortened by up to this fraction."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A step with its numbers."""

    operation: int
    step: int  #: pre-order number within the operation
    site: int  #: call site, -1 for all but calls, cached steps and publications
    spec: CpuStep | DelayStep | CallStep | CachedStep | LockStep | ParallelStep | PublishStep
    inner: tuple["Numbered", ...]  #: steps inside a cached or lock step, the branches of a parallel step as call steps


def numbered(steps: list[Any], operation: int, numbers: Iterator[int], sites: Iterator[int]) -> tuple[Numbered, ...]:
    """Return the steps of an operation with their numbers, which are taken from the two counters in pre-order."""
    result = []
    for spec in steps:
        number = next(numbers)
        site = next(sites) if isinstance(spec, (CallStep, CachedStep, PublishStep)) else -1
        inner = numbered(_inside(spec), operation, numbers, sites)
        result.append(Numbered(operation, number, site, spec, inner))
    return tuple(result)


def _inside(spec: Any) -> list[Any]:
    """Return the steps inside a step."""
    if isinstance(spec, CachedStep):
        return spec.cached.steps
    if isinstance(spec, LockStep):
        return spec.lock.steps
    if isinstance(spec, ParallelStep):
        return [CallStep(call=branch) for branch in spec.parallel.branches]
    return []
