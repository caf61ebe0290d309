"""OTLP JSON against the protocol's own definitions, and what it says of requests, systems and agents."""

import base64
import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from simcore.codes import Event
from simcore.engines.registry import open_session
from simcore.telemetry.logs import LogRecord, severity_number, system_logs
from simcore.telemetry.otlp import EPOCH_S, log_document, trace_document, unix_nanos
from simcore.telemetry.wire import SpanKind, end_of, wire_spans
from simcore.windows import Metric
from tests.conftest import Invoke
from tests.shop import EVERY, act, guarded_shop, runs, shop
from tests.test_traces import SHOPS, played, traces_of

_IDS = ("traceId", "spanId", "parentSpanId")


def parsed(text: str, message: Any) -> Any:
    """Return a document as a protobuf message; unknown names and wrong types raise.

    OTLP writes ids in hex digits where protobuf's own JSON mapping expects base64.
    """

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64encode(bytes.fromhex(one)).decode() if key in _IDS else with_base64(one)
            for key, one in value.items()
        }

    return json_format.ParseDict(with_base64(json.loads(text)), message())


@functools.cache
def document(name: str, engine: str = "batch") -> str:
    scenario = SHOPS[name]()
    session = played(engine, scenario)
    until_s = end_of(session.events(0))
    return "".join(trace_document([wire_spans(trace, until_s) for trace in traces_of(session, scenario)[::7]]))


def spans_of(request: Any) -> list[tuple[str, Any]]:
    return [
        (resource.resource.attributes[0].value.string_value, span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize("name", SHOPS)
def test_traces_are_what_the_protocol_defines(name: str) -> None:
    text = document(name)
    spans = spans_of(parsed(text, ExportTraceServiceRequest))
    by_id = {span.span_id: (service, span) for service, span in spans}
    assert len(by_id) == len(spans)
    for service, span in spans:
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert all(by_id[link.span_id][1].trace_id == span.trace_id for link in span.links)
        if not span.parent_span_id:
            assert (service, span.kind) == ("client", SpanKind.CLIENT)
            continue
        above, parent = by_id[span.parent_span_id]
        assert parent.trace_id == span.trace_id
        assert parent.start_time_unix_nano <= span.start_time_unix_nano
        expected = {SpanKind.SERVER: SpanKind.CLIENT, SpanKind.CONSUMER: SpanKind.PRODUCER}
        if span.kind in expected:
            assert parent.kind == expected[SpanKind(span.kind)]
        else:
            assert parent.kind in (SpanKind.SERVER, SpanKind.CONSUMER)
            assert above == service


def test_both_engines_write_the_same_bytes() -> None:
    assert document("guarded", "simpy") == document("guarded", "batch")


def test_ids_are_hex_digits_and_integers_strings() -> None:
    first = json.loads(document("shop"))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert re.fullmatch("[0-9a-f]{32}", first["traceId"])
    assert re.fullmatch("[0-9a-f]{16}", first["spanId"])
    assert first["startTimeUnixNano"].isdigit()
    assert unix_nanos(0.0) == f"{EPOCH_S}000000000"
    assert unix_nanos(-1.5) == f"{EPOCH_S - 2}500000000"


def test_retries_hedges_and_messages_are_linked() -> None:
    relations = {
        link.attributes[0].value.string_value
        for name in ("guarded", "queued")
        for _, span in spans_of(parsed(document(name), ExportTraceServiceRequest))
        for link in span.links
    }
    assert relations == {"retry_of", "hedge_of", "published_by"}


def test_a_document_without_anything_is_still_one() -> None:
    assert not parsed("".join(trace_document([])), ExportTraceServiceRequest).resource_spans
    assert not parsed("".join(log_document([])), ExportLogsServiceRequest).resource_logs


# --- logs


@functools.cache
def logged(name: str, engine: str = "batch", actions: tuple[tuple[str, int], ...] = ()) -> list[LogRecord]:
    scenario = SHOPS[name]()
    session = played(engine, scenario)
    return system_logs(scenario, session.events(0), runs(1)[0], actions, truth=True)


@pytest.mark.parametrize("name", SHOPS)
def test_logs_are_what_the_protocol_defines_and_the_same_from_both_engines(name: str) -> None:
    records = logged(name)
    assert records == logged(name, "simpy")
    assert [record.time_s for record in records] == sorted(record.time_s for record in records)
    request = parsed("".join(log_document(records)), ExportLogsServiceRequest)
    written = [log for resource in request.resource_logs for scope in resource.scope_logs for log in scope.log_records]
    assert sorted(log.event_name for log in written) == sorted(record.name for record in records)
    assert {log.severity_number for log in written} == {severity_number(record.severity) for record in records}
    assert {len(log.trace_id) for log in written} <= {0, 16}


def test_logs_tell_what_replicas_breakers_and_balancers_do() -> None:
    told = {name for shop_name in SHOPS for name in (record.name for record in logged(shop_name))}
    assert told >= {
        "replica.restart", "replica.up", "replica.added", "replica.draining", "replica.gone", "replica.crash",
        "health.in", "health.out", "breaker.open", "breaker.half_open", "breaker.closed", "gc", "autoscaler.scaled",
        "deploy", "action", "fault.change", "burst.timeout", "burst.denied", "burst.error", "burst.gave_up",
        "burst.rejected", "burst.overflow",
    }  # fmt: skip


def test_bursts_are_the_counts_of_the_windows_metrics() -> None:
    scenario = guarded_shop()
    session = played("batch", scenario)
    traced = {trace.trace_id: trace for trace in traces_of(session, scenario)}
    records = [r for r in system_logs(scenario, session.events(0), runs(1)[0]) if r.name == "burst.denied"]
    metrics = _metrics()
    assert records
    for record in records:
        assert record.attributes["count"] == metrics[round(record.time_s) - 1, 0, Metric.DENIED]
        reasons = [count for key, count in record.attributes.items() if key.startswith("reason.")]
        assert sum(reasons) == record.attributes["count"]
        statuses = {span.status for span in traced[record.trace_id].spans}
        assert statuses & {key.removeprefix("reason.") for key in record.attributes}


def _metrics() -> Any:
    """Return (window, service + 1, metric) of run 0 of the guarded shop."""
    session = open_session("batch", guarded_shop(), runs(1), threads=1)
    windows = []
    for edge in EVERY:
        act(session)
        session.advance(edge)
        windows.append(session.observe().metrics[0])
    return np.concatenate(windows)


def test_an_action_is_logged_by_its_name() -> None:
    records = logged("shop", actions=(("scale(db,+3)", 2), ("limit_traffic(0.8)", -1)))
    told = [(record.service, record.body) for record in records if record.name == "action"]
    assert told[:3] == [
        ("db", "scale(db,+3) takes effect"), ("", "limit_traffic(0.8) takes effect"), ("", "quarantine takes effect"),
    ]  # fmt: skip


def test_a_system_knows_nothing_of_its_faults() -> None:
    scenario = shop()
    log = played("batch", scenario).events(0)
    assert (log["event"] == int(Event.FAULT_CHANGE)).sum() > 5
    names = [record.name for record in system_logs(scenario, log, runs(1)[0])]
    assert "fault.change" not in names
    assert names.count("deploy") == 1


# --- the commands


def test_export_writes_traces_of_system_and_agent(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    out, lines = tmp_path / "t.json", tmp_path / "t.jsonl"
    common = ("--scenario", tiny, "--fault", "latency_spike@db", "--onset", "60", "--quiet", "--policy", "playbook")
    done = invoke("export", "traces", *common, "--out", out, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    spans = spans_of(parsed(out.read_text(), ExportTraceServiceRequest))
    assert told["spans"] == len(spans)
    own = {span.name: span for service, span in spans if service == "agent"}
    assert {"run", "incident", "alarm"} <= set(own)
    assert any(name.startswith("decide ") for name in own)
    known = {span.span_id for _, span in spans}
    assert own["incident"].links
    assert all(span.parent_span_id in known or not span.parent_span_id for _, span in spans)
    assert {link.span_id for link in own["incident"].links} & known, "the slowest of a step are sampled too"
    assert invoke("export", "traces", *common, "--out", lines, "--head", "1", "--engine", "simpy").code == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sum(row["kind"] == "request" for row in rows) == told["requests"]


def test_export_shows_one_request_as_text(invoke: Invoke, tiny: str) -> None:
    shown = invoke("export", "traces", "--scenario", tiny, "--no-agent", "--show", "slowest", "--quiet")
    assert shown.code == 0, shown.err
    assert "api.get " in shown.out
    assert "db.query" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    missing = invoke("export", "traces", "--scenario", tiny, "--no-agent", "--show", "99999999", "--quiet")
    assert missing.code == 2
    assert "the base arrivals are 0 to" in missing.err


def test_export_logs_as_text_and_in_both_formats(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    common = ("export", "logs", "--scenario", tiny, "--fault", "error_burst@db", "--onset", "60", "--quiet")
    text = invoke(*common, "--policy", "playbook").out
    for word in ("requests failed with an internal error", "the SLO is broken", "suspect ", "takes effect"):
        assert word in text
    out = tmp_path / "logs.json"
    assert invoke(*common, "--truth", "--out", out).code == 0
    request = parsed(out.read_text(), ExportLogsServiceRequest)
    names = {log.event_name for r in request.resource_logs for scope in r.scope_logs for log in scope.log_records}
    assert {"fault.change", "incident.opened", "alarm.raised"} <= names
    rows = [json.loads(line) for line in invoke(*common, "--json", "--level", "error").out.splitlines()]
    assert {row["severity"] for row in rows} == {"ERROR"}


def test_export_reports_all_mistakes_at_once(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "there.json").touch()
    done = invoke("export", "traces", "--scenario", "nowhere", "--show", "worst", "--out", tmp_path / "there.json")
    assert done.code == 2
    for part in ("nowhere", "--show must be slowest or failed", "exists; use --force"):
        assert part in done.err
    done = invoke("export", "traces", "--policy", "bandits", "--format", "otlp")
    assert done.code == 2
    for part in ("--policy must be one of", "give --out FILE", "but there is none"):
        assert part in done.err
    assert invoke("export", "logs", "--json", "--out", tmp_path / "x.txt").code == 2
