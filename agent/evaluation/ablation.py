"""The truth of a diagnosis, found by taking things away: what triggered an incident, what keeps it up, how it spread.

- *Trigger*: removed from the start, with the same randomness, nothing happens.
- *Sustaining cause*: removed now, the run heals, which it would not do by itself in the same time.
- *Chain*: the order in which services depart from the fault-free twin.

A metastable failure has a trigger that is over and a sustaining cause that is not the fault: then what is tried
besides the faults are ideal interventions at every service, without delay, cost or failure.
"""

__all__ = ["HEALS_S", "Cause", "Departure", "Sustaining", "Trigger", "chains", "sustaining_causes", "triggers"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.history import FLOORS
from agent.rollouts import recovery_of
from simcore.codes import ActionCode
from simcore.engines.api import EngineAction
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.faults import Fault
from simcore.model.inputs import Run
from simcore.model.scenario import Scenario
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Ideal interventions at a service: (what is taken away, action of the engine, its amount).
_INTERVENTIONS = (
    ("version or configuration", ActionCode.ROLLBACK, 0.0),
    ("process", ActionCode.RESTART, 0.0),
    ("node", ActionCode.FAILOVER, 0.0),
    ("quota", ActionCode.RAISE_LIMIT, 0.0),
    ("credential", ActionCode.ROTATE, 0.0),
    ("cache content", ActionCode.CLEAR_CACHE, 0.0),
    ("backlog", ActionCode.CLEAR_QUEUE, 0.0),
    ("retries", ActionCode.RETRY_BUDGET, 0.0),
)
#: Time within which a run heals once its sustaining cause is gone, seconds: the healthy minute included.
HEALS_S = 300.0
#: Metrics whose departure counts: those that a few slow answers do not move.
_METRICS = np.array(
    [
        Metric.P50_S, Metric.P95_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC, Metric.HIT_RATIO,
        Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.REJECTED, Metric.TIMEOUTS, Metric.RETRIES,
    ]
)  # fmt: skip
#: A metric has departed when it lies so many of its floors (``agent.history.FLOORS``) from the twin's.
_DEPARTED = 5.0
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Trigger:
    """What the faults of a run have to do with its incident."""

    ill: bool  #: an incident opens at or after the first onset if nobody acts
    ill_without: bool  #: ... also if there were no fault at all: noise is enough
    necessary: tuple[bool, ...]  #: (fault,) without this one alone nothing would happen
    sufficient: tuple[bool, ...]  #: (fault,) this one alone would be enough

    @property
    def triggers(self) -> tuple[int, ...]:
        """The faults that triggered it: those that are necessary, else those that are sufficient."""
        if not self.ill or self.ill_without:
            return ()
        chosen = self.necessary if any(self.necessary) else self.sufficient
        return tuple(i for i, counts in enumerate(chosen) if counts)


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that keeps an incident up."""

    fault: int  #: number of the fault within the run, -1: none of them
    service: int  #: where it is; of an edge, the callee; -1: the workload
    caller: int  #: of an edge, -1: it is none
    what: str  #: type of the fault, or what an intervention takes away

    def named(self, services: Sequence[str]) -> str:
        """Return it in words."""
        place = "workload" if self.service < 0 else services[self.service]
        return f"{self.what}@{services[self.caller]}:{place}" if self.caller >= 0 else f"{self.what}@{place}"


@dataclass(frozen=True, slots=True)
class Sustaining:
    """What keeps a run ill at an edge."""

    ill: bool  #: an incident is open at the edge, or opens within the horizon
    heals_itself: bool  #: nobody acts, and it recovers within the horizon
    causes: tuple[Cause, ...]  #: any one of them removed now, it heals; faults first
    together: bool  #: no fault by itself does it, but all of them removed


@dataclass(frozen=True, slots=True)
class Departure:
    """A service that is no longer as in the fault-free twin."""

    service: int
    step: int  #: first window in which it departs
    metric: Metric  #: that departs most in it
    floors: float  #: by how many floors


def triggers(scenario: Scenario, runs: Sequence[Run], *, threads: int | None = None) -> list[Trigger]:
    """Return what triggered the incidents of runs in which nobody acts.

    Every run is played as it is, without any fault, and, if it has several, without each one and with each one alone.

    Parameters
    ----------
    scenario, runs
        What to play.
    threads
        Of the batch engine.
    """
    origin = Episodes(scenario, runs, threads=threads)
    onset = origin.fault_steps
    tasks: list[tuple[int, tuple[int, ...]]] = []  # run, faults taken out
    for row, run in enumerate(runs):
        everything = tuple(range(len(run.faults)))
        tasks += [(row, ()), (row, everything)]
        if len(everything) > 1:
            tasks += [(row, (i,)) for i in everything]
            tasks += [(row, tuple(j for j in everything if j != i)) for i in everything]
    ill: dict[tuple[int, tuple[int, ...]], bool] = {}
    for first in range(0, len(tasks), _CHUNK):
        part = tasks[first : first + _CHUNK]
        fork = origin.fork([row for row, _ in part])
        fork.session.apply([order for i, (_, out) in enumerate(part) for order in _removals(fork, i, out)])
        fork.advance_to_end()
        for i, (row, out) in enumerate(part):
            ill[row, out] = bool(fork.incident_open[i, max(int(onset[row]), 0) :].any())
    found = []
    for row, run in enumerate(runs):
        everything = tuple(range(len(run.faults)))
        rest = {i: tuple(j for j in everything if j != i) for i in everything}
        found.append(
            Trigger(
                ill=ill[row, ()],
                ill_without=ill[row, everything],
                necessary=tuple(ill[row, ()] and not ill[row, (i,)] for i in everything),
                sufficient=tuple(ill[row, rest[i]] and not ill[row, everything] for i in everything),
            )
        )
    return found


def _removals(episodes: Episodes, row: int, faults: Sequence[int]) -> list[EngineAction]:
    """Return what takes faults out of a run at the present edge, whether they have begun or not."""
    now_s = episodes.step * episodes.scenario.timing.step_s
    owner = episodes.runs[row].owner
    return [
        EngineAction(row, ActionCode.REMOVE, now_s, replica=modulation)
        for modulation, fault in enumerate(owner)
        if fault in faults
    ]


def sustaining_causes(
    episodes: Episodes, rows: Sequence[int] | Ints, *, horizon: int | None = None
) -> list[Sustaining]:
    """Return what keeps runs ill at the present edge; the originals are not touched.

    Parameters
    ----------
    episodes
        Not at its end.
    rows
        Positions of runs.
    horizon
        Steps within which a run has to heal, by default as many as ``HEALS_S`` is; cut off at the end of the episode.

    Raises
    ------
    InputError
        If the episode is over.
    """
    if episodes.finished:
        raise InputError(f"the episode is over after {episodes.n_steps} steps: nothing can be taken away")
    steps = math.ceil(HEALS_S / episodes.topology.step_s) if horizon is None else horizon
    until = min(episodes.step + steps, episodes.n_steps)
    n_services = episodes.topology.n_services
    places = [(service, i) for service in range(n_services) for i in range(len(_INTERVENTIONS))]
    found = []
    for row in np.asarray(rows, np.int64).tolist():
        faults = episodes.runs[row].faults
        everything = tuple(range(len(faults)))
        removed: list[tuple[int, ...]] = [(), everything, *((i,) for i in everything)]
        fork = episodes.fork([row] * (len(removed) + len(places)))
        orders = [order for i, out in enumerate(removed) for order in _removals(fork, i, out)]
        orders += [_intervention(fork, len(removed) + i, *place) for i, place in enumerate(places)]
        fork.session.apply(orders)
        fork.advance_to(until)
        recovery = recovery_of(fork, episodes.step, until)
        healed = ~np.isnan(recovery)
        ill, alone = recovery[0] != 0.0, bool(healed[0])
        by_fault = [i for i in everything if ill and not alone and healed[2 + i]]
        causes = [Cause(i, *_place_of(faults[i]), faults[i].type) for i in by_fault]
        if ill and not alone:
            at = len(removed)
            causes += [
                Cause(-1, service, -1, _INTERVENTIONS[what][0])
                for k, (service, what) in enumerate(places)
                if healed[at + k]
            ]
        together = bool(ill and not alone and not by_fault and everything and healed[1])
        found.append(Sustaining(bool(ill), alone, tuple(causes), together))
    return found


def _intervention(episodes: Episodes, row: int, service: int, what: int) -> EngineAction:
    _, code, amount = _INTERVENTIONS[what]
    return EngineAction(row, code, episodes.step * episodes.scenario.timing.step_s, service, amount=amount)


def _place_of(fault: Fault) -> tuple[int, int]:
    return fault.service, fault.caller


def chains(scenario: Scenario, runs: Sequence[Run], *, threads: int | None = None) -> list[tuple[Departure, ...]]:
    """Return (run,) the services in the order in which they depart from the run's twin without faults; nobody acts.

    The twin has the same arrivals, work and noise, so that any difference is the faults' doing. Services that depart
    in the same window stand in the order of how far.

    Parameters
    ----------
    scenario, runs
        What to play.
    threads
        Of the batch engine.
    """
    origin = Episodes(scenario, runs, threads=threads)
    found: list[tuple[Departure, ...]] = []
    for first in range(0, len(runs), _CHUNK):
        rows = list(range(first, min(first + _CHUNK, len(runs))))
        pair = origin.fork([row for row in rows for _ in range(2)])
        twins = range(1, pair.n_runs, 2)
        pair.session.apply([order for i in twins for order in _removals(pair, i, range(len(pair.runs[i].faults)))])
        pair.advance_to_end()
        found += [_chain(pair.metrics[i - 1, :, :-1], pair.metrics[i, :, :-1]) for i in twins]
    return found


def _chain(faulty: Floats, twin: Floats) -> tuple[Departure, ...]:
    """Return the chain of (step, service, metric) against that of the twin."""
    here, there = faulty[..., _METRICS], twin[..., _METRICS]
    floor = np.maximum(FLOORS[_METRICS, 0] * np.abs(there), FLOORS[_METRICS, 1])
    with np.errstate(invalid="ignore"):
        away = np.nan_to_num(np.abs(here - there) / floor, nan=0.0)
    # a quantile that is missing on one side only: too few answers here, or there
    away[np.isnan(here) != np.isnan(there)] = _DEPARTED
    departs = (away >= _DEPARTED).any(axis=2)
    found = []
    for service in np.flatnonzero(departs.any(axis=0)).tolist():
        step = int(departs[:, service].argmax())
        most = int(away[step, service].argmax())
        found.append(Departure(service, step, Metric(int(_METRICS[most])), float(away[step, service, most])))
    return tuple(sorted(found, key=lambda departure: (departure.step, -departure.floors, departure.service)))
