"""One row per cell of a study: means with intervals, quantiles, restricted times; and policies compared."""

__all__ = [
    "AGREED", "MEASURES", "Measure", "cells_schema", "cells_table", "differences_table", "interval_of", "times_of",
    "until_of", "values_of",
]  # fmt: skip

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.statistics import LEVEL, Interval, fraction, quantile_of, restricted_mean
from agent.evaluation.sweep.axes import Axis
from agent.evaluation.sweep.playing import runs_schema
from agent.evaluation.sweep.sequential import confidence_interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Smallest and largest value of measures, by name.
Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number per run, null where the run does not count."""

    name: str
    better: int  #: 1 if more is better, -1 if less is, 0 if that depends
    about: str
    of: Callable[[pl.DataFrame, float], Floats]  #: (run,) of the table of runs and the time of restriction
    share: bool = False  #: 0 or 1 in every run


def _column(name: str) -> Callable[[pl.DataFrame, float], Floats]:
    def found(runs: pl.DataFrame, until_s: float) -> Floats:
        return runs[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)

    return found


def _restricted(runs: pl.DataFrame, until_s: float) -> Floats:
    time_s, _, counts = times_of(runs)
    return np.where(counts, np.minimum(time_s, until_s), np.nan)


def _gain(runs: pl.DataFrame, until_s: float) -> Floats:
    gain: Floats = _column("j")(runs, until_s) - _column("noop_j")(runs, until_s)
    return gain


def _harmed(runs: pl.DataFrame, until_s: float) -> Floats:
    gain = _gain(runs, until_s)
    return np.where(np.isnan(gain), np.nan, gain < -MARGIN)


def _lost(runs: pl.DataFrame, until_s: float) -> Floats:
    onset, had, recovered = (_column(name)(runs, until_s) for name in ("fault_onset_s", "incident", "recovered"))
    return np.where(np.isnan(onset), np.nan, (had == 1.0) & (recovered != 1.0))


def _overspent(runs: pl.DataFrame, until_s: float) -> Floats:
    spent = _column("error_budget_spent")(runs, until_s)
    return np.where(np.isnan(spent), np.nan, spent > 1.0)


#: What is told of every cell; those that are nowhere known are left out, but for ``AGREED``.
MEASURES: tuple[Measure, ...] = (
    Measure("error_budget_spent", -1, "bad / ((1 - objective) * offered)", _column("error_budget_spent")),
    Measure(
        "follow_up_budget_spent",
        -1,
        "the same in the follow-up after the onset only",
        _column("follow_up_budget_spent"),
    ),
    Measure("ttm_s", -1, "time to mitigation, restricted; runs with a fault, 0 without an incident", _restricted),
    Measure("j", 1, "J", _column("j")),
    Measure("incident", -1, "share of the runs in which users notice", _column("incident"), share=True),
    Measure(
        "lost", -1, "share of the runs with a fault that are not over it by the end of the follow-up", _lost, share=True
    ),
    Measure("overspent", -1, "share of the runs that spend more than their whole error budget", _overspent, share=True),
    Measure(
        "follow_up_budget_spent", -1, "error budget spent in the follow-up only", _column("follow_up_budget_spent")
    ),
    Measure("recovered", 1, "share of the incidents that end within the follow-up", _column("recovered"), share=True),
    Measure("durable", 1, "share of the runs at risk that stay well when struck again", _column("durable"), share=True),
    Measure("gain_j", 1, "J less that of the run without actions", _gain),
    Measure("harmed", -1, "share of the runs with J below that of the run without actions", _harmed, share=True),
    Measure("ttd_s", -1, "time to detection, runs with an alarm", _column("ttd_s")),
    Measure("ac1", 1, "share of the diagnoses that are right", _column("ac1")),
    Measure("actions", 0, "actions taken", _column("actions")),
)

#: Measures whose columns are always there.
AGREED = ("error_budget_spent", "follow_up_budget_spent", "ttm_s", "j", "incident", "recovered")


def times_of(runs: pl.DataFrame) -> tuple[Floats, Bools, Bools]:
    """Return (run,) each: time to mitigation or to its censoring, whether it came, and which runs count.

    Runs with a fault count, so that cells and policies are compared on the same runs; without an incident the time
    is 0: nobody had to wait.
    """
    onset, end, ttm = (_column(name)(runs, 0.0) for name in ("fault_onset_s", "censored_s", "ttm_s"))
    had = _column("incident")(runs, 0.0) == 1.0
    came = ~had | ~np.isnan(ttm)
    time_s = np.where(~had, 0.0, np.where(np.isnan(ttm), end - onset, ttm))
    return time_s, came, ~np.isnan(onset)


def until_of(runs: pl.DataFrame) -> float:
    """Return up to when times to mitigation are averaged, seconds: what every run with a fault is followed up for."""
    follow_up = (runs["censored_s"] - runs["fault_onset_s"]).drop_nulls()
    return float(follow_up.min()) if follow_up.len() else float("nan")  # type: ignore[arg-type]


def values_of(measure: Measure, runs: pl.DataFrame, until_s: float) -> Floats:
    """Return (run,) a measure of a table of runs, nan where a run does not count."""
    return measure.of(runs, until_s)


def interval_of(
    values: Floats, *, share: bool = False, bounds: tuple[float, float] | None = None, stopped: bool = False
) -> Interval:
    """Return the mean of what is known with its interval at ``LEVEL``: Student's t, or exact for a share.

    A mean of fewer than two values has no interval.

    Parameters
    ----------
    values
        (run,) nan where a run does not count.
    share
        Whether they are 0 or 1.
    stopped
        Whether the number of runs follows from what was found: then the interval is one that holds all the same
        (``agent.evaluation.sweep.sequential``), which needs ``bounds`` of the values; without them there is none.
    """
    from scipy.special import stdtrit

    known = values[~np.isnan(values)]
    n = known.size
    if not n:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(known.mean())
    if stopped:
        if bounds is None:
            return Interval(mean, np.nan, np.nan)
        low, width = bounds[0], bounds[1] - bounds[0]
        found = confidence_interval(np.clip((known - low) / width, 0.0, 1.0))
        return Interval(mean, min(mean, low + width * found.low), max(mean, low + width * found.high))
    if share:
        return fraction(float(known.sum()), n)
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(stdtrit(n - 1, 0.5 + 0.5 * LEVEL)) * float(known.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half)


def _summary(measure: Measure, runs: pl.DataFrame, until_s: float, bounds: Bounds | None) -> dict[str, float]:
    """Return the numbers of a measure in one cell."""
    within = None if bounds is None else bounds.get(measure.name)
    if measure.name == "ttm_s":
        time_s, came, counts = times_of(runs)
        time_s, came = time_s[counts], came[counts]
        mean = restricted_mean(time_s, came, until_s)
        if bounds is not None:
            mean = interval_of(np.minimum(time_s, until_s), bounds=within, stopped=True)
        quantiles = [quantile_of(time_s, came, share) if time_s.size else None for share in (0.5, 0.9)]
        middle, high = (np.nan if q is None else q for q in quantiles)
        n = int(time_s.size)
    else:
        values = measure.of(runs, until_s)
        known = values[~np.isnan(values)]
        mean, n = interval_of(values, share=measure.share, bounds=within, stopped=bounds is not None), int(known.size)
        middle = high = np.nan
        if known.size and not measure.share:
            middle, high = (float(q) for q in np.quantile(known, (0.5, 0.9)))
    return {"n": n, "mean": mean.value, "low": mean.low, "high": mean.high, "p50": middle, "p90": high}


_NUMBERS = ("mean", "low", "high", "p50", "p90")


def cells_schema(axes: Sequence[Axis], measures: Sequence[Measure]) -> dict[str, pl.DataType]:
    """Return the columns of the table of cells."""
    schema: dict[str, pl.DataType] = {"cell": pl.Int64()}
    schema |= {axis.key: runs_schema(axes)[axis.key] for axis in axes}
    schema |= {"n": pl.Int64(), "weight": pl.Float64()}
    for measure in measures:
        schema |= {f"{measure.name}_n": pl.Int64()} | {f"{measure.name}_{name}": pl.Float64() for name in _NUMBERS}
    return schema


def _known(runs: pl.DataFrame, until_s: float) -> list[Measure]:
    return [m for m in MEASURES if m.name in AGREED or not np.isnan(m.of(runs, until_s)).all()]


def cells_table(
    runs: pl.DataFrame, axes: Sequence[Axis], *, until_s: float | None = None, bounds: Bounds | None = None
) -> pl.DataFrame:
    """Return one row per cell that has runs, by number.

    Parameters
    ----------
    runs
        The table of runs.
    axes
        What varies.
    until_s
        Up to when times to mitigation are averaged; by default ``until_of`` these runs.
    bounds
        Of a refined study: the smallest and the largest value of the measures that have them. Intervals are then
        such as hold although cells were given runs by what was found, and measures without bounds have none.

    Returns
    -------
    ``cell``, the axes, ``n`` runs, their mean ``weight``, and for every measure M ``M_n`` (runs that count),
    ``M_mean``, ``M_low`` and ``M_high`` (95 %), ``M_p50`` and ``M_p90``; null is unknown.
    """
    until = until_of(runs) if until_s is None else until_s
    measures = _known(runs, until)
    rows = []
    for number, part in _parts(runs, "cell"):
        row: dict[str, Any] = {"cell": number} | {axis.key: part[axis.key][0] for axis in axes}
        row |= {"n": part.height, "weight": float(part["weight"].mean())}  # type: ignore[arg-type]
        for measure in measures:
            row |= {f"{measure.name}_{name}": value for name, value in _summary(measure, part, until, bounds).items()}
        rows.append(row)
    table = pl.DataFrame(rows, schema=cells_schema(axes, measures), orient="row")
    return table.with_columns(pl.selectors.float().fill_nan(None))


def _parts(runs: pl.DataFrame, key: str) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (value, its runs by replication), by value of a whole-number column."""
    table = runs.sort(key, "replication")
    values = table[key].to_numpy()
    edges = [*np.flatnonzero(np.diff(values, prepend=-1)).tolist(), values.size] if values.size else []
    for first, last in itertools.pairwise(edges):
        yield int(values[first]), table[first:last]


def differences_table(
    runs: pl.DataFrame,
    axes: Sequence[Axis],
    *,
    against: str | None = None,
    until_s: float | None = None,
    bounds: Bounds | None = None,
) -> pl.DataFrame:
    """Return how policies differ from one of them, cell by cell, on the same runs; empty unless ``policy`` varies.

    Parameters
    ----------
    runs, axes, until_s, bounds
        As ``cells_table``.
    against
        The reference; by default the first value of the axis.

    Returns
    -------
    The other axes, ``policy``, ``against``, ``n`` pairs of runs, and for every measure M ``M_difference`` (the
    policy's mean less that of the reference) with ``M_low`` and ``M_high`` (95 %, Student's t of the differences).
    """
    until = until_of(runs) if until_s is None else until_s
    measures = [m for m in _known(runs, until) if m.better]
    others = [axis.key for axis in axes if axis.key != "policy"]
    schema = {key: runs_schema(axes)[key] for key in others} | {"policy": pl.String(), "against": pl.String()}
    schema |= {"n": pl.Int64()}
    for m in measures:
        schema |= {f"{m.name}_difference": pl.Float64(), f"{m.name}_low": pl.Float64(), f"{m.name}_high": pl.Float64()}
    axis = next((axis for axis in axes if axis.key == "policy"), None)
    rows: list[dict[str, Any]] = []
    if axis is not None and runs.height:
        reference = str(against or axis.values[0])
        groups = [runs] if not others else runs.sort("cell").partition_by(others, maintain_order=True)
        for group in groups:
            rows += _of_setting(group, others, [str(v) for v in axis.values], reference, measures, until, bounds)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.selectors.float().fill_nan(None))


def _of_setting(
    group: pl.DataFrame,
    others: list[str],
    policies: list[str],
    reference: str,
    measures: list[Measure],
    until: float,
    bounds: Bounds | None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one setting of the other axes."""
    theirs = group.filter(pl.col("policy") == reference)
    for policy in policies:
        mine = group.filter(pl.col("policy") == policy)
        if policy == reference or not mine.height:
            continue
        one, other = (
            of.join(shared.select("replication"), on="replication", how="semi").sort("replication")
            for of, shared in ((mine, theirs), (theirs, mine))
        )
        row: dict[str, Any] = {key: group[key][0] for key in others}
        row |= {"policy": policy, "against": reference, "n": one.height}
        for m in measures:
            within = (bounds or {}).get(m.name)
            either = None if within is None else (within[0] - within[1], within[1] - within[0])
            found = interval_of(m.of(one, until) - m.of(other, until), bounds=either, stopped=bounds is not None)
            row |= {f"{m.name}_difference": found.value, f"{m.name}_low": found.low, f"{m.name}_high": found.high}
        yield row
