"""Both engines on W1, W2, W2-hot and three_tier, without an agent, beside plain SimPy scripts of W1 and W2."""

import os
import time
from collections.abc import Callable, Mapping

import pytest

from agent.evaluation.profiling.clocks import TASKS, best_of, busiest_thread_s, wall_s
from bench.conftest import Holds, Timed
from bench.measure import two_cores
from bench.peers import simpy_w1, simpy_w2
from bench.workloads import LOGNORMAL, W2, W2_HOT, WORKLOADS, Work, Workload, equal_windows, simulate

#: The scripts' horizons: pieces of less than 0.1 s.
_CUSTOMERS = 5_000
_SCRIPT_S = 24.0
#: Requests per CPU-second of the batch engine on W2 over those of the plain SimPy script.
_OVER_SCRIPT = 55.0
#: Requests per CPU-second of the SimPy engine on W2 over those of the script: what reading costs.
_ENGINE_OVER_SCRIPT = 0.13
#: Requests per CPU-second on a small shop over those on W2: what lognormal times, messages and caches may cost.
_LOGNORMAL_SHARE = 0.2
#: Attempts per CPU-second on W2-hot over those on W2: what timers and retries may cost.
_HOT_SHARE = 0.6
#: Two threads over one.
_TWO_THREADS = 1.3
#: From here on the calibration loop says that two cores are idle.
_IDLE = 1.6
#: How long to wait for two idle cores, seconds.
_PATIENCE_S = 6.0


def _counts(work: Work) -> dict[str, int]:
    return {"requests": work.requests, "attempts": work.attempts}


def test_a_plain_simpy_script_on_w1(timed: Timed) -> None:
    def done(stays: list[float]) -> dict[str, int]:
        assert len(stays) == _CUSTOMERS
        assert 1.2 < sum(stays) / len(stays) < 2.6
        return {"requests": len(stays)}

    timed("w1", "SimPy script", lambda: simpy_w1(1, _CUSTOMERS), done=done)


def test_a_plain_simpy_script_on_w2(timed: Timed) -> None:
    def done(result: tuple[int, list[float]]) -> dict[str, int]:
        offered, latencies = result
        assert abs(offered - 100 * _SCRIPT_S) < 5 * (100 * _SCRIPT_S) ** 0.5
        assert abs(sum(latencies) / len(latencies) / 0.0342 - 1.0) < 0.1
        return {"requests": offered}

    timed("w2", "SimPy script", lambda: simpy_w2(1, _SCRIPT_S), done=done)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_the_simpy_engine(workload: Workload, timed: Timed) -> None:
    scenario = workload.scenario(workload.short_steps)
    inputs = workload.inputs(scenario, 1)

    def done(work: Work) -> dict[str, int]:
        workload.verify(work, 1)
        return _counts(work)

    timed(workload.label, "engine simpy", lambda: simulate("simpy", scenario, inputs), done=done, rounds=3)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_the_batch_engine(workload: Workload, timed: Timed) -> None:
    scenario = workload.scenario()
    inputs = workload.inputs(scenario)

    def done(work: Work) -> dict[str, int]:
        workload.verify(work, workload.n_runs)
        return _counts(work)

    timed(workload.label, "engine batch", lambda: simulate("batch", scenario, inputs), done=done)


@pytest.mark.guard
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.label)
def test_both_engines_give_equal_results(workload: Workload) -> None:
    scenario = workload.scenario(workload.short_steps)
    inputs = workload.inputs(scenario, 1)
    one, other = (simulate(engine, scenario, inputs) for engine in ("simpy", "batch"))
    workload.verify(one, 1)
    assert equal_windows(one.windows, other.windows)


def _batch(workload: Workload, *, n_runs: int | None = None, threads: int = 1) -> Callable[[], Work]:
    scenario = workload.scenario()
    inputs = workload.inputs(scenario, n_runs)
    return lambda: simulate("batch", scenario, inputs, threads=threads)


@pytest.mark.guard
def test_the_batch_engine_leaves_the_simpy_script_far_behind_on_w2(holds: Holds) -> None:
    work = _batch(W2)()
    W2.verify(work, W2.n_runs)
    _, latencies = simpy_w2(1)
    # the same system
    assert work.seconds_in("api") == pytest.approx(sum(latencies) / len(latencies), rel=0.03)
    offered, _ = simpy_w2(1, _SCRIPT_S)

    def ratio(best: Mapping[str, float]) -> float:
        return (work.requests / best["batch"]) / (offered / best["script"])

    pieces = {"script": lambda: simpy_w2(1, _SCRIPT_S), "batch": _batch(W2)}
    best = best_of(pieces, rounds=30, enough=lambda best: ratio(best) >= _OVER_SCRIPT)
    holds("W2, requests per CPU-second, batch engine over SimPy script", ratio(best), at_least=_OVER_SCRIPT)


def _share(other: Workload, count: Callable[[Work], int], at_least: float) -> float:
    """Return what a workload does per CPU-second over what W2 does, one thread each; ``count`` says of what."""
    pieces = {"plain": _batch(W2), "other": _batch(other)}
    work = {name: piece() for name, piece in pieces.items()}
    other.verify(work["other"], other.n_runs)

    def share(best: Mapping[str, float]) -> float:
        return (count(work["other"]) / best["other"]) / (count(work["plain"]) / best["plain"])

    return share(best_of(pieces, rounds=30, enough=lambda best: share(best) >= at_least))


@pytest.mark.guard
def test_timeouts_and_retries_cost_little_per_attempt(holds: Holds) -> None:
    share = _share(W2_HOT, lambda work: work.attempts, _HOT_SHARE)
    holds("W2-hot over W2, attempts per CPU-second", share, at_least=_HOT_SHARE)


@pytest.mark.guard
def test_lognormal_times_messages_and_caches_cost_little_per_request(holds: Holds) -> None:
    share = _share(LOGNORMAL, lambda work: work.requests, _LOGNORMAL_SHARE)
    holds("lognormal shop over W2, requests per CPU-second", share, at_least=_LOGNORMAL_SHARE)


@pytest.mark.guard
def test_the_simpy_engine_is_no_more_than_some_times_slower_than_the_script(holds: Holds) -> None:
    scenario = W2.scenario(W2.short_steps)
    inputs = W2.inputs(scenario, 1)
    work = simulate("simpy", scenario, inputs)
    W2.verify(work, 1)
    offered, _ = simpy_w2(1, _SCRIPT_S)

    def ratio(best: Mapping[str, float]) -> float:
        return (work.requests / best["engine"]) / (offered / best["script"])

    pieces = {"script": lambda: simpy_w2(1, _SCRIPT_S), "engine": lambda: simulate("simpy", scenario, inputs)}
    best = best_of(pieces, rounds=10, enough=lambda best: ratio(best) >= _ENGINE_OVER_SCRIPT)
    holds("W2, requests per CPU-second, SimPy engine over SimPy script", ratio(best), at_least=_ENGINE_OVER_SCRIPT)


needs_two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


@pytest.mark.guard
@needs_two_cores
@pytest.mark.skipif(not (TASKS / str(os.getpid()) / "schedstat").exists(), reason="no CPU time per thread here")
def test_two_threads_share_the_work(holds: Holds) -> None:
    pieces = {"one": _batch(W2, n_runs=8), "two": _batch(W2, n_runs=8, threads=2)}
    best = best_of(
        pieces,
        rounds=10,
        enough=lambda best: best["one"] / best["two"] >= _TWO_THREADS,
        clock=busiest_thread_s,
    )
    holds("W2, two threads over one, CPU time of the busiest", best["one"] / best["two"], at_least=_TWO_THREADS)


@pytest.mark.guard
@needs_two_cores
def test_two_threads_are_faster_than_one(holds: Holds) -> None:
    one, two = _batch(W2, n_runs=8), _batch(W2, n_runs=8, threads=2)
    assert equal_windows(one().windows, two().windows)
    ones: list[float] = []
    twos: list[float] = []
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends:
        before, times, after = two_cores(), (wall_s(one), wall_s(two)), two_cores()
        # a round counts if the second core was free before and after it
        if min(before, after) >= _IDLE:
            ones.append(times[0])
            twos.append(times[1])
        if len(ones) >= 3 and min(ones) / min(twos) >= _TWO_THREADS:
            break
    if len(ones) < 3:
        pytest.skip("no second core was idle: two threads of the calibration loop were no faster than one")
    holds("W2, two threads over one, wall clock", min(ones) / min(twos), at_least=_TWO_THREADS)
