"""Requests of one run: attempts, threads, replies, time-outs and retries.

Every routine that may have to go on with another span returns what is to be done next as ``(todo, span, status)``; the
event loop does it at once, so the routines need not call one another.
"""

import numpy as np

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.cache import HIT, MISS, POISONED
from simcore.kernels.calendar import alone, arm, disarm, enter, leave
from simcore.kernels.collector import litter
from simcore.kernels.copies import drawn_holder
from simcore.kernels.flights import land
from simcore.kernels.gates import admit
from simcore.kernels.locks import leave_section
from simcore.kernels.members import abandon, depart, new_child, next_branch, pursue, replied, timed_out
from simcore.kernels.queues import sheds
from simcore.kernels.replica import DRAINING, UP, enter_replica, next_in_queue, pick, queue_up, set_in_flight
from simcore.kernels.spans import (
    ARRIVE,
    BACK,
    CLIENT,
    FAILED,
    FINISH,
    NOBODY,
    NOTHING,
    OOM,
    OUT,
    QUEUED,
    REPLY,
    RESERVED,
    UNSENT,
    WALK,
    note,
    record_end,
    release,
)
from simcore.kernels.threads import pass_on, put_back
from simcore.kernels.users import think_again
from simcore.layout import NEVER, replica_at, service_at, site_at, span_at, step_at, tally_at
from simcore.samplers import backoff, draw
from simcore.streams import draw_index, uniform

_SENT, _ARRIVED, _REJECTED_EV, _REFUSED_EV = (
    np.int64(Event.SENT),
    np.int64(Event.ARRIVED),
    np.int64(Event.REJECTED),
    np.int64(Event.REFUSED),
)
_STARTED, _HIT_EV, _MISS_EV = np.int64(Event.STARTED), np.int64(Event.HIT), np.int64(Event.MISS)
_FINISHED, _REPLIED, _TIMED_OUT, _BACKOFF = (
    np.int64(Event.FINISHED),
    np.int64(Event.REPLIED),
    np.int64(Event.TIMED_OUT),
    np.int64(Event.BACKOFF),
)
_OK, _ERROR, _DEPENDENCY = np.int64(Status.OK), np.int64(Status.ERROR), np.int64(Status.DEPENDENCY)
_REJECTED, _REFUSED, _UNAVAILABLE = np.int64(Status.REJECTED), np.int64(Status.REFUSED), np.int64(Status.UNAVAILABLE)
_TIMEOUT_ST, _DEADLINE = np.int64(Status.TIMEOUT), np.int64(Status.DEADLINE)
_REPLY, _GRANT, _ARRIVE = np.int64(Kind.REPLY), np.int64(Kind.GRANT), np.int64(Kind.ARRIVE)
_RETRY = np.int64(Kind.RETRY)
_OUT = np.int64(Purpose.LATENCY_OUT)
_ERROR_DRAW, _JITTER = np.int64(Purpose.ERROR), np.int64(Purpose.JITTER)
_ALL, _FAILED = np.int64(-1), np.int64(1)


@njit(inline=True, internal=True)
def send(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Send an attempt: choose a replica, arm the timer, put it on the wire. Returns ARRIVE if it is there already.

    A call that is not plain passes its gates first; where it is one of several branches, the next one is to follow.
    """
    span = span_at(lane, s)
    site = span.site
    service = span.service
    plain = lane.plain
    if site >= 0:
        call = site_at(plan, site)
        plain &= call.plain
        if not plain and not admit(plan, lane, s, now):
            return next_branch(lane, s)
        if call.cached:
            at = drawn_holder(plan, lane, s) if call.replicated else cache.owner(lane, service, span.cache_key)
        else:
            at = pick(plan, lane, service, span.key)
        row = service
        timeout = call.timeout_s * replica_at(lane, span_at(lane, span.parent).replica).timeout
        ring = call.ring
        dist, mean, shape = call.net_dist, call.net_mean, call.net_shape
    else:
        at = pick(plan, lane, service, span.key)
        row = plan.n_services
        timeout = plan.client_timeout_s
        ring = 0
        dist, mean, shape = plan.net_dist, plan.net_mean, plan.net_shape
    note(lane, now, span.request, span.key, _SENT, at)
    tally_at(lane, row).attempts += 1
    if span.attempt > 0:
        tally_at(lane, service).retries += 1
    span.replica = at
    span.sent = now
    due = now + timeout
    if not plain:
        due = pursue(plan, lane, s, due, now)
    arm(lane, ring, s, due)
    if at < 0:
        tally_at(lane, service).failed += 1
        span.status = _UNAVAILABLE
        span.state = BACK
        enter(lane, now, _REPLY, span.key, s)
        return next_branch(lane, s)
    replica = replica_at(lane, at)
    replica.outstanding += 1
    span.state = OUT
    out = draw(dist, mean, shape, span.key, BORDER, _OUT) * replica.network
    if not plain:
        return depart(plan, lane, s, out, now)
    time = now + out
    if time == now and alone(lane):
        return ARRIVE, s
    enter(lane, time, _ARRIVE, span.key, s)
    return NOTHING, s


@njit(inline=True, internal=True)
def reply(plan, lane, s, status, now, at_once):  # type: ignore[no-untyped-def]
    """Put the answer of a span on the wire, or free it if nobody waits; the last thing that an event does.

    ``at_once`` says whether a reply that takes no time would be the next to run.
    """
    span = span_at(lane, s)
    if span.parent == NOBODY:
        release(lane, s)
        return NOTHING
    time = put_back(plan, lane, s, status, now)
    if time == now and at_once:
        return REPLY
    if time < NEVER:
        enter(lane, time, _REPLY, span.key, s)
    return NOTHING


@njit(inline=True, internal=True)
def check_memory(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Enter an out-of-memory kill at this instant if the replica is above its limit."""
    r = replica_at(lane, at)
    service = service_at(plan, r.service)
    if service.base_bytes + service.per_span_bytes * r.in_flight + r.leaked <= service.limit_bytes or r.oom:
        return
    r.oom = 1
    enter_replica(lane, now, at, OOM)


@njit(inline=True, internal=True)
def start(lane, s, now):  # type: ignore[no-untyped-def]
    """A span has its thread: it walks its program unless it fails by itself."""
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _STARTED, span.replica)
    if not lane.plain and now >= span.deadline:
        return FINISH, s, _DEADLINE
    ok = replica_at(lane, span.replica).ok
    if ok < 1.0 and uniform(span.key, draw_index(BORDER, _ERROR_DRAW)) >= ok:
        return FINISH, s, _ERROR
    return WALK, s, _OK


@njit(inline=True, internal=True)
def arrive(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A span reaches its replica: it starts, queues, is rejected or finds nobody there."""
    span = span_at(lane, s)
    at = span.replica
    r = replica_at(lane, at)
    if r.state != UP and r.state != DRAINING:
        note(lane, now, span.request, span.key, _REFUSED_EV, at)
        tally_at(lane, span.service).failed += 1
        return reply(plan, lane, s, _REFUSED, now, alone(lane)), s, _OK
    note(lane, now, span.request, span.key, _ARRIVED, at)
    tally_at(lane, span.service).arrivals += 1
    span.arrived = now
    if r.threads < service_at(plan, span.service).threads:
        r.threads += 1
        set_in_flight(r, r.in_flight + 1, now)
        check_memory(plan, lane, at, now)
        return start(lane, s, now)
    if r.queued < service_at(plan, span.service).queue and (
        service_at(plan, span.service).plain or not sheds(plan, lane, s, at)
    ):
        span.state = QUEUED
        queue_up(lane, at, s, now)
        set_in_flight(r, r.in_flight + 1, now)
        check_memory(plan, lane, at, now)
        return NOTHING, s, _OK
    note(lane, now, span.request, span.key, _REJECTED_EV, at)
    tally_at(lane, span.service).rejected += 1
    return reply(plan, lane, s, _REJECTED, now, alone(lane)), s, _OK


@njit(inline=True, internal=True)
def finish(plan, lane, s, status, now):  # type: ignore[no-untyped-def]
    """A span ends: look up, record, give the thread on, answer."""
    span = span_at(lane, s)
    at = span.replica
    r = replica_at(lane, at)
    if status == _OK and span.site >= 0 and site_at(plan, span.site).cached:
        span.answer = cache.lookup(lane, r.shard, span.cache_key, now)
        if span.answer == MISS:
            note(lane, now, span.request, span.key, _MISS_EV, span.cache_key)
            tally_at(lane, span.service).misses += 1
        else:
            note(lane, now, span.request, span.key, _HIT_EV, span.cache_key)
            tally_at(lane, span.service).hits += 1
    note(lane, now, span.request, span.key, _FINISHED, status)
    latency = now - span.arrived
    record_end(lane, span.service, latency, 0 if status == _OK else 1)
    r.latency_sum += latency
    r.finished += 1
    set_in_flight(r, r.in_flight - 1, now)
    r.leaked += r.leak
    plain = service_at(plan, r.service).plain
    if not plain:
        litter(plan, lane, at, now)
    check_memory(plan, lane, at, now)
    # what follows for this instant comes after the reply
    at_once = alone(lane)
    if status != _OK and r.flights >= 0:
        land(lane, s, _ALL, _FAILED, now)
    if plan.n_locks > 0 and span.lock >= 0:
        leave_section(lane, s, now)
    if not plain:
        pass_on(plan, lane, at, now)
        # but not the replies to those who were thrown out of the queue
        at_once = alone(lane)
    elif r.q_head >= 0:
        waiting = next_in_queue(lane, at, now)
        span_at(lane, waiting).state = RESERVED
        enter(lane, now, _GRANT, span_at(lane, waiting).key, waiting)
    else:
        r.threads -= 1
    return reply(plan, lane, s, status, now, at_once)


@njit(inline=True, internal=True)
def settle_root(plan, lane, s, status, now):  # type: ignore[no-untyped-def]
    """Account for a root that was answered or given up by its client."""
    span = span_at(lane, s)
    tally = tally_at(lane, plan.n_services)
    if status == _TIMEOUT_ST:
        tally.timeouts += 1
        record_end(lane, plan.n_services, plan.client_timeout_s, 0)
    else:
        if status != _OK:
            tally.errors += 1
        record_end(lane, plan.n_services, now - span.sent, 0 if status == _OK else 1)
        if status == _OK and now <= span.sent + plan.latency_s:
            tally.good += 1
            return
    if span.counted == 0:
        span.counted = 1
        tally.bad += 1


@njit(inline=True, internal=True)
def on_reply(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A reply reaches its caller."""
    span = span_at(lane, s)
    status = span.status
    note(lane, now, span.request, span.key, _REPLIED, status)
    disarm(lane, s)
    if span.replica >= 0:
        replica_at(lane, span.replica).outstanding -= 1
    parent = span.parent
    if parent == CLIENT:
        settle_root(plan, lane, s, status, now)
        release(lane, s)
        if plan.n_users > 0:
            think_again(plan, lane, span.request, now)
        return NOTHING, s, _OK
    if not (lane.plain & site_at(plan, span.site).plain):
        return replied(plan, lane, s, status, now)
    if status != _OK:
        return FAILED, s, _OK
    answer = span.answer
    caller = span_at(lane, parent)
    caller.child = -1
    release(lane, s)
    if answer == POISONED:
        return FINISH, parent, _ERROR
    caller.pc = step_at(plan, caller.pc).after if answer == HIT else caller.pc + 1
    return WALK, parent, _OK


@njit(inline=True, internal=True)
def on_timeout(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A caller gives up on an attempt, whose timer has left its ring."""
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _TIMED_OUT, span.attempt)
    tally_at(lane, span.service).timeouts += 1
    if span.parent == CLIENT:
        settle_root(plan, lane, s, _TIMEOUT_ST, now)
        abandon(plan, lane, s, now)
        if plan.n_users > 0:
            think_again(plan, lane, span.request, now)
        return NOTHING, s, _OK
    if not (lane.plain & site_at(plan, span.site).plain):
        return timed_out(plan, lane, s, now)
    if span.replica >= 0:
        replica_at(lane, span.replica).outstanding -= 1
    return FAILED, s, _OK


@njit(inline=True, internal=True)
def give_up(lane, s):  # type: ignore[no-untyped-def]
    """Leave an attempt to itself: it goes on as zombie work; a reply on its way is dropped."""
    span = span_at(lane, s)
    if span.state == BACK:
        if span.heap_at >= 0:
            leave(lane, s)
        release(lane, s)
    else:
        span.parent = NOBODY


@njit(inline=True, internal=True)
def failed(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """An attempt has failed: wait for the next one, or go on without, or fail with it."""
    span = span_at(lane, s)
    parent, site, attempt, key, cache_key = span.parent, span.site, span.attempt, span.key, span.cache_key
    give_up(lane, s)
    caller = span_at(lane, parent)
    caller.child = -1
    call = site_at(plan, site)
    if attempt < call.retries:
        note(lane, now, caller.request, key, _BACKOFF, attempt)
        u = uniform(key, draw_index(BORDER, _JITTER))
        again = new_child(plan, lane, parent, site, attempt + 1)
        span_at(lane, again).cache_key = cache_key
        span_at(lane, again).state = UNSENT
        wait = backoff(call.backoff_s, call.backoff_limit_s, call.jitter, attempt, u)
        enter(lane, now + wait, _RETRY, span_at(lane, again).key, again)
        return NOTHING, parent, _OK
    if call.required and not call.cached:
        return FINISH, parent, _DEPENDENCY
    caller.pc += 1
    return WALK, parent, _OK
