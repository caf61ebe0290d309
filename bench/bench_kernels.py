"""Single kernels beside what does the same elsewhere: metric windows and NumPy, forest scores and scikit-learn."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from agent.detectors.forest import average_path, from_sklearn, leaf_values, score_forests
from bench.conftest import Timed
from simcore.jit import njit
from simcore.windows import END, N_AREAS, N_METRICS, N_TALLIES, N_TOTALS, Metric, close_window

Floats = npt.NDArray[np.float64]

_N_WINDOWS, _N_ENDS, _N_SERVICES = 500, 1_000, 3
_N_RUNS = 2_000


@njit
def _close_all(ends, tally, area, cores, scratch, metrics, totals):  # type: ignore[no-untyped-def]
    for window in range(ends.shape[0]):
        close_window(
            ends[window], ends.shape[1], tally, area, cores, 5.0, scratch, metrics[window], totals[window]
        )  # fmt: skip


def _ends() -> npt.NDArray[np.void]:
    """Return (window, span) spans that ended, all of them successes."""
    rng = np.random.default_rng(1)
    ends = np.zeros((_N_WINDOWS, _N_ENDS), END)
    ends["latency_s"] = rng.gamma(2.0, 0.02, ends.shape)
    ends["service"] = rng.integers(0, _N_SERVICES + 1, ends.shape)
    return ends


def _p95_of(ends: npt.NDArray[np.void]) -> Floats:
    found = np.full((_N_WINDOWS, _N_SERVICES + 1), np.nan)
    for window in range(_N_WINDOWS):
        for row in range(_N_SERVICES + 1):
            latency_s = ends["latency_s"][window][ends["service"][window] == row]
            found[window, row] = np.quantile(latency_s, 0.95, method="inverted_cdf")
    return found


def test_numpys_quantiles(timed: Timed) -> None:
    ends = _ends()

    def done(p95_s: Floats) -> dict[str, int]:
        assert np.isfinite(p95_s).all()
        return {"spans": ends.size}

    # one quantile; the kernel below makes three of them and all the other metrics
    timed("windows", "NumPy, p95 only", lambda: _p95_of(ends), done=done, rounds=5)


def test_the_windows_kernel(timed: Timed) -> None:
    ends = _ends()
    tally, area = np.zeros((_N_SERVICES + 1, N_TALLIES), np.int64), np.ones((_N_SERVICES, N_AREAS))
    cores, scratch = np.ones(_N_SERVICES), np.zeros(_N_ENDS)
    metrics = np.zeros((_N_WINDOWS, _N_SERVICES + 1, N_METRICS))
    totals = np.zeros((_N_WINDOWS, N_TOTALS), np.int64)

    def piece() -> Floats:
        _close_all(ends, tally, area, cores, scratch, metrics, totals)
        return metrics

    def done(found: Floats) -> dict[str, int]:
        np.testing.assert_array_equal(found[..., Metric.P95_S], _p95_of(ends))
        assert found[..., Metric.OK].sum() == ends.size
        return {"spans": ends.size}

    timed("windows", "kernel, all metrics", piece, done=done)


def _models() -> tuple[list[Any], npt.NDArray[np.float32]]:
    """Return a fitted forest per service, and (run, service, feature) rows to score."""
    rng = np.random.default_rng(2)
    fitted = [
        IsolationForest(n_estimators=100, max_samples=512, random_state=service).fit(
            rng.normal(size=(2_000, 4)).astype(np.float32)
        )
        for service in range(_N_SERVICES)
    ]
    return fitted, rng.normal(size=(_N_RUNS, _N_SERVICES, 4)).astype(np.float32)


def _score_sklearn(models: list[Any], x: npt.NDArray[np.float32]) -> Floats:
    return np.stack([-model.score_samples(x[:, service]) for service, model in enumerate(models)], axis=1)


def test_scikit_learns_scores(timed: Timed) -> None:
    models, x = _models()

    def done(scores: Floats) -> dict[str, int]:
        assert scores.shape == (_N_RUNS, _N_SERVICES)
        return {"scores": scores.size}

    timed("forest", "scikit-learn", lambda: _score_sklearn(models, x), done=done)


def test_the_forest_kernel(timed: Timed) -> None:
    models, x = _models()
    forest = from_sklearn(models)
    values = leaf_values(forest.depth, forest.n_samples)
    denominator = float(forest.n_trees * average_path(np.array([forest.n_samples]))[0])
    which = np.broadcast_to(np.arange(_N_SERVICES), x.shape[:2]).copy()
    out = np.empty(x.shape[:2])

    def piece() -> Floats:
        score_forests(forest.nodes, forest.base, forest.n_trees, forest.depth, values, denominator, x, which, out)
        return out

    def done(scores: Floats) -> dict[str, int]:
        np.testing.assert_allclose(scores, _score_sklearn(models, x), rtol=0, atol=1e-12)
        return {"scores": scores.size}

    timed("forest", "kernel", piece, done=done)
