"""The threads of a replica: who gets the next one, who is thrown out of the queue, and answers to those who are."""

import numpy as np

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.jit import njit
from simcore.kernels.calendar import enter
from simcore.kernels.gates import HOMEWARD, cross
from simcore.kernels.queues import take_off, too_late
from simcore.kernels.replica import set_in_flight
from simcore.kernels.spans import BACK, NOBODY, RESERVED, note, release
from simcore.layout import NEVER, replica_at, site_at, span_at, tally_at
from simcore.samplers import draw

_DROPPED, _REJECTED = np.int64(Event.DROPPED), np.int64(Status.REJECTED)
_REPLY, _GRANT, _BACK = np.int64(Kind.REPLY), np.int64(Kind.GRANT), np.int64(Purpose.LATENCY_BACK)


@njit(inline=True, internal=True)
def put_back(plan, lane, s, status, now):  # type: ignore[no-untyped-def]
    """Give a span the status of its answer and return when that reaches the caller, ``NEVER`` if it is lost."""
    span = span_at(lane, s)
    span.status = status
    span.state = BACK
    plain = lane.plain
    if span.site >= 0:
        call = site_at(plan, span.site)
        plain &= call.plain
        dist, mean, shape = call.net_dist, call.net_mean, call.net_shape
    else:
        dist, mean, shape = plan.net_dist, plan.net_mean, plan.net_shape
    back = draw(dist, mean, shape, span.key, BORDER, _BACK) * replica_at(lane, span.replica).network
    if not plain:
        back = cross(plan, lane, s, HOMEWARD, back, now)
        if back < 0.0:
            return NEVER
    return now + back


@njit(internal=True)
def drop(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Throw out a span that was taken off its queue."""
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _DROPPED, span.replica)
    r = replica_at(lane, span.replica)
    set_in_flight(r, r.in_flight - 1, now)
    tally_at(lane, span.service).rejected += 1
    if span.parent == NOBODY:
        release(lane, s)
        return
    time = put_back(plan, lane, s, _REJECTED, now)
    if time < NEVER:
        enter(lane, time, _REPLY, span.key, s)


@njit(internal=True)
def pass_on(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Hand a thread that has become free to a queued span, or free it."""
    r = replica_at(lane, at)
    while r.q_head >= 0:
        s = take_off(plan, lane, at, now)
        if too_late(plan, lane, s, at, now):
            drop(plan, lane, s, now)
            continue
        span_at(lane, s).state = RESERVED
        enter(lane, now, _GRANT, span_at(lane, s).key, s)
        return
    r.threads -= 1
