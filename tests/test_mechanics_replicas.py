"""How replicas are chosen, queue, warm up, collect garbage and are looked after; times worked out by hand."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from simcore.codes import ActionCode, Event, Param, Place, Status
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.model.scenario import Scenario
from simcore.model.services import Service
from simcore.model.spec import Latency
from simcore.reference.attempts import Route, Span
from simcore.reference.balancers import BALANCERS
from simcore.reference.calendar import Calendar
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.session import ReferenceSession
from simcore.streams import keyed
from simcore.windows import Metric
from tests.test_reference import CPU, only, opened, scenario, service

#: Four arrivals, at 0.25, 0.5, 0.75 and 1.
FOUR = {"rate_rps": 4.0, "shape": "step", "factor": 0.0, "from_s": 1.125}


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def action(code: ActionCode, at_s: float, amount: float = 0.0) -> EngineAction:
    """Return an action on the first service."""
    return EngineAction(0, code, at_s, service=0, amount=amount)


def times(session: ReferenceSession, event: Event) -> list[float]:
    return [row[0] for row in only(session, event)]


def replicas_sent_to(session: ReferenceSession) -> list[int]:
    return [row[2] for row in only(session, Event.SENT)]


def requests_of(session: ReferenceSession, event: Event) -> list[int]:
    """Return the numbers of the requests that something happened to, in the order in which it did."""
    rows = session.events(0)
    return [int(row["request"]) for row in rows if row["event"] == event]


# --- balancers


def fleet(*outstanding: int) -> ServiceState:
    """Return a service whose replicas have so many attempts to answer."""
    calendar = Calendar(0.0)
    state = ServiceState(0, "web", Service.model_validate(service(CPU)))
    for number, count in enumerate(outstanding):
        replica = Replica(calendar, state, number)
        replica.outstanding = count
        state.replicas.append(replica)
    return state


def choices(name: str, state: ServiceState, n: int = 1) -> Counter[int]:
    """Return how often each replica is chosen for ``n`` attempts with different keys."""
    route = Route(-1, -1, None, state, 0, Latency(), cancellable=False)
    answered = Calendar(0.0).event()
    spans = (Span(0, keyed(np.uint64(11), i), 0, route, math.inf, 0, answered) for i in range(n))
    return Counter(BALANCERS[name](span, state.replicas).number for span in spans)


@pytest.mark.parametrize("name", BALANCERS)
def test_every_balancer_chooses_the_only_replica(name: str) -> None:
    assert choices(name, fleet(3), 50) == {0: 50}


def test_round_robin_goes_on_behind_the_last_one_chosen() -> None:
    state = fleet(9, 9, 0)
    state.last_chosen = 0
    assert choices("round_robin", state) == {1: 1}
    state.last_chosen = 2
    assert choices("round_robin", state) == {0: 1}


def test_least_outstanding_takes_the_lowest_number_of_the_least_loaded() -> None:
    assert choices("least_outstanding", fleet(2, 1, 1)) == {1: 1}


def test_random_gives_every_replica_the_same_share() -> None:
    counts = choices("random", fleet(9, 0, 0, 0), 6000)
    # standard deviation of each count: 34
    assert all(abs(counts[number] - 1500) < 150 for number in range(4))


def test_power_of_two_takes_the_less_loaded_of_any_pair_with_the_same_probability() -> None:
    counts = choices("power_of_two", fleet(3, 1, 2, 0), 6000)
    # of the six pairs the least loaded replica is in three, the next one wins two of the others, and so on
    for number, expected in ((3, 3000), (1, 2000), (2, 1000)):
        assert abs(counts[number] - expected) < 200
    assert counts[0] == 0


def test_power_of_two_breaks_ties_to_the_lower_number() -> None:
    assert set(choices("power_of_two", fleet(1, 1), 50)) == {0}


def test_the_second_draw_of_power_of_two_is_independent_of_the_first() -> None:
    counts = choices("power_of_two", fleet(0, 0, 0), 6000)
    # ties everywhere: the lower number of a pair wins, and number 0 is in two of three pairs
    assert abs(counts[0] - 4000) < 200
    assert abs(counts[1] - 2000) < 200
    assert counts[2] == 0


# --- health checks


def checked(**spec: Any) -> dict[str, Any]:
    """Return a service with checks every second, two of which decide."""
    health = {"interval_s": 1.0, "unhealthy_after": 2, "healthy_after": 2}
    return service(CPU, **{"replicas": {"initial": 2}, "health": health, **spec})


def test_checks_take_a_dead_replica_out_and_bring_it_back() -> None:
    session = opened(scenario({"web": checked(startup_s=3.25)}))
    session.apply([action(ActionCode.RESTART, 0.5)])
    session.advance(11.0)
    # replica 0 is down from 0.5 to 3.75: missed at 1 and 2, passed at 4 and 5
    # replica 1 is down from 4.75 to 8: missed at 5 and 6, passed at 8 (it comes up just before) and 9
    assert replicas_sent_to(session) == [0, 1, 1, 1, 0, 0, 0, 0, 1, 0]
    assert only(session, Event.REFUSED) == [(1.0, "REFUSED", 0)]


def test_a_stuck_replica_passes_its_checks() -> None:
    stuck = (Modulation(Param.SPEED, Place.NODE, 0, replica=0), [(0.5, 0.0)])
    session = opened(scenario({"web": checked(threads=9)}), stuck)
    session.advance(9.0)
    assert replicas_sent_to(session) == [0, 1, 0, 1, 0, 1, 0, 1]
    assert times(session, Event.CPU_DONE) == [2.25, 4.25, 6.25, 8.25]


def test_a_new_replica_is_sent_to_once_it_has_passed_its_checks() -> None:
    session = opened(scenario({"web": checked(replicas={"initial": 1}, startup_s=0.5)}))
    session.apply([action(ActionCode.SCALE, 0.25, 1.0)])
    session.advance(5.0)
    assert replicas_sent_to(session) == [0, 1, 0, 1]


def test_a_draining_replica_leaves_the_rotation_without_a_check() -> None:
    session = opened(scenario({"web": checked()}))
    session.apply([action(ActionCode.SCALE, 0.25, -1.0)])
    session.advance(4.0)
    assert replicas_sent_to(session) == [0, 0, 0]


def test_a_check_that_passes_in_between_starts_the_count_anew() -> None:
    session = opened(scenario({"web": checked(replicas={"initial": 1}, startup_s=0.75)}))
    for at_s in (0.5, 2.5, 4.5):
        session.apply([action(ActionCode.RESTART, at_s)])
    session.advance(6.0)
    # down at 1, 3 and 5, up at 2 and 4: never two missed in a row
    assert replicas_sent_to(session) == [0, 0, 0, 0, 0]
    assert times(session, Event.REFUSED) == [1.0, 3.0, 5.0]


def test_a_cache_that_is_down_but_in_rotation_is_not_filled() -> None:
    cached = {"to": "kv.get", "keys": {"count": 1}}
    health = {"interval_s": 1.0, "unhealthy_after": 100}
    kv = service(CPU, cache={"slots": 4, "ttl_s": 100.0}, health=health, startup_s=2.0)
    session = opened(scenario({"kv": kv, "web": service({"cached": cached}, threads=9)}))
    session.apply([action(ActionCode.RESTART, 0.5)])
    session.advance(5.0)
    assert only(session, Event.REFUSED, Event.MISS, Event.FILLED, Event.HIT) == [
        (1.0, "REFUSED", 0), (2.0, "REFUSED", 0), (3.25, "MISS", 0), (3.25, "FILLED", 0), (4.25, "HIT", 0),
    ]  # fmt: skip


# --- queue disciplines


@pytest.mark.parametrize(
    ("spec", "order"),
    [
        ({}, [0, 1, 2, 3]),
        ({"discipline": "lifo"}, [0, 3, 2, 1]),
        ({"discipline": "lifo", "lifo_above": 1}, [0, 3, 2, 1]),
        ({"discipline": "lifo", "lifo_above": 2}, [0, 3, 1, 2]),
        ({"discipline": "lifo", "lifo_above": 3}, [0, 1, 2, 3]),
    ],
)
def test_the_newest_is_first_while_the_queue_is_long(spec: dict[str, Any], order: list[int]) -> None:
    session = opened(scenario({"web": service(delay(1.0), **spec)}, **FOUR))
    session.advance(5.0)
    assert requests_of(session, Event.STARTED) == order
    assert times(session, Event.STARTED) == [0.25, 1.25, 2.25, 3.25]


CODEL = {"discipline": "codel", "codel": {"target_s": 0.125, "interval_s": 1.0}}


def test_a_standing_queue_drops_all_that_waited_too_long() -> None:
    session = opened(scenario({"web": service(delay(0.5), **CODEL)}, rate_rps=4.0))
    session.advance(3.0)
    # last empty at 0.75, when request 1 left it; request 3 is taken at 1.75, just within the interval.
    # At 2.25 the requests that came at 1.25, 1.5 and 1.75 are too late; taking the last one empties the queue
    assert only(session, Event.DROPPED) == [(2.25, "DROPPED", 0)] * 3
    assert requests_of(session, Event.DROPPED) == [4, 5, 6]
    assert requests_of(session, Event.STARTED) == [0, 1, 2, 3, 7, 8]
    assert times(session, Event.STARTED) == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]
    assert [row for row in only(session, Event.REPLIED) if row[2] != Status.OK] == [
        (2.25, "REPLIED", Status.REJECTED)
    ] * 3
    metrics = session.observe().metrics[0, 2, 0]
    assert metrics[Metric.REJECTED] == 3
    # until 2.25: the thread's and those of 1.25 .. 2; then the thread's and one more every quarter
    assert metrics[Metric.IN_FLIGHT] == 0.25 * (5 + 2 + 3 + 3)


def test_a_short_burst_is_served_whatever_it_waited() -> None:
    session = opened(scenario({"web": service(delay(0.5), **CODEL)}, **FOUR))
    session.advance(4.0)
    assert not only(session, Event.DROPPED)
    assert times(session, Event.STARTED) == [0.25, 0.75, 1.25, 1.75]


def test_who_waited_longer_than_the_interval_is_dropped_even_if_the_queue_empties() -> None:
    session = opened(scenario({"web": service(delay(1.25), **CODEL)}, **FOUR))
    session.advance(4.0)
    # at 1.5 request 1 has waited for 1; at 2.75 the queue is standing for request 2, and 3 has waited for 1.75
    assert requests_of(session, Event.STARTED) == [0, 1]
    assert only(session, Event.DROPPED) == [(2.75, "DROPPED", 0)] * 2


# --- shedding by priority


@pytest.mark.parametrize(("priority", "rejected"), [(0, []), (1, [4.0, 5.0, 6.0]), (2, [3.0, 4.0, 5.0, 6.0]), (3, [])])
def test_a_busy_service_sheds_by_the_priority_of_the_request(priority: int, rejected: list[float]) -> None:
    db = service(delay(10.0), shed_above={1: 1, 2: 0})
    spec = scenario({"web": service({"call": {"to": "db.get"}}, threads=9), "db": db}).model_dump()
    spec["workload"]["entries"][0]["priority"] = priority
    session = opened(Scenario.model_validate(spec))
    session.advance(7.0)
    assert times(session, Event.REJECTED) == rejected


def test_every_class_of_requests_has_its_own_priority() -> None:
    spec = scenario({"web": service(delay(100.0), shed_above={1: 0})}).model_dump()
    spec["workload"]["entries"] = [{"operation": "web.get", "priority": p} for p in (0, 1)]
    session = opened(Scenario.model_validate(spec))
    session.advance(20.0)
    offered, rejected = len(only(session, Event.OFFERED)), len(only(session, Event.REJECTED))
    # about half of those that find the thread taken
    assert offered == 19
    assert 4 <= rejected <= 14


# --- warm-up


def test_a_replica_needs_more_cpu_until_it_is_warm() -> None:
    web = service(CPU, startup_s=0.5, warmup={"duration_s": 4.0, "factor": 3.0})
    session = opened(scenario({"web": web}))
    session.apply([action(ActionCode.RESTART, 0.0)])
    session.advance(6.0)
    # up at 0.5; the factor is 3 - (t - 0.5) / 2
    assert times(session, Event.CPU_DONE) == [1.6875, 2.5625, 3.4375, 4.3125, 5.25]


def test_a_replica_that_is_up_from_the_start_is_warm() -> None:
    session = opened(scenario({"web": service(CPU, warmup={"duration_s": 100.0, "factor": 3.0})}))
    session.advance(3.0)
    assert times(session, Event.CPU_DONE) == [1.25, 2.25]


def test_warm_up_and_a_fault_multiply() -> None:
    web = service(CPU, startup_s=0.5, warmup={"duration_s": 4.0, "factor": 3.0})
    session = opened(scenario({"web": web}), (Modulation(Param.DEMAND, Place.NODE, 0), [(0.0, 0.5)]))
    session.apply([action(ActionCode.RESTART, 0.0)])
    session.advance(2.0)
    assert times(session, Event.CPU_DONE) == [1.34375]


# --- garbage collection


def collected(memory: dict[str, Any], gc: dict[str, Any], **spec: Any) -> dict[str, Any]:
    memory = {"base_bytes": 0, "per_span_bytes": 0, **memory}
    return service(CPU, memory=memory, gc={"share": 0.0, "pause_s": 0.0, "pause_s_per_gb": 0.0, **gc}, **spec)


def test_the_pause_grows_with_what_is_alive_and_stops_the_processor() -> None:
    gc = {"garbage_bytes": 10, "least_bytes": 20, "pause_s": 0.125, "pause_s_per_gb": 1.0}
    web = collected({"limit_bytes": 10**10, "leak_bytes": 125_000_000}, gc)
    session = opened(scenario({"web": web}, rate_rps=2.0))
    session.advance(4.0)
    # every second request; pauses of 0.375 from 1.25, of 0.625 from 2.25, of 0.875 from 3.375
    assert only(session, Event.COLLECTION) == [(t, "COLLECTION", 20) for t in (1.25, 2.25, 3.375)]
    assert times(session, Event.CPU_DONE) == [0.75, 1.25, 1.875, 2.25, 3.125, 3.375]


def test_a_share_of_the_room_sets_how_often_it_collects() -> None:
    web = collected({"limit_bytes": 100}, {"garbage_bytes": 10, "least_bytes": 1, "share": 0.5})
    session = opened(scenario({"web": web}))
    session.advance(17.0)
    assert only(session, Event.COLLECTION) == [(t, "COLLECTION", 50) for t in (5.25, 10.25, 15.25)]


def test_what_is_in_flight_narrows_the_room() -> None:
    memory = {"limit_bytes": 100, "per_span_bytes": 20}
    web = collected(memory, {"garbage_bytes": 10, "least_bytes": 1, "share": 0.5}, threads=9)
    web["operations"]["get"]["steps"] = [delay(1.5)]
    session = opened(scenario({"web": web}))
    session.advance(7.0)
    # one more span is there when one ends: 20 bytes alive, 80 of room
    assert only(session, Event.COLLECTION) == [(5.5, "COLLECTION", 40)]


def test_garbage_that_falls_due_during_a_collection_waits_for_the_next_span() -> None:
    web = collected({"limit_bytes": 10**6}, {"garbage_bytes": 10, "least_bytes": 20, "pause_s": 2.5}, threads=9)
    web["operations"]["get"]["steps"] = [delay(0.5)]
    session = opened(scenario({"web": web}))
    session.advance(9.0)
    # spans end at 1.5, 2.5 ..; the first pause lasts until 5, when 20 bytes are there already
    assert only(session, Event.COLLECTION) == [
        (2.5, "COLLECTION", 20),
        (5.5, "COLLECTION", 30),
        (8.5, "COLLECTION", 30),
    ]


def test_a_leak_ends_in_ever_more_collections_and_a_kill() -> None:
    memory = {"limit_bytes": 100, "leak_bytes": 10}
    web = collected(memory, {"garbage_bytes": 10, "least_bytes": 1, "share": 0.5}, startup_s=0.25)
    session = opened(scenario({"web": web}))
    session.advance(17.0)
    # after n spans 100 - 10 n bytes of room are left; half of it is the threshold
    rows = only(session, Event.COLLECTION, Event.REPLICA_DOWN)
    assert rows == [
        (4.25, "COLLECTION", 40), (6.25, "COLLECTION", 20), (8.25, "COLLECTION", 20), (9.25, "COLLECTION", 10),
        (10.25, "COLLECTION", 10), (11.25, "COLLECTION", 10), (11.25, "REPLICA_DOWN", 2), (15.25, "COLLECTION", 40),
    ]  # fmt: skip


def test_a_kill_ends_the_collection() -> None:
    web = collected({"limit_bytes": 100}, {"garbage_bytes": 1, "least_bytes": 1, "pause_s": 5.0}, startup_s=0.25)
    session = opened(scenario({"web": web}, timeout_s=20.0))
    session.apply([action(ActionCode.RESTART, 2.5)])
    session.advance(9.0)
    # the pause from 1.25 would last until 6.25; that from 3.25 does until 8.25
    assert times(session, Event.COLLECTION) == [1.25, 3.25, 8.5]
    assert times(session, Event.CPU_DONE) == [1.25, 3.25, 8.5]


def test_a_kill_takes_the_garbage_along() -> None:
    web = collected({"limit_bytes": 100}, {"garbage_bytes": 10, "least_bytes": 20}, startup_s=0.25)
    session = opened(scenario({"web": web}))
    session.apply([action(ActionCode.RESTART, 1.5)])
    session.advance(4.0)
    assert times(session, Event.FINISHED) == [1.25, 2.25, 3.25]
    assert only(session, Event.COLLECTION) == [(3.25, "COLLECTION", 20)]


def test_a_collection_begins_before_the_thread_is_passed_on() -> None:
    web = collected({"limit_bytes": 10**6}, {"garbage_bytes": 10, "least_bytes": 40}, **CODEL)
    web["operations"]["get"]["steps"] = [delay(0.5)]
    session = opened(scenario({"web": web}, rate_rps=4.0))
    session.advance(3.0)
    rows = only(session, Event.FINISHED, Event.COLLECTION, Event.DROPPED)
    assert rows[3:8] == [(2.25, "FINISHED", 0), (2.25, "COLLECTION", 40), *[(2.25, "DROPPED", 0)] * 3]


def test_a_fault_that_begins_during_a_collection_is_felt_after_it() -> None:
    web = collected({"limit_bytes": 100}, {"garbage_bytes": 1, "least_bytes": 1, "pause_s": 1.0})
    session = opened(scenario({"web": web}), (Modulation(Param.SPEED, Place.NODE, 0), [(1.5, 0.5)]))
    session.advance(3.0)
    assert times(session, Event.CPU_DONE) == [1.25, 2.75]


# --- emptying queues


def test_a_queue_that_is_cleared_rejects_from_the_head() -> None:
    session = opened(scenario({"web": service(delay(10.0), discipline="lifo")}))
    session.apply([action(ActionCode.CLEAR_QUEUE, 3.5)])
    session.advance(5.0)
    assert only(session, Event.DROPPED, Event.REPLIED) == [
        (3.5, "DROPPED", 0), (3.5, "DROPPED", 0),
        *[(3.5, "REPLIED", Status.REJECTED)] * 2,
    ]  # fmt: skip
    assert requests_of(session, Event.DROPPED) == [1, 2]
    metrics = session.observe().metrics[0, :, 0]
    assert metrics[:, Metric.QUEUE_LENGTH].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert metrics[:, Metric.IN_FLIGHT].tolist() == [0.0, 1.0, 2.0, 2.0, 2.0]
    assert metrics[3, Metric.REJECTED] == 2


def test_clearing_a_queue_counts_as_finding_it_empty() -> None:
    session = opened(scenario({"web": service(delay(1.75), **CODEL)}, rate_rps=4.0))
    session.apply([action(ActionCode.CLEAR_QUEUE, 1.375)])
    session.advance(3.0)
    # request 5 joins at 1.5; at 2 it has waited half a second in a queue that is not standing
    assert requests_of(session, Event.DROPPED) == [1, 2, 3, 4]
    assert requests_of(session, Event.STARTED) == [0, 5]
