"""Compares policies on the same runs: paired differences with bootstrap intervals (FIELD: comparing)."""

__all__ = ["BOOTSTRAPS", "PRIMARY", "compare"]

import numpy as np
import polars as pl

#: The primary measure, named beforehand.
PRIMARY = "error_budget_spent"
#: Resamples of an interval.
BOOTSTRAPS = 2_000

_LEVEL = 0.95


def compare(episodes: pl.DataFrame, *, measure: str = PRIMARY, seed: int) -> pl.DataFrame:
    """Return one row per policy but the first: how its runs differ from the first policy's.

    Parameters
    ----------
    episodes
        The episodes table, with all policies on the same runs; they are compared on the runs that all of them have.
    measure
        A column that is a number in every run.
    seed
        Of the resampling. The percentile bootstrap (Efron and Tibshirani 1993, ch. 13) resamples runs.

    Returns
    -------
    polars.DataFrame
        ``policy, against, runs, mean, difference, low, high``: the mean of the measure, the mean paired difference,
        and the ends of its 95 % interval. A negative difference of ``error_budget_spent`` is better.
    """
    names = episodes["policy"].unique(maintain_order=True).to_list()
    key = ["split", "seed", "run"]
    wide = episodes.select("policy", *key, measure).pivot(on="policy", index=key, values=measure)
    wide = wide.drop_nulls(names).sort(key)
    rows = []
    for name in names[1:]:
        gap = (wide[name] - wide[names[0]]).to_numpy()
        low, high = _interval(gap, seed)
        mean = float(wide[name].to_numpy().mean()) if gap.size else None
        rows.append((name, names[0], gap.size, mean, float(gap.mean()) if gap.size else None, low, high))
    schema = ["policy", "against", "runs", "mean", "difference", "low", "high"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _interval(gap: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int) -> tuple[float | None, float | None]:
    if gap.size < 2:
        return None, None
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x626F6F74,))))
    # One resample at a time: the memory does not grow with the number of runs times resamples.
    means = [gap[generator.integers(0, gap.size, gap.size)].mean() for _ in range(BOOTSTRAPS)]
    tail = 0.5 * (1.0 - _LEVEL)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
