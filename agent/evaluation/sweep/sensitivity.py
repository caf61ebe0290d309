"""Which parameters an outcome depends on, over ranges of all of them at once."""

__all__ = ["METHODS", "OUTCOMES", "Sensitivity", "analyse", "design_of", "planned_runs", "rows_of", "sentence"]

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.statistics import Interval
from agent.evaluation.study import uninterrupted
from agent.evaluation.sweep.axes import Axis, Cell, Value
from agent.evaluation.sweep.cells import MEASURES, until_of
from agent.evaluation.sweep.crew import Crew
from agent.evaluation.sweep.indices import (
    CHANCE,
    Design,
    morris_design,
    morris_effects,
    sobol_design,
    sobol_shares,
)
from agent.evaluation.sweep.playing import Job, batches, play_batch, runs_schema
from agent.evaluation.sweep.worlds import Worlds

Floats = npt.NDArray[np.float64]

METHODS = ("sobol", "morris")
#: What is explained: every run has these, but for the time to mitigation, which needs a fault.
OUTCOMES = ("error_budget_spent", "ttm_s")


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What came out."""

    method: str
    runs: int
    rows: list[dict[str, Any]]  #: by outcome, then parameter; None is unknown


def _unit(axis: Axis, share: float) -> Value:
    """Return the value of an axis at a share in [0, 1]: of its range, or of its list."""
    if axis.ranged:
        return axis.at(min(share, 1.0 - 1e-12) if axis.whole else share)
    return axis.values[min(int(share * len(axis.values)), len(axis.values) - 1)]


def planned_runs(method: str, parameters: int, size: int) -> int:
    """Return how many runs a design takes."""
    return size * (parameters + 3 if method == "sobol" else parameters + 1)


def design_of(axes: Sequence[Axis], *, method: str, size: int, seed: int) -> tuple[Design, list[Cell]]:
    """Return the points to play, and the cell of each.

    Parameters
    ----------
    axes
        The parameters; the values of a list are equally likely.
    method
        One of ``METHODS``.
    size
        Samples of Sobol, a power of 2, or trajectories of Morris.
    seed
        Of the design.

    Raises
    ------
    InputError
        If the size does not go with the method, or there is no parameter.
    """
    make = sobol_design if method == "sobol" else morris_design
    design = make(len(axes), size, seed=seed)
    cells = [
        Cell(number, tuple(_unit(axis, share) for axis, share in zip(axes, point, strict=True)))
        for number, point in enumerate(design.unit.tolist())
    ]
    return design, cells


def analyse(
    worlds: Worlds,
    crew: Crew,
    *,
    method: str,
    size: int,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[Sensitivity | None, pl.DataFrame]:
    """Play a design and say what part each parameter has in the outcomes.

    Parameters
    ----------
    worlds, crew
        Of the study whose axes are the parameters.
    method, size
        As ``design_of``.
    on_progress
        Told how many runs are done.

    Returns
    -------
    tuple
        The answer, None if Ctrl-C came before all runs were done, and the table of the runs that were.
    """
    sweep = worlds.sweep
    design, cells = design_of(sweep.axes, method=method, size=size, seed=sweep.seed)
    jobs = [Job(cell.number, cell, int(run)) for cell, run in zip(cells, design.run.tolist(), strict=True)]
    frames, done, interrupted = [pl.DataFrame(schema=runs_schema(sweep.axes))], 0, True
    with contextlib.suppress(KeyboardInterrupt):
        for batch in batches(worlds, jobs):
            tell = None if on_progress is None else lambda runs, before=done: on_progress(before + runs)
            table = play_batch(worlds, crew, batch, threads=crew.threads, on_progress=tell)
            with uninterrupted():
                frames.append(table)
                done += table.height
        interrupted = False
    runs = pl.concat(frames).sort("row")
    if interrupted and done < len(jobs):
        return None, runs
    return Sensitivity(method, done, rows_of(design, runs, sweep.axes, method=method, seed=sweep.seed)), runs


def rows_of(
    design: Design, runs: pl.DataFrame, axes: Sequence[Axis], *, method: str, seed: int
) -> list[dict[str, Any]]:
    """Return a row per outcome and parameter, and with Sobol one for chance."""
    until_s = until_of(runs)
    rows: list[dict[str, Any]] = []
    names = [axis.key for axis in axes]
    for measure in MEASURES:
        if measure.name not in OUTCOMES:
            continue
        values = measure.of(runs, until_s)
        if np.isnan(values).any():
            continue
        if method == "sobol":
            shares = sobol_shares(values, len(axes), seed=seed)
            for name, first, total in zip([*names, CHANCE], shares.first, shares.total, strict=True):
                rows.append(
                    {"outcome": measure.name, "parameter": name} | _between("alone", first) | _between("total", total)
                )
        else:
            effects = morris_effects(design, values, seed=seed)
            for name, size, mean, spread in zip(names, effects.size, effects.mean, effects.spread, strict=True):
                rows.append(
                    {"outcome": measure.name, "parameter": name}
                    | _between("size", size)
                    | _between("mean", mean)
                    | _between("spread", spread)
                )
    return rows


def _between(name: str, found: Interval) -> dict[str, float | None]:
    low, high = found.low, found.high
    return {
        name: None if np.isnan(found.value) else found.value,
        f"{name}_low": None if np.isnan(low) else low,
        f"{name}_high": None if np.isnan(high) else high,
    }


def sentence(rows: Sequence[dict[str, Any]], method: str) -> str:
    """Return in words what an outcome depends on most; ``rows`` are of one outcome."""
    column = "total" if method == "sobol" else "size"
    known = [row for row in rows if row[column] is not None]
    if not known:
        return f"{rows[0]['outcome']}: does not vary."
    ranked = sorted(known, key=lambda row: -row[column])
    first, rest = ranked[0], ranked[1:]
    unit = "of its variance, alone or with others" if method == "sobol" else "from one end of its range to the other"
    text = f"{first['outcome']}: depends most on {first['parameter']} ({_told(first, column)} {unit})"
    apart = [row for row in rest if row[f"{column}_high"] < first[f"{column}_low"]]
    if rest and len(apart) < len(rest):
        near = ", ".join(row["parameter"] for row in rest if row not in apart)
        text += f"; not shown to be more than {near}"
    none = [row["parameter"] for row in rest if row[f"{column}_high"] < (0.05 if method == "sobol" else 1e-9)]
    if none:
        text += f"; hardly on {', '.join(none)}"
    return text + "."


def _told(row: dict[str, Any], column: str) -> str:
    return f"{row[column]:.2f} [{row[f'{column}_low']:.2f}, {row[f'{column}_high']:.2f}]"
