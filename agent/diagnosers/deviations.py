"""Blames the service whose metrics lie farthest from normal; four ways to say how far, none looks at the call graph."""

__all__ = ["Baro", "MaxZ", "NSigma"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.diagnosers.ranking import ScoreRank
from agent.diagnosers.view import COMPARED, View
from agent.history import FLOORS

Floats = npt.NDArray[np.float64]


def _moments(view: View) -> tuple[Floats, Floats]:
    """Return (row, 1, service, compared) mean and standard deviation of normal times, the latter not below floors."""
    normal = view.history.normal[view.runs][:, :, :-1, COMPARED]
    known = ~np.isnan(normal)
    count = known.sum(1, keepdims=True)
    filled = np.where(known, normal, 0.0)
    mean = np.divide(filled.sum(1, keepdims=True), count, out=np.full(count.shape, np.nan), where=count > 0)
    square = np.where(known, (normal - mean) ** 2, 0.0).sum(1, keepdims=True)
    floors = FLOORS[COMPARED]
    spread = np.sqrt(square / np.maximum(count - 1, 1))
    spread = np.maximum(spread, np.maximum(floors[:, 0] * np.abs(mean), floors[:, 1]))
    return mean, np.where(spread > 0, spread, np.nan)


def _farthest(view: View, centre: Floats, scale: Floats) -> Floats:
    """Return (row, service, 1) the largest distance from the centre of any metric at any scrape since the onset."""
    series = view.series[:, :, :-1, COMPARED]
    z = np.abs(series - centre) / scale
    z = np.where(view.since[:, :, None, None] & ~np.isnan(z), z, 0.0)
    largest: Floats = z.max((1, 3))
    return largest[..., None]


class MaxZ(ScoreRank):
    """The largest z-score of any metric, of the mean of the scrapes since the onset."""

    name: ClassVar[str] = "max_z"
    parts: ClassVar[tuple[str, ...]] = ("largest z-score of its metrics",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the largest z-score."""
        mean, spread = _moments(view)
        z = np.abs(view.now[:, None, :-1, COMPARED] - mean) / spread
        largest: Floats = np.where(np.isnan(z), 0.0, z).max((1, 3))
        return largest[..., None]


class NSigma(ScoreRank):
    """The largest distance from the normal mean of any metric at any scrape since the onset, in standard deviations.

    As in RCAEval (Pham et al. 2024); mean and standard deviation are of normal times.
    """

    name: ClassVar[str] = "n_sigma"
    parts: ClassVar[tuple[str, ...]] = ("a scrape away from the mean by standard deviations",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the largest distance."""
        return _farthest(view, *_moments(view))


class Baro(ScoreRank):
    """As ``n_sigma``, with the median for the mean and the distance of the quartiles for the standard deviation.

    The RobustScorer of BARO (Pham et al., FSE 2024).
    """

    name: ClassVar[str] = "baro"
    parts: ClassVar[tuple[str, ...]] = ("a scrape away from the median by quartile distances",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the largest distance."""
        centre, scale = (part[:, None, :-1, COMPARED] for part in (view.centre, view.scale))
        return _farthest(view, centre, scale)
