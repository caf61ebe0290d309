"""Arms of a timing analysis: the same runs under one condition after the other, and paired differences between them."""

__all__ = [
    "MEASURE", "NOT_SHOWN", "Arm", "Finding", "OnProgress", "Outcomes", "between", "compared", "plain", "play_arms",
    "restricted_ttm", "verdict",
]  # fmt: skip

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.statistics import Interval, Resampler, holm
from agent.evaluation.sweep import Cell, Crew, Sweep, Worlds, batches, play_batch
from agent.evaluation.sweep.playing import jobs_of
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
OnProgress = Callable[[float], None]

#: What arms are compared in: early and late onsets have the same time to spend it.
MEASURE = "follow_up_budget_spent"
#: Verdict on a difference whose interval and p-value leave open whether there is one.
NOT_SHOWN = "not shown"
#: Below this p-value, adjusted for the number of arms, a difference is told.
_SHOWN = 0.05


@dataclass(frozen=True, slots=True)
class Arm:
    """One condition; arms of an analysis have the same runs."""

    labels: dict[str, Any]  #: columns of the table, in order
    reference: int  #: position of the arm that it is compared with; its own: none


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came out of the runs of an arm, in run order."""

    budget: Floats  #: (run,) error budget spent in the follow-up
    spent: Floats  #: (run,) error budget spent in the whole episode
    ttm_s: Floats  #: (run,) restricted to the follow-up; 0 without an incident
    ttd_s: Floats  #: (run,) restricted likewise; nan without an agent
    lost: Floats  #: (run,) 1 if an incident was not over by the end
    incident: Floats  #: (run,) 1 if there was one

    @classmethod
    def of(cls, episodes: pl.DataFrame) -> "Outcomes":
        """Return the outcomes of an episodes table."""
        table = episodes.sort("run")
        until = _floats(table, "censored_s") - _floats(table, "fault_onset_s")
        had, recovered = _floats(table, "incident") == 1.0, _floats(table, "recovered") == 1.0
        ttd = np.minimum(np.nan_to_num(_floats(table, "ttd_s"), nan=np.inf), until)
        watched = table["detector"].is_not_null().to_numpy()
        return cls(
            _floats(table, MEASURE), _floats(table, "error_budget_spent"), restricted_ttm(table),
            np.where(watched, ttd, np.nan), (had & ~recovered).astype(np.float64), had.astype(np.float64),
        )  # fmt: skip


def restricted_ttm(table: pl.DataFrame) -> Floats:
    """Return (run,) ``min(TTM, follow-up)``; every run has the same follow-up, so it is known of all of them.

    An incident that never came is mitigated at once: 0. nan without a fault.
    """
    until = _floats(table, "censored_s") - _floats(table, "fault_onset_s")
    had = _floats(table, "incident") == 1.0
    ttm = np.minimum(np.nan_to_num(_floats(table, "ttm_s"), nan=np.inf), until)
    return np.where(np.isnan(until), np.nan, np.where(had, ttm, 0.0))


def _floats(table: pl.DataFrame, column: str) -> Floats:
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def play_arms(
    sweep: Sweep, cells: Sequence[Cell], crew: Crew, *, on_progress: OnProgress | None = None
) -> tuple[dict[int, Outcomes], bool]:
    """Return by number of the cell what came out of its runs, and whether Ctrl-C came; cells that are cut off are not.

    Parameters
    ----------
    sweep, cells
        The study, and one cell for each arm.
    crew
        Its agents.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        Listing every rule that the cells break, one a line.
    """
    worlds = Worlds(sweep)
    if mistakes := worlds.mistakes(cells):
        raise InputError("\n".join(mistakes))
    frames: list[pl.DataFrame] = []
    done = 0
    interrupted = True
    with contextlib.suppress(KeyboardInterrupt):
        for batch in batches(worlds, jobs_of(cells, range(sweep.replications))):
            tell = None if on_progress is None else lambda runs, before=done: on_progress(before + runs)
            frames.append(play_batch(worlds, crew, batch, threads=crew.threads, on_progress=tell))
            done += batch.runs
        interrupted = False
    runs = pl.concat(frames) if frames else pl.DataFrame({"cell": []})
    whole = (part for part in runs.partition_by("cell") if part.height == sweep.replications)
    return {int(part["cell"][0]): Outcomes.of(part) for part in whole}, interrupted


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of an analysis."""

    name: str
    question: str
    rows: list[dict[str, Any]]  #: of its table; None is unknown
    sentences: list[str]
    shown: list[tuple[str, str, int]] = field(default_factory=list)  #: column, heading, decimal places; -1: text
    interrupted: bool = False  #: by Ctrl-C; the rows are of what was finished

    @property
    def table(self) -> pl.DataFrame:
        """The rows as a table."""
        return pl.DataFrame(self.rows, infer_schema_length=None)

    def text(self) -> str:
        """Return the table and the sentences as text."""
        from agent.evaluation.render import grid

        heads = [head for _, head, _ in self.shown]
        rows = [[_cell(row, column, places) for column, _, places in self.shown] for row in self.rows]
        return "\n".join([self.question, "", grid(heads, rows), "", *self.sentences])


def _cell(row: dict[str, Any], column: str, places: int) -> str:
    from agent.evaluation.render import cell, cell_between

    if column.endswith("[]"):
        name = column[:-2]
        return cell_between(row[f"{name}_low"], row[f"{name}_high"], places)
    return str(row[column]) if places < 0 else cell(row[column], places)


def verdict(difference: Interval, p: float) -> str:
    """Return what a difference in something of which less is better says: better, worse, or nothing."""
    if np.isnan(p) or p >= _SHOWN:
        return NOT_SHOWN
    return "worse" if difference.value > 0.0 else "better"


def compared(
    arms: Sequence[Arm], outcomes: Mapping[int, Outcomes], *, seed: int, measure: str = "budget"
) -> list[dict[str, Any]]:
    """Return a row per arm: its outcomes, and the paired difference of the budget to that of its reference.

    Parameters
    ----------
    arms, outcomes
        The arms, and by position what came out of them; those without are left out. The p-values of all are adjusted
        together (Holm 1979).
    seed
        Of the resampling.
    measure
        Field of ``Outcomes`` that is called the budget: that of the follow-up, or ``spent`` where arms have the same
        onset and windows of different length.
    """
    sizes = {found.budget.size for found in outcomes.values()}
    assert len(sizes) <= 1, "arms have the same runs"
    resampler = Resampler(max(sizes, default=1), seed=seed)
    tested = {
        i: resampler.tested(getattr(outcomes[i], measure)[None], getattr(outcomes[arm.reference], measure)[None])
        for i, arm in enumerate(arms)
        if i != arm.reference and i in outcomes and arm.reference in outcomes
    }
    adjusted = dict(zip(tested, holm([p for _, p in tested.values()]), strict=True))
    rows = []
    for i, arm in enumerate(arms):
        if i not in outcomes:
            continue
        own, unknown = outcomes[i], (Interval(np.nan, np.nan, np.nan), np.nan)
        difference, p = tested.get(i, unknown)[0], adjusted.get(i, np.nan)
        rows.append(
            arm.labels
            | {"runs": own.budget.size}
            | between("budget", resampler.mean(getattr(own, measure)[None]))
            | between("difference", difference)
            | {"p": plain(p), "verdict": verdict(difference, p) if i in tested else "-"}
            | {name: plain(float(getattr(own, name).mean())) for name in ("ttm_s", "ttd_s", "lost", "incident")}
        )
    return rows


def between(name: str, found: Interval) -> dict[str, float | None]:
    """Return the columns of an interval."""
    return {name: plain(found.value), f"{name}_low": plain(found.low), f"{name}_high": plain(found.high)}


def plain(value: float) -> float | None:
    """Return a number of a table: None for nan."""
    return None if np.isnan(value) else float(value)
