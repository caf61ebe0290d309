"""How calls are made: gates, hedges, retries, joins, locks, lost messages, cancellation; times worked out by hand."""

from typing import Any

import numpy as np
import pytest

from simcore.codes import ActionCode, BreakerState, Event, Kind, Param, Place, Status
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.model.programs import Breaker as BreakerSpec
from simcore.reference.breakers import Breaker
from simcore.reference.calendar import Calendar
from simcore.reference.ledger import Ledger
from simcore.reference.session import ReferenceSession
from simcore.windows import Metric
from tests.test_reference import only, opened, scenario, service, told

#: One arrival, at 1 s; or four, at 0.25, 0.5, 0.75 and 1.
ONE: dict[str, Any] = {"shape": "step", "factor": 0.0, "from_s": 1.125}
FOUR: dict[str, Any] = ONE | {"rate_rps": 4.0}
TWO: dict[str, Any] = FOUR | {"from_s": 0.625}

CLOSED, OPEN, HALF_OPEN = (int(state) for state in BreakerState)

#: Errors at the second service.
DB_FAILS = Modulation(Param.OK, Place.NODE, 1)


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def cpu(mean_s: float) -> dict[str, Any]:
    return {"cpu": {"mean_s": mean_s, "dist": "constant"}}


def call(to: str = "db.get", **spec: Any) -> dict[str, Any]:
    return {"call": {"to": to, "backoff_s": 0.125, "jitter": 0.0, **spec}}


def parallel(*branches: dict[str, Any], fail_fast: bool = True) -> dict[str, Any]:
    return {"parallel": {"branches": [branch["call"] for branch in branches], "fail_fast": fail_fast}}


def cancellable(*steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a service whose only operation stops when nobody waits for it."""
    return {"threads": 9, "operations": {"get": {"steps": list(steps), "cancellable": True}}, **spec}


#: A message takes so long on its way, either way.
LATE: dict[str, Any] = {"network": {"mean_s": 0.125}}


def action(code: ActionCode, at_s: float, target: int, amount: float = 0.0) -> EngineAction:
    return EngineAction(0, code, at_s, service=target, amount=amount)


def played(services: dict[str, Any], *faults: Any, until_s: float = 4.0, **workload: Any) -> ReferenceSession:
    session = opened(scenario(services, **workload), *faults)
    session.advance(until_s)
    return session


# --- breakers


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = {"window": 2, "min_calls": 2, "failure_rate": 1.0, "open_s": 1.5}
    services = {"web": service(call(breaker=breaker)), "db": service()}
    session = played(services, (DB_FAILS, [(0.5, 0.0), (5.5, 1.0)]), until_s=8.0)
    assert only(session, Event.BREAKER, Event.DENIED) == [
        (2.0, "BREAKER", OPEN), (3.0, "DENIED", Status.OPEN),
        (4.0, "BREAKER", HALF_OPEN), (4.0, "BREAKER", OPEN), (5.0, "DENIED", Status.OPEN),
        (6.0, "BREAKER", HALF_OPEN), (6.0, "BREAKER", CLOSED),
    ]  # fmt: skip
    assert session.observe().metrics[0, :, 0, Metric.DENIED].tolist() == [0, 0, 0, 1, 0, 1, 0, 0]
    rows = session.events(0)
    breakers = rows[rows["event"] == Event.BREAKER]
    assert set(breakers["request"]) == {-1}
    assert set(breakers["span"]) == {0}


def test_a_denied_attempt_is_answered_at_once_and_never_sent() -> None:
    services = {"web": service(call()), "db": service()}
    session = opened(scenario(services, **ONE))
    session.apply([action(ActionCode.OPEN_BREAKER, 0.0, 1)])
    session.advance(2.0)
    assert told(session)[5:] == [
        (1.0, "DENIED", Status.OPEN), (1.0, "REPLIED", Status.OPEN),
        (1.0, "FINISHED", Status.DEPENDENCY), (1.0, "REPLIED", Status.DEPENDENCY),
    ]  # fmt: skip


def test_a_service_is_called_again_after_close_breaker() -> None:
    session = opened(scenario({"web": service(call()), "db": service()}))
    session.apply([action(ActionCode.OPEN_BREAKER, 0.0, 1), action(ActionCode.CLOSE_BREAKER, 1.5, 1)])
    session.advance(3.0)
    assert [row[2] for row in only(session, Event.FINISHED)] == [Status.DEPENDENCY, Status.OK, Status.OK]


def test_the_late_reply_of_an_earlier_epoch_does_not_close_a_breaker() -> None:
    breaker = {"window": 1, "min_calls": 1, "open_s": 0.1875}
    services = {"web": service(call(breaker=breaker), threads=9), "db": service(delay(0.625), threads=9)}
    session = played(services, (DB_FAILS, [(0.375, 0.0), (0.625, 1.0)]), **FOUR)
    assert only(session, Event.BREAKER, Event.DENIED) == [
        (0.5, "BREAKER", OPEN), (0.75, "BREAKER", HALF_OPEN), (1.0, "DENIED", Status.OPEN), (1.375, "BREAKER", CLOSED),
    ]  # fmt: skip
    assert (0.875, "REPLIED", Status.OK) in told(session)


def test_a_timeout_is_a_failure_to_a_breaker() -> None:
    breaker = {"window": 1, "min_calls": 1, "open_s": 9.0}
    services = {"web": service(call(breaker=breaker, timeout_s=0.5)), "db": service(delay(2.0))}
    assert only(played(services, **ONE), Event.TIMED_OUT, Event.BREAKER) == [
        (1.5, "TIMED_OUT", 0), (1.5, "BREAKER", OPEN),
    ]  # fmt: skip


def test_a_place_that_is_given_back_goes_to_the_next_attempt() -> None:
    calendar = Calendar(0.0)
    spec = BreakerSpec(window=1, min_calls=1, open_s=1.0, probes=2)
    breaker = Breaker(spec, 0, 0, calendar, Ledger(calendar, 1, log=False))
    breaker.outcome(0, failed=True)
    assert not breaker.lets_through()
    calendar.at(1.0, Kind.FAULT, 0, 0)
    calendar.run_before(2.0)
    assert [breaker.lets_through() for _ in range(3)] == [True, True, False]
    breaker.give_back(breaker.epoch - 1)
    assert not breaker.lets_through()
    breaker.give_back(breaker.epoch)
    assert breaker.lets_through()
    for _ in range(2):
        assert breaker.state is BreakerState.HALF_OPEN
        breaker.outcome(breaker.epoch, failed=False)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_finds_no_connection_gives_its_place_back() -> None:
    breaker = {"window": 1, "min_calls": 1, "open_s": 0.5}
    pools = {"db": {"size": 1, "queue": 0}}
    web = service(call(breaker=breaker), threads=9, pools=pools)
    fault = (DB_FAILS, [(0.5, 0.0), (1.5, 1.0)])
    session = opened(scenario({"web": web, "db": service()}), fault)
    session.apply([action(ActionCode.RESIZE_POOL, 1.5, 0, 0.0), action(ActionCode.RESIZE_POOL, 2.5, 0, 1.0)])
    session.advance(4.0)
    assert only(session, Event.BREAKER, Event.DENIED) == [
        (1.0, "BREAKER", OPEN), (2.0, "BREAKER", HALF_OPEN), (2.0, "DENIED", Status.POOL), (3.0, "BREAKER", CLOSED),
    ]  # fmt: skip


def test_a_restart_forgets_an_open_breaker() -> None:
    breaker = {"window": 1, "min_calls": 1, "open_s": 99.0}
    services = {"web": service(call(breaker=breaker), startup_s=0.25), "db": service()}
    session = opened(scenario(services), (DB_FAILS, [(0.5, 0.0), (2.5, 1.0)]))
    session.apply([action(ActionCode.RESTART, 2.5, 0)])
    session.advance(4.0)
    assert only(session, Event.BREAKER, Event.DENIED) == [(1.0, "BREAKER", OPEN), (2.0, "DENIED", Status.OPEN)]


# --- pools


def _pooled(**pool: Any) -> dict[str, Any]:
    """Return a caller that has a pool, and a callee that takes half a second."""
    web = service(call(), threads=9, pools={"db": {"size": 1, **pool}})
    return {"web": web, "db": service(delay(0.5), threads=9)}


def _to_db(session: ReferenceSession, *events: Event) -> list[tuple[float, str, int]]:
    """Return the given events, and the sendings to the second service's first replica."""
    return [row for row in only(session, Event.SENT, *events) if row[1:] != ("SENT", 0)]


def test_attempts_wait_for_a_connection_for_a_while_and_not_too_many_of_them() -> None:
    session = played(_pooled(queue=1, wait_s=0.375), **FOUR)
    assert _to_db(session, Event.POOLED, Event.DENIED) == [
        (0.25, "SENT", 1), (0.5, "POOLED", 1), (0.75, "SENT", 1), (0.75, "POOLED", 1),
        (1.0, "DENIED", Status.POOL), (1.125, "DENIED", Status.POOL),
    ]  # fmt: skip
    metrics = session.observe().metrics[0, :, 0]
    assert metrics[:, Metric.POOL_WAITING].tolist() == [0.5, 0.125, 0.0, 0.0]
    assert metrics[:, Metric.DENIED].tolist() == [0.0, 2.0, 0.0, 0.0]
    assert [row for row in only(session, Event.REPLIED) if row[2] == Status.POOL] == [(1.0, "REPLIED", Status.POOL)]


def test_a_connection_is_held_until_the_timeout_of_its_attempt() -> None:
    web = service(call(timeout_s=0.375), threads=9, pools={"db": {"size": 1}})
    services = {"web": web, "db": service(delay(2.0), threads=9)}
    session = played(services, **TWO)
    assert _to_db(session, Event.TIMED_OUT) == [
        (0.25, "SENT", 1), (0.625, "TIMED_OUT", 0), (0.625, "SENT", 1), (1.0, "TIMED_OUT", 0),
    ]  # fmt: skip


def test_a_larger_pool_lets_those_who_wait_go_at_once() -> None:
    session = opened(scenario(_pooled(), **FOUR))
    session.apply([action(ActionCode.RESIZE_POOL, 0.0, 0, 0.5), action(ActionCode.RESIZE_POOL, 0.875, 0, 2.5)])
    session.advance(2.0)
    assert _to_db(session) == [(0.875, "SENT", 1), (0.875, "SENT", 1), (1.375, "SENT", 1), (1.375, "SENT", 1)]


def test_a_fault_that_shrinks_a_pool_makes_attempts_wait_until_it_is_over() -> None:
    fault = (Modulation(Param.POOL, Place.NODE, 0), [(0.125, 0.5), (0.875, 1.0)])
    session = played(_pooled(size=2), fault, **TWO)
    assert _to_db(session, Event.POOLED) == [(0.25, "SENT", 1), (0.5, "POOLED", 1), (0.75, "SENT", 1)]
    nothing = (Modulation(Param.POOL, Place.NODE, 0), [(0.125, 0.0), (0.625, 1.0)])
    assert _to_db(played(_pooled(size=2), nothing, **TWO)) == [(0.625, "SENT", 1), (0.625, "SENT", 1)]


def test_a_connection_that_comes_after_the_deadline_goes_to_the_next_in_line() -> None:
    web = service(call(), threads=9, pools={"db": {"size": 1, "wait_s": 9.0}})
    services = {"web": web, "db": service(delay(0.5), threads=9)}
    # 0.25: sent, its deadline frees the connection at 0.75, the deadline of the second is 1.0
    session = played(services, deadline_s=0.5, **TWO)
    assert _to_db(session, Event.DENIED) == [(0.25, "SENT", 1), (0.75, "SENT", 1)]
    late = (Modulation(Param.POOL, Place.NODE, 0), [(0.125, 0.0), (0.75, 1.0)])
    session = played(services, late, deadline_s=0.5, **TWO)
    assert _to_db(session, Event.DENIED) == [(0.75, "DENIED", Status.DEADLINE), (0.75, "SENT", 1)]


# --- hedges


def _two_replicas(spec: dict[str, Any]) -> dict[str, Any]:
    return spec | {"replicas": {"initial": 2}}


#: The first replica of the second service takes four times as long.
SLOW = (Modulation(Param.DELAY, Place.NODE, 1, 0), [(0.0, 4.0)])


@pytest.mark.parametrize(
    ("db", "end"),
    [
        (service(delay(0.5)), [(3.0, "DELAY_DONE", 0), (3.0, "FINISHED", Status.OK)]),
        (cancellable(delay(0.5)), [(1.75, "CANCELLED", 1)]),
    ],
    ids=["zombie", "cancelled"],
)
def test_the_first_of_two_members_to_succeed_ends_the_call(db: dict[str, Any], end: list[Any]) -> None:
    services = {"web": service(call(hedge={"after_s": 0.25})), "db": _two_replicas(db)}
    session = played(services, SLOW, **ONE)
    assert told(session)[5:] == [
        (1.0, "SENT", 1), (1.0, "ARRIVED", 1), (1.0, "STARTED", 1),
        (1.25, "SENT", 2), (1.25, "ARRIVED", 2), (1.25, "STARTED", 2),
        (1.75, "DELAY_DONE", 0), (1.75, "FINISHED", 0), (1.75, "REPLIED", 0), (1.75, "FINISHED", 0),
        (1.75, "REPLIED", 0), *end,
    ]  # fmt: skip
    assert session.observe().metrics[0, 1, 1, Metric.RETRIES] == 1.0


def test_an_attempt_fails_only_when_its_last_member_has() -> None:
    services = {
        "web": service(call(hedge={"after_s": 0.25, "max": 2}, timeout_s=0.5, retries=1)),
        "db": service(delay(9.0), threads=9),
    }
    session = played(services, until_s=5.0, **ONE)
    assert _to_db(session, Event.TIMED_OUT, Event.BACKOFF, Event.GAVE_UP) == [
        (1.0, "SENT", 1), (1.25, "SENT", 1), (1.5, "SENT", 1),
        (1.5, "TIMED_OUT", 0), (1.75, "TIMED_OUT", 32), (2.0, "TIMED_OUT", 64), (2.0, "BACKOFF", 0),
        (2.125, "SENT", 1), (2.375, "SENT", 1), (2.625, "SENT", 1),
        (2.625, "TIMED_OUT", 1), (2.875, "TIMED_OUT", 33), (3.125, "TIMED_OUT", 65),
    ]  # fmt: skip


def test_a_member_that_has_failed_is_not_hedged() -> None:
    services = {"web": service(call(hedge={"after_s": 0.25})), "db": service()}
    session = played(services, (DB_FAILS, [(0.0, 0.0)]), **ONE)
    assert _to_db(session) == [(1.0, "SENT", 1)]


# --- retries


def test_a_retry_needs_a_token() -> None:
    budget = {"rate_per_s": 1.0, "burst": 1.0}
    services = {"web": service(call(retries=2, retry_budget=budget)), "db": service()}
    session = played(services, (DB_FAILS, [(0.0, 0.0)]), until_s=3.0)
    assert only(session, Event.BACKOFF, Event.GAVE_UP) == [
        (1.0, "BACKOFF", 0), (1.125, "GAVE_UP", 1), (2.0, "BACKOFF", 0), (2.125, "GAVE_UP", 1),
    ]  # fmt: skip


def test_a_retry_fraction_of_zero_forbids_retries() -> None:
    session = opened(scenario({"web": service(call(retries=1)), "db": service()}), (DB_FAILS, [(0.0, 0.0)]))
    session.apply([action(ActionCode.RETRY_BUDGET, 1.5, 0, 0.0)])
    session.advance(3.0)
    assert only(session, Event.BACKOFF, Event.GAVE_UP) == [(1.0, "BACKOFF", 0), (2.0, "GAVE_UP", 0)]


def test_a_retry_that_would_come_at_the_deadline_is_not_made() -> None:
    services = {"web": service(call(retries=3)), "db": service()}
    session = played(services, (DB_FAILS, [(0.0, 0.0)]), deadline_s=0.375, **ONE)
    # 1.125 is before the deadline at 1.375, but 1.125 + 0.25 is not
    assert only(session, Event.BACKOFF, Event.GAVE_UP) == [(1.0, "BACKOFF", 0), (1.125, "GAVE_UP", 1)]


# --- deadlines


def test_a_deadline_is_passed_down_and_cuts_every_timeout() -> None:
    services = {"web": service(delay(0.25), call()), "db": service(delay(0.5))}
    session = played(services, deadline_s=0.5, **ONE)
    assert sorted(only(session, Event.TIMED_OUT, Event.FINISHED)) == [
        (1.5, "FINISHED", Status.DEPENDENCY), (1.5, "TIMED_OUT", 0), (1.5, "TIMED_OUT", 0),
        (1.75, "FINISHED", Status.OK),
    ]  # fmt: skip


def test_no_call_is_made_after_the_deadline() -> None:
    services = {"web": service(delay(0.5), call()), "db": service()}
    session = played(services, deadline_s=0.5, **ONE)
    assert _to_db(session, Event.DENIED) == [(1.5, "DENIED", Status.DEADLINE)]


def test_a_span_that_starts_after_its_deadline_ends_at_once() -> None:
    session = played({"web": service(delay(0.5))}, deadline_s=0.25, **TWO)
    assert told(session)[4:] == [
        (0.5, "OFFERED", 0), (0.5, "SENT", 0), (0.5, "ARRIVED", 0), (0.5, "TIMED_OUT", 0), (0.75, "DELAY_DONE", 0),
        (0.75, "FINISHED", Status.OK), (0.75, "STARTED", 0), (0.75, "FINISHED", Status.DEADLINE),
        (0.75, "REPLIED", Status.DEADLINE),
    ]  # fmt: skip


# --- joins


def _joined(*, fail_fast: bool = True, required: bool = True) -> ReferenceSession:
    """Return a run of a call that fails at once beside one that takes a second."""
    branches = parallel(call(required=required), call("slow.get"), fail_fast=fail_fast)
    services = {"web": service(branches), "db": service(), "slow": cancellable(delay(1.0))}
    return played(services, (DB_FAILS, [(0.0, 0.0)]), **ONE)


def test_a_join_that_fails_fast_drops_its_other_branches() -> None:
    assert only(_joined(), Event.FINISHED, Event.CANCELLED) == [
        (1.0, "FINISHED", Status.ERROR), (1.0, "FINISHED", Status.DEPENDENCY), (1.0, "CANCELLED", 2),
    ]  # fmt: skip


def test_a_join_that_waits_for_all_fails_after_the_last() -> None:
    ends = [(1.0, "FINISHED", Status.ERROR), (2.0, "FINISHED", Status.OK), (2.0, "FINISHED", Status.DEPENDENCY)]
    assert only(_joined(fail_fast=False), Event.FINISHED) == ends


def test_a_join_goes_on_without_a_branch_that_is_not_required() -> None:
    ends = [(1.0, "FINISHED", Status.ERROR), (2.0, "FINISHED", Status.OK), (2.0, "FINISHED", Status.OK)]
    assert only(_joined(required=False), Event.FINISHED) == ends


def test_a_failing_join_drops_the_retries_that_are_still_to_come() -> None:
    branches = parallel(call(retries=3), call("slow.get", timeout_s=0.0625))
    services = {"web": service(branches), "db": service(), "slow": cancellable(delay(9.0))}
    session = played(services, (DB_FAILS, [(0.0, 0.0)]), **ONE)
    assert only(session, Event.BACKOFF, Event.SENT)[3:] == [(1.0, "BACKOFF", 0)]
    assert only(session, Event.FINISHED)[-1] == (1.0625, "FINISHED", Status.DEPENDENCY)


def test_a_join_of_no_branches_is_no_wait() -> None:
    branches = parallel(call(probability=0.0), call(probability=0.0))
    session = played({"web": service(branches, delay(0.5)), "db": service()}, **ONE)
    assert only(session, Event.SENT, Event.FINISHED) == [(1.0, "SENT", 0), (1.5, "FINISHED", Status.OK)]


# --- locks


def _locked(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"lock": {"name": "table", "steps": list(steps)}}


def test_a_lock_lets_one_span_at_a_time_in_over_all_replicas() -> None:
    web = _two_replicas(service(_locked(delay(0.5)), delay(0.25)))
    session = played({"web": web}, **TWO)
    assert only(session, Event.BLOCKED, Event.LOCKED, Event.FINISHED) == [
        (0.25, "LOCKED", 0), (0.5, "BLOCKED", 0), (0.75, "LOCKED", 0), (1.0, "FINISHED", 0), (1.5, "FINISHED", 0),
    ]  # fmt: skip


def test_a_held_lock_is_handed_on_in_the_order_of_the_line() -> None:
    session = played({"web": service(_locked(delay(1.0)), threads=9)}, until_s=6.0, **FOUR)
    rows = session.events(0)
    blocked, locked = (rows[rows["event"] == event] for event in (Event.BLOCKED, Event.LOCKED))
    np.testing.assert_array_equal(locked["span"][1:], blocked["span"])
    assert locked["time_s"].tolist() == [0.25, 1.25, 2.25, 3.25]


def test_the_hold_factor_stretches_only_what_is_done_under_the_lock() -> None:
    hold = (Modulation(Param.HOLD, Place.NODE, 0), [(0.0, 2.0)])
    session = played({"web": service(delay(0.25), _locked(delay(0.25), cpu(0.125)), delay(0.25))}, hold, **ONE)
    assert only(session, Event.DELAY_DONE, Event.CPU_DONE) == [
        (1.25, "DELAY_DONE", 0), (1.75, "DELAY_DONE", 2), (2.0, "CPU_DONE", 3), (2.25, "DELAY_DONE", 4),
    ]  # fmt: skip


def test_a_span_that_fails_under_a_lock_releases_it() -> None:
    services = {"web": service(_locked(delay(0.5), call()), threads=9), "db": service()}
    session = played(services, (DB_FAILS, [(0.0, 0.0)]), **TWO)
    failed = [row for row in only(session, Event.FINISHED) if row[2] == Status.DEPENDENCY]
    assert [row[0] for row in failed] == [0.75, 1.25]
    assert [row[0] for row in only(session, Event.LOCKED)] == [0.25, 0.75]


def test_the_lock_of_a_killed_span_goes_to_another_replica() -> None:
    web = _two_replicas(service(_locked(delay(1.0)), startup_s=5.0))
    session = opened(scenario({"web": web}, **TWO))
    session.apply([action(ActionCode.RESTART, 0.75, 0)])
    session.advance(3.0)
    assert only(session, Event.KILLED, Event.LOCKED, Event.FINISHED) == [
        (0.25, "LOCKED", 0), (0.75, "KILLED", 0), (0.75, "LOCKED", 0), (1.75, "FINISHED", 0),
    ]  # fmt: skip


# --- cancellation: the first of two branches is given up after half a second, or the second, which comes 1/8 s later


def _given_up(db: dict[str, Any], first: bool, /, to: str = "db.get", **services: Any) -> ReferenceSession:
    """Return a run in which one of two calls of ``db.get`` times out at 1.5 s."""
    patient, hasty = {"timeout_s": 5.0, "required": False}, {"timeout_s": 0.5, "required": False}
    branches = parallel(call(to, **(hasty if first else patient)), call(to, **(patient if first else hasty), **LATE))
    return played({"web": service(branches), "db": db, **services}, **ONE)


def test_a_cancelled_span_leaves_the_queue() -> None:
    session = _given_up(cancellable(delay(1.0), threads=1), False)
    assert only(session, Event.STARTED, Event.CANCELLED, Event.FINISHED)[1:] == [
        (1.0, "STARTED", 1), (1.5, "CANCELLED", 1), (2.0, "FINISHED", 0), (2.0, "FINISHED", 0),
    ]  # fmt: skip
    assert session.observe().metrics[0, 1, 1, Metric.QUEUE_LENGTH] == 0.375
    assert session.observe().metrics[0, 1, 1, Metric.IN_FLIGHT] == 1.375


def test_a_cancelled_span_passes_its_thread_on() -> None:
    session = _given_up(cancellable(delay(1.0), threads=1), True)
    assert only(session, Event.STARTED, Event.CANCELLED, Event.FINISHED)[1:] == [
        (1.0, "STARTED", 1), (1.5, "CANCELLED", 1), (1.5, "STARTED", 1), (2.5, "FINISHED", 0), (2.625, "FINISHED", 0),
    ]  # fmt: skip


def test_a_cancelled_span_leaves_the_cpu_to_the_others() -> None:
    session = _given_up(cancellable(cpu(0.5)), True)
    # 0.125 s alone, then half each: at 1.5 the second has got 0.1875 s, and needs another 0.3125 s, alone
    assert only(session, Event.CANCELLED, Event.CPU_DONE) == [(1.5, "CANCELLED", 1), (1.8125, "CPU_DONE", 0)]
    assert session.observe().metrics[0, 1, 1, Metric.CPU_UTIL] == 0.8125


def test_a_cancelled_span_releases_its_lock() -> None:
    session = _given_up(cancellable(_locked(delay(1.0))), True)
    assert only(session, Event.BLOCKED, Event.LOCKED, Event.CANCELLED, Event.FINISHED) == [
        (1.0, "LOCKED", 0), (1.125, "BLOCKED", 0), (1.5, "CANCELLED", 1), (1.5, "LOCKED", 0),
        (2.5, "FINISHED", 0), (2.625, "FINISHED", 0),
    ]  # fmt: skip


def test_a_cancelled_span_leaves_the_line_for_a_lock() -> None:
    session = _given_up(cancellable(_locked(delay(1.0))), False)
    assert only(session, Event.BLOCKED, Event.LOCKED, Event.CANCELLED, Event.FINISHED) == [
        (1.0, "LOCKED", 0), (1.125, "BLOCKED", 0), (1.5, "CANCELLED", 1), (2.0, "FINISHED", 0), (2.0, "FINISHED", 0),
    ]  # fmt: skip


def _pool_of_one() -> dict[str, Any]:
    """Return a service in the middle with one connection to the last, which takes a second."""
    mid = cancellable(call("last.get"), pools={"last": {"size": 1, "wait_s": 9.0}})
    return {"db": mid, "last": cancellable(delay(1.0))}


def test_a_cancelled_span_gives_its_connection_back_and_cancels_its_calls() -> None:
    spec = _pool_of_one()
    session = _given_up(spec["db"], True, last=spec["last"])
    assert only(session, Event.POOLED, Event.CANCELLED, Event.FINISHED) + _sent_to(session, 2) == [
        (1.125, "POOLED", 2), (1.5, "CANCELLED", 1), (1.5, "CANCELLED", 2), (2.5, "FINISHED", 0),
        (2.5, "FINISHED", 0), (2.625, "FINISHED", 0), (1.0, "SENT", 2), (1.5, "SENT", 2),
    ]  # fmt: skip


def test_a_cancelled_span_leaves_the_line_for_a_connection() -> None:
    spec = _pool_of_one()
    session = _given_up(spec["db"], False, last=spec["last"])
    assert only(session, Event.POOLED, Event.CANCELLED, Event.FINISHED) + _sent_to(session, 2) == [
        (1.125, "POOLED", 2), (1.5, "CANCELLED", 1), (2.0, "FINISHED", 0), (2.0, "FINISHED", 0), (2.0, "FINISHED", 0),
        (1.0, "SENT", 2),
    ]  # fmt: skip
    assert session.observe().metrics[0, 1, 1, Metric.POOL_WAITING] == 0.375


def test_a_span_that_is_cancelled_in_a_join_cancels_all_its_branches() -> None:
    db = cancellable(parallel(call("last.get"), call("last.get", retries=1), call("last.get", hedge={"after_s": 0.25})))
    session = _given_up(db, False, last=cancellable(delay(1.0)))
    # the other branch lives on: at 2.0 its hedged call succeeds, and drops the hedge
    ends = [(1.5, "CANCELLED", 1)] + [(1.5, "CANCELLED", 2)] * 4 + [(2.0, "CANCELLED", 2)]
    assert only(session, Event.CANCELLED) == ends
    assert len(_sent_to(session, 2)) == 8


def test_a_span_that_is_cancelled_while_it_backs_off_sends_no_retry() -> None:
    db = cancellable(delay(0.25), call("last.get", retries=1, backoff_s=0.5))
    fault = (Modulation(Param.OK, Place.NODE, 2), [(0.0, 0.0)])
    services = {"web": service(call(timeout_s=0.5)), "db": db, "last": service()}
    session = played(services, fault, **ONE)
    assert only(session, Event.BACKOFF, Event.CANCELLED) == [(1.25, "BACKOFF", 0), (1.5, "CANCELLED", 1)]
    assert _sent_to(session, 2) == [(1.25, "SENT", 2)]


def test_an_attempt_that_is_cancelled_on_its_way_never_arrives() -> None:
    services = {"web": service(call(timeout_s=0.5, network={"mean_s": 1.0})), "db": cancellable()}
    session = played(services, **ONE)
    assert only(session, Event.CANCELLED, Event.ARRIVED) == [(1.0, "ARRIVED", 0), (1.5, "CANCELLED", 1)]
    assert session.observe().metrics[0, :, 1, Metric.IN_FLIGHT].tolist() == [0.0] * 4


def test_a_span_that_ends_at_the_instant_of_its_cancellation_is_not_cancelled() -> None:
    services = {"web": service(call(timeout_s=0.5, **LATE)), "db": cancellable(delay(0.375))}
    assert not only(played(services, **ONE), Event.CANCELLED)


def test_a_client_that_gives_up_cancels_a_cascade() -> None:
    services = {"web": cancellable(call()), "db": cancellable(call("last.get")), "last": cancellable(delay(9.0))}
    session = played(services, timeout_s=0.5, **ONE)
    assert only(session, Event.TIMED_OUT, Event.CANCELLED) == [
        (1.5, "TIMED_OUT", 0), (1.5, "CANCELLED", 0), (1.5, "CANCELLED", 1), (1.5, "CANCELLED", 2),
    ]  # fmt: skip


def _sent_to(session: ReferenceSession, replica: int) -> list[tuple[float, str, int]]:
    return [row for row in only(session, Event.SENT) if row[2] == replica]


# --- the network between two services


def test_a_message_that_is_lost_on_its_way_out_costs_a_timeout() -> None:
    services = {"web": service(call(loss=1.0, timeout_s=0.5)), "db": cancellable()}
    assert told(played(services, **ONE))[4:] == [
        (1.0, "SENT", 1), (1.0, "LOST", 0), (1.5, "TIMED_OUT", 0),
        (1.5, "FINISHED", Status.DEPENDENCY), (1.5, "REPLIED", Status.DEPENDENCY),
    ]  # fmt: skip


def test_a_reply_that_is_lost_costs_a_timeout_though_the_work_is_done() -> None:
    edge = (Modulation(Param.LOSS_BACK, Place.NODE, 0, -1, 1), [(0.0, 1.0)])
    services = {"web": service(call(timeout_s=0.5)), "db": cancellable()}
    assert told(played(services, edge, **ONE))[5:] == [
        (1.0, "SENT", 1), (1.0, "ARRIVED", 1), (1.0, "STARTED", 1), (1.0, "FINISHED", 0), (1.0, "LOST", 1),
        (1.5, "TIMED_OUT", 0), (1.5, "FINISHED", Status.DEPENDENCY), (1.5, "REPLIED", Status.DEPENDENCY),
    ]  # fmt: skip


def test_the_clients_messages_may_be_lost_too() -> None:
    edge = (Modulation(Param.LOSS_OUT, Place.NODE, -1, -1, 0), [(0.0, 1.0)])
    assert told(played({"web": service()}, edge, timeout_s=0.5, **ONE))[1:] == [
        (1.0, "OFFERED", 0), (1.0, "SENT", 0), (1.0, "LOST", 0), (1.5, "TIMED_OUT", 0),
    ]  # fmt: skip


def test_a_slow_edge_delays_both_ways_and_no_other_edge() -> None:
    edge = (Modulation(Param.EDGE_DELAY, Place.NODE, 0, -1, 1), [(0.0, 2.0)])
    services = {"web": service(call(**LATE), call("last.get", **LATE)), "db": service(), "last": service()}
    session = played(services, edge, **ONE)
    assert only(session, Event.ARRIVED, Event.REPLIED) == [
        (1.0, "ARRIVED", 0), (1.25, "ARRIVED", 1), (1.5, "REPLIED", 0), (1.625, "ARRIVED", 2), (1.75, "REPLIED", 0),
        (1.75, "REPLIED", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "code", "target", "healed"),
    [
        (Place.NODE, ActionCode.RESTART, 1, False),
        (Place.PROCESS, ActionCode.RESTART, 1, True),
        (Place.PROCESS, ActionCode.RESTART, 0, False),
        (Place.VERSION, ActionCode.ROLLBACK, 1, True),
        (Place.VERSION, ActionCode.ROLLBACK, 0, False),
        (Place.CONFIG, ActionCode.ROLLBACK, 1, True),
        (Place.CONFIG, ActionCode.ROLLBACK, 0, False),
    ],
)
def test_a_fault_of_an_edge_ends_with_its_place_at_the_callee(
    place: Place, code: ActionCode, target: int, healed: bool
) -> None:
    edge = (Modulation(Param.LOSS_OUT, place, 0, -1, 1), [(0.5, 1.0)])
    services = {"web": service(call(timeout_s=0.25), startup_s=0.25), "db": service(startup_s=0.25)}
    session = opened(scenario(services), edge)
    session.apply([action(code, 1.5, target)])
    session.advance(3.0)
    assert [row[0] for row in only(session, Event.LOST)] == [1.0] + [2.0] * (not healed)
