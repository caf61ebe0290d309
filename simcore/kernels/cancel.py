"""Spans that stop before their end: killed with their replica, or cancelled by callers that have given up."""

import numpy as np

from simcore.codes import Event
from simcore.jit import njit
from simcore.kernels.calendar import leave
from simcore.kernels.flights import land, leave_flight
from simcore.kernels.locks import leave_section
from simcore.kernels.members import drop_calls
from simcore.kernels.replica import arm_cpu, fill_gap, pace_up, put_job, set_in_flight, set_queued, sync
from simcore.kernels.spans import (
    DELAYED,
    ENTERING,
    FREE,
    JOINED,
    LANDING,
    NOBODY,
    ON_CPU,
    OUT,
    QUEUED,
    RESERVED,
    WAITING,
    note,
    out_of_line,
    release,
)
from simcore.kernels.threads import pass_on
from simcore.layout import job_at, replica_at, span_at, tally_at

_CANCELLED = np.int64(Event.CANCELLED)
_ALL, _FAILED = np.int64(-1), np.int64(1)


@njit(internal=True)
def drop_waits(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Drop what a span waits for, but for the CPU and a thread, and let it out of its serial section."""
    span = span_at(lane, s)
    if span.state == RESERVED or span.state == DELAYED or span.state == ENTERING or span.state == LANDING:
        leave(lane, s)
    elif span.state == WAITING:
        drop_calls(plan, lane, s, _ALL, now)
    elif span.state == JOINED:
        leave_flight(lane, s)
    if replica_at(lane, span.replica).flights >= 0:
        land(lane, s, _ALL, _FAILED, now)
    if span.lock >= 0:
        leave_section(lane, s, now)


@njit(internal=True)
def _leave_queue(lane, s, now):  # type: ignore[no-untyped-def]
    """Take a span out of the queue for a thread."""
    r = replica_at(lane, span_at(lane, s).replica)
    r.q_head, r.q_tail = out_of_line(lane, s, r.q_head, r.q_tail)
    set_queued(r, r.queued - 1, now)


@njit(internal=True)
def _leave_cpu(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Take the job of a span off the CPU before its end."""
    at = span_at(lane, s).replica
    r = replica_at(lane, at)
    sync(r, now)
    first = at * lane.per_replica
    i = 0
    while job_at(lane, first + i).span != s:
        i += 1
    was_first = i == 0
    n = r.n_jobs - 1
    r.n_jobs = n
    if n == 0:
        r.v = 0.0
    last = job_at(lane, first + n)
    while i > 0:
        e = job_at(lane, first + ((i - 1) >> 1))
        if e.end < last.end or (e.end == last.end and e.key < last.key):
            break
        put_job(lane, first + i, e)
        i = (i - 1) >> 1
    fill_gap(lane, first, i, n)
    if pace_up(plan, lane, r, now) or was_first:
        arm_cpu(lane, at, now)


@njit(internal=True)
def on_cancel(plan, lane, s, key, now):  # type: ignore[no-untyped-def]
    """An abandoned attempt is told to stop, if its record is still its own."""
    span = span_at(lane, s)
    if span.state == FREE or span.key != key or span.parent != NOBODY:
        return
    note(lane, now, span.request, span.key, _CANCELLED, span.replica)
    if span.state == OUT:
        leave(lane, s)
        release(lane, s)
        return
    at = span.replica
    r = replica_at(lane, at)
    tally_at(lane, span.service).failed += 1
    threaded = span.state != QUEUED
    if span.state == ON_CPU:
        _leave_cpu(plan, lane, s, now)
    elif span.state == QUEUED:
        _leave_queue(lane, s, now)
    drop_waits(plan, lane, s, now)
    release(lane, s)
    set_in_flight(r, r.in_flight - 1, now)
    if threaded:
        pass_on(plan, lane, at, now)
