"""How the cost of a simulation grows with runs, load, services and threads, and the cost model that follows."""

__all__ = ["Point", "Scaling", "measure_scaling"]

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.evaluation.profiling.clocks import TASKS, busiest_thread_s, timed_rounds
from agent.evaluation.profiling.costmodel import Fit, fit
from agent.evaluation.profiling.simulation import Simulation, copied, loaded
from agent.evaluation.study import with_steps
from simcore.engines.batch import BatchSession
from simcore.errors import InputError
from simcore.model.scenario import Scenario

_RUNS = (1, 2, 4, 8)
_LOADS = (0.25, 0.5, 0.75, 1.25)
_COPIES = (2, 4)
#: What a piece of one run should take, CPU-seconds.
_PIECE_S = 0.02


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation of a series."""

    series: str  #: runs, load, services or threads
    at: float  #: where in the series
    runs: int
    services: int
    requests: int
    entries: int  #: calendar entries executed, burn-in included
    cost_s: float  #: CPU time; of the busiest thread in the series threads
    noise: float  #: how far the second best round was from the best, relative


@dataclass(frozen=True, slots=True)
class Scaling:
    """All series, and the model ``cost = session + runs + events``."""

    points: tuple[Point, ...]
    model: Fit | None  #: None where the points do not allow one
    steps: int

    def series(self, name: str) -> list[Point]:
        """Return the points of a series, in order."""
        return sorted((point for point in self.points if point.series == name), key=lambda point: point.at)


def measure_scaling(scenario: Scenario, *, seed: int, rounds: int = 7) -> Scaling:
    """Time the batch engine at several sizes, all in turn.

    Parameters
    ----------
    scenario
        Without faults and without an agent; cut to fewer steps if a run takes long.
    seed
        Of the runs.
    rounds
        Of each piece; the best one counts.
    """
    short = _cut(scenario, seed)
    of = functools.partial(Simulation.of, seed=seed)
    sizes: dict[tuple[str, float], Simulation] = {("runs", n): of(short, runs=n) for n in _RUNS}
    for factor in _LOADS:
        sizes["load", factor] = of(loaded(short, factor), runs=2)
    for n in _COPIES:
        try:
            sizes["services", n] = of(copied(short, n), runs=2)
        except InputError:  # too many services, or names too long
            break
    points = _timed(sizes, rounds)
    # two runs at the load given are a point of these series too
    base = next(point for point in points if (point.series, point.at) == ("runs", 2))
    points += [_renamed(base, "load"), _renamed(base, "services")]
    cores = os.cpu_count() or 1
    if cores > 1 and TASKS.exists():
        threads = [n for n in (1, 2, 4, 8, 16) if n <= cores]
        sizes = {("threads", n): of(short, runs=2 * threads[-1], threads=n) for n in threads}
        points += _timed(sizes, rounds, clock=True)
    return Scaling(tuple(points), _model([p for p in points if p.series in ("runs", "load")]), short.timing.steps)


def _renamed(point: Point, series: str) -> Point:
    return dataclasses.replace(point, series=series, at=1.0)


def _cut(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with as many steps as one run plays in a piece, at least six."""
    one = Simulation.of(scenario, seed=seed)
    best = min(timed_rounds({"one": one}, rounds=2)["one"])
    steps = round(scenario.timing.steps * _PIECE_S / best)
    return with_steps(scenario, min(scenario.timing.steps, max(6, steps)))


def _timed(sizes: Mapping[tuple[str, float], Simulation], rounds: int, *, clock: bool = False) -> list[Point]:
    pieces = {f"{series} {at}": piece for (series, at), piece in sizes.items()}
    times = (
        timed_rounds(pieces, rounds=rounds, clock=busiest_thread_s) if clock else timed_rounds(pieces, rounds=rounds)
    )
    points = []
    for (series, at), piece in sizes.items():
        session = piece()
        assert isinstance(session, BatchSession)
        first, second = sorted(times[f"{series} {at}"])[:2]
        requests, _ = piece.counts(session)
        n_services = len(piece.scenario.services)
        entries, noise = session.events_run(), second / first - 1.0
        points.append(Point(series, at, session.n_runs, n_services, requests, entries, first, noise))
    return points


def _model(points: Sequence[Point]) -> Fit | None:
    """Return the fit of the costs; what a run adds beside its events is left out where it cannot be told from 0."""
    amounts = {
        "session": [1.0] * len(points),
        "run": [float(point.runs) for point in points],
        "event": [float(point.entries) for point in points],
    }
    cost_s = [point.cost_s for point in points]
    try:
        whole = fit(amounts, cost_s)
        if not next(term for term in whole.terms if term.name == "run").shown:
            del amounts["run"]
            return fit(amounts, cost_s)
    except ValueError:
        return None
    return whole
