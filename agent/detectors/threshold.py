"""Static limits: no learning, the first thing that everybody has."""

__all__ = ["ThresholdDetector"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import FEATURES, Keys, Topology
from agent.detectors.base import ScoringDetector
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Limits of CPU utilisation and memory; those of p95 and error rate are the scenario's SLO.
CPU_LIMIT = 0.9
MEMORY_LIMIT = 0.9


class ThresholdDetector(ScoringDetector):
    """The score of a service is its worst metric as a multiple of the metric's limit.

    A metric that is nan takes no part; a service without any has no score. Calibration scales all limits together.
    """

    name: ClassVar[str] = "threshold"

    def _normal(self, scores: Floats, overall: Floats) -> tuple[Floats, Floats]:
        n_services = scores.shape[-1]
        return np.zeros(n_services + 1), np.ones(n_services + 1)

    def _begin(self, topology: Topology, keys: Keys) -> None:
        limits = {
            Metric.P95_S: topology.p95_slo_s,
            Metric.ERROR_RATE: topology.bad_frac_slo,
            Metric.CPU_UTIL: CPU_LIMIT,
            Metric.MEMORY_FRAC: MEMORY_LIMIT,
        }
        self._limits = np.array([limits[feature] for feature in FEATURES])

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        ratio = metrics[:, :-1, FEATURES] / self._limits
        score: Floats = np.fmax.reduce(ratio, axis=-1)
        return score
