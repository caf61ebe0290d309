"""Arms of a timing analysis: the same runs under one condition after the other, and paired differences between them."""

__all__ = ["MEASURE", "Arm", "Finding", "Outcomes", "compared", "outcomes_of", "restricted_ttm", "verdict"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.statistics import Interval, Resampler, holm

Floats = npt.NDArray[np.float64]

#: What arms are compared in: early and late onsets have the same time to spend it.
MEASURE = "follow_up_budget_spent"
#: Below this p-value, adjusted for the number of arms, a difference is told.
_SHOWN = 0.05


@dataclass(frozen=True, slots=True)
class Arm:
    """One condition; arms of an analysis have the same runs."""

    labels: dict[str, Any]  #: columns of the table, in order
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came out of the runs of an arm, in run order."""

    budget: Floats  #: (run,) error budget spent in the follow-up
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
            _floats(table, MEASURE), restricted_ttm(table), np.where(watched, ttd, np.nan),
            (had & ~recovered).astype(np.float64), had.astype(np.float64),
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


def outcomes_of(episodes: pl.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], Outcomes]:
    """Return the outcomes of each combination of the key columns, on the runs that all combinations have."""
    complete = episodes.group_by("run").agg(pl.len().alias("n")).filter(pl.col("n") == episodes.select(keys).n_unique())
    shared = episodes.join(complete.select("run"), on="run", how="semi")
    return {name: Outcomes.of(part) for name, part in shared.group_by(keys, maintain_order=True)}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of an analysis."""

    name: str
    question: str
    rows: list[dict[str, Any]]  #: of its table; None is unknown
    sentences: list[str]
    shown: list[tuple[str, str, int]] = field(default_factory=list)  #: column, heading, decimal places; -1: text

    @property
    def table(self) -> pl.DataFrame:
        """The rows as a table."""
        return pl.DataFrame(self.rows, infer_schema_length=None)

    def text(self) -> str:
        """Return the table and the sentences as text."""
        from agent.evaluation.render import cell, grid

        heads = [head for _, head, _ in self.shown]
        rows = [
            [str(row[column]) if places < 0 else cell(row[column], places) for column, _, places in self.shown]
            for row in self.rows
        ]
        return "\n".join([self.question, "", grid(heads, rows), "", *self.sentences])


def verdict(difference: Interval, p: float) -> str:
    """Return what a difference in something of which less is better says: better, worse, or nothing."""
    if np.isnan(p) or p >= _SHOWN:
        return "no difference shown"
    return "worse" if difference.value > 0.0 else "better"


def compared(
    arms: Sequence[Arm], outcomes: Mapping[int, Outcomes], references: Mapping[int, int], *, seed: int
) -> list[dict[str, Any]]:
    """Return a row per arm: its outcomes, and the paired difference of the budget to that of its reference.

    Parameters
    ----------
    arms, outcomes
        The arms, and by position what came out of them.
    references
        Position of an arm -> position of the arm that it is compared with; p-values of all are adjusted together
        (Holm 1979).
    seed
        Of the resampling.
    """
    sizes = {found.budget.size for found in outcomes.values()}
    assert len(sizes) <= 1, "arms have the same runs"
    resampler = Resampler(max(sizes, default=1), seed=seed)
    rows, tested, p_values = [], {}, {}
    for i, reference in references.items():
        if i != reference and i in outcomes and reference in outcomes:
            tested[i], p_values[i] = resampler.tested(
                outcomes[i].budget[None], outcomes[reference].budget[None]
            )  # fmt: skip
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    for i, arm in enumerate(arms):
        if i not in outcomes:
            continue
        own = outcomes[i]
        budget = resampler.mean(own.budget[None])
        row: dict[str, Any] = dict(arm.labels) | ({"policy": arm.policy} if arm.policy else {})
        row |= {"runs": own.budget.size} | _between("budget", budget)
        row |= _between("difference", tested.get(i, Interval(np.nan, np.nan, np.nan)))
        row |= {"p": _plain(adjusted.get(i, np.nan))}
        row["verdict"] = verdict(tested[i], adjusted[i]) if i in tested else "-"
        for name in ("ttm_s", "ttd_s", "lost", "incident"):
            row[name] = _plain(float(getattr(own, name).mean()))
        rows.append(row)
    return rows


def _between(name: str, found: Interval) -> dict[str, float | None]:
    return {name: _plain(found.value), f"{name}_low": _plain(found.low), f"{name}_high": _plain(found.high)}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
