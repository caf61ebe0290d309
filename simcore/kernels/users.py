"""Requests at the system's border: recorded rates, who is let in, and users who wait for an answer and think."""

import numpy as np

from simcore.codes import BORDER, Event, Kind, Purpose
from simcore.jit import njit
from simcore.kernels.calendar import enter
from simcore.kernels.spans import CLIENT, NOTHING, SEND, THINKING, allocate, note
from simcore.layout import class_at, point_at, span_at, stream_at, tally_at
from simcore.samplers import draw
from simcore.streams import draw_index, mix, uniform

_OFFERED, _SHED = np.int64(Event.OFFERED), np.int64(Event.SHED)
_CHOICE, _ADMIT, _ARRIVAL = np.int64(Purpose.CHOICE), np.int64(Purpose.ADMIT), np.int64(Purpose.ARRIVAL)
_ROOT = np.int64(Kind.ROOT)

#: Numbers of requests: ``(FIRST_USER + user) << STREAM_BITS | n`` for users, ``stream << STREAM_BITS | n`` otherwise.
STREAM_BITS, _FIRST_USER = np.int64(40), np.int64(2**20)
_USER_KEYS = np.int64(2**32)


@njit(internal=True)
def recorded_factor(plan, t):  # type: ignore[no-untyped-def]
    """Return the factor of the last point of the recorded series that is not after t, or of its first point."""
    low, high = 0, plan.n_points
    while high - low > 1:
        mid = (low + high) >> 1
        if point_at(plan, mid).time <= t:
            low = mid
        else:
            high = mid
    return point_at(plan, low).factor


@njit(inline=True, internal=True)
def let_in(plan, lane, root, request, now):  # type: ignore[no-untyped-def]
    """Count a request as offered and return its entry, -1 if it is shed."""
    kind = 0
    last = plan.n_classes - 1
    if last > 0:
        u = uniform(root, draw_index(BORDER, _CHOICE))
        while kind < last and u >= class_at(plan, kind).cumulative:
            kind += 1
    note(lane, now, request, root, _OFFERED, class_at(plan, kind).operation)
    tally = tally_at(lane, plan.n_services)
    tally.arrivals += 1
    if lane.admitted < 1.0 and uniform(root, draw_index(BORDER, _ADMIT)) >= lane.admitted:
        note(lane, now, request, root, _SHED, class_at(plan, kind).operation)
        tally.rejected += 1
        tally.bad += 1
        return -1
    return kind


@njit(inline=True, internal=True)
def become_root(plan, lane, s, kind, now):  # type: ignore[no-untyped-def]
    """Make a record with a key and a request the root attempt of an entry."""
    entry = class_at(plan, kind)
    span = span_at(lane, s)
    span.priority = entry.priority
    span.parent = CLIENT
    span.site = -1
    span.attempt = 0
    span.service = entry.service
    span.pc = entry.first
    span.deadline = now + plan.deadline_s
    span.cancellable = entry.cancellable


@njit(internal=True)
def _think(plan, lane, s, request, now):  # type: ignore[no-untyped-def]
    """Enter a request of a user, to be sent once the user has thought."""
    span = span_at(lane, s)
    user = (request >> STREAM_BITS) - _FIRST_USER
    n = request & ((np.int64(1) << STREAM_BITS) - 1)
    span.key = mix(mix(stream_at(lane, 0).key, np.uint64(_USER_KEYS + user)), np.uint64(n))
    span.request = request
    span.replica = -1
    span.parent = CLIENT
    span.state = THINKING
    wait = draw(plan.think_dist, plan.think_mean, plan.think_shape, span.key, BORDER, _ARRIVAL)
    enter(lane, now + wait, _ROOT, span.key, s)


@njit(internal=True)
def begin_users(plan, lane):  # type: ignore[no-untyped-def]
    """Enter every user's first request."""
    for user in range(plan.n_users):
        _think(plan, lane, allocate(lane), (_FIRST_USER + user) << STREAM_BITS, plan.start_s)


@njit(internal=True)
def on_user(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A user has thought: the request is sent, or shed."""
    request = span_at(lane, s).request
    kind = let_in(plan, lane, span_at(lane, s).key, request, now)
    if kind < 0:
        _think(plan, lane, s, request + 1, now)
        return NOTHING, s
    become_root(plan, lane, s, kind, now)
    return SEND, s


@njit(internal=True)
def think_again(plan, lane, request, now):  # type: ignore[no-untyped-def]
    """A request has been answered or given up: if a user sent it, that one thinks about the next."""
    if request >> STREAM_BITS >= _FIRST_USER:
        _think(plan, lane, allocate(lane), request + 1, now)


@njit(inline=True, internal=True)
def next_candidate(lane, stream):  # type: ignore[no-untyped-def]
    """Enter the next candidate of a stream; number ``n`` is the one that comes."""
    s = stream_at(lane, stream)
    s.root = mix(s.key, np.uint64(s.n))
    if s.gap < 0.0:
        s.time = s.first_s + np.float64(s.n + 1) * -s.gap
    else:
        s.time = s.time + draw(1, s.gap, 0.0, s.root, BORDER, _ARRIVAL)
