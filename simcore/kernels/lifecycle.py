"""Replicas of one run that come, go and die: kills and starts, rolling restarts, scaling. Rare, so plain."""

import numpy as np

from simcore.codes import Down, Event, Kind, Purpose, Status
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.calendar import enter
from simcore.kernels.cancel import drop_waits
from simcore.kernels.gates import reset_gates
from simcore.kernels.replica import (
    DRAINING,
    GONE,
    STARTING,
    UP,
    arm_cpu,
    enter_replica,
    pace_up,
    refresh,
    set_in_flight,
    set_queued,
    set_state,
)
from simcore.kernels.spans import (
    COME_UP,
    CRASH,
    DRAIN_END,
    GC_END,
    LANDING,
    NOBODY,
    OOM,
    QUEUED,
    RESTART,
    note,
    release,
)
from simcore.kernels.threads import put_back
from simcore.layout import NEVER, fleet_at, replica_at, rules_at, service_at, span_at, tally_at
from simcore.samplers import backoff
from simcore.streams import draw_index, mix, uniform

_KILLED, _UP_EV, _DOWN, _DRAIN_EV = (
    np.int64(Event.KILLED),
    np.int64(Event.REPLICA_UP),
    np.int64(Event.REPLICA_DOWN),
    np.int64(Event.REPLICA_DRAINING),
)
_GONE_EV, _ADDED = np.int64(Event.REPLICA_GONE), np.int64(Event.REPLICA_ADDED)
_BY_RESTART, _BY_CRASH, _BY_OOM = np.int64(Down.RESTART), np.int64(Down.CRASH), np.int64(Down.OOM)
_REPLY = np.int64(Kind.REPLY)
_RESET = np.int64(Status.RESET)
_CRASH_DRAW = np.int64(Purpose.CRASH)


@njit(internal=True)
def enter_crash(lane, at, now):  # type: ignore[no-untyped-def]
    """Enter the crash of a replica that crashes some time after its start."""
    r = replica_at(lane, at)
    key = mix(lane.key, np.uint64(2**41 + at))
    u = uniform(key, draw_index(r.incarnation, _CRASH_DRAW))
    enter_replica(lane, now + r.crash * (0.5 + 0.5 * u), at, CRASH)


@njit(internal=True)
def _next_victim(lane, at, after, first):  # type: ignore[no-untyped-def]
    """Return the span at a replica with the smallest key above ``after``, -1 if there is none."""
    best = -1
    for s in range(lane.span_cap):
        span = span_at(lane, s)
        if (
            QUEUED <= span.state <= LANDING
            and span.replica == at
            and (first or span.key > after)
            and (best < 0 or span.key < span_at(lane, best).key)
        ):
            best = s
    return best


@njit(internal=True)
def _kill_span(plan, lane, s, now):  # type: ignore[no-untyped-def]
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _KILLED, span.replica)
    tally_at(lane, span.service).failed += 1
    drop_waits(plan, lane, s, now)
    if span.parent == NOBODY:
        release(lane, s)
        return
    time = put_back(plan, lane, s, _RESET, now)
    if time < NEVER:
        enter(lane, time, _REPLY, span.key, s)


@njit(internal=True)
def kill(plan, lane, at, cause, now):  # type: ignore[no-untyped-def]
    """Kill a replica with all the spans at it, in key order."""
    note(lane, now, -1, at, _DOWN, cause)
    r = replica_at(lane, at)
    key = np.uint64(0)
    victim = _next_victim(lane, at, key, True)
    while victim >= 0:
        key = span_at(lane, victim).key
        _kill_span(plan, lane, victim, now)
        victim = _next_victim(lane, at, key, False)
    reset_gates(plan, lane, at, now)
    r.leaked = 0
    r.garbage = 0
    r.collecting = 0
    r.n_jobs = 0
    r.v = 0.0
    r.vt = now
    r.threads = 0
    r.q_head = -1
    r.q_tail = -1
    set_queued(r, 0, now)
    set_in_flight(r, 0, now)
    pace_up(plan, lane, r, now)
    arm_cpu(lane, at, now)
    if r.shard >= 0:
        cache.clear(lane, r.shard, service_at(plan, r.service).n_keys, service_at(plan, r.service).slots)


@njit(internal=True)
def begin(plan, lane, at, wait_s, now):  # type: ignore[no-untyped-def]
    """Start a new incarnation of a replica, up after ``wait_s``."""
    r = replica_at(lane, at)
    r.incarnation += 1
    r.oom = 0
    r.born = now
    r.last_empty = now
    r.version = fleet_at(lane, r.service).version
    set_state(plan, r, STARTING, now)
    refresh(plan, lane, at, now)
    enter_replica(lane, now + wait_s, at, COME_UP)


@njit(internal=True)
def on_replica(plan, lane, at, what, incarnation, now):  # type: ignore[no-untyped-def]
    """Run a replica's entry."""
    r = replica_at(lane, at)
    startup_s = service_at(plan, r.service).startup_s
    if what == RESTART:
        if r.state == GONE or r.state == DRAINING:
            return
        if r.state == UP:
            kill(plan, lane, at, _BY_RESTART, now)
        else:
            note(lane, now, -1, at, _DOWN, _BY_RESTART)
        r.crashes = 0
        begin(plan, lane, at, startup_s, now)
        return
    if incarnation != r.incarnation:
        return
    if what == COME_UP and r.state == STARTING:
        set_state(plan, r, UP, now)
        note(lane, now, -1, at, _UP_EV, 0)
        r.came_up = now
        r.warming = np.int64(rules_at(plan, r.service).warmup_s > 0.0)
        if r.crash > 0.0:
            enter_crash(lane, at, now)
    elif what == CRASH and r.state == UP and r.crash > 0.0:
        kill(plan, lane, at, _BY_CRASH, now)
        begin(plan, lane, at, startup_s + backoff(startup_s, 8.0 * startup_s, 0.0, r.crashes, 0.0), now)
        r.crashes += 1
    elif what == OOM and (r.state == UP or r.state == DRAINING):
        draining = r.state == DRAINING
        kill(plan, lane, at, _BY_OOM, now)
        if draining:
            _go(plan, lane, at, now)
        else:
            begin(plan, lane, at, startup_s, now)
    elif what == DRAIN_END and r.state == DRAINING:
        kill(plan, lane, at, _BY_RESTART, now)
        _go(plan, lane, at, now)
    elif what == GC_END and r.collecting:
        r.collecting = 0
        refresh(plan, lane, at, now)


@njit(internal=True)
def _go(plan, lane, at, now):  # type: ignore[no-untyped-def]
    set_state(plan, replica_at(lane, at), GONE, now)
    note(lane, now, -1, at, _GONE_EV, 0)


@njit(internal=True)
def rolling_restart(plan, lane, service, now):  # type: ignore[no-untyped-def]
    """Enter restarts of a service's replicas, one after the other."""
    gap = service_at(plan, service).startup_s + 1.0
    i = 0
    at = fleet_at(lane, service).first
    while at >= 0:
        state = replica_at(lane, at).state
        if state == STARTING or state == UP:
            enter_replica(lane, now + i * gap, at, RESTART)
            i += 1
        at = replica_at(lane, at).next


@njit(internal=True)
def add_replica(plan, lane, service, state, now):  # type: ignore[no-untyped-def]
    """Append a replica to a service and return its number; the caller has checked the room."""
    at = lane.n_replicas
    lane.n_replicas = at + 1
    fleet = fleet_at(lane, service)
    r = replica_at(lane, at)
    r.service = service
    r.ordinal = fleet.ordinals
    fleet.ordinals += 1
    r.next = -1
    if fleet.first < 0:
        fleet.first = at
    else:
        replica_at(lane, fleet.tail).next = at
    fleet.tail = at
    r.q_head = -1
    r.q_tail = -1
    r.flights = -1
    r.version = fleet.version
    r.born = now
    r.last_empty = now
    r.state = state
    r.rotates = np.int64(state == UP)
    r.vt = now
    r.speed = service_at(plan, service).speed
    r.cores = service_at(plan, service).cores
    r.up_since = now
    r.busy_since = now
    r.flight_since = now
    r.queue_since = now
    r.waiting_since = now
    r.pool = 1.0
    reset_gates(plan, lane, at, now)
    r.shard = -1
    if service_at(plan, service).slots > 0:
        r.shard = lane.n_shards
        lane.n_shards += 1
        cache.clear(lane, r.shard, service_at(plan, service).n_keys, service_at(plan, service).slots)
    r.alone_pace = 1.0 / r.speed
    refresh(plan, lane, at, now)
    pace_up(plan, lane, r, now)
    arm_cpu(lane, at, now)
    return at


@njit(internal=True)
def scale(plan, lane, service, amount, now):  # type: ignore[no-untyped-def]
    """Add so many replicas to a service, or drain so many of the newest."""
    for _ in range(amount):
        at = add_replica(plan, lane, service, STARTING, now)
        note(lane, now, -1, at, _ADDED, service)
        enter_replica(lane, now + service_at(plan, service).startup_s, at, COME_UP)
    for _ in range(-amount):
        last = -1
        at = fleet_at(lane, service).first
        while at >= 0:
            if replica_at(lane, at).state == STARTING or replica_at(lane, at).state == UP:
                last = at
            at = replica_at(lane, at).next
        if last < 0:
            return
        r = replica_at(lane, last)
        if r.state == STARTING:
            _go(plan, lane, last, now)
        else:
            set_state(plan, r, DRAINING, now)
            note(lane, now, -1, last, _DRAIN_EV, 0)
            enter_replica(lane, now + service_at(plan, service).drain_s, last, DRAIN_END)
