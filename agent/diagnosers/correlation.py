"""Blames the service whose metrics move with the symptom."""

__all__ = ["Correlation", "correlations"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.diagnosers.ranking import ScoreRank
from agent.diagnosers.view import COMPARED, View
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
#: A correlation rests on this many scrapes at least.
_MIN_PAIRS = 3


def correlations(x: Floats, y: Floats) -> Floats:
    """Return Pearson's r along axis 1 of two arrays (row, time, ...), 0 where undefined; nan are left out."""
    known = ~np.isnan(x) & ~np.isnan(y)
    n = np.maximum(known.sum(1, keepdims=True), 1)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    x, y = (np.where(known, v - v.sum(1, keepdims=True) / n, 0.0) for v in (x, y))
    xx, yy, xy = (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)
    fit = (known.sum(1) >= _MIN_PAIRS) & (xx > 1e-12) & (yy > 1e-12)
    r: Floats = np.divide(xy, np.sqrt(xx * yy), out=np.zeros(xy.shape), where=fit)
    return r


class Correlation(ScoreRank):
    """The largest Pearson correlation, of either sign, of any metric with the system's p95 or error rate.

    Over the recent scrapes, whichever symptom weighs more (``View.symptom``).
    """

    name: ClassVar[str] = "correlation"
    parts: ClassVar[tuple[str, ...]] = ("largest correlation with the symptom",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the largest correlation."""
        errors = view.symptom()[:, 1] > 0.5
        system = view.series[:, :, -1]
        symptom = np.where(errors[:, None], system[..., Metric.ERROR_RATE], system[..., Metric.P95_S])
        r = correlations(view.series[:, :, :-1, COMPARED], symptom[:, :, None, None])
        largest: Floats = np.abs(r).max(2)
        return largest[..., None]
