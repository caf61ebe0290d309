"""What a service is: replicas behind a balancer, with queues, pools, memory and caches."""

__all__ = [
    "Autoscaler",
    "Cache",
    "CoDel",
    "Collector",
    "Health",
    "Memory",
    "Pool",
    "Replicas",
    "Service",
    "Warmup",
]

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simcore.model.programs import Operation
from simcore.model.spec import Fraction, Name, NonNegative, Positive, PriorityKey, Spec


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
