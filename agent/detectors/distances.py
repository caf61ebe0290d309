"""Detectors that ask how far from healthy all features are together, on several time scales; and their ensemble."""

__all__ = ["EnsembleDetector", "MahalanobisDetector", "NeighboursDetector"]

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Keys, Topology
from agent.detectors.alarms import AlarmRule
from agent.detectors.raters import Mahalanobis, Neighbours, Rater
from agent.detectors.staged import TimescaleDetector
from agent.detectors.views import View
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Quantile of the healthy scores that is the unit in which raters are averaged.
_UNIT = 0.99


class _RatedDetector(TimescaleDetector):
    """The mean of the raters' distances, each in units of a high quantile of its healthy ones."""

    def __init__(self, raters: tuple[Rater, ...], *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        super().__init__(rule=rule, view=view)
        self._raters = raters
        self._units: Floats = np.ones((len(raters), 0))

    def _study(self, y: Floats, seed: int) -> None:
        rows = y.reshape(-1, *y.shape[2:])
        for rater in self._raters:
            rater.study(rows, seed)
        scores = [rater.rate(rows) for rater in self._raters]
        self._units = np.stack([np.maximum(np.quantile(score, _UNIT, axis=0), 1e-9) for score in scores])
        self._remember(self._mean_of(scores), y.shape[1])

    def _remember(self, scores: Floats, n_steps: int) -> None:
        """Learn from the healthy scores (row, entity) of runs of so many steps."""

    def _mean_of(self, scores: list[Floats]) -> Floats:
        """Return (row, entity) the mean of the raters' scores in their units."""
        total = np.zeros(scores[0].shape)
        for score, unit in zip(scores, self._units, strict=True):
            total += score / unit
        return total / len(scores)

    def _rate(self, y: Floats) -> Floats:
        return self._mean_of([rater.rate(y) for rater in self._raters])

    def _learned(self) -> dict[str, Any]:
        raters = [rater.state() for rater in self._raters]
        return super()._learned() | {"raters": raters, "units": self._units.tolist()}

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        super()._restore(learned, n_services)
        units = np.array(learned["units"], np.float64)
        if units.shape != (len(self._raters), n_services) or len(learned["raters"]) != len(self._raters):
            raise InputError("detector state: the raters do not fit the services")
        for rater, state in zip(self._raters, learned["raters"], strict=True):
            rater.load(state, n_services)
        self._units = units


class MahalanobisDetector(_RatedDetector):
    """Squared Mahalanobis distance of the features on three time scales together."""

    name: ClassVar[str] = "mahalanobis"

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        super().__init__((Mahalanobis(),), rule=rule, view=view)


class NeighboursDetector(_RatedDetector):
    """Squared distance to the fifth nearest healthy vector, whitened, on three time scales together."""

    name: ClassVar[str] = "neighbours"

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        super().__init__((Neighbours(whiten=True),), rule=rule, view=view)


class EnsembleDetector(_RatedDetector):
    """The mean of three distances, which then accumulates evidence.

    Mahalanobis, and nearest neighbours both whitened and not: the first knows one regime and every correlation, the
    second several regimes, the third the features as they are, where whitening blows up noise. The score of a step is
    the average over about ``SHORT`` steps, plus, capped at what healthy runs reach now and then, the average over a
    long time: incidents come in bursts, and what was strange of late speaks for what is strange now. A long time is
    ``MEMORY`` of the length of the runs that it learned from; where that is no more than the short one (the episodes of
    the simulator) there is none.
    """

    name: ClassVar[str] = "ensemble"
    PER_RUN = (*_RatedDetector.PER_RUN, "_recent", "_memory")
    SHORT: ClassVar[int] = 3
    MEMORY: ClassVar[float] = 0.01
    #: Quantile of the healthy scores at which a step's share in the memory ends.
    CAP: ClassVar[float] = 0.999

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        raters = (Mahalanobis(), Neighbours(whiten=True), Neighbours(whiten=False))
        super().__init__(raters, rule=rule, view=view)
        self._memory_steps = 0
        self._usual: Floats = np.zeros(0)
        self._cap: Floats = np.zeros(0)

    def _remember(self, scores: Floats, n_steps: int) -> None:
        steps = int(self.MEMORY * n_steps)
        self._memory_steps = steps if steps > self.SHORT else 0
        self._usual, self._cap = np.quantile(scores, [0.5, self.CAP], axis=0)

    def _begin(self, topology: Topology, keys: Keys) -> None:
        super()._begin(topology, keys)
        shape = (keys.size, self._usual.size or topology.n_services)
        self._recent = np.full(shape, np.nan)
        self._memory = np.broadcast_to(self._usual, shape).copy() if self._usual.size else np.zeros(shape)

    def _settle(self, score: Floats, fresh: Bools) -> Floats:
        new = fresh[:, None] & ~np.isnan(score)
        recent, memory = self._recent, self._memory
        moved = np.where(np.isnan(recent), score, recent + (score - recent) * (2.0 / (self.SHORT + 1)))
        np.copyto(recent, moved, where=new)
        total = recent
        if self._memory_steps:
            moved = memory + (np.minimum(score, self._cap) - memory) * (2.0 / (self._memory_steps + 1))
            np.copyto(memory, moved, where=new)
            total = recent + memory
        return np.where(np.isnan(score), np.nan, total)

    def _learned(self) -> dict[str, Any]:
        own = {"memory_steps": self._memory_steps, "usual": self._usual.tolist(), "cap": self._cap.tolist()}
        return super()._learned() | own

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        super()._restore(learned, n_services)
        usual, cap = np.array(learned["usual"], np.float64), np.array(learned["cap"], np.float64)
        if not usual.shape == cap.shape == (n_services,):
            raise InputError("detector state: the memory does not fit the services")
        self._memory_steps, self._usual, self._cap = int(learned["memory_steps"]), usual, cap
