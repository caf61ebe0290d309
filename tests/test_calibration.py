"""The shops are calibrated so that comparing agents means something; this holds them there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from simcore.codes import ActionCode
from simcore.engines.api import EngineAction, RunInputs
from simcore.engines.registry import open_session
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import Run, make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric, Total

SHOP = load_scenario("three_tier")
API, CACHE, DB = range(3)
N_RUNS = 100
#: A healthy stretch ends an incident after so many steps (60 s).
HEALTHY_STEPS = 12

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """What the users of some runs saw."""

    violating: Bools  #: (run, step)
    incident: Bools  #: (run, step) whether 2 of the last 3 steps violate
    cpu: npt.NDArray[np.float64]  #: (run, step, service)


def simulate(scenario: Scenario, inputs: Sequence[RunInputs]) -> Seen:
    """Run to the end; nobody acts."""
    session = open_session("batch", scenario, inputs)
    session.advance(scenario.timing.steps * scenario.timing.step_s)
    metrics, totals = session.observe().metrics, session.observe().totals
    offered, bad = totals[:, :, Total.OFFERED], totals[:, :, Total.BAD]
    silent = (offered > 0) & (totals[:, :, Total.GOOD] == 0)
    slow = metrics[:, :, -1, Metric.P95_S] > scenario.slo.p95_s
    violating = slow | (bad > scenario.slo.bad_frac * offered) | silent
    padded = np.pad(violating.astype(int), ((0, 0), (2, 0)))
    incident = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:] >= 2
    return Seen(violating, incident, metrics[:, :, :-1, Metric.CPU_UTIL])


def onset(run: Run) -> int:
    """Return the step in which a run's fault begins."""
    return int(run.faults[0].onset_s // SHOP.timing.step_s)


@pytest.fixture(scope="module")
def healthy() -> Seen:
    runs = [make_run(SHOP, seed=11, split="test", run=i, faults=()) for i in range(N_RUNS)]
    return simulate(SHOP, [run.inputs for run in runs])


@pytest.fixture(scope="module")
def faulty() -> tuple[list[Run], Seen]:
    runs = [run for run in (make_run(SHOP, seed=11, split="test", run=i) for i in range(N_RUNS)) if run.faults]
    return runs, simulate(SHOP, [run.inputs for run in runs])


def test_incidents_open_in_under_two_percent_of_the_runs_without_a_fault(healthy: Seen) -> None:
    assert healthy.incident.any(axis=1).mean() < 0.02


def test_utilisation_moves_between_forty_and_seventy_five_percent_over_the_wave(healthy: Seen) -> None:
    # Averages over a minute, or the noise of five seconds would count as load.
    minutes = healthy.cpu[:, :, API].reshape(N_RUNS, -1, 12).mean(axis=2)
    low, high = np.quantile(minutes, [0.05, 0.95])
    assert 0.38 < low < 0.45
    assert 0.68 < high < 0.77
    busiest = healthy.cpu.mean(axis=(0, 1))
    assert busiest.argmax() == API


def test_the_boutique_is_calm_without_a_fault_and_most_of_its_faults_bite() -> None:
    scenario = load_scenario("online_boutique")
    calm = simulate(scenario, [make_run(scenario, seed=11, split="test", run=i, faults=()).inputs for i in range(60)])
    assert calm.incident.any(axis=1).mean() < 0.05
    runs = [run for run in (make_run(scenario, seed=11, split="test", run=i) for i in range(80)) if run.faults]
    seen = simulate(scenario, [run.inputs for run in runs])
    assert 0.5 < np.mean([seen.incident[i, onset(run) :].any() for i, run in enumerate(runs)]) < 0.9


def test_sixty_to_ninety_percent_of_the_faults_bite(faulty: tuple[list[Run], Seen]) -> None:
    runs, seen = faulty
    bite = [seen.incident[i, onset(run) :].any() for i, run in enumerate(runs)]
    assert 0.6 < np.mean(bite) < 0.9


def test_nothing_bites_before_its_onset(faulty: tuple[list[Run], Seen]) -> None:
    runs, seen = faulty
    before = [seen.incident[i, : onset(run)].any() for i, run in enumerate(runs)]
    assert np.mean(before) < 0.02


def test_most_faults_that_bite_last_until_something_fixes_them(faulty: tuple[list[Run], Seen]) -> None:
    runs, seen = faulty
    lasting = []
    for i, run in enumerate(runs):
        opened = np.flatnonzero(seen.incident[i, onset(run) :])
        if opened.size:
            after = ~seen.violating[i, onset(run) + opened[0] :][:100]
            stretch = np.convolve(after, np.ones(HEALTHY_STEPS), "valid")
            lasting.append(not (stretch == HEALTHY_STEPS).any())
    assert np.mean(lasting) > 0.6


#: Steps of the shorter episodes in which single actions are tried, and the edge at which they are.
SHORT = SHOP.model_copy(update={"timing": SHOP.timing.model_copy(update={"steps": 150, "follow_up_steps": 60})})
ACT_S = 345.0
TRIALS = 5


def actions_on(service: int, replica: int) -> dict[str, tuple[ActionCode, int, int, float]]:
    """Return the single actions to try as (code, service, replica, amount)."""
    return {
        "noop": (ActionCode.NOOP, -1, -1, 0.0),
        "restart": (ActionCode.RESTART, service, -1, 0.0),
        "rollback": (ActionCode.ROLLBACK, service, -1, 0.0),
        "scale": (ActionCode.SCALE, service, -1, 2.0),
        "clear_cache": (ActionCode.CLEAR_CACHE, CACHE, -1, 0.0),
        "quarantine": (ActionCode.QUARANTINE, service, replica, 0.0),
        "limit_traffic": (ActionCode.LIMIT_TRAFFIC, -1, -1, 0.7),
        "raise_limit": (ActionCode.RAISE_LIMIT, service, -1, 0.0),
        "rotate": (ActionCode.ROTATE, service, -1, 0.0),
        "degrade": (ActionCode.DEGRADE, API, -1, 1.0),
        "escalate": (ActionCode.ESCALATE, -1, -1, 0.0),
    }


def best_action(fault: Fault) -> str:
    """Return the action (on the fault's service, or the api) that loses least in most trials, its cost included."""
    table = actions_on(fault.service if fault.service >= 0 else API, max(fault.replica, 0))
    inputs: list[RunInputs] = []
    entered: list[EngineAction] = []
    for name, (code, service, replica, amount) in table.items():
        for trial in range(TRIALS):
            if name != "noop":
                delay = SHORT.actions[name].delay_s
                entered.append(EngineAction(len(inputs), code, ACT_S + delay, service, replica, amount))
            inputs.append(make_run(SHORT, seed=12, split="test", run=trial, faults=(fault,)).inputs)
    session = open_session("batch", SHORT, inputs)
    session.advance(ACT_S)
    session.apply(entered)
    session.advance(SHORT.timing.steps * SHORT.timing.step_s)
    totals = session.observe().totals.reshape(len(table), TRIALS, -1, len(Total)).sum(axis=2)
    lost = totals[:, :, Total.BAD] / totals[:, :, Total.OFFERED]
    cost = np.array([SHORT.actions[name].cost for name in table])
    # By trial: at the peak even the right action can go wrong, as an empty cache shows the db.
    wins = np.bincount((lost + cost[:, None]).argmin(axis=0), minlength=len(table))
    return list(table)[int(wins.argmax())]


def test_no_single_action_is_best_for_all_faults() -> None:
    best = {
        text: best_action(parse_fault(text, SHORT, onset_s=300.0, severity=severity, place=place))
        for text, severity, place in (
            ("error_burst@db", 0.9, "process"),
            ("error_burst@api", 0.6, "version"),
            ("bad_deploy@api", 0.7, "version"),
            ("cache_poison@cache", 0.7, "content"),
            ("slow_replica@api/1", 0.8, "node"),
            ("traffic_surge@workload", 0.5, "workload"),
            ("cpu_throttle@db", 0.9, "quota"),
            ("expiry@cache", 0.9, "credential"),
            ("partition@api:partner", 0.9, "outside"),
        )
    }
    assert best == {
        "error_burst@db": "restart",
        "error_burst@api": "rollback",
        "bad_deploy@api": "rollback",
        "cache_poison@cache": "clear_cache",
        "slow_replica@api/1": "quarantine",
        "traffic_surge@workload": "scale",
        "cpu_throttle@db": "raise_limit",
        "expiry@cache": "rotate",
        "partition@api:partner": "degrade",
    }
