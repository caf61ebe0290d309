"""Diagnosers that score services by deviation, correlation, walks, learned graphs and their own share of the excess."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agent.api import Diagnosis, Topology
from agent.diagnosers.correlation import correlations
from agent.diagnosers.granger import influence
from agent.diagnosers.own_excess import own_share, surge
from agent.diagnosers.view import Usual, View
from agent.history import NORMAL_STEPS, WINDOW, WIRE_S, History
from agent.registry import make_diagnoser
from simcore.windows import Metric
from tests.agent_world import API, CACHE, DB, SYSTEM, TOPOLOGY, failing, healthy, keys, observe, remember, slow, strange

ONSET, NOW = 40, 50
SCORED = ("max_z", "n_sigma", "baro", "correlation", "random_walk", "traversal", "granger", "own_excess")


def ask(name: str, metrics: np.ndarray, topology: Topology = TOPOLOGY) -> Diagnosis:
    n = metrics.shape[0]
    diagnoser = make_diagnoser(name)
    diagnoser.start(topology, keys(n))
    return diagnoser.diagnose(
        observe(metrics, NOW), strange(n, API), remember(metrics, NOW, ONSET + 3), np.arange(n)
    )  # fmt: skip


def view(metrics: np.ndarray) -> View:
    n = metrics.shape[0]
    return View(TOPOLOGY, remember(metrics, NOW, ONSET + 3), Usual(TOPOLOGY, n), np.arange(n))


def in_flight(metrics: np.ndarray, service: int, callers: tuple[int, ...] = ()) -> None:
    """Let a service hold its requests longer, and its callers as much longer."""
    metrics[0, ONSET:, service, Metric.IN_FLIGHT] += 12.0
    for caller in callers:
        metrics[0, ONSET:, caller, Metric.IN_FLIGHT] += 12.0


@pytest.mark.parametrize("name", ["max_z", "n_sigma", "baro", "random_walk", "traversal", "own_excess"])
def test_a_slow_callee_is_blamed_by_all_who_look_at_how_far(name: str) -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, DB, ONSET)
    in_flight(metrics, DB, (API,))
    assert ask(name, metrics).suspect.tolist() == [DB]


def test_only_who_knows_the_graph_finds_the_callee_that_is_less_strange_than_its_caller() -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, DB, ONSET, seconds=0.3)
    metrics[0, ONSET:, [API, SYSTEM], Metric.P95_S] += 30.0
    metrics[0, ONSET:, [API, DB], Metric.IN_FLIGHT] += 12.0
    metrics[0, ONSET:, DB, Metric.MEMORY_FRAC] = metrics[0, :1, DB, Metric.MEMORY_FRAC]
    found = {name: ask(name, metrics).suspect[0] for name in ("max_z", "n_sigma", "baro", "traversal", "own_excess")}
    assert found == {"max_z": API, "n_sigma": API, "baro": API, "traversal": DB, "own_excess": DB}


def test_the_share_of_the_excess_is_what_callees_do_not_hand_up() -> None:
    metrics = healthy(1, 60)
    metrics[..., Metric.P95_S] = np.nan
    metrics[0, ONSET:, API, Metric.IN_FLIGHT] = 40.0
    metrics[0, ONSET:, DB, Metric.IN_FLIGHT] = 20.0
    metrics[..., Metric.ERROR_RATE] = 0.0
    share, _, counted = own_share(view(metrics))
    assert counted.tolist() == [True]
    # of about 36 requests too many in flight at api, about 18.5 wait for db
    late = share[0] / share[0].sum()
    assert late[DB] == pytest.approx(18.5 / 36, abs=0.04)
    assert late[API] == pytest.approx(1 - 18.5 / 36, abs=0.04)
    assert late[CACHE] < 0.02


def test_more_requests_are_no_excess() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, :, Metric.REQUEST_RATE_RPS] *= 1.2
    metrics[0, ONSET:, :, Metric.IN_FLIGHT] *= 1.2
    diagnosis = ask("own_excess", metrics)
    assert diagnosis.blame is not None
    assert surge(view(metrics))[0] == 0.0
    metrics[0, ONSET:, :, Metric.REQUEST_RATE_RPS] *= 2.0
    metrics[0, ONSET:, :, Metric.IN_FLIGHT] *= 2.0
    assert surge(view(metrics))[0] == 1.0
    diagnosis = ask("own_excess", metrics)
    assert diagnosis.suspect.tolist() == [-1]
    assert "the workload" in diagnosis.explain(0)


def test_errors_are_kept_in_a_book_of_their_own() -> None:
    metrics = healthy(2, 60)
    failing(metrics, 0, DB, ONSET)
    metrics[0, ONSET:, API, Metric.ERROR_RATE] = 0.15  # every second request of api needs db
    failing(metrics, 1, API, ONSET)
    diagnosis = ask("own_excess", metrics)
    assert diagnosis.suspect.tolist() == [DB, API]
    assert "errors of its own" in diagnosis.explain(1)


def test_a_caller_that_stops_calling_on_fails_by_itself() -> None:
    metrics = healthy(1, 60)
    metrics[0, :, :3, Metric.ERROR_RATE] = np.nan  # nobody knows who fails
    metrics[0, ONSET:, SYSTEM, Metric.ERROR_RATE] = 0.5
    metrics[0, ONSET:, [CACHE, DB], Metric.REQUEST_RATE_RPS] *= 0.4
    diagnosis = ask("own_excess", metrics)
    assert diagnosis.suspect.tolist() == [API]
    assert "gives up before it calls on" in diagnosis.explain(0)


def test_a_slow_way_to_a_service_accuses_the_service() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, [API, SYSTEM], Metric.P95_S] += 0.5
    wide = np.concatenate([metrics, np.full((*metrics.shape[:3], 1), np.nan)], 3)
    wide[0, :, :3, WIRE_S] = 0.001
    wide[0, ONSET:, DB, WIRE_S] = 0.4
    shown = wide[:, 20 : NOW - 1]
    series = np.full((1, WINDOW, *wide.shape[2:]), np.nan)
    series[:, -24:] = shown[:, -24:]
    history = History.recorded(TOPOLOGY, wide[:, :ONSET], series, np.array([WINDOW - 5]))
    diagnoser = make_diagnoser("own_excess")
    diagnoser.start(TOPOLOGY, keys(1))
    diagnosis = diagnoser.diagnose(observe(metrics, NOW), strange(1, API), history, np.array([0]))
    assert diagnosis.suspect.tolist() == [DB]
    assert "the way to it is slow" in diagnosis.explain(0)


@pytest.mark.parametrize("name", SCORED)
def test_ranking_follows_the_blame_and_a_quiet_run_accuses_nobody_surely(name: str) -> None:
    metrics = healthy(3, 60)
    slow(metrics, 0, DB, ONSET)
    failing(metrics, 1, API, ONSET)
    diagnosis = ask(name, metrics)
    assert diagnosis.blame is not None
    ordered = np.take_along_axis(diagnosis.blame, diagnosis.ranked, 1)
    assert (np.diff(ordered, axis=1) <= 0).all()
    assert (diagnosis.blame >= 0).all()
    assert np.isfinite(diagnosis.blame).all()


def test_own_excess_has_no_suspect_where_nothing_is_wrong() -> None:
    metrics = healthy(1, 60, seed=3)
    metrics[..., Metric.P95_S] = 0.1
    metrics[..., Metric.IN_FLIGHT] = 1.0
    metrics[..., Metric.REQUEST_RATE_RPS] = 40.0
    metrics[..., Metric.ERROR_RATE] = 0.0
    metrics[..., Metric.CPU_UTIL] = metrics[..., Metric.MEMORY_FRAC] = 0.4
    diagnosis = ask("own_excess", metrics)
    assert diagnosis.suspect.tolist() == [-1]
    assert diagnosis.explain(0) == "no service stands out"


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 30)), rng.normal(size=(2, 30))
    y[1, 4] = np.nan
    x[1, 9] = np.nan
    keep = ~np.isnan(x[1]) & ~np.isnan(y[1])
    expected = [np.corrcoef(x[0], y[0])[0, 1], np.corrcoef(x[1, keep], y[1, keep])[0, 1]]
    np.testing.assert_allclose(correlations(x, y), expected)
    assert correlations(np.ones((1, 9)), y[:1, :9]).tolist() == [0.0]


def test_influence_finds_who_drives_whom_and_in_which_direction() -> None:
    rng = np.random.default_rng(5)
    drive, noise = rng.normal(size=400), rng.normal(size=(2, 400))
    driven = 0.9 * np.concatenate([[0.0], drive[:-1]]) + 0.3 * noise[0]
    found = influence(np.stack([drive, driven, noise[1]], 1)[None])[0]
    assert found[0, 1] > 0.8
    assert found[1, 0] == 0.0
    assert found[2].tolist() == [0.0, 0.0, 0.0]


def test_normal_scrapes_are_kept_in_order_and_only_those_of_quiet_times() -> None:
    metrics = healthy(2, 90)
    slow(metrics, 1, DB, 60)
    history = History(TOPOLOGY, 2)
    for step in range(80):
        history.push(observe(metrics, step), np.array([True, step < 50]))
    seen = View(TOPOLOGY, history, Usual(TOPOLOGY, 2), np.arange(2)).normal()
    # at step 79 the scrape of step 73 becomes normal, that is window 71
    np.testing.assert_array_equal(seen[0], metrics[0, 72 - NORMAL_STEPS : 72])
    np.testing.assert_array_equal(seen[1], metrics[1, 42 - NORMAL_STEPS : 42])
    assert history.onset.tolist() == [-1, 49]


def test_the_usual_values_are_median_and_quartiles_and_follow_what_is_new() -> None:
    metrics = healthy(1, 60)
    history, usual = remember(metrics, 30, 60), Usual(TOPOLOGY, 1)
    median, spread, per_request = usual.of(history, np.array([0]))
    kept = metrics[0, :23, DB, Metric.P95_S]  # windows 0 .. 22 have become normal
    assert median[0, DB, Metric.P95_S] == pytest.approx(np.median(kept))
    low, high = np.quantile(kept, [0.25, 0.75])
    assert spread[0, DB, Metric.P95_S] == pytest.approx((high - low) / 1.349)
    flight, rate = (metrics[0, :23, DB, m].sum() for m in (Metric.IN_FLIGHT, Metric.REQUEST_RATE_RPS))
    assert per_request[0, DB] == pytest.approx(flight / rate)
    history.push(observe(metrics, 31), np.array([True]))
    assert usual.of(history, np.array([0]))[0][0, DB, Metric.P95_S] == pytest.approx(
        np.median(metrics[0, :24, DB, Metric.P95_S])
    )


def test_a_diagnoser_that_draws_says_that_all_tie() -> None:
    blame = ask("random", healthy(2, 60)).blame
    assert blame is not None
    assert np.unique(blame).size == 1


def test_without_a_call_graph_every_excess_is_its_own() -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, DB, ONSET)
    in_flight(metrics, DB, (API,))
    alone = dataclasses.replace(TOPOLOGY, calls=np.zeros((3, 3), np.bool_))
    diagnosis = ask("own_excess", metrics, alone)
    assert diagnosis.blame is not None
    assert diagnosis.blame[0, API] > 3
    assert diagnosis.blame[0, DB] > 3
