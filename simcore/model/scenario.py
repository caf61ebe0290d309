"""What people write: the scenario, as frozen pydantic models. Every time is in seconds unless a name says otherwise.

Numbering, relied on by both engines: services, operations and call sites are numbered in file order; operations
run over services then operations; call sites (calls, cache reads, publications) over operations then steps, pre-order
(a ``cached`` step's lookup comes before the calls inside it). A step's number counts its operation's steps in the same
pre-order. The partitions of all topics are numbered in file order too.
"""

__all__ = [
    "ActionSpec", "Breaker", "Cache", "Cached", "CachedStep", "Call", "CallStep", "CoDel", "Collector", "CpuStep",
    "DelayStep", "Demand", "Entry", "FaultDraw", "Faults", "Health", "Hedge", "Keys", "Latency", "Lock", "LockStep",
    "Memory", "Noise", "Numbered", "Observation", "Operation", "Parallel", "ParallelStep", "Pool", "Publish",
    "PublishStep", "Range", "Replicas", "RetryBudget", "STEP_KINDS", "Scenario", "Service", "Slo", "Step", "Timing",
    "Topic", "Warmup", "Workload",
]  # fmt: skip

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
#: Bounds of a recorded series: points, and multiple of the base rate.
MAX_POINTS, MAX_FACTOR = 100_000, 100.0
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


def _from_digits(key: Any) -> Any:
    """Return a priority as a number: keys of a file are text."""
    return int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key


Priority = Annotated[int, Field(ge=0, le=9)]
PriorityKey = Annotated[Priority, BeforeValidator(_from_digits)]
DistName = Literal["constant", "exponential", "lognormal", "gamma"]


class Spec(BaseModel):
    """Base of every part of a scenario: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Range(Spec):
    """A uniform range; equal ends give a constant."""

    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.min <= self.max:
            raise ValueError(f"min must be <= max, got {self.min} and {self.max}")
        return self


class Demand(Spec):
    """A random amount with a stated mean."""

    mean_s: NonNegative
    dist: DistName = "exponential"
    sigma: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Lognormal only: standard deviation of the logarithm."""
    shape: Annotated[float, Field(ge=0.05, le=1000)] = 2.0
    """Gamma only: shape parameter."""


class Latency(Demand):
    """One-way network latency."""

    mean_s: NonNegative = 0.0
    dist: DistName = "constant"


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


class Memory(Spec):
    """Memory of a replica, in whole bytes; above the limit the replica is killed."""

    base_bytes: Annotated[int, Field(ge=0, le=2**50)] = 200_000_000
    per_span_bytes: Annotated[int, Field(ge=0, le=2**40)] = 1_000_000
    """Held by every span at the replica, queued or running."""
    limit_bytes: Annotated[int, Field(ge=1, le=2**50)] = 2_000_000_000
    leak_bytes: Annotated[int, Field(ge=0, le=2**40)] = 0
    """Left behind by every finished span."""


class Cache(Spec):
    """Makes a service a cache: each replica owns a shard with exact LRU."""

    slots: Annotated[int, Field(ge=1, le=1_000_000)]
    """Entries per replica."""
    ttl_s: Positive = 300.0
    """Counted from the fill, tested at lookup: an entry is live while now < fill + ttl."""
    negative_ttl_s: Positive | None = None
    """How long it is remembered that a key does not exist; None: it is not."""
    copies: Annotated[int, Field(ge=1, le=200)] = 2
    """Replicas that hold a replicated key."""


class Replicas(Spec):
    """Bounds for ``scale``."""

    initial: Annotated[int, Field(ge=1, le=200)] = 1
    min: Annotated[int, Field(ge=1, le=200)] = 1
    max: Annotated[int, Field(ge=1, le=200)] = 10

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if not self.min <= self.initial <= self.max:
            raise ValueError(f"min <= initial <= max must hold, got {self.min}, {self.initial}, {self.max}")
        return self


class Pool(Spec):
    """The connections of each replica of a service to another service."""

    size: Annotated[int, Field(ge=0, le=10_000)] = 10
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Attempts that may wait for a connection; more are denied at once."""
    wait_s: Positive = 1.0
    """Longest wait for a connection."""


class CoDel(Spec):
    """Controlled delay: spans that queued too long are dropped when their turn comes."""

    target_s: NonNegative = 0.005
    """Longest wait while the queue does not get empty ..."""
    interval_s: Positive = 0.1
    """... for as long as this; the longest wait otherwise."""


class Warmup(Spec):
    """A replica that has just come up needs more CPU, until it is warm."""

    duration_s: Positive = 30.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Of the CPU demand at first; falls to 1 in a line."""


class Collector(Spec):
    """Stop-the-world garbage collection, the more often the less room is left, the longer the more is alive."""

    garbage_bytes: Annotated[int, Field(ge=0, le=2**40)] = 1_000_000
    """Left by every finished span."""
    share: Fraction = 0.5
    """Collects when garbage fills this share of the room beside what is alive ..."""
    least_bytes: Annotated[int, Field(ge=1, le=2**50)] = 50_000_000
    """... but not before there is so much."""
    pause_s: NonNegative = 0.005
    pause_s_per_gb: NonNegative = 0.2
    """Further pause per 1e9 bytes alive."""


class Health(Spec):
    """Health checks of the load balancer; they see whether a replica is alive, not whether it is well."""

    interval_s: Positive = 5.0
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 3
    """Missed checks in a row that take a replica out of rotation."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Passed checks in a row that bring it back."""


class Autoscaler(Spec):
    """Horizontal autoscaling by CPU utilisation, within the service's ``replicas``."""

    target: Annotated[float, Field(gt=0, le=1)] = 0.6
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.1
    """No change while utilisation / target is this close to 1."""
    every_steps: Annotated[int, Field(ge=1, le=1000)] = 3
    stabilisation_steps: Annotated[int, Field(ge=1, le=1000)] = 60
    """It scales down to the largest wish of so many steps."""


class Service(Spec):
    """Replicas behind a load balancer."""

    replicas: Replicas = Replicas()
    threads: Annotated[int, Field(ge=1, le=10_000)] = 16
    cores: Positive = 1.0
    speed: Positive = 1.0
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Spans that may wait for a thread at one replica; more are rejected at once."""
    discipline: Literal["fifo", "lifo", "codel"] = "fifo"
    """Which queued span gets a free thread; ``lifo`` only while more than ``lifo_above`` are queued."""
    lifo_above: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Lifo only."""
    codel: CoDel = CoDel()
    """Codel only."""
    shed_above: dict[PriorityKey, Annotated[int, Field(ge=0, le=1_000_000)]] = {}
    """By priority: arrivals of it are rejected while more than so many spans are queued."""
    balancer: Literal["round_robin", "least_outstanding", "random", "power_of_two"] = "round_robin"
    pools: dict[Name, Pool] = {}
    """By callee; without one, connections are unlimited."""
    health: Health | None = None
    """Without health checks the balancer knows at once which replicas are up."""
    warmup: Warmup | None = None
    gc: Collector | None = None
    autoscaler: Autoscaler | None = None
    startup_s: NonNegative = 5.0
    drain_s: NonNegative = 10.0
    """Longest time a draining replica may finish its work."""
    memory: Memory = Memory()
    cache: Cache | None = None
    operations: Annotated[dict[Name, Operation], Field(min_length=1)]


class Timing(Spec):
    """The control loop's clock."""

    step_s: Positive = 5.0
    steps: Annotated[int, Field(ge=1, le=100_000)] = 240
    burn_in_steps: Annotated[int, Field(ge=0, le=10_000)] = 12
    """Unrecorded control steps before time 0 that warm caches and queues."""
    follow_up_steps: Annotated[int, Field(ge=1, le=100_000)] = 120
    """Follow-up after the onset, the same for every run."""


class Slo(Spec):
    """What the users were promised."""

    latency_s: Positive = 0.5
    """A request is good if it is answered without error within this time."""
    p95_s: Positive = 0.4
    """A step violates the SLO if the p95 at the client is above this ..."""
    bad_frac: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """... or if more than this fraction of the offered requests is bad."""
    objective: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Promised fraction of good requests; the error budget is 1 - objective."""


class Entry(Spec):
    """One class of requests."""

    operation: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
    weight: Positive = 1.0
    priority: Priority = 0
    """0 is the most important; services may shed the others."""


class Closed(Spec):
    """Users who wait for an answer, think, and send their next request."""

    users: Annotated[int, Field(ge=1, le=100_000)]
    think: Demand


class Point(Spec):
    """From an instant on, the rate is a multiple of ``rate_rps``."""

    time_s: float
    factor: Annotated[float, Field(ge=0, le=MAX_FACTOR)]


class Workload(Spec):
    """Arrivals at the system's border: open, or of a number of users."""

    rate_rps: Positive
    entries: Annotated[list[Entry], Field(min_length=1, max_length=64)]
    timeout_s: Positive = 10.0
    """The client's patience; also the latency of a request that was not answered."""
    deadline_s: Positive | None = None
    """Passed down with every request: nothing is begun for it after its arrival + deadline."""
    arrivals: Literal["poisson", "grid"] = "poisson"
    """``grid``: one arrival every 1 / peak rate, thinned like the Poisson stream."""
    closed: Closed | None = None
    """Users instead of an open stream; ``rate_rps`` then only sizes faults and J."""
    shape: Literal["constant", "sinusoidal", "step", "burst", "series"] = "constant"
    series: Annotated[list[Point], Field(max_length=MAX_POINTS)] = []
    """Series only: the factor holds from its time to the next point's; times increase."""
    series_csv: str | None = None
    """Series only, instead of ``series``: a CSV file beside the scenario with columns ``time_s`` and ``rate_rps``."""
    amplitude: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sinusoidal only: relative swing."""
    period_s: Positive = 1200.0
    """Sinusoidal only."""
    random_phase: bool = True
    """Sinusoidal only: a phase per run, drawn; otherwise 0."""
    factor: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Step and burst: multiple of the rate."""
    from_s: float = 0.0
    """Step and burst: start."""
    until_s: float = 0.0
    """Burst: end."""


class Noise(Spec):
    """Harmless events in all runs, so that a change is not proof of a fault. Rates per simulated hour."""

    deploys_per_hour: NonNegative = 0.0
    """Benign deploys, each at a target drawn uniformly: a rolling restart with a demand within +-3 %."""
    config_changes_per_hour: NonNegative = 0.0
    """Benign changes of configuration: the timeouts of a service's calls change by up to 10 %."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services that are deployed and configured; by default all."""
    bursts_per_hour: NonNegative = 0.0
    burst_s: Range = Range(min=10, max=20)
    burst_factor: Range = Range(min=1.1, max=1.3)


class FaultDraw(Spec):
    """One row of the mix from which a run's fault is drawn."""

    type: str
    weight: Positive = 1.0
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services it may hit; by default those that the catalogue allows."""
    severity: Range = Range(min=0.5, max=1.0)
    duration_s: Range | None = None
    """Absent: until fixed."""
    profile: Literal["step", "ramp", "pulses", "once"] | None = None
    """Absent: the catalogue's."""
    places: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    """Weights of the places it may live in; absent: the catalogue's."""


class Faults(Spec):
    """Which faults are drawn, and how."""

    none_share: Fraction = 0.2
    """Share of runs without a fault."""
    onset_s: Range = Range(min=300, max=600)
    mix: Annotated[list[FaultDraw], Field(max_length=100)] = []


class ActionSpec(Spec):
    """One kind of action that an agent may take."""

    delay_s: NonNegative = 0.0
    """From the decision to the effect; its mean if it is drawn."""
    delay_sigma: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Standard deviation of the logarithm of a lognormal delay; 0: always the same."""
    settle_s: NonNegative = 30.0
    """After the effect, before its outcome is judged."""
    cost: NonNegative = 0.0
    """In units of J: 0.01 is one percent of the horizon's requests."""
    cooldown_s: NonNegative = 60.0
    """Before the same action on the same service may be taken again."""
    failure_probability: Fraction = 0.0
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services it may be used on; by default every service where it makes sense."""
    values: Annotated[list[float], Field(min_length=1)] | None = None
    """Amounts offered, of the kinds that have one: ``mendsim actions`` says what they mean."""


class Observation(Spec):
    """How telemetry reaches the agent."""

    lag_steps: Annotated[int, Field(ge=0, le=100)] = 1
    """How many windows late a scrape arrives."""
    drop_rate: Fraction = 0.0
    """Chance that a run's scrape is lost; the agent then keeps the previous one."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A step with its numbers."""

    operation: int
    step: int  #: pre-order number within the operation
    site: int  #: call site, -1 for all but calls, cached steps and publications
    spec: CpuStep | DelayStep | CallStep | CachedStep | LockStep | ParallelStep | PublishStep
    inner: tuple["Numbered", ...]  #: steps inside a cached or lock step, the branches of a parallel step as call steps


class Scenario(Spec):
    """A system, its users, its promises, its faults and what an agent may do."""

    name: Name
    description: str = ""
    version: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    timing: Timing = Timing()
    slo: Slo = Slo()
    network: Latency = Latency()
    """One-way latency of every call and of the client's requests."""
    services: Annotated[dict[Name, Service], Field(min_length=1, max_length=200)]
    topics: Annotated[dict[Name, Topic], Field(max_length=200)] = {}
    workload: Workload
    noise: Noise = Noise()
    faults: Faults = Faults()
    actions: dict[str, ActionSpec] = {}
    observation: Observation = Observation()

    @functools.cached_property
    def service_names(self) -> tuple[str, ...]:
        """Names of the services, by number."""
        return tuple(self.services)

    @functools.cached_property
    def operations(self) -> tuple[tuple[str, str], ...]:
        """(service, operation) names, by number."""
        return tuple((s, o) for s, service in self.services.items() for o in service.operations)

    @functools.cached_property
    def programs(self) -> tuple[tuple[Numbered, ...], ...]:
        """Numbered steps of every operation, by operation number."""
        sites = iter(range(1_000_000))
        return tuple(
            _number(self.services[s].operations[o].steps, number, iter(range(10_000)), sites)
            for number, (s, o) in enumerate(self.operations)
        )

    def walk(self) -> Iterator[Numbered]:
        """Yield every step of every operation in pre-order."""

        def visit(steps: tuple[Numbered, ...]) -> Iterator[Numbered]:
            for step in steps:
                yield step
                yield from visit(step.inner)

        for program in self.programs:
            yield from visit(program)

    @functools.cached_property
    def sites(self) -> tuple[Numbered, ...]:
        """Calls, cached steps and publications, by call site number."""
        return tuple(step for step in self.walk() if step.site >= 0)

    @functools.cached_property
    def calls(self) -> tuple[Numbered, ...]:
        """The call sites that wait for an answer: all but publications."""
        return tuple(step for step in self.sites if not isinstance(step.spec, PublishStep))

    @functools.cached_property
    def consumers(self) -> frozenset[str]:
        """Names of the services that consume a topic."""
        return frozenset(topic.to.partition(".")[0] for topic in self.topics.values())

    def call_of(self, site: int) -> Call:
        """Return the call (a ``cached`` step is one too) of a call site that is no publication."""
        spec = self.sites[site].spec
        if isinstance(spec, CachedStep):
            return spec.cached
        assert isinstance(spec, CallStep)
        return spec.call

    def callee_of(self, site: int) -> str:
        """Return the ``service.operation`` to which a call site leads; of a publication, its topic's consumer."""
        spec = self.sites[site].spec
        return self.topics[spec.publish.topic].to if isinstance(spec, PublishStep) else self.call_of(site).to

    def network_of(self, call: Call) -> Latency:
        """Return the one-way latency of a call."""
        return self.network if call.network is None else call.network

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hex digits that name the scenario's content."""
        # without defaults: what a scenario does not use does not change its name; in order, since order numbers things
        content = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(content, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _number(steps: list[Any], operation: int, numbers: Iterator[int], sites: Iterator[int]) -> tuple[Numbered, ...]:
    result = []
    for spec in steps:
        number = next(numbers)
        site = next(sites) if isinstance(spec, (CallStep, CachedStep, PublishStep)) else -1
        inner = _number(_inside(spec), operation, numbers, sites)
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
