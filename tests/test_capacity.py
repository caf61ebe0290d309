"""Room of the batch engine: runs grow alone and without a trace, up to a limit, and lose no record on the way."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

from simcore.codes import ActionCode, Down, Event, Status
from simcore.engines.api import EngineAction, RunInputs
from simcore.engines.batch import BatchSession, Capacity
from simcore.errors import CapacityError, InputError
from simcore.kernels.spans import (
    BACK,
    BLOCKED,
    DELAYED,
    DENIED,
    ENTERING,
    FLIGHT,
    FREE,
    JOINED,
    KEPT,
    LANDING,
    LOST,
    NOBODY,
    ON_CPU,
    OUT,
    POOLED,
    QUEUED,
    READY,
    RESERVED,
    RING_END,
    THINKING,
    TOPICS,
    UNSENT,
    WAITING,
)
from simcore.model.scenario import Scenario
from simcore.streams import run_key
from tests.shop import (
    END_S,
    EVERY,
    act,
    elastic_shop,
    guarded_shop,
    lane_of,
    logs_of,
    play,
    queued_shop,
    runs,
    shop,
    windows_of,
)
from tests.strategies import Example, examples

_FEW = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

#: As little as there can be.
ONE = Capacity(spans=1, jobs=1, ends=1, log=1, control=1, messages=1, spare_replicas=0)

_CASES = {
    "an overloaded shop": (shop(90.0), runs(3, trouble=False)),
    "faults, scale-ups and restarts": (shop(), runs(3)),
    "replicas out of memory": (shop(memory=1250), runs(3)),
    "guarded calls": (guarded_shop(), runs(3)),
    "load that comes and goes": (elastic_shop(), runs(3)),
    "messages that wait": (queued_shop(), runs(3)),
}


def test_the_cases_have_trouble_of_every_kind() -> None:
    sessions = [BatchSession(scenario, inputs, log=True) for scenario, inputs in _CASES.values()]
    for session in sessions:
        play(session)
    log = np.concatenate([session.events(run) for session in sessions for run in range(session.n_runs)])
    assert set(log["event"]) == {int(event) for event in Event}
    assert set(log["aux"][log["event"] == Event.REPLICA_DOWN]) == {int(cause) for cause in Down}
    statuses = {int(status) for status in Status} - {Status.TIMEOUT}
    assert set(log["aux"][log["event"] == Event.REPLIED]) == statuses


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("case", _CASES)
def test_a_run_that_starts_with_room_for_one_grows_and_gives_the_same_bytes(case: str, log: bool) -> None:
    scenario, inputs = _CASES[case]
    wide, narrow = (BatchSession(scenario, inputs, log=log, capacity=capacity) for capacity in (None, ONE))
    assert lane_of(narrow, 0)["span_cap"] < lane_of(wide, 0)["span_cap"]
    assert play(wide) == play(narrow)
    assert not log or logs_of(wide) == logs_of(narrow)
    for run in range(3):
        grown = lane_of(narrow, run)
        assert min(int(grown[name]) for name in ("span_cap", "end_cap", "control_cap", "per_replica")) > 4
        assert grown["replica_cap"] > 5
        assert not log or grown["log_cap"] > 1000
        assert (int(grown["message_cap"]) > 64) == bool(scenario.topics)


@_FEW
@given(examples())
def test_any_run_gives_the_same_bytes_from_room_for_one(example: Example) -> None:
    wide, narrow = (
        BatchSession(example.scenario, example.inputs, log=True, capacity=capacity) for capacity in (None, ONE)
    )
    for first, last in zip((0, *example.stops), example.stops, strict=False):
        for session in (wide, narrow):
            session.apply(example.due(first))
            session.advance(last * example.scenario.timing.step_s)
        assert windows_of(wide) == windows_of(narrow)
    assert logs_of(wide) == logs_of(narrow)


def _leaky(**service: object) -> Scenario:
    """Return a service whose replicas run out of memory with the first span that ends."""
    memory = {"base_bytes": 100, "per_span_bytes": 0, "limit_bytes": 100, "leak_bytes": 1}
    steps = [{"cpu": {"mean_s": 0.01, "dist": "constant"}}]
    web = {"startup_s": 0.0, "memory": memory, "operations": {"get": {"steps": steps}}} | service
    return Scenario.model_validate(
        {
            "name": "leaky",
            "timing": {"step_s": 1.0, "steps": 10, "burn_in_steps": 0},
            "services": {"web": web},
            "workload": {"rate_rps": 50.0, "entries": [{"operation": "web.get"}]},
        }
    )


def test_two_needs_of_one_event_are_both_met() -> None:
    wide, narrow = (BatchSession(_leaky(), runs(3, trouble=False), capacity=capacity) for capacity in (None, ONE))
    for session in (wide, narrow):
        session.advance(10.0)
    assert windows_of(wide) == windows_of(narrow)


def test_scaling_away_hundreds_of_replicas_finds_room_in_the_log() -> None:
    scenario = _leaky(memory={}, replicas={"initial": 200, "min": 1, "max": 200})
    session = BatchSession(scenario, runs(1, trouble=False), log=True, capacity=ONE)
    session.apply([EngineAction(0, ActionCode.SCALE, 0.0, 0, -1, -200.0)])
    session.advance(1.0)
    assert lane_of(session, 0)["n_log"] <= lane_of(session, 0)["log_cap"]
    assert np.count_nonzero(session.events(0)["event"] == Event.REPLICA_DRAINING) == 200


def test_queues_thrown_out_collections_and_probes_find_room() -> None:
    web = {
        "threads": 1, "queue": 1000, "discipline": "codel", "shed_above": {0: 300},
        "codel": {"target_s": 0.0, "interval_s": 1.0},
        "health": {"interval_s": 0.001}, "gc": {"garbage_bytes": 1, "least_bytes": 1, "share": 0.0, "pause_s": 0.0},
        "warmup": {"duration_s": 1.0, "factor": 3.0}, "balancer": "power_of_two", "memory": {},
        "replicas": {"initial": 3}, "operations": {"get": {"steps": [{"cpu": {"mean_s": 0.5, "dist": "constant"}}]}},
    }  # fmt: skip
    scenario = _leaky(**web).model_copy(update={"workload": _leaky().workload.model_copy(update={"rate_rps": 400.0})})
    sessions = [BatchSession(scenario, runs(2, trouble=False), log=True, capacity=room) for room in (None, ONE)]
    for session in sessions:
        session.apply([EngineAction(0, ActionCode.RESTART, 0.5, 0), EngineAction(0, ActionCode.CLEAR_QUEUE, 3.5, 0)])
        session.advance(6.0)
        for run in range(2):
            assert_consistent(session, run)
    assert logs_of(sessions[0]) == logs_of(sessions[1])
    log = sessions[0].events(0)
    thrown = log["event"] == Event.DROPPED
    assert np.count_nonzero(thrown & (log["time_s"] == 3.5)) > 300
    assert np.count_nonzero(thrown & (log["time_s"] > 3.5)) > 0
    assert np.count_nonzero(log["event"] == Event.COLLECTION) > 10


def test_a_kill_that_cancels_hundreds_of_calls_finds_room_for_their_entries() -> None:
    slow = {"work": {"steps": [{"delay": {"mean_s": 300.0}}], "cancellable": True}}
    scenario = _crowd(operations=slow, cores=1.0)
    wide, narrow = (
        BatchSession(scenario, runs(1, trouble=False), log=True, capacity=capacity) for capacity in (None, ONE)
    )
    for session in (wide, narrow):
        session.advance(5.0)
        session.apply([EngineAction(0, ActionCode.RESTART, 5.0, 0)])
        session.advance(6.0)
        assert_consistent(session, 0)
    assert logs_of(wide) == logs_of(narrow)
    killed, cancelled = (
        np.count_nonzero(narrow.events(0)["event"] == event) for event in (Event.KILLED, Event.CANCELLED)
    )
    assert killed == cancelled > 400
    assert lane_of(narrow, 0)["control_cap"] >= lane_of(narrow, 0)["span_cap"] > 400


def _mailbox(**topic: object) -> Scenario:
    """Return a front that publishes to a back that consumes a message a second on each partition."""
    steps = [{"publish": {"topic": "mail"}}, {"publish": {"topic": "mail"}}]
    work = {"steps": [{"delay": {"mean_s": 1.0, "dist": "constant"}}]}
    back = {"threads": 10_000, "memory": {"per_span_bytes": 0}, "operations": {"work": work}}
    return Scenario.model_validate(
        {
            "name": "mailbox",
            "timing": {"step_s": 1.0, "steps": 60, "burn_in_steps": 0},
            "services": {
                "front": {"operations": {"get": {"steps": steps}}},
                "back": back,
            },
            "topics": {"mail": {"to": "back.work"} | topic},
            "workload": {"rate_rps": 100.0, "entries": [{"operation": "front.get"}]},
        }
    )


def test_hundreds_of_skipped_messages_make_room_for_the_next_ones_at_once() -> None:
    # every delivery is late, so that its partition waits for it in vain
    late = {"partitions": 500, "timeout_s": 0.25, "backoff_s": 0.0, "redeliveries": 31}
    sessions = [BatchSession(_mailbox(**late), runs(1, trouble=False), log=True, capacity=room) for room in (None, ONE)]
    for session in sessions:
        session.advance(9.0)
        session.apply([EngineAction(0, ActionCode.SKIP_MESSAGE, 9.25, 1)])
        session.advance(11.0)
        assert_consistent(session, 0)
    assert logs_of(sessions[0]) == logs_of(sessions[1])
    log = sessions[0].events(0)
    skipped = log[log["event"] == Event.SKIPPED]
    assert skipped.size > 400
    assert set(skipped["time_s"]) == {9.25}
    first, last = (np.flatnonzero(log["event"] == Event.SKIPPED)[end] for end in (0, -1))
    assert np.count_nonzero(log["event"][first:last] == Event.SENT) > 300


def test_a_message_that_waits_takes_far_less_room_than_a_span() -> None:
    session = BatchSession(_mailbox(), runs(1, trouble=False))
    session.advance(60.0)
    lane, part = lane_of(session, 0), session._arenas.part
    assert lane["n_messages"] > 9000
    assert lane["span_cap"] == 64
    assert part(0, "messages").nbytes <= 32 * 2 * int(lane["n_messages"])


def test_the_growth_of_one_run_leaves_the_others_arrays_alone() -> None:
    quiet, loud, again = runs(1, trouble=False)[0], runs(1, first=1)[0], runs(1, trouble=False)[0]
    session = BatchSession(shop(5.0), [quiet, loud, again])
    before = [dict(session._arenas._arrays[run]) for run in range(3)]
    session.apply([EngineAction(1, ActionCode.SCALE, 0.0, 0, -1, 30.0)])
    session.advance(END_S)
    after = session._arenas._arrays
    assert after[1]["replicas"] is not before[1]["replicas"]
    for run in (0, 2):
        moved = [name for name, array in after[run].items() if array is not before[run][name]]
        assert not moved
        assert lane_of(session, run)["replica_cap"] == len(before[run]["replicas"])


def _crowd(**service: object) -> Scenario:
    """Return a front that calls a back where everybody waits."""
    back = {"threads": 1000, "cores": 0.001, "operations": {"work": {"steps": [{"cpu": {"mean_s": 1.0}}]}}} | service
    call = {"call": {"to": "back.work", "timeout_s": 500.0}}
    return Scenario.model_validate(
        {
            "name": "crowd",
            "timing": {"step_s": 1.0, "steps": 60, "burn_in_steps": 0},
            "services": {
                "front": {"threads": 1000, "operations": {"get": {"steps": [call]}}},
                "back": back,
            },
            "workload": {"rate_rps": 100.0, "entries": [{"operation": "front.get"}], "timeout_s": 500.0},
        }
    )


_LIMITED = {
    "spans": (Capacity(limit=100), False, _crowd()),
    "jobs": (Capacity(spans=2048, limit=16), False, _crowd()),
    "ends": (Capacity(ends=8, limit=32), False, _crowd(cores=100.0, operations={"work": {"steps": []}})),
    "log": (Capacity(spans=1, log=1, limit=100), True, _crowd(cores=100.0, operations={"work": {"steps": []}})),
    "messages": (Capacity(limit=100), False, _mailbox()),
}


@pytest.mark.parametrize("need", _LIMITED)
def test_past_the_limit_an_error_names_run_and_service_and_what_it_needs(need: str) -> None:
    capacity, log, scenario = _LIMITED[need]
    inputs = [RunInputs(41, run_key(3, "test", 41, 0), 0.0)]
    session = BatchSession(scenario, inputs, log=log, capacity=capacity)
    message = (
        rf"^run 41 needs more than {capacity.limit} {need} at \d+\.\d s; most of its work is at service '(front|back)'$"
    )
    with pytest.raises(CapacityError, match=message):
        session.advance(60.0)


def test_the_error_names_the_service_where_most_of_the_work_is() -> None:
    scenario = shop(2.0)
    slow = scenario.services["db"].model_copy(update={"threads": 10_000, "cores": 1e-6})
    scenario = scenario.model_copy(update={"services": scenario.services | {"db": slow}})
    # callers give up after 0.12 s and leave their work behind as zombies
    flood = scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"rate_rps": 60.0})})
    session = BatchSession(flood, runs(1, trouble=False, first=7), capacity=Capacity(limit=256))
    with pytest.raises(CapacityError, match=r"^run 7 needs more than 256 .* service 'db'$"):
        session.advance(END_S)


# --- bookkeeping


def _chain(first: int, following: npt.NDArray[np.int64], most: int) -> list[int]:
    """Return the members of a linked list; stops at one more than there may be."""
    members: list[int] = []
    while first >= 0 and len(members) <= most:
        members.append(first)
        first = int(following[first])
    return members


#: States of a span at its replica.
AT_WORK = (QUEUED, RESERVED, ON_CPU, DELAYED, WAITING, BLOCKED, ENTERING, JOINED, LANDING)


def _around(end: int, following: npt.NDArray[np.int64], most: int) -> list[int]:
    """Return the members of a circular list but its end; stops at one more than there may be."""
    members: list[int] = []
    at = int(following[end])
    while at != end and len(members) <= most:
        members.append(at)
        at = int(following[at])
    return members


def _live(state: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which records are spans: neither free nor the end of a ring."""
    return (state != FREE) & (state != RING_END)


def assert_consistent(session: BatchSession, run: int) -> None:
    """Check every count and list of a run against its span records."""
    lane, part = lane_of(session, run), session._arenas.part
    spans = part(run, "spans")
    state, cap = spans["state"], len(spans)
    n_rings = int(session._plan.head["n_rings"][0])
    assert np.flatnonzero(state == RING_END).tolist() == list(range(n_rings))
    live = _live(state)
    assert lane["span_cap"] == cap
    assert lane["n_free"] + live.sum() + n_rings == cap
    free = _chain(int(lane["free_span"]), spans["q_next"], cap)
    assert sorted(free) == np.flatnonzero(state == FREE).tolist()

    heap = part(run, "heap")[: lane["n_heap"]]
    assert sorted(heap["span"]) == np.flatnonzero(live & (spans["heap_at"] >= 0)).tolist()
    assert spans["heap_at"][heap["span"]].tolist() == list(range(len(heap)))
    entries = [(row["time"], row["kind"], row["key"]) for row in heap]
    assert all(entries[(i - 1) // 2] < entries[i] for i in range(1, len(entries)))

    armed = 0
    for ring in range(n_rings):
        members = _around(ring, spans["t_next"], cap)
        armed += len(members)
        assert set(spans["ring"][members]) <= {ring}
        assert _around(ring, spans["t_prev"], cap) == members[::-1]
        timers = [(spans["expires"][s], spans["key"][s]) for s in members]
        assert timers == sorted(timers)
    assert armed == np.count_nonzero(live & (spans["ring"] >= 0))

    there = np.isin(state, AT_WORK)
    unsent = np.isin(state, (UNSENT, READY, POOLED, KEPT, DENIED, FLIGHT, THINKING))
    waited_for = live & ~unsent & (spans["parent"] != NOBODY)
    jobs = part(run, "jobs").reshape(-1, int(lane["per_replica"]))
    for at, replica in enumerate(part(run, "replicas")[: lane["n_replicas"]]):
        here = spans["replica"] == at
        assert replica["in_flight"] == np.count_nonzero(here & there)
        assert replica["queued"] == np.count_nonzero(here & (state == QUEUED))
        assert replica["threads"] == replica["in_flight"] - replica["queued"]
        assert replica["outstanding"] == np.count_nonzero(here & waited_for)
        queue = _chain(int(replica["q_head"]), spans["q_next"], cap)
        assert sorted(queue) == np.flatnonzero(here & (state == QUEUED)).tolist()
        working = jobs[at, : replica["n_jobs"]]
        assert sorted(working["span"]) == np.flatnonzero(here & (state == ON_CPU)).tolist()
        ranks = [(job["end"], job["key"]) for job in working]
        assert all(ranks[(i - 1) // 2] < ranks[i] for i in range(1, len(ranks)))
    away = {OUT, BACK, UNSENT, POOLED, KEPT, DENIED, LOST, FLIGHT, THINKING}
    assert set(state[live]) <= set(AT_WORK) | away
    _assert_calls_consistent(session, run)
    _assert_gates_consistent(session, run)
    _assert_topics_consistent(session, run)


def _assert_calls_consistent(session: BatchSession, run: int) -> None:
    """Check that every attempt that is waited for is in one list, and its hedge in none."""
    spans = session._arenas.part(run, "spans")
    state, cap = spans["state"], len(spans)
    live = _live(state) & (state != FLIGHT)
    listed: list[int] = []
    for s in np.flatnonzero(live & (state == WAITING)):
        children = _chain(int(spans["child"][s]), spans["sibling"], cap)
        assert children
        assert set(spans["parent"][children]) == {s}
        listed += children
    hedges = spans["hedge"][live & (spans["hedge"] >= 0)].tolist()
    assert set(state[hedges]) <= {UNSENT}
    waited_for = np.flatnonzero(live & (spans["parent"] >= 0))
    assert sorted(listed + hedges) == waited_for.tolist()
    # what an attempt of a plain call relies on
    for name, neutral in (("sibling", -1), ("hedge", -1), ("pool", -1), ("epoch", -1), ("lock", -1)):
        assert set(spans[name][state == FREE]) <= {neutral}, name
        assert name == "lock" or set(spans[name][live & (spans["parent"] < 0)]) <= {neutral}, name


def _assert_gates_consistent(session: BatchSession, run: int) -> None:
    """Check lines and counts of pools and locks against the span records."""
    lane, part, head = lane_of(session, run), session._arenas.part, session._plan.head[0]
    spans = part(run, "spans")
    state, cap = spans["state"], len(spans)
    for number, pool in enumerate(part(run, "pools")[: int(lane["n_replicas"]) * int(head["pools_wide"])]):
        mine = _live(state) & (spans["pool"] == number)
        line = _chain(int(pool["head"]), spans["q_next"], cap) if mine.any() else []
        assert sorted(line) == np.flatnonzero(mine & (state == POOLED)).tolist()
        assert pool["waiting"] == len(line)
        assert pool["reserved"] == np.count_nonzero(mine & (state == KEPT))
        assert pool["used"] == np.count_nonzero(mine) - pool["waiting"] - pool["reserved"]
    wide = max(1, int(head["pools_wide"]))
    for at, replica in enumerate(part(run, "replicas")[: lane["n_replicas"]]):
        waiting = (state == POOLED) & (spans["pool"] // wide == at)
        assert replica["waiting"] == np.count_nonzero(waiting)
    for number, lock in enumerate(part(run, "locks")):
        mine = _live(state) & (spans["lock"] == number)
        line = _chain(int(lock["head"]), spans["q_next"], cap)
        assert sorted(line) == np.flatnonzero(mine & (state == BLOCKED)).tolist()
        inside = np.flatnonzero(mine & (state != BLOCKED)).tolist()
        assert inside == ([int(lock["holder"])] if lock["holder"] >= 0 else [])


def _assert_topics_consistent(session: BatchSession, run: int) -> None:
    """Check that every message is in one line, every line's head under way, and nothing else is."""
    lane, part = lane_of(session, run), session._arenas.part
    spans, messages = part(run, "spans"), part(run, "messages")
    cap = len(messages)
    assert lane["message_cap"] == cap
    lines: list[int] = []
    under_way: dict[int, int] = {}
    for number, partition in enumerate(part(run, "partitions")):
        line = _chain(int(partition["head"]), messages["next"], cap)
        assert len(line) == partition["n"]
        assert partition["tail"] == (line[-1] if line else -1)
        if line:
            under_way[int(partition["delivery"])] = TOPICS - number
            delivery, head = spans[partition["delivery"]], messages[line[0]]
            assert [delivery[name] for name in ("request", "site", "priority")] == [
                head[name] for name in ("request", "site", "priority")
            ]
        lines += line
    deliveries = np.flatnonzero(_live(spans["state"]) & (spans["parent"] <= TOPICS)).tolist()
    assert {s: int(spans["parent"][s]) for s in deliveries} == under_way
    assert set(spans["state"][deliveries]) <= {OUT, BACK, UNSENT, *AT_WORK}
    assert lane["n_messages"] == len(lines)
    free = _chain(int(lane["free_message"]), messages["next"], cap)
    assert sorted(lines + free) == list(range(int(lane["used_messages"])))
    lag = np.zeros(len(part(run, "fleets")), np.int64)
    for topic in session._plan.topics:
        mine = part(run, "partitions")[topic["first"] : topic["first"] + topic["partitions"]]
        lag[topic["service"]] += mine["n"].sum()
    assert part(run, "fleets")["lag"].tolist() == lag.tolist()


@_FEW
@given(examples())
def test_records_lists_and_counts_agree_at_every_edge(example: Example) -> None:
    session = BatchSession(example.scenario, example.inputs, capacity=ONE)
    step_s = example.scenario.timing.step_s
    for edge in range(1, example.stops[-1] + 1):
        session.apply(example.due(edge - 1))
        session.advance(edge * step_s)
        for run in range(session.n_runs):
            assert_consistent(session, run)


def test_records_lists_and_counts_agree_in_a_busy_shop() -> None:
    session = BatchSession(shop(memory=1250), runs(4))
    for edge in EVERY:
        act(session)
        session.advance(edge)
        for run in range(4):
            assert_consistent(session, run)


def test_records_lists_and_counts_agree_in_a_guarded_shop() -> None:
    session = BatchSession(guarded_shop(), runs(4), capacity=ONE)
    for edge in EVERY:
        act(session)
        session.advance(edge)
        for run in range(4):
            assert_consistent(session, run)


def test_records_lists_and_counts_agree_in_a_queued_shop() -> None:
    session = BatchSession(queued_shop(), runs(4), capacity=ONE)
    for edge in EVERY:
        act(session)
        session.advance(edge)
        for run in range(4):
            assert_consistent(session, run)


def test_a_lost_record_is_noticed() -> None:
    lost = [("lanes", "n_free"), ("replicas", "outstanding"), ("replicas", "threads"), ("spans", "ring")]
    lost += [("lanes", "n_messages"), ("partitions", "n"), ("fleets", "lag"), ("lanes", "free_message")]
    for array, field in lost:
        session = BatchSession(queued_shop(), runs(1))
        session.advance(3.0)
        assert_consistent(session, 0)
        if array == "lanes":
            session._arenas.lanes[field][0] += 1
        else:
            rows = session._arenas.part(0, array)
            live = np.flatnonzero(rows["state"] >= 0)[0] if "state" in (rows.dtype.names or ()) else 0
            rows[field][live] += 1
        with pytest.raises(AssertionError):
            assert_consistent(session, 0)


def test_idle_systems_hold_no_spans() -> None:
    scenario = shop()
    silent = scenario.workload.model_copy(update={"shape": "step", "factor": 0.0, "from_s": 2.0})
    session = BatchSession(scenario.model_copy(update={"workload": silent}), runs(3, trouble=False))
    session.advance(END_S)
    for run in range(3):
        lane = lane_of(session, run)
        assert lane["n_free"] == lane["span_cap"] - session._plan.head["n_rings"][0]
        assert lane["n_heap"] == 0
        assert session.observe().totals[run, -1].sum() == 0
        assert_consistent(session, run)
    assert session.events_run() > 1000


@pytest.mark.parametrize("bad", [{"spans": 0}, {"ends": 0}, {"limit": 0}, {"spare_replicas": -1}])
def test_a_capacity_that_holds_nothing_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"capacity\.\w+ must be >= "):
        Capacity(**bad)
