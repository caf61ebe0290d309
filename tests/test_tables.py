"""Tests of simcore.telemetry.tables."""

import numpy as np
import polars as pl
import pytest

from simcore.codes import Event
from simcore.engines.api import LOG
from simcore.telemetry.tables import COLUMNS, KEY, SCHEMAS, empty, events, frame

INCIDENT = {
    "policy": None, "split": "test", "seed": 7, "run": [0, 1], "incident": 0, "kind": "false",
    "opened_s": np.array([1.5, np.nan]), "recovered_s": [2.5, None], "duration_s": np.array([np.inf, -np.inf]),
}  # fmt: skip


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_column_says_what_it_is(table: str) -> None:
    assert all(column.about and "\n" not in column.about for column in COLUMNS[table])
    assert len({column.name for column in COLUMNS[table]}) == len(COLUMNS[table])


#: Tables that are not about single runs.
OF_MANY = {"events", "optimal_actions"}


@pytest.mark.parametrize("table", sorted(set(SCHEMAS) - OF_MANY))
def test_every_table_begins_with_what_names_the_run(table: str) -> None:
    assert tuple(SCHEMAS[table])[: len(KEY)] == KEY


def test_the_episodes_hold_what_users_look_for_first() -> None:
    asked = {
        "fault_type", "fault_service", "fault_severity", "fault_onset_s", "fault_duration_s", "anomaly_steps",
        "violation_steps", "first_violation_s", "t_v_s", "t_r_s",
    }  # fmt: skip
    assert asked <= set(SCHEMAS["episodes"])


def test_a_frame_takes_arrays_lists_and_scalars_and_holds_null_instead_of_nan() -> None:
    table = frame("incidents", INCIDENT)
    assert table.schema == empty("incidents").schema
    assert table["opened_s"].to_list() == [1.5, None]
    assert table["duration_s"].to_list() == [None, None]
    assert table["recovered_s"].to_list() == [2.5, None]
    assert table["seed"].to_list() == [7, 7]
    assert table["policy"].to_list() == [None, None]


def test_a_missing_or_unknown_column_is_named() -> None:
    with pytest.raises(ValueError, match="missing or unknown: kind, sort"):
        frame("incidents", {("sort" if name == "kind" else name): value for name, value in INCIDENT.items()})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        frame("incidents", INCIDENT | {"kind": ["false"] * 3})


def test_events_carry_their_names() -> None:
    log = np.array(
        [(-1.5, -1, 2**64 - 1, Event.REPLICA_UP, 0), (0.25, 3 << 40, 17, Event.OFFERED, 4)],
        dtype=LOG,
    )
    table = events(5, log)
    assert table.schema == pl.Schema(SCHEMAS["events"])
    assert table.rows() == [(5, -1.5, None, 2**64 - 1, "replica_up", 0), (5, 0.25, 3 << 40, 17, "offered", 4)]
