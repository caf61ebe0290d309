"""Where the outcome of a refined study flips, as text and as a picture, and how many runs were saved."""

__all__ = ["boundary_text", "told"]

import math
from typing import Any

from agent.evaluation.sweep.axes import Value
from agent.evaluation.sweep.refine import Point, Standing, is_number, number
from agent.evaluation.sweep.refining import Refiner

#: Signs of a cell: below the level, above it, on it (narrow, and neither), and not known yet.
BELOW, ABOVE, ON, OPEN = ".", "#", "=", "?"
_WIDTH = 80
_LINES = 24


def told(refiner: Refiner) -> dict[str, Any]:
    """Return what came of the refinement, JSON-able."""
    standings, keys = refiner.standings, [axis.key for axis in refiner.axes]
    runs = sum(standing.runs for standing in standings.values())
    full = refiner.full_grid_runs()
    return {
        "measure": refiner.asked.measure,
        "level": None if refiner.rule.level is None else refiner.rule.level * refiner.scale,
        "half_width": refiner.asked.half_width,
        "cells": len(standings),
        "done": sum(standing.done for standing in standings.values()),
        "runs": runs,
        "full_grid_runs": full,
        "saved": 1.0 - runs / full if full else None,
        "flips": [
            {
                "key": keys[flip.axis],
                "from": flip.ends[0][flip.axis],
                "to": flip.ends[1][flip.axis],
                "sides": list(flip.sides),
                "at": {key: flip.ends[0][i] for i, key in enumerate(keys) if i != flip.axis},
            }
            for flip in refiner.flips()
        ],
    }


def boundary_text(refiner: Refiner) -> str:
    """Return the map of sides, where they flip, and what that took."""
    parts = [_head(refiner)]
    if refiner.rule.level is not None:
        parts += [*_maps(refiner), _flips(refiner)]
    parts.append(_saved(refiner))
    return "\n\n".join(part for part in parts if part)


def _head(refiner: Refiner) -> str:
    asked, level = refiner.asked, refiner.rule.level
    sides = "" if level is None else f", level {level * refiner.scale:g}"
    return (
        f"refined by {asked.measure}{sides}: intervals hold whenever one stops (95 %), narrow is +-{asked.half_width:g}"
    )


def sign(standing: Standing) -> str:
    """Return the sign of a cell."""
    if standing.side:
        return ABOVE if standing.side > 0 else BELOW
    return ON if standing.done else OPEN


def _maps(refiner: Refiner) -> list[str]:
    """Return a map for each combination of the other keys, if two keys or one are numbers."""
    points = list(refiner.standings)
    varying = [i for i, axis in enumerate(refiner.axes) if len({point[i] for point in points}) > 1]
    numbers = [i for i in varying if all(is_number(point[i]) for point in points)]
    if not numbers:
        return []
    sizes = {i: len({point[i] for point in points}) for i in numbers}
    across = max(numbers, key=lambda i: sizes[i])
    down = next((i for i in numbers if i != across), None)
    others = [i for i in varying if i not in (across, down)]
    groups: dict[Point, list[Point]] = {}
    for point in points:
        groups.setdefault(tuple(point[i] for i in others), []).append(point)
    keys = [axis.key for axis in refiner.axes]
    if len(groups) > _LINES // 4:
        return []
    found = []
    for name, members in groups.items():
        where = ", ".join(f"{keys[i]}={_shown(value)}" for i, value in zip(others, name, strict=True))
        lines = [
            f"{where + ': ' if where else ''}{keys[down] + ' down, ' if down is not None else ''}{keys[across]} across"
        ]
        columns = sorted({number(point[across]) for point in members})
        rows = sorted({number(point[down]) for point in members}) if down is not None else [math.nan]
        signs = {
            (number(point[down]) if down is not None else math.nan, number(point[across])): sign(
                refiner.standings[point]
            )
            for point in members
        }
        left = max(len(_shown(row)) for row in rows)
        wide = 2 if left + 3 * len(columns) <= _WIDTH else 1
        for row in rows:
            line = "".join(_at(signs, row, column).rjust(wide) for column in columns)
            lines.append(f"{_shown(row).rjust(left)} {line}".rstrip())
        lines.append(f"{' ' * left} {_shown(columns[0])} to {_shown(columns[-1])} from left to right")
        found.append("\n".join(lines))
    legend = f"'{BELOW}' below the level, '{ABOVE}' above it, '{ON}' on it, '{OPEN}' not known, blank: not played"
    return [*found, legend]


def _at(signs: dict[tuple[float, float], str], row: float, column: float) -> str:
    if math.isnan(row):
        return next((found for (_, at), found in signs.items() if at == column), " ")
    return signs.get((row, column), " ")


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)


def _flips(refiner: Refiner) -> str:
    keys = [axis.key for axis in refiner.axes]
    lines = []
    for flip in refiner.flips():
        where = ", ".join(f"{keys[i]} {_shown(value)}" for i, value in enumerate(flip.ends[0]) if i != flip.axis)
        low, high = (_shown(end[flip.axis]) for end in flip.ends)
        names = [{-1: "below", 0: "on the level", 1: "above"}[side] for side in flip.sides]
        lines.append(f"  {keys[flip.axis]} {low} ({names[0]}) to {high} ({names[1]}){': ' + where if where else ''}")
    if not lines:
        return "the outcome flips nowhere: all cells are on one side, or not known yet"
    more = f"\n  ... {len(lines) - _LINES} more" if len(lines) > _LINES else ""
    return "it flips between\n" + "\n".join(lines[:_LINES]) + more


def _saved(refiner: Refiner) -> str:
    found = told(refiner)
    text = f"{found['runs']:,} runs in {found['cells']} cells, {found['done']} of them known well enough"
    full, width = found["full_grid_runs"], refiner.asked.half_width
    text += f"; a full grid as fine, planned beforehand for +-{width:g} in every cell, takes {full:,}"
    if found["done"] == found["cells"] and full > found["runs"]:
        text += f": {full - found['runs']:,} runs ({found['saved']:.0%}) saved"
    return text
