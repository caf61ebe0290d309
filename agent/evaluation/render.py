"""Tables of a study as text: by type of fault, policies compared, learning over the rounds."""

__all__ = ["cell", "cell_between", "comparison", "curve_text", "grid", "learning_curve", "summary"]

from typing import Any

import polars as pl

from agent.evaluation.compare import PRIMARY, Comparison, compare
from agent.evaluation.summary import summarise

#: Column of the summary -> heading, format, places.
_SUMMARY: tuple[tuple[str, str, int], ...] = (
    ("runs", "runs", 0),
    ("at_risk", "at risk", 0),
    ("recovered", "recov.", 2),
    ("ttd_median_s", "TTD s", 0),
    ("ttm_p50_s", "TTM p50", 0),
    ("ttm_p90_s", "TTM p90", 0),
    ("violation_steps", "viol.steps", 1),
    ("error_budget_spent", "budget", 2),
    ("ac1", "AC@1", 2),
    ("false_alarms", "f.alarms", 0),
    ("actions", "actions", 1),
    ("j", "J", 4),
)

_CURVE_ROWS = 8


def cell(value: Any, places: int) -> str:
    """Return a number with so many decimal places, a dash for None."""
    return "-" if value is None else f"{value:.{places}f}"


def cell_between(low: float | None, high: float | None, places: int) -> str:
    """Return the ends of an interval, a dash where it is unknown."""
    return "-" if low is None or high is None else f"[{low:.{places}f}, {high:.{places}f}]"


def grid(heads: list[str], rows: list[list[str]]) -> str:
    """Return aligned columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def summary(episodes: pl.DataFrame) -> str:
    """Return a summary by type of fault for every policy in the episodes table."""
    parts = []
    for (name,), table in episodes.group_by("policy", maintain_order=True):
        rows = [
            [row["fault_type"], *(cell(row[column], places) for column, _, places in _SUMMARY)]
            for row in summarise(table).iter_rows(named=True)
        ]
        title = "no agent" if name is None else f"policy {name}"
        parts.append(f"{title}\n{grid(['fault', *(head for _, head, _ in _SUMMARY)], rows)}")
    return "\n\n".join(parts)


def comparison(episodes: pl.DataFrame, *, seed: int) -> str:
    """Return how the policies differ from the first one, on the same runs."""
    heads = ["policy", "runs", PRIMARY, "difference", "95 % interval", "verdict"]
    rows = [
        [
            f"{row['policy']} - {row['against']}",
            str(row["runs"]),
            cell(row["value"], 3),
            cell(row["difference"], 3),
            cell_between(row["difference_low"], row["difference_high"], 3),
            row["verdict"] or "-",
        ]
        for row in compare(Comparison(episodes, seed=seed)).iter_rows(named=True)
        if row["policy"] != row["against"]
    ]
    return f"paired on the same runs (negative is better)\n{grid(heads, rows)}"


def learning_curve(episodes: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one entry per policy and round: ``policy, round, runs, error_budget_spent, j, recovered``.

    All are means over the runs of the round; ``recovered`` over those with an incident, None where there was none.
    """
    played = episodes.filter(pl.col("round").is_not_null()).sort("policy", "round", "run")
    return [
        {
            "policy": table["policy"][0],
            "round": table["round"][0],
            "runs": table.height,
            PRIMARY: _mean(table[PRIMARY]),
            "j": _mean(table["j"]),
            "recovered": _mean(table["recovered"].cast(pl.Float64)),
        }
        for table in played.partition_by("policy", "round", maintain_order=True)
    ]


def curve_text(episodes: pl.DataFrame) -> str:
    """Return the learning curves side by side, rounds gathered into a few rows; nothing if there is one round."""
    curve = learning_curve(episodes)
    n_rounds = 1 + max((point["round"] for point in curve), default=0)
    if n_rounds < 2:
        return ""
    names = episodes["policy"].unique(maintain_order=True).to_list()
    size = -(-n_rounds // _CURVE_ROWS)
    rows = []
    for first in range(0, n_rounds, size):
        last = min(first + size, n_rounds) - 1
        row = [f"{first}" if first == last else f"{first}-{last}"]
        for name in names:
            mine = [p for p in curve if p["policy"] == name and p[PRIMARY] is not None]
            points = [p for p in mine if first <= p["round"] <= last]
            runs = sum(point["runs"] for point in points)
            mean = sum(point[PRIMARY] * point["runs"] for point in points) / runs if runs else None
            row.append(cell(mean, 3))
        rows.append(row)
    return f"{PRIMARY} by round\n{grid(['rounds', *names], rows)}"


def _mean(column: pl.Series) -> float | None:
    # numpy's sum of sorted rows: the same bits on every thread count
    values = column.drop_nulls().to_numpy()
    return float(values.mean()) if values.size else None
