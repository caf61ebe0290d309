"""How far a vector is from those seen in healthy times: the measures of distance that detectors combine."""

__all__ = ["Mahalanobis", "Neighbours", "Rater", "covariance", "nearest"]

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.detectors.staged import project
from simcore.errors import InputError
from simcore.jit import njit

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

#: Added to the variance along every direction, in squared standard deviations of a feature: how much a direction in
#: which the features never moved may move before it counts.
RIDGE = 0.05


class Rater(Protocol):
    """A distance that is learned from healthy vectors."""

    def study(self, rows: Floats, seed: int) -> None:
        """Learn from healthy vectors (row, entity, feature)."""

    def rate(self, y: Floats) -> Floats:
        """Return (row, entity) squared distances of (row, entity, feature)."""

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore it; raises ``InputError``, ``KeyError``, ``TypeError`` or ``ValueError``."""


def covariance(rows: Floats) -> Floats:
    """Return (feature, feature) of (row, feature), summed in one order on any number of threads."""
    centred = rows - rows.mean(0)
    total: Floats = np.einsum("if,ig->fg", centred, centred, optimize=False)
    total /= max(1, rows.shape[0] - 1)
    return total


class Mahalanobis:
    """The squared length after whitening: distances count in units of how the features usually move together.

    Mahalanobis, "On the generalised distance in statistics", 1936; ``RIDGE`` regularises the covariance.
    """

    def __init__(self) -> None:
        self._centre: Floats = np.zeros((0, 0))
        self._factor: Floats = np.zeros((0, 0, 0))

    def study(self, rows: Floats, seed: int) -> None:
        """Learn mean and whitening per entity."""
        factors = []
        for e in range(rows.shape[1]):
            values, vectors = np.linalg.eigh(covariance(rows[:, e]))
            factors.append(vectors / np.sqrt(np.maximum(values, 0.0) + RIDGE))
        self._centre, self._factor = rows.mean(0), np.ascontiguousarray(np.stack(factors))

    def white(self, y: Floats) -> Floats:
        """Return (row, entity, feature) whitened."""
        out = np.empty(y.shape)
        project(np.ascontiguousarray(y), self._centre, self._factor, out)
        return out

    def rate(self, y: Floats) -> Floats:
        """Return (row, entity) squared distances from the mean."""
        score: Floats = np.square(self.white(y)).sum(-1)
        return score

    def state(self) -> dict[str, Any]:
        """Return mean and whitening."""
        return {"centre": self._centre.tolist(), "factor": self._factor.tolist()}

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore them."""
        centre, factor = np.array(state["centre"], np.float64), np.array(state["factor"], np.float64)
        if centre.shape[:1] != (n_entities,) or factor.shape != (*centre.shape, *centre.shape[1:]):
            raise InputError("detector state: mean or whitening do not fit the services")
        self._centre, self._factor = centre, factor


@njit
def nearest(y, points, k, out):  # type: ignore[no-untyped-def]
    """Fill out (row, entity) float64 with the squared distance to the k-th nearest point.

    Parameters
    ----------
    y
        (row, entity, feature) float32.
    points
        (entity, feature, point) float32, at least k.
    k
        Which neighbour, from 1.
    out
        Overwritten.
    """
    n = points.shape[2]
    distance = np.empty(n, np.float32)
    best = np.empty(k, np.float32)
    for row in range(y.shape[0]):
        for e in range(y.shape[1]):
            for i in range(n):
                distance[i] = 0.0
            for f in range(y.shape[2]):
                x = y[row, e, f]
                for i in range(n):
                    d = x - points[e, f, i]
                    distance[i] += d * d
            for j in range(k):
                best[j] = np.inf
            for i in range(n):
                d = distance[i]
                if d < best[k - 1]:
                    j = k - 1
                    while j > 0 and best[j - 1] > d:
                        best[j] = best[j - 1]
                        j -= 1
                    best[j] = d
            out[row, e] = best[k - 1]


class Neighbours:
    """The squared distance to the ``K``-th nearest of a sample of healthy vectors, whitened or as they are.

    Ramaswamy, Rastogi and Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000. Unlike
    one mean and one covariance it knows several regimes. The sample is every tenth vector, at most ``MOST``.
    """

    K = 5
    MOST = 2_000

    def __init__(self, *, whiten: bool) -> None:
        self._whitening = Mahalanobis() if whiten else None
        self._points: Singles = np.zeros((0, 0, 0), np.float32)

    def study(self, rows: Floats, seed: int) -> None:
        """Learn the whitening, and draw the sample."""
        if self._whitening is not None:
            self._whitening.study(rows, seed)
        size = min(rows.shape[0], max(10 * self.K, min(self.MOST, rows.shape[0] // 10)))
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x6E65,))))
        drawn = np.sort(generator.choice(rows.shape[0], size, replace=False))
        sample = self._white(rows[drawn])
        # few rows: the furthest of them stand in for those that are missing
        sample = np.concatenate([sample] + [sample[-1:]] * max(0, self.K - size))
        self._points = np.ascontiguousarray(sample.transpose(1, 2, 0))

    def _white(self, y: Floats) -> Singles:
        return np.ascontiguousarray(y if self._whitening is None else self._whitening.white(y), np.float32)

    def rate(self, y: Floats) -> Floats:
        """Return (row, entity) squared distances to the neighbour."""
        out = np.empty(y.shape[:2])
        nearest(self._white(y), self._points, self.K, out)
        return out

    def state(self) -> dict[str, Any]:
        """Return whitening and sample."""
        whitening = None if self._whitening is None else self._whitening.state()
        return {"whitening": whitening, "points": self._points.tolist()}

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore them."""
        points = np.array(state["points"], np.float32)
        if points.ndim != 3 or points.shape[0] != n_entities or points.shape[2] < self.K:
            raise InputError("detector state: the sample does not fit the services")
        if self._whitening is not None:
            self._whitening.load(state["whitening"], n_entities)
        self._points = np.ascontiguousarray(points)
