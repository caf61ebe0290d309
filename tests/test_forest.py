"""Isolation forests in kernels against scikit-learn."""

import dataclasses
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest

from agent.detectors.forest import (
    NODE,
    Forest,
    average_path,
    check_nodes,
    fit_forests,
    from_sklearn,
    leaf_values,
    score_forests,
)
from simcore.errors import InputError


def sample(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.stack(
        [rng.gamma(4, 0.02, n), rng.binomial(200, 0.01, n) / 200, rng.beta(5, 5, n), rng.normal(0.4, 0.02, n)], 1
    )
    return x.astype(np.float32)


def walk(forest: Forest, x: np.ndarray, which: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape[:2])
    denominator = float(forest.n_trees * average_path(np.array([forest.n_samples]))[0])
    values = leaf_values(forest.depth, forest.n_samples)
    score_forests(forest.nodes, forest.base, forest.n_trees, forest.depth, values, denominator, x, which, out)
    return out


def fitted(x: np.ndarray, n_trees: int, n_samples: int, seed: int = 0) -> Forest:
    """Fit one of our forests per (forest, sample, feature)."""
    depth = int(np.ceil(np.log2(max(n_samples, 2))))
    nodes = np.zeros((x.shape[0], n_trees * (2 * n_samples - 1)), NODE)
    keys = np.random.default_rng(seed).integers(0, 2**63, x.shape[0]).astype(np.uint64)
    fit_forests(x, keys, n_trees, n_samples, depth, nodes)
    base = np.arange(x.shape[0], dtype=np.int64) * nodes.shape[1]
    return Forest(nodes.reshape(-1), base, n_trees, depth, n_samples)


@pytest.mark.parametrize(("n_trees", "max_samples", "n"), [(100, 256, 2000), (7, 2, 50), (25, 33, 40), (10, 64, 64)])
def test_walked_scores_equal_scikit_learns(n_trees: int, max_samples: int, n: int) -> None:
    models = [
        IsolationForest(n_estimators=n_trees, max_samples=max_samples, random_state=s).fit(sample(n, s))
        for s in range(3)
    ]
    x = np.stack([sample(40, 10), sample(40, 11) * 3, sample(40, 12) - 1], 1).astype(np.float32)
    scores = walk(from_sklearn(models), x, np.tile(np.arange(3), (40, 1)))
    expected = np.stack([-model.score_samples(x[:, s]) for s, model in enumerate(models)], 1)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_a_value_exactly_on_a_cut_goes_left_as_in_scikit_learn() -> None:
    model = IsolationForest(n_estimators=5, max_samples=16, random_state=0).fit(
        np.arange(16, dtype=np.float32)[:, None]
    )
    cuts = np.concatenate([tree.tree_.threshold[tree.tree_.feature >= 0] for tree in model.estimators_])
    near = np.concatenate([cuts.astype(np.float32), np.nextafter(cuts.astype(np.float32), np.float32(np.inf))])[
        :, None, None
    ]
    scores = walk(from_sklearn([model]), near, np.zeros((near.shape[0], 1), np.int64))
    np.testing.assert_allclose(scores[:, 0], -model.score_samples(near[:, 0]), rtol=0, atol=1e-12)


def test_a_run_without_a_forest_has_no_score() -> None:
    forest = fitted(sample(20, 0)[None], 5, 16)
    scores = walk(forest, sample(2, 1)[:, None], np.array([[0], [-1]]))
    assert np.isfinite(scores[0, 0])
    assert np.isnan(scores[1, 0])


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return how far the mean scores (forest, probe) of two sets lie apart, in standard errors; 0.8 if alike."""
    error = np.sqrt(ours.var(0, ddof=1) / ours.shape[0] + theirs.var(0, ddof=1) / theirs.shape[0])
    return float(np.abs((ours.mean(0) - theirs.mean(0)) / error).mean())


def many(train: np.ndarray, probe: np.ndarray, n_samples: int) -> np.ndarray:
    """Return (forest, probe) scores of 20 forests of ours on the same samples."""
    forest = fitted(np.broadcast_to(train, (20, *train.shape)).copy(), 100, n_samples)
    return np.stack([walk(forest, probe[:, None], np.full((len(probe), 1), f))[:, 0] for f in range(20)])


def test_our_forests_score_and_rank_as_scikit_learns_do() -> None:
    train, probe = sample(60, 1), np.concatenate([sample(200, 2), sample(100, 3) * 2])
    theirs = np.stack(
        [
            -IsolationForest(n_estimators=100, max_samples=60, random_state=s).fit(train).score_samples(probe)
            for s in range(20)
        ]
    )
    ours = many(train, probe, 60)
    assert distance(ours, theirs) < 1.5
    np.testing.assert_allclose(ours.std(0).mean(), theirs.std(0).mean(), rtol=0.2)
    assert spearmanr(ours.mean(0), theirs.mean(0)).statistic > 0.99
    # the same comparison finds forests of another make
    assert distance(many(train, probe, 30), theirs) > 3


def test_a_path_longer_than_the_stated_depth_is_refused() -> None:
    model = IsolationForest(n_estimators=10, max_samples=32, random_state=0).fit(sample(100, 0))
    forest = from_sklearn([model])
    # a larger sub-sample keeps the leaves' values in range, so that only the depth is wrong
    with pytest.raises(InputError, match="longer than its depth"):
        check_nodes(dataclasses.replace(forest, depth=forest.depth - 1, n_samples=1000), 4)


def test_a_forest_depends_on_its_own_samples_and_key_only() -> None:
    x = np.stack([sample(48, s) for s in range(6)])
    together = fitted(x, 20, 48, seed=5)
    keys = np.random.default_rng(5).integers(0, 2**63, 6).astype(np.uint64)
    alone = np.zeros((1, 20 * 95), NODE)
    fit_forests(x[3:4], keys[3:4], 20, 48, 6, alone)
    assert together.nodes.reshape(6, -1)[3].tobytes() == alone[0].tobytes()


def test_constant_samples_give_single_leaves() -> None:
    forest = fitted(np.ones((1, 30, 4), np.float32), 10, 30)
    score = walk(forest, np.full((1, 1, 4), 9.0, np.float32), np.zeros((1, 1), np.int64))
    model = IsolationForest(n_estimators=10, max_samples=30, random_state=0).fit(np.ones((30, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(score[0, 0], -model.score_samples(np.full((1, 4), 9.0))[0], atol=1e-12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda nodes: nodes["next"].__setitem__(0, (10**6) << 6), "points outside"),
        (lambda nodes: nodes["next"].__setitem__(0, (100 << 6) | 5), "points outside"),
        (lambda nodes: nodes["cut"].__setitem__(nodes["next"] & 63 == 63, np.nan), "points outside"),
    ],
)
def test_damaged_nodes_are_refused(damage, message) -> None:  # type: ignore[no-untyped-def]
    model = IsolationForest(n_estimators=10, max_samples=32, random_state=0).fit(sample(100, 0))
    forest = from_sklearn([model])
    check_nodes(forest, 4)
    damage(forest.nodes)
    with pytest.raises(InputError, match=message):
        check_nodes(forest, 4)


def test_bases_outside_the_nodes_are_refused() -> None:
    model = IsolationForest(n_estimators=10, max_samples=32, random_state=0).fit(sample(100, 0))
    forest = from_sklearn([model])
    with pytest.raises(InputError, match="bases"):
        check_nodes(dataclasses.replace(forest, base=np.array([forest.nodes.size - 3])), 4)
