"""How replicas come and go: starts, kills, crashes, memory, drains, rolling restarts."""

__all__ = ["Lifecycle"]

from collections.abc import Callable

from simpy.events import Event as SimpyEvent

from simcore.codes import Down, Event, Kind, Purpose, ReplicaState, Status
from simcore.reference.attempts import Attempts, chance
from simcore.reference.collector import Collector
from simcore.reference.effects import recompute
from simcore.reference.ledger import NO_REQUEST
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.samplers import backoff
from simcore.streams import keyed
from simcore.windows import Tally

#: Index range of a run's keys for the times of crashes (model.md: replicas).
CRASH_INDEX = 2**41


class Lifecycle:
    """All replicas of a run."""

    def __init__(self, world: World, attempts: Attempts) -> None:
        self._world = world
        self._attempts = attempts
        self._collector = Collector(world, self._enter)
        for service in world.services:
            for _ in range(service.spec.replicas.initial):
                replica = world.new_replica(service)
                replica.incarnation = 0
                replica.become(ReplicaState.UP)

    def check_memory(self, replica: Replica) -> None:
        """Have a replica killed if it holds more than its limit."""
        if replica.memory_bytes > replica.service.spec.memory.limit_bytes and not replica.oom_entered:
            replica.oom_entered = True
            self._enter(replica, self._world.calendar.now, self._out_of_memory)

    def span_finished(self, replica: Replica) -> None:
        """Account for what a span that has ended leaves behind."""
        replica.leaked_bytes += replica.effects.leak
        self._collector.span_finished(replica)
        self.check_memory(replica)

    def rolling_restart(self, service: ServiceState) -> None:
        """Restart the replicas of a service one after the other."""
        now = self._world.calendar.now
        for i, replica in enumerate(service.present()):
            self._enter(replica, now + i * (service.spec.startup_s + 1.0), self._restart)

    def restart_at_once(self, service: ServiceState) -> None:
        """Restart all replicas of a service in one go."""
        for replica in service.present():
            self._restart(replica, replica.incarnation)

    def add(self, service: ServiceState) -> None:
        """Start one more replica."""
        replica = self._world.new_replica(service)
        self._log(replica, Event.REPLICA_ADDED, service.index)
        self._begin(replica, service.spec.startup_s)

    def remove(self, service: ServiceState) -> None:
        """Take the replica with the highest number away; one that is up may finish its work first."""
        present = service.present()
        if not present:
            return
        replica = present[-1]
        if replica.state is ReplicaState.STARTING:
            self._gone(replica)
        else:
            replica.become(ReplicaState.DRAINING)
            self._log(replica, Event.REPLICA_DRAINING)
            self._enter(replica, self._world.calendar.now + service.spec.drain_s, self._drain_end)

    def arm_crash(self, replica: Replica) -> None:
        """Enter the crash of a replica that the CRASH parameter dooms."""
        base = keyed(self._world.key, CRASH_INDEX + replica.number)
        u = chance(base, Purpose.CRASH, replica.incarnation)
        wait_s = replica.effects.crash * (0.5 + 0.5 * u)
        self._enter(replica, self._world.calendar.now + wait_s, self._crash)

    def _enter(self, replica: Replica, time_s: float, then: Callable[[Replica, int], None]) -> None:
        ordinal = replica.n_entries
        replica.n_entries += 1
        incarnation = replica.incarnation

        def happen(_: SimpyEvent) -> None:
            then(replica, incarnation)

        self._world.calendar.at(time_s, Kind.REPLICA, replica.number, ordinal, happen)

    def _log(self, replica: Replica, event: Event, aux: int = 0) -> None:
        self._world.ledger.log(NO_REQUEST, replica.number, event, aux)

    def _begin(self, replica: Replica, delay_s: float) -> None:
        replica.incarnation += 1
        replica.oom_entered = False
        replica.born_s = self._world.calendar.now
        replica.version = replica.service.version
        replica.become(ReplicaState.STARTING)
        recompute(self._world, replica)
        self._enter(replica, self._world.calendar.now + delay_s, self._up)

    def _up(self, replica: Replica, incarnation: int) -> None:
        if incarnation != replica.incarnation or replica.state is not ReplicaState.STARTING:
            return
        replica.become(ReplicaState.UP)
        replica.up_s = self._world.calendar.now
        self._log(replica, Event.REPLICA_UP)
        if replica.effects.crash > 0.0:
            self.arm_crash(replica)

    def _restart(self, replica: Replica, _: int) -> None:
        if replica.state is ReplicaState.UP:
            self._kill(replica, Down.RESTART)
        elif replica.state is ReplicaState.STARTING:
            self._log(replica, Event.REPLICA_DOWN, Down.RESTART)
        else:
            return
        replica.crashes = 0
        self._begin(replica, replica.service.spec.startup_s)

    def _crash(self, replica: Replica, incarnation: int) -> None:
        doomed = replica.state is ReplicaState.UP and replica.effects.crash > 0.0
        if incarnation != replica.incarnation or not doomed:
            return
        startup_s = replica.service.spec.startup_s
        self._kill(replica, Down.CRASH)
        self._begin(replica, startup_s + backoff(startup_s, 8.0 * startup_s, 0.0, replica.crashes, 0.0))
        replica.crashes += 1

    def _out_of_memory(self, replica: Replica, incarnation: int) -> None:
        if incarnation != replica.incarnation or not replica.serving:
            return
        self._kill(replica, Down.OOM)
        if replica.state is ReplicaState.UP:
            self._begin(replica, replica.service.spec.startup_s)
        else:
            self._gone(replica)

    def _drain_end(self, replica: Replica, incarnation: int) -> None:
        if incarnation == replica.incarnation and replica.state is ReplicaState.DRAINING:
            self._kill(replica, Down.RESTART)
            self._gone(replica)

    def _gone(self, replica: Replica) -> None:
        replica.become(ReplicaState.GONE)
        self._log(replica, Event.REPLICA_GONE)

    def _kill(self, replica: Replica, cause: Down) -> None:
        """End all work at a replica; its callers get a reset, what its spans called is abandoned."""
        self._log(replica, Event.REPLICA_DOWN, cause)
        for _, victim in sorted(replica.spans.items()):
            self._world.ledger.log(victim.request, victim.order, Event.KILLED, replica.number)
            self._world.ledger.count(replica.service.index, Tally.FAILED)
            victim.halt()
            self._attempts.answer(victim, Status.RESET)
        replica.wipe()
