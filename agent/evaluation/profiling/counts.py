"""What happens in a run, by kind, and what the end of a window costs inside the compiled kernels."""

__all__ = ["EventCounts", "StateBytes", "count_events", "state_bytes", "window_s"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.evaluation.profiling.clocks import best_of
from agent.evaluation.profiling.simulation import Simulation
from simcore.codes import Event
from simcore.engines.batch import BatchSession
from simcore.windows import N_AREAS, N_METRICS, N_TALLIES, N_TOTALS, close_window


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Rows of the event log of one run, burn-in included; the same for both engines."""

    by_kind: dict[str, int]  #: most frequent first
    requests: int  #: offered, burn-in included
    entries: int  #: calendar entries that the batch engine executed for them

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.by_kind.values())


def count_events(simulation: Simulation) -> EventCounts:
    """Return what happens in the first run of a simulation.

    The event log is what says it: a session without a log neither writes nor counts anything.
    """
    session = Simulation(simulation.scenario, simulation.inputs[:1])(log=True)
    assert isinstance(session, BatchSession)
    codes, counts = np.unique(session.events(0)["event"], return_counts=True)
    named = {Event(int(code)).name.lower(): int(n) for code, n in zip(codes, counts, strict=True)}
    by_kind = dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))
    return EventCounts(by_kind, by_kind.get("offered", 0), session.events_run())


def window_s(simulation: Simulation, *, windows: int = 40, rounds: int = 10) -> float:
    """Return the CPU time of ``close_window`` in one window of one run, seconds.

    The kernel is called from Python with what the first run's spans left for it in the last windows, one after the
    other, and with nothing, which is what the call itself costs.

    Parameters
    ----------
    simulation
        Whose first run is played.
    windows
        How many of its last windows count.
    rounds
        How often all of them are closed; the best round counts.
    """
    given = _ends_of(simulation, windows)
    services = simulation.scenario.services.values()
    cores = np.array([service.cores for service in services])
    tally = np.zeros((len(services) + 1, N_TALLIES), np.int64)
    area, metrics = np.zeros((len(services), N_AREAS)), np.zeros((len(services) + 1, N_METRICS))
    totals, scratch = np.zeros(N_TOTALS, np.int64), np.zeros(max(ends.size for ends in given))
    step_s = simulation.scenario.timing.step_s

    def close_all() -> None:
        for ends in given:
            close_window(ends, ends.size, tally, area, cores, step_s, scratch, metrics, totals)

    def close_nothing() -> None:
        for ends in given:
            close_window(ends, 0, tally[:1], area[:0], cores[:0], step_s, scratch, metrics[:1], totals)

    best = best_of({"all": close_all, "nothing": close_nothing}, rounds=rounds)
    return max(0.0, best["all"] - best["nothing"]) / len(given)


def _ends_of(simulation: Simulation, windows: int) -> list[npt.NDArray[np.void]]:
    """Return the ``END`` records of the last windows of a simulation's first run."""
    timing = simulation.scenario.timing
    session = BatchSession(simulation.scenario, simulation.inputs[:1], threads=1)
    first = max(0, timing.steps - windows)
    session.advance(first * timing.step_s)
    found = []
    for step in range(first + 1, timing.steps + 1):
        # between two windows nothing in these records counts: what is not overwritten was not there
        session.state(0)["ends"]["service"] = -1
        session.advance(step * timing.step_s)
        ends = session.state(0)["ends"]
        found.append(ends[: int((ends["service"] >= 0).sum())].copy())
    return found


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Memory of one run's state in the batch engine."""

    by_array: dict[str, int]  #: at the end, largest first
    at_start: int  #: of all, before anything grew

    @property
    def at_end(self) -> int:
        """All of them, at the end."""
        return sum(self.by_array.values())


def state_bytes(simulation: Simulation) -> StateBytes:
    """Return the memory that the state of a simulation's first run takes."""
    one = Simulation(simulation.scenario, simulation.inputs[:1])
    session = BatchSession(one.scenario, one.inputs, threads=1)
    at_start = sum(array.nbytes for array in session.state(0).values())
    session.advance(one.scenario.timing.steps * one.scenario.timing.step_s)
    sizes = {name: array.nbytes for name, array in session.state(0).items() if array.nbytes}
    return StateBytes(dict(sorted(sizes.items(), key=lambda item: -item[1])), at_start)
