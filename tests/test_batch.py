"""The batch engine: room that grows, forks, independence of everything that may not matter, and its errors."""

from collections.abc import Sequence
from dataclasses import replace

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

from simcore.codes import ActionCode, Param, Place
from simcore.engines.api import Change, EngineAction, Modulation, RunInputs
from simcore.engines.batch import BatchSession, Capacity
from simcore.errors import CapacityError, InputError
from simcore.kernels.spans import BACK, DELAYED, FREE, NOBODY, ON_CPU, QUEUED, RESERVED, UNSENT, WAITING
from simcore.model.scenario import Scenario
from simcore.streams import run_key
from tests.strategies import Example, examples

_FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

#: As little as there can be.
ONE = Capacity(spans=1, jobs=1, ends=1, log=1, control=1, spare_replicas=0)

END_S = 12.0


def shop(rate_rps: float = 40.0, memory: int = 10**9) -> Scenario:
    """Return three services with everything in them: a cache, retries, time-outs, queues, two balancers."""
    db = {"call": {"to": "db.query", "timeout_s": 0.12, "retries": 2, "backoff_s": 0.02}}
    steps = [
        {"cpu": {"mean_s": 0.01}},
        {"cached": {"to": "cache.get", "timeout_s": 0.2, "keys": {"count": 60, "zipf": 0.9}, "steps": [db]}},
        {"delay": {"mean_s": 0.01, "dist": "gamma"}},
    ]
    per_span = {"base_bytes": 1000, "per_span_bytes": 10, "limit_bytes": memory, "leak_bytes": 1}
    common = {"threads": 6, "cores": 1.0, "startup_s": 0.4, "drain_s": 0.5, "memory": per_span}
    services = {
        "api": {"replicas": {"initial": 2, "min": 1, "max": 9}, "balancer": "least_outstanding", "queue": 8}
        | {"operations": {"view": {"steps": steps}, "ping": {"steps": [{"cpu": {"mean_s": 0.002}}]}}},
        "cache": {"replicas": {"initial": 2, "min": 1, "max": 4}, "cache": {"slots": 15, "ttl_s": 4.0}}
        | {"operations": {"get": {"steps": [{"cpu": {"mean_s": 0.001}}]}}},
        "db": {"operations": {"query": {"steps": [{"cpu": {"mean_s": 0.025, "dist": "lognormal"}}]}}},
    }
    return Scenario.model_validate(
        {
            "name": "shop",
            "timing": {"step_s": 1.0, "steps": 12, "burn_in_steps": 2},
            "slo": {"latency_s": 0.2},
            "network": {"mean_s": 0.0005, "dist": "exponential"},
            "services": {name: common | spec for name, spec in services.items()},
            "workload": {
                "rate_rps": rate_rps,
                "timeout_s": 1.0,
                "entries": [{"operation": "api.view"}, {"operation": "api.ping", "weight": 0.3}],
                "shape": "sinusoidal",
                "amplitude": 0.3,
                "period_s": 8.0,
            },
        }
    )


TROUBLE = (
    Modulation(Param.SPEED, Place.PROCESS, 2),
    Modulation(Param.CRASH, Place.NODE, 0, 1),
    Modulation(Param.SURGE, Place.WORKLOAD),
    Modulation(Param.DEPLOY, Place.VERSION, 1),
    Modulation(Param.POISON, Place.CONTENT, 1),
    Modulation(Param.OK, Place.VERSION, 0),
)
CHANGES = tuple(
    Change(time_s, number, value)
    for time_s, number, value in [
        (1.5, 0, 0.4), (2.0, 1, 1.5), (3.0, 5, 0.9), (3.2, 2, 1.5), (4.0, 3, 1.0), (5.1, 4, 0.5), (7.0, 0, 1.0),
        (7.5, 2, 0.0), (8.0, 1, 0.0),
    ]
)  # fmt: skip

ACTIONS: dict[float, list[tuple[ActionCode, int, int, float]]] = {
    2.0: [(ActionCode.SCALE, 2, -1, 3.0), (ActionCode.LIMIT_TRAFFIC, -1, -1, 0.8)],
    4.0: [(ActionCode.QUARANTINE, 0, 0, 0.0), (ActionCode.SCALE, 1, -1, 2.0)],
    6.0: [(ActionCode.CLEAR_CACHE, 1, -1, 0.0), (ActionCode.RELEASE, 0, 0, 0.0), (ActionCode.SCALE, 2, -1, -2.0)],
    8.0: [(ActionCode.RESTART, 0, -1, 0.0), (ActionCode.ROLLBACK, 1, -1, 0.0), (ActionCode.SCALE, 0, -1, 7.0)],
}


def runs(n: int, *, trouble: bool = True, first: int = 0) -> list[RunInputs]:
    """Return inputs of different runs."""
    given_trouble = (TROUBLE, CHANGES) if trouble else ((), ())
    return [RunInputs(run, run_key(3, "test", run, 0), 0.1 * run, *given_trouble) for run in range(first, first + n)]


def act(session: BatchSession, positions: Sequence[int] | None = None) -> None:
    """Apply what ``ACTIONS`` says at the present edge, to the even runs."""
    for run in range(0, session.n_runs) if positions is None else positions:
        for code, service, replica, amount in ACTIONS.get(session.now_s, ()):
            session.apply([EngineAction(run, code, session.now_s + 0.25, service, replica, amount)])


Played = list[tuple[bytes, ...]]


def windows_of(session: BatchSession) -> list[list[tuple[bytes, ...]]]:
    """Return the bytes of the windows just closed, (run, window)."""
    seen = session.observe()
    arrays = (seen.metrics, seen.totals, seen.replicas, seen.markers)
    return [[tuple(a[run, w].tobytes() for a in arrays) for w in range(a.shape[1])] for run in range(session.n_runs) for a in arrays[:1]]


def play(session: BatchSession, edges: Sequence[float] = tuple(np.arange(1.0, END_S + 1))) -> list[Played]:
    """Advance to the edges, acting at those of ``ACTIONS``; return the bytes of all windows, (run, window)."""
    played: list[Played] = [[] for _ in range(session.n_runs)]
    for edge in edges:
        act(session)
        session.advance(edge)
        for run, windows in enumerate(windows_of(session)):
            played[run] += windows
    return played


def logs_of(session: BatchSession) -> list[bytes]:
    return [session.events(run).tobytes() for run in range(session.n_runs)]


# --- growth


def lane_of(session: BatchSession, run: int) -> npt.NDArray[np.void]:
    return session._arenas.lanes[run]


_CASES = {
    "an overloaded shop": (shop(90.0), runs(3, trouble=False)),
    "faults, scale-ups and restarts": (shop(), runs(3)),
    "replicas out of memory": (shop(memory=1250), runs(3)),
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("case", _CASES)
def test_a_run_that_starts_with_room_for_one_grows_and_gives_the_same_bytes(case: str, log: bool) -> None:
    scenario, inputs = _CASES[case]
    # with an out-of-memory kill, see test_two_needs_of_one_event
    least = replace(ONE, ends=4) if case == "replicas out of memory" else ONE
    wide, narrow = (BatchSession(scenario, inputs, log=log, capacity=capacity) for capacity in (None, least))
    assert lane_of(narrow, 0)["span_cap"] < lane_of(wide, 0)["span_cap"]
    assert play(wide) == play(narrow)
    assert not log or logs_of(wide) == logs_of(narrow)
    for run in range(3):
        grown = lane_of(narrow, run)
        assert min(int(grown[name]) for name in ("span_cap", "end_cap", "control_cap", "per_replica")) > 4
        assert grown["replica_cap"] > 5
        assert not log or grown["log_cap"] > 1000


@_FEW
@given(examples())
def test_any_run_gives_the_same_bytes_from_room_for_one(example: Example) -> None:
    wide, narrow = (
        BatchSession(example.scenario, example.inputs, log=True, capacity=capacity)
        for capacity in (None, replace(ONE, ends=4))
    )
    for first, last in zip((0, *example.stops), example.stops, strict=False):
        for session in (wide, narrow):
            session.apply(example.due(first))
            session.advance(last * example.scenario.timing.step_s)
        assert windows_of(wide) == windows_of(narrow)
    assert logs_of(wide) == logs_of(narrow)


def test_the_growth_of_one_run_leaves_the_others_arrays_alone() -> None:
    quiet, loud, again = runs(1, trouble=False)[0], runs(1, first=1)[0], runs(1, trouble=False)[0]
    session = BatchSession(shop(5.0), [quiet, loud, again])
    before = [dict(session._arenas._arrays[run]) for run in range(3)]
    for run in range(3):
        session._arenas.lanes["per_replica"][run] += 0
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
    "spans": (Capacity(limit=100), False, {}),
    "jobs": (Capacity(spans=2048, limit=16), False, {}),
    "ends": (Capacity(ends=8, limit=32), False, {"cores": 100.0, "operations": {"work": {"steps": []}}}),
    "log": (Capacity(spans=1, log=1, limit=100), True, {"cores": 100.0, "operations": {"work": {"steps": []}}}),
}


@pytest.mark.parametrize("need", _LIMITED)
def test_past_the_limit_an_error_names_run_and_service_and_what_it_needs(need: str) -> None:
    capacity, log, service = _LIMITED[need]
    inputs = [RunInputs(41, run_key(3, "test", 41, 0), 0.0)]
    session = BatchSession(_crowd(**service), inputs, log=log, capacity=capacity)
    message = rf"^run 41 needs more than {capacity.limit} {need} at \d+\.\d s; most of its work is at service '(front|back)'$"
    with pytest.raises(CapacityError, match=message) as caught:
        session.advance(60.0)
    assert need in ("ends", "log") or "'back'" in str(caught.value) or "'front'" in str(caught.value)


def test_the_error_names_the_service_where_most_of_the_work_is() -> None:
    scenario = shop(2.0)
    slow = scenario.services["db"].model_copy(update={"threads": 10_000, "cores": 1e-6})
    scenario = scenario.model_copy(update={"services": scenario.services | {"db": slow}})
    # callers give up after 0.12 s and leave their work behind as zombies
    flood = scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"rate_rps": 60.0})})
    session = BatchSession(flood, runs(1, trouble=False, first=7), capacity=Capacity(limit=256))
    with pytest.raises(CapacityError, match=r"^run 7 needs more than 256 .* service 'db'$"):
        session.advance(END_S)


# --- forks


def test_forks_with_repeats_continue_bit_for_bit() -> None:
    whole, forked = (BatchSession(shop(), runs(4), log=True) for _ in range(2))
    expected = play(whole)
    play(forked, [1.0, 2.0, 3.0, 4.0])
    order = [2, 0, 2, 3, 2]
    fork = forked.fork(order)
    assert fork.now_s == 4.0
    assert fork.n_runs == 5
    assert windows_of(fork) == [windows_of(forked)[run] for run in order]
    played = play(fork, [5.0, 6.0, 7.0, 10.0, 12.0][:3] + [8.0, 9.0, 12.0])
    assert [p[:4] for p in played] == [expected[run][4:8] for run in order]
    assert played == [expected[run][4:] for run in order]
    assert logs_of(fork) == [logs_of(whole)[run] for run in order]
    # the original has not moved, and continues as if there had been no fork
    assert forked.now_s == 4.0
    play(forked, [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0])
    assert logs_of(forked) == logs_of(whole)


def test_a_fork_and_its_original_do_not_touch_each_other() -> None:
    session = BatchSession(shop(), runs(2), log=True, capacity=ONE)
    session.advance(3.0)
    fork = session.fork([1, 1, 0])
    before = logs_of(session)
    fork.apply([EngineAction(0, ActionCode.RESTART, 3.0, 0), EngineAction(0, ActionCode.SCALE, 3.5, 2, -1, 9.0)])
    fork.advance(END_S)
    assert logs_of(session) == before
    assert session.now_s == 3.0
    logs = logs_of(fork)
    assert logs[0] != logs[1]
    session.advance(END_S)
    assert [logs[2], logs[1]] == logs_of(session)


def test_a_fork_of_no_run_has_none() -> None:
    session = BatchSession(shop(), runs(2))
    fork = session.fork([])
    fork.advance(2.0)
    assert fork.n_runs == 0
    assert fork.observe().metrics.shape[:2] == (0, 2)


# --- what may not matter


def test_results_do_not_depend_on_threads_chunks_order_or_neighbours() -> None:
    scenario, inputs = shop(), runs(9)
    reference = BatchSession(scenario, inputs, threads=1, log=True)
    expected = play(reference)
    logs = logs_of(reference)
    every = np.arange(1.0, END_S + 1)
    acting = [2.0, 4.0, 6.0, 8.0, 12.0]
    for threads, chunks in ((2, every), (2, acting), (1, acting), (None, acting)):
        session = BatchSession(scenario, inputs, threads=threads, log=True)
        assert play(session, chunks) == expected
        assert logs_of(session) == logs
    for order in ([8, 3, 5], [4], [7, 6, 5, 4, 3, 2, 1, 0, 8], [1, 1, 1]):
        session = BatchSession(scenario, [inputs[run] for run in order], threads=2, log=True)
        assert play(session, acting) == [expected[run] for run in order]
        assert logs_of(session) == [logs[run] for run in order]


def test_a_log_changes_nothing_but_the_log() -> None:
    with_log, without = (BatchSession(shop(), runs(3), log=log) for log in (True, False))
    assert play(with_log) == play(without)


def test_looking_changes_nothing() -> None:
    one, other = (BatchSession(shop(), runs(2), log=True) for _ in range(2))
    for edge in np.arange(1.0, END_S + 1):
        one.advance(edge)
        other.advance(edge)
        for _ in range(2):
            one.observe()
            one.events(0)
            one.events_run()
    assert logs_of(one) == logs_of(other)
    one.events(0)["time_s"] = -1.0
    assert logs_of(one) == logs_of(other)


def test_different_runs_are_different() -> None:
    session = BatchSession(shop(), runs(9), log=True)
    session.advance(END_S)
    assert len(set(logs_of(session))) == 9


def test_advancing_by_nothing_gives_no_window() -> None:
    session = BatchSession(shop(), runs(2))
    assert session.observe().metrics.shape[:2] == (2, 0)
    session.advance(3.0)
    assert session.observe().first == 0
    assert session.observe().metrics.shape[:2] == (2, 3)
    session.advance(3.0)
    assert session.observe().first == 3
    assert session.observe().metrics.shape[:2] == (2, 0)


def test_windows_come_in_order_whatever_the_chunk() -> None:
    session = BatchSession(shop(), runs(1))
    seen = []
    for edge in (1.0, 5.0, 12.0):
        session.advance(edge)
        assert session.observe().first == len(seen)
        seen += [row.tobytes() for row in session.observe().metrics[0]]
    whole = BatchSession(shop(), runs(1))
    whole.advance(END_S)
    assert seen == [row.tobytes() for row in whole.observe().metrics[0]]


# --- errors


@pytest.mark.parametrize("until_s", [2.5, 3.0000001, 1.0, -1.0])
def test_only_edges_from_the_present_one_on_can_be_advanced_to(until_s: float) -> None:
    session = BatchSession(shop(), runs(1), log=True)
    session.advance(2.0)
    before = logs_of(session)
    with pytest.raises(InputError, match=r"until_s must .*, got "):
        session.advance(until_s)
    assert session.now_s == 2.0
    assert logs_of(session) == before


def test_edges_are_multiples_as_floats_have_them() -> None:
    timing = {"step_s": 0.7, "steps": 12, "burn_in_steps": 0}
    scenario = shop().model_copy(update={"timing": type(shop().timing).model_validate(timing)})
    session = BatchSession(scenario, runs(1))
    for k in range(1, 12):
        session.advance(k * 0.7)
    assert session.now_s == 11 * 0.7
    with pytest.raises(InputError, match="multiple"):
        session.advance(sum([0.7] * 12))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (EngineAction(2, ActionCode.RESTART, 5.0, 0), r"run must be in 0 \.\. 1, got 2"),
        (EngineAction(-1, ActionCode.RESTART, 5.0, 0), r"run must be in 0 \.\. 1, got -1"),
        (EngineAction(0, ActionCode.RESTART, 1.999, 0), r"before 2\.0 s, got 1\.999"),
    ],
)
def test_if_one_action_is_wrong_none_is_entered(wrong: EngineAction, message: str) -> None:
    session, untouched = (BatchSession(shop(), runs(2), log=True) for _ in range(2))
    for each in (session, untouched):
        each.advance(2.0)
    good = EngineAction(0, ActionCode.RESTART, 2.0, 0)
    with pytest.raises(InputError, match=message):
        session.apply([good, wrong])
    for each in (session, untouched):
        each.advance(END_S)
    assert logs_of(session) == logs_of(untouched)


def test_there_are_no_events_without_a_log() -> None:
    with pytest.raises(InputError, match="without log=True"):
        BatchSession(shop(), runs(1)).events(0)


# --- bookkeeping


def _chain(first: int, following: npt.NDArray[np.int64], most: int) -> list[int]:
    """Return the members of a linked list; stops at one more than there may be."""
    members: list[int] = []
    while first >= 0 and len(members) <= most:
        members.append(int(first))
        first = int(following[first])
    return members


def assert_consistent(session: BatchSession, run: int) -> None:
    """Check every count and list of a run against its span records."""
    lane, part = lane_of(session, run), session._arenas.part
    spans = part(run, "spans")
    state, cap = spans["state"], len(spans)
    live = state != FREE
    assert lane["span_cap"] == cap
    assert lane["n_free"] + live.sum() == cap
    free = _chain(lane["free_span"], spans["q_next"], cap)
    assert sorted(free) == np.flatnonzero(~live).tolist()

    heap = part(run, "heap")[: lane["n_heap"]]
    assert sorted(heap["span"]) == np.flatnonzero(live & (spans["heap_at"] >= 0)).tolist()
    assert spans["heap_at"][heap["span"]].tolist() == list(range(len(heap)))
    entries = [(row["time"], row["kind"], row["key"]) for row in heap]
    assert all(entries[(i - 1) // 2] < entries[i] for i in range(1, len(entries)))

    armed = 0
    for number, ring in enumerate(part(run, "rings")):
        members = _chain(ring["head"], spans["t_next"], cap)
        armed += len(members)
        assert set(spans["ring"][members]) <= {number}
        assert ring["tail"] == (members[-1] if members else -1)
        timers = [(spans["expires"][s], spans["key"][s]) for s in members]
        assert timers == sorted(timers)
    assert armed == np.count_nonzero(live & (spans["ring"] >= 0))

    there = np.isin(state, (QUEUED, RESERVED, ON_CPU, DELAYED, WAITING))
    waited_for = live & (state != UNSENT) & (spans["parent"] != NOBODY)
    jobs = part(run, "jobs").reshape(-1, int(lane["per_replica"]))
    for at, replica in enumerate(part(run, "replicas")[: lane["n_replicas"]]):
        here = spans["replica"] == at
        assert replica["in_flight"] == np.count_nonzero(here & there)
        assert replica["queued"] == np.count_nonzero(here & (state == QUEUED))
        assert replica["threads"] == replica["in_flight"] - replica["queued"]
        assert replica["outstanding"] == np.count_nonzero(here & waited_for)
        assert sorted(_chain(replica["q_head"], spans["q_next"], cap)) == np.flatnonzero(here & (state == QUEUED)).tolist()
        working = jobs[at, : replica["n_jobs"]]
        assert sorted(working["span"]) == np.flatnonzero(here & (state == ON_CPU)).tolist()
        ranks = [(job["end"], job["key"]) for job in working]
        assert all(ranks[(i - 1) // 2] < ranks[i] for i in range(1, len(ranks)))
    assert set(state[live]) <= {0, QUEUED, RESERVED, ON_CPU, DELAYED, WAITING, BACK, UNSENT}
    waiting = np.flatnonzero(live & (state == WAITING))
    assert spans["parent"][spans["child"][waiting]].tolist() == waiting.tolist()


@_FEW
@given(examples())
def test_records_lists_and_counts_agree_at_every_edge(example: Example) -> None:
    session = BatchSession(example.scenario, example.inputs, capacity=replace(ONE, ends=4))
    step_s = example.scenario.timing.step_s
    for edge in range(1, example.stops[-1] + 1):
        session.apply(example.due(edge - 1))
        session.advance(edge * step_s)
        for run in range(session.n_runs):
            assert_consistent(session, run)


def test_records_lists_and_counts_agree_in_a_busy_shop() -> None:
    session = BatchSession(shop(memory=1250), runs(4))
    for edge in np.arange(1.0, END_S + 1):
        act(session)
        session.advance(edge)
        for run in range(4):
            assert_consistent(session, run)


def test_a_lost_record_is_noticed() -> None:
    for array, field in (("lanes", "n_free"), ("replicas", "outstanding"), ("replicas", "threads"), ("spans", "ring")):
        session = BatchSession(shop(90.0), runs(1))
        session.advance(3.0)
        assert_consistent(session, 0)
        if array == "lanes":
            session._arenas.lanes[field][0] += 1
        else:
            rows = session._arenas.part(0, array)
            rows[field][np.flatnonzero(rows["state"] >= 0)[0]] += 1
        with pytest.raises(AssertionError):
            assert_consistent(session, 0)


def test_idle_systems_hold_no_spans() -> None:
    scenario = shop()
    silent = scenario.workload.model_copy(update={"shape": "step", "factor": 0.0, "from_s": 2.0})
    session = BatchSession(scenario.model_copy(update={"workload": silent}), runs(3, trouble=False))
    session.advance(END_S)
    for run in range(3):
        lane = lane_of(session, run)
        assert lane["n_free"] == lane["span_cap"]
        assert lane["n_heap"] == 0
        assert session.observe().totals[run, -1].sum() == 0
        assert_consistent(session, run)
    assert session.events_run() > 1000


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> object:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)
