"""The tables of results that have a row per step, fault, incident, decision, diagnosis or action."""

__all__ = ["actions", "decisions", "diagnoses", "fault_columns", "faults", "incidents", "steps"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from agent.evaluation.played import Played, less
from simcore.model.action_types import ACTIONS
from simcore.model.faults import Fault
from simcore.telemetry.tables import SCHEMAS, empty, frame
from simcore.windows import Metric


def steps(played: Played) -> pl.DataFrame:
    """Return a row per step and service, and one for the system."""
    episodes, trace = played.episodes, played.trace
    n_runs, n_steps, n_rows = episodes.n_runs, episodes.n_steps, len(played.names) + 1
    shape = (n_runs, n_steps, n_rows)
    runs = episodes.runs
    columns: dict[str, Any] = {
        "policy": played.labels.get("policy"),
        "split": np.repeat(np.array([run.split for run in runs], dtype=object), n_steps * n_rows).tolist(),
        "seed": np.repeat(np.array([run.seed for run in runs], np.int64), n_steps * n_rows),
        "run": np.repeat(np.array([run.run for run in runs], np.int64), n_steps * n_rows),
        "step": np.tile(np.repeat(np.arange(n_steps), n_rows), n_runs),
        "service": [*played.names, "system"] * (n_runs * n_steps),
    }
    columns |= {metric.name.lower(): episodes.metrics[..., metric].ravel() for metric in Metric}
    scores = np.full(shape, np.nan)
    if trace is not None:
        scores[..., :-1], scores[..., -1] = trace.score, trace.overall
    columns["score"] = scores.ravel()
    table = frame("steps", columns | dict.fromkeys(set(SCHEMAS["steps"]) - set(columns)))
    truth: dict[str, Any] = {
        name: getattr(episodes, name)
        for name in ("offered", "good", "bad", "shed", "attempts", "violating", "incident_open")
    }
    if trace is not None:
        truth["alarm"] = trace.alarm
    system = pl.Series(np.tile(np.arange(n_rows) == n_rows - 1, n_runs * n_steps))
    return table.with_columns(
        pl.when(system).then(pl.Series(np.repeat(values.ravel(), n_rows))).cast(SCHEMAS["steps"][name]).alias(name)
        for name, values in truth.items()
    )


def fault_columns(played: Played, faults: Sequence[Fault]) -> dict[str, Any]:
    """Return the fault columns of a run; several faults are joined by +, numbers are those of the first to begin."""
    if not faults:
        names = ("service", "replica", "place", "profile", "severity", "onset_s", "duration_s")
        return {"fault_type": "none"} | {f"fault_{name}": None for name in names}
    first = min(faults, key=lambda fault: fault.onset_s)
    return {
        "fault_type": "+".join(fault.type for fault in faults),
        "fault_service": "+".join(fault.target.written(played.episodes.scenario) for fault in faults),
        "fault_replica": first.replica if first.replica >= 0 else None,
        "fault_place": "+".join(fault.place.name.lower() for fault in faults),
        "fault_profile": "+".join(fault.profile for fault in faults),
        "fault_severity": first.severity,
        "fault_onset_s": first.onset_s,
        "fault_duration_s": first.duration_s if first.duration_s >= 0 else None,
    }


def faults(played: Played) -> pl.DataFrame:
    """Return a row per fault."""
    listed = [(i, n, fault) for i, faults in enumerate(played.faults) for n, fault in enumerate(faults)]
    rows = [{"fault": n} | fault_columns(played, (fault,)) for _, n, fault in listed]
    return played.table("faults", rows, [i for i, _, _ in listed])


def incidents(played: Played) -> pl.DataFrame:
    """Return a row per incident within the follow-up."""
    listed = [(i, n, incident) for i, found in enumerate(played.incidents) for n, incident in enumerate(found)]
    rows = []
    for _, number, incident in listed:
        opened = (incident.opened + 1) * played.step_s
        recovered = incident.recovered * played.step_s if incident.recovered >= 0 else None
        rows.append(
            {
                "incident": number,
                "kind": incident.kind,
                "opened_s": opened,
                "recovered_s": recovered,
                "duration_s": less(recovered, opened),
            }
        )
    return played.table("incidents", rows, [i for i, _, _ in listed])


def decisions(played: Played) -> pl.DataFrame:
    """Return a row per decision, by run and step."""
    if played.trace is None:
        return empty("decisions")
    names = played.episodes.actions.names
    place = {run.run: i for i, run in enumerate(played.episodes.runs)}
    listed = sorted(((place[d.run], d.opened, d) for d in played.trace.decisions), key=lambda row: row[:2])
    numbers = [0] * played.episodes.n_runs
    rows = []
    for i, _, decision in listed:
        rows.append(
            {
                "decision": numbers[i],
                "opened_step": decision.opened,
                "closed_step": decision.closed if decision.closed >= 0 else None,
                "action": names[decision.action],
                "propensity": decision.propensity,
                "score": decision.score,
                "reward": decision.reward,
                "signature": decision.signature,
                "policy_state": played.labels.get("policy_state"),
                "legal": " ".join(names[action] for action in decision.legal),
                "rationale": decision.rationale,
            }
        )
        numbers[i] += 1
    return played.table("decisions", rows, [i for i, _, _ in listed])


def diagnoses(played: Played) -> pl.DataFrame:
    """Return a row per edge at which the ranking changed."""
    trace = played.trace
    if trace is None:
        return empty("diagnoses")
    known = trace.ranked[..., 0] >= 0
    new = known.copy()
    new[:, 1:] &= (trace.suspect[:, 1:] != trace.suspect[:, :-1]) | (trace.ranked[:, 1:] != trace.ranked[:, :-1]).any(2)
    runs, steps = np.nonzero(new)
    rows = [
        {
            "step": k,
            "time_s": k * played.step_s,
            "confidence": float(trace.confidence[i, k]),
            "suspect": played.names[trace.suspect[i, k]] if trace.suspect[i, k] >= 0 else None,
            "ranked": " ".join(played.names[s] for s in trace.ranked[i, k].tolist() if s >= 0),
            "alarm": bool(trace.alarm[i, k]),
        }
        for i, k in zip(runs.tolist(), steps.tolist(), strict=True)
    ]
    return played.table("diagnoses", rows, runs.tolist())


def actions(played: Played) -> pl.DataFrame:
    """Return a row per action taken."""
    table = played.episodes.actions
    records = sorted(played.episodes.records, key=lambda record: (record.run, record.ordinal))
    rows = []
    for record in records:
        service = int(table.service[record.action])
        valued = ACTIONS[table.kinds[record.action]].values is not None
        rows.append(
            {
                "ordinal": record.ordinal,
                "step": record.step,
                "decided_s": record.step * played.step_s,
                "effect_s": record.effect_s,
                "action": table.names[record.action],
                "kind": table.kinds[record.action],
                "service": played.names[service] if service >= 0 else None,
                "replica": record.replica if record.replica >= 0 else None,
                "amount": float(table.amount[record.action]) if valued else None,
                "cost": float(table.cost[record.action]),
                "succeeded": record.succeeds,
                "disruptive": bool(table.disruptive[record.action]),
            }
        )
    return played.table("actions", rows, [record.run for record in records])
