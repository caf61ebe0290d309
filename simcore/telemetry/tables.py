"""The tables of results: every column with its type and meaning. Exported tables hold null, never nan or infinity."""

__all__ = ["COLUMNS", "KEY", "SCHEMAS", "Column", "empty", "events", "frame", "schema_of"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from simcore.codes import Event
from simcore.windows import Metric

_INT, _FLOAT, _TEXT, _BOOL = pl.Int64(), pl.Float64(), pl.String(), pl.Boolean()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    dtype: pl.DataType
    about: str


def _columns(dtype: pl.DataType, **about: str) -> tuple[Column, ...]:
    return tuple(Column(name, dtype, text) for name, text in about.items())


#: The columns that name a run; every table begins with them.
KEY = ("policy", "split", "seed", "run")

_KEY = (
    *_columns(_TEXT, policy="policy that acted, null without an agent", split="train, calibrate, tune or test"),
    *_columns(_INT, seed="the user's seed", run="index of the run"),
)

_FAULT = (
    *_columns(
        _TEXT,
        fault_type="none; several are joined by +",
        fault_service="its name, workload, or an edge as caller:callee; null for none",
    ),
    *_columns(_INT, fault_replica="ordinal of the replica within the service; null: all"),
    *_columns(_TEXT, fault_place="where it lives: what has to be replaced", fault_profile="course over time"),
    *_columns(
        _FLOAT,
        fault_severity="in (0, 1]",
        fault_onset_s="t_f, when it begins, seconds",
        fault_duration_s="seconds; null: until fixed",
    ),
)

_EPISODES = (
    *_KEY,
    *_columns(
        _TEXT,
        scenario="name of the scenario",
        scenario_hash="twelve hex digits of its content",
    ),
    *_columns(
        _INT,
        scenario_version="its version",
        round="learning round, null without an agent",
        training="number of the training that the policy's state comes from; null: it was not trained for this",
    ),
    *_columns(
        _TEXT,
        policy_state="id of the policy state of the round",
        engine="engine that simulated the run",
        detector="detector",
        diagnoser="diagnoser",
    ),
    *_columns(_INT, steps="control steps"),
    *_columns(_FLOAT, step_s="length of a step, seconds"),
    *_FAULT,
    *_columns(_FLOAT, load_at_onset_rps="mean offered rate over the 12 steps before t_f; without a fault: of the run"),
    *_columns(_BOOL, noop_incident="whether the twin without actions opens an incident; null if not run"),
    *_columns(_FLOAT, noop_j="J of the twin without actions; null if not run"),
    *_columns(
        _FLOAT,
        t_alarm_s="first alarm raised at or after t_f, within the follow-up",
        first_violation_s="start of the first SLO-violating step, with a fault the first at or after t_f",
        t_v_s="first opening of an incident at or after t_f (without a fault: null, openings are false)",
        t_r_s="recovery time: start of the first healthy stretch of 60 s after t_v with admission restored",
        censored_s="end of the follow-up less 60 s: what has not recovered by then is censored",
        ttd_s="t_alarm - t_f",
        ttd_v_s="t_alarm - t_v",
        ttl_s="since when the right suspect was named without interruption up to the diagnosis judged, less t_f",
        ttm_s="t_r - t_f",
        diagnosed_s="when the diagnosis was judged: first disruptive action, or 6 steps after the alarm",
    ),
    *_columns(_TEXT, diagnosed="first of the ranked services then; null: no diagnosis"),
    *_columns(_FLOAT, ac1="AC@1 of that diagnosis", ac3="AC@3"),
    *_columns(_BOOL, incident="whether an incident opened at or after t_f", recovered="null without an incident"),
    *_columns(
        _BOOL,
        censored="not recovered within the follow-up; null without an incident",
        durable="whether a run at risk stays well when the trigger strikes again; null if that was not tried",
    ),
    *_columns(
        _INT,
        relapses="reopenings within the follow-up",
        false_incidents="openings before t_f, or in a run without a fault",
        false_alarms="alarms raised before t_f, or in a run without a fault",
        offered="requests at the border, shed ones included",
        good="answered without error within the objective",
        bad="failed, rejected, shed or late",
        shed="turned away by limit_traffic",
        errors="replies that were not OK",
    ),
    *_columns(
        _FLOAT,
        peak_amplification="largest attempts / first attempts of a step with at least 20 of them",
        error_budget_spent="bad / ((1 - objective) * offered)",
        follow_up_budget_spent="the same in the follow-up after the onset only, alike for early and late onsets; "
        "null without a fault",
    ),
    *_columns(
        _INT,
        violation_steps="steps that break the SLO",
        anomaly_steps="steps flagged as anomalous (alarm open); null without an agent",
        actions="actions taken, failed ones included",
        disruptive_actions="those that can hurt by themselves",
        false_actions="disruptive actions decided before t_f, or in a run without a fault",
    ),
    *_columns(_FLOAT, action_cost="cost of the actions, in units of J", j="J as simcore.env.Episodes defines it"),
    *_columns(
        _INT,
        judged_decisions="decisions that were held against the best action on forks; null if that was not asked for",
        judged_disruptive="those of them that took an action that can hurt by itself",
        harmful_decisions="those of these that cost J more than the margin against waiting, mean over unknown futures",
    ),
    *_columns(
        _FLOAT,
        regret="J of the best action less J of the one taken, mean over the decisions judged and unknown futures",
        regret_clairvoyant="likewise in the run's own future, which nobody knows",
    ),
)

_STEPS = (
    *_KEY,
    *_columns(_INT, step="index of the step"),
    *_columns(_TEXT, service="service, or system: what clients see"),
    *(Column(metric.name.lower(), _FLOAT, "see simcore.windows.Metric") for metric in Metric),
    *_columns(_FLOAT, score="anomaly score at the edge where the step begins (system: overall)"),
    *_columns(
        _INT,
        offered="system only: requests at the border",
        good="system only",
        bad="system only",
        shed="system only",
        attempts="system only: sends of requests and calls",
    ),
    *_columns(
        _BOOL,
        violating="system only: breaks the SLO",
        incident_open="system only: at the step's end",
        alarm="system only: alarm open at the edge where the step begins",
    ),
)

_FAULTS = (*_KEY, *_columns(_INT, fault="number within the run"), *_FAULT)

_INCIDENTS = (
    *_KEY,
    *_columns(_INT, incident="number within the run"),
    *_columns(_TEXT, kind="false, incident or relapse"),
    *_columns(
        _FLOAT,
        opened_s="end of the step that opened it",
        recovered_s="start of the healthy stretch that ended it; null: censored, or cut off by the fault",
        duration_s="recovered - opened",
    ),
)

_DECISIONS = (
    *_KEY,
    *_columns(_INT, decision="number within the run", opened_step="edge of the choice", closed_step="null: open"),
    *_columns(_TEXT, action="choice"),
    *_columns(_FLOAT, propensity="probability of the choice", score="the policy's score of it", reward="in [0, 1]"),
    *_columns(
        _TEXT,
        signature="key of the incident signature",
        policy_state="id of the policy state",
        legal="legal actions, joined by blanks",
        rationale="in words",
    ),
)

_DIAGNOSES = (
    *_KEY,
    *_columns(_INT, step="edge at which the ranking changed"),
    *_columns(_FLOAT, time_s="seconds", confidence="in [0, 1]"),
    *_columns(_TEXT, suspect="service; null: none", ranked="services, best first, joined by blanks"),
    *_columns(_BOOL, alarm="whether the alarm was open"),
)

_ACTIONS = (
    *_KEY,
    *_columns(_INT, ordinal="number within the run", step="edge at which it was decided"),
    *_columns(_FLOAT, decided_s="seconds", effect_s="when it takes effect, seconds"),
    *_columns(_TEXT, action="as in the action table", kind="restart, scale, ...", service="null: the border"),
    *_columns(_INT, replica="ordinal within the service; null: none"),
    *_columns(_FLOAT, amount="replicas added, or admitted fraction; null: none", cost="in units of J"),
    *_columns(_BOOL, succeeded="failed actions cost, but have no effect", disruptive="can hurt by itself"),
)

_COUNTERFACTUALS = (
    *_KEY,
    *_columns(_INT, step="edge of the action"),
    *_columns(_TEXT, followed_by="what follows: release, noop, agent or a policy", action="what was tried"),
    *_columns(_INT, future="number of the re-keyed future; null: the run's own"),
    *_columns(_BOOL, taken="whether the agent did it; null without an agent"),
    *_columns(
        _INT, horizon="steps until it is judged", offered="requests at the border", bad="failed, rejected, shed or late"
    ),
    *_columns(
        _FLOAT,
        error_budget_spent="bad / ((1 - objective) * offered)",
        recovery_s="to the start of the last healthy stretch of 60 s; 0: never ill; null: not by the end",
        action_cost="of all actions, in units of J",
        j="change of J over the horizon",
        j_gain="j less that of noop in the same future",
    ),
    *_columns(
        _BOOL,
        healthy="not unhealthy at the end",
        harmed="j_gain below minus the margin of harm",
    ),
)

_OPTIMAL_ACTIONS = (
    *_columns(_TEXT, scenario="name of the scenario", scenario_hash="of the scenario at load 1", split="split"),
    *_columns(_INT, seed="the user's seed"),
    *_columns(_TEXT, fault_type="what happens", fault_service="where, or workload"),
    *_columns(
        _FLOAT, load="multiple of the scenario's rate", severity="of the fault", onset_s="when it begins, seconds"
    ),
    *_columns(_INT, delay_steps="from the onset to the action", runs="of the cell"),
    *_columns(_TEXT, action="what was tried"),
    *_columns(
        _FLOAT,
        j="mean change of J over the horizon",
        j_gain="the same, less that of noop in the same future",
        j_gain_low="of its 95 % interval",
        j_gain_high="of its 95 % interval",
        harmed_frac="share of the runs in which j_gain is below minus the margin of harm",
    ),
    *_columns(_BOOL, best="whether it has the largest mean in the cell"),
    *_columns(_FLOAT, confidence="share of the resamples of the runs in which it is best"),
)

_EVENTS = (
    *_columns(_INT, run="index of the run"),
    *_columns(_FLOAT, time_s="seconds; negative in the burn-in"),
    *_columns(_INT, request="stream << 40 | number; null for events of no request"),
    Column("span", pl.UInt64(), "span key, or number of the replica, modulation or action"),
    *_columns(_TEXT, event="see simcore.codes.Event"),
    *_columns(_INT, aux="see simcore.codes.Event"),
)

#: Columns of every table.
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "episodes": _EPISODES,
    "steps": _STEPS,
    "faults": _FAULTS,
    "incidents": _INCIDENTS,
    "decisions": _DECISIONS,
    "diagnoses": _DIAGNOSES,
    "actions": _ACTIONS,
    "counterfactuals": _COUNTERFACTUALS,
    "optimal_actions": _OPTIMAL_ACTIONS,
    "events": _EVENTS,
}

#: Types of every table's columns, in order.
SCHEMAS: Mapping[str, dict[str, pl.DataType]] = {
    table: {column.name: column.dtype for column in columns} for table, columns in COLUMNS.items()
}


def schema_of(table: str) -> pl.Schema:
    """Return the schema of a table.

    Raises
    ------
    KeyError
        If there is no such table.
    """
    return pl.Schema(SCHEMAS[table])


def empty(table: str) -> pl.DataFrame:
    """Return a table without rows."""
    return pl.DataFrame(schema=schema_of(table))


def frame(table: str, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return a table made of columns: arrays, lists (None is null), or a scalar for all rows.

    Floats that are nan or infinite become null.

    Raises
    ------
    ValueError
        If the columns are not those of the schema.
    """
    schema = SCHEMAS[table]
    if wrong := set(columns) ^ set(schema):
        raise ValueError(f"table {table}: columns missing or unknown: {', '.join(sorted(wrong))}")
    lengths = {len(value) for value in columns.values() if isinstance(value, (list, np.ndarray))}
    if len(lengths) > 1:
        raise ValueError(f"table {table}: columns of different lengths: {sorted(lengths)}")
    n = lengths.pop() if lengths else 1
    series = [_series(name, columns[name], dtype, n) for name, dtype in schema.items()]
    return pl.DataFrame(series).with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name)
        for name, dtype in schema.items()
        if dtype == _FLOAT
    )


def _series(name: str, value: Any, dtype: pl.DataType, n: int) -> pl.Series:
    if isinstance(value, np.ndarray):
        return pl.Series(name, np.ascontiguousarray(value)).cast(dtype)
    if isinstance(value, list):
        return pl.Series(name, value, dtype=dtype)
    return pl.Series(name, [value], dtype=dtype).new_from_index(0, n)


def events(run: int, log: npt.NDArray[np.void]) -> pl.DataFrame:
    """Return the ``events`` table of one run from its event log (dtype ``simcore.engines.api.LOG``)."""
    names = np.array(["", *(event.name.lower() for event in Event)], dtype=object)
    assert [int(event) for event in Event] == list(range(1, len(names)))
    table = frame(
        "events",
        {
            "run": run,
            "time_s": log["time_s"],
            "request": log["request"],
            "span": log["span"],
            "event": names[log["event"]].tolist(),
            "aux": log["aux"],
        },
    )
    return table.with_columns(pl.when(pl.col("request") >= 0).then(pl.col("request")).alias("request"))
