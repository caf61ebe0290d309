"""What stands between a span and its callees: deadlines, breakers, connection pools, retry budgets, lossy edges.

Calls that none of it concerns never come here (``SITE.plain``, ``LANE.plain``).
"""

import numpy as np

from simcore.codes import BORDER, BreakerState, Event, Kind, Param, Place, Purpose, ReplicaState, Status
from simcore.jit import njit
from simcore.kernels.calendar import enter, leave
from simcore.kernels.spans import DENIED, KEPT, NOBODY, POOLED, into_line, note, out_of_line
from simcore.kernels.topics import deliver
from simcore.layout import (
    breaker_at,
    budget_at,
    fleet_at,
    gate_at,
    mod_at,
    outcome_at,
    pool_at,
    replica_at,
    span_at,
    tally_at,
)
from simcore.samplers import integrate
from simcore.streams import draw_index, uniform

_CLOSED, _OPEN, _HALF_OPEN = (
    np.int64(BreakerState.CLOSED),
    np.int64(BreakerState.OPEN),
    np.int64(BreakerState.HALF_OPEN),
)
_DENIED_EV, _POOLED_EV, _BREAKER_EV, _LOST_EV = (
    np.int64(Event.DENIED),
    np.int64(Event.POOLED),
    np.int64(Event.BREAKER),
    np.int64(Event.LOST),
)
_BY_DEADLINE, _BY_BREAKER, _BY_POOL = np.int64(Status.DEADLINE), np.int64(Status.OPEN), np.int64(Status.POOL)
_REPLY, _POOL, _POOL_TIMEOUT = np.int64(Kind.REPLY), np.int64(Kind.POOL), np.int64(Kind.POOL_TIMEOUT)
_EDGE_DELAY, _LOSS_OUT, _LOSS_BACK = np.int64(Param.EDGE_DELAY), np.int64(Param.LOSS_OUT), np.int64(Param.LOSS_BACK)
_OUT_DRAW, _BACK_DRAW = np.int64(Purpose.LOSS_OUT), np.int64(Purpose.LOSS_BACK)
_PROCESS, _VERSION, _GONE = np.int64(Place.PROCESS), np.int64(Place.VERSION), np.int64(ReplicaState.GONE)

#: Ways of a message.
OUTWARD, HOMEWARD = np.arange(2)

_ONE, _MINUS_ONE = np.int64(1), np.int64(-1)


@njit(internal=True)
def deny(plan, lane, s, status, now):  # type: ignore[no-untyped-def]
    """Keep an attempt from being sent; its caller hears of it at once."""
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _DENIED_EV, status)
    tally_at(lane, gate_at(plan, span.site).caller).denied += 1
    span.status = status
    span.state = DENIED
    enter(lane, now, _REPLY, span.key, s)


@njit(internal=True)
def admit(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Let an attempt of a call through all gates; otherwise it is denied or waits. One that was kept a slot goes on.

    The delivery of a message passes none: it is sent at once, in its own way, and is not the caller's affair.
    """
    span = span_at(lane, s)
    if span.parent < NOBODY:
        deliver(plan, lane, s, now)
        return False
    kept = span.state == KEPT
    if kept:
        pool = pool_at(lane, span.pool)
        pool.reserved -= 1
        pool.used += 1
    else:
        span.replica = -1
    span.state = DENIED
    if now >= span.deadline:
        free_slot(plan, lane, s, now)
        deny(plan, lane, s, _BY_DEADLINE, now)
        return False
    if kept:
        return True
    if fleet_at(lane, span.service).shut or not _let_through(plan, lane, s, now):
        deny(plan, lane, s, _BY_BREAKER, now)
        return False
    return gate_at(plan, span.site).pool < 0 or _take_slot(plan, lane, s, now)


# --- pools


@njit(internal=True)
def _has_slot(lane, at, pool):  # type: ignore[no-untyped-def]
    r = replica_at(lane, at)
    return np.float64(pool.used + pool.reserved) < np.floor(pool.size * r.pool * fleet_at(lane, r.service).pool)


@njit(internal=True)
def _set_waiting(lane, at, pool, more, now):  # type: ignore[no-untyped-def]
    r = replica_at(lane, at)
    pool.waiting += more
    r.waiting_acc = integrate(r.waiting_acc, np.float64(r.waiting), r.waiting_since, now)
    r.waiting += more
    r.waiting_since = now


@njit(internal=True)
def _take_slot(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Give an attempt a connection, or a place in the line, or deny it."""
    span = span_at(lane, s)
    gate = gate_at(plan, span.site)
    at = span_at(lane, span.parent).replica
    number = at * plan.pools_wide + gate.pool
    pool = pool_at(lane, number)
    if pool.waiting == 0 and _has_slot(lane, at, pool):
        pool.used += 1
        span.pool = number
        return True
    if pool.waiting >= gate.line:
        deny(plan, lane, s, _BY_POOL, now)
        return False
    note(lane, now, span.request, span.key, _POOLED_EV, span.service)
    span.pool = number
    span.state = POOLED
    pool.head, pool.tail = into_line(lane, s, pool.head, pool.tail)
    _set_waiting(lane, at, pool, _ONE, now)
    enter(lane, now + gate.wait_s, _POOL_TIMEOUT, span.key, s)
    return False


@njit(internal=True)
def leave_line(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Take an attempt out of its pool's line; its calendar entry is the caller's affair."""
    span = span_at(lane, s)
    pool = pool_at(lane, span.pool)
    pool.head, pool.tail = out_of_line(lane, s, pool.head, pool.tail)
    _set_waiting(lane, span.pool // plan.pools_wide, pool, _MINUS_ONE, now)


@njit(internal=True)
def hand_on(plan, lane, number, now):  # type: ignore[no-untyped-def]
    """Keep the free slots of a pool for those who have waited longest."""
    pool = pool_at(lane, number)
    while pool.waiting > 0 and _has_slot(lane, number // plan.pools_wide, pool):
        s = pool.head
        leave_line(plan, lane, s, now)
        leave(lane, s)
        pool.reserved += 1
        span_at(lane, s).state = KEPT
        enter(lane, now, _POOL, span_at(lane, s).key, s)


@njit(internal=True)
def hand_on_all(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Hand on the slots of a replica whose pools may have grown."""
    for i in range(plan.pools_wide):
        hand_on(plan, lane, at * plan.pools_wide + i, now)


@njit(internal=True)
def free_slot(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Give back the slot that an attempt has, held or kept for it, if any."""
    span = span_at(lane, s)
    number = span.pool
    if number < 0:
        return
    span.pool = -1
    if span.state == KEPT:
        pool_at(lane, number).reserved -= 1
    else:
        pool_at(lane, number).used -= 1
    hand_on(plan, lane, number, now)


# --- breakers


@njit(internal=True)
def _note_breaker(lane, b, at, site, now):  # type: ignore[no-untyped-def]
    note(lane, now, _MINUS_ONE, at, _BREAKER_EV, 4 * site + b.state)


@njit(internal=True)
def _begin_epoch(b, state):  # type: ignore[no-untyped-def]
    b.state = state
    b.epoch += 1
    b.held = 0
    b.next = 0
    b.failures = 0
    b.passed = 0
    b.good = 0


@njit(internal=True)
def _let_through(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Ask the breaker of the calling replica and site; an attempt that passes notes the epoch."""
    span = span_at(lane, s)
    gate = gate_at(plan, span.site)
    if gate.breaker < 0:
        return True
    at = span_at(lane, span.parent).replica
    b = breaker_at(lane, at * plan.breakers_wide + gate.breaker)
    if b.state == _OPEN:
        if now < b.until:
            return False
        _begin_epoch(b, _HALF_OPEN)
        _note_breaker(lane, b, at, span.site, now)
    if b.state == _HALF_OPEN:
        if b.passed >= gate.probes:
            return False
        b.passed += 1
    span.epoch = b.epoch
    return True


@njit(internal=True)
def record_outcome(plan, lane, s, failed, now):  # type: ignore[no-untyped-def]
    """Tell the breaker how a member that was sent has ended."""
    span = span_at(lane, s)
    if span.epoch < 0:
        return
    epoch = span.epoch
    span.epoch = -1
    gate = gate_at(plan, span.site)
    at = span_at(lane, span.parent).replica
    number = at * plan.breakers_wide + gate.breaker
    b = breaker_at(lane, number)
    if epoch != b.epoch:
        return
    if b.state == _HALF_OPEN:
        opens = failed
        b.good += 1
        closes = b.good == gate.probes
    else:
        closes = False
        slot = outcome_at(lane, number * plan.window_wide + b.next)
        if b.held == gate.window:
            b.failures -= np.int64(slot.failed)
        else:
            b.held += 1
        slot.failed = 1 if failed else 0
        b.failures += 1 if failed else 0
        b.next = b.next + 1 if b.next + 1 < gate.window else 0
        opens = b.held >= gate.min_calls and np.float64(b.failures) >= gate.failure_rate * np.float64(b.held)
    if opens:
        b.until = now + gate.open_s
        _begin_epoch(b, _OPEN)
        _note_breaker(lane, b, at, span.site, now)
    elif closes:
        _begin_epoch(b, _CLOSED)
        _note_breaker(lane, b, at, span.site, now)


@njit(internal=True)
def give_place_back(plan, lane, s):  # type: ignore[no-untyped-def]
    """A member ends without an outcome: another probe may take its place in a half-open breaker."""
    span = span_at(lane, s)
    if span.epoch < 0:
        return
    at = span_at(lane, span.parent).replica
    b = breaker_at(lane, at * plan.breakers_wide + gate_at(plan, span.site).breaker)
    if b.epoch == span.epoch and b.state == _HALF_OPEN:
        b.passed -= 1
    span.epoch = -1


# --- retry budgets, and all that a replica has


@njit(internal=True)
def take_token(plan, lane, at, site, now):  # type: ignore[no-untyped-def]
    """Take a token of the retry budget of a replica and call site, if there is one."""
    gate = gate_at(plan, site)
    if gate.budget < 0:
        return True
    budget = budget_at(lane, at * plan.budgets_wide + gate.budget)
    budget.tokens = min(gate.burst, budget.tokens + (now - budget.since) * gate.rate_per_s)
    budget.since = now
    if budget.tokens < 1.0:
        return False
    budget.tokens -= 1.0
    return True


@njit(internal=True)
def reset_gates(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Start the breakers and budgets of a replica afresh, when it is made or killed; its pools are empty then."""
    service = replica_at(lane, at).service
    for site in range(plan.n_sites):
        gate = gate_at(plan, site)
        if gate.caller != service:
            continue
        if gate.breaker >= 0:
            _begin_epoch(breaker_at(lane, at * plan.breakers_wide + gate.breaker), _CLOSED)
        if gate.budget >= 0:
            budget_at(lane, at * plan.budgets_wide + gate.budget).tokens = gate.burst
            budget_at(lane, at * plan.budgets_wide + gate.budget).since = now
        if gate.pool >= 0:
            pool = pool_at(lane, at * plan.pools_wide + gate.pool)
            pool.size = gate.size
            pool.head = -1
            pool.tail = -1


# --- edges


@njit(internal=True)
def _on_edge(lane, mod, caller, callee):  # type: ignore[no-untyped-def]
    """Return whether a modulation of an edge is in force between two services."""
    if mod.begun == 0 or mod.over == 1 or mod.service != caller or mod.peer != callee:
        return False
    if mod.place == _VERSION:
        return mod.bad_from <= fleet_at(lane, callee).version <= mod.bad_to
    if mod.place != _PROCESS:
        return True
    at = fleet_at(lane, callee).first
    while at >= 0:
        r = replica_at(lane, at)
        if r.state != _GONE and r.born <= mod.since:
            return True
        at = r.next
    return False


@njit(internal=True)
def cross(plan, lane, s, way, latency, now):  # type: ignore[no-untyped-def]
    """Return the latency of a message as its edge makes it, -1 if the message is lost; topics lie on no edge."""
    span = span_at(lane, s)
    if span.parent < NOBODY:
        return latency
    caller = -1
    loss, more, factor = 0.0, 0.0, 1.0
    if span.site >= 0:
        caller = gate_at(plan, span.site).caller
        loss = gate_at(plan, span.site).loss
    if lane.edges:
        for i in range(lane.n_mods):
            mod = mod_at(lane, i)
            if mod.param < _EDGE_DELAY or mod.param > _LOSS_BACK or not _on_edge(lane, mod, caller, span.service):
                continue
            if mod.param == _EDGE_DELAY:
                factor = factor * mod.value
            elif mod.param == (_LOSS_OUT if way == OUTWARD else _LOSS_BACK):
                more = more + mod.value
    loss = loss + more
    draw = _OUT_DRAW if way == OUTWARD else _BACK_DRAW
    if loss > 0.0 and uniform(span.key, draw_index(BORDER, draw)) < loss:
        note(lane, now, span.request, span.key, _LOST_EV, way)
        return -1.0
    return latency * factor
