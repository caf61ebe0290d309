"""Where to spend runs: cells get more until they are classified or narrow, and the boundary between them more cells.

The rule is a function of what was found so far and of nothing else: not of threads, of time or of an interruption, so
a study that was stopped goes on as if it had not been. Its intervals are confidence sequences
(``agent.evaluation.sweep.sequential``), which hold although the rule looks at them.
"""

__all__ = ["FIRST_RUNS", "Flip", "Order", "Point", "Rule", "Standing", "flips", "midpoints", "next_orders", "weights"]

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.evaluation.sweep.axes import Value
from agent.evaluation.sweep.sequential import confidence_interval
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]

#: Where a cell lies: one value for each varied key.
Point = tuple[Value, ...]

#: Runs of every cell before anything is decided: 8 that all agree already exclude 0.5.
FIRST_RUNS = 8
#: A cell that is not done gets this share of its runs in addition, so that looking stays cheap.
_GROWTH = 0.25
_LEAST = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of every cell; outcomes are scaled to [0, 1]."""

    half_width: float  #: narrow enough
    level: float | None = None  #: which side of it a cell lies on is enough; None: narrow all
    budget: int | None = None  #: runs at most, of all cells together
    depth: int = 0  #: how often the distance between neighbours may be halved
    first_runs: int = FIRST_RUNS

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        InputError
            Naming every mistake, one a line.
        """
        wrong = []
        if not 0.0 < self.half_width < 0.5:
            wrong.append(f"half-width must be above 0 and below 0.5 of the outcome's range, got {self.half_width:g}")
        if self.level is not None and not 0.0 < self.level < 1.0:
            wrong.append(f"level must lie within the outcome's range, got {self.level:g} of it")
        if self.budget is not None and self.budget < 1:
            wrong.append(f"budget must be >= 1 run, got {self.budget}")
        if not 0 <= self.depth <= 8:
            wrong.append(f"depth must be in 0 .. 8, got {self.depth}")
        if self.depth and self.level is None:
            wrong.append("depth needs a level: only where outcomes flip are cells added")
        if self.first_runs < 2:
            wrong.append(f"first runs must be >= 2, got {self.first_runs}")
        if wrong:
            raise InputError("\n".join(wrong))


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a cell."""

    runs: int  #: played
    counted: int  #: that have the outcome
    mean: float  #: nan without any
    low: float
    high: float
    side: int  #: -1 below the level, 1 above it, 0 not known
    done: bool  #: classified or narrow enough

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return 0.5 * (self.high - self.low)

    @classmethod
    def of(cls, values: Floats, rule: Rule) -> "Standing":
        """Return the standing of a cell with these outcomes (run,); nan: the run has none."""
        known = values[~np.isnan(values)]
        mean, low, high = confidence_interval(known)
        side = 0 if rule.level is None else int(low > rule.level) - int(high < rule.level)
        narrow = high - low <= 2.0 * rule.half_width
        return cls(values.size, known.size, mean, low, high, side, bool(side) or bool(narrow))


@dataclass(frozen=True, slots=True)
class Order:
    """Replications ``first`` to ``first + count - 1`` of a cell, to be played."""

    point: Point
    first: int
    count: int


def next_orders(standings: Mapping[Point, Standing], rule: Rule) -> list[Order]:
    """Return what is to be played next; nothing if all is done or the budget is spent.

    Parameters
    ----------
    standings
        Of all cells, in the order of the design; cells without runs too.
    rule
        What is asked.

    Returns
    -------
    list
        In the order in which they matter: cells that lack their first runs, then open cells beside which the outcome
        flips, then those with the widest intervals. If the budget does not suffice the last ones are cut.
    """
    left = math.inf if rule.budget is None else rule.budget - sum(s.runs for s in standings.values())
    first = [Order(p, s.runs, rule.first_runs - s.runs) for p, s in standings.items() if s.runs < rule.first_runs]
    waiting = [(p, s) for p, s in standings.items() if s.runs >= rule.first_runs and not s.done]
    border = {end for flip in flips(standings) for end in flip.ends}
    waiting.sort(key=lambda cell: (cell[0] not in border, -cell[1].half_width))
    more = [Order(p, s.runs, max(_LEAST, math.ceil(_GROWTH * s.runs))) for p, s in waiting]
    orders = []
    for order in first or more:
        count = int(min(order.count, left))
        if count < 1:
            break
        orders.append(Order(order.point, order.first, count))
        left -= count
    return orders


@dataclass(frozen=True, slots=True)
class Flip:
    """Two neighbours of which one is known to lie on a side of the level and the other is not known to lie there."""

    axis: int  #: along which they are neighbours
    ends: tuple[Point, Point]  #: the smaller value first
    sides: tuple[int, int]  #: of the ends, see ``Standing.side``


def flips(standings: Mapping[Point, Standing]) -> list[Flip]:
    """Return where the outcome flips between neighbours along an axis of numbers, by axis."""
    found = []
    for axis, line in _lines([point for point, standing in standings.items() if standing.counted]):
        for ends in itertools.pairwise(line):
            sides = (standings[ends[0]].side, standings[ends[1]].side)
            if sides[0] != sides[1]:
                found.append(Flip(axis, ends, sides))
    return found


def _lines(points: Sequence[Point]) -> list[tuple[int, list[Point]]]:
    """Return (axis, points in increasing order) of every line of points that differ in one number only."""
    lines: dict[tuple[int, Point], list[Point]] = {}
    for point in points:
        for axis, value in enumerate(point):
            if is_number(value):
                lines.setdefault((axis, (*point[:axis], *point[axis + 1 :])), []).append(point)
    ordered = sorted(lines.items(), key=lambda item: item[0][0])
    return [(axis, sorted(line, key=lambda point: number(point[axis]))) for (axis, _), line in ordered if len(line) > 1]


def is_number(value: Value) -> bool:
    """Return whether a value has an order and a middle to another one; True and False have not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Value) -> float:
    """Return a value that is a number."""
    assert isinstance(value, (int, float))
    return float(value)


def midpoints(standings: Mapping[Point, Standing], axes: Sequence[Sequence[Value]], depth: int) -> list[Point]:
    """Return the cells to add: halfway between neighbours that lie on different sides of the level.

    Parameters
    ----------
    standings
        Of all cells.
    axes
        (axis, value) the values of the grid that it began with.
    depth
        How often a distance of that grid may be halved.
    """
    found: dict[Point, None] = {}
    for flip in flips(standings):
        if 0 in flip.sides:
            continue
        low, high = (_place(axes[flip.axis], end[flip.axis]) for end in flip.ends)
        gap = high - low
        # neighbours of a coarser row lie further apart than a step of the grid: their boundary is not between them
        if gap <= 1.0 + 1e-9 and 0.5 * gap >= 0.5**depth - 1e-9:
            values = [end[flip.axis] for end in flip.ends]
            middle: Value = 0.5 * (number(values[0]) + number(values[1]))
            if all(isinstance(value, int) for value in axes[flip.axis]):
                if middle != int(number(middle)):
                    continue
                middle = int(number(middle))
            found[(*flip.ends[0][: flip.axis], middle, *flip.ends[0][flip.axis + 1 :])] = None
    return list(found)


def _place(axis: Sequence[Value], value: Value) -> float:
    """Return where a value lies among those of an axis: 1.5 is halfway between the second and the third."""
    if not is_number(value):
        return float(axis.index(value))
    known = sorted(number(other) for other in axis)
    return float(np.interp(number(value), known, np.arange(len(known))))


def weights(points: Sequence[Point], axes: Sequence[Sequence[Value]], depth: int) -> Floats:
    """Return (point,) the part of the design that a cell stands for; a cell of the whole grid stands for 1.

    The part is what lies nearer to it than to any other cell with the same names, in steps of the grid, found on a
    lattice twice as fine as the cells. What was refined counts no more than the rest in a mean with these weights.
    """
    numbers = [i for i, axis in enumerate(axes) if all(map(is_number, axis))]
    if not depth or not numbers:
        return np.ones(len(points))
    from scipy.spatial import cKDTree

    fine = 2 ** (depth + 1)
    ticks = [(np.arange(len(axes[i]) * fine) + 0.5) / fine - 0.5 for i in numbers]
    lattice = np.stack([grid.ravel() for grid in np.meshgrid(*ticks, indexing="ij")], axis=1)
    groups: dict[Point, list[int]] = {}
    for k, point in enumerate(points):
        groups.setdefault(tuple(value for i, value in enumerate(point) if i not in numbers), []).append(k)
    found = np.zeros(len(points))
    for members in groups.values():
        places = np.array([[_place(axes[i], points[k][i]) for i in numbers] for k in members])
        # a position between cells that are equally near goes to the first of them, on every machine
        distance, near = cKDTree(places).query(lattice, k=min(2 ** len(numbers), len(members)))
        near, distance = near.reshape(len(lattice), -1), distance.reshape(len(lattice), -1)
        tied = distance <= distance[:, :1] + 1e-9
        nearest = np.where(tied, near, len(members)).min(axis=1)
        found[members] = np.bincount(nearest, minlength=len(members)) / fine ** len(numbers)
    return found
