"""Isolation forests as flat arrays: walked and fitted in kernels (Liu, Ting and Zhou, "Isolation Forest", ICDM 2008).

A forest is a run of 8-byte nodes. Its trees are interleaved level by level: first all roots, then all nodes of depth
1, and so on, the two children of a node side by side, so that a walk of all trees at once moves through memory in one
direction and the walks overlap in the processor. A leaf points at itself through a feature that is always -inf:
every walk takes the same number of steps, without a branch.
"""

__all__ = [
    "MAX_FEATURES", "MAX_NODES", "MAX_SAMPLES", "NODE", "Forest", "average_path", "check_nodes", "fit_forests",
    "from_sklearn", "leaf_values", "score_forests",
]  # fmt: skip

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.errors import InputError
from simcore.jit import njit, prange
from simcore.samplers import exp
from simcore.streams import mix, uniform

Floats = npt.NDArray[np.float64]
Nodes = npt.NDArray[np.void]

#: ``next`` = left child (relative to the forest) << 6 | feature; x <= cut goes left, else right = left + 1.
#: A leaf has feature ``_LEAF``, itself as left child, and in ``cut`` the index of its value.
NODE = np.dtype([("cut", np.float32), ("next", np.uint32)])

#: Features a forest may have; the column after the last holds -inf.
MAX_FEATURES = 63
#: Nodes that a forest may have.
MAX_NODES = 1 << 26
_LEAF = MAX_FEATURES
#: Largest sub-sample of a tree: leaf indices stay exact in float32.
MAX_SAMPLES = 4096
#: Unsigned, since a signed index costs a check for negative values at every step of a walk.
_MASK, _SHIFT = np.uint32(63), np.uint32(6)
#: Runs that one task scores.
_BLOCK = 25
_LN2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Forest:
    """Forests of equal make in one array."""

    nodes: Nodes  #: (node,) ``NODE``
    base: npt.NDArray[np.int64]  #: (forest,) first node
    n_trees: int
    depth: int  #: longest path, edges
    n_samples: int  #: sub-sample of a tree


def average_path(n: npt.NDArray[np.int64]) -> Floats:
    """Return the mean path length of an unsuccessful search in a tree of n samples (ibid., eq. 1, as scikit-learn)."""
    size = np.maximum(n, 3).astype(np.float64)
    path = 2.0 * (np.log(size - 1.0) + np.euler_gamma) - 2.0 * (size - 1.0) / size
    value: Floats = np.where(n <= 1, 0.0, np.where(n == 2, 1.0, path))
    return value


def leaf_values(depth: int, n_samples: int) -> Floats:
    """Return the path length of a leaf, at index ``leaf depth * (n_samples + 1) + samples in the leaf``."""
    n = np.arange(n_samples + 1)
    # the order of operations is scikit-learn's: nodes on the path, plus the rest of the path, minus one
    values: Floats = ((np.arange(depth + 1)[:, None] + 1.0 + average_path(n)) - 1.0).ravel()
    return values


@njit(internal=True)
def _score(nodes, base, n_trees, depth, values, denominator, x, at):  # type: ignore[no-untyped-def]
    """Return the anomaly score of x (64,) float32 in one forest; ``at`` (tree,) uint32 is working memory."""
    for t in range(n_trees):
        at[t] = t
    tree = nodes[base:]
    for _ in range(depth):
        for t in range(n_trees):
            node = tree[at[t]]
            following = node.next
            right = np.uint32(1) if x[following & _MASK] > node.cut else np.uint32(0)
            at[t] = (following >> _SHIFT) + right
    total = 0.0
    for t in range(n_trees):
        total += values[np.uint64(tree[at[t]].cut)]
    return exp(-(total / denominator) * _LN2)


@njit(parallel=True)
def score_forests(nodes, base, n_trees, depth, values, denominator, x, which, out):  # type: ignore[no-untyped-def]
    """Score every (run, service); equals scikit-learn's ``-score_samples``.

    Parameters
    ----------
    nodes, base, n_trees, depth
        The ``Forest``.
    values
        ``leaf_values`` of it.
    denominator
        Number of trees times the average path of the sub-sample.
    x
        (run, service, feature) float32, finite; at most ``MAX_FEATURES``.
    which
        (run, service) forest to use, -1 for none.
    out
        (run, service), overwritten; nan where there is no forest.
    """
    # all runs of a service one after the other: they mostly share a forest, which then stays in the cache
    n_blocks = (x.shape[0] + _BLOCK - 1) // _BLOCK
    for task in prange(x.shape[1] * n_blocks):
        s, first = task // n_blocks, task % n_blocks * _BLOCK
        row = np.full(64, -np.inf, np.float32)
        at = np.empty(n_trees, np.uint32)
        for run in range(first, min(first + _BLOCK, x.shape[0])):
            if which[run, s] < 0:
                out[run, s] = np.nan
                continue
            for f in range(x.shape[2]):
                row[f] = x[run, s, f]
            out[run, s] = _score(nodes, base[which[run, s]], n_trees, depth, values, denominator, row, at)


@njit(internal=True)
def _choose_split(x, members, lo, hi, key):  # type: ignore[no-untyped-def]
    """Return (feature, cut) of a random split of members[lo:hi], feature -1 if they are all equal.

    The feature is uniform over those that are not constant, the cut uniform between its extremes, as in
    scikit-learn's random splitter; a cut that rounds to the maximum becomes the minimum.
    """
    varied = 0
    for f in range(x.shape[1]):
        first = x[members[lo], f]
        for i in range(lo + 1, hi):
            if x[members[i], f] != first:
                varied += 1
                break
    if varied == 0:
        return -1, np.float32(0.0)
    pick = np.int64(uniform(key, np.uint64(0)) * varied)
    for f in range(x.shape[1]):
        low = x[members[lo], f]
        high = low
        for i in range(lo + 1, hi):
            value = x[members[i], f]
            low = min(low, value)
            high = max(high, value)
        if low == high:
            continue
        if pick == 0:
            cut = np.float32(low + (np.float64(high) - np.float64(low)) * uniform(key, np.uint64(1)))
            return f, low if cut >= high else cut
        pick -= 1
    return -1, np.float32(0.0)


@njit(internal=True)
def _part(x, members, lo, hi, f, cut):  # type: ignore[no-untyped-def]
    """Bring those of members[lo:hi] with x <= cut to the front, in place; return where the others begin."""
    mid = lo
    for i in range(lo, hi):
        if x[members[i], f] <= cut:
            members[i], members[mid] = members[mid], members[i]
            mid += 1
    return mid


@njit(internal=True)
def _fit_one(x, key, n_trees, n_samples, depth, nodes, span, members):  # type: ignore[no-untyped-def]
    """Fit one forest level by level.

    Parameters
    ----------
    x
        (sample, feature) float32.
    key
        Key of the forest.
    n_trees, n_samples, depth
        Trees, sub-sample of each (without replacement), longest path.
    nodes
        (n_trees * (2 * n_samples - 1),) ``NODE``, overwritten.
    span
        (as nodes, 3) int32 working memory: tree, first and last member of a node.
    members
        (tree, sample) int32 working memory.
    """
    for t in range(n_trees):
        tree_key = mix(key, np.uint64(t))
        for i in range(x.shape[0]):
            members[t, i] = i
        for i in range(n_samples):  # Fisher and Yates, as far as needed
            j = i + np.int64(uniform(tree_key, np.uint64(i)) * (x.shape[0] - i))
            members[t, i], members[t, j] = members[t, j], members[t, i]
        span[t, 0], span[t, 1], span[t, 2] = t, 0, n_samples
    first, end = 0, n_trees
    for level in range(depth + 1):
        free = end
        for node in range(first, end):
            t, lo, hi = span[node, 0], span[node, 1], span[node, 2]
            f, cut = -1, np.float32(0.0)
            if level < depth and hi - lo > 1:
                split_key = mix(mix(key, np.uint64(t)), np.uint64(1 << 32) + np.uint64(node))
                f, cut = _choose_split(x, members[t], lo, hi, split_key)
            if f < 0:
                nodes[node].cut = np.float32(level * (n_samples + 1) + (hi - lo))
                nodes[node].next = node << 6 | _LEAF
                continue
            mid = _part(x, members[t], lo, hi, f, cut)
            nodes[node].cut = cut
            nodes[node].next = free << 6 | f
            span[free, 0], span[free, 1], span[free, 2] = t, lo, mid
            span[free + 1, 0], span[free + 1, 1], span[free + 1, 2] = t, mid, hi
            free += 2
        first, end = end, free


@njit(parallel=True)
def fit_forests(x, keys, n_trees, n_samples, depth, nodes):  # type: ignore[no-untyped-def]
    """Fit many forests, each on its own samples, with keyed randomness.

    Parameters
    ----------
    x
        (forest, sample, feature) float32, finite.
    keys
        (forest,) uint64.
    n_trees, n_samples, depth
        Trees, sub-sample of each, longest path (scikit-learn: ceil(log2(max(n_samples, 2)))).
    nodes
        (forest, n_trees * (2 * n_samples - 1)) ``NODE``, overwritten.
    """
    for forest in prange(x.shape[0]):
        span = np.empty((nodes.shape[1], 3), np.int32)
        members = np.empty((n_trees, x.shape[1]), np.int32)
        _fit_one(x[forest], keys[forest], n_trees, n_samples, depth, nodes[forest], span, members)


def from_sklearn(models: list[Any]) -> Forest:
    """Return fitted ``sklearn.ensemble.IsolationForest`` models of equal make as flat forests.

    scikit-learn compares float32 features with float64 cuts; for float32 x, ``x <= cut`` and ``x <= the largest
    float32 not above cut`` are the same, so the smaller cuts lose nothing.
    """
    n_trees, n_samples = len(models[0].estimators_), int(models[0].max_samples_)
    trees = [[e.tree_ for e in model.estimators_] for model in models]
    depth = max(tree.max_depth for forest in trees for tree in forest)
    parts = [_flatten(forest, n_samples) for forest in trees]
    base = np.concatenate([[0], np.cumsum([part.size for part in parts])[:-1]]).astype(np.int64)
    return Forest(np.concatenate(parts), base, n_trees, depth, n_samples)


def _flatten(trees: list[Any], n_samples: int) -> Nodes:
    """Return the nodes of one forest, level by level over all its trees."""
    first = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])[:-1]])
    shift = np.repeat(first, [tree.node_count for tree in trees])
    left = np.concatenate([tree.children_left for tree in trees])
    right = np.concatenate([tree.children_right for tree in trees]) + shift
    feature = np.concatenate([tree.feature for tree in trees])
    count = np.concatenate([tree.n_node_samples for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    leaf = left < 0
    left = left + shift
    cut = threshold.astype(np.float32)
    cut = np.where(cut.astype(np.float64) > threshold, np.nextafter(cut, np.float32(-np.inf)), cut)
    nodes = np.zeros(left.size, NODE)
    level, start, depth = first, 0, 0
    while level.size:
        here = np.arange(start, start + level.size)
        inner = ~leaf[level]
        child = start + level.size + 2 * (np.cumsum(inner) - 1)
        nodes["cut"][here] = np.where(inner, cut[level], (depth * (n_samples + 1) + count[level]).astype(np.float32))
        nodes["next"][here] = np.where(inner, child << 6 | feature[level], here << 6 | _LEAF)
        parents = level[inner]
        level, start, depth = np.stack([left[parents], right[parents]], 1).ravel(), start + level.size, depth + 1
    return nodes


def check_nodes(forest: Forest, n_features: int) -> None:
    """Make sure that no walk can leave a forest's array.

    Raises
    ------
    InputError
        If a child, a feature or a leaf's value lies outside.
    """
    ends = np.append(forest.base[1:], forest.nodes.size)
    n_values = (forest.depth + 1) * (forest.n_samples + 1)
    for base, end in zip(forest.base, ends, strict=True):
        if not 0 <= base < end <= forest.nodes.size or end - base < forest.n_trees:
            raise InputError("forest: the bases of the trees lie outside its nodes")
        nodes = forest.nodes[base:end]
        feature, left = nodes["next"] & 63, nodes["next"] >> 6
        leaf = feature == _LEAF
        with np.errstate(invalid="ignore"):
            value_fits = (nodes["cut"] >= 0) & (nodes["cut"] < n_values)
        inside = np.where(
            leaf, (left == np.arange(nodes.size)) & value_fits, (left > np.arange(nodes.size)) & (left + 1 < nodes.size)
        )
        if not (inside & (leaf | (feature < n_features))).all():
            raise InputError("forest: a node points outside of it")
        # the walk takes ``depth`` steps and must then stand on a leaf
        at = np.arange(forest.n_trees)
        for _ in range(forest.depth):
            at = np.unique(np.concatenate([left[at], left[at] + ~leaf[at]]))
        if not leaf[at].all():
            raise InputError("forest: a path is longer than its depth")
