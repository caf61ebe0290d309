"""Policies on the same runs: what is told of them on a page."""

__all__ = ["comparison_section", "results_section"]

from typing import Any

import polars as pl

from agent.evaluation.compare import PRIMARY, PRIMARY_MEASURE, SECONDARY, Comparison, compare
from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.figures_of import (
    faults_map_of,
    forest_of,
    incident_survival_of,
    learning_of,
    survival_of,
)
from agent.evaluation.report import by_fault, controls
from agent.evaluation.report_page.content import Card, Head, Listing, Row, Section
from agent.evaluation.report_page.shapes import shape_of
from agent.evaluation.report_page.sources import NO_AGENT, Source
from agent.evaluation.summary import summarise

#: Measure -> head, decimal places, whether it is told in per cent.
_HEADS = {
    PRIMARY: ("error budget spent", 2, False),
    "recovered": ("recovered", 0, True),
    "durable": ("durable", 0, True),
    "prevented": ("prevented", 0, True),
    "ttm_restricted_s": ("mean TTM, s", 0, False),
    "harmed": ("harmed", 1, True),
    "false_actions": ("false actions per h", 2, False),
    "action_cost": ("action cost", 4, False),
}
_SIGNS = {"better": " \u2713", "worse": " \u2717"}

_RESULTS = (
    ("runs", "runs", 0, ""),
    ("at_risk", "at risk", 0, "would have an incident, or had one"),
    ("incidents", "incidents", 0, "runs in which users noticed"),
    ("recovered", "recovered", 2, "share of those at risk that recovered or had no incident"),
    ("ttd_median_s", "TTD median, s", 0, "time to detection"),
    ("ttm_p50_s", "TTM median, s", 0, "time to mitigation; - : not reached"),
    ("ttm_p90_s", "TTM p90, s", 0, ""),
    ("error_budget_spent", "budget spent", 2, "bad / ((1 - objective) * offered), mean"),
    ("ac1", "AC@1", 2, "share of right diagnoses"),
    ("false_alarms", "false alarms", 0, ""),
    ("actions", "actions", 1, "mean per run"),
    ("j", "J", 4, "mean; more is better"),
)


def comparison_section(source: Source) -> tuple[Section | None, list[Card]]:
    """Return how the policies compare, and its key figures; None if there is one policy only."""
    runs = Comparison(source.episodes, seed=int(source.metadata.get("seed", 0)), margin=MARGIN)
    if len(runs.policies) < 2 or not runs.runs:
        return None, []
    stored = source.metadata.get("compared")
    table = _compared(runs, stored)
    against = str(table["against"][0])
    faults = _faults(source, stored, against)
    checked = stored["controls"] if stored else controls(runs)
    pictures = [forest_of(table), survival_of(runs), faults_map_of(faults)]
    shapes = tuple(shape_of(figure) for figure in pictures if figure is not None)
    lead = (
        f"{len(runs.policies)} policies met the same {runs.runs} runs; {int(runs.at_risk.sum())} of these are at risk:"
        " left alone, they have an incident. The primary measure, named beforehand, is the error budget spent:"
        " 1 is a budget used up, less is better.",
        *_words(table, against),
    )
    listings = (_policies(table, against), _controls(checked))
    return Section("compare", "Policies compared", lead, shapes=shapes, listings=listings), _cards(table, against)


def _compared(runs: Comparison, stored: dict[str, Any] | None) -> pl.DataFrame:
    if stored:
        return pl.DataFrame(stored["measures"], infer_schema_length=None)
    return compare(runs, measures=(PRIMARY_MEASURE, *SECONDARY))


def _faults(source: Source, stored: dict[str, Any] | None, against: str) -> pl.DataFrame:
    if stored:
        return pl.DataFrame(stored["by_fault"], infer_schema_length=None)
    return by_fault(source.episodes, seed=int(source.metadata.get("seed", 0)), margin=MARGIN, against=against)


def _words(table: pl.DataFrame, against: str) -> list[str]:
    """Return the verdicts in sentences."""
    found = []
    rows = table.filter((pl.col("measure") == PRIMARY) & (pl.col("policy") != against)).to_dicts()
    for verdict, text in (("better", "is better than"), ("worse", "is worse than")):
        names = [row["policy"] for row in rows if row["verdict"] == verdict]
        if names:
            verb = text if len(names) == 1 else text.replace("is ", "are ", 1)
            found.append(f"{_joined(names)} {verb} {against}.")
    unclear = [row["policy"] for row in rows if row["verdict"] not in ("better", "worse")]
    if unclear:
        found.append(f"No difference from {against} is shown for {_joined(unclear)}.")
    return [" ".join(found)] if found else []


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _cards(table: pl.DataFrame, against: str) -> list[Card]:
    rows = [row for row in table.filter(pl.col("measure") == PRIMARY).to_dicts() if row["value"] is not None]
    if not rows:
        return []
    best = min(rows, key=lambda row: row["value"])
    note = "the reference"
    if best["policy"] != against and best["difference"] is not None:
        between = _ends(best, "difference", 2).replace("\n", ", 95 % interval ")
        note = f"{_signed(best['difference'], 2)} against {against}{between}"
    return [Card(_plain(best["value"], 2), f"error budget spent with {best['policy']}, the least", note)]


def _policies(table: pl.DataFrame, against: str) -> Listing:
    rows = []
    for policy in table["policy"].unique(maintain_order=True).to_list():
        mine = {row["measure"]: row for row in table.filter(pl.col("policy") == policy).to_dicts()}
        cells = [policy, str(mine[PRIMARY]["trainings"])]
        cells += [_measure(mine.get(name), places, share) for name, (_, places, share) in _HEADS.items()]
        rows.append(Row(tuple(cells), policy=policy))
    about = {measure.name: measure.about for measure in (PRIMARY_MEASURE, *SECONDARY)}
    heads = [Head("policy", False), Head("trainings", True, "independent trainings of a policy that learns")]
    heads += [Head(text, True, about[name]) for name, (text, _, _) in _HEADS.items()]
    tests = table.filter(pl.col("p_holm").is_not_null()).height
    note = f" (Holm's correction over {tests} tests)" if tests else ""
    return Listing(
        "All measures",
        f"Means with 95 % intervals; \u2713 better, \u2717 worse than {against}{note}; unmarked: no difference shown.",
        tuple(heads),
        tuple(rows),
        "measures",
    )


def _measure(row: dict[str, Any] | None, places: int, share: bool) -> str:
    if row is None or row["value"] is None:
        return "-"
    scale, unit = (100.0, " %") if share else (1.0, "")
    sign = _SIGNS.get(row["verdict"] or "", "")
    return f"{_plain(scale * row['value'], places)}{unit}{sign}{_ends(row, '', places, scale)}"


def _controls(checked: list[dict[str, Any]]) -> Listing:
    rows = [
        Row(
            (
                row["policy"],
                str(row["clear_runs"]), _plain(row["clear_actions"], 2), _shared(row, "clear_harmed"),
                str(row["no_effect_runs"]), _plain(row["no_effect_actions"], 2), _shared(row, "no_effect_harmed"),
                f"{_plain(row['false_actions_per_h'], 2)}\nat most {_plain(row['false_actions_high'], 2)}",
                _plain(row["relapses"], 2),
            ),
            policy=row["policy"],
        )
        for row in checked
    ]  # fmt: skip
    heads = (
        Head("policy", False), Head("runs without a fault"), Head("actions a run"), Head("harmed"),
        Head("faults without effect"), Head("actions a run"), Head("harmed"), Head("false actions per h"),
        Head("relapses", True, "per run at risk"),
    )  # fmt: skip
    about = "What a policy does where nothing needs doing, and what comes back."
    return Listing("Controls", about, heads, tuple(rows), "controls")


def _shared(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "-"
    return f"{100 * row[name]:.0f} %{_ends(row, name, 0, 100.0)}"


def _ends(row: dict[str, Any], name: str, places: int, scale: float = 1.0) -> str:
    """Return an interval as small print."""
    low, high = (row.get(f"{name}_{end}".lstrip("_")) for end in ("low", "high"))
    if low is None or high is None:
        return ""
    return f"\n{_plain(scale * low, places)} to {_plain(scale * high, places)}"


def _plain(value: float | None, places: int) -> str:
    if value is None:
        return "-"
    # adding 0 makes a negative zero positive
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "\u2212")


def _signed(value: float, places: int) -> str:
    return f"{value:+.{places}f}".replace("-", "\u2212")


def results_section(source: Source, alone: bool) -> Section:
    """Return the results by policy and type of fault.

    Parameters
    ----------
    source
        The results.
    alone
        Whether there is one policy, so that its curves stand here.
    """
    rows = []
    for policy in source.policies:
        table = summarise(source.episodes.filter(pl.col("policy") == policy))
        for row in [*table.tail(1).to_dicts(), *table.head(-1).to_dicts()]:
            fault = row["fault_type"]
            cells = [policy, fault, *(_plain(row[column], places) for column, _, places, _ in _RESULTS)]
            rows.append(Row(tuple(cells), policy=policy, fault=fault))
    heads = [Head("policy", False), Head("fault", False), *(Head(text, True, about) for _, text, _, about in _RESULTS)]
    listing = Listing("By policy and fault", "Times are those of runs with an incident, unrecovered ones censored.",
                      tuple(heads), tuple(rows), "outcomes")  # fmt: skip
    pictures = [incident_survival_of(source.episodes) if alone else None, learning_of(source.episodes)]
    shapes = tuple(shape_of(figure) for figure in pictures if figure is not None)
    lead: tuple[str, ...] = ()
    if source.policies != [NO_AGENT] and source.episodes["noop_incident"].is_null().all():
        lead = ("Who was at risk is not known without twins (eval --twins): runs with an incident count instead.",)
    return Section("results", "Results", lead, shapes=shapes, listings=(listing,))
