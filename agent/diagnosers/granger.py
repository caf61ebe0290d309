"""Learns who drives whom from the metrics alone, and blames the service that drives the trouble."""

__all__ = ["Granger", "influence"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.diagnosers.correlation import correlations
from agent.diagnosers.ranking import ScoreRank
from agent.diagnosers.view import View
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]

#: Partial correlations below this many standard errors are no influence.
_Z = 2.0
_RESTART = 0.15
_ROUNDS = 40


def influence(series: Floats) -> Floats:
    """Return (row, from, to) how much the past of one series tells of another beyond that one's own past.

    Granger's test with one lag, as the partial correlation of x(t - 1) and y(t) given y(t - 1) (Geweke 1982: its
    square is the share of the error that x removes); 0 where it is below ``_Z`` standard errors.

    Parameters
    ----------
    series
        (row, time, n), nan where unknown.
    """
    before, after = series[:, :-1], series[:, 1:]
    cross = correlations(before[:, :, :, None], after[:, :, None, :])
    own = np.diagonal(cross, axis1=1, axis2=2)[:, None, :]
    joint = correlations(before[:, :, :, None], before[:, :, None, :])
    left = np.sqrt(np.maximum((1.0 - own**2) * (1.0 - joint**2), 1e-9))
    partial = np.clip((cross - own * joint) / left, -1.0, 1.0)
    pairs = (~np.isnan(before[:, :, :, None]) & ~np.isnan(after[:, :, None, :])).sum(1)
    found = np.where(np.abs(partial) * np.sqrt(np.maximum(pairs - 3, 0)) > _Z, np.abs(partial), 0.0)
    found[:, range(found.shape[1]), range(found.shape[1])] = 0.0
    return found


class Granger(ScoreRank):
    """A causal graph between the services learned with Granger's test, walked against its arrows from the symptom.

    The graph is never given: it is learned from the latency (or errors, whichever is the system's trouble) of the
    recent scrapes and of normal ones, the system's own row among them. A walker starts at the system and goes to
    what drives it, drawn to services with much harm; where it ends up is the suspect.
    """

    name: ClassVar[str] = "granger"
    parts: ClassVar[tuple[str, ...]] = ("share of a random walk up a learned causal graph",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the share of time that the walk spends at each service."""
        errors = view.symptom()[:, 1] > 0.5
        recent = _chosen(view.series, errors)
        normal = _chosen(view.normal(), errors)
        drives = np.maximum(influence(recent), influence(normal))
        harm = np.concatenate([np.minimum(view.harm(), 50.0), np.zeros((drives.shape[0], 1))], 1) + 0.01
        n = drives.shape[1]
        step = (drives.transpose(0, 2, 1) + 0.02) * harm[:, None, :]
        step[:, range(n), range(n)] = 0.1 * harm
        step = step / step.sum(2, keepdims=True)
        start = np.zeros(n)
        start[-1] = 1.0
        at = np.broadcast_to(start, harm.shape)
        for _ in range(_ROUNDS):
            at = (1.0 - _RESTART) * (at[:, :, None] * step).sum(1) + _RESTART * start
        return np.where((view.harm() > 0).any(1, keepdims=True), at[:, :-1], 0.0)[..., None]


def _chosen(series: Floats, errors: npt.NDArray[np.bool_]) -> Floats:
    """Return (row, time, service + 1) error rates in the rows where errors are the trouble, else p95."""
    return np.where(errors[:, None, None], series[..., Metric.ERROR_RATE], series[..., Metric.P95_S])
