"""Codes are part of stored logs and tables, so they never change."""

from enum import IntEnum
from pathlib import Path

import pytest

from simcore import codes
from simcore.codes import ActionCode, Event, Kind, Param, Purpose
from simcore.eventlog import LOG
from simcore.model.fault_types import NEUTRAL

MODEL = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "model.md"

ENUMS = [
    thing
    for thing in vars(codes).values()
    if isinstance(thing, type) and issubclass(thing, IntEnum) and thing is not IntEnum
]


@pytest.mark.parametrize("enum", ENUMS)
def test_codes_count_up_without_gaps(enum: type[IntEnum]) -> None:
    values = [int(code) for code in enum]
    assert values == list(range(values[0], values[0] + len(values)))
    assert values[0] in (0, 1)
    assert len(enum.__members__) == len(values), "an alias hides a code"


def test_kinds_are_numbered_in_the_order_of_the_calendars_table() -> None:
    text = MODEL.read_text(encoding="utf-8")
    table = text.partition("## The calendar")[2].partition("## Draws")[0]
    named = [
        name.strip() for line in table.splitlines() if line.startswith("|") for name in line.split("|")[1].split(",")
    ]
    assert sorted(named[2:]) == sorted(kind.name for kind in Kind)
    assert [kind.name for kind in Kind] == [
        "FAULT", "ACTION", "AUTOSCALE", "REPLICA", "PROBE", "CPU", "DELAY", "REPLY", "CANCEL", "GRANT", "LOCK",
        "FLIGHT", "POOL", "ARRIVE", "ROOT", "RETRY", "HEDGE", "POOL_TIMEOUT", "TIMEOUT",
    ]  # fmt: skip


def test_what_scales_is_neutral_at_one_and_what_adds_at_zero() -> None:
    later = {Param.HOLD, Param.POOL, Param.EDGE_DELAY}
    assert {param for param in Param if NEUTRAL[param] == 1.0} == {p for p in Param if p <= Param.TIMEOUT} | later
    assert {param for param in Param if NEUTRAL[param] == 0.0} == {p for p in Param if p > Param.TIMEOUT} - later


def test_a_row_of_the_log_has_its_32_bytes_and_room_for_every_code() -> None:
    assert LOG.names == ("time_s", "request", "span", "event", "aux")
    assert LOG.itemsize == 32
    assert max(Event) < 2**31


def test_stored_numbers_stay_what_they_were() -> None:
    stored = {Event.OFFERED: 1, Event.FINISHED: 13, Event.ACTION_DONE: 23, ActionCode.ROLLBACK: 7, Purpose.CRASH: 11}
    assert {code: int(code) for code in stored} == stored
    assert (codes.BORDER, codes.CACHE_SALT) == (4095, 0x6D656E64)
