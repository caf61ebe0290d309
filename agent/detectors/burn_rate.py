"""Multi-window burn-rate alerts (Beyer et al., "The Site Reliability Workbook", 2018, ch. 5)."""

__all__ = ["BurnRateDetector"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Keys, Topology
from agent.detectors.base import ScoringDetector

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class BurnRateDetector(ScoringDetector):
    """The score is the burn rate as a multiple of what pages, in the pair of windows that is closest to paging.

    Both the long and the short window of a pair must burn: the long one says that it matters, the short one that it
    is not over. The windows are the workbook's, 1 h and 5 min, 6 h and 30 min, scaled to a 20-minute episode of
    5-second steps. What is bad of a service are failed and slow answers, in units of the SLO's share; of a machine,
    channels outside the range in which they were seen, in percent.
    """

    name: ClassVar[str] = "burn_rate"
    PER_RUN = (*ScoringDetector.PER_RUN, "_ring", "_sums", "_taken")
    #: (steps of the long window, of the short one, burn rate that pages)
    WINDOWS: ClassVar[tuple[tuple[int, int, float], ...]] = ((12, 1, 14.4), (72, 6, 6.0))

    def _normal(self, scores: Floats, overall: Floats) -> tuple[Floats, Floats]:
        n_services = scores.shape[-1]
        return np.zeros(n_services + 1), np.ones(n_services + 1)

    def _begin(self, topology: Topology, keys: Keys) -> None:
        longest = max(long for long, _, _ in self.WINDOWS)
        shape = (keys.size, topology.n_services)
        self._ring = np.zeros((keys.size, longest, topology.n_services))
        self._sums = [[np.zeros(shape), np.zeros(shape)] for _ in self.WINDOWS]  # of the long window, of the short
        self._taken = np.zeros(keys.size, np.int64)

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        bad = self.view.bad(metrics)
        runs = np.flatnonzero(fresh)
        value = np.where(np.isnan(bad[runs]), 0.0, bad[runs])
        longest, at = self._ring.shape[1], self._taken[runs]
        worst = np.zeros(bad.shape)
        for pair, (long, short, page) in zip(self._sums, self.WINDOWS, strict=True):
            for sums, steps in zip(pair, (long, short), strict=True):
                gone = self._ring[runs, (at - steps) % longest]
                sums[runs] = np.maximum(0.0, sums[runs] + value - gone)
            worst = np.maximum(worst, np.minimum(pair[0] / long, pair[1] / short) / page)
        self._ring[runs, at % longest] = value
        self._taken[runs] += 1
        return np.where(np.isnan(bad), np.nan, worst)
