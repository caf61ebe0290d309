"""Coalesced reads, keys that do not exist, hot keys on several replicas; times worked out by hand."""

from typing import Any

import numpy as np
import pytest

from simcore.codes import ABSENT_SALT, CACHE_SALT, ActionCode, Event, Param, Place, Status
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.reference.replica import Replica
from simcore.reference.session import ReferenceSession
from simcore.streams import keyed, uniform
from tests.test_reference import only, opened, scenario, service

MANY = {"threads": 9}


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def read(*steps: dict[str, Any], count: int = 1, coalesce: bool = False, **keys: Any) -> dict[str, Any]:
    cached = {"to": "kv.get", "keys": {"count": count, "zipf": 0.0, **keys}, "coalesce": coalesce}
    return {"cached": cached | {"steps": list(steps)}}


def store(slots: int = 64, ttl_s: float = 1000.0, replicas: int = 1, **shard: Any) -> dict[str, Any]:
    cache = {"slots": slots, "ttl_s": ttl_s, **shard}
    return service(cache=cache, replicas={"initial": replicas}, **MANY)


def act(session: ReferenceSession, code: ActionCode, at_s: float, on: int = 0, **more: Any) -> None:
    session.apply([EngineAction(0, code, at_s, service=on, **more)])


def times(session: ReferenceSession, event: Event) -> list[float]:
    return [row[0] for row in only(session, event)]


def stores(session: ReferenceSession) -> list[Replica]:
    return session._runs[0]._world.services[0].replicas


def held(session: ReferenceSession) -> list[list[int]]:
    """Return the keys that each replica of the cache holds, the least recent first."""
    return [list(replica.shard._items) for replica in stores(session)]


# --- coalesced reads


def coalescing(*steps: dict[str, Any], cleared: bool = True, **spec: Any) -> ReferenceSession:
    """Return a session in which one key is read every second, the cache being cold at first."""
    services = {"kv": store(), "web": service(read(*steps, coalesce=True), **MANY | spec), "db": service(**MANY)}
    session = opened(scenario(services), (Modulation(Param.OK, Place.NODE, 2), [(0.0, 0.0)]))
    act(session, ActionCode.CLEAR_CACHE, 0.5)
    return session


def test_one_span_fetches_what_several_miss() -> None:
    session = coalescing(delay(2.5))
    session.advance(5.0)
    assert only(session, Event.MISS, Event.JOINED, Event.FILLED, Event.HIT) == [
        (1.0, "MISS", 0), (2.0, "MISS", 0), (2.0, "JOINED", 0), (3.0, "MISS", 0), (3.0, "JOINED", 0),
        (3.5, "FILLED", 0), (4.0, "HIT", 0),
    ]  # fmt: skip
    replies = [row for row in session.events(0) if row["event"] == Event.REPLIED and row["aux"] == Status.OK]
    assert [(row["time_s"], row["request"]) for row in replies if row["time_s"] == 3.5] == sorted(
        [(3.5, 0), (3.5, 1), (3.5, 2)],
        key=lambda row: keyed(keyed(session._runs[0].inputs.key, 0), row[1]),
    )
    assert times(session, Event.DELAY_DONE) == [3.5]


def test_who_waits_for_a_leader_that_fails_fails_with_it() -> None:
    session = coalescing(delay(1.5), {"call": {"to": "db.get"}})
    session.advance(5.0)
    assert times(session, Event.JOINED) == [2.0, 4.0]
    ends = [row for row in only(session, Event.FINISHED) if row[2] == Status.DEPENDENCY]
    assert ends == [(2.5, "FINISHED", Status.DEPENDENCY)] * 2 + [(4.5, "FINISHED", Status.DEPENDENCY)] * 2
    assert not only(session, Event.FILLED)


def test_replicas_do_not_wait_for_each_other() -> None:
    session = coalescing(delay(1.5), replicas={"initial": 2})
    session.advance(4.0)
    assert not only(session, Event.JOINED)
    assert times(session, Event.FILLED) == [2.5, 3.5]


def test_two_sites_do_not_wait_for_each_other() -> None:
    web = {
        "threads": 9,
        "operations": {name: {"steps": [read(delay(1.5), coalesce=True)]} for name in ("get", "put")},
    }
    both = {"branches": [{"to": "web.get"}, {"to": "web.put"}]}
    session = opened(scenario({"kv": store(), "web": web, "front": service({"parallel": both})}, "front.get"))
    act(session, ActionCode.CLEAR_CACHE, 0.5)
    session.advance(2.0)
    assert len(only(session, Event.MISS)) == 2
    assert not only(session, Event.JOINED)


def calling(*timeouts_s: float, **spec: Any) -> ReferenceSession:
    """Return a session whose front calls a service that reads a key for a second, cancelled after these times."""
    web = {"threads": 9, "operations": {"get": {"steps": [read(delay(1.25), coalesce=True)], "cancellable": True}}}
    branches = [{"to": "web.get", "timeout_s": timeout_s, "required": False} for timeout_s in timeouts_s]
    front = service({"parallel": {"branches": branches}}, **MANY)
    session = opened(scenario({"kv": store(), "web": web | spec, "front": front}, "front.get", rate_rps=0.5))
    act(session, ActionCode.CLEAR_CACHE, 0.5)
    return session


def leads(session: ReferenceSession) -> list[int]:
    """Return the attempts (by position of their sending) that run the inner steps."""
    sent = [row["span"] for row in session.events(0) if row["event"] == Event.SENT]
    done = [row["span"] for row in session.events(0) if row["event"] == Event.DELAY_DONE]
    return [sent.index(span) for span in done]


@pytest.mark.parametrize("timeouts_s", [(0.5, 9.0), (9.0, 0.5)])
def test_a_span_that_is_cancelled_takes_those_along_that_wait_for_it(timeouts_s: tuple[float, float]) -> None:
    session = calling(*timeouts_s)
    session.advance(4.0)
    assert times(session, Event.JOINED) == [2.0]
    assert times(session, Event.CANCELLED) == [2.5]
    # spans 1 and 2 of the log are the calls of the front; which of them leads is the order of their keys
    joined = next(row["span"] for row in session.events(0) if row["event"] == Event.JOINED)
    cancelled = next(row["span"] for row in session.events(0) if row["event"] == Event.CANCELLED)
    if joined == cancelled:
        assert times(session, Event.FILLED) == [3.25]
        assert not [row for row in only(session, Event.FINISHED) if row[2] != Status.OK]
    else:
        assert not only(session, Event.FILLED)
        assert (2.5, "FINISHED", Status.DEPENDENCY) in only(session, Event.FINISHED)


def test_both_who_leads_and_who_waits_is_cancelled_in_the_tests_above() -> None:
    ends = []
    for timeouts_s in ((0.5, 9.0), (9.0, 0.5)):
        session = calling(*timeouts_s)
        session.advance(4.0)
        ends.append(len(only(session, Event.FILLED)))
    assert sorted(ends) == [0, 1]


def test_a_killed_replica_forgets_what_it_was_fetching() -> None:
    session = coalescing(delay(1.75), startup_s=0.0)
    act(session, ActionCode.RESTART, 2.5, on=1)
    session.advance(5.0)
    assert len(only(session, Event.KILLED)) == 2
    assert times(session, Event.JOINED) == [2.0, 4.0]
    assert times(session, Event.FILLED) == [4.75]


def test_a_lookup_that_fails_for_good_joins_too() -> None:
    services = {"kv": store(), "web": service(read(delay(2.5), coalesce=True), **MANY)}
    session = opened(scenario(services), (Modulation(Param.OK, Place.NODE, 0), [(0.0, 0.0)]))
    session.advance(3.0)
    assert times(session, Event.JOINED) == [2.0]


# --- keys that do not exist


def exists(key: int, absent: float) -> bool:
    return float(uniform(keyed(np.uint64(ABSENT_SALT), key), np.uint64(0))) >= absent


def test_what_does_not_exist_is_looked_for_again_and_again() -> None:
    session = opened(scenario({"kv": store(), "web": service(read(delay(0.25), absent=1.0))}))
    session.advance(4.0)
    assert times(session, Event.MISS) == [1.0, 2.0, 3.0]
    assert times(session, Event.DELAY_DONE) == [1.25, 2.25, 3.25]
    assert not only(session, Event.FILLED)


def test_that_a_key_does_not_exist_is_remembered_for_its_own_time() -> None:
    services = {"kv": store(negative_ttl_s=1.0), "web": service(read(delay(0.25), absent=1.0))}
    session = opened(scenario(services))
    session.advance(5.0)
    assert only(session, Event.MISS, Event.FILLED, Event.HIT) == [
        (1.0, "MISS", 0), (1.25, "FILLED", 0), (2.0, "HIT", 0), (3.0, "MISS", 0), (3.25, "FILLED", 0), (4.0, "HIT", 0),
    ]  # fmt: skip


def test_which_keys_exist_is_a_matter_of_the_key_alone() -> None:
    services = {"kv": store(slots=128), "web": service(read(count=64, absent=0.5), read(count=64))}
    session = opened(scenario(services))
    expected = {key for key in range(64) if exists(key, 0.5)} | set(range(64, 128))
    assert 16 < len(expected & set(range(64))) < 48
    assert set(held(session)[0]) == expected
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    act(session, ActionCode.WARM_CACHE, 0.5)
    session.advance(1.0)
    assert set(held(session)[0]) == expected
    session.advance(20.0)
    assert all((row[2] in expected) == (row[1] == "HIT") for row in only(session, Event.HIT, Event.MISS))


# --- keys on several replicas


def by_weight(key: int, numbers: range) -> list[int]:
    base = keyed(np.uint64(CACHE_SALT), key)
    return sorted(numbers, key=lambda number: -int(keyed(base, number)))


def copied(copies: int, replicas: int = 3, count: int = 8, **spec: Any) -> dict[str, Any]:
    """Return a cache whose most popular key, number 0, lives on several replicas, and its reader."""
    kv = store(replicas=replicas, copies=copies) | spec
    return {"kv": kv, "web": service(read(count=count, replicated=1))}


@pytest.mark.parametrize("copies", [1, 2, 3, 7])
def test_popular_keys_are_on_so_many_replicas_from_the_start(copies: int) -> None:
    session = opened(scenario(copied(copies)))
    homes = [[number for number in range(3) if key in held(session)[number]] for key in range(8)]
    assert homes[0] == sorted(by_weight(0, range(3))[:copies])
    assert all(homes[key] == by_weight(key, range(3))[:1] for key in range(1, 8))
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    act(session, ActionCode.WARM_CACHE, 0.5)
    before = held(session)
    session.advance(1.0)
    assert held(session) == before


def test_a_lookup_goes_to_any_of_the_copies() -> None:
    session = opened(scenario(copied(2, count=1)))
    session.advance(20.0)
    homes = by_weight(0, range(3))[:2]
    lookups = [row for row in session.events(0) if row["event"] == Event.SENT][1::2]
    # purpose 12 is the balancer's, of step 4095
    index = np.uint64(4095 * 16 + 12) << np.uint64(20)
    assert [row["aux"] for row in lookups] == [
        homes[int(2 * uniform(row["span"].view("u8"), index))] for row in lookups
    ]
    assert {row["aux"] for row in lookups} == set(homes)
    assert len(only(session, Event.HIT)) == 19


def test_a_fill_goes_to_all_copies() -> None:
    session = opened(scenario(copied(2, count=1)))
    act(session, ActionCode.CLEAR_CACHE, 0.5)
    session.advance(3.0)
    assert only(session, Event.MISS, Event.FILLED, Event.HIT) == [
        (1.0, "MISS", 0), (1.0, "FILLED", 0), (1.0, "FILLED", 0), (2.0, "HIT", 0),
    ]  # fmt: skip
    assert [len(keys) for keys in held(session)] == [int(i in by_weight(0, range(3))[:2]) for i in range(3)]


def test_the_next_in_line_takes_the_place_of_a_copy_that_is_not_eligible() -> None:
    session = opened(scenario(copied(2, count=1)))
    first, second, third = by_weight(0, range(3))
    act(session, ActionCode.QUARANTINE, 0.5, replica=first)
    session.advance(12.0)
    used = {row["aux"] for row in session.events(0) if row["event"] == Event.SENT}
    assert used >= {second, third}
    assert len(only(session, Event.MISS)) == 1
    assert len(only(session, Event.FILLED)) == 2
    assert held(session)[third] == [0]


def test_a_full_replica_leaves_the_key_to_the_others() -> None:
    # two sites of three keys each; with two slots everywhere, ranks are taken in turn until all is full
    kv = store(slots=2, replicas=2, copies=2)
    session = opened(scenario({"kv": kv, "web": service(read(count=3, replicated=1), read(count=3))}))
    shards: list[list[int]] = [[], []]
    for key in (0, 3, 1, 4, 2, 5):
        for number in by_weight(key, range(2))[: 2 if key == 0 else 1]:
            if len(shards[number]) < 2:
                shards[number].append(key)
    assert held(session) == [shard[::-1] for shard in shards]


def test_a_copy_that_is_down_but_in_rotation_is_not_filled() -> None:
    health = {"interval_s": 1.0, "unhealthy_after": 100}
    session = opened(scenario(copied(2, replicas=2, count=1, health=health, startup_s=1.25)))
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    act(session, ActionCode.RESTART, 0.5)
    session.advance(2.0)
    # replica 0 is down from 0.5 to 1.75; the lookup at 1 is refused there or misses at replica 1
    assert len(only(session, Event.FILLED)) == 1
    assert [len(keys) for keys in held(session)] == [0, 1]
