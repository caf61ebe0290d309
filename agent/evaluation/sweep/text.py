"""A study in the terminal: a table of cells, a heat map where two things vary, means along each axis otherwise."""

__all__ = ["study_text"]

import itertools
import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from agent.evaluation.sweep.axes import Axis, Value
from agent.evaluation.sweep.sweep import Sweep

#: Lines of a table, and columns of the terminal, at most.
_LINES, _WIDTH = 40, 80
#: Parts into which a range is cut.
_BINS = 4
#: What is shown of a cell besides the main measure, with its heading and number of decimals.
_SHOWN = (
    ("ttm_s", "TTM s", 0),
    ("recovered", "recovered", 2),
    ("j", "J", 3),
)
_SHADES = " ░▒▓█"


def study_text(sweep: Sweep, cells: pl.DataFrame, differences: pl.DataFrame, *, until_s: float | None) -> str:
    """Return the summary of a study.

    Parameters
    ----------
    sweep
        The study.
    cells, differences
        Its tables.
    until_s
        Up to when times to mitigation are averaged, seconds.
    """
    if not cells.height:
        return "no run is finished"
    # an early onset leaves more time to spend the budget in, so then only the follow-up compares
    late = any(axis.key.startswith("fault") and axis.key.endswith("onset_s") for axis in sweep.axes)
    main = "follow_up_budget_spent" if late else "error_budget_spent"
    varying = [axis for axis in sweep.axes if axis.ranged or len(axis.values) > 1]
    others = [axis for axis in varying if axis.key != "policy"]
    if len(others) == 2 and not any(axis.ranged for axis in others):
        parts = _maps(cells, varying, others, main)
    elif cells.height <= _LINES:
        parts = [_table(cells, varying, main)]
    else:
        parts = ["\n\n".join(_along(cells, axis, main) for axis in varying)]
    parts.append(_differences(differences, main))
    where = "in the follow-up after the onset" if late else "in the whole episode"
    notes = [f"{_called(main)}: error budget spent {where}", f"mean [95 % interval] of {_runs(cells)} runs a cell"]
    if until_s is not None and "TTM" in parts[0]:
        notes.append(f"TTM: restricted to {until_s:g} s, runs with a fault, 0 without an incident")
    return "\n\n".join(part for part in [*parts, "\n".join(notes)] if part)


def _runs(cells: pl.DataFrame) -> str:
    counts = sorted(cells["n"].to_list())
    return f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _shown(number: float | None, decimals: int) -> str:
    return "-" if number is None or math.isnan(number) else f"{number:.{decimals}f}"


def _level(value: Value) -> str:
    """Return a value of an axis."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(known: list[float]) -> float:
    return sum(known) / len(known) if known else math.nan


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as a table: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _called(measure: str) -> str:
    return {"follow_up_budget_spent": "follow-up budget"}.get(measure, "budget spent")


def _measured(row: dict[str, Any], main: str) -> list[str]:
    """Return the measures of a cell, the main one with its interval."""
    ends = f"[{_shown(row[f'{main}_low'], 2)}, {_shown(row[f'{main}_high'], 2)}]"
    others = [_shown(row[f"{name}_mean"], decimals) for name, _, decimals in _SHOWN]
    return [f"{_shown(row[f'{main}_mean'], 2)} {ends}", *others]


def _table(cells: pl.DataFrame, axes: Sequence[Axis], main: str) -> str:
    rows = [[axis.key for axis in axes] + [_called(main)] + [heading for _, heading, _ in _SHOWN]]
    rows += [[_level(row[axis.key]) for axis in axes] + _measured(row, main) for row in cells.iter_rows(named=True)]
    return _columns(rows)


def _along(cells: pl.DataFrame, axis: Axis, main: str) -> str:
    """Return the means of the cells at each value of an axis, or in each part of its range."""
    key, column = axis.key, cells[axis.key]
    if axis.ranged:
        ends = [axis.low, *(float(axis.at(i / _BINS) or 0.0) for i in range(1, _BINS)), axis.high]
        names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(ends)]
        place = column.cast(pl.Float64).cut(ends[1:-1], labels=names, left_closed=True)
        groups = [(name, cells.filter(place.cast(pl.String) == name)) for name in names]
    else:
        values = list(axis.values)[:_LINES]
        groups = [(_level(value), cells.filter(pl.col(key).eq_missing(value))) for value in values]
    rows = [[key, "cells", _called(main), *(heading for _, heading, _ in _SHOWN)]]
    for name, part in groups:
        if part.height:
            shown = [(f"{measure}_mean", decimals) for measure, _, decimals in ((main, "", 2), *_SHOWN)]
            means = [_shown(_mean(part[column].drop_nulls().to_list()), decimals) for column, decimals in shown]
            rows.append([name, str(part.height), *means])
    more = "" if axis.ranged or len(axis.values) <= _LINES else f"\n... {len(axis.values) - _LINES} more values"
    return _columns(rows) + more


def _maps(cells: pl.DataFrame, varying: Sequence[Axis], others: Sequence[Axis], main: str) -> list[str]:
    """Return a heat map of the main measure, one for each policy."""
    down, across = others
    if len(across.values) > len(down.values):
        down, across = across, down
    policies = next((axis.values for axis in varying if axis.key == "policy"), (None,))
    means = cells[f"{main}_mean"].drop_nulls()
    low, high = (float(means.min()), float(means.max())) if means.len() else (0.0, 0.0)  # type: ignore[arg-type]
    found = []
    for policy in policies:
        part = cells if policy is None else cells.filter(pl.col("policy") == policy)
        title = f"{_called(main)}{'' if policy is None else f', {policy}'}: {down.key} down, {across.key} across"
        values = {(row[down.key], row[across.key]): row[f"{main}_mean"] for row in part.iter_rows(named=True)}
        found.append(f"{title}\n{_map(values, down.values, across.values, low, high)}")
    return found


def _map(
    values: dict[tuple[Value, Value], float | None],
    down: Sequence[Value],
    across: Sequence[Value],
    low: float,
    high: float,
) -> str:
    """Return a heat map: numbers beside their shade where they fit, else shades alone."""
    left = max(len(_level(value)) for value in down)
    texts = {at: _shown(value, 2) for at, value in values.items()}
    wide = max([len(_level(value)) for value in across] + [len(text) for text in texts.values()]) + 2
    numbers = left + (wide + 1) * len(across) <= _WIDTH
    lines = []
    if numbers:
        lines.append(" " * left + "".join(f"{_level(value).rjust(wide)} " for value in across).rstrip())
    for row in down:
        line = _level(row).rjust(left)
        for column in across:
            value = values.get((row, column))
            shade = " " if value is None else _shade(value, low, high)
            line += f"{texts.get((row, column), '-').rjust(wide)}{shade}" if numbers else shade
        lines.append(line.rstrip())
    lines.append(f"{' ' * left} from {low:.2f} '{_SHADES[0]}' to {high:.2f} '{_SHADES[-1]}'")
    if not numbers:
        lines.append(f"{' ' * left} {_level(across[0])} to {_level(across[-1])} from left to right")
    return "\n".join(lines)


def _shade(value: float, low: float, high: float) -> str:
    share = 0.0 if high <= low else (value - low) / (high - low)
    return _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]


def _differences(differences: pl.DataFrame, main: str) -> str:
    """Return how policies differ: the mean over all settings, and in how many of them a difference is shown."""
    if not differences.height:
        return ""
    against = differences["against"][0]
    rows = [[f"against {against}", "settings", _called(main), "less in", "more in", "not shown in"]]
    policies: list[str] = differences["policy"].unique(maintain_order=True).to_list()
    for policy in policies:
        part = differences.filter(pl.col("policy") == policy)
        less = part.filter(pl.col(f"{main}_high") < 0.0).height
        more = part.filter(pl.col(f"{main}_low") > 0.0).height
        known = part[f"{main}_difference"].drop_nulls().to_list()
        mean = f"{_mean(known):+.2f}" if known else "-"
        rows.append([policy, str(part.height), mean, str(less), str(more), str(part.height - less - more)])
    return _columns(rows)
