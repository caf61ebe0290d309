"""How the cost of an attempt grows with the services and with the threads of a replica."""

from collections.abc import Mapping

import pytest

from agent.evaluation.profiling.clocks import best_of
from bench.conftest import Holds, Timed
from bench.workloads import Work, chain, simulate, station
from simcore.engines.api import RunInputs
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario

_SERVICES = (3, 10, 30)
_THREADS = (10, 100, 1000)
#: Most that an attempt may cost among ten times the services, or with a hundred times the threads.
_SERVICES_GROWTH = 1.5
_THREADS_GROWTH = 1.5


def _inputs(scenario: Scenario) -> list[RunInputs]:
    return [make_run(scenario, seed=1, split="tune", run=0).inputs]


def _done(work: Work) -> dict[str, int]:
    timing, workload = work.scenario.timing, work.scenario.workload
    expected = timing.steps * timing.step_s * workload.rate_rps
    assert abs(work.requests - expected) < 5 * expected**0.5
    assert work.attempts == pytest.approx(work.requests * len(work.scenario.services), rel=0.02)
    return {"attempts": work.attempts}


@pytest.mark.parametrize("n_services", _SERVICES)
def test_services(n_services: int, timed: Timed) -> None:
    scenario = chain(n_services)
    inputs = _inputs(scenario)
    timed("services", f"{n_services} services", lambda: simulate("batch", scenario, inputs), done=_done)


@pytest.mark.parametrize("threads", _THREADS)
def test_threads(threads: int, timed: Timed) -> None:
    scenario = station(threads)
    inputs = _inputs(scenario)
    timed("threads", f"{threads} threads", lambda: simulate("batch", scenario, inputs), done=_done)


def _growth(scenarios: Mapping[str, Scenario], first: str, last: str, bound: float) -> float:
    """Return what an attempt costs in the last scenario, over the first."""
    inputs = {name: _inputs(scenario) for name, scenario in scenarios.items()}
    attempts = {name: _done(simulate("batch", scenarios[name], inputs[name]))["attempts"] for name in scenarios}

    def growth(best: Mapping[str, float]) -> float:
        return (best[last] / attempts[last]) / (best[first] / attempts[first])

    pieces = {name: (lambda name=name: simulate("batch", scenarios[name], inputs[name])) for name in scenarios}
    return growth(best_of(pieces, rounds=15, enough=lambda best: growth(best) <= bound))


@pytest.mark.guard
def test_an_attempt_costs_little_more_among_more_services(holds: Holds) -> None:
    scenarios = {"3": chain(3), "30": chain(30)}
    ratio = _growth(scenarios, "3", "30", _SERVICES_GROWTH)
    holds("cost of an attempt, 30 services over 3", ratio, at_most=_SERVICES_GROWTH)


@pytest.mark.guard
def test_an_attempt_costs_little_more_with_more_threads(holds: Holds) -> None:
    scenarios = {"10": station(10), "1000": station(1000)}
    ratio = _growth(scenarios, "10", "1000", _THREADS_GROWTH)
    holds("cost of an attempt, 1000 threads over 10", ratio, at_most=_THREADS_GROWTH)
