"""Span records of one run: states, the free list, the event log and the latencies of a window."""

import numpy as np

from simcore.jit import njit
from simcore.kernels.cache import MISS
from simcore.layout import Need, end_at, log_at, span_at
from simcore.streams import uniform

#: What the event loop has to do next.
NOTHING, WALK, FINISH, SEND, FAILED, ARRIVE, REPLY = np.arange(7)

#: Callers that are no spans: the client, nobody (the caller has given up), and from ``TOPICS`` downwards partitions:
#: partition ``p`` is ``TOPICS - p``, so whoever is below ``NOBODY`` is one.
CLIENT, NOBODY, TOPICS = -1, -2, -3

#: State of a record that is no span.
RING_END = -2

#: States of a span: first those of an attempt on its way, then those of a span at its replica from ``QUEUED`` to
#: ``ENTERING`` (a lock that it was handed), then those of an attempt that is not at any replica.
FREE, OUT, QUEUED, RESERVED, ON_CPU, DELAYED, WAITING, BLOCKED, ENTERING = -1, 0, 1, 2, 3, 4, 5, 6, 7
#: ... and to ``LANDING``: it waits for another one that fetches the same cache key; that one has it, or has failed.
JOINED, LANDING = 8, 9
#: ... on its way back; a retry or hedge that is due later; a branch to be sent in this event; in a pool's line; with a
#: connection kept for it; denied; lost on its way out.
BACK, UNSENT, READY, POOLED, KEPT, DENIED, LOST = 10, 11, 12, 13, 14, 15, 16
#: Records that are no attempts: a miss for which others wait; a request that a user has not sent yet.
FLIGHT, THINKING = 17, 18

#: What a control entry of a replica does.
RESTART, COME_UP, CRASH, OOM, DRAIN_END, GC_END = np.arange(6)

_SPANS, _ENDS = np.int64(Need.SPANS), np.int64(Need.ENDS)

#: Room for latencies that every event may rely on.
END_ROOM = 4


@njit(internal=True)
def _write(lane, time, request, span, event, aux):  # type: ignore[no-untyped-def]
    if request >= 0 and lane.log_share < 1.0 and uniform(lane.log_key, np.uint64(request)) >= lane.log_share:
        return
    row = log_at(lane, lane.n_log)
    row.time_s = time
    row.request = request
    row.span = np.uint64(span)
    row.event = event
    row.aux = aux
    lane.n_log += 1


@njit(inline=True, internal=True)
def note(lane, time, request, span, event, aux):  # type: ignore[no-untyped-def]
    """Write a row of the event log, if there is one."""
    if lane.log_on:
        _write(lane, time, request, span, event, aux)


@njit(inline=True, internal=True)
def allocate(lane):  # type: ignore[no-untyped-def]
    """Take a span record; the loop has seen to it that there is one."""
    s = lane.free_span
    span = span_at(lane, s)
    lane.free_span = span.q_next
    lane.n_free -= 1
    if lane.n_free < lane.span_room:
        lane.need |= _SPANS
    span.heap_at = -1
    span.ring = -1
    span.child = -1
    span.answer = MISS
    span.counted = 0
    return s


@njit(inline=True, internal=True)
def release(lane, s):  # type: ignore[no-untyped-def]
    """Give a span record back."""
    span_at(lane, s).state = FREE
    span_at(lane, s).q_next = lane.free_span
    lane.free_span = s
    lane.n_free += 1


@njit(inline=True, internal=True)
def into_line(lane, s, head, tail):  # type: ignore[no-untyped-def]
    """Put a span at the end of a line and return the line's head and tail; -1 each of one that is empty."""
    span_at(lane, s).q_prev = tail
    span_at(lane, s).q_next = -1
    if tail < 0:
        return s, s
    span_at(lane, tail).q_next = s
    return head, s


@njit(inline=True, internal=True)
def out_of_line(lane, s, head, tail):  # type: ignore[no-untyped-def]
    """Take a span out of a line, wherever it is, and return the line's head and tail."""
    before, after = span_at(lane, s).q_prev, span_at(lane, s).q_next
    if before < 0:
        head = after
    else:
        span_at(lane, before).q_next = after
    if after < 0:
        tail = before
    else:
        span_at(lane, after).q_prev = before
    return head, tail


@njit(inline=True, internal=True)
def record_end(lane, service, latency_s, failed):  # type: ignore[no-untyped-def]
    """Add a latency to the present window."""
    end = end_at(lane, lane.n_ends)
    end.latency_s = latency_s
    end.service = service
    end.failed = failed
    lane.n_ends += 1
    if lane.n_ends + END_ROOM > lane.end_cap:
        lane.need |= _ENDS
