"""Scores a round of finished episodes: the tables of results, one row per run and more (FIELD: measures)."""

__all__ = ["JUDGED_AFTER_STEPS", "Labels", "accuracy_at", "score", "summarise"]

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import polars as pl

from agent.api import AgentTrace
from agent.evaluation import listings
from agent.evaluation.played import OF_RUNS, Labels, Played, less
from agent.evaluation.summary import summarise
from simcore.env import Episodes
from simcore.env.slo import Incident, recovery_steps
from simcore.model.faults import Fault
from simcore.telemetry.tables import frame

#: A diagnosis is judged so many steps after the alarm, unless a disruptive action comes first.
JUDGED_AFTER_STEPS = 6
_LOAD_STEPS = 12  # one minute of three_tier
_MIN_ATTEMPTS = 20


def score(
    episodes: Episodes, trace: AgentTrace | None, labels: Labels, *, tables: Collection[str] | None = None
) -> dict[str, pl.DataFrame]:
    """Return the tables of a finished round, rows in run order.

    Parameters
    ----------
    episodes
        The finished round.
    trace
        What the agent did; None without an agent.
    labels
        Names for the tables.
    tables
        Which tables to make; by default all but ``events``.

    Raises
    ------
    ValueError
        If the episodes are not finished, or a label or table is unknown.
    """
    if not episodes.finished:
        raise ValueError(f"only finished episodes are scored, these are at step {episodes.step} of {episodes.n_steps}")
    if unknown := set(labels) - set(Labels.__annotations__):
        raise ValueError(f"unknown labels: {', '.join(sorted(unknown))}")
    wanted = tuple(_TABLES) if tables is None else tuple(tables)
    if strange := set(wanted) - set(_TABLES):
        raise ValueError(f"unknown tables: {', '.join(sorted(strange))}")
    return {table: _TABLES[table](Played(episodes, trace, labels)) for table in wanted}


def accuracy_at(k: int, ranked: Sequence[int], truth: Collection[int]) -> float:
    """Return AC@k of one diagnosis: abs(first k of the ranking and the truth) / min(k, abs(truth)), as RCAEval.

    Parameters
    ----------
    k
        How many of the ranking count.
    ranked
        Candidates, best first; empty (no diagnosis) gives 0.
    truth
        The services at fault, -1 for the workload; not empty.
    """
    return len(set(ranked[:k]) & set(truth)) / min(k, len(set(truth)))


def _episodes(played: Played) -> pl.DataFrame:
    episodes, labels = played.episodes, played.labels
    scenario, n_runs = episodes.scenario, episodes.n_runs
    per_run: dict[str, Any] = {name: labels.get(name) for name in OF_RUNS}
    for name, values in per_run.items():
        if values is not None and len(values) != n_runs:
            raise ValueError(f"{name} must hold one value for each of {n_runs} runs, got {len(values)}")
    columns: dict[str, Any] = played.key(range(n_runs))
    columns |= {
        "scenario": scenario.name,
        "scenario_hash": scenario.digest,
        "scenario_version": scenario.version,
        "round": labels.get("round"),
        "policy_state": labels.get("policy_state"),
        "engine": episodes.engine,
        "detector": labels.get("detector"),
        "diagnoser": labels.get("diagnoser"),
        "steps": episodes.n_steps,
        "step_s": played.step_s,
        "training": labels.get("training"),
    } | {name: None if values is None else list(values) for name, values in per_run.items()}
    rows = [listings.fault_columns(played, faults) | _course(played, i) for i, faults in enumerate(played.faults)]
    columns |= {name: [row[name] for row in rows] for name in rows[0]}
    return frame("episodes", columns | _counts(played))


def _course(played: Played, i: int) -> dict[str, Any]:
    """Return the columns of one run that say what happened when."""
    episodes, step_s = played.episodes, played.step_s
    begin, end, faulty = int(episodes.fault_steps[i]), int(played.ends[i]), bool(played.faults[i])
    onset = min((fault.onset_s for fault in played.faults[i]), default=None)
    found = played.incidents[i]
    own = next((incident for incident in found if incident.kind == "incident"), None)
    raised = _raised(played, i)
    hits = [k for k in raised if onset is not None and k * step_s >= onset and k < end]
    before = [k for k in raised if onset is None or k * step_s < onset]
    t_alarm = hits[0] * step_s if hits else None
    t_v = (own.opened + 1) * step_s if own else None
    t_r = own.recovered * step_s if own and own.recovered >= 0 else None
    broken = np.flatnonzero(episodes.violating[i, max(begin, 0) :])
    spent = None
    if faulty and (offered := int(episodes.offered[i, begin:end].sum())):
        spent = float(episodes.bad[i, begin:end].sum() / ((1.0 - episodes.scenario.slo.objective) * offered))
    load = episodes.offered[i, max(0, begin - _LOAD_STEPS) : begin] if begin > 0 else episodes.offered[i]
    return {
        "load_at_onset_rps": float(load.mean()) / step_s,
        "t_alarm_s": t_alarm,
        "first_violation_s": (max(begin, 0) + int(broken[0])) * step_s if broken.size else None,
        "t_v_s": t_v,
        "t_r_s": t_r,
        "censored_s": (end - recovery_steps(step_s)) * step_s if faulty else None,
        "ttd_s": less(t_alarm, onset),
        "ttd_v_s": less(t_alarm, t_v),
        "ttm_s": less(t_r, onset),
        "incident": own is not None,
        "recovered": None if own is None else t_r is not None,
        "censored": None if own is None else t_r is None,
        "relapses": sum(incident.kind == "relapse" for incident in found),
        "false_incidents": sum(incident.kind == "false" for incident in found),
        "false_alarms": len(before),
        "follow_up_budget_spent": spent,
    } | _judged(played, i, hits[0] if hits else -1, own)


def _raised(played: Played, i: int) -> list[int]:
    """Return the edges at which an alarm was raised."""
    if played.trace is None:
        return []
    alarm = np.concatenate([[False], played.trace.alarm[i]])
    raised: list[int] = np.flatnonzero(alarm[1:] & ~alarm[:-1]).tolist()
    return raised


def _judged(played: Played, i: int, alarm: int, own: Incident | None) -> dict[str, Any]:
    """Return TTL and AC@k of the one diagnosis of a run's incident.

    It is the one in force at the first disruptive action at or after t_f, or some steps after the alarm, whichever
    comes first; null if there was neither an incident nor an alarm, 0 if there was one and no diagnosis.
    """
    nothing: dict[str, Any] = dict.fromkeys(("ttl_s", "diagnosed_s", "diagnosed", "ac1", "ac3"))
    trace, faults = played.trace, played.faults[i]
    if trace is None or not faults or (own is None and alarm < 0):
        return nothing
    end, step_s = int(played.ends[i]), played.step_s
    onset = min(fault.onset_s for fault in faults)
    first_edge = int(np.ceil(onset / step_s - 1e-9))
    struck = np.flatnonzero(played.episodes.actions.disruptive[trace.choice[i, first_edge:end]]) + first_edge
    candidates = [int(struck[0])] if struck.size else []
    if alarm >= 0:
        candidates.append(min(alarm + JUDGED_AFTER_STEPS, end - 1))
    if not candidates:
        return nothing | {"ac1": 0.0, "ac3": 0.0}
    edge = min(candidates)
    if trace.ranked[i, edge, 0] < 0:
        return nothing | {"diagnosed_s": edge * step_s, "ac1": 0.0, "ac3": 0.0}
    suspect = int(trace.suspect[i, edge])
    ranked = [suspect, *(s for s in trace.ranked[i, edge].tolist() if s not in (suspect, -1))]
    truth = {_culprit(fault, ranked) for fault in faults}
    same = (trace.suspect[i, : edge + 1] == suspect) & (trace.ranked[i, : edge + 1, 0] >= 0)
    since = edge + 1 - int(np.argmin(same[::-1])) if not same.all() else 0
    return {
        "ttl_s": max(0.0, since * step_s - onset) if suspect in truth else None,
        "diagnosed_s": edge * step_s,
        "diagnosed": played.service(suspect),
        "ac1": accuracy_at(1, ranked, truth),
        "ac3": accuracy_at(3, ranked, truth),
    }


def _culprit(fault: Fault, ranked: Sequence[int]) -> int:
    """Return the service that a diagnosis should name; either end of an edge will do, so the one ranked first."""
    ends = [fault.service] if fault.caller < 0 else [fault.service, fault.caller]
    return min(ends, key=lambda end: ranked.index(end) if end in ranked else len(ranked))


def _counts(played: Played) -> dict[str, Any]:
    """Return the columns that count, over the whole episode."""
    episodes = played.episodes
    offered, bad = episodes.offered.sum(axis=1), episodes.bad.sum(axis=1)
    first = episodes.attempts - episodes.retries
    amplification = np.where(first >= _MIN_ATTEMPTS, episodes.attempts / np.maximum(first, 1), 0.0).max(axis=1)
    allowed = (1.0 - episodes.scenario.slo.objective) * offered
    early = [record.step * played.step_s for record in episodes.records]
    onsets = np.array([min((fault.onset_s for fault in faults), default=np.inf) for faults in played.faults])
    taken = np.array([record.run for record in episodes.records], np.int64)
    numbers = np.array([record.action for record in episodes.records], np.int64)
    disruptive = episodes.actions.disruptive[numbers]
    false = disruptive & (np.array(early) < onsets[taken])
    zero = np.zeros(episodes.n_runs, np.int64)
    return {
        "offered": offered,
        "good": episodes.good.sum(axis=1),
        "bad": bad,
        "shed": episodes.shed.sum(axis=1),
        "errors": episodes.errors.sum(axis=1),
        "peak_amplification": np.where(amplification > 0, amplification, np.nan),
        "error_budget_spent": np.divide(bad, allowed, out=np.full(bad.size, np.nan), where=offered > 0),
        "violation_steps": episodes.violating.sum(axis=1),
        "anomaly_steps": None if played.trace is None else played.trace.alarm.sum(axis=1),
        "actions": np.bincount(taken, minlength=episodes.n_runs),
        "disruptive_actions": np.bincount(taken[disruptive], minlength=episodes.n_runs),
        "false_actions": np.bincount(taken[false], minlength=episodes.n_runs),
        "action_cost": episodes.cost.sum(axis=1),
        "j": episodes.j_between(zero, zero + episodes.n_steps),
    }


_TABLES = {
    "episodes": _episodes,
    "steps": listings.steps,
    "faults": listings.faults,
    "incidents": listings.incidents,
    "decisions": listings.decisions,
    "diagnoses": listings.diagnoses,
    "actions": listings.actions,
}
