"""What ends faults besides restarts and rollbacks, hot keys, warming caches, degraded services; times by hand."""

from typing import Any

import pytest

from simcore.codes import ActionCode, Event, Param, Place, Status
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.reference.session import ReferenceSession
from simcore.streams import draw_index, uniform
from tests.test_reference import CPU, only, opened, scenario, service

SLOW = Modulation(Param.DEMAND, Place.QUOTA, 0)


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def act(session: ReferenceSession, code: ActionCode, at_s: float, on: int = 0, amount: float = 0.0) -> None:
    session.apply([EngineAction(0, code, at_s, service=on, amount=amount)])


def times(session: ReferenceSession, event: Event) -> list[float]:
    return [row[0] for row in only(session, event)]


# --- places and the actions that end them


@pytest.mark.parametrize("place", [Place.PROCESS, Place.NODE, Place.QUOTA, Place.CREDENTIAL, Place.OUTSIDE])
@pytest.mark.parametrize(
    ("code", "ends"),
    [
        (ActionCode.RAISE_LIMIT, {Place.QUOTA}),
        (ActionCode.ROTATE, {Place.CREDENTIAL}),
        (ActionCode.ESCALATE, {Place.PROCESS, Place.NODE, Place.QUOTA, Place.CREDENTIAL, Place.OUTSIDE}),
        (ActionCode.RESTART, {Place.PROCESS}),
        (ActionCode.FAILOVER, {Place.NODE, Place.PROCESS}),
    ],
)
def test_every_place_has_actions_that_end_what_lives_there(place: Place, code: ActionCode, ends: set[Place]) -> None:
    session = opened(
        scenario({"web": service(CPU, startup_s=0.125)}), (Modulation(Param.DEMAND, place, 0), [(0.0, 2.0)])
    )
    act(session, code, 1.75)
    session.advance(3.0)
    assert times(session, Event.CPU_DONE) == [1.5, 2.25 if place in ends else 2.5]


def test_an_action_that_ends_a_fault_is_felt_by_work_that_is_under_way() -> None:
    session = opened(scenario({"web": service(CPU)}), (Modulation(Param.SPEED, Place.QUOTA, 0), [(0.0, 0.25)]))
    act(session, ActionCode.RAISE_LIMIT, 1.5)
    session.advance(2.0)
    # half a second at a quarter of the speed has done half of it
    assert times(session, Event.CPU_DONE) == [1.625]


def test_an_action_ends_nothing_that_has_not_begun() -> None:
    session = opened(scenario({"web": service(CPU)}), (SLOW, [(1.5, 2.0)]))
    act(session, ActionCode.RAISE_LIMIT, 0.5)
    session.advance(3.0)
    assert times(session, Event.CPU_DONE) == [1.25, 2.5]


def test_what_is_over_stays_over_whatever_its_later_changes_say() -> None:
    session = opened(scenario({"web": service(CPU)}), (SLOW, [(0.0, 2.0), (1.75, 3.0)]))
    act(session, ActionCode.RAISE_LIMIT, 1.0)
    session.advance(3.0)
    # the action is before the arrival of the same instant
    assert times(session, Event.CPU_DONE) == [1.25, 2.25]
    assert only(session, Event.FAULT_CHANGE) == [(0.0, "FAULT_CHANGE", 0), (1.75, "FAULT_CHANGE", 1)]


def test_an_action_leaves_the_faults_of_other_services_alone() -> None:
    services = {"web": service(CPU, {"call": {"to": "db.get"}}), "db": service(CPU)}
    session = opened(scenario(services), (SLOW, [(0.0, 2.0)]), (Modulation(Param.DEMAND, Place.QUOTA, 1), [(0.0, 2.0)]))
    act(session, ActionCode.RAISE_LIMIT, 1.75, on=1)
    session.advance(4.0)
    assert times(session, Event.CPU_DONE) == [1.5, 2.0, 2.5, 2.75, 3.5, 3.75]


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (Place.QUOTA, ActionCode.RAISE_LIMIT), (Place.CREDENTIAL, ActionCode.ROTATE),
        (Place.NODE, ActionCode.FAILOVER), (Place.OUTSIDE, ActionCode.ESCALATE), (Place.CONFIG, ActionCode.ROLLBACK),
    ],
)  # fmt: skip
def test_what_lives_on_an_edge_ends_with_the_action_on_its_callee(place: Place, code: ActionCode) -> None:
    call = {"to": "db.get", "timeout_s": 0.25, "required": False}
    spec = scenario({"web": service({"call": call}, startup_s=0.0), "db": service(startup_s=0.0)})
    session = opened(spec, (Modulation(Param.LOSS_OUT, place, 0, -1, 1), [(0.0, 1.0)]))
    act(session, code, 2.5, on=0)
    act(session, code, 4.5, on=1)
    session.advance(7.0)
    lost = [1.0, 2.0] if code is ActionCode.ESCALATE else [1.0, 2.0, 3.0, 4.0]
    assert times(session, Event.LOST) == lost


def test_a_failover_restarts_all_replicas_at_once() -> None:
    web = service(delay(5.0), replicas={"initial": 3}, startup_s=0.5)
    session = opened(scenario({"web": web}))
    act(session, ActionCode.SCALE, 2.125, amount=1.0)
    act(session, ActionCode.FAILOVER, 2.25)
    session.advance(3.0)
    # replicas 0 and 1 work, 2 is idle, 3 starts: the time of its start begins anew
    rows = only(session, Event.REPLICA_DOWN, Event.KILLED, Event.REPLIED, Event.REPLICA_UP)
    assert rows == [
        (2.25, "REPLICA_DOWN", 0), (2.25, "KILLED", 0), (2.25, "REPLICA_DOWN", 0), (2.25, "KILLED", 1),
        (2.25, "REPLICA_DOWN", 0), (2.25, "REPLICA_DOWN", 0),
        (2.25, "REPLIED", Status.RESET), (2.25, "REPLIED", Status.RESET), *[(2.75, "REPLICA_UP", 0)] * 4,
    ]  # fmt: skip


def test_a_failover_leaves_a_draining_replica_alone() -> None:
    session = opened(scenario({"web": service(delay(0.75), replicas={"initial": 2}, startup_s=0.0)}))
    act(session, ActionCode.SCALE, 2.25, amount=-1.0)
    act(session, ActionCode.FAILOVER, 2.5)
    session.advance(3.0)
    assert [row for row in only(session, Event.FINISHED, Event.KILLED) if row[0] > 2.0] == [(2.75, "FINISHED", 0)]


# --- a human mends everything


def test_an_escalation_ends_a_surge_for_good() -> None:
    session = opened(scenario({"web": service()}), (Modulation(Param.SURGE, Place.WORKLOAD), [(0.0, 1.0), (5.0, 1.0)]))
    act(session, ActionCode.ESCALATE, 3.5, on=-1)
    session.advance(8.0)
    assert times(session, Event.OFFERED) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_an_escalation_leaves_alone_what_has_not_begun() -> None:
    session = opened(scenario({"web": service()}), (Modulation(Param.SURGE, Place.WORKLOAD), [(4.0, 1.0)]))
    act(session, ActionCode.ESCALATE, 3.5, on=-1)
    session.advance(6.0)
    assert times(session, Event.OFFERED) == [1.0, 2.0, 3.0, 4.0, 5.0, 5.0]


def test_an_escalation_mends_all_services_and_rolls_nothing_back() -> None:
    services = {"web": service(CPU, {"call": {"to": "db.get"}}), "db": service(CPU, startup_s=0.0)}
    faults = [
        (SLOW, [(0.0, 2.0)]),
        (Modulation(Param.DEPLOY, Place.VERSION, 1), [(0.25, 1.0)]),
        (Modulation(Param.DEMAND, Place.VERSION, 1), [(0.5, 2.0)]),
    ]
    session = opened(scenario(services), *faults)
    act(session, ActionCode.ESCALATE, 2.5, on=-1)
    session.advance(4.0)
    assert times(session, Event.CPU_DONE) == [1.5, 2.0, 2.5, 2.75, 3.25, 3.5]
    assert times(session, Event.REPLICA_DOWN) == [0.25]


def test_nothing_strikes_once_after_an_escalation() -> None:
    cached = {"to": "kv.get", "keys": {"count": 1}}
    services = {"kv": service(cache={"slots": 1, "ttl_s": 1000.0}), "web": service({"cached": cached})}
    session = opened(scenario(services), (Modulation(Param.FLUSH, Place.CONTENT, 0), [(1.5, 1.0), (3.5, 1.0)]))
    act(session, ActionCode.ESCALATE, 2.5, on=-1)
    session.advance(5.0)
    assert times(session, Event.MISS) == [2.0]
    assert times(session, Event.HIT) == [1.0, 3.0, 4.0]


# --- hot keys


def hot(place: Place = Place.WORKLOAD, replica: int = -1) -> Modulation:
    return Modulation(Param.HOT_KEY, place, 0, replica)


def reading(count: int = 8, slots: int = 1, **shard: Any) -> dict[str, Any]:
    """Return a cache that does not fill in advance what is read, and its reader; two sites of ``count`` keys."""
    cached = {"to": "kv.get", "keys": {"count": count, "zipf": 0.0}}
    kv = service(cache={"slots": slots, "ttl_s": 1000.0, **shard})
    return {"kv": kv, "web": service({"cached": cached}, {"cached": cached})}


def keys(session: ReferenceSession) -> list[int]:
    """Return the keys that were looked up."""
    return [row[2] for row in only(session, Event.HIT, Event.MISS)]


def test_a_hot_key_is_the_most_popular_of_each_site() -> None:
    session = opened(scenario(reading()), (hot(), [(4.5, 0.5), (9.5, 1.0)]))
    session.advance(20.0)
    found = keys(session)
    assert found[2 * 9 :] == [0, 8] * 10
    assert set(found[: 2 * 4]) - {0, 8}
    assert len([key for key in found[2 * 4 : 2 * 9] if key in (0, 8)]) >= 3


def test_the_shares_of_hot_keys_add_up_to_one_at_most() -> None:
    session = opened(scenario(reading()), (hot(), [(0.0, 0.75)]), (hot(Place.PROCESS, 7), [(0.0, 0.75)]))
    session.advance(9.0)
    assert keys(session) == [0, 8] * 8


def test_whose_lookups_are_hot_is_drawn_apart_from_the_key() -> None:
    session = opened(scenario(reading(count=64)), (hot(), [(0.0, 0.5)]))
    plain = opened(scenario(reading(count=64)))
    for one in (session, plain):
        one.advance(20.0)
    for span, found, usual in zip(
        [row for row in session.events(0) if row["event"] == Event.OFFERED], keys(session)[::2], keys(plain)[::2],
        strict=True,
    ):  # fmt: skip
        # purpose 9 is the popularity, sub-draw 1 of step 0
        index = draw_index(0, 9) + 1
        assert found == (0 if uniform(span["span"].view("u8"), index) < 0.5 else usual)


@pytest.mark.parametrize("code", [ActionCode.RESTART, ActionCode.ESCALATE])
def test_a_hot_key_cools_down_when_it_is_over(code: ActionCode) -> None:
    session = opened(scenario(reading(count=64)), (hot(Place.PROCESS), [(0.0, 1.0)]))
    act(session, code, 5.5)
    session.advance(20.0)
    # a restart of the cache does not change what its users want
    later = keys(session)[2 * 6 :]
    assert (set(later) == {0, 64}) == (code is ActionCode.RESTART)


def test_a_key_becomes_hot_at_its_cache_only() -> None:
    spec = reading(count=64) | {"other": service(cache={"slots": 1})}
    session = opened(scenario(spec), (Modulation(Param.HOT_KEY, Place.WORKLOAD, 2), [(0.0, 1.0)]))
    session.advance(9.0)
    assert len(set(keys(session))) > 2


# --- warming a cache


def test_a_cleared_cache_is_warm_after_its_warming() -> None:
    session = opened(scenario(reading(count=1, slots=2)))
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    act(session, ActionCode.WARM_CACHE, 0.5)
    session.advance(3.0)
    assert times(session, Event.HIT) == [1.0, 1.0, 2.0, 2.0]
    assert not only(session, Event.FILLED, Event.MISS)


def test_warming_loads_as_many_of_the_most_popular_keys_as_there_is_room_for() -> None:
    session = opened(scenario(reading(count=64, slots=3)))
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    act(session, ActionCode.WARM_CACHE, 0.5)
    session.advance(1.0)
    (shard,) = [replica.shard for replica in session._runs[0]._world.services[0].replicas]
    # sites take turns within a rank; the most popular is the most recent
    assert list(shard._items) == [1, 64, 0]
    assert {item.expiry_s for item in shard._items.values()} == {1000.5}


def test_warming_mends_wrong_entries_and_renews_the_others() -> None:
    poison = (Modulation(Param.POISON, Place.CONTENT, 0), [(0.25, 1.0)])
    session = opened(scenario(reading(count=1, slots=2, ttl_s=2.0)), poison)
    act(session, ActionCode.WARM_CACHE, 1.5)
    session.advance(5.0)
    assert only(session, Event.FINISHED)[1] == (1.0, "FINISHED", Status.ERROR)
    assert times(session, Event.HIT) == [1.0, 2.0, 2.0, 3.0, 3.0]
    assert times(session, Event.MISS) == [4.0, 4.0]


def test_warming_goes_to_who_owns_the_key_now() -> None:
    services = reading(count=64, slots=128)
    services["kv"] |= {"replicas": {"initial": 3}, "startup_s": 100.0}
    session = opened(scenario(services))
    session.apply([EngineAction(0, ActionCode.QUARANTINE, 0.25, service=0, replica=1)])
    act(session, ActionCode.CLEAR_CACHE, 0.5)
    act(session, ActionCode.WARM_CACHE, 0.75)
    session.advance(9.0)
    shards = [replica.shard for replica in session._runs[0]._world.services[0].replicas]
    assert [len(shard._items) > 0 for shard in shards] == [True, False, True]
    assert sum(len(shard._items) for shard in shards) == 128
    assert not only(session, Event.MISS)


def test_a_replica_that_is_down_is_not_warmed_though_it_owns_keys() -> None:
    services = reading(count=64, slots=128)
    health = {"interval_s": 1.0, "unhealthy_after": 100}
    services["kv"] |= {"replicas": {"initial": 2}, "startup_s": 0.25, "health": health}
    session = opened(scenario(services))
    act(session, ActionCode.CLEAR_CACHE, 0.25)
    # replica 0 is down from 0.5 to 0.75, replica 1 from 1.75 to 2
    act(session, ActionCode.RESTART, 0.5)
    act(session, ActionCode.WARM_CACHE, 0.625)
    session.advance(1.0)
    shards = [replica.shard for replica in session._runs[0]._world.services[0].replicas]
    assert not shards[0]._items
    assert 0 < len(shards[1]._items) < 128


def test_warming_what_is_no_cache_does_nothing() -> None:
    session = opened(scenario(reading()))
    act(session, ActionCode.WARM_CACHE, 0.5, on=1)
    session.advance(1.0)
    assert only(session, Event.ACTION_DONE) == [(0.5, "ACTION_DONE", ActionCode.WARM_CACHE)]


# --- degraded services


def test_a_degraded_service_leaves_its_optional_calls_out() -> None:
    optional = {"to": "db.get", "required": False}
    web = service({"call": optional}, {"call": {"to": "db.get"}}, threads=9)
    session = opened(scenario({"web": web, "db": service(delay(0.25))}))
    act(session, ActionCode.DEGRADE, 1.5, amount=1.0)
    act(session, ActionCode.DEGRADE, 2.5)
    session.advance(4.0)
    assert times(session, Event.DELAY_DONE) == [1.25, 1.5, 2.25, 3.25, 3.5]


def test_a_degraded_service_leaves_optional_branches_out() -> None:
    branches = [{"to": "db.get", "required": False}, {"to": "db.get"}]
    web = service({"parallel": {"branches": branches}}, {"parallel": {"branches": branches[:1]}})
    session = opened(scenario({"web": web, "db": service(delay(0.25), threads=9)}))
    act(session, ActionCode.DEGRADE, 1.75, amount=1.0)
    session.advance(3.0)
    assert times(session, Event.DELAY_DONE) == [1.25, 1.25, 1.5, 2.25]
    assert only(session, Event.REPLIED)[-1] == (2.25, "REPLIED", Status.OK)


def test_what_others_call_is_not_left_out_and_neither_are_reads_through_a_cache() -> None:
    services = reading(count=1, slots=2)
    for step in services["web"]["operations"]["get"]["steps"]:
        step["cached"] = step["cached"] | {"required": False}
    services["web"]["operations"]["get"]["steps"].append({"call": {"to": "db.get", "required": False}})
    services["db"] = service(CPU)
    session = opened(scenario(services))
    for on in (0, 2):
        act(session, ActionCode.DEGRADE, 0.5, on=on, amount=1.0)
    session.advance(2.0)
    assert len(times(session, Event.HIT)) == 2
    assert times(session, Event.CPU_DONE) == [1.25]
    act(session, ActionCode.DEGRADE, 2.5, on=1, amount=1.0)
    session.advance(4.0)
    assert len(times(session, Event.HIT)) == 6
    assert times(session, Event.CPU_DONE) == [1.25, 2.25]
