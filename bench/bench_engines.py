"""Both engines on W1, W2, W2-hot and three_tier, without an agent, beside plain SimPy scripts of W1 and W2."""

import pytest

from bench.conftest import Timed
from bench.peers import simpy_w1, simpy_w2
from bench.workloads import WORKLOADS, Work, Workload, equal_windows, simulate

_CUSTOMERS = 40_000


def _counts(work: Work) -> dict[str, int]:
    return {"requests": work.requests, "attempts": work.attempts}


def test_a_plain_simpy_script_on_w1(timed: Timed) -> None:
    def done(stays: list[float]) -> dict[str, int]:
        assert len(stays) == _CUSTOMERS
        assert 1.3 < sum(stays) / len(stays) < 2.5
        return {"requests": len(stays)}

    timed("w1", "SimPy script", lambda: simpy_w1(1, _CUSTOMERS), done=done)


def test_a_plain_simpy_script_on_w2(timed: Timed) -> None:
    def done(result: tuple[int, list[float]]) -> dict[str, int]:
        offered, latencies = result
        assert abs(offered - 24_000) < 5 * 24_000**0.5
        assert abs(sum(latencies) / len(latencies) / 0.0342 - 1.0) < 0.05
        return {"requests": offered}

    timed("w2", "SimPy script", lambda: simpy_w2(1), done=done)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_the_simpy_engine(workload: Workload, timed: Timed) -> None:
    scenario = workload.scenario(workload.short_steps)
    inputs = workload.inputs(scenario, 1)

    def done(work: Work) -> dict[str, int]:
        workload.verify(work, 1)
        return _counts(work)

    timed(workload.label, "engine simpy", lambda: simulate("simpy", scenario, inputs), done=done, rounds=2)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_the_batch_engine(workload: Workload, timed: Timed) -> None:
    scenario = workload.scenario()
    inputs = workload.inputs(scenario)

    def done(work: Work) -> dict[str, int]:
        workload.verify(work, workload.n_runs)
        return _counts(work)

    timed(workload.label, "engine batch", lambda: simulate("batch", scenario, inputs), done=done, rounds=5)


@pytest.mark.guard
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_both_engines_give_equal_results(workload: Workload) -> None:
    scenario = workload.scenario(workload.short_steps)
    inputs = workload.inputs(scenario, 1)
    one, other = (simulate(engine, scenario, inputs) for engine in ("simpy", "batch"))
    workload.verify(one, 1)
    assert equal_windows(one.windows, other.windows)
