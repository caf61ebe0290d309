"""One run of the SimPy engine: its parts put together, and its windows."""

__all__ = ["Run"]

import numpy as np
import numpy.typing as npt

from simcore.codes import ReplicaState
from simcore.engines.api import EngineAction, RunInputs
from simcore.model.scenario import Scenario
from simcore.reference.attempts import Attempts
from simcore.reference.autoscaler import Autoscalers
from simcore.reference.cache import KeySpace
from simcore.reference.changes import Changes
from simcore.reference.health import watch
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.requests import Requests
from simcore.reference.threads import Threads
from simcore.reference.workload import Workload
from simcore.reference.world import World
from simcore.streams import rekeyed
from simcore.windows import Area, Metric, ReplicaStat, Total, close_window


class Window:
    """One closed window of one run; arrays as in ``simcore.windows.Windows``, without run and window axes."""

    def __init__(self, n_services: int, n_slots: int) -> None:
        self.metrics = np.full((n_services + 1, len(Metric)), np.nan)
        self.totals = np.zeros(len(Total), np.int64)
        self.replicas = np.full((n_services, n_slots, len(ReplicaStat)), np.nan)
        self.replicas[:, :, ReplicaStat.ORDINAL] = -1.0
        self.markers = np.zeros(n_services, np.int64)


class Run:
    """A run from the start of its burn-in; what was applied is kept, since a fork replays it."""

    def __init__(self, scenario: Scenario, inputs: RunInputs, keys: KeySpace, log: bool, share: float) -> None:
        self.inputs = inputs
        self.history: list[tuple[int, EngineAction | int]] = []  #: (edge, action, or number of the rekey)
        self.edge = -scenario.timing.burn_in_steps
        self._step_s = scenario.timing.step_s
        self._n_slots = max(service.replicas.max for service in scenario.services.values())
        self._world = world = World(scenario, inputs, keys, log, share)
        attempts = Attempts(world)
        lifecycle = Lifecycle(world, attempts)
        threads = Threads(world, attempts)
        self._autoscalers = Autoscalers(world, lifecycle)
        watch(world)
        for service in world.services:
            if service.spec.cache is not None:
                keys.warm(service.name, service.replicas, inputs.key, world.t0, service.spec.cache.ttl_s)
        requests = Requests(world, attempts, lifecycle, threads)
        self._topics = requests.topics
        self._workload = Workload(world, requests)
        self._changes = Changes(world, lifecycle, threads, self._topics, self._workload)
        # the streams enter their first candidates, whatever is done at the first edge
        world.calendar.run_before(world.t0)
        while self.edge < 0:
            self.step()

    def step(self) -> Window:
        """Run to the next edge and close the window."""
        self.edge += 1
        edge_s = self.edge * self._step_s
        self._world.calendar.run_before(edge_s)
        self._workload.close_window(edge_s)
        window = self._close(edge_s)
        self._autoscalers.window_closed(self.edge, edge_s, window.metrics)
        return window

    def apply(self, action: EngineAction) -> None:
        """Enter an action at the present edge."""
        self.history.append((self.edge, action))
        self._changes.enter(action)

    def rekey(self, number: int) -> None:
        """Draw from other keys from the present edge on."""
        self.history.append((self.edge, number))
        self._world.key = rekeyed(self._world.key, number)

    def enter(self, done: EngineAction | int) -> None:
        """Repeat something of another run's history."""
        if isinstance(done, EngineAction):
            self.apply(done)
        else:
            self.rekey(done)

    def events(self, first: int) -> npt.NDArray[np.void]:
        """Return the event log from row ``first`` on, dtype ``LOG``."""
        return self._world.ledger.events(first)

    def _close(self, edge_s: float) -> Window:
        services, ledger = self._world.services, self._world.ledger
        window = Window(len(services), self._n_slots)
        area = np.zeros((len(services), len(Area)))
        for service in services:
            busy = self._close_areas(service, area[service.index], edge_s)
            self._close_replicas(service, busy, window.replicas[service.index])
        ends = ledger.end_records()
        tally = np.array(ledger.tally, np.int64)
        cores = np.array([service.spec.cores for service in services])
        scratch = np.empty(ends.size)
        close_window(ends, ends.size, tally, area, cores, self._step_s, scratch, window.metrics, window.totals)
        window.markers[:] = ledger.markers
        ledger.open_window()
        return window

    def _close_areas(self, service: ServiceState, area: npt.NDArray[np.float64], edge_s: float) -> dict[int, float]:
        """Sum the integrals over the replicas, in number order; return each replica's busy core-seconds."""
        busy = {}
        for replica in service.replicas:
            busy[replica.number] = replica.busy.close(edge_s)
            area[Area.BUSY] += busy[replica.number]
            area[Area.UP] += replica.up.close(edge_s)
            area[Area.IN_FLIGHT] += replica.in_flight.close(edge_s)
            area[Area.QUEUE] += replica.queued.close(edge_s)
            area[Area.POOL_WAITING] += replica.waiting.close(edge_s)
            if replica.serving:
                share = float(replica.memory_bytes) / float(service.spec.memory.limit_bytes)
                area[Area.MEMORY_FRAC] = max(area[Area.MEMORY_FRAC], share)
            area[Area.REPLICAS_UP] += replica.state is ReplicaState.UP
        area[Area.LAG] = self._topics.lag[service.index].close(edge_s)
        return busy

    def _close_replicas(self, service: ServiceState, busy: dict[int, float], slots: npt.NDArray[np.float64]) -> None:
        """Fill the slots with the replicas that are there, and start all their counts anew."""
        for slot, replica in zip(slots, service.present(), strict=False):
            slot[ReplicaStat.ORDINAL] = replica.ordinal
            slot[ReplicaStat.STATE] = replica.state
            slot[ReplicaStat.QUARANTINED] = replica.quarantined
            slot[ReplicaStat.FINISHED] = replica.n_finished
            slot[ReplicaStat.MEAN_LATENCY_S] = _mean_latency(replica)
            slot[ReplicaStat.BUSY] = busy[replica.number] / (self._step_s * service.spec.cores)
        for replica in service.replicas:
            replica.n_finished = 0
            replica.latency_sum_s = 0.0


def _mean_latency(replica: Replica) -> float:
    return replica.latency_sum_s / replica.n_finished if replica.n_finished else np.nan
