"""Traces of random scenarios: trees whose times follow each other, and that add up to the windows' metrics."""

import functools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from simcore.codes import Event
from simcore.engines.api import Session
from simcore.engines.registry import ENGINES, open_session
from simcore.model.scenario import Scenario
from simcore.streams import mix, mix_all
from simcore.telemetry.sampling import head_sample, roots_of, tail_sample
from simcore.telemetry.traces import Span, Trace, request_trees
from simcore.windows import Metric
from tests.invariants import family, of
from tests.shop import EVERY, act, elastic_shop, guarded_shop, queued_shop, runs, shop
from tests.strategies import Example, examples
from tests.test_engines import play

_SOME = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

SHOPS = {"shop": functools.partial(shop, 75.0), "guarded": guarded_shop, "elastic": elastic_shop, "queued": queued_shop}


def played(engine: str, scenario: Scenario) -> Session:
    session = open_session(engine, scenario, runs(1), log=True, threads=1)
    for edge in EVERY:
        act(session)
        session.advance(edge)
    return session


def traces_of(session: Session, scenario: Scenario) -> list[Trace]:
    return request_trees(scenario, session.events(0), runs(1)[0].key)


def after(*times_s: float) -> bool:
    """Return whether instants that are known do not go back."""
    known = [t for t in times_s if not math.isnan(t)]
    return known == sorted(known)


def check_span(span: Span, parent: Span | None) -> None:
    assert after(span.start_s, span.sent_s, span.arrived_s, span.started_s, span.finished_s)
    assert after(span.start_s, span.sent_s, span.end_s)
    assert after(*(point.time_s for point in span.points))
    assert math.isnan(span.end_s) == (span.status == "unfinished")
    assert math.isnan(span.finished_s) == (not span.work_status)
    for wait_s in (span.pool_s, span.queue_s, span.lock_s, span.lag_s):
        assert not wait_s < 0.0
    assert span.cache is None or span.kind == "lookup"
    if parent is None:
        assert span.kind == "request"
        return
    assert span.caller == parent.service
    assert span.depth == parent.depth + 1
    assert parent.started_s <= span.start_s
    if span.kind != "message":
        # whoever has ended waits for nothing
        assert math.isnan(parent.finished_s) or span.end_s <= parent.finished_s


def check_trace(trace: Trace) -> None:
    known = {span.span_id: span for span in trace.spans}
    assert len(known) == len(trace.spans)
    assert not trace.root.parent_id
    for i, span in enumerate(trace.spans):
        assert span.trace_id == trace.trace_id
        check_span(span, known[span.parent_id] if i else None)
    walked = [trace.root]
    for at, span in enumerate(trace.spans):
        assert walked[at] == span
        walked[at + 1 : at + 1] = trace.children(span)


@_SOME
@given(examples())
def test_every_trace_is_a_tree_whose_times_follow_each_other(example: Example) -> None:
    scenario = example.scenario
    session = open_session("batch", scenario, example.inputs, log=True, threads=1)
    windows, _ = play(session, example)
    log = session.events(0)
    traces = request_trees(scenario, log, example.inputs[0].key)
    for trace in traces:
        check_trace(trace)
    spans = [span for trace in traces for span in trace.spans]
    parents = {int(s.span_id, 16): int(s.parent_id, 16) if s.parent_id else -1 for s in spans}
    shed = set(of(log, Event.SHED)["span"].tolist())
    overflow = set(of(log, Event.OVERFLOW)["span"].tolist())
    waiting = set(of(log, Event.PUBLISHED)["span"].tolist())
    kin = family(log, scenario)
    assert set(parents) - shed - overflow - waiting == set(kin) - waiting
    assert all(parents[span] == known.parent for span, known in kin.items())
    told = Counter(span.status for span in spans)
    assert told["timeout"] == of(log, Event.TIMED_OUT).size
    assert told["shed"] == len(shed)
    check_areas(scenario, spans, np.concatenate([w.metrics[0] for w in windows]))


def check_areas(scenario: Scenario, spans: list[Span], metrics: np.ndarray) -> None:
    """The time that spans spend somewhere is the time integral of the level there."""
    step_s, end_s = scenario.timing.step_s, metrics.shape[0] * scenario.timing.step_s
    areas: dict[tuple[Metric, str], float] = defaultdict(float)

    def add(metric: Metric, service: str, since_s: float, until_s: float) -> None:
        until_s = end_s if math.isnan(until_s) else until_s
        areas[metric, service] += max(0.0, until_s - max(0.0, since_s))

    for span in spans:
        if not math.isnan(span.arrived_s) and span.work_status != "rejected":
            add(Metric.IN_FLIGHT, span.service, span.arrived_s, span.finished_s)
            gone_s = span.finished_s if math.isnan(span.started_s) else span.started_s
            add(Metric.QUEUE_LENGTH, span.service, span.arrived_s, gone_s)
        if span.pool_s != 0.0:
            add(Metric.POOL_WAITING, span.caller, span.start_s, span.start_s + span.pool_s)
    for at, service in enumerate(scenario.service_names):
        for metric in (Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.POOL_WAITING):
            total = float(metrics[:, at, metric].sum() * step_s)
            assert areas[metric, service] == pytest.approx(total, abs=1e-6), (metric, service)


@pytest.mark.parametrize("name", SHOPS)
def test_both_engines_give_the_same_traces(name: str) -> None:
    scenario = SHOPS[name]()
    one, other = (repr(traces_of(played(engine, scenario), scenario)) for engine in ENGINES)
    assert one == other


def test_traces_show_what_stands_between_a_caller_and_its_callee() -> None:
    scenario = guarded_shop()
    traces = traces_of(played("batch", scenario), scenario)
    spans = [span for trace in traces for span in trace.spans]
    assert {span.status for span in spans} >= {"ok", "timeout", "abandoned", "pool", "open", "deadline", "dependency"}
    assert max(span.pool_s for span in spans if span.caller == "api") == pytest.approx(0.05)
    assert max(span.hedge for span in spans) == 2
    assert max(span.attempt for span in spans) == 2
    assert any(span.zombie_s > 0.0 for span in spans if span.service == "rank")
    assert any(span.lock_s > 0.0 for span in spans if span.operation == "view")
    assert {span.work_status for span in spans} >= {"ok", "cancelled", "dropped", "error"}


def test_traces_show_cache_reads_and_messages() -> None:
    scenario = elastic_shop()
    lookups = Counter(
        span.cache for t in traces_of(played("batch", scenario), scenario) for span in t.spans if span.kind == "lookup"
    )
    assert lookups["hit"] > 0
    assert lookups["miss"] > 0
    scenario = queued_shop()
    messages = [
        span for t in traces_of(played("batch", scenario), scenario) for span in t.spans if span.kind == "message"
    ]
    assert {span.status for span in messages} >= {"ok", "timeout", "overflow", "unfinished", "error"}
    assert max(span.lag_s for span in messages) > 1.0


# --- sampling


@pytest.mark.parametrize("engine", ENGINES)
def test_a_log_of_a_share_of_the_requests_holds_those_that_head_sampling_takes(engine: str) -> None:
    scenario = guarded_shop()
    whole = played(engine, scenario).events(0)
    chosen = head_sample(roots_of(whole), 0.2, runs(1)[0].key)
    session = open_session(engine, scenario, runs(1), log=True, share=0.2, threads=1)
    for edge in EVERY:
        act(session)
        session.advance(edge)
    expected = whole[(whole["request"] < 0) | np.isin(whole["request"], chosen)]
    assert session.events(0).tobytes() == expected.tobytes()
    assert session.events(0, 100).tobytes() == expected[100:].tobytes()


def test_mixing_arrays_is_mixing_one_by_one() -> None:
    keys = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    indices = np.array([[0], [5], [2**62 + 7]], np.uint64)
    mixed = mix_all(keys, indices)
    assert mixed.tolist() == [[int(mix(key, index[0])) for key in keys] for index in indices]


def test_head_sampling_takes_the_stated_share_and_larger_shares_hold_smaller_ones() -> None:
    roots = roots_of(played("batch", shop()).events(0))
    key = runs(1)[0].key
    taken = [set(head_sample(roots, ratio, key).tolist()) for ratio in (0.0, 0.1, 0.5, 1.0)]
    assert not taken[0]
    assert taken[1] < taken[2] < taken[3] == set(roots.requests.tolist())
    n = roots.requests.size
    assert abs(len(taken[2]) - n / 2) < 4 * math.sqrt(n / 4)


def test_tail_sampling_takes_the_slowest_and_the_failed_of_every_window() -> None:
    scenario = shop(90.0)
    session = played("batch", scenario)
    roots = roots_of(session.events(0))
    taken = set(tail_sample(roots, 2, 1.0).tolist())
    traces = {trace.request: trace for trace in traces_of(session, scenario)}
    assert [trace.root.start_s for trace in traces.values()] == roots.offered_s.tolist()
    assert roots.failed.any()
    for window in range(-2, 12):
        here = [t for t in traces.values() if window <= t.root.start_s < window + 1 and t.root.status != "unfinished"]
        slow = sorted((-t.duration_s, t.root.start_s, t.request) for t in here)[:2]
        failed = sorted((-t.duration_s, t.root.start_s, t.request) for t in here if t.root.failed)[:2]
        assert {number for *_, number in slow + failed} == taken & {t.request for t in here}
