"""The SimPy engine by itself: schedules worked out by hand, and its interface."""

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simcore.reference
from simcore.codes import ActionCode, Event, Param, Place, ReplicaState, Status
from simcore.engines.api import EngineAction, RunInputs
from simcore.errors import InputError
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.reference.session import ReferenceSession
from simcore.streams import run_key
from simcore.windows import Metric, ReplicaStat, Total

CPU = {"cpu": {"mean_s": 0.25, "dist": "constant"}}


def scenario(services: dict[str, Any], entry: str = "web.get", **workload: Any) -> Scenario:
    """Return a scenario of one-second steps, with an arrival every second."""
    work = {"rate_rps": 1.0, "arrivals": "grid", "timeout_s": 5.0, **workload, "entries": [{"operation": entry}]}
    timing = {"step_s": 1.0, "steps": 20, "burn_in_steps": 0}
    return Scenario.model_validate(
        {"name": "small", "timing": timing, "services": services, "workload": work, "slo": {"latency_s": 0.5}}
    )


def service(*steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"threads": 1, "operations": {"get": {"steps": list(steps)}}, **spec}


def opened(
    spec: Scenario, *faults: tuple[Modulation, list[tuple[float, float]]], runs: int = 1, log: bool = True
) -> ReferenceSession:
    """Open runs whose modulations take the given (time, value) pairs."""
    changes = [Change(t, i, v) for i, (_, values) in enumerate(faults) for t, v in values]
    changes.sort(key=lambda change: (change.time_s, change.modulation))
    modulations = tuple(modulation for modulation, _ in faults)
    inputs = [RunInputs(run, run_key(7, "test", run, 0), 0.0, modulations, tuple(changes)) for run in range(runs)]
    return ReferenceSession(spec, inputs, log=log)


def told(session: ReferenceSession, run: int = 0) -> list[tuple[float, str, int]]:
    """Return (time, event, aux) of a run's log."""
    return [(float(row["time_s"]), Event(row["event"]).name, int(row["aux"])) for row in session.events(run)]


def only(session: ReferenceSession, *events: Event) -> list[tuple[float, str, int]]:
    names = {event.name for event in events}
    return [row for row in told(session) if row[1] in names]


# --- schedules worked out by hand


def test_a_request_passes_through_its_program_in_order() -> None:
    spec = scenario({"web": service(CPU, {"delay": {"mean_s": 0.125, "dist": "constant"}})})
    session = opened(spec)
    session.advance(2.0)
    assert told(session) == [
        (1.0, "OFFERED", 0), (1.0, "SENT", 0), (1.0, "ARRIVED", 0), (1.0, "STARTED", 0),
        (1.25, "CPU_DONE", 0), (1.375, "DELAY_DONE", 1), (1.375, "FINISHED", 0), (1.375, "REPLIED", 0),
    ]  # fmt: skip


def test_a_full_queue_rejects_at_once() -> None:
    spec = scenario({"web": service({"cpu": {"mean_s": 10.0, "dist": "constant"}}, queue=1)})
    session = opened(spec)
    session.advance(4.0)
    events = only(session, Event.STARTED, Event.REJECTED, Event.REPLIED)
    assert events == [(1.0, "STARTED", 0), (3.0, "REJECTED", 0), (3.0, "REPLIED", Status.REJECTED)]


def test_a_timed_out_attempt_goes_on_as_zombie_work_and_is_tried_again() -> None:
    call = {"to": "db.get", "timeout_s": 0.5, "retries": 1, "backoff_s": 0.125, "jitter": 0.0}
    db = service({"delay": {"mean_s": 0.75, "dist": "constant"}}, threads=1)
    session = opened(scenario({"web": service({"call": call}), "db": db}, rate_rps=0.5))
    session.advance(4.0)
    assert told(session)[4:] == [
        (2.0, "SENT", 1), (2.0, "ARRIVED", 1), (2.0, "STARTED", 1),
        (2.5, "TIMED_OUT", 0), (2.5, "BACKOFF", 0), (2.625, "SENT", 1), (2.625, "ARRIVED", 1),
        (2.75, "DELAY_DONE", 0), (2.75, "FINISHED", 0), (2.75, "STARTED", 1),
        (3.125, "TIMED_OUT", 1), (3.125, "FINISHED", Status.DEPENDENCY), (3.125, "REPLIED", Status.DEPENDENCY),
        (3.5, "DELAY_DONE", 0), (3.5, "FINISHED", 0),
    ]  # fmt: skip


def test_a_reply_at_the_very_instant_of_the_timeout_is_in_time() -> None:
    call = {"to": "db.get", "timeout_s": 0.5}
    db = service({"delay": {"mean_s": 0.5, "dist": "constant"}})
    session = opened(scenario({"web": service({"call": call}), "db": db}))
    session.advance(3.0)
    assert not only(session, Event.TIMED_OUT)
    assert session.observe().totals[0, :, Total.GOOD].tolist() == [0, 1, 1]


def test_a_killed_replica_resets_its_callers_and_leaves_their_callees_as_zombies() -> None:
    db = service({"delay": {"mean_s": 0.75, "dist": "constant"}})
    web = service({"call": {"to": "db.get"}}, startup_s=0.25)
    session = opened(scenario({"web": web, "db": db}, rate_rps=0.5))
    session.advance(2.0)
    session.apply([EngineAction(0, ActionCode.RESTART, 2.5, service=0)])
    session.advance(4.0)
    assert told(session)[7:] == [
        (2.5, "ACTION_DONE", ActionCode.RESTART), (2.5, "REPLICA_DOWN", 0), (2.5, "KILLED", 0),
        (2.5, "REPLIED", Status.RESET), (2.75, "REPLICA_UP", 0), (2.75, "DELAY_DONE", 0), (2.75, "FINISHED", 0),
    ]  # fmt: skip


def test_a_rolling_restart_takes_one_replica_after_the_other() -> None:
    web = service(CPU, replicas={"initial": 2}, startup_s=0.25)
    session = opened(scenario({"web": web}))
    session.apply([EngineAction(0, ActionCode.RESTART, 0.0, service=0)])
    session.advance(3.0)
    assert [row[:2] for row in only(session, Event.REPLICA_DOWN, Event.REPLICA_UP)] == [
        (0.0, "REPLICA_DOWN"), (0.25, "REPLICA_UP"), (1.25, "REPLICA_DOWN"), (1.5, "REPLICA_UP"),
    ]  # fmt: skip


def test_leaks_end_in_a_kill_for_memory() -> None:
    memory = {"base_bytes": 100, "per_span_bytes": 0, "limit_bytes": 109, "leak_bytes": 5}
    session = opened(scenario({"web": service(CPU, memory=memory, startup_s=0.25)}))
    session.advance(6.0)
    assert [row[0] for row in only(session, Event.REPLICA_DOWN)] == [2.25, 4.25]
    fraction = session.observe().metrics[0, :, 0, Metric.MEMORY_FRAC]
    np.testing.assert_allclose(fraction * 109, [100, 105, 100, 105, 100, 105])


def test_a_crash_loop_backs_off_until_the_fault_is_over() -> None:
    fault = (Modulation(Param.CRASH, Place.NODE, 0), [(0.5, 0.125), (6.0, 0.0)])
    session = opened(scenario({"web": service(CPU, startup_s=0.5)}), fault)
    session.advance(15.0)
    down = [row[0] for row in only(session, Event.REPLICA_DOWN)]
    up = [row[0] for row in only(session, Event.REPLICA_UP)]
    assert [b - a for a, b in zip(down, up, strict=True)] == pytest.approx([1.0, 1.5, 2.5, 4.5])


def test_scaling_down_drains_and_scaling_up_starts_new_replicas() -> None:
    web = service({"delay": {"mean_s": 3.0, "dist": "constant"}}, replicas={"initial": 2}, drain_s=1.0, startup_s=0.5)
    session = opened(scenario({"web": web}, rate_rps=2.0))
    session.advance(1.0)
    session.apply([EngineAction(0, ActionCode.SCALE, 1.25, service=0, amount=-1.0)])
    session.apply([EngineAction(0, ActionCode.SCALE, 1.25, service=0, amount=1.0)])
    session.advance(3.0)
    fleet = (Event.REPLICA_DRAINING, Event.REPLICA_DOWN, Event.REPLICA_GONE, Event.REPLICA_UP, Event.KILLED)
    rows = session.events(0)
    shown = [
        (float(row["time_s"]), Event(row["event"]), int(row["span"]))
        for row in rows
        if row["event"] in fleet and row["event"] != Event.KILLED
    ]
    assert shown == [
        (1.25, Event.REPLICA_DRAINING, 1), (1.75, Event.REPLICA_UP, 2),
        (2.25, Event.REPLICA_DOWN, 1), (2.25, Event.REPLICA_GONE, 1),
    ]  # fmt: skip
    slots = session.observe().replicas[0, -1, 0]
    assert slots[:3, ReplicaStat.ORDINAL].tolist() == [0.0, 2.0, -1.0]
    assert slots[0, ReplicaStat.STATE] == ReplicaState.UP
    assert np.isnan(slots[2, 1:]).all()


def test_a_quarantined_replica_gets_nothing_until_it_is_released() -> None:
    session = opened(scenario({"web": service(CPU, replicas={"initial": 2})}))
    session.apply([EngineAction(0, ActionCode.QUARANTINE, 0.0, service=0, replica=0)])
    session.advance(4.0)
    session.apply([EngineAction(0, ActionCode.RELEASE, 4.0, service=0, replica=0)])
    session.advance(7.0)
    assert [row[2] for row in only(session, Event.SENT)] == [1, 1, 1, 0, 1, 0]


def test_without_an_eligible_replica_a_call_fails_at_once() -> None:
    session = opened(scenario({"web": service(CPU)}))
    session.apply([EngineAction(0, ActionCode.QUARANTINE, 0.0, service=0, replica=0)])
    session.advance(2.0)
    assert only(session, Event.SENT, Event.REPLIED) == [(1.0, "SENT", -1), (1.0, "REPLIED", Status.UNAVAILABLE)]
    assert session.observe().totals[0, 1, [Total.BAD, Total.ERRORS]].tolist() == [1, 1]


def test_a_rollback_heals_what_lives_in_the_version() -> None:
    bad = (Modulation(Param.DEPLOY, Place.VERSION, 0), [(0.5, 1.0)])
    errors = (Modulation(Param.OK, Place.VERSION, 0), [(0.5, 0.0)])
    session = opened(scenario({"web": service(CPU, startup_s=0.25)}), bad, errors)
    session.advance(3.0)
    assert session.observe().markers[0, :, 0].tolist() == [1, 0, 0]
    session.apply([EngineAction(0, ActionCode.ROLLBACK, 3.5, service=0)])
    session.advance(6.0)
    assert [row[2] for row in only(session, Event.FINISHED)] == [Status.ERROR] * 3 + [Status.OK] * 2


def test_a_restart_heals_what_lives_in_the_process_only() -> None:
    for place, healed in [(Place.PROCESS, True), (Place.NODE, False), (Place.VERSION, False)]:
        fault = (Modulation(Param.OK, place, 0), [(0.5, 0.0)])
        session = opened(scenario({"web": service(CPU, startup_s=0.25)}), fault)
        session.apply([EngineAction(0, ActionCode.RESTART, 1.5, service=0)])
        session.advance(3.0)
        after = Status.OK if healed else Status.ERROR
        assert [row[2] for row in only(session, Event.FINISHED)] == [Status.ERROR, after]


def _cached(**keys: Any) -> dict[str, Any]:
    cached = {"to": "cache.get", "keys": {"count": 1, **keys}, "steps": [CPU]}
    cache = service({"delay": {"mean_s": 0.125, "dist": "constant"}}, cache={"slots": 1, "ttl_s": 1.5})
    return {"web": service({"cached": cached}, threads=4), "cache": cache}


def test_a_miss_runs_the_inner_steps_and_fills_the_key_for_its_time_to_live() -> None:
    session = opened(scenario(_cached()))
    session.apply([EngineAction(0, ActionCode.CLEAR_CACHE, 0.0, service=1)])
    session.advance(5.0)
    assert only(session, Event.HIT, Event.MISS, Event.FILLED) == [
        (1.125, "MISS", 0), (1.375, "FILLED", 0), (2.125, "HIT", 0),
        (3.125, "MISS", 0), (3.375, "FILLED", 0), (4.125, "HIT", 0),
    ]  # fmt: skip
    np.testing.assert_array_equal(session.observe().metrics[0, 1:, 1, Metric.HIT_RATIO], [0.0, 1.0, 0.0, 1.0])


def test_a_poisoned_entry_makes_its_readers_fail_until_the_cache_is_cleared() -> None:
    session = opened(scenario(_cached()), (Modulation(Param.POISON, Place.CONTENT, 1), [(2.0, 1.0)]))
    session.apply([EngineAction(0, ActionCode.CLEAR_CACHE, 0.0, service=1)])
    session.advance(8.0)
    session.apply([EngineAction(0, ActionCode.CLEAR_CACHE, 8.0, service=1)])
    session.advance(10.0)
    assert [row[2] for row in only(session, Event.REPLIED)].count(Status.ERROR) == 6
    assert only(session, Event.MISS, Event.HIT)[-2:] == [(8.125, "MISS", 0), (9.125, "HIT", 0)]


def test_limited_traffic_is_shed_and_counts_as_bad() -> None:
    session = opened(scenario({"web": service(CPU)}))
    session.apply([EngineAction(0, ActionCode.LIMIT_TRAFFIC, 0.0, amount=0.0)])
    session.advance(2.0)
    session.apply([EngineAction(0, ActionCode.LIMIT_TRAFFIC, 2.0, amount=1.0)])
    session.advance(4.0)
    assert only(session, Event.SHED) == [(1.0, "SHED", 0)]
    assert session.observe().totals[0, :, Total.GOOD].tolist() == [1, 1]


def test_a_stalled_request_is_bad_once_its_objective_has_passed() -> None:
    session = opened(scenario({"web": service({"delay": {"mean_s": 9.0, "dist": "constant"}})}, timeout_s=3.0))
    session.advance(6.0)
    totals = session.observe().totals[0]
    assert totals[:, Total.BAD].tolist() == [0, 1, 1, 1, 1, 1]
    assert totals[:, Total.TIMEOUTS].tolist() == [0, 0, 0, 0, 1, 1]


def test_a_surge_adds_requests_and_leaves_the_others_as_they_are() -> None:
    spec = scenario({"web": service(CPU, threads=100)}, arrivals="poisson", rate_rps=20.0)
    calm = opened(spec)
    surge = opened(spec, (Modulation(Param.SURGE, Place.WORKLOAD), [(3.0, 2.0), (6.0, 0.0)]))
    for session in (calm, surge):
        session.advance(10.0)
    rows = [session.events(0) for session in (calm, surge)]
    offered = [log[log["event"] == Event.OFFERED] for log in rows]
    base = offered[1]["request"] >> 40 == 0
    np.testing.assert_array_equal(offered[0], offered[1][base])
    extra = offered[1]["time_s"][~base]
    assert extra.min() >= 3.0
    assert extra.max() < 6.0
    assert 80 < extra.size < 160


# --- the interface


def test_a_fork_continues_bit_for_bit_and_leaves_its_origin_alone() -> None:
    spec = scenario({"web": service({"cpu": {"mean_s": 0.2}}, startup_s=0.3)}, arrivals="poisson", rate_rps=4.0)
    one, other = opened(spec, runs=2), opened(spec, runs=2)
    for session in (one, other):
        session.apply([EngineAction(1, ActionCode.RESTART, 2.5, service=0)])
        session.advance(4.0)
    fork = one.fork([1, 1])
    np.testing.assert_array_equal(fork.observe().metrics[0], one.observe().metrics[1])
    fork.apply([EngineAction(0, ActionCode.RESTART, 5.0, service=0)])
    for session in (fork, one, other):
        session.advance(9.0)
    assert one.events(1).tobytes() == other.events(1).tobytes() == fork.events(1).tobytes()
    assert fork.events(0).tobytes() != fork.events(1).tobytes()
    assert fork.now_s == 9.0


def test_results_do_not_depend_on_the_chunks_in_which_a_run_advances() -> None:
    spec = scenario({"web": service({"cpu": {"mean_s": 0.2}})}, arrivals="poisson", rate_rps=4.0)
    at_once, in_steps = opened(spec), opened(spec)
    at_once.advance(8.0)
    metrics = []
    for edge in range(1, 9):
        in_steps.advance(float(edge))
        metrics.append(in_steps.observe().metrics)
    np.testing.assert_array_equal(at_once.observe().metrics, np.concatenate(metrics, axis=1))
    assert at_once.events(0).tobytes() == in_steps.events(0).tobytes()


def test_what_is_no_edge_or_lies_in_the_past_is_refused() -> None:
    session = opened(scenario({"web": service(CPU)}), log=False)
    session.advance(2.0)
    for wrong in (1.0, 2.5, math.nan, math.inf):
        with pytest.raises(InputError, match="until_s must be a multiple"):
            session.advance(wrong)
    with pytest.raises(InputError, match="at_s must not lie before"):
        session.apply([EngineAction(0, ActionCode.NOOP, 1.5)])
    with pytest.raises(InputError, match=r"run must be in 0 \.\. 0, got 1"):
        session.apply([EngineAction(1, ActionCode.NOOP, 2.0)])
    with pytest.raises(InputError, match="without log"):
        session.events(0)


def test_the_reference_engine_shares_no_logic_with_the_batch_engine() -> None:
    for path in Path(simcore.reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not module.startswith(("simcore.layout", "simcore.kernels")), path.name
