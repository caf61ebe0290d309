"""Compares policies on the same runs: paired differences, one primary measure, Holm's correction for the others."""

__all__ = ["PER_DECISION", "PRIMARY", "PRIMARY_MEASURE", "SECONDARY", "Comparison", "Measure", "compare"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.statistics import Interval, Resampler, Survival, fraction, holm, rate

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: The primary measure, named beforehand.
PRIMARY = "error_budget_spent"

_LEVEL = 0.05
_RUN = ["split", "seed", "run"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number per run; nan where the run does not count."""

    name: str
    better: int  #: 1 if more is better, -1 if less is
    about: str
    of: Callable[["Comparison", str], Floats]  #: (training, run) of a policy
    share: bool = False  #: 0 or 1 in every run, or in every decision
    weight: Callable[["Comparison", str], Floats] | None = None  #: (training, run) how many each number is the mean of


class Comparison:
    """The episodes of several policies as arrays (training, run), on the runs that all of them have."""

    def __init__(self, episodes: pl.DataFrame, *, seed: int, margin: float = MARGIN) -> None:
        """Line the runs up.

        Parameters
        ----------
        episodes
            The episodes table; ``training`` numbers the trainings of a policy (null: there is one).
        seed
            Of the resampling.
        margin
            What counts as harm.
        """
        table = episodes.with_columns(pl.col("training").fill_null(0))
        self.policies: list[str] = table["policy"].unique(maintain_order=True).to_list()
        self.margin = margin
        players = table.select("policy", "training").n_unique()
        shared = table.group_by(_RUN).agg(pl.len().alias("players")).filter(pl.col("players") == players)
        table = table.join(shared.select(_RUN), on=_RUN, how="semi")
        self._tables = {
            name: [part.sort(_RUN) for part in of.sort("training").partition_by("training", maintain_order=True)]
            for name in self.policies
            if (of := table.filter(pl.col("policy") == name)).height
        }
        first = next(iter(self._tables.values()), [table])[0]
        self.runs: int = first.height
        self.resampler = Resampler(self.runs, seed=seed)
        self.fault: list[str] = first["fault_type"].to_list()
        self.at_risk: Bools = first["noop_incident"].fill_null(False).to_numpy().astype(np.bool_)
        #: whether a fault was there to have an effect
        self.faulty: Bools = (first["fault_type"].fill_null("none") != "none").to_numpy()
        late = self.at_risk & self.faulty
        censored = self.column(self.policies[0], "censored_s") - self.column(self.policies[0], "fault_onset_s")
        #: up to when times to mitigation are averaged, seconds: what every run at risk is followed up for
        self.until_s = float(np.nanmin(censored[:, late])) if self.runs and late.any() else float("nan")

    def trainings(self, policy: str) -> int:
        """Return how many trainings of a policy there are."""
        return len(self._tables.get(policy, [None]))

    def column(self, policy: str, name: str) -> Floats:
        """Return (training, run) a column of the episodes table; nan for null."""
        parts = [
            part[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
            for part in self._tables.get(policy, [])
        ]
        return np.array(parts) if parts else np.zeros((1, 0))

    def among_risk(self, values: Floats) -> Floats:
        """Return values (training, run) with nan for the runs that are not at risk."""
        return np.where(self.at_risk, values, np.nan)

    def mitigation(self, policy: str) -> tuple[Floats, Bools, Bools]:
        """Return (training, run) each: time to mitigation or to its censoring, whether it came, which runs count.

        Those at risk count, the same for every policy: the time of an incident that was prevented is 0.
        """
        onset, end = self.column(policy, "fault_onset_s"), self.column(policy, "censored_s")
        had, ttm = self.column(policy, "incident") == 1.0, self.column(policy, "ttm_s")
        came = ~had | ~np.isnan(ttm)
        time_s = np.where(~had, 0.0, np.where(np.isnan(ttm), end - onset, ttm))
        counts = np.broadcast_to(self.at_risk & self.faulty, time_s.shape)
        return time_s, came, counts

    def clear_hours(self, policy: str) -> Floats:
        """Return (training, run) the hours before the fault's onset, or of the whole run without a fault."""
        onset = self.column(policy, "fault_onset_s")
        horizon = self.column(policy, "steps") * self.column(policy, "step_s")
        hours: Floats = np.where(np.isnan(onset), horizon, onset) / 3600.0
        return hours

    def survival(self, policy: str) -> Survival:
        """Return to what share the runs at risk have not recovered yet, by time since the onset."""
        return self.resampler.survival(*self.mitigation(policy))


def _as_is(name: str) -> Callable[[Comparison, str], Floats]:
    return lambda runs, policy: runs.column(policy, name)


def _recovered(runs: Comparison, policy: str) -> Floats:
    _, came, counts = runs.mitigation(policy)
    return np.where(counts, came, np.nan)


def _prevented(runs: Comparison, policy: str) -> Floats:
    return runs.among_risk((runs.column(policy, "incident") != 1.0).astype(np.float64))


def _durable(runs: Comparison, policy: str) -> Floats:
    return runs.column(policy, "durable")


def _false_rate(runs: Comparison, policy: str) -> Floats:
    """Return each run's false actions, in units that make their mean the actions per hour without a fault."""
    hours = runs.clear_hours(policy)
    per_hour: Floats = runs.column(policy, "false_actions") / hours.mean(1, keepdims=True)
    return per_hour


def _restricted(runs: Comparison, policy: str) -> Floats:
    time_s, _, counts = runs.mitigation(policy)
    return np.where(counts, np.minimum(time_s, runs.until_s), np.nan)


def _harmed(runs: Comparison, policy: str) -> Floats:
    below = runs.column(policy, "noop_j") - runs.column(policy, "j")
    return np.where(np.isnan(below), np.nan, below > runs.margin)


PRIMARY_MEASURE = Measure(PRIMARY, -1, "bad / ((1 - objective) * offered), all runs", _as_is(PRIMARY))

#: What is reported beside the primary measure; together they are tested at the level of one test (Holm).
SECONDARY: tuple[Measure, ...] = (
    Measure("recovered", 1, "share of the runs at risk that recovered or were kept from it", _recovered, share=True),
    Measure("durable", 1, "share of those at risk that stay well when the trigger strikes again", _durable, share=True),
    Measure("prevented", 1, "share of the runs at risk without an incident", _prevented, share=True),
    Measure("ttm_restricted_s", -1, "mean time to mitigation, runs at risk, cut off at the follow-up", _restricted),
    Measure("harmed", -1, "share of all runs with J below the noop twin by more than the margin", _harmed, share=True),
    Measure("false_actions", -1, "disruptive actions per hour without a fault", _false_rate),
    Measure("action_cost", -1, "in units of J, all runs", _as_is("action_cost")),
)  # fmt: skip


def _harmful(runs: Comparison, policy: str) -> Floats:
    many = _as_is("judged_disruptive")(runs, policy)
    share: Floats = np.full(many.shape, np.nan)
    return np.divide(runs.column(policy, "harmful_decisions"), many, out=share, where=many > 0)


#: What is reported if decisions were judged on forks (``agent.evaluation.regret``); tested with the secondary ones.
PER_DECISION: tuple[Measure, ...] = (
    Measure("regret", -1, "J of the best action less that of the one taken, a decision, unknown futures",
            _as_is("regret"), weight=_as_is("judged_decisions")),
    Measure("regret_clairvoyant", -1, "likewise in the run's own future, which nobody knows",
            _as_is("regret_clairvoyant"), weight=_as_is("judged_decisions")),
    Measure("harmful_decisions", -1, "share of the disruptive decisions that cost J more than the margin",
            _harmful, share=True, weight=_as_is("judged_disruptive")),
)  # fmt: skip

_SCHEMA = {
    "policy": pl.String(),
    "measure": pl.String(),
    "against": pl.String(),
    "trainings": pl.Int64(),
    "runs": pl.Int64(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "difference": pl.Float64(),
    "difference_low": pl.Float64(),
    "difference_high": pl.Float64(),
    "p": pl.Float64(),
    "p_holm": pl.Float64(),
    "verdict": pl.String(),
}


def compare(
    runs: Comparison, *, against: str | None = None, measures: Sequence[Measure] = (PRIMARY_MEASURE,)
) -> pl.DataFrame:
    """Return one row per policy and measure: its value, and how it differs from a reference on the same runs.

    Parameters
    ----------
    runs
        The policies' runs, lined up.
    against
        The reference; by default the first policy.
    measures
        The first is the primary one, which is tested by itself; the p-values of the others are corrected together.

    Returns
    -------
    polars.DataFrame
        ``runs`` is the number of runs that count; ``value`` the mean with its interval; ``difference`` the mean
        paired difference with its interval (percentile bootstrap over trainings and runs). ``verdict`` is ``better``,
        ``worse`` or ``no difference shown``; null for the reference. What does not exist is null.
    """
    reference = against or runs.policies[0]
    rows = [_row(runs, policy, reference, measure) for policy in runs.policies for measure in measures]
    primary = measures[0].name
    secondary = [row for row in rows if row["measure"] != primary]
    for row, p in zip(secondary, holm([row["p"] for row in secondary]), strict=True):
        row["p_holm"] = p
    better = {measure.name: measure.better for measure in measures}
    for row in rows:
        row["verdict"] = _verdict(row, row["measure"] == primary, better[row["measure"]], reference)
    clean = [{name: _known(row[name]) for name in _SCHEMA} for row in rows]
    return pl.DataFrame(clean, schema=_SCHEMA, orient="row")


def _row(runs: Comparison, policy: str, reference: str, measure: Measure) -> dict[str, Any]:
    mine = measure.of(runs, policy)
    value = _value(runs, policy, measure)
    base = {"policy": policy, "measure": measure.name, "trainings": runs.trainings(policy), "against": reference}
    found = base | {"runs": int((~np.isnan(mine)).any(0).sum()), "p_holm": float("nan")}
    found |= {"value": value.value, "low": value.low, "high": value.high}
    gap, p = Interval(np.nan, np.nan, np.nan), float("nan")
    if policy != reference:
        weights = _weights(runs, policy, measure), _weights(runs, reference, measure)
        gap, p = runs.resampler.tested(mine, measure.of(runs, reference), weights)
    return found | {"difference": gap.value, "difference_low": gap.low, "difference_high": gap.high, "p": p}


def _value(runs: Comparison, policy: str, measure: Measure) -> Interval:
    """Return the mean with an interval; where there is nothing, or everything, resampling alone would have no doubt.

    Trainings meet the same runs, so they add nothing to the number of cases.
    """
    if measure.name == "false_actions":
        return rate(*(float(of.mean(0).sum()) for of in (runs.column(policy, measure.name), runs.clear_hours(policy))))
    values, weights = measure.of(runs, policy), _weights(runs, policy, measure)
    found = runs.resampler.mean(values, weights)
    if not measure.share or np.isnan(found.value):
        return found
    known = ~np.isnan(values)
    number = float(known.any(0).sum() if weights is None else weights[known].sum() / values.shape[0])
    exact = fraction(found.value * number, number)
    return Interval(found.value, float(np.fmin(found.low, exact.low)), float(np.fmax(found.high, exact.high)))


def _weights(runs: Comparison, policy: str, measure: Measure) -> Floats | None:
    return None if measure.weight is None else measure.weight(runs, policy)


def _verdict(row: dict[str, Any], primary: bool, better: int, reference: str) -> str | None:
    if row["policy"] == reference or np.isnan(row["p"]):
        return None
    shown = not row["difference_low"] <= 0.0 <= row["difference_high"] if primary else row["p_holm"] < _LEVEL
    if not shown:
        return "no difference shown"
    return "better" if row["difference"] * better > 0 else "worse"


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
