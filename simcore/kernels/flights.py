"""Coalesced misses: one span of a replica fetches a cache key, the others wait for it with their threads.

A flight is a span record of its own: ``parent`` is the leader, ``child`` and ``sibling`` are the ends of the line, and
``q_next`` is the replica's next flight. Who waits has its flight in ``child``.
"""

import numpy as np

from simcore.codes import Event, Kind
from simcore.jit import njit
from simcore.kernels.calendar import enter
from simcore.kernels.spans import FLIGHT, JOINED, LANDING, allocate, into_line, note, out_of_line, release
from simcore.layout import replica_at, span_at

_JOINED_EV, _FLIGHT = np.int64(Event.JOINED), np.int64(Kind.FLIGHT)
_NONE = np.int64(-1)


@njit(internal=True)
def board(lane, s, site, cache_key, now):  # type: ignore[no-untyped-def]
    """Let a span wait for another one that fetches the same key, or else lead; returns whether it leads."""
    span = span_at(lane, s)
    r = replica_at(lane, span.replica)
    f = r.flights
    while f >= 0 and (span_at(lane, f).site != site or span_at(lane, f).cache_key != cache_key):
        f = span_at(lane, f).q_next
    if f < 0:
        f = allocate(lane)
        flight = span_at(lane, f)
        flight.state = FLIGHT
        flight.parent = s
        flight.replica = span.replica
        flight.site = site
        flight.cache_key = cache_key
        flight.q_next = r.flights
        r.flights = f
        return True
    flight = span_at(lane, f)
    note(lane, now, span.request, span.key, _JOINED_EV, cache_key)
    span.state = JOINED
    span.child = f
    flight.child, flight.sibling = into_line(lane, s, flight.child, flight.sibling)
    return False


@njit(internal=True)
def leave_flight(lane, s):  # type: ignore[no-untyped-def]
    """Take a span out of the line of a flight."""
    flight = span_at(lane, span_at(lane, s).child)
    span_at(lane, s).child = _NONE
    flight.child, flight.sibling = out_of_line(lane, s, flight.child, flight.sibling)


@njit(internal=True)
def land(lane, s, site, failed, now):  # type: ignore[no-untyped-def]
    """End the flight of a call site that a span leads (-1: all that it leads); who waits goes on, or fails with it."""
    r = replica_at(lane, span_at(lane, s).replica)
    before = _NONE
    f = r.flights
    while f >= 0:
        flight = span_at(lane, f)
        following = flight.q_next
        if flight.parent != s or (site >= 0 and flight.site != site):
            before = f
            f = following
            continue
        if before < 0:
            r.flights = following
        else:
            span_at(lane, before).q_next = following
        while flight.child >= 0:
            waiting = flight.child
            leave_flight(lane, waiting)
            span_at(lane, waiting).state = LANDING
            span_at(lane, waiting).failing = failed
            enter(lane, now, _FLIGHT, span_at(lane, waiting).key, waiting)
        release(lane, f)
        f = following
