"""The attempts of a call that is more than plain: hedges beside them, what a retry needs, the join of branches.

A span that waits holds a list of its attempts and retries (``child``, ``sibling``), of all branches together. The
hedge that an attempt may get has a record from the start, which holds its calendar entry; it is none of the list.
"""

import numpy as np

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.jit import njit
from simcore.kernels.cache import HIT, POISONED
from simcore.kernels.calendar import control_is_short, disarm, enter, enter_control, leave
from simcore.kernels.gates import OUTWARD, cross, free_slot, give_place_back, leave_line, record_outcome, take_token
from simcore.kernels.spans import (
    BACK,
    DENIED,
    FINISH,
    KEPT,
    LOST,
    NOBODY,
    NOTHING,
    POOLED,
    READY,
    SEND,
    UNSENT,
    WAITING,
    WALK,
    allocate,
    note,
    release,
)
from simcore.kernels.topics import settle
from simcore.layout import Need, fleet_at, gate_at, replica_at, site_at, span_at, step_at, tally_at
from simcore.samplers import backoff
from simcore.streams import child_index, draw_index, mix, uniform

_BACKOFF, _GAVE_UP, _DENIED_EV = np.int64(Event.BACKOFF), np.int64(Event.GAVE_UP), np.int64(Event.DENIED)
_OK, _ERROR, _DEPENDENCY = np.int64(Status.OK), np.int64(Status.ERROR), np.int64(Status.DEPENDENCY)
_BY_POOL, _BY_TIMEOUT = np.int64(Status.POOL), np.int64(Status.TIMEOUT)
_ARRIVE, _RETRY, _HEDGE, _CANCEL = (
    np.int64(Kind.ARRIVE),
    np.int64(Kind.RETRY),
    np.int64(Kind.HEDGE),
    np.int64(Kind.CANCEL),
)
_CHOICE, _JITTER, _RETRY_DRAW = np.int64(Purpose.CHOICE), np.int64(Purpose.JITTER), np.int64(Purpose.RETRY)
_CONTROL = np.int64(Need.CONTROL)

_ALL, _FIRST, _NONE, _SLACK = np.int64(-1), np.int64(0), np.int64(0), np.int64(4)
_FAILED, _DONE = np.bool_(True), np.bool_(False)

#: Attempt numbers: ``attempt + HEDGED * hedge``.
HEDGED = np.int64(32)


@njit(inline=True, internal=True)
def new_child(plan, lane, parent, site, attempt):  # type: ignore[no-untyped-def]
    """Return a new attempt of a call of ``parent``, the only one."""
    s = allocate(lane)
    span = span_at(lane, s)
    caller = span_at(lane, parent)
    span.key = mix(caller.key, child_index(site, attempt))
    span.request = caller.request
    span.priority = caller.priority
    span.parent = parent
    span.site = site
    span.attempt = attempt
    span.service = site_at(plan, site).service
    span.pc = site_at(plan, site).first
    if not lane.plain:
        span.deadline = caller.deadline
    caller.child = s
    caller.state = WAITING
    return s


@njit(internal=True)
def _new_member(plan, lane, parent, site, attempt, state):  # type: ignore[no-untyped-def]
    """Return a new attempt of a call of ``parent``, the first of its list."""
    first = span_at(lane, parent).child
    s = new_child(plan, lane, parent, site, attempt)
    span_at(lane, s).sibling = first
    span_at(lane, s).state = state
    return s


@njit(internal=True)
def _unlink(lane, s):  # type: ignore[no-untyped-def]
    """Take an attempt out of the list of its caller."""
    span = span_at(lane, s)
    caller = span_at(lane, span.parent)
    if caller.child == s:
        caller.child = span.sibling
    else:
        c = caller.child
        while span_at(lane, c).sibling != s:
            c = span_at(lane, c).sibling
        span_at(lane, c).sibling = span.sibling
    span.sibling = -1


# --- sending


@njit(internal=True)
def fork(plan, lane, s):  # type: ignore[no-untyped-def]
    """Make the first attempts of the branches of a span's parallel step; returns the first of them or -1."""
    span = span_at(lane, s)
    step = step_at(plan, span.pc)
    span.failing = 0
    for i in range(gate_at(plan, step.site).branches - 1, -1, -1):
        call = site_at(plan, step.site + i)
        if lane.degraded and not call.required and fleet_at(lane, span.service).degraded:
            continue
        p = call.probability
        if p >= 1.0 or uniform(span.key, draw_index(step.number + 1 + i, _CHOICE)) < p:
            _new_member(plan, lane, s, step.site + i, _FIRST, READY)
    return span.child


@njit(internal=True)
def next_branch(lane, s):  # type: ignore[no-untyped-def]
    """Return what is to be done when an attempt has been sent or denied: send the next branch, if there is one."""
    following = span_at(lane, s).sibling
    if following >= 0 and span_at(lane, following).state == READY:
        return SEND, following
    return NOTHING, s


@njit(internal=True)
def pursue(plan, lane, s, due, now):  # type: ignore[no-untyped-def]
    """Enter the hedge of an attempt that is sent; returns when its caller gives up, at the deadline at the latest."""
    span = span_at(lane, s)
    if span.site >= 0 and span.attempt // HEDGED < gate_at(plan, span.site).hedges:
        hedge = _new_member(plan, lane, span.parent, span.site, span.attempt + HEDGED, UNSENT)
        _unlink(lane, hedge)
        span_at(lane, hedge).cache_key = span.cache_key
        span_at(lane, hedge).child = s
        span.hedge = hedge
        enter(lane, now + gate_at(plan, span.site).hedge_after_s, _HEDGE, span.key, hedge)
    return min(due, max(now, span.deadline))


@njit(internal=True)
def depart(plan, lane, s, out, now):  # type: ignore[no-untyped-def]
    """Put an attempt on the wire, where it may be lost."""
    span = span_at(lane, s)
    out = cross(plan, lane, s, OUTWARD, out, now)
    if out < 0.0:
        span.state = LOST
    else:
        enter(lane, now + out, _ARRIVE, span.key, s)
    return next_branch(lane, s)


@njit(internal=True)
def on_hedge(lane, s):  # type: ignore[no-untyped-def]
    """A member is slow: its hedge is one of the members now."""
    hedge = span_at(lane, s)
    span_at(lane, hedge.child).hedge = -1
    hedge.child = -1
    hedge.sibling = span_at(lane, hedge.parent).child
    span_at(lane, hedge.parent).child = s


# --- giving up


@njit(internal=True)
def _cancel_hedge(lane, s):  # type: ignore[no-untyped-def]
    hedge = span_at(lane, s).hedge
    if hedge >= 0:
        span_at(lane, s).hedge = -1
        leave(lane, hedge)
        release(lane, hedge)


@njit(internal=True)
def abandon(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Leave an attempt, in no list any more, to itself: it is dropped, cancelled, or goes on as zombie work."""
    span = span_at(lane, s)
    state = span.state
    disarm(lane, s)
    _cancel_hedge(lane, s)
    if state == POOLED:
        leave_line(plan, lane, s, now)
        span.pool = -1
    free_slot(plan, lane, s, now)
    give_place_back(plan, lane, s)
    if state == UNSENT or state == POOLED or state == KEPT or state == DENIED:
        leave(lane, s)
        release(lane, s)
        return
    if span.replica >= 0:
        replica_at(lane, span.replica).outstanding -= 1
    if state == BACK or state == LOST:
        # without an entry its message is lost
        if span.heap_at >= 0:
            leave(lane, s)
        release(lane, s)
        return
    span.parent = NOBODY
    if gate_at(plan, span.site).cancellable if span.site >= 0 else span.cancellable:
        enter_control(lane, now, _CANCEL, span.key, span.attempt, _NONE, s, _NONE)
        if control_is_short(lane, _SLACK):
            lane.need |= _CONTROL


@njit(internal=True)
def drop_calls(plan, lane, s, site, now):  # type: ignore[no-untyped-def]
    """Abandon what is under way for a call site of a span (-1: for all), retries too."""
    c = span_at(lane, s).child
    while c >= 0:
        following = span_at(lane, c).sibling
        if site < 0 or span_at(lane, c).site == site:
            _unlink(lane, c)
            abandon(plan, lane, c, now)
        c = following


# --- what becomes of a member, a call, a step


@njit(internal=True)
def _join(plan, lane, s, site, failed, now):  # type: ignore[no-untyped-def]
    """A branch is done; ``failed``: it was required. Returns what the span has to do."""
    span = span_at(lane, s)
    if failed:
        span.failing = 1
        if gate_at(plan, site).fail_fast:
            drop_calls(plan, lane, s, _ALL, now)
    if span.child >= 0:
        return NOTHING, s, _OK
    if span.failing:
        return FINISH, s, _DEPENDENCY
    span.pc += 1
    return WALK, s, _OK


@njit(internal=True)
def _call_failed(plan, lane, s, site, now):  # type: ignore[no-untyped-def]
    call = site_at(plan, site)
    required = call.required == 1 and call.cached == 0
    if gate_at(plan, site).branch:
        return _join(plan, lane, s, site, required, now)
    if required:
        return FINISH, s, _DEPENDENCY
    span_at(lane, s).pc += 1
    return WALK, s, _OK


@njit(internal=True)
def _member_failed(plan, lane, s, site, member, cache_key, now):  # type: ignore[no-untyped-def]
    """A member of a span's call has failed, and is no more; returns what the span has to do."""
    span = span_at(lane, s)
    c = span.child
    while c >= 0:
        if span_at(lane, c).site == site:
            return NOTHING, s, _OK
        c = span_at(lane, c).sibling
    attempt = member % HEDGED
    call = site_at(plan, site)
    if attempt >= call.retries:
        return _call_failed(plan, lane, s, site, now)
    key = mix(span.key, child_index(site, attempt))
    u = uniform(key, draw_index(BORDER, _JITTER))
    wait = backoff(call.backoff_s, call.backoff_limit_s, call.jitter, attempt, u)
    share = fleet_at(lane, span.service).retry
    if (
        now + wait < span.deadline
        and (share >= 1.0 or uniform(key, draw_index(BORDER, _RETRY_DRAW)) < share)
        and take_token(plan, lane, span.replica, site, now)
    ):
        note(lane, now, span.request, key, _BACKOFF, attempt)
        again = _new_member(plan, lane, s, site, attempt + 1, UNSENT)
        span_at(lane, again).cache_key = cache_key
        enter(lane, now + wait, _RETRY, span_at(lane, again).key, again)
        return NOTHING, s, _OK
    note(lane, now, span.request, key, _GAVE_UP, attempt)
    return _call_failed(plan, lane, s, site, now)


@njit(internal=True)
def replied(plan, lane, s, status, now):  # type: ignore[no-untyped-def]
    """The reply to a member has reached its caller; returns what the caller has to do."""
    span = span_at(lane, s)
    caller, site, member, cache_key, answer = span.parent, span.site, span.attempt, span.cache_key, span.answer
    if caller < NOBODY:
        key = span.key
        release(lane, s)
        settle(plan, lane, caller, site, member, key, status, now)
        return NOTHING, s, _OK
    _cancel_hedge(lane, s)
    if span.state == DENIED:
        give_place_back(plan, lane, s)
    else:
        record_outcome(plan, lane, s, status != _OK, now)
    free_slot(plan, lane, s, now)
    _unlink(lane, s)
    release(lane, s)
    if status != _OK:
        return _member_failed(plan, lane, caller, site, member, cache_key, now)
    drop_calls(plan, lane, caller, site, now)
    if gate_at(plan, site).branch:
        return _join(plan, lane, caller, site, _DONE, now)
    if answer == POISONED:
        return FINISH, caller, _ERROR
    pc = span_at(lane, caller).pc
    span_at(lane, caller).pc = step_at(plan, pc).after if answer == HIT else pc + 1
    return WALK, caller, _OK


@njit(internal=True)
def timed_out(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """The caller of a member gives up on it; returns what the caller has to do."""
    span = span_at(lane, s)
    caller, site, member, cache_key = span.parent, span.site, span.attempt, span.cache_key
    if caller < NOBODY:
        key = span.key
        abandon(plan, lane, s, now)
        settle(plan, lane, caller, site, member, key, _BY_TIMEOUT, now)
        return NOTHING, s, _OK
    record_outcome(plan, lane, s, _FAILED, now)
    _unlink(lane, s)
    abandon(plan, lane, s, now)
    return _member_failed(plan, lane, caller, site, member, cache_key, now)


@njit(internal=True)
def pool_timed_out(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A member has waited too long for a connection; returns what the caller has to do."""
    span = span_at(lane, s)
    caller, site, member, cache_key = span.parent, span.site, span.attempt, span.cache_key
    leave_line(plan, lane, s, now)
    span.pool = -1
    note(lane, now, span.request, span.key, _DENIED_EV, _BY_POOL)
    tally_at(lane, gate_at(plan, site).caller).denied += 1
    give_place_back(plan, lane, s)
    _unlink(lane, s)
    release(lane, s)
    return _member_failed(plan, lane, caller, site, member, cache_key, now)
