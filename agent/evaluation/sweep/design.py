"""From axes to cells: a full grid, or a Latin hypercube over the ranges crossed with what is listed."""

__all__ = ["DESIGNS", "cells_of", "count_cells"]

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from agent.evaluation.sweep.axes import Axis, Cell, Value

#: How cells are laid out.
DESIGNS = ("grid", "lhs")

_STREAM = 0x6C6873


def count_cells(axes: Sequence[Axis], samples: int) -> int:
    """Return how many cells there are; ``samples`` counts where an axis is a range."""
    listed = math.prod(len(axis.values) for axis in axes if not axis.ranged)
    return listed * (samples if any(axis.ranged for axis in axes) else 1)


def cells_of(axes: Sequence[Axis], *, samples: int, seed: int) -> list[Cell]:
    """Return the cells: every sample of the ranges with every combination of what is listed, the last axis fastest.

    A Latin hypercube (McKay, Beckman and Conover 1979): each range is cut into ``samples`` parts of equal share, each
    part is met once, at a random place within it, and the parts of different ranges meet at random.

    Parameters
    ----------
    axes
        In the order of a cell's values.
    samples
        Of the ranges; counts only where there are any.
    seed
        Of the samples.
    """
    ranged = [i for i, axis in enumerate(axes) if axis.ranged]
    listed = [i for i, axis in enumerate(axes) if not axis.ranged]
    points = list(_samples(len(ranged), samples, seed)) if ranged else [()]
    cells: list[Cell] = []
    for point in points:
        for combination in itertools.product(*(axes[i].values for i in listed)):
            values: list[Value] = [None] * len(axes)
            for i, share in zip(ranged, point, strict=True):
                values[i] = axes[i].at(share)
            for i, value in zip(listed, combination, strict=True):
                values[i] = value
            cells.append(Cell(len(cells), tuple(values)))
    return cells


def _samples(n_ranges: int, samples: int, seed: int) -> Iterator[tuple[float, ...]]:
    """Yield (range,) shares in [0, 1); a range's shares do not depend on how many ranges follow it."""
    columns = []
    for number in range(n_ranges):
        sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM, number))
        generator = np.random.Generator(np.random.PCG64(sequence))
        columns.append((generator.permutation(samples) + generator.random(samples)) / samples)
    for row in np.stack(columns, axis=1).tolist():
        yield tuple(row)
