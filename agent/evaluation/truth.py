"""Diagnoses judged by ablation instead of by where the fault was put: the trigger, or what keeps the incident up."""

__all__ = ["TRUTHS", "places_of", "rejudge"]

from collections.abc import Sequence

import numpy as np
import polars as pl

from agent.evaluation.ablation import Sustaining, Trigger, sustaining_causes, triggers
from simcore.env import Episodes
from simcore.model.inputs import Run
from simcore.model.scenario import Scenario

#: What a diagnosis is held against: where the fault was put; the trigger, whose removal from the start prevents the
#: incident; the sustaining cause, whose removal at the time of the diagnosis heals it.
TRUTHS = ("injected", "trigger", "sustaining")


def places_of(found: Trigger | Sustaining, run: Run, services: Sequence[str]) -> frozenset[str]:
    """Return the names that a diagnosis may give; either end of an edge counts; none if there is nothing to find."""
    if isinstance(found, Trigger):
        ends = [(run.faults[i].service, run.faults[i].caller) for i in found.triggers]
    elif found.together:
        ends = [(fault.service, fault.caller) for fault in run.faults]
    else:
        by_fault = [(cause.service, cause.caller) for cause in found.causes if cause.fault >= 0]
        ends = by_fault or [(cause.service, cause.caller) for cause in found.causes]
    named = {services[service] if service >= 0 else "workload" for service, _ in ends}
    return frozenset(named | {services[caller] for _, caller in ends if caller >= 0})


def rejudge(
    episodes: pl.DataFrame, scenario: Scenario, runs: Sequence[Run], truth: str, *, threads: int | None = None
) -> pl.DataFrame:
    """Return an episodes table in which nobody acted, with ``ac1`` by another truth; ``ac3`` and ``ttl_s`` are null.

    Runs in which there is nothing to find (no incident, one that comes without the fault too, or one that heals by
    itself) get a null, as runs without a fault do.

    Parameters
    ----------
    episodes
        Rows of these runs, by any number of diagnosers.
    scenario, runs
        What was played.
    truth
        One of ``TRUTHS``.
    threads
        Of the batch engine.
    """
    if truth == "injected":
        return episodes
    judged = episodes.filter(pl.col("ac1").is_not_null())
    numbers = judged["run"].unique().to_list()
    chosen = [run for run in runs if run.run in numbers]
    found: dict[int, frozenset[str]] = {}
    if truth == "trigger":
        for run, trigger in zip(chosen, triggers(scenario, chosen, threads=threads) if chosen else [], strict=True):
            found[run.run] = places_of(trigger, run, scenario.service_names)
    else:
        edges = _edges(judged, scenario)
        for run, sustaining in _sustaining(scenario, chosen, edges, threads):
            found[run.run] = places_of(sustaining, run, scenario.service_names)
    ac1 = [
        None if value is None or not found.get(run) else float(name in found[run])
        for run, value, name in episodes.select("run", "ac1", "diagnosed").iter_rows()
    ]
    none = pl.lit(None, pl.Float64)
    return episodes.with_columns(pl.Series("ac1", ac1, pl.Float64), none.alias("ac3"), none.alias("ttl_s"))


def _edges(judged: pl.DataFrame, scenario: Scenario) -> dict[int, int]:
    """Return run -> edge at which its diagnosis is judged: the same for all diagnosers; else its incident's opening."""
    step_s, last = scenario.timing.step_s, scenario.timing.steps - 1
    columns = judged.select("run", pl.coalesce("diagnosed_s", "t_v_s").alias("at")).drop_nulls()
    return {run: min(round(at / step_s), last) for run, at in columns.iter_rows()}


def _sustaining(
    scenario: Scenario, runs: Sequence[Run], edges: dict[int, int], threads: int | None
) -> list[tuple[Run, Sustaining]]:
    timed = sorted((run for run in runs if run.run in edges), key=lambda run: edges[run.run])
    if not timed:
        return []
    episodes = Episodes(scenario, timed, threads=threads)
    found = []
    for edge in sorted({edges[run.run] for run in timed}):
        episodes.advance_to(edge)
        rows = np.array([i for i, run in enumerate(timed) if edges[run.run] == edge], np.int64)
        causes = sustaining_causes(episodes, rows)
        found += [(timed[row], cause) for row, cause in zip(rows.tolist(), causes, strict=True)]
    return found
