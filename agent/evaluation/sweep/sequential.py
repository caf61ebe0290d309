"""Intervals for the mean of a bounded outcome that hold at whatever moment one stops to look.

An ordinary interval holds for a number of runs fixed beforehand. Whoever adds runs until it is narrow, or until it
leaves a level, picks the moment at which it errs. A confidence sequence errs at no moment with the stated probability,
so it holds at every stopping rule, also one that looks at other cells.

The one used here bets against a mean. If the outcomes x in [0, 1] have mean m, then for every p in (0, 1) the wealth
``prod(x p / m + (1 - x)(1 - p) / (1 - m))`` is a martingale that begins with 1, and so is its mixture over p; by
Ville's inequality (1939) it ever reaches 1 / alpha with probability alpha at most. The interval is what has not been
refuted so. With outcomes 0 and 1 that is Robbins' mixture (1970, Ann. Math. Stat. 41, 1397) over a beta prior; for
bounded outcomes it is the universal portfolio of Orabona and Jun (2024, IEEE Trans. Inf. Theory 70, 436), a betting
interval in the sense of Waudby-Smith and Ramdas (2024, J. R. Stat. Soc. B 86, 1), and adapts to the variance. The
mixture is Jeffreys' prior on a fixed grid of p: any probabilities keep it a martingale.

Each factor is a sum of log-convex functions of m, so the wealth is log-convex and the interval has no holes. It does
not depend on the order of the outcomes: what is stored of a cell is enough to go on.
"""

__all__ = ["confidence_interval", "fixed_runs", "log_wealth"]

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agent.evaluation.statistics import LEVEL, Interval

Floats = npt.NDArray[np.float64]

#: Points of the mixture: equal probabilities at the quantiles of the arcsine law, which is Jeffreys' prior.
_POINTS = 128
_BETS = np.sin((np.arange(_POINTS) + 0.5) * (0.5 * np.pi / _POINTS)) ** 2
#: Ends of the interval are found to this.
_TOLERANCE = 1e-6


def log_wealth(values: Floats, mean: float) -> float:
    """Return the logarithm of what a unit bet against ``mean`` has become.

    Parameters
    ----------
    values
        (run,) outcomes in [0, 1].
    mean
        In (0, 1), ends excluded.
    """
    outcomes, counts = np.unique(values, return_counts=True)
    return _log_wealth(outcomes, counts, mean)


def _log_wealth(outcomes: Floats, counts: npt.NDArray[np.int64], mean: float) -> float:
    """Return ``log_wealth`` of distinct outcomes and how often each came."""
    factors = np.outer(outcomes, _BETS / mean) + np.outer(1.0 - outcomes, (1.0 - _BETS) / (1.0 - mean))
    wealth = counts @ np.log(factors)
    top = float(wealth.max())
    return top + math.log(float(np.exp(wealth - top).mean()))


def confidence_interval(values: Floats, *, level: float = LEVEL) -> Interval:
    """Return the mean of outcomes in [0, 1] with an interval that holds at every moment; (nan, 0, 1) without any.

    Parameters
    ----------
    values
        (run,) independent outcomes with the same mean, in any order.
    level
        Probability that the mean is inside at all moments.

    Raises
    ------
    ValueError
        If an outcome is not in [0, 1].
    """
    if not values.size:
        return Interval(math.nan, 0.0, 1.0)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError(f"outcomes must be in [0, 1], got {values.min():g} to {values.max():g}")
    outcomes, counts = np.unique(values, return_counts=True)
    mean = float(counts @ outcomes / values.size)
    bound = -math.log1p(-level)

    def refuted(candidate: float) -> float:
        return _log_wealth(outcomes, counts, candidate) - bound

    # The wealth against the mean itself is at most 1 by Jensen's inequality, so the mean is always inside.
    inner = min(max(mean, _TOLERANCE), 1.0 - _TOLERANCE)
    return Interval(mean, min(mean, _end(refuted, 0.0, inner)), max(mean, _end(refuted, 1.0, inner)))


def _end(refuted: Callable[[float], float], outer: float, inner: float) -> float:
    """Return where between ``outer`` (0 or 1) and ``inner`` a convex function that is negative at ``inner`` is zero."""
    from scipy.optimize import brentq

    edge = abs(outer - _TOLERANCE)
    if not refuted(edge) > 0.0 or not refuted(inner) < 0.0:
        return outer
    return float(brentq(refuted, edge, inner, xtol=_TOLERANCE, rtol=1e-6))


def fixed_runs(spread: float, half_width: float, *, level: float = LEVEL) -> int:
    """Return how many runs, fixed beforehand, give an ordinary t interval of a half-width.

    Parameters
    ----------
    spread
        Standard deviation of the outcomes.
    half_width
        To be reached, above 0, in the units of the outcomes.
    level
        Of the interval.
    """
    from scipy.special import stdtrit

    runs = 2
    while spread * float(stdtrit(runs - 1, 0.5 + 0.5 * level)) > half_width * math.sqrt(runs):
        runs += max(1, runs // 200)
    return runs
