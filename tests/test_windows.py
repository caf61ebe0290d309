"""The window kernel against an oracle that follows the definitions one by one."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcore.windows import END, MIN_SAMPLES, N_AREAS, Area, Metric, Tally, Total, close_window, rank_of, select
from tests import naive

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STEP_S = 5.0


@dataclass
class Window:
    """What one run did in one window; by default nothing, with two services up."""

    ends: npt.NDArray[np.void]
    tally: Ints
    area: Floats
    cores: Floats

    def close(self, spare: int = 0) -> tuple[Floats, Ints]:
        """Return (service + 1, metric) and (total,), computed in arrays that hold something else and are too long."""
        n = len(self.ends)
        ends = np.zeros(n + spare, END)
        ends[:n] = self.ends
        metrics = np.full((len(self.cores) + 1, len(Metric)), 77.0)
        totals = np.full(len(Total), 77)
        scratch = np.full(n + spare, 77.0)
        close_window(ends, n, self.tally, self.area, self.cores, STEP_S, scratch, metrics, totals)
        return metrics, totals


def window(*ends: tuple[float, int, int], services: int = 2) -> Window:
    """Return a window with these (latency, service, failed)."""
    area = np.zeros((services, N_AREAS))
    area[:, Area.UP] = STEP_S
    tally = np.zeros((services + 1, len(Tally)), np.int64)
    return Window(np.array(list(ends), END), tally, area, np.ones(services))


def assert_same(found: tuple[Floats, Ints], expected: tuple[Floats, Ints]) -> None:
    for row in range(len(expected[0])):
        for metric in Metric:
            np.testing.assert_equal(found[0][row, metric], expected[0][row, metric], f"row {row} {metric.name}")
    np.testing.assert_array_equal(found[1], expected[1])


# --- against the oracle


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a window; few different latencies make duplicates, few services make long rows."""
    services = draw(st.integers(1, 3))
    latencies = st.one_of(st.sampled_from([0.0, 0.125, 0.25, 1.0]), st.floats(0.0, 30.0))
    size = draw(st.sampled_from([0, 5, 19, 20, 21, 60, 200]))
    rows = st.tuples(latencies, st.integers(0, services), st.sampled_from([0, 0, 0, 1]))
    made = window(*draw(st.lists(rows, min_size=size, max_size=size)), services=services)
    counts = st.lists(st.integers(0, 9), min_size=len(Tally), max_size=len(Tally))
    for row in range(services + 1):
        made.tally[row] = draw(counts)
    gave_up = np.count_nonzero((made.ends["service"] == services) & (made.ends["failed"] == 0))
    made.tally[services, Tally.TIMEOUTS] = min(made.tally[services, Tally.TIMEOUTS], gave_up)
    levels = st.integers(0, 800).map(lambda eighths: eighths / 8.0)
    made.area[:] = [[draw(levels) for _ in Area] for _ in range(services)]
    made.cores[:] = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=services, max_size=services))
    return made


@given(windows(), st.sampled_from([0, 7]))
def test_a_window_of_anything_is_what_the_oracle_says(made: Window, spare: int) -> None:
    assert_same(made.close(spare), naive.close_window(made.ends, made.tally, made.area, made.cores, STEP_S))


@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 39, 100, 1000, 20_000])
def test_a_window_of_many_latencies_is_what_the_oracle_says(n: int) -> None:
    random = np.random.default_rng(n)
    made = window(services=4)
    made.ends = np.empty(n, END)
    made.ends["latency_s"] = random.lognormal(-3.0, 1.0, n)
    made.ends["service"] = random.integers(0, 5, n)
    made.ends["failed"] = random.random(n) < 0.3
    made.tally[:] = random.integers(0, 50, made.tally.shape)
    made.tally[4, Tally.TIMEOUTS] = 0
    made.area[:] = random.random(made.area.shape)
    assert_same(made.close(3), naive.close_window(made.ends, made.tally, made.area, made.cores, STEP_S))


@pytest.mark.parametrize("metric", list(Metric))
def test_a_metric_that_is_off_is_noticed(metric: Metric) -> None:
    found = window().close()
    wrong = found[0].copy()
    wrong[0, metric] = 0.5
    with pytest.raises(AssertionError, match=metric.name):
        assert_same((wrong, found[1]), found)


def test_closing_a_window_changes_none_of_its_inputs() -> None:
    made = window(*[(float(-i), 0, i % 2) for i in range(50)])
    before = [made.ends.copy(), made.tally.copy(), made.area.copy(), made.cores.copy()]
    made.close()
    for one, other in zip(before, (made.ends, made.tally, made.area, made.cores), strict=True):
        np.testing.assert_array_equal(one, other)


# --- quantiles


@given(st.integers(1, 10**6), st.sampled_from([500, 950, 990]))
def test_a_rank_is_the_first_with_at_least_its_share_at_or_below(n: int, permille: int) -> None:
    rank = rank_of(n, permille)
    assert 0 <= rank < n
    assert 1000 * (rank + 1) >= permille * n > 1000 * rank


def test_quantiles_are_nan_below_twenty_samples_and_never_between_two() -> None:
    for n in (MIN_SAMPLES - 1, MIN_SAMPLES):
        ends = [(float(i), 0, 0) for i in range(n)] + [(100.0 + i, 0, 1) for i in range(n)]
        row = window(*ends).close()[0][0]
        quantiles = row[[Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.P95_FAILED_S]]
        if n < MIN_SAMPLES:
            assert np.isnan(quantiles).all()
        else:
            assert quantiles.tolist() == [9.0, 18.0, 19.0, 118.0]
        assert row[Metric.OK] == n


def test_failures_are_not_among_the_quantiles_of_the_successes() -> None:
    row = window(*[(1.0, 1, 0)] * 30, *[(9.0, 1, 1)] * 30).close()[0][1]
    assert row[[Metric.P50_S, Metric.P99_S, Metric.P95_FAILED_S]].tolist() == [1.0, 1.0, 9.0]


ORDERS: dict[str, Any] = {
    "sorted": lambda n: np.arange(n, dtype=float),
    "reversed": lambda n: np.arange(n, dtype=float)[::-1].copy(),
    "equal": lambda n: np.full(n, 3.0),
    "two values": lambda n: np.arange(n) % 2 * 1.0,
    "organ pipe": lambda n: np.minimum(np.arange(n), n - 1.0 - np.arange(n)),
    "saw": lambda n: np.arange(n) * 7.0 % 5,
    "random": lambda n: np.random.default_rng(n).random(n),
}


@pytest.mark.parametrize("order", ORDERS)
def test_select_finds_the_value_at_any_rank_and_partitions_around_it(order: str) -> None:
    for n in (1, 2, 16, 17, 18, 33, 100, 1001):
        for k in sorted({0, n // 2, n - 1, rank_of(n, 950)}):
            given_x = ORDERS[order](n)
            x = np.concatenate([[-1.0], given_x, [-2.0]])  # what lies outside lo .. hi stays where it is
            assert select(x, 1, n + 1, k + 1) == np.sort(given_x)[k]
            assert x[0] == -1.0
            assert x[-1] == -2.0
            assert np.all(x[1 : k + 1] <= x[k + 1])
            assert np.all(x[k + 2 : -1] >= x[k + 1])
            np.testing.assert_array_equal(np.sort(x[1:-1]), np.sort(given_x))


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, 1e9]), min_size=1, max_size=120), st.data())
def test_select_copes_with_duplicates(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(values) - 1))
    assert select(np.array(values), 0, len(values), k) == sorted(values)[k]


# --- rows


def test_the_rows_of_services_keep_apart() -> None:
    metrics, _ = window(*[(1.0, 0, 0)] * 25, *[(2.0, 1, 0)] * 30, *[(3.0, 2, 0)] * 40).close()
    assert metrics[:, Metric.P95_S].tolist() == [1.0, 2.0, 3.0]
    assert metrics[:, Metric.OK].tolist() == [25, 30, 40]


def test_a_service_fails_with_errors_lost_spans_and_rejections() -> None:
    made = window(*[(1.0, 0, 0)] * 12, *[(1.0, 0, 1)] * 3)
    made.tally[0, [Tally.FAILED, Tally.REJECTED, Tally.TIMEOUTS]] = 4, 1, 9
    row = made.close()[0][0]
    assert row[Metric.ERROR_RATE] == 8 / 20
    assert row[[Metric.OK, Metric.REJECTED, Metric.TIMEOUTS]].tolist() == [12, 1, 9]


def test_clients_that_gave_up_are_slow_and_bad_but_no_successes() -> None:
    made = window(*[(0.1, 2, 0)] * 90, *[(10.0, 2, 0)] * 10, *[(0.2, 2, 1)] * 5)
    made.tally[2, [Tally.TIMEOUTS, Tally.REJECTED, Tally.FAILED]] = 10, 15, 1000
    metrics, totals = made.close()
    row = metrics[2]
    assert row[[Metric.P50_S, Metric.P95_S, Metric.P99_S]].tolist() == [0.1, 10.0, 10.0]
    assert row[Metric.OK] == 90
    assert row[Metric.ERROR_RATE] == (5 + 10 + 15) / (90 + 5 + 10 + 15)
    assert totals[[Total.TIMEOUTS, Total.SHED]].tolist() == [10, 15]


def test_what_nothing_says_is_nan_and_never_zero() -> None:
    made = window()
    made.area[:, Area.UP] = 0.0
    metrics, totals = made.close()
    for metric in (Metric.P50_S, Metric.P95_FAILED_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.HIT_RATIO):
        assert np.isnan(metrics[:, metric]).all(), metric.name
    # there is no processor, memory, queue or replica at the client's border
    for metric in (Metric.CPU_UTIL, Metric.MEMORY_FRAC, Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.REPLICAS_UP):
        assert math.isnan(metrics[2, metric]), metric.name
    assert not totals.any()
    assert not metrics[:, [Metric.OK, Metric.REQUEST_RATE_RPS, Metric.REJECTED, Metric.RETRIES]].any()


def test_levels_are_averages_over_the_window_or_its_end() -> None:
    made = window()
    made.cores[0] = 2.0
    made.area[0] = [6.0, 10.0, 15.0, 5.0, 0.75, 2.0, 20.0, 30.0]  # two replicas of two cores for five seconds
    made.tally[0, [Tally.ARRIVALS, Tally.HITS, Tally.MISSES, Tally.RETRIES, Tally.DENIED]] = 40, 9, 3, 6, 2
    row = made.close()[0][0]
    assert row[Metric.CPU_UTIL] == 6.0 / (2 * 2 * 5.0)
    levels = [Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.POOL_WAITING, Metric.LAG]
    assert row[levels].tolist() == [3.0, 1.0, 4.0, 6.0]
    assert row[[Metric.MEMORY_FRAC, Metric.REPLICAS_UP]].tolist() == [0.75, 2.0]
    assert row[[Metric.REQUEST_RATE_RPS, Metric.HIT_RATIO, Metric.RETRIES]].tolist() == [8.0, 0.75, 6.0]
    assert row[Metric.DENIED] == 2.0


def test_totals_are_those_of_the_system_and_attempts_of_all() -> None:
    made = window()
    made.tally[:, Tally.ATTEMPTS] = 5, 7, 11
    made.tally[2, [Tally.ARRIVALS, Tally.GOOD, Tally.BAD, Tally.REJECTED, Tally.ERRORS, Tally.TIMEOUTS]] = (
        9,
        8,
        7,
        6,
        5,
        0,
    )
    made.tally[0, [Tally.ARRIVALS, Tally.GOOD]] = 99, 98
    totals = made.close()[1]
    expected = {"OFFERED": 9, "GOOD": 8, "BAD": 7, "SHED": 6, "ERRORS": 5, "TIMEOUTS": 0, "ATTEMPTS": 23}
    assert {total.name: int(totals[total]) for total in Total} == expected
