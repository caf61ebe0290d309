"""Control charts: one number per service from standardised features, each looked at by itself."""

__all__ = ["CusumDetector", "EwmaDetector", "ZScoreDetector"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Keys, Topology
from agent.detectors.staged import CLIP, StagedDetector

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class ZScoreDetector(StagedDetector):
    """The largest distance of any feature from its mean, in standard deviations (Shewhart's chart)."""

    name: ClassVar[str] = "zscore"

    def _rate(self, y: Floats) -> Floats:
        score: Floats = np.abs(y).max(-1)
        return score


class EwmaDetector(StagedDetector):
    """The largest exponentially weighted average of any feature, in its own standard deviations.

    Roberts, "Control chart tests based on geometric moving averages", Technometrics 1959; the variance of the average
    is that of independent values in the long run, ``weight / (2 - weight)``.
    """

    name: ClassVar[str] = "ewma"
    PER_RUN = (*StagedDetector.PER_RUN, "_average")
    #: Weight of a new value.
    WEIGHT: ClassVar[float] = 0.2

    def _begin(self, topology: Topology, keys: Keys) -> None:
        self._average = np.zeros((keys.size, *self._mean.shape))

    def _trace(self, z: Floats, seen: Bools) -> Floats:
        np.copyto(self._average, self._average + self.WEIGHT * (z - self._average), where=seen[..., None])
        return self._average.copy()

    def _rate(self, y: Floats) -> Floats:
        score: Floats = np.abs(y).max(-1) / np.sqrt(self.WEIGHT / (2.0 - self.WEIGHT))
        return score


class CusumDetector(StagedDetector):
    """The largest two-sided cumulative sum of any feature (Page, "Continuous inspection schemes", Biometrika 1954).

    Sums stop at ``CEILING``, so that a long incident is forgotten in finite time.
    """

    name: ClassVar[str] = "cusum"
    PER_RUN = (*StagedDetector.PER_RUN, "_sums")
    #: Shift that is not summed up, standard deviations: half of the smallest one of interest.
    SLACK: ClassVar[float] = 0.5
    #: Largest sum.
    CEILING: ClassVar[float] = 20.0 * CLIP

    def _begin(self, topology: Topology, keys: Keys) -> None:
        self._sums = [np.zeros((keys.size, *self._mean.shape)) for _ in range(2)]

    def _trace(self, z: Floats, seen: Bools) -> Floats:
        for sums, shift in zip(self._sums, (z, -z), strict=True):
            np.copyto(sums, np.clip(sums + shift - self.SLACK, 0.0, self.CEILING), where=seen[..., None])
        return np.concatenate(self._sums, -1)

    def _rate(self, y: Floats) -> Floats:
        score: Floats = y.max(-1)
        return score
