"""Request trees as tracing tools know them: client and server spans, producers and consumers, with events and links."""

__all__ = ["Happening", "Link", "SpanKind", "WireSpan", "end_of", "wire_spans"]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.streams import keyed
from simcore.telemetry.traces import CLIENT, Point, Span, Trace

#: Index of the key of a span's server side, mixed with the span's own.
_SERVER_SIDE = 2**61 + 1

#: Moments that belong to the work at a replica; the others belong to the caller.
_AT_WORK = frozenset({"cpu_done", "delay_done", "filled", "blocked", "locked", "joined"})

#: How work ends when it does not end well.
_WELL = ("", "ok")


class SpanKind(IntEnum):
    """OTLP's numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a span."""

    time_s: float
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that a span has to do with, but is no child of."""

    trace_id: str
    span_id: str
    relation: str  #: such as ``retry_of``


@dataclass(frozen=True, slots=True)
class WireSpan:
    """A span as it goes over the wire."""

    trace_id: str  #: 32 hex digits
    span_id: str  #: 16 hex digits
    parent_id: str  #: empty: a root
    service: str
    instance: str  #: replica; empty: none
    name: str
    kind: SpanKind
    start_s: float  #: seconds of the simulation
    end_s: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""  #: what went wrong; empty: nothing
    happenings: tuple[Happening, ...] = ()
    links: tuple[Link, ...] = ()


def end_of(log: npt.NDArray[np.void]) -> float:
    """Return the instant of the last row of an event log, 0 if there is none."""
    return float(log["time_s"][-1]) if log.size else 0.0


def wire_spans(trace: Trace, until_s: float) -> Iterator[WireSpan]:
    """Yield the spans of a trace, callers before callees.

    Every attempt has a client span, and a server span if it has reached a replica; a message has a producer span, and
    a consumer span for each delivery. An attempt after the first is linked to the one before it, a hedge to what it
    stands beside, a delivery to the publication.

    Parameters
    ----------
    trace
        The request.
    until_s
        When what has not ended is cut off, seconds.
    """
    instances = {span.span_id: span.instance for span in trace.spans}
    served = {span.span_id for span in trace.spans if not math.isnan(span.arrived_s)}
    before: dict[tuple[str, int, int], Span] = {}
    published: dict[tuple[str, int], str] = {}
    for span in trace.spans:
        parent = span.parent_id
        above = _server_id(parent) if parent in served else parent
        if span.kind == "message":
            site = (parent, span.site)
            if span.attempt == 0:
                published[site] = span.span_id
                yield _producer(span, above, instances[parent])
            if not math.isnan(span.sent_s):
                yield _consumer(span, published[site], until_s)
            continue
        before[parent, span.site, _number(span.attempt, span.hedge)] = span
        yield _client(span, above, instances.get(parent, ""), _linked(span, before), until_s)
        if span.span_id in served:
            yield _server(span, until_s)


def _number(attempt: int, hedge: int) -> int:
    return attempt + 32 * hedge


def _server_id(span_id: str) -> str:
    return f"{int(keyed(np.uint64(int(span_id, 16)), _SERVER_SIDE)):016x}"


def _linked(span: Span, before: dict[tuple[str, int, int], Span]) -> tuple[Link, ...]:
    """Return the link of a retry or hedge."""
    if span.hedge:
        other, relation = before.get((span.parent_id, span.site, _number(span.attempt, span.hedge - 1))), "hedge_of"
    else:
        other, relation = before.get((span.parent_id, span.site, span.attempt - 1)), "retry_of"
    return () if other is None else (Link(span.trace_id, other.span_id, relation),)


def _client(span: Span, parent: str, instance: str, links: tuple[Link, ...], until_s: float) -> WireSpan:
    attributes = _asked(span) | _waits(pool_wait_s=span.pool_s)
    attributes |= {"mendsim.outcome": span.status, "mendsim.attempt": span.attempt}
    if span.hedge:
        attributes["mendsim.hedge"] = span.hedge
    if span.site >= 0:
        attributes["mendsim.call_site"] = span.site
    if span.cache:
        attributes["mendsim.cache.hit"] = span.cache == "hit"
    if span.zombie_s > 0.0:
        attributes["mendsim.zombie_s"] = span.zombie_s
    return WireSpan(
        span.trace_id, span.span_id, parent, span.caller, instance if span.caller != CLIENT else "",
        f"{span.service}/{span.operation}", SpanKind.CLIENT, span.start_s, _known(span.end_s, until_s), attributes,
        span.status if span.failed else "", _happenings(span, at_work=False), links,
    )  # fmt: skip


def _server(span: Span, until_s: float) -> WireSpan:
    attributes = _asked(span) | _waits(queue_wait_s=span.queue_s, lock_wait_s=span.lock_s)
    return WireSpan(
        span.trace_id, _server_id(span.span_id), span.span_id, span.service, span.instance,
        f"{span.service}/{span.operation}", SpanKind.SERVER, span.arrived_s, _known(span.finished_s, until_s),
        attributes, "" if span.work_status in _WELL else span.work_status, _happenings(span, at_work=True),
    )  # fmt: skip


def _producer(span: Span, parent: str, instance: str) -> WireSpan:
    refused = span.status == "overflow"
    return WireSpan(
        span.trace_id, span.span_id, parent, span.caller, instance, f"send {span.service}.{span.operation}",
        SpanKind.PRODUCER, span.start_s, span.start_s, _message(span, "send"), "overflow" if refused else "",
        tuple(_happening(point) for point in span.points if point.name in ("overflow", "skipped")),
    )  # fmt: skip


def _consumer(span: Span, published: str, until_s: float) -> WireSpan:
    attributes = _message(span, "process") | _waits(queue_wait_s=span.queue_s, lock_wait_s=span.lock_s)
    attributes |= _waits(lag_s=span.lag_s) | {"mendsim.outcome": span.status, "mendsim.delivery": span.attempt}
    ended_s = span.end_s if math.isnan(span.finished_s) else span.finished_s
    error = span.status if span.failed else ("" if span.work_status in _WELL else span.work_status)
    return WireSpan(
        span.trace_id, _server_id(span.span_id), published, span.service, span.instance,
        f"process {span.service}.{span.operation}", SpanKind.CONSUMER, span.sent_s, _known(ended_s, until_s),
        attributes, error, tuple(_happening(point) for point in span.points if point.name != "skipped"),
        (Link(span.trace_id, published, "published_by"),),
    )  # fmt: skip


def _asked(span: Span) -> dict[str, Any]:
    return {"rpc.system": "mendsim", "rpc.service": span.service, "rpc.method": span.operation}


def _message(span: Span, what: str) -> dict[str, Any]:
    return {
        "messaging.system": "mendsim",
        "messaging.destination.name": f"{span.service}.{span.operation}",
        "messaging.operation.type": what,
    }


def _waits(**waits: float) -> dict[str, Any]:
    """Return the waits that there were, as attributes."""
    return {f"mendsim.{name}": wait_s for name, wait_s in waits.items() if wait_s > 0.0}


def _happenings(span: Span, *, at_work: bool) -> tuple[Happening, ...]:
    return tuple(_happening(point) for point in span.points if (point.name in _AT_WORK) == at_work)


def _happening(point: Point) -> Happening:
    return Happening(point.time_s, point.name, {"mendsim.value": point.value})


def _known(time_s: float, otherwise_s: float) -> float:
    return otherwise_s if math.isnan(time_s) else time_s
