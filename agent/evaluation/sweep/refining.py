"""A study that is refined while it runs: rounds of jobs, what is known after each, and what came out."""

__all__ = ["REFINABLE", "Refiner", "bounds_of", "mistakes_of", "rule_of", "weighted"]

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.sweep.axes import Axis, Cell, Value
from agent.evaluation.sweep.cells import MEASURES, Measure
from agent.evaluation.sweep.playing import Job
from agent.evaluation.sweep.refine import (
    Flip,
    Point,
    Rule,
    Standing,
    flips,
    is_number,
    midpoints,
    next_orders,
    weights,
)
from agent.evaluation.sweep.sequential import fixed_runs
from agent.evaluation.sweep.sweep import Refinement
from simcore.errors import InputError, suggest
from simcore.model.faults import FOREVER
from simcore.model.scenario import Scenario

Floats = npt.NDArray[np.float64]

#: Means with known bounds; shares have them too.
_BUDGETS = ("error_budget_spent", "follow_up_budget_spent")
#: What a study can be refined by.
REFINABLE: dict[str, Measure] = {m.name: m for m in MEASURES if m.share or m.name in _BUDGETS}


def scale_of(asked: Refinement, objective: float) -> float:
    """Return the largest value of the measure; the smallest is 0."""
    return 1.0 if REFINABLE[asked.measure].share else 1.0 / (1.0 - objective)


def rule_of(asked: Refinement, objective: float) -> Rule:
    """Return the rule for outcomes scaled to [0, 1].

    Raises
    ------
    InputError
        Listing every number that is out of range, one a line.
    """
    scale, level = scale_of(asked, objective), asked.level
    if level is None and REFINABLE[asked.measure].share:
        level = 0.5
    level = None if level is None else level / scale
    return Rule(asked.half_width / scale, level, asked.budget, asked.depth)


def mistakes_of(asked: Refinement, scenario: Scenario, axes: Sequence[Axis]) -> list[str]:
    """Return what keeps a study from being refined as asked."""
    if asked.measure not in REFINABLE:
        known = ", ".join(REFINABLE)
        return [f"must name one of {known}, got '{asked.measure}'{suggest(asked.measure, REFINABLE)}"]
    wrong = []
    try:
        rule_of(asked, scenario.slo.objective)
    except InputError as error:
        wrong += str(error).splitlines()
    wrong += [f"{axis.key}: is a range; a refined study begins with a grid" for axis in axes if axis.ranged]
    if any(axis.key == "slo.objective" for axis in axes) and asked.measure in _BUDGETS:
        wrong.append("slo.objective: varies, so that there is no common scale of the error budget")
    if asked.depth:
        endless = [axis.key for axis in axes if axis.key.endswith("duration_s") and FOREVER in axis.values]
        wrong += [f"{key}: there is nothing halfway to forever: leave it out, or the depth" for key in endless]
        if not any(all(map(is_number, axis.values)) for axis in axes):
            wrong.append("depth needs a key whose values are numbers")
    return wrong


class Refiner:
    """Hands out the jobs of a refined study, round by round; the same outcomes give the same jobs.

    Rows are numbered in the order of the jobs. A study that was interrupted runs through the same rounds, with the
    outcomes that are there already.
    """

    def __init__(self, asked: Refinement, axes: Sequence[Axis], cells: Sequence[Cell], objective: float) -> None:
        self.asked, self.axes = asked, axes
        self.rule, self.scale = rule_of(asked, objective), scale_of(asked, objective)
        self._measure = REFINABLE[asked.measure]
        self._numbers: dict[Point, int] = {cell.values: cell.number for cell in cells}
        self._rows: dict[Point, list[int]] = {cell.values: [] for cell in cells}
        self._found: dict[int, float] = {}
        self.standings: dict[Point, Standing] = {}

    def take(self, runs: pl.DataFrame) -> None:
        """Take the outcomes of some runs in, from a table of runs."""
        if runs.height:
            values = np.clip(self._measure.of(runs, math.nan) / self.scale, 0.0, 1.0)
            self._found |= dict(zip(runs["row"].to_list(), values.tolist(), strict=True))

    def rounds(self) -> Iterator[list[Job]]:
        """Yield the jobs of each round; the outcomes of all of them must have been taken in before the next."""
        row = 0
        self._update()
        while True:
            orders = next_orders(self.standings, self.rule)
            if not orders:
                added = [] if self._spent(row) else midpoints(self.standings, self._values(), self.rule.depth)
                if not added:
                    return
                for point in added:
                    self._numbers[point] = len(self._numbers)
                    self._rows[point] = []
                self._update()
                continue
            jobs = []
            for order in orders:
                cell = Cell(self._numbers[order.point], order.point)
                for replication in range(order.first, order.first + order.count):
                    jobs.append(Job(row, cell, replication))
                    self._rows[order.point].append(row)
                    row += 1
            yield jobs
            self._update()

    def _spent(self, runs: int) -> bool:
        return self.rule.budget is not None and runs >= self.rule.budget

    def _values(self) -> list[tuple[Value, ...]]:
        return [axis.values for axis in self.axes]

    def _update(self) -> None:
        for point, rows in self._rows.items():
            if point not in self.standings or self.standings[point].runs < len(rows):
                values = np.array([self._found[row] for row in rows], np.float64)
                self.standings[point] = Standing.of(values, self.rule)

    def flips(self) -> list[Flip]:
        """Return where the outcome flips now."""
        return flips(self.standings)

    def spread(self) -> float:
        """Return the largest standard deviation of a cell's outcomes, on the scale of [0, 1]."""
        spreads = [0.0]
        for rows in self._rows.values():
            values = np.array([self._found[row] for row in rows if row in self._found], np.float64)
            values = values[~np.isnan(values)]
            if values.size > 1:
                spreads.append(float(values.std(ddof=1)))
        return max(spreads)

    def full_grid_runs(self) -> int:
        """Return the runs of a full grid, fixed beforehand, whose ordinary intervals are as narrow in every cell.

        It has the cells of the finest distance that the boundary was refined to, each with the runs that the cell
        whose outcomes vary most needs.
        """
        cells = 1
        for axis in self.axes:
            fine = 2**self.rule.depth if all(map(is_number, axis.values)) else 1
            count = (len(axis.values) - 1) * fine + 1
            whole = [value for value in axis.values if isinstance(value, int)]
            cells *= min(count, max(whole) - min(whole) + 1) if fine > 1 and len(whole) == len(axis.values) else count
        return cells * fixed_runs(self.spread(), self.rule.half_width)


def weighted(runs: pl.DataFrame, axes: Sequence[Axis], depth: int) -> pl.DataFrame:
    """Return the table of runs with weights: a cell counts as much as the part of the design that it stands for.

    However many runs a cell got, they share its weight; the mean weight is 1.
    """
    if not runs.height:
        return runs
    keys = [axis.key for axis in axes]
    cells = runs.group_by("cell").agg(pl.len().alias("runs"), *(pl.col(key).first() for key in keys)).sort("cell")
    parts = weights([tuple(row) for row in cells.select(keys).rows()], [axis.values for axis in axes], depth)
    share = parts / parts.sum() * runs.height / cells["runs"].to_numpy()
    shares = pl.DataFrame({"cell": cells["cell"], "share": share})
    joined = runs.join(shares, on="cell", how="left", maintain_order="left")
    return joined.with_columns(pl.col("share").alias("weight")).drop("share")


def bounds_of(scenario: Scenario, axes: Sequence[Axis], until_s: float) -> Mapping[str, tuple[float, float]]:
    """Return the bounds of the measures that have some, which an interval valid at any stopping needs."""
    bounds = {m.name: (0.0, 1.0) for m in MEASURES if m.share or m.name == "ac1"}
    if all(axis.key != "slo.objective" for axis in axes):
        bounds |= dict.fromkeys(_BUDGETS, (0.0, 1.0 / (1.0 - scenario.slo.objective)))
    if not math.isnan(until_s):
        bounds["ttm_s"] = (0.0, until_s)
    return bounds
