"""OpenTelemetry's JSON: traces and logs as any collector, Jaeger's upload included, reads them.

OTLP 1.x, *JSON Protobuf Encoding*: ids in hex digits (not base64), enumerations as numbers, 64-bit integers as strings,
names in lowerCamelCase.
"""

__all__ = ["EPOCH_S", "log_document", "resource_logs", "resource_spans", "trace_document", "unix_nanos"]

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from simcore import __version__
from simcore.telemetry.logs import LogRecord, severity_number
from simcore.telemetry.wire import Happening, Link, WireSpan

#: Time 0 of a simulation in Unix time: 2025-01-01T00:00:00Z.
EPOCH_S = 1_735_689_600

_NANOS = 1_000_000_000
_ERROR = 2  # status code
_SCOPE = {"name": "mendsim", "version": __version__}
#: The service that logs what belongs to none: requests turned away before any sees them.
_BORDER = "border"


def unix_nanos(time_s: float) -> str:
    """Return an instant of the simulation as nanoseconds of Unix time, to the nearest one."""
    return str(EPOCH_S * _NANOS + round(time_s * _NANOS))


def trace_document(spans: Iterable[Iterable[WireSpan]]) -> Iterator[str]:
    """Yield the pieces of an ``ExportTraceServiceRequest``, batch by batch, so that memory holds one at a time."""
    return _document("resourceSpans", (resource_spans(batch) for batch in spans))


def log_document(records: Iterable[LogRecord]) -> Iterator[str]:
    """Yield the pieces of an ``ExportLogsServiceRequest``."""
    return _document("resourceLogs", [resource_logs(records)])


def resource_spans(spans: Iterable[WireSpan]) -> list[dict[str, Any]]:
    """Return the ``resourceSpans`` of some spans: one per service and replica, by name."""
    ordered = sorted(spans, key=lambda span: (span.service, span.instance))
    return [
        {"resource": _resource(*of), "scopeSpans": [{"scope": _SCOPE, "spans": [_span(span) for span in group]}]}
        for of, group in groupby(ordered, key=lambda span: (span.service, span.instance))
    ]


def resource_logs(records: Iterable[LogRecord]) -> list[dict[str, Any]]:
    """Return the ``resourceLogs`` of some records: one per service and replica, by name."""
    ordered = sorted(records, key=lambda record: (record.service, record.replica))
    return [
        {
            "resource": _resource(service or _BORDER, replica),
            "scopeLogs": [{"scope": _SCOPE, "logRecords": [_record(record) for record in group]}],
        }
        for (service, replica), group in groupby(ordered, key=lambda record: (record.service, record.replica))
    ]


def _document(name: str, batches: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    yield f'{{"{name}":['
    between = ""
    for batch in batches:
        for part in batch:
            yield between + json.dumps(part, separators=(",", ":"), allow_nan=False)
            between = ",\n"
    yield "]}\n"


def _resource(service: str, instance: str) -> dict[str, Any]:
    known = {"service.name": service, "service.namespace": "mendsim"}
    return {"attributes": _attributes(known | ({"service.instance.id": instance} if instance else {}))}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        # JSON has no number for these; protobuf's JSON mapping has names
        return {"doubleValue": value if math.isfinite(value) else str(value).replace("inf", "Infinity")}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}


def _span(span: WireSpan) -> dict[str, Any]:
    attributes = dict(span.attributes) | ({"error.type": span.error} if span.error else {})
    made: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_id:
        made["parentSpanId"] = span.parent_id
    made |= {
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": unix_nanos(span.start_s),
        "endTimeUnixNano": unix_nanos(span.end_s),
        "attributes": _attributes(attributes),
    }
    if span.happenings:
        made["events"] = [_event(happening) for happening in span.happenings]
    if span.links:
        made["links"] = [_link(link) for link in span.links]
    made["status"] = {"code": _ERROR, "message": span.error} if span.error else {}
    return made


def _event(happening: Happening) -> dict[str, Any]:
    return {
        "timeUnixNano": unix_nanos(happening.time_s),
        "name": happening.name,
        "attributes": _attributes(happening.attributes),
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "traceId": link.trace_id,
        "spanId": link.span_id,
        "attributes": _attributes({"mendsim.relation": link.relation}),
    }


def _record(record: LogRecord) -> dict[str, Any]:
    made: dict[str, Any] = {
        "timeUnixNano": unix_nanos(record.time_s),
        "observedTimeUnixNano": unix_nanos(record.time_s),
        "severityNumber": severity_number(record.severity),
        "severityText": record.severity,
        "body": {"stringValue": record.body},
        "attributes": _attributes({"event.name": record.name} | dict(record.attributes)),
        "eventName": record.name,
    }
    if record.trace_id:
        made["traceId"] = record.trace_id
    if record.span_id:
        made["spanId"] = record.span_id
    return made
