"""A case, and how it is played: independent runs, a discarded warm-up, and a time after in which all that came ends."""

__all__ = ["Case", "Quantity", "Row", "check", "observe"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simcore.codes import ActionCode
from simcore.engines.api import LOG, Change, EngineAction, Modulation, RunInputs
from simcore.engines.registry import open_session
from simcore.model.scenario import Scenario, Timing
from simcore.streams import run_key
from simcore.validity.judge import FAMILY_ERROR, Estimate, Rule, Verdict, estimate, judge
from simcore.validity.measures import Measure
from simcore.validity.trace import Trace

#: Runs whose logs are in memory at a time.
_GROUP = 8

#: Windows that are measured; as long as one of them are the warm-up before and the time for stragglers after.
_WINDOWS = 10

#: Shortest time with arrivals, and without, of a run that is played until it is empty, seconds.
_FILLING_S, _DRAINING_S = 20.0, 60.0

_NO_LOG = np.empty(0, LOG)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that theory knows and a run shows."""

    name: str
    theory: float
    measure: Measure
    rule: Rule = Rule.MEAN


@dataclass(frozen=True, slots=True)
class Case:
    """A system that theory knows something about."""

    name: str
    about: str
    scenario: Scenario
    quantities: tuple[Quantity, ...]
    log: bool = False  #: whether a quantity needs the event log
    requests: int = 0  #: measured in all runs together; 0: a short run that is played until the system is empty
    runs: int = 64
    throughout: tuple[tuple[Modulation, float], ...] = ()  #: modulations with the value that they always have


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    case: str
    quantity: str
    theory: float
    found: Estimate
    rule: Rule
    verdict: Verdict


def check(case: Case, engine: str, *, seed: int, n_comparisons: int, threads: int | None = None) -> list[Row]:
    """Play a case and judge it.

    Parameters
    ----------
    case
        The case.
    engine
        One of ``simcore.engines.registry.ENGINES``.
    seed
        Every draw follows from it.
    n_comparisons
        How many rows are judged together.
    threads
        Of the batch engine, by default one per core; results do not depend on it.
    """
    rows = []
    for quantity, found in zip(case.quantities, observe(case, engine, seed=seed, threads=threads), strict=True):
        pooled = estimate(quantity.rule, found, FAMILY_ERROR / n_comparisons)
        verdict = judge(quantity.rule, pooled, quantity.theory)
        rows.append(Row(case.name, quantity.name, quantity.theory, pooled, quantity.rule, verdict))
    return rows


def observe(case: Case, engine: str, *, seed: int, threads: int | None = None) -> list[list[Any]]:
    """Play a case and return what every quantity was in every run: a number, or a sample."""
    values: list[list[Any]] = [[] for _ in case.quantities]
    for trace in _traces(case, engine, seed, threads):
        for quantity, found in zip(case.quantities, values, strict=True):
            found.append(quantity.measure(trace))
    return values


def _traces(case: Case, engine: str, seed: int, threads: int | None) -> Iterator[Trace]:
    group = _GROUP if case.log else case.runs
    for first in range(0, case.runs, group):
        runs = range(first, min(first + group, case.runs))
        yield from (_steady if case.requests else _drained)(case, engine, seed, runs, threads)


def _timed(scenario: Scenario, **timing: Any) -> Scenario:
    return scenario.model_copy(update={"timing": Timing.model_validate(timing)})


def _inputs(case: Case, seed: int, runs: range, start_s: float) -> list[RunInputs]:
    modulations = tuple(modulation for modulation, _ in case.throughout)
    changes = tuple(Change(start_s, i, value) for i, (_, value) in enumerate(case.throughout))
    return [RunInputs(run, run_key(seed, "test", run, 0), 0.0, modulations, changes) for run in runs]


def _steady(case: Case, engine: str, seed: int, runs: range, threads: int | None) -> Iterator[Trace]:
    """Yield runs with a warm-up before time 0."""
    step_s = case.requests / (case.runs * case.scenario.workload.rate_rps * _WINDOWS)
    scenario = _timed(case.scenario, step_s=step_s, steps=_WINDOWS + 1, burn_in_steps=1)
    session = open_session(engine, scenario, _inputs(case, seed, runs, -step_s), log=case.log, threads=threads)
    session.advance((_WINDOWS + 1) * step_s)
    seen = session.observe()
    for i in range(len(runs)):
        log = session.events(i) if case.log else _NO_LOG
        yield Trace(scenario, log, seen.metrics[i], seen.replicas[i], _WINDOWS * step_s)


def _drained(case: Case, engine: str, seed: int, runs: range, threads: int | None) -> Iterator[Trace]:
    """Yield runs that start empty and admit nobody after the horizon, until all have left."""
    step_s = case.scenario.timing.step_s
    filling, draining = math.ceil(_FILLING_S / step_s), math.ceil(_DRAINING_S / step_s)
    scenario = _timed(case.scenario, step_s=step_s, steps=filling + draining, burn_in_steps=0)
    session = open_session(engine, scenario, _inputs(case, seed, runs, 0.0), log=case.log, threads=threads)
    horizon_s = filling * step_s
    session.advance(horizon_s)
    full = session.observe()
    session.apply([EngineAction(i, ActionCode.LIMIT_TRAFFIC, horizon_s, amount=0.0) for i in range(len(runs))])
    session.advance((filling + draining) * step_s)
    empty = session.observe()
    for i in range(len(runs)):
        metrics = np.concatenate([full.metrics[i], empty.metrics[i]])
        replicas = np.concatenate([full.replicas[i], empty.replicas[i]])
        yield Trace(scenario, session.events(i), metrics, replicas, horizon_s)
