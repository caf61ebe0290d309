"""A comparison as text: the primary measure and its verdicts, the others, by type of fault, and the controls."""

__all__ = ["by_fault", "controls", "report"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from agent.evaluation.compare import PER_DECISION, PRIMARY, PRIMARY_MEASURE, SECONDARY, Comparison, compare
from agent.evaluation.render import cell, cell_between, grid
from agent.evaluation.statistics import fraction, rate

#: Secondary measure -> heading, places.
_HEADS = {
    "recovered": ("recovered", 2),
    "durable": ("durable", 2),
    "prevented": ("prevented", 2),
    "ttm_restricted_s": ("TTM mean s", 0),
    "harmed": ("harmed", 3),
    "false_actions": ("false act./h", 2),
    "action_cost": ("action cost", 4),
}
_MARKS = {"better": " +", "worse": " -", "no difference shown": " =", None: ""}


def by_fault(episodes: pl.DataFrame, *, seed: int, margin: float, against: str) -> pl.DataFrame:
    """Return the primary measure by type of fault: the columns of ``compare``, and ``fault_type``, ``at_risk``.

    These are there to be looked at: nothing is corrected for there being many.
    """
    found = []
    for name in sorted(set(episodes["fault_type"].to_list())):
        runs = Comparison(episodes.filter(pl.col("fault_type") == name), seed=seed, margin=margin)
        part = compare(runs, against=against)
        found.append(
            part.select(pl.lit(name).alias("fault_type"), pl.lit(int(runs.at_risk.sum())).alias("at_risk"), pl.all())
        )
    return pl.concat(found)


def controls(runs: Comparison) -> list[dict[str, Any]]:
    """Return per policy what it does where nothing needs doing, and what comes back.

    ``clear``: runs without a fault; ``no_effect``: runs whose fault opens no incident without actions. Of both: runs,
    actions a run, the share that was harmed (with its interval). ``false_actions_per_h`` with its Poisson interval;
    ``relapses`` per run at risk.
    """
    found = []
    for policy in runs.policies:
        harmed = next(measure for measure in SECONDARY if measure.name == "harmed").of(runs, policy)
        actions, false = runs.column(policy, "actions"), runs.column(policy, "false_actions").mean(0)
        row: dict[str, Any] = {"policy": policy}
        for name, rows in (("clear", ~runs.faulty), ("no_effect", runs.faulty & ~runs.at_risk)):
            number = int(rows.sum())
            share = fraction(float(np.nan_to_num(harmed[:, rows]).mean(0).sum()), number)
            row |= {f"{name}_runs": number, f"{name}_actions": _mean(actions[:, rows])}
            row |= {f"{name}_harmed": share.value, f"{name}_harmed_low": share.low, f"{name}_harmed_high": share.high}
        per_hour = rate(float(false.sum()), float(runs.clear_hours(policy).mean(0).sum()))
        row |= {"false_actions_per_h": per_hour.value, "false_actions_high": per_hour.high}
        row["relapses"] = _mean(runs.column(policy, "relapses")[:, runs.at_risk])
        found.append(
            {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
        )
    return found


def _mean(values: Any) -> float:
    return float(values.mean()) if values.size else float("nan")


def report(
    runs: Comparison,
    compared: pl.DataFrame,
    faults: pl.DataFrame,
    checked: list[dict[str, Any]],
    closed: Sequence[dict[str, Any]] = (),
) -> str:
    """Return the whole comparison as text.

    Parameters
    ----------
    runs
        The runs, lined up.
    compared
        What ``compare`` gave for the primary and the secondary measures, and those per decision if they were asked for.
    faults, checked, closed
        What ``by_fault``, ``controls`` and ``gaps`` gave.
    """
    against = compared["against"][0]
    return "\n\n".join(
        [
            _primary(runs, compared, against),
            *_gaps(closed),
            *_secondary(runs, compared, against),
            *_decisions(runs, compared),
            _faults(runs, faults, against),
            _controls(checked),
        ]
    )


def _primary(runs: Comparison, compared: pl.DataFrame, against: str) -> str:
    rows = []
    for row in compared.filter(pl.col("measure") == PRIMARY).iter_rows(named=True):
        gap = cell_between(row["difference_low"], row["difference_high"], 3)
        verdict = row["verdict"] or ("reference" if row["policy"] == against else "-")
        rows.append(
            [
                row["policy"],
                str(row["trainings"]),
                cell(row["value"], 3),
                cell_between(row["low"], row["high"], 3),
                cell(row["difference"], 3),
                gap,
                verdict,
            ]  # fmt: skip
        )
    heads = ["policy", "trainings", "mean", "95 % interval", f"less {against}", "95 % interval", "verdict"]
    what = f"primary measure: {PRIMARY} ({PRIMARY_MEASURE.about}; less is better), {runs.runs} runs"
    return f"{what}\n{grid(heads, rows)}"


def _secondary(runs: Comparison, compared: pl.DataFrame, against: str) -> list[str]:
    names = [measure.name for measure in SECONDARY]
    tests = compared.filter(pl.col("p_holm").is_not_null()).height
    found = []
    for part in (names[:3], names[3:]):
        rows = []
        for policy in runs.policies:
            row = [policy]
            for name in part:
                of = compared.row(by_predicate=(pl.col("policy") == policy) & (pl.col("measure") == name), named=True)
                places = _HEADS[name][1]
                ends = cell_between(of["low"], of["high"], places)
                row.append(f"{cell(of['value'], places)} {ends}{_MARKS[of['verdict']]}")
            if "recovered" in part:
                row.append(_median(runs, policy))
            rows.append(row)
        heads = ["policy", *(_HEADS[name][0] for name in part), *(["TTM median s"] if "recovered" in part else [])]
        found.append(grid(heads, rows))
    until = "-" if np.isnan(runs.until_s) else f"{runs.until_s:.0f}"
    note = (
        f"secondary measures, with 95 % intervals; + better, - worse, = no difference shown from {against} (Holm over"
        f" {tests} tests)\n{int(runs.at_risk.sum())} runs at risk: their noop twin has an incident; TTM cut off at"
        f" {until} s; harmed: J more than {runs.margin:g} below the noop twin"
    )
    return [f"{note}\n{found[0]}", found[1]]


def _gaps(closed: Sequence[dict[str, Any]]) -> list[str]:
    if not closed:
        return []
    rows = [[row["policy"], cell(row["share"], 2), cell_between(row["low"], row["high"], 2)] for row in closed]
    what = f"share of the gap between noop and {closed[0]['oracle']} that is closed, in error budget spent"
    return [f"{what}\n{grid(['policy', 'closed', '95 % interval'], rows)}"]


def _decisions(runs: Comparison, compared: pl.DataFrame) -> list[str]:
    """Return what is known of single decisions, as text; nothing if that was not asked for."""
    if PER_DECISION[0].name not in compared["measure"].to_list():
        return []
    rows = []
    for policy in runs.policies:
        of = compared.filter(pl.col("policy") == policy)
        judged, disruptive = (runs.column(policy, name) for name in ("judged_decisions", "judged_disruptive"))
        row = [policy, f"{np.nansum(judged):.0f}"]
        for measure in PER_DECISION:
            found = of.row(by_predicate=pl.col("measure") == measure.name, named=True)
            ends = cell_between(found["low"], found["high"], 4)
            row.append(f"{cell(found['value'], 4)} {ends}{_MARKS[found['verdict']]}")
        rows.append([*row[:-1], f"{np.nansum(disruptive):.0f}", row[-1]])
    heads = ["policy", "decisions", "regret", "clairvoyant", "disruptive", "harmful"]
    number = int((~np.isnan(runs.column(runs.policies[0], "judged_decisions"))).any(0).sum())
    what = (
        f"decisions of {number} runs held against the best action on forks: J lost a decision in futures that nobody"
        f" knows, in the\nrun's own, and the share of disruptive decisions that cost more than {runs.margin:g} of J"
    )
    return [f"{what}\n{grid(heads, rows)}"]


def _median(runs: Comparison, policy: str) -> str:
    if not (runs.at_risk & runs.faulty).any():
        return "-"
    median = runs.survival(policy).first_below(0.5)
    ends = [f"{s:.0f}" if np.isfinite(s) else "-" for s in median]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def _faults(runs: Comparison, faults: pl.DataFrame, against: str) -> str:
    others = [policy for policy in runs.policies if policy != against]
    rows = []
    for part in faults.partition_by("fault_type", maintain_order=True):
        of = {row["policy"]: row for row in part.iter_rows(named=True)}
        base = of[against]
        row = [base["fault_type"], str(base["runs"]), str(base["at_risk"]), cell(base["value"], 2)]
        for policy in others:
            gap = of[policy]
            row.append(f"{cell(gap['difference'], 2)} {cell_between(gap['difference_low'], gap['difference_high'], 2)}")
        rows.append(row)
    heads = ["fault", "runs", "at risk", against, *(f"{policy} - {against}" for policy in others)]
    return f"{PRIMARY} by type of fault (to look at: not corrected for their number)\n{grid(heads, rows)}"


def _controls(checked: list[dict[str, Any]]) -> str:
    rows = []
    for row in checked:
        cells = [row["policy"]]
        for name in ("clear", "no_effect"):
            ends = cell_between(row[f"{name}_harmed_low"], row[f"{name}_harmed_high"], 2)
            cells += [
                str(row[f"{name}_runs"]),
                cell(row[f"{name}_actions"], 2),
                f"{cell(row[f'{name}_harmed'], 2)} {ends}",
            ]
        high = cell(row["false_actions_high"], 2)
        cells += [f"{cell(row['false_actions_per_h'], 2)} (at most {high})", cell(row["relapses"], 2)]
        rows.append(cells)
    heads = ["policy", "no fault", "actions", "harmed", "no effect", "actions", "harmed", "false act./h", "relapses"]
    return f"controls: runs without a fault, faults without effect, what comes back\n{grid(heads, rows)}"
