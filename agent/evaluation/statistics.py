"""The statistics of a comparison: survival with censoring, paired resampling, exact intervals of counts."""

__all__ = [
    "BOOTSTRAPS", "LEVEL", "Interval", "Resampler", "Survival", "fraction", "holm", "kaplan_meier", "percentile",
    "quantile_of", "rate", "restricted_mean",
]  # fmt: skip

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Level of all intervals.
LEVEL = 0.95
#: Resamples of an interval.
BOOTSTRAPS = 10_000

_STREAM = 0x626F6F74
_CHUNK = 250


class Interval(NamedTuple):
    """An estimate with the ends of its interval at ``LEVEL``; nan is unknown."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Survival:
    """To what share something has not happened yet, at and after each of the times at which it does."""

    times: Floats  #: (time,) increasing
    share: Floats  #: (time,) Kaplan and Meier's estimate
    low: Floats  #: (time,) pointwise band
    high: Floats  #: (time,)

    def first_below(self, share: float) -> Interval:
        """Return the first time at which at most ``share`` are left, with the times at which the band's ends are.

        Inverting the band is Brookmeyer and Crowley's interval (1982). Infinity: not reached.
        """
        ends = [self._reached(of, share) for of in (self.share, self.low, self.high)]
        return Interval(*ends)

    def _reached(self, of: Floats, share: float) -> float:
        found = np.flatnonzero(of <= share + 1e-12)
        return float(self.times[found[0]]) if found.size else float("inf")


def kaplan_meier(time_s: Floats, happened: Bools) -> Survival:
    """Return to what share the event has not happened yet.

    Kaplan and Meier (1958); at equal times events come before censorings. The band is Greenwood's variance on the
    scale of log(-log) (Kalbfleisch and Prentice 1980), which keeps it within [0, 1]; where nothing is left, or all
    are, it has no width on that scale: both ends are nan.

    Parameters
    ----------
    time_s
        (run,) time of the event, or of the censoring.
    happened
        (run,) whether the event happened; otherwise the run was censored.
    """
    from scipy.special import ndtri

    times, at_risk, events = _life_table(time_s, happened)
    share = np.cumprod(1.0 - events / at_risk).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.cumsum(events / (at_risk * (at_risk - events)))) / np.log(share)
        inner = np.log(-np.log(share))
        step = float(ndtri(0.5 + 0.5 * LEVEL)) * np.abs(spread)
        low, high = np.exp(-np.exp(inner + step)), np.exp(-np.exp(inner - step))
    known = (share > 0.0) & (share < 1.0)
    return Survival(times, share, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _life_table(time_s: Floats, happened: Bools) -> tuple[Floats, Floats, Floats]:
    times = np.unique(time_s[happened])
    at_risk = np.array([np.count_nonzero(time_s >= t) for t in times], np.float64)
    events = np.array([np.count_nonzero(happened & (time_s == t)) for t in times], np.float64)
    return times, at_risk, events


def quantile_of(time_s: Floats, happened: Bools, share: float) -> float | None:
    """Return the first time by which at least ``share`` of the runs had the event, None if that is not reached."""
    found = kaplan_meier(time_s, happened).first_below(1.0 - share).value
    return found if np.isfinite(found) else None


def restricted_mean(time_s: Floats, happened: Bools, until_s: float) -> Interval:
    """Return the mean of ``min(time, until)`` under censoring: the area below the survival curve up to ``until``.

    Its variance is the sum over event times of the squared area still to come times ``d / (n (n - d))`` (Irwin 1949;
    Meier 1975), with the factor m / (m - 1) for m events.

    Parameters
    ----------
    time_s, happened
        As ``kaplan_meier``.
    until_s
        Where it ends; not beyond the largest time, or the curve would be made up.
    """
    from scipy.special import ndtri

    if not time_s.size:
        return Interval(np.nan, np.nan, np.nan)
    times, at_risk, events = _life_table(time_s, happened)
    inside = times < until_s
    times, at_risk, events = times[inside], at_risk[inside], events[inside]
    share = np.concatenate([[1.0], np.cumprod(1.0 - events / at_risk)])
    widths = np.diff(np.concatenate([[0.0], times, [until_s]]))
    areas = share * widths
    mean = float(areas.sum())
    to_come = mean - np.cumsum(areas)[:-1]
    left = at_risk - events
    terms = np.divide(to_come**2 * events, at_risk * left, out=np.zeros(left.size), where=left > 0)
    m = float(events.sum())
    variance = float(terms.sum()) * (m / (m - 1.0) if m > 1 else 1.0)
    half = float(ndtri(0.5 + 0.5 * LEVEL)) * variance**0.5
    return Interval(mean, max(0.0, mean - half), min(until_s, mean + half))


def fraction(hits: float, of: float) -> Interval:
    """Return a fraction with its exact interval (Clopper and Pearson 1934); nan without anything to count."""
    from scipy.special import betaincinv

    if of <= 0:
        return Interval(np.nan, np.nan, np.nan)
    tail = 0.5 * (1.0 - LEVEL)
    low = float(betaincinv(hits, of - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1.0 - tail)) if hits < of else 1.0
    return Interval(hits / of, low, high)


def rate(count: float, exposure: float) -> Interval:
    """Return a Poisson rate per unit of exposure with its exact interval (Garwood 1936); nan without exposure."""
    from scipy.special import gammaincinv

    if exposure <= 0:
        return Interval(np.nan, np.nan, np.nan)
    tail = 0.5 * (1.0 - LEVEL)
    low = float(gammaincinv(count, tail)) if count > 0 else 0.0
    return Interval(count / exposure, low / exposure, float(gammaincinv(count + 1.0, 1.0 - tail)) / exposure)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all being tested (Holm 1979); nan stays nan and does not count."""
    p = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.size, np.nan)
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors)) if order.size else []
    return [float(value) for value in adjusted]


class Resampler:
    """A bootstrap that draws runs and, where a policy was trained several times, trainings (FIELD: comparing).

    Values are (training, run); nan in a cell: it does not count. Every call meets the same draws of the runs, so that
    whatever is compared stays paired.
    """

    def __init__(self, n_runs: int, *, seed: int, resamples: int = BOOTSTRAPS) -> None:
        """Draw the runs.

        Parameters
        ----------
        n_runs
            Length of the run axis.
        seed
            Of the resampling.
        resamples
            How many.
        """
        self.n_runs, self.resamples, self._seed = n_runs, resamples, seed
        self._runs = self._drawn(n_runs, 0)

    def _drawn(self, n: int, what: int) -> npt.NDArray[np.uint16]:
        """Return (resample, item) how often each item was drawn."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=(_STREAM, what))
        generator = np.random.Generator(np.random.PCG64(sequence))
        found = np.empty((self.resamples, n), np.uint16)
        for first in range(0, self.resamples, _CHUNK):
            count = min(_CHUNK, self.resamples - first)
            flat = generator.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
            found[first : first + count] = np.bincount(flat.ravel(), minlength=count * n).reshape(count, n)
        return found

    def means(self, values: Floats, weights: Floats | None = None, *, role: int = 0) -> Floats:
        """Return (resample,) means of values; two with different roles have their trainings drawn independently.

        With weights (training, run) they are weighted: a mean over what runs have several of, such as decisions, of
        which those of a run are drawn together.
        """
        if values.ndim != 2 or values.shape[1] != self.n_runs:
            raise ValueError(f"values must be (training, {self.n_runs}), got shape {values.shape}")
        counted = ~np.isnan(values)
        counts = np.where(counted, 1.0 if weights is None else weights, 0.0).T
        filled = np.where(counted, values, 0.0).T * counts
        trainings = self._drawn(values.shape[0], 1 + role)
        found = np.empty(self.resamples)
        for first in range(0, self.resamples, _CHUNK):
            rows = slice(first, first + _CHUNK)
            runs, shares = self._runs[rows].astype(np.float64), trainings[rows].astype(np.float64)
            with np.errstate(invalid="ignore"):
                found[rows] = (shares * (runs @ filled)).sum(1) / (shares * (runs @ counts)).sum(1)
        return found

    def mean(self, values: Floats, weights: Floats | None = None) -> Interval:
        """Return the mean with its percentile interval, weighted as in ``means``.

        The interval of fewer than two runs is nan.
        """
        counted = ~np.isnan(values)
        if not counted.any():
            return Interval(np.nan, np.nan, np.nan)
        value = float(np.average(values[counted], weights=None if weights is None else weights[counted]))
        if counted.any(0).sum() < 2:
            return Interval(value, np.nan, np.nan)
        return percentile(value, self.means(values, weights))

    def tested(
        self, values: Floats, against: Floats, weights: tuple[Floats | None, Floats | None] = (None, None)
    ) -> tuple[Interval, float]:
        """Return the mean difference of two sets of values, with its interval and p-value; both may be weighted.

        The p-value of "there is no difference" is twice the share of resamples beyond 0, at least 1 of them: the level
        at which the percentile interval just reaches 0. nan where there is no interval; 1 without any difference.
        """
        mine, other = self.mean(values, weights[0]), self.mean(against, weights[1])
        if np.isnan(mine.low) or np.isnan(other.low):
            return Interval(mine.value - other.value, np.nan, np.nan), np.nan
        drawn = self.means(values, weights[0]) - self.means(against, weights[1], role=1)
        drawn = drawn[~np.isnan(drawn)]
        beyond = min(np.count_nonzero(drawn <= 0.0), np.count_nonzero(drawn >= 0.0))
        return percentile(mine.value - other.value, drawn), min(1.0, 2.0 * (beyond + 1) / (drawn.size + 1))

    def survival(self, time_s: Floats, happened: Bools, counts: Bools) -> Survival:
        """Return Kaplan and Meier's curve of times (training, run); with several trainings the band is resampled.

        Parameters
        ----------
        time_s, happened
            As ``kaplan_meier``, (training, run).
        counts
            (training, run) which cells count.
        """
        pooled = kaplan_meier(time_s[counts], happened[counts])
        if time_s.shape[0] == 1 or not pooled.times.size:
            return pooled
        at_risk = ((time_s[..., None] >= pooled.times) & counts[..., None]).astype(np.float64)
        events = ((time_s[..., None] == pooled.times) & (happened & counts)[..., None]).astype(np.float64)
        trainings = self._drawn(time_s.shape[0], 1)
        drawn = np.empty((self.resamples, pooled.times.size))
        for first in range(0, self.resamples, _CHUNK):
            rows = slice(first, first + _CHUNK)
            shares, runs = trainings[rows].astype(np.float64), self._runs[rows].astype(np.float64)
            n, d = (
                sum(shares[:, s, None] * (runs @ of[s]) for s in range(time_s.shape[0])) for of in (at_risk, events)
            )
            drawn[rows] = np.cumprod(1.0 - np.divide(d, n, out=np.zeros_like(d), where=n > 0), axis=1)
        tail = 0.5 * (1.0 - LEVEL)
        low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
        return Survival(pooled.times, pooled.share, low, high)


def percentile(value: float, drawn: Floats) -> Interval:
    """Return an estimate with the percentile interval of its resamples (Efron and Tibshirani 1993, ch. 13)."""
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.nanquantile(drawn, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))
