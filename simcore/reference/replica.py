"""A replica: threads, queue, processor, memory, cache shard, and the effective values of its parameters."""

__all__ = ["Effects", "Replica", "ServiceState"]

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simcore.codes import ReplicaState
from simcore.model.services import Service
from simcore.reference.cache import Shard
from simcore.reference.calendar import Calendar
from simcore.reference.ledger import Level
from simcore.reference.processor import Processor
from simcore.reference.queues import queue_of

if TYPE_CHECKING:
    from simcore.reference.attempts import Span
    from simcore.reference.breakers import Breaker, Budget
    from simcore.reference.flights import Flight
    from simcore.reference.locks import Lock
    from simcore.reference.pools import Pool

_SERVING = (ReplicaState.UP, ReplicaState.DRAINING)


@dataclass(slots=True)
class Effects:
    """Effective values of one replica: the service's own, under the modulations that apply."""

    speed: float
    cores: float
    leak: int
    demand: float = 1.0
    delay: float = 1.0
    network: float = 1.0
    ok: float = 1.0
    timeout: float = 1.0
    hold: float = 1.0
    pool: float = 1.0
    crash: float = 0.0


@dataclass(slots=True)
class ServiceState:
    """A service of one run: its replicas, in number order, and which version it runs."""

    index: int
    name: str
    spec: Service
    replicas: list["Replica"] = field(default_factory=list)
    last_chosen: int = -1
    version: int = 1
    newest: int = 1
    versions: list[int] = field(default_factory=lambda: [0, 1])
    shut_off: bool = False  #: nobody may call it
    retry_fraction: float = 1.0  #: of the retries of its calls that may be made
    degraded: bool = False  #: optional calls are left out
    pool_amount: float = 1.0  #: multiple of its pools' sizes
    locks: dict[str, "Lock"] = field(default_factory=dict)

    def eligible(self) -> list["Replica"]:
        """Return the replicas that may be sent to, in number order."""
        return [r for r in self.replicas if r.in_rotation and not r.quarantined]

    def present(self) -> list["Replica"]:
        """Return the replicas that are up or about to be, in number order."""
        return [r for r in self.replicas if r.state in (ReplicaState.STARTING, ReplicaState.UP)]


class Replica:
    """One replica of a service; restarts change its incarnation, never its number."""

    def __init__(self, calendar: Calendar, service: ServiceState, number: int) -> None:
        spec = service.spec
        self.number = number
        self.ordinal = len(service.replicas)
        self.service = service
        self.state = ReplicaState.STARTING
        self.serving = False  #: whether it takes what arrives
        self.quarantined = False
        self.incarnation = -1
        self.born_s = calendar.now
        self.up_s = -math.inf  #: when it came up; those that are up from the start have always been
        self.in_rotation = False  #: whether the load balancer takes it for one that answers
        self.passed, self.missed = 0, 0  #: checks in a row
        self.version = service.version
        self.crashes = 0
        self.n_entries = 0
        self.outstanding = 0
        self.shard = Shard(spec.cache.slots if spec.cache else 0)
        self.effects = Effects(spec.speed, spec.cores, spec.memory.leak_bytes)
        self.spans: dict[int, Span] = {}  #: queued, granted and running ones, by key
        self.queue = queue_of(spec, calendar.now)
        self.threads = 0  #: granted and reserved
        self.leaked_bytes = 0
        self.garbage_bytes = 0  #: left by finished spans, does not count as memory in use
        self.collecting = False  #: stopped by the garbage collector
        self.oom_entered = False
        self.n_finished = 0  #: in this window
        self.latency_sum_s = 0.0
        self.busy, self.up = Level(calendar.now), Level(calendar.now)
        self.in_flight, self.queued = Level(calendar.now), Level(calendar.now)
        self.pools: dict[int, Pool] = {}  #: by callee; made when first used, as are the others
        self.breakers: dict[int, Breaker] = {}  #: by call site
        self.budgets: dict[int, Budget] = {}  #: by call site
        self.flights: dict[tuple[int, int], Flight] = {}  #: coalesced reads under way, by call site and cache key
        self.waiting = Level(calendar.now)  #: attempts that wait for a connection
        self._calendar = calendar
        self.processor = Processor(calendar, spec.speed, spec.cores, self.refresh_busy)

    @property
    def memory_bytes(self) -> int:
        """Memory in use."""
        memory = self.service.spec.memory
        return memory.base_bytes + memory.per_span_bytes * len(self.spans) + self.leaked_bytes

    def take(self, span: "Span") -> None:
        """Count a span in."""
        self.spans[span.order] = span
        self.in_flight.set(float(len(self.spans)), self._calendar.now)

    def leave(self, span: "Span") -> None:
        """Count a span out."""
        del self.spans[span.order]
        self.in_flight.set(float(len(self.spans)), self._calendar.now)

    def refresh_queue(self) -> None:
        """Bring the level of the queue up to date."""
        self.queued.set(float(len(self.queue)), self._calendar.now)

    def refresh_waiting(self) -> None:
        """Bring the level of the lines for connections up to date."""
        self.waiting.set(float(sum(len(pool.line) for pool in self.pools.values())), self._calendar.now)

    def refresh_pools(self) -> None:
        """Hand out connections that a change of size has made free."""
        for _, pool in sorted(self.pools.items()):
            pool.hand_on()

    def refresh_busy(self) -> None:
        """Bring the level of busy cores up to date; cores that a fault took away count as busy."""
        busy = 0.0
        if self.serving:
            cores = self.processor.cores
            busy = (self.service.spec.cores - cores) + min(float(len(self.processor.jobs)), cores)
        self.busy.set(busy, self._calendar.now)

    def retune(self) -> None:
        """Let the processor run at the effective values, or not at all during a collection."""
        self.processor.retune(0.0 if self.collecting else self.effects.speed, self.effects.cores)

    def become(self, state: ReplicaState) -> None:
        """Enter a state."""
        self.state = state
        self.serving = state in _SERVING
        if self.service.spec.health is None:
            self.in_rotation = state is ReplicaState.UP
        elif state in (ReplicaState.DRAINING, ReplicaState.GONE):
            self.in_rotation = False
        self.up.set(1.0 if self.serving else 0.0, self._calendar.now)
        self.refresh_busy()

    def wipe(self) -> None:
        """Lose all work and everything remembered."""
        self.spans.clear()
        self.queue.clear()
        self.threads = 0
        self.leaked_bytes = 0
        self.garbage_bytes = 0
        self.collecting = False
        self.shard.clear()
        self.processor.clear()
        self.breakers.clear()
        self.budgets.clear()
        self.in_flight.set(0.0, self._calendar.now)
        self.refresh_queue()
