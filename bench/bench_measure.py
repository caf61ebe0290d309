"""The guards' own instruments: each shows what it is there to show."""

from collections.abc import Callable
from functools import partial

import pytest

from agent.evaluation.profiling.clocks import TASKS, best_of, busiest_thread_s, cpu_s
from bench.measure import SPINS, bounded, calibration, two_cores
from bench.peers import simpy_w2
from bench.workloads import W2, W2_HOT, simulate

pytestmark = pytest.mark.guard


def _scripted(times: dict[str, list[float]]) -> tuple[dict[str, Callable[[], object]], Callable[..., float]]:
    """Return pieces that do nothing, and a clock that reads these times off, one a round."""
    names: list[str] = []
    pieces: dict[str, Callable[[], object]] = {name: partial(names.append, name) for name in times}

    def clock(piece: Callable[[], object]) -> float:
        piece()
        left = times[names[-1]]
        return left.pop(0) if len(left) > 1 else left[0]

    return pieces, clock


def test_a_slow_spell_is_waited_out() -> None:
    pieces, clock = _scripted({"a": [1.0, 1.0, 1.0, 1.0], "b": [9.0, 9.0, 9.0, 2.0]})
    best = best_of(pieces, rounds=2, enough=lambda best: best["b"] <= 2.0 * best["a"], clock=clock)
    assert best == {"a": 1.0, "b": 2.0}


def test_a_ratio_that_does_not_hold_is_given_up_after_three_times_the_rounds() -> None:
    pieces, clock = _scripted({"a": [1.0], "b": [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 0.1]})
    best = best_of(pieces, rounds=2, enough=lambda best: best["b"] <= 2.0 * best["a"], clock=clock)
    assert best["b"] == 9.0


@pytest.mark.parametrize(("ratio", "held"), [(0.9, False), (1.0, True), (3.0, True), (3.1, False)])
def test_a_ratio_out_of_its_bounds_is_found(ratio: float, held: bool) -> None:
    line = f"speed: {ratio:g}, must be at least 1 and at most 3"
    assert bounded("speed", ratio, at_least=1.0, at_most=3.0) == (held, line)


def test_not_a_number_holds_no_bound() -> None:
    assert not bounded("speed", float("nan"), at_least=1.0)[0]
    assert not bounded("speed", float("nan"), at_most=1.0)[0]


def test_the_calibration_loop_takes_time_in_proportion() -> None:
    best = best_of({"one": lambda: calibration(SPINS), "four": lambda: calibration(4 * SPINS)}, rounds=5)
    assert 2.0 < best["four"] / best["one"] < 8.0
    assert calibration(3) == calibration(3) != calibration(4)


@pytest.mark.skipif(not TASKS.exists(), reason="no CPU time per thread here")
def test_the_busiest_thread_of_two_does_half_of_what_both_do() -> None:
    best = best_of({"one": calibration, "two": two_cores}, rounds=3, clock=busiest_thread_s)
    # two_cores does the loop once alone and once beside another thread: never three times in one thread
    assert 1.5 < best["two"] / best["one"] < 2.7


def test_work_that_was_not_done_is_found_out() -> None:
    scenario = W2.scenario(2)
    work = simulate("batch", scenario, W2.inputs(scenario, 2))
    W2.verify(work, 2)
    with pytest.raises(AssertionError):
        W2.verify(work, 3)
    with pytest.raises(AssertionError):
        W2_HOT.verify(work, 2)


def test_the_script_does_more_in_a_longer_time() -> None:
    assert cpu_s(lambda: simpy_w2(1, horizon_s=20.0)) > cpu_s(lambda: simpy_w2(1, horizon_s=2.0))
