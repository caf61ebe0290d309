"""From the tables that commands print to figures: detectors, diagnosers, stages, caution, estimates, probabilities."""

__all__ = [
    "accuracy_of", "budgets_of", "calibration_of", "caution_of", "detectors_of", "estimates_of", "stages_of",
]  # fmt: skip

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from agent.evaluation.compare import PRIMARY
from agent.evaluation.figures import Axis, Bar, Bars, Cell, Curve, Curves, Forest, ForestRow, HeatMap
from agent.evaluation.summary import summarise
from agent.evaluation.watch import Watched

_BUDGET = PRIMARY.replace("_", " ")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _ends(rows: Iterable[ForestRow], *more: float) -> tuple[float, float]:
    """Return the ends of an axis on which everything finds room."""
    known = [v for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)] + list(more)
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def detectors_of(rows: Sequence[Watched]) -> Forest | None:
    """Return the false alarms of detectors with their bounds; what they miss and how late they are beside them."""
    found = tuple(
        ForestRow(
            row.detector, _number(row.false_per_h), _number(row.false_low_per_h), _number(row.false_high_per_h),
            f"recall {_told(row.recall, 2)}, TTD {_told(row.ttd_median_s, 0)} s", look=i,
        )
        for i, row in enumerate(rows) if row.false_per_h is not None
    )  # fmt: skip
    if not found:
        return None
    return Forest(
        key="detectors",
        title="Alarms without a fault",
        about="False alarms per hour of runs without a fault, with exact 95 % bounds; recall and median TTD beside.",
        axis=Axis("false alarms", *_ends(found, 0.0), "1/h"),
        rows=found,
        better=-1,
    )


def _told(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def accuracy_of(table: pl.DataFrame, names: Sequence[str]) -> HeatMap | None:
    """Return how often each diagnoser was right, by type of fault; None for an empty table.

    Parameters
    ----------
    table
        What ``panel.by_fault`` gave.
    names
        The diagnosers, columns of it.
    """
    if not table.height:
        return None
    rows = list(reversed(table.to_dicts()))
    return HeatMap(
        key="accuracy",
        title="Right at the first guess",
        about="AC@1 of every diagnoser by type of fault, in per cent of the runs; brighter is better.",
        x="diagnoser",
        y="fault",
        columns=tuple(names),
        rows=tuple(f"{row['fault']} ({row['runs']})" for row in rows),
        scale=Axis("AC@1", 0.0, 1.0, percent=True),
        cells=tuple(
            Cell(column, at, float(row[name]), n=int(row["runs"]), note=f"{row['runs']} runs")
            for at, row in enumerate(rows)
            for column, name in enumerate(names)
            if row[name] is not None
        ),
    )


def stages_of(rows: Sequence[Mapping[str, Any]]) -> Forest:
    """Return the error budget that each stage of an agent loses, as ``isolation.attribute`` gave it."""
    found = tuple(
        ForestRow(
            row["stage"], _number(row["lost"]), _number(row["low"]), _number(row["high"]),
            "" if row["share"] is None else f"{row['share']:.0%}", look=-1 if row["stage"] == "all" else i,
        )
        for i, row in enumerate(rows)
    )  # fmt: skip
    return Forest(
        key="stages",
        title="Error budget lost by stage",
        about="What each stage loses against one that knows the truth (Shapley value), with 95 % intervals and share.",
        axis=Axis(f"{_BUDGET}: lost", *_ends(found, 0.0)),
        rows=found,
        better=-1,
    )


def caution_of(levels: Iterable[Mapping[str, Any]]) -> Curves | None:
    """Return harm against coverage as a policy leaves more or less to a human; None with fewer than two levels.

    Parameters
    ----------
    levels
        With ``coverage``, ``harmed``, ``harmed_low`` and ``harmed_high``; those without coverage are left out.
    """
    known = sorted(
        (level for level in levels if level["coverage"] is not None and level.get("harmed") is not None),
        key=lambda level: float(level["coverage"]),
    )
    if len(known) < 2:
        return None
    x, y, low, high = (
        tuple(_number(level[name]) for level in known) for name in ("coverage", "harmed", "harmed_low", "harmed_high")
    )
    top = max(value for value in (*y, *high) if math.isfinite(value))
    return Curves(
        key="caution",
        title="Harm against coverage",
        about="Share of the runs that were harmed, by the share of decisions that the policy took itself; 95 % bands.",
        x=Axis("coverage", 0.0, 1.0, percent=True),
        y=Axis("harmed runs", 0.0, 1.05 * top or 0.05, percent=True),
        curves=(Curve("harmed", x, y, low=low, high=high),),
    )


def estimates_of(rows: Sequence[Mapping[str, Any]]) -> Forest | None:
    """Return how far estimates from a log are from the truth, as ``offpolicy.audit`` gave them; None without any."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    found = tuple(
        ForestRow(
            f"{row['policy']}: {row['estimator']}", row["error"], _number(row["low"]) - row["truth"],
            _number(row["high"]) - row["truth"], "" if row["covered"] else "misses the truth",
            look=policies.index(row["policy"]),
        )
        for row in rows if row["error"] is not None and row["truth"] is not None
    )  # fmt: skip
    if not found:
        return None
    return Forest(
        key="estimates",
        title="Estimates from the log less the truth",
        about="The reward that each estimator gives a policy, less what the policy really got; 95 % intervals.",
        axis=Axis("estimate less truth", *_ends(found, 0.0), "reward"),
        rows=found,
    )


def calibration_of(bins: Sequence[Mapping[str, float]]) -> Curves:
    """Return how often the suspect was right beside its probability, as ``reliability`` gave it."""
    return Curves(
        key="calibration",
        title="Whether the probabilities can be believed",
        about="How often the suspect was right, by the probability that it was given; on the diagonal is honest.",
        x=Axis("probability of the suspect", 0.0, 1.0, percent=True),
        y=Axis("right", 0.0, 1.0, percent=True),
        curves=(
            Curve("honest", (0.0, 1.0), (0.0, 1.0), look=-1),
            Curve("the diagnoser", tuple(part["mean"] for part in bins), tuple(part["right"] for part in bins)),
        ),
    )


def budgets_of(episodes: pl.DataFrame) -> Bars | None:
    """Return the error budget spent by type of fault and policy; None where nothing is known."""
    bars = []
    for look, part in enumerate(episodes.partition_by("policy", maintain_order=True)):
        name = part["policy"][0] or "no agent"
        bars += [
            Bar(f"{row['fault_type']}, {name}", float(row[PRIMARY]), look=look)
            for row in summarise(part).iter_rows(named=True)
            if row[PRIMARY] is not None
        ]
    if not bars:
        return None
    bars.sort(key=lambda bar: bar.name)
    return Bars(
        key="budgets",
        title="Error budget spent",
        about="Mean error budget spent, by type of fault and policy.",
        axis=Axis(_BUDGET, 0.0, 1.05 * max(bar.value for bar in bars) or 1.0),
        bars=tuple(bars),
    )
