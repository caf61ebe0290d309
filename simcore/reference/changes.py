"""What changes a run from outside: faults at times known in advance, and actions."""

__all__ = ["Changes"]

from functools import partial

from simpy.events import Event as SimpyEvent

from simcore.codes import EDGE, ActionCode, Event, Kind, Param, Place, ReplicaState
from simcore.engines.api import Change, EngineAction
from simcore.model.fault_types import ONE_SHOT
from simcore.reference.effects import recompute
from simcore.reference.ledger import NO_REQUEST
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.replica import ServiceState
from simcore.reference.threads import Threads
from simcore.reference.topics import Topics
from simcore.reference.workload import Workload
from simcore.reference.world import Influence, World

#: What lives in these places ends with the action on its service.
ENDED = {
    ActionCode.RAISE_LIMIT: Place.QUOTA,
    ActionCode.ROTATE: Place.CREDENTIAL,
    ActionCode.FAILOVER: Place.NODE,
}


class Changes:
    """Faults and actions of a run."""

    def __init__(
        self, world: World, lifecycle: Lifecycle, threads: Threads, topics: Topics, workload: Workload
    ) -> None:
        self._world = world
        self._lifecycle = lifecycle
        self._threads = threads
        self._topics = topics
        self._workload = workload
        self._n_actions = 0
        for number, change in enumerate(world.inputs.changes):
            world.calendar.at(change.time_s, Kind.FAULT, number, 0, partial(self._change, number, change))

    def enter(self, action: EngineAction) -> None:
        """Enter an action; it takes effect at its own time."""
        number = self._n_actions
        self._n_actions += 1
        self._world.calendar.at(action.at_s, Kind.ACTION, number, 0, partial(self._act, number, action))

    def _change(self, number: int, change: Change, _: SimpyEvent) -> None:
        """Let a modulation take a value."""
        world, influence = self._world, self._world.influences[change.modulation]
        target = influence.modulation
        world.ledger.log(NO_REQUEST, influence.index, Event.FAULT_CHANGE, number)
        if influence.over:
            return
        influence.value = change.value
        begins = not influence.begun
        if begins:
            influence.begun = True
            influence.since_s = world.calendar.now
        if target.param is Param.SURGE:
            if change.value > 0.0 and not influence.started:
                influence.started = True
                self._workload.surge(influence)
            return
        service = world.services[influence.home]
        if begins:
            influence.bad_from = service.version
        if target.param in ONE_SHOT:
            if change.value > 0.0:
                self._strike(influence, service)
        elif target.param not in EDGE:
            self._recompute(service)

    def _strike(self, influence: Influence, service: ServiceState) -> None:
        """Let a one-shot parameter act."""
        param = influence.modulation.param
        if param is Param.DEPLOY:
            service.newest += 1
            service.version = service.newest
            service.versions.append(service.newest)
            self._lifecycle.rolling_restart(service)
        if param in (Param.DEPLOY, Param.CONFIG):
            self._world.ledger.markers[service.index] += 1
            return
        if param is Param.PILL:
            self._topics.arm(service, influence.index, influence.value)
            return
        for replica in service.replicas:
            if replica.state is ReplicaState.UP and influence.fits(replica):
                if param is Param.FLUSH:
                    replica.shard.clear()
                else:
                    replica.shard.poison(self._world.key, influence.index, influence.value)

    def _recompute(self, service: ServiceState) -> None:
        for replica in service.replicas:
            before = replica.effects.crash
            recompute(self._world, replica)
            if replica.state is ReplicaState.UP and before == 0.0 and replica.effects.crash > 0.0:
                self._lifecycle.arm_crash(replica)

    def _act(self, number: int, action: EngineAction, _: SimpyEvent) -> None:
        """Let an action take effect."""
        world = self._world
        world.ledger.log(NO_REQUEST, number, Event.ACTION_DONE, action.code)
        if action.code is ActionCode.LIMIT_TRAFFIC:
            world.admitted = action.amount
        elif action.code is ActionCode.ESCALATE:
            self._repair_everything()
        elif action.code is ActionCode.REMOVE:
            self._remove(action.replica)
        elif action.code is not ActionCode.NOOP:
            self._act_on(world.services[action.service], action)

    def _act_on(self, service: ServiceState, action: EngineAction) -> None:
        if action.code is ActionCode.RESTART:
            self._lifecycle.rolling_restart(service)
        elif action.code is ActionCode.SCALE:
            amount = int(action.amount)
            for _ in range(abs(amount)):
                (self._lifecycle.add if amount > 0 else self._lifecycle.remove)(service)
        elif action.code is ActionCode.CLEAR_CACHE:
            for replica in service.replicas:
                replica.shard.clear()
        elif action.code is ActionCode.WARM_CACHE:
            self._world.keys.load(service, self._world.calendar.now)
        elif action.code is ActionCode.SKIP_MESSAGE:
            self._topics.skip(service)
        elif action.code is ActionCode.CLEAR_QUEUE:
            self._threads.clear_queues(service)
        elif action.code in (ActionCode.QUARANTINE, ActionCode.RELEASE):
            for replica in service.replicas:
                if replica.ordinal == action.replica:
                    replica.quarantined = action.code is ActionCode.QUARANTINE
        elif action.code is ActionCode.ROLLBACK:
            self._roll_back(service)
        elif action.code in ENDED:
            self._end(service, ENDED[action.code])
            if action.code is ActionCode.FAILOVER:
                self._lifecycle.restart_at_once(service)
        else:
            self._act_on_calls(service, action)

    @staticmethod
    def _act_on_calls(service: ServiceState, action: EngineAction) -> None:
        """Change how a service calls or is called."""
        if action.code is ActionCode.DEGRADE:
            service.degraded = action.amount > 0.0
        elif action.code is ActionCode.RETRY_BUDGET:
            service.retry_fraction = action.amount
        elif action.code in (ActionCode.OPEN_BREAKER, ActionCode.CLOSE_BREAKER):
            service.shut_off = action.code is ActionCode.OPEN_BREAKER
        elif action.code is ActionCode.RESIZE_POOL:
            service.pool_amount = action.amount
            for replica in service.replicas:
                replica.refresh_pools()

    def _roll_back(self, service: ServiceState) -> None:
        """Return to the version and the configuration before."""
        for influence in self._world.influences:
            versioned = influence.modulation.place is Place.VERSION
            if versioned and influence.home == service.index and influence.begun and influence.bad_to < 0:
                influence.bad_to = service.version
        self._end(service, Place.CONFIG)
        if len(service.versions) > 1:
            service.versions.pop()
        service.version = service.versions[-1]
        self._lifecycle.rolling_restart(service)

    def _end(self, service: ServiceState, place: Place) -> None:
        """End whatever has begun in a place of a service, since the place is replaced."""
        for influence in self._world.influences:
            if influence.begun and influence.home == service.index and influence.modulation.place is place:
                influence.over = True
        self._recompute(service)

    def _remove(self, number: int) -> None:
        """End one modulation, or keep it from ever beginning; nothing if there is none of that number."""
        if not 0 <= number < len(self._world.influences):
            return
        influence = self._world.influences[number]
        influence.over = True
        influence.value = 0.0
        if influence.home >= 0:
            self._recompute(self._world.services[influence.home])

    def _repair_everything(self) -> None:
        """End whatever has begun, wherever it lives."""
        for influence in self._world.influences:
            if influence.begun:
                influence.over = True
                influence.value = 0.0
        for service in self._world.services:
            self._recompute(service)
