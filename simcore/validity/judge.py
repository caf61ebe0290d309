"""From what runs showed to a verdict: intervals that are right for all comparisons together, and precise enough.

Runs of a session are independent, so their means are; an interval comes from the variance between runs. Every row is
judged at the level ``FAMILY_ERROR / comparisons`` (Bonferroni), so that a simulator without a fault misses no
row with probability 1 - ``FAMILY_ERROR`` at least, however the rows depend on one another.
"""

__all__ = ["FAMILY_ERROR", "PRECISION", "ROUNDING", "Estimate", "Rule", "Verdict", "estimate", "judge"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

#: Probability that a simulator without a fault misses one row or more of the whole table.
FAMILY_ERROR = 0.01

#: Largest half-width of an interval, as a share of the theoretical value (of 1 if that is 0).
PRECISION = 0.02

#: Largest departure from what must hold exactly: sums of 1e5 float64 in another order.
ROUNDING = 1e-9

Sample = float | npt.NDArray[np.float64]


class Rule(Enum):
    """How the values of the runs become an estimate, and what it is held against."""

    MEAN = "mean"  #: the mean over runs with Student's interval: theory must lie inside
    AT_MOST = "at most"  #: the same interval: all of it above theory is a miss
    DISTRIBUTION = "distribution"  #: pooled samples that must be uniform on [0, 1): greatest distance of the two
    IDENTITY = "identity"  #: the largest departure of any run, which may be rounding only


class Verdict(Enum):
    """What a row says."""

    OK = "ok"
    MISS = "MISS"
    IMPRECISE = "IMPRECISE"  #: theory lies within, but in an interval too wide to say so


@dataclass(frozen=True, slots=True)
class Estimate:
    """A simulated value with its interval, ``value +- half_width``."""

    value: float
    half_width: float


def estimate(rule: Rule, values: Sequence[Sample], level: float) -> Estimate:
    """Return the estimate from the values of independent runs.

    Parameters
    ----------
    rule
        What the values are.
    values
        (run,) numbers, or an array per run for ``Rule.DISTRIBUTION``.
    level
        Probability that the interval misses the truth.
    """
    if rule is Rule.DISTRIBUTION:
        return _distance(np.sort(np.concatenate([np.asarray(value) for value in values])), level)
    numbers = np.asarray(values, np.float64)
    if rule is Rule.IDENTITY:
        return Estimate(float(np.abs(numbers).max()), ROUNDING)
    n = numbers.size
    half = float(stdtrit(n - 1, 1.0 - level / 2.0)) * float(numbers.std(ddof=1)) / math.sqrt(n)
    return Estimate(float(numbers.mean()), half)


def _distance(ordered: npt.NDArray[np.float64], level: float) -> Estimate:
    """Return the Kolmogorov distance from uniform with the band of Dvoretzky, Kiefer and Wolfowitz (Massart, 1990)."""
    n = ordered.size
    ranks = np.arange(1, n + 1) / n
    distance = max(float((ranks - ordered).max()), float((ordered - ranks).max()) + 1.0 / n)
    return Estimate(distance, math.sqrt(math.log(2.0 / level) / (2.0 * n)))


def judge(rule: Rule, found: Estimate, theory: float) -> Verdict:
    """Hold an estimate against theory; nan is a miss."""
    away = found.value - theory
    if not (away if rule is Rule.AT_MOST else abs(away)) <= found.half_width:
        return Verdict.MISS
    if rule is not Rule.IDENTITY and found.half_width > PRECISION * (abs(theory) or 1.0):
        return Verdict.IMPRECISE
    return Verdict.OK
