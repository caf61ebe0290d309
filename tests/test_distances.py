"""Control charts, burn rates, distances and their ensemble: what each sees that another does not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.neighbors import NearestNeighbors

from agent.detectors.burn_rate import BurnRateDetector
from agent.detectors.raters import RIDGE, Mahalanobis, Neighbours, covariance
from agent.detectors.staged import CLIP
from agent.detectors.views import MachineView, ServiceView
from agent.evaluation.realdata.detection import machine_topology
from agent.evaluation.realdata.series import Series
from agent.registry import make_detector
from simcore.errors import InputError
from simcore.windows import Metric
from tests.agent_world import API, DB, TOPOLOGY, healthy, keys, observe

ALONE = machine_topology(Series("m", (), np.zeros((0, 0)), np.zeros((0, 0)), None, 60.0))


def quiet(n: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return (1, step, 1, channel) of independent normal values."""
    return np.random.default_rng(seed).normal(0, 1, (1, n, 1, channels))


def scored(name: str, test: np.ndarray, train: np.ndarray | None = None) -> np.ndarray:
    """Return (step,) scores of a recorded machine."""
    detector: Any = make_detector(name, view=MachineView())
    detector.fit(quiet(4000) if train is None else train, ALONE, seed=0)
    scores: np.ndarray = detector.replay(test, ALONE, seed=0)[0, :, 0]
    return scores


# --- charts


def test_a_zscore_is_the_largest_standardised_distance_and_is_clipped() -> None:
    test = quiet(5)
    test[0, 2, 0] = [0.0, -5.0, 2.0]
    test[0, 3, 0] = [1e6, 0.0, 0.0]
    scores = scored("zscore", test)
    assert scores[2] == pytest.approx(5.0, rel=0.05)
    assert scores[3] == CLIP


def test_averages_and_sums_see_a_small_shift_that_single_values_hide() -> None:
    test = quiet(400, seed=1)
    test[0, 200:, 0, 1] += 1.6
    for name, sees in (("zscore", False), ("ewma", True), ("cusum", True)):
        scores = scored(name, test)
        before = np.quantile(scores[50:200], 0.99)
        assert (np.mean(scores[220:] > before) > 0.5) == sees, name


def test_a_cumulative_sum_follows_its_recursion() -> None:
    test = quiet(30, channels=1, seed=2)
    z = (test[0, :, 0, 0] - quiet(4000, 1).mean()) / quiet(4000, 1).std()
    high = low = 0.0
    for step, score in enumerate(scored("cusum", test, quiet(4000, 1))):
        high, low = max(0.0, high + z[step] - 0.5), max(0.0, low - z[step] - 0.5)
        assert score == pytest.approx(max(high, low), abs=1e-4)


# --- burn rates


def burn(errors: list[float]) -> np.ndarray:
    """Return (step,) scores of the db, whose answers fail at these rates; the SLO is 5 %."""
    metrics = healthy(1, len(errors))
    metrics[..., Metric.ERROR_RATE] = 0.0
    metrics[0, :, DB, Metric.ERROR_RATE] = errors
    detector = BurnRateDetector()
    detector.fit(healthy(2, 20), TOPOLOGY, seed=0)
    scores: np.ndarray = detector.replay(metrics, TOPOLOGY, seed=0)[0]
    assert (scores[:, API] == 0).all()
    return scores[:, DB]


def test_a_burn_rate_needs_both_windows_of_a_pair() -> None:
    scores = burn([0.0] * 80 + [1.0] * 12 + [0.0] * 8)
    # 20 times the budget: one step of the long window's twelve is not enough, all of them page
    assert scores[80] == pytest.approx(20.0 / 12 / 14.4)
    assert scores[91] == pytest.approx(20.0 / 14.4)
    # it is over: the short windows say so
    assert scores[99] == 0.0


def test_slow_answers_burn_the_budget_too() -> None:
    metrics = healthy(1, 5)
    metrics[..., Metric.ERROR_RATE] = 0.02
    metrics[0, :, DB, [Metric.P50_S, Metric.P95_S, Metric.P99_S]] = [[0.3] * 5, [0.5] * 5, [0.9] * 5]
    view = ServiceView()
    view.learn(healthy(2, 5), TOPOLOGY)
    view.begin(TOPOLOGY)
    bad = view.bad(metrics[0])
    assert bad[0, API] == pytest.approx(0.02 / 0.05)
    assert bad[0, DB] == pytest.approx((0.02 + 0.98 * 0.05) / 0.05)


# --- distances


def test_covariance_and_mahalanobis_are_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (500, 4)) @ rng.normal(0, 1, (4, 4))
    np.testing.assert_allclose(covariance(rows), np.cov(rows.T))
    rater = Mahalanobis()
    rater.study(rows[:, None], 0)
    inverse = np.linalg.inv(np.cov(rows.T) + RIDGE * np.eye(4))
    expected = [mahalanobis(y, rows.mean(0), inverse) ** 2 for y in rows[:20]]
    np.testing.assert_allclose(rater.rate(rows[:20, None])[:, 0], expected)


@pytest.mark.parametrize("whiten", [False, True])
def test_neighbours_are_scikit_learns(whiten: bool) -> None:
    rng = np.random.default_rng(1)
    rows, probe = rng.normal(0, 1, (400, 2, 3)), rng.normal(0, 2, (50, 2, 3))
    rater = Neighbours(whiten=whiten)
    rater.study(rows, 5)
    found = rater.rate(probe)
    again = Neighbours(whiten=whiten)
    again.load(json.loads(json.dumps(rater.state())), 2)
    np.testing.assert_array_equal(found, again.rate(probe))
    for e in range(2):
        points = rater._points[e].T
        assert len(points) == 50
        asked = probe[:, e] if rater._whitening is None else rater._whitening.white(probe)[:, e]
        far, _ = NearestNeighbors(n_neighbors=Neighbours.K).fit(points).kneighbors(asked)
        np.testing.assert_allclose(found[:, e], far[:, -1] ** 2, rtol=1e-4)


def test_neighbours_know_two_regimes_where_one_mean_lies_between() -> None:
    rng = np.random.default_rng(2)
    train = rng.normal(0, 0.1, (1, 2000, 1, 2))
    train[0, :, 0] += np.where(np.arange(2000) // 100 % 2 == 0, 1.0, -1.0)[:, None]
    test = np.concatenate([train[:, :400], np.zeros((1, 100, 1, 2))], axis=1)
    between = {name: scored(name, test, train) for name in ("mahalanobis", "neighbours")}
    for name, sees in (("mahalanobis", False), ("neighbours", True)):
        scores = between[name]
        healthy_part = scores[150:200]
        assert (np.median(scores[460:]) > 3 * np.quantile(healthy_part, 0.99)) == sees, name


def test_an_ensemble_remembers_bursts_only_in_long_recordings() -> None:
    test = quiet(3000, seed=3)
    for first in range(1000, 1400, 20):
        test[0, first : first + 3] += 4.0
    scores = scored("ensemble", test, quiet(8000))
    between = [step for first in range(1200, 1400, 20) for step in range(first + 12, first + 19)]
    assert np.median(scores[between]) > np.quantile(scores[200:1000], 0.95)
    short: Any = make_detector("ensemble", view=MachineView())
    short.fit(quiet(240), ALONE, seed=0)
    assert short.state()["learned"]["memory_steps"] == 0


def test_a_damaged_state_of_a_distance_is_refused() -> None:
    detector: Any = make_detector("ensemble")
    detector.fit(healthy(4, 60), TOPOLOGY, seed=0)
    for damage in (
        lambda s: s["learned"].update(scale=[[0.0]]),
        lambda s: s["learned"]["raters"][0].update(factor=[[1.0]]),
        lambda s: s["learned"]["raters"][1].update(points=[[[1.0]]]),
        lambda s: s["learned"].pop("cap"),
        lambda s: s["learned"].update(units=[[1.0]]),
    ):
        state = json.loads(json.dumps(detector.state()))
        damage(state)
        with pytest.raises(InputError, match="detector state"):
            make_detector("ensemble").load(state)


def test_a_channel_that_never_moved_is_strange_when_it_does() -> None:
    train = quiet(500)
    train[..., 2] = 7.0
    test = train[:, :100].copy()
    test[0, 60, 0, 2] = 20.0
    test[0, 80, 0, 1] = np.nan
    for name in ("zscore", "mahalanobis", "neighbours", "threshold"):
        scores = scored(name, test, train)
        assert scores[60] == scores[:80].max(), name
        assert not np.isnan(scores).any()


def test_a_scrape_that_did_not_arrive_teaches_nothing() -> None:
    import dataclasses

    metrics = healthy(1, 60)
    for name in ("ewma", "cusum", "mahalanobis", "ensemble", "burn_rate"):
        detector: Any = make_detector(name)
        detector.fit(healthy(4, 60, seed=1), TOPOLOGY, seed=0)
        seen = []
        for lost in (False, True):
            detector.start(TOPOLOGY, keys(1))
            for t in range(2, 40):
                detector.update(observe(metrics, t))
                if lost:
                    detector.update(dataclasses.replace(observe(metrics, t), fresh=np.array([False])))
            seen.append(detector.update(observe(metrics, 40)).score)
        np.testing.assert_array_equal(seen[0], seen[1], err_msg=name)
