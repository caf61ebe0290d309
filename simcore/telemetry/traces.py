"""Traces: what became of a request and of all that was done for it, as a tree of attempts."""

__all__ = ["CLIENT", "Point", "Span", "Trace", "request_trees", "trace_id_of"]

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import Event, Status
from simcore.model.programs import CachedStep, PublishStep
from simcore.model.scenario import Scenario
from simcore.signals.fleet import Fleet
from simcore.signals.kinship import Kinship, kinship_of

Log = npt.NDArray[np.void]

#: Service name of those who send the requests.
CLIENT = "client"

#: Attempt numbers of the hedges of an attempt are so far apart (model.md, *Draws*).
_HEDGE_STRIDE = 32

#: What ends the work of a span that does not finish by itself.
_WORK_ENDS = {
    Event.KILLED: "killed",
    Event.CANCELLED: "cancelled",
    Event.DROPPED: "dropped",
    Event.REJECTED: "rejected",
    Event.REFUSED: "refused",
}

#: Rows that tell of a moment in the life of a span, and not of its beginning or end.
_MOMENTS = frozenset(
    {
        Event.SHED, Event.CPU_DONE, Event.DELAY_DONE, Event.FILLED, Event.BACKOFF, Event.GAVE_UP, Event.LOST,
        Event.BLOCKED, Event.LOCKED, Event.JOINED, Event.SKIPPED, Event.OVERFLOW,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """Something that happens in the life of a span."""

    time_s: float
    name: str  #: name of the event in lower case, see ``simcore.codes.Event``
    value: int  #: the event's aux


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt: as its caller sees it (start to end), and its work at a replica (arrived to finished).

    The work may go on after the end, when the caller has given up (zombie work); of a message's delivery it is always
    apart from the publishing span's course. Times are seconds of the simulation; nan: it never came to that.
    """

    trace_id: str  #: 32 hex digits
    span_id: str  #: 16 hex digits: the span's key
    parent_id: str  #: of the span at whose replica the attempt was made; empty: a client
    kind: str  #: request, call, lookup (of a cache) or message (a delivery)
    caller: str  #: service that made the attempt, ``client`` for a request
    service: str  #: that was asked
    operation: str  #: of it
    site: int  #: call site of the scenario, -1: a client
    attempt: int  #: 0 is the first
    hedge: int  #: 0 is the attempt itself
    replica: int  #: number among all replicas of the run, -1: none
    instance: str  #: name of the replica, such as ``db-0``; empty: none
    start_s: float  #: the caller makes the attempt (a message: it is published; a redelivery: it is sent)
    sent_s: float  #: it has passed the gates and sets out
    arrived_s: float  #: it is at its replica
    started_s: float  #: it has a thread
    finished_s: float  #: its work is over, in whatever way
    end_s: float  #: its caller hears the answer, gives up, or no longer needs it
    status: str  #: for its caller: a ``Status``, or abandoned, shed, skipped, overflow, unfinished
    work_status: str  #: of its work: a ``Status``, killed, cancelled, dropped, rejected or refused; empty: none seen
    pool_s: float  #: wait for a connection
    queue_s: float  #: wait for a thread, until it was got or given up; nan: it never arrived
    lock_s: float  #: wait for locks, those that were got
    lag_s: float  #: wait of a message for its turn; 0 for all else
    cache: str | None  #: hit or miss of a lookup that was answered
    depth: int  #: in the tree, the root has 0
    points: tuple[Point, ...]  #: in order of time

    @property
    def zombie_s(self) -> float:
        """How long its work went on after its caller had stopped waiting; 0 for messages, for whom nobody waits."""
        if self.kind == "message" or math.isnan(self.finished_s) or math.isnan(self.end_s):
            return 0.0
        return max(0.0, self.finished_s - self.end_s)

    @property
    def failed(self) -> bool:
        """Whether its caller got something else than an answer that is OK."""
        return self.status not in ("ok", "abandoned", "unfinished")


@dataclass(frozen=True, slots=True)
class Trace:
    """One request and all that was done for it."""

    trace_id: str  #: 32 hex digits, those of the run's key and of the request's
    request: int  #: number of the request, ``stream << 40 | n``
    spans: tuple[Span, ...]  #: in pre-order, children by their start; the first is the request

    @property
    def root(self) -> Span:
        """The request as its client sees it."""
        return self.spans[0]

    @property
    def duration_s(self) -> float:
        """Until the client heard the answer or gave up; nan: it has not yet."""
        return self.root.end_s - self.root.start_s

    def children(self, span: Span) -> tuple[Span, ...]:
        """Return the attempts that a span has made, by their start."""
        return tuple(other for other in self.spans if other.parent_id == span.span_id)


def trace_id_of(run_key: np.uint64, root: int) -> str:
    """Return the trace id of a request: the run's key and the root key, in hex digits."""
    return f"{int(run_key):016x}{root:016x}"


def request_trees(
    scenario: Scenario, log: Log, run_key: np.uint64, requests: Collection[int] | None = None
) -> list[Trace]:
    """Return traces of a run, in order of the requests' arrival.

    A trace is a function of the event log, so both engines give the same one. Memory is in proportion to what is
    asked for: choose the requests first (``simcore.telemetry.sampling``).

    Parameters
    ----------
    scenario
        What was simulated.
    log
        Dtype ``LOG``, from the beginning of the run.
    run_key
        Key of the engine's stream, ``RunInputs.key``; half of the trace ids.
    requests
        Numbers of the requests wanted; None: all.
    """
    fleet = Fleet(scenario, log[log["request"] < 0])
    rows = log[log["request"] >= 0]
    if requests is not None:
        rows = rows[np.isin(rows["request"], np.fromiter(requests, np.int64, len(requests)))]
    if not rows.size:
        return []
    return list(_Builder(scenario, fleet, run_key, rows).traces())


class _Facts:
    """What the rows of one span say."""

    __slots__ = (
        "arrived", "cache", "denied", "end", "finished", "lag_from", "locked", "operation", "points", "pooled",
        "replica", "sent", "shed", "started", "status", "work_status",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lag_from = self.pooled = self.denied = self.sent = self.arrived = self.started = math.nan
        self.finished = self.end = self.shed = math.nan
        self.locked = 0.0
        self.status = self.work_status = ""
        self.replica = -1
        self.cache: str | None = None
        self.points: list[Point] = []

    def read(self, rows: Sequence[tuple[float, int, int]]) -> None:
        """Take in (time, event, aux) of all its rows, in order of time."""
        blocked = math.nan
        for time_s, code, aux in rows:
            event = Event(code)
            if event is Event.SENT:
                self.sent, self.replica = time_s, aux
            elif event is Event.ARRIVED:
                self.arrived = time_s
            elif event is Event.STARTED:
                self.started = time_s
            elif event is Event.FINISHED:
                self.finished, self.work_status = time_s, Status(aux).name.lower()
            elif event in (Event.HIT, Event.MISS):
                self.cache = event.name.lower()
            elif event is Event.REPLIED:
                self.end, self.status = time_s, Status(aux).name.lower()
            elif event is Event.TIMED_OUT:
                self.end, self.status = time_s, "timeout"
            elif event is Event.POOLED:
                self.pooled = time_s
            elif event is Event.PUBLISHED:
                self.lag_from = time_s
            elif event is Event.DENIED:
                self.denied, self.status = time_s, Status(aux).name.lower()
            elif event in _WORK_ENDS:
                self.finished, self.work_status = time_s, _WORK_ENDS[event]
            elif event in _MOMENTS:
                self.points.append(Point(time_s, event.name.lower(), aux))
                if event is Event.BLOCKED:
                    blocked = time_s
                elif event is Event.LOCKED and not math.isnan(blocked):
                    self.locked += time_s - blocked
                    blocked = math.nan
                elif event in (Event.SHED, Event.OVERFLOW):
                    self.sent = self.end = time_s
                    self.status = event.name.lower()

    @property
    def start(self) -> float:
        """When the attempt was made."""
        return min(t for t in (self.lag_from, self.pooled, self.denied, self.sent) if not math.isnan(t))


class _Builder:
    """Makes traces of the rows of some requests."""

    def __init__(self, scenario: Scenario, fleet: Fleet, run_key: np.uint64, rows: Log) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._run_key = run_key
        self._kin = kinship_of(scenario, rows)
        self._facts = _facts_of(self._kin, rows)
        self._children: dict[int, list[int]] = defaultdict(list)
        for span, parent in enumerate(self._kin.parents.tolist()):
            if parent >= 0:
                self._children[parent].append(span)
        self._roots = rows[rows["event"] == int(Event.OFFERED)]

    def traces(self) -> Iterator[Trace]:
        """Yield the traces in order of arrival."""
        spans = self._kin.index_of(self._roots["span"])
        for row, root in zip(self._roots, spans.tolist(), strict=True):
            trace_id = trace_id_of(self._run_key, int(row["span"]))
            yield Trace(trace_id, int(row["request"]), tuple(self._walk(trace_id, root)))

    def _walk(self, trace_id: str, root: int) -> Iterator[Span]:
        """Yield the spans of a tree in pre-order."""
        todo = [(root, 0)]
        while todo:
            span, depth = todo.pop()
            yield self._span(trace_id, span, depth)
            children = sorted(
                self._children[span],
                key=lambda child: (self._facts[child].start, self._kin.sites[child], self._kin.numbers[child]),
            )
            todo += [(child, depth + 1) for child in reversed(children)]

    def _span(self, trace_id: str, span: int, depth: int) -> Span:
        kin, facts = self._kin, self._facts[span]
        parent, site, number = int(kin.parents[span]), int(kin.sites[span]), int(kin.numbers[span])
        service, operation = self._scenario.operations[int(kin.operations[span])]
        kind = self._kind(site)
        end, status = self._end(span, parent, kind, facts)
        queue = math.nan
        if not math.isnan(facts.arrived):
            queue = (facts.finished if math.isnan(facts.started) else facts.started) - facts.arrived
        connected = facts.denied if math.isnan(facts.sent) else facts.sent
        connected = end if math.isnan(connected) else connected
        return Span(
            trace_id=trace_id,
            span_id=f"{int(kin.keys[span]):016x}",
            parent_id="" if parent < 0 else f"{int(kin.keys[parent]):016x}",
            kind=kind,
            caller=CLIENT if parent < 0 else self._scenario.operations[int(kin.operations[parent])][0],
            service=service,
            operation=operation,
            site=site,
            attempt=number % _HEDGE_STRIDE,
            hedge=number // _HEDGE_STRIDE,
            replica=facts.replica,
            instance=self._fleet.name(facts.replica),
            start_s=facts.start,
            sent_s=math.nan if status in ("shed", "overflow") else facts.sent,
            arrived_s=facts.arrived,
            started_s=facts.started,
            finished_s=facts.finished,
            end_s=end,
            status=status,
            work_status=facts.work_status,
            pool_s=0.0 if math.isnan(facts.pooled) else connected - facts.pooled,
            queue_s=queue,
            lock_s=facts.locked,
            lag_s=0.0 if math.isnan(facts.lag_from) else connected - facts.lag_from,
            cache=facts.cache,
            depth=depth,
            points=tuple(facts.points),
        )

    def _kind(self, site: int) -> str:
        if site < 0:
            return "request"
        spec = self._scenario.sites[site].spec
        if isinstance(spec, PublishStep):
            return "message"
        return "lookup" if isinstance(spec, CachedStep) else "call"

    def _end(self, span: int, parent: int, kind: str, facts: _Facts) -> tuple[float, str]:
        """Return when an attempt was over for its caller, and how.

        The log has no row of an attempt that is abandoned because another member has succeeded, because its caller's
        work has ended, or because its message is skipped: it ends with that.
        """
        if not math.isnan(facts.end):
            return facts.end, facts.status
        if not math.isnan(facts.pooled) and facts.status == "pool":
            return facts.denied, facts.status
        ends: list[tuple[float, str]] = []
        if kind == "message":
            first = self._first_delivery(span)
            ends += [(point.time_s, "skipped") for point in first.points if point.name == "skipped"]
        elif parent >= 0:
            ends += [(t, "abandoned") for t in (*self._won(span), self._facts[parent].finished)]
        known = [end for end in ends if end[0] >= facts.start]
        return min(known, default=(math.nan, "unfinished"))

    def _won(self, span: int) -> list[float]:
        """Return when other members of the same attempt have succeeded."""
        return [
            self._facts[other].end
            for other in self._siblings(span)
            if other != span and self._facts[other].status == "ok"
        ]

    def _siblings(self, span: int) -> list[int]:
        """Return the members of the attempt that a span belongs to."""
        kin = self._kin
        site, attempt = kin.sites[span], kin.numbers[span] % _HEDGE_STRIDE
        of = self._children[int(kin.parents[span])]
        return [other for other in of if kin.sites[other] == site and kin.numbers[other] % _HEDGE_STRIDE == attempt]

    def _first_delivery(self, span: int) -> _Facts:
        kin = self._kin
        of = self._children[int(kin.parents[span])]
        first = next(other for other in of if kin.sites[other] == kin.sites[span] and kin.numbers[other] == 0)
        return self._facts[first]


def _facts_of(kin: Kinship, rows: Log) -> list[_Facts]:
    """Return what the rows say, by index of the span."""
    of = kin.index_of(rows["span"])
    order = np.argsort(of, kind="stable")
    columns: tuple[Any, ...] = (of, rows["time_s"], rows["event"], rows["aux"])
    found = [_Facts() for _ in range(kin.keys.size)]
    told = zip(*(column[order].tolist() for column in columns), strict=True)
    for span, group in groupby(told, key=lambda row: row[0]):
        found[span].read([row[1:] for row in group])
    return found
