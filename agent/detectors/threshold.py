"""Static limits: no learning, the first thing that everybody has."""

__all__ = ["ThresholdDetector"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.detectors.base import ScoringDetector

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class ThresholdDetector(ScoringDetector):
    """The score is the worst metric as a multiple of its limit.

    The limits of a service are the SLO and those of CPU and memory; of a machine, the range each channel was seen in.
    A metric that is nan takes no part; a service without any has no score. Calibration scales all limits together.
    """

    name: ClassVar[str] = "threshold"

    def _normal(self, scores: Floats, overall: Floats) -> tuple[Floats, Floats]:
        n_services = scores.shape[-1]
        return np.zeros(n_services + 1), np.ones(n_services + 1)

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        score: Floats = np.fmax.reduce(self.view.strain(metrics), axis=-1)
        return score

    def _score_all(self, metrics: Floats) -> Floats:
        score = self._score(metrics.reshape(-1, *metrics.shape[2:]), np.ones(1, np.bool_))
        return score.reshape(*metrics.shape[:2], -1)
