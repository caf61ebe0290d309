"""The parts of the SimPy engine, each by itself."""

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
import pytest
from simpy.events import Event

from simcore.codes import Kind
from simcore.errors import EngineError, InputError
from simcore.model.popularity import alias_table
from simcore.reference.cache import Shard, owners_of
from simcore.reference.calendar import Calendar, Signal, Walk
from simcore.reference.ledger import Level
from simcore.reference.processor import Processor
from simcore.samplers import popularity


def note(order: list[Any], what: Any, _: Any) -> None:
    order.append(what)


# --- the calendar


def test_entries_of_one_instant_run_by_kind_then_key_then_attempt() -> None:
    calendar = Calendar(0.0)
    order: list[Any] = []
    for kind, key, attempt in [(Kind.TIMEOUT, 1, 0), (Kind.REPLY, 9, 1), (Kind.REPLY, 9, 0), (Kind.REPLY, 2, 5)]:
        calendar.at(1.0, kind, key, attempt, partial(note, order, (kind, key, attempt)))
    calendar.at(0.5, Kind.TIMEOUT, 1, 0, lambda _: order.append("before"))
    calendar.run_before(2.0)
    assert order == ["before", (Kind.REPLY, 2, 5), (Kind.REPLY, 9, 0), (Kind.REPLY, 9, 1), (Kind.TIMEOUT, 1, 0)]


def test_an_entry_made_at_the_present_instant_competes_with_the_rest_of_it() -> None:
    calendar = Calendar(0.0)
    order: list[Any] = []

    def first(_: Any) -> None:
        calendar.at(calendar.now, Kind.CPU, 1, 0, lambda _: order.append("cpu"))

    calendar.at(1.0, Kind.FAULT, 0, 0, first)
    calendar.at(1.0, Kind.TIMEOUT, 0, 0, lambda _: order.append("timeout"))
    calendar.run_before(1.5)
    assert order == ["cpu", "timeout"]


def test_entries_at_the_edge_and_cancelled_ones_do_not_run() -> None:
    calendar = Calendar(0.0)
    order: list[Any] = []
    calendar.at(1.0, Kind.ROOT, 1, 0, lambda _: order.append("at the edge"))
    calendar.at(0.5, Kind.ROOT, 1, 0, lambda _: order.append("cancelled")).cancel()
    calendar.run_before(1.0)
    assert order == []
    assert calendar.now == 0.0


def test_a_process_starts_and_ends_within_the_entry_that_made_it() -> None:
    calendar = Calendar(0.0)
    order: list[Any] = []

    def process() -> Any:
        order.append("started")
        yield calendar.at(1.0, Kind.TIMEOUT, 0, 0)
        order.append("resumed")

    def start(_: Any) -> None:
        calendar.process(process())

    calendar.at(1.0, Kind.CPU, 0, 0, start)
    calendar.at(1.0, Kind.DELAY, 0, 0, lambda _: order.append("delay"))
    calendar.run_before(2.0)
    assert order == ["started", "delay", "resumed"]


def test_a_walk_takes_its_first_steps_where_it_is_made_and_goes_on_where_a_signal_succeeds() -> None:
    calendar = Calendar(0.0)
    order: list[Any] = []

    def walk(signal: Signal) -> Generator[Event, Any, str]:
        order.append("begun")
        order.append((yield signal))
        yield calendar.at(2.0, Kind.REPLY, 1, 0)
        order.append(calendar.now)
        return "end"

    signal = Signal(calendar)
    walking = Walk(calendar, walk(signal))
    order.append("made")
    signal.succeed("signal")
    order.append("succeeded")
    with pytest.raises(RuntimeError, match="already"):
        signal.succeed("twice")
    calendar.run_before(3.0)
    assert order == ["begun", "made", "signal", "succeeded", 2.0]
    assert walking.value == "end"


def test_the_calendar_refuses_the_past_and_events_without_a_place() -> None:
    calendar = Calendar(3.0)
    with pytest.raises(EngineError, match=r"past: 2\.0 at 3\.0"):
        calendar.at(2.0, Kind.CPU, 0, 0)
    with pytest.raises(EngineError, match="use at"):
        calendar.timeout(1.0)


def test_an_error_in_a_process_comes_out_as_it_is() -> None:
    calendar = Calendar(0.0)

    def process() -> Any:
        yield calendar.at(1.0, Kind.CPU, 0, 0)
        raise InputError("wrong")

    calendar.process(process())
    with pytest.raises(InputError, match="wrong"):
        calendar.run_before(2.0)


# --- parts of a replica


def test_a_level_integrates_what_it_was_and_starts_anew_at_an_edge() -> None:
    level = Level(0.0)
    level.set(2.0, 1.0)
    level.set(3.0, 2.0)
    assert level.close(4.0) == 2.0 + 6.0
    assert level.close(5.0) == 3.0


def test_jobs_share_the_cores() -> None:
    calendar, ends = Calendar(0.0), {}
    processor = Processor(calendar, 2.0, 1.0, lambda: None)

    def job(name: int, start_s: float, demand_s: float) -> Any:
        yield calendar.at(start_s, Kind.ARRIVE, name, 0)
        yield processor.join(demand_s, name, 0)
        ends[name] = calendar.now

    # the first is alone at speed 2 until 1; then each has speed 1; from 2 on it is alone again, with 1 left
    calendar.process(job(1, 0.0, 4.0))
    calendar.process(job(2, 1.0, 1.0))
    calendar.run_before(10.0)
    assert ends == {2: 2.0, 1: 2.5}


def test_a_stopped_processor_goes_on_where_it_was() -> None:
    calendar, ends = Calendar(0.0), []
    processor = Processor(calendar, 1.0, 1.0, lambda: None)

    def job() -> Any:
        yield processor.join(2.0, 0, 0)
        ends.append(calendar.now)

    calendar.process(job())
    calendar.at(1.0, Kind.FAULT, 0, 0, lambda _: processor.retune(0.0, 1.0))
    calendar.at(5.0, Kind.FAULT, 1, 0, lambda _: processor.retune(0.5, 1.0))
    calendar.run_before(10.0)
    assert ends == [7.0]


def test_a_full_shard_evicts_the_least_recently_used_key() -> None:
    shard = Shard(2)
    shard.fill(1, 10.0)
    shard.fill(2, 10.0)
    assert shard.lookup(1, 0.0) == (True, False)
    shard.fill(3, 10.0)
    assert [shard.lookup(key, 0.0)[0] for key in (1, 2, 3)] == [True, False, True]


def test_an_entry_lives_until_just_before_its_expiry_unless_poisoned() -> None:
    shard = Shard(2)
    shard.fill(1, 10.0)
    assert shard.lookup(1, math.nextafter(10.0, 0.0)) == (True, False)
    assert shard.lookup(1, 10.0) == (False, False)
    shard.fill(1, 10.0)
    shard.poison(np.uint64(3), 0, 1.0)
    assert shard.lookup(1, 99.0) == (True, True)
    shard.fill(1, 100.0)
    assert shard.lookup(1, 99.0) == (True, False)


def test_poison_takes_about_its_share() -> None:
    shard = Shard(2000)
    for key in range(2000):
        shard.fill(key, 1.0)
    shard.poison(np.uint64(3), 0, 0.3)
    assert 500 < sum(shard.lookup(key, 0.0)[1] for key in range(2000)) < 700


def test_keys_without_an_eligible_replica_have_no_owner() -> None:
    assert owners_of(1, []) == []


@pytest.mark.parametrize(("count", "zipf"), [(1, 1.0), (7, 0.0), (50, 1.2), (1000, 5.0)])
def test_an_alias_table_gives_back_the_zipf_weights(count: int, zipf: float) -> None:
    accept, alias = alias_table(count, zipf)
    share = accept.copy()
    np.add.at(share, alias, 1.0 - accept)
    weights = np.arange(1, count + 1) ** -zipf
    np.testing.assert_allclose(share / count, weights / weights.sum(), rtol=1e-9, atol=1e-12)
    assert np.all((accept >= 0.0) & (accept <= 1.0))
    assert {popularity(accept, alias, u) for u in np.linspace(0.0, 1.0, 999, endpoint=False)} <= set(range(count))
