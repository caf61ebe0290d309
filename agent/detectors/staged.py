"""Detectors in three stages: what has a memory runs step by step, what has none runs over many steps at once."""

__all__ = ["StagedDetector", "TimescaleDetector", "project"]

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Keys, Topology
from agent.detectors.alarms import AlarmRule
from agent.detectors.base import ScoringDetector
from agent.detectors.views import View
from simcore.errors import InputError
from simcore.jit import njit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: A standardised feature beyond this many spreads counts as this: one wild channel must not outshout all others.
CLIP = 10.0
#: Steps of a replay that are scored at once.
_CHUNK = 1024


@njit
def project(y, centre, factor, out):  # type: ignore[no-untyped-def]
    """Fill out (row, entity, k) with ``(y - centre) @ factor``, the same for a row whatever the others are.

    Parameters
    ----------
    y
        (row, entity, feature).
    centre
        (entity, feature).
    factor
        (entity, feature, k).
    out
        Overwritten.
    """
    for row in range(y.shape[0]):
        for e in range(y.shape[1]):
            for k in range(factor.shape[2]):
                out[row, e, k] = 0.0
            for f in range(y.shape[2]):
                d = y[row, e, f] - centre[e, f]
                for k in range(factor.shape[2]):
                    out[row, e, k] += d * factor[e, f, k]


class StagedDetector(ScoringDetector):
    """Scores standardised features: ``_trace`` (with memory), ``_rate`` (without), ``_settle`` (with memory).

    A feature is standardised with its mean and standard deviation in the fault-free runs, the latter not below the
    view's floor. All arrays have one row per run, or several where there is no memory.
    """

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        super().__init__(rule=rule, view=view)
        self._mean: Floats = np.zeros((0, 0))
        self._scale: Floats = np.ones((0, 0))

    def _look(self, metrics: Floats) -> tuple[Floats, Bools]:
        """Return z (row, entity, feature), and whether the entity was seen (row, entity)."""
        x, known = self.view.features(metrics)
        return np.clip((x - self._mean) / self._scale, -CLIP, CLIP), known

    def _trace(self, z: Floats, seen: Bools) -> Floats:
        """Return (run, entity, any) of one step; ``seen`` (run, entity) says where it is new, else nothing changes."""
        return z

    def _rate(self, y: Floats) -> Floats:
        """Return (row, entity) scores of what ``_trace`` returned."""
        raise NotImplementedError

    def _settle(self, score: Floats, fresh: Bools) -> Floats:
        """Return (run, entity) final scores of one step; nan stays nan, and runs that are not fresh do not change."""
        return score

    def _study(self, y: Floats, seed: int) -> None:
        """Learn from what ``_trace`` returned of fault-free runs (run, step, entity, any)."""

    def _learn(self, metrics: Floats, topology: Topology, seed: int) -> None:
        x, known = self.view.features(metrics.reshape(-1, *metrics.shape[2:]))
        seen = known[..., None]
        n = np.maximum(known.sum(0), 1)[:, None]
        self._mean = np.where(seen, x, 0.0).sum(0) / n
        variance = (np.where(seen, x - self._mean, 0.0) ** 2).sum(0) / n
        self._scale = np.maximum(np.sqrt(variance), self.view.floor)
        self._begin(topology, np.zeros(metrics.shape[0], np.uint64))
        steps = range(metrics.shape[1])
        traced = [self._trace(*self._look(np.ascontiguousarray(metrics[:, t]))) for t in steps]
        self._study(np.stack(traced, 1), seed)

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        z, known = self._look(metrics)
        score = self._rate(self._trace(z, known & fresh[:, None]))
        return self._settle(np.where(known, score, np.nan), fresh)

    def _score_all(self, metrics: Floats) -> Floats:
        n_runs, n_steps = metrics.shape[:2]
        fresh, parts = np.ones(n_runs, np.bool_), []
        for first in range(0, n_steps, _CHUNK):
            part = np.ascontiguousarray(metrics[:, first : first + _CHUNK])
            shape = part.shape[:2]
            z, known = self._look(part.reshape(-1, *part.shape[2:]))
            z, known = z.reshape(*shape, *z.shape[1:]), known.reshape(*shape, -1)
            y = np.stack([self._trace(z[:, t], known[:, t]) for t in range(shape[1])], 1)
            score = self._rate(y.reshape(-1, *y.shape[2:])).reshape(known.shape)
            score = np.where(known, score, np.nan)
            parts += [self._settle(score[:, t], fresh) for t in range(shape[1])]
        return np.stack(parts, 1)

    def _learned(self) -> dict[str, Any]:
        return {"mean": self._mean.tolist(), "scale": self._scale.tolist()}

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        mean, scale = np.array(learned["mean"], np.float64), np.array(learned["scale"], np.float64)
        if mean.ndim != 2 or mean.shape != scale.shape or mean.shape[0] != n_services or not (scale > 0).all():
            raise InputError("detector state: means or scales do not fit the services")
        self._mean, self._scale = mean, scale


class TimescaleDetector(StagedDetector):
    """Sees every feature on three time scales: as it is, and against its exponential averages over few and many steps.

    So a value that is normal at another hour is strange if it came about suddenly, and one that lasts stays strange.
    """

    PER_RUN = (*StagedDetector.PER_RUN, "_averages")
    #: Steps of the averages (weight 1 / steps of a new value).
    SCALES: ClassVar[tuple[float, ...]] = (5.0, 30.0)

    def _begin(self, topology: Topology, keys: Keys) -> None:
        self._averages = [np.full((keys.size, *self._mean.shape), np.nan) for _ in self.SCALES]

    def _trace(self, z: Floats, seen: Bools) -> Floats:
        parts = [z]
        for average, steps in zip(self._averages, self.SCALES, strict=True):
            new = np.isnan(average)
            moved = np.where(new, z, average + (z - average) / steps)
            np.copyto(average, moved, where=seen[..., None])
            parts.append(np.where(np.isnan(average), 0.0, z - average))
        return np.concatenate(parts, -1)
