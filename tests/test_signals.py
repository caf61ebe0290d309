"""What traces and logs say by window: it adds up to the latencies, and is the same whoever asks."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from simcore.codes import Event, Status
from simcore.engines.registry import ENGINES, open_session
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario
from simcore.signals.collector import LOGS, TRACES, Collector, Signal
from simcore.signals.kinship import kinship_of
from simcore.signals.paths import attempts_of, origins, path_times
from simcore.telemetry.traces import Trace, request_trees
from tests.shop import act, runs
from tests.strategies import Example, examples
from tests.test_engines import play
from tests.test_traces import SHOPS, played, traces_of

_SOME = settings(
    max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def observed(scenario: Scenario, traces: float, logs: bool) -> Scenario:
    seen = scenario.observation.model_copy(update={"traces": traces, "logs": logs, "lag_steps": 0})
    return scenario.model_copy(update={"observation": seen})


@_SOME
@given(examples())
def test_what_the_services_add_is_the_latency_of_the_request(example: Example) -> None:
    session = open_session("batch", example.scenario, example.inputs[:1], log=True, threads=1)
    play(session, dataclasses.replace(example, inputs=example.inputs[:1], actions=_own(example), fork_at=-1))
    log = session.events(0)
    log = log[log["request"] >= 0]
    until_s = session.now_s
    attempts = attempts_of(example.scenario, log, np.zeros(log.size, np.int64), until_s)
    parts = path_times(attempts)
    assert all((part >= 0.0).all() for part in parts.values())
    roots = attempts.kin.parents < 0
    _, request = np.unique(_request_of(attempts.kin.parents), return_inverse=True)
    added = np.bincount(request, sum(parts.values()))
    latency = np.bincount(request[roots], (attempts.end_s - attempts.made_s)[roots])
    np.testing.assert_allclose(added, latency, atol=1e-6)
    ends = {int(s.span_id, 16): s.end_s for t in request_trees(example.scenario, log, runs(1)[0].key) for s in t.spans}
    told = np.array([ends[int(key)] for key in attempts.kin.keys])
    same = np.isnan(told) | (np.abs(told - attempts.end_s) < 1e-9) | attempts.message
    # here nobody is waited for longer than the request itself is
    assert (same | (attempts.end_s < told)).all()


def _own(example: Example) -> tuple:  # type: ignore[type-arg]
    return tuple((edge, action) for edge, action in example.actions if action.run == 0)


def _request_of(parents: np.ndarray) -> np.ndarray:
    """Return (attempt,) the root above each."""
    root = np.arange(parents.size)
    while (parents[root] >= 0).any():
        root = np.where(parents[root] >= 0, parents[root], root)
    return root


@pytest.mark.parametrize("name", SHOPS)
def test_failures_begin_where_nothing_below_has_failed(name: str) -> None:
    scenario = SHOPS[name]()
    session = played("batch", scenario)
    log = session.events(0)
    log = log[log["request"] >= 0]
    attempts = attempts_of(scenario, log, np.zeros(log.size, np.int64), session.now_s)
    found = origins(attempts)
    spans = [span for trace in traces_of(session, scenario) for span in trace.spans]
    denied = log["aux"][log["event"] == int(Event.DENIED)]
    told = Counter(unsent=int((denied == int(Status.POOL)).sum()))
    for span in spans:
        told["turned_away"] += span.status == "rejected"
        told["gone"] += span.status in ("refused", "reset", "unavailable")
        told["errors"] += span.work_status == "error"
    assert found["turned_away"][0].sum() == told["turned_away"]
    assert found["gone"][0].sum() == told["gone"]
    assert found["unsent"][0].sum() == told["unsent"]
    assert found["errors"][0].sum() + found["poison"][0].sum() == told["errors"]
    assert (found["silent"][0] <= (attempts.status == 7)).all()


def test_the_keys_of_equal_runs_are_kept_apart() -> None:
    scenario = SHOPS["guarded"]()
    log = played("batch", scenario).events(0)
    once = kinship_of(scenario, log)
    twice = kinship_of(scenario, np.concatenate([log, log]), np.repeat([3, 8], log.size))
    assert twice.keys.size == 2 * once.keys.size
    for run in (3, 8):
        own = twice.runs == run
        assert Counter(twice.operations[own].tolist()) == Counter(once.operations.tolist())
        assert (twice.runs[twice.parents[own & (twice.parents >= 0)]] == run).all()


# --- collecting


def collected(engine: str, scenario: Scenario, edges: Sequence[float], *, whole: bool = False) -> np.ndarray:
    """Return (run, window, service, signal) of two runs, collected at these edges."""
    share = 1.0 if whole else scenario.observation.traces
    session = open_session(engine, scenario, runs(2), log=True, share=share, threads=1)
    collector = Collector(scenario, runs(2), whole=whole)
    found, before = [], 0
    for edge in edges:
        for now in range(before, int(edge)):
            session.advance(float(now))
            act(session)
        session.advance(edge)
        found.append(collector.collect(session, before, int(edge)))
        before = int(edge)
    return np.concatenate(found, 1)


def test_signals_do_not_depend_on_engine_rhythm_or_what_else_is_logged() -> None:
    scenario = observed(SHOPS["guarded"](), 0.3, True)
    every = [float(edge) for edge in range(1, 13)]
    found = collected("batch", scenario, every)
    for other in (
        collected("simpy", scenario, every),
        collected("batch", scenario, [5.0, 12.0]),
        collected("batch", scenario, every, whole=True),
    ):
        np.testing.assert_array_equal(found, other)
    assert np.nanmax(found[..., TRACES]) > 0.0
    assert found[..., Signal.BREAKER].sum() > 0.0


def test_signals_are_means_over_the_requests_answered_in_a_window() -> None:
    scenario = observed(SHOPS["guarded"](), 1.0, False)
    found = collected("batch", scenario, [12.0])
    session = played("batch", scenario)
    ended: dict[int, list[Trace]] = {}
    for trace in traces_of(session, scenario):
        if trace.root.end_s < 12.0 and trace.root.status not in ("shed", "unfinished"):
            ended.setdefault(math.floor(trace.root.end_s), []).append(trace)
    times = found[0, :, :, [Signal.WORK_S, Signal.QUEUE_S, Signal.LOCK_S, Signal.WIRE_S, Signal.POOL_S]].sum((0, 2))
    expected = [np.mean([trace.duration_s for trace in ended[window]]) for window in range(12)]
    np.testing.assert_allclose(times, expected, atol=1e-9)
    assert np.isnan(found[..., LOGS]).all()


def test_logs_are_counted_without_any_trace() -> None:
    scenario = observed(SHOPS["shop"](), 0.0, True)
    found = collected("batch", scenario, [12.0])
    assert np.isnan(found[..., TRACES]).all()
    log = played("batch", scenario).events(0)
    down = log[(log["event"] == int(Event.REPLICA_DOWN)) & (log["time_s"] >= 0.0)]
    counts = np.bincount(down["aux"], minlength=3)
    told = [found[0, :, :, signal].sum() for signal in (Signal.RESTART, Signal.CRASH, Signal.OOM)]
    assert told == counts.tolist()
    assert counts.sum() > 3


# --- what the agent sees


def _episodes(engine: str, **changes: object) -> Episodes:
    scenario = SHOPS["shop"]()
    seen = scenario.observation.model_copy(update={"traces": 0.5, "logs": True, **changes})
    scenario = scenario.model_copy(update={"observation": seen})
    given = [make_run(scenario, seed=4, split="test", run=run, faults=()) for run in range(2)]
    return Episodes(scenario, given, engine=engine, threads=1)


@functools.cache
def _seen(engine: str, lag_steps: int, drop_rate: float) -> list[np.ndarray | None]:
    episodes = _episodes(engine, lag_steps=lag_steps, drop_rate=drop_rate)
    seen = []
    while not episodes.finished:
        episodes.advance()
        seen.append(episodes.observation.signals)
    return seen


@pytest.mark.parametrize("engine", ENGINES)
def test_signals_come_with_the_scrapes_as_late_and_as_often(engine: str) -> None:
    prompt, late = _seen(engine, 0, 0.0), _seen(engine, 2, 0.0)
    assert late[0] is None
    assert late[1] is None
    for now, then in zip(late[2:], prompt, strict=False):
        np.testing.assert_array_equal(now, then)
    lossy = _seen(engine, 0, 0.4)
    lost = [k for k in range(1, 12) if not np.array_equal(lossy[k][0], prompt[k][0], equal_nan=True)]  # type: ignore[index]
    assert lost
    for k in lost:
        before = np.full_like(prompt[0], np.nan) if lossy[k - 1] is None else lossy[k - 1]
        np.testing.assert_array_equal(lossy[k][0], before[0])  # type: ignore[index]


def test_a_fork_sees_what_the_run_sees() -> None:
    episodes = _episodes("batch")
    for _ in range(5):
        episodes.advance()
    fork = episodes.fork([1, 0, 1])
    while not episodes.finished:
        episodes.advance()
        fork.advance()
        assert episodes.observation.signals is not None
        np.testing.assert_array_equal(fork.observation.signals, episodes.observation.signals[[1, 0, 1]])


def test_a_scenario_without_traces_and_logs_keeps_no_log() -> None:
    episodes = _episodes("batch", traces=0.0, logs=False)
    episodes.advance()
    assert episodes.observation.signals is None
    with pytest.raises(InputError, match="log"):
        episodes.session.events(0)
