"""Replicas of one run: processor sharing, levels, threads, memory, and what a modulation makes of them."""

import numpy as np

from simcore.codes import BalancerCode, Kind, Param, Place, ReplicaState
from simcore.jit import njit
from simcore.kernels.balancers import drawn
from simcore.kernels.calendar import control_is_short, enter_control, set_leaf
from simcore.kernels.gates import hand_on_all
from simcore.kernels.spans import into_line
from simcore.layout import NEVER, Need, fleet_at, job_at, mod_at, replica_at, rules_at, service_at, span_at
from simcore.samplers import integrate

UP, DRAINING, STARTING, GONE = (
    np.int64(ReplicaState.UP),
    np.int64(ReplicaState.DRAINING),
    np.int64(ReplicaState.STARTING),
    np.int64(ReplicaState.GONE),
)
_ROUND_ROBIN, _LEAST_OUTSTANDING = np.int64(BalancerCode.ROUND_ROBIN), np.int64(BalancerCode.LEAST_OUTSTANDING)
_CONTROL = np.int64(Need.CONTROL)
_REPLICA = np.int64(Kind.REPLICA)
_JOBS = np.int64(Need.JOBS)
_SLACK = np.int64(4)
_PROCESS, _VERSION, _CONFIG = np.int64(Place.PROCESS), np.int64(Place.VERSION), np.int64(Place.CONFIG)
_SPEED, _CORES, _DEMAND, _DELAY = (
    np.int64(Param.SPEED),
    np.int64(Param.CORES),
    np.int64(Param.DEMAND),
    np.int64(Param.DELAY),
)
_NETWORK, _OK, _TIMEOUT = np.int64(Param.NETWORK), np.int64(Param.OK), np.int64(Param.TIMEOUT)
_LEAK, _CRASH = np.int64(Param.LEAK), np.int64(Param.CRASH)
_HOLD, _POOL = np.int64(Param.HOLD), np.int64(Param.POOL)


@njit(inline=True, internal=True)
def pick(plan, lane, service, key):  # type: ignore[no-untyped-def]
    """Return the replica that the load balancer chooses for an attempt, -1 if none is eligible."""
    best = -1
    at = fleet_at(lane, service).first
    if service_at(plan, service).balancer == _ROUND_ROBIN:
        last = fleet_at(lane, service).last
        while at >= 0:
            replica = replica_at(lane, at)
            if replica.rotates == 1 and replica.quarantined == 0:
                if at > last:
                    best = at
                    break
                if best < 0:
                    best = at
            at = replica.next
        if best >= 0:
            fleet_at(lane, service).last = best
        return best
    if service_at(plan, service).balancer != _LEAST_OUTSTANDING:
        return drawn(plan, lane, service, key)
    while at >= 0:
        replica = replica_at(lane, at)
        if replica.rotates == 1 and replica.quarantined == 0:
            if best < 0 or replica.outstanding < replica_at(lane, best).outstanding:
                best = at
        at = replica.next
    return best


@njit(inline=True, internal=True)
def set_busy(plan, r, now):  # type: ignore[no-untyped-def]
    """Integrate the busy cores of a replica up to now if their number changes."""
    level = 0.0
    if r.state == UP or r.state == DRAINING:
        level = (service_at(plan, r.service).cores - r.cores) + min(np.float64(r.n_jobs), r.cores)
    if level != r.busy:
        r.busy_acc = integrate(r.busy_acc, r.busy, r.busy_since, now)
        r.busy = level
        r.busy_since = now


@njit(inline=True, internal=True)
def set_in_flight(r, n, now):  # type: ignore[no-untyped-def]
    """Change the number of spans at a replica."""
    r.flight_acc = integrate(r.flight_acc, np.float64(r.in_flight), r.flight_since, now)
    r.in_flight = n
    r.flight_since = now


@njit(inline=True, internal=True)
def set_queued(r, n, now):  # type: ignore[no-untyped-def]
    """Change the number of spans that wait for a thread."""
    r.queue_acc = integrate(r.queue_acc, np.float64(r.queued), r.queue_since, now)
    r.queued = n
    r.queue_since = now


@njit(internal=True)
def set_state(plan, r, state, now):  # type: ignore[no-untyped-def]
    """Change the state of a replica and the levels that hang on it."""
    was = 1.0 if (r.state == UP or r.state == DRAINING) else 0.0
    r.state = state
    if rules_at(plan, r.service).probe_s == 0.0:
        r.rotates = np.int64(state == UP)
    elif state == DRAINING or state == GONE:
        r.rotates = 0
    if was != (1.0 if (state == UP or state == DRAINING) else 0.0):
        r.up_acc = integrate(r.up_acc, was, r.up_since, now)
        r.up_since = now
    set_busy(plan, r, now)


@njit(inline=True, internal=True)
def sync(r, now):  # type: ignore[no-untyped-def]
    """Advance the virtual clock of a replica to now."""
    if r.n_jobs > 0:
        r.v = r.v + (now - r.vt) * r.rate
    else:
        r.v = 0.0
    r.vt = now


@njit(inline=True, internal=True)
def pace_up(plan, lane, r, now):  # type: ignore[no-untyped-def]
    """Recompute the rate per job of a replica, and say whether it has changed."""
    before = r.rate
    n = np.float64(r.n_jobs)
    if n <= r.cores:
        r.rate = r.speed
        r.pace = r.alone_pace
    else:
        # the counter also keeps LLVM from computing both branches, with their divisions, every time
        lane.crowded += 1
        r.rate = r.speed * (r.cores / n)
        r.pace = 1.0 / r.rate if r.rate > 0.0 else 0.0
    set_busy(plan, r, now)
    return r.rate != before


@njit(inline=True, internal=True)
def arm_cpu(lane, at, now):  # type: ignore[no-untyped-def]
    """Enter the next completion of a replica."""
    r = replica_at(lane, at)
    # of an idle replica the first job is an old one: its time is not used
    time = now + max(0.0, (job_at(lane, at * lane.per_replica).end - r.v) * r.pace)
    set_leaf(lane, lane.first_replica_leaf + at, time if (r.n_jobs > 0) & (r.rate > 0.0) else NEVER)


@njit(inline=True, internal=True)
def put_job(lane, i, job):  # type: ignore[no-untyped-def]
    """Copy a job to a place in a heap."""
    there = job_at(lane, i)
    there.end = job.end
    there.key = job.key
    there.span = job.span


@njit(inline=True, internal=True)
def fill_gap(lane, first, i, n):  # type: ignore[no-untyped-def]
    """Let the last job of a replica's heap fill place ``i`` or one further down; ``n`` are left."""
    last = job_at(lane, first + n)
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        c = job_at(lane, first + child)
        if child + 1 < n:
            d = job_at(lane, first + child + 1)
            if d.end < c.end or (d.end == c.end and d.key < c.key):
                child += 1
                c = d
        if last.end < c.end or (last.end == c.end and last.key < c.key):
            break
        put_job(lane, first + i, c)
        i = child
    put_job(lane, first + i, last)


@njit(inline=True, internal=True)
def join_cpu(plan, lane, at, span, demand, now):  # type: ignore[no-untyped-def]
    """Let a span share the cores of its replica until it has had its demand."""
    r = replica_at(lane, at)
    sync(r, now)
    end = r.v + demand
    key = span_at(lane, span).key
    first = at * lane.per_replica
    i = r.n_jobs
    r.n_jobs = i + 1
    if i + 2 > lane.per_replica:
        lane.need |= _JOBS
    while i > 0:
        up = (i - 1) >> 1
        e = job_at(lane, first + up)
        if e.end < end or (e.end == end and e.key < key):
            break
        put_job(lane, first + i, e)
        i = up
    j = job_at(lane, first + i)
    j.end = end
    j.key = key
    j.span = span
    if pace_up(plan, lane, r, now) or i == 0:
        arm_cpu(lane, at, now)


@njit(inline=True, internal=True)
def complete_cpu(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Take the first job of a replica out and return its span."""
    r = replica_at(lane, at)
    first = at * lane.per_replica
    done = job_at(lane, first).span
    r.v = job_at(lane, first).end
    r.vt = now
    n = r.n_jobs - 1
    r.n_jobs = n
    if n == 0:
        r.v = 0.0
    else:
        fill_gap(lane, first, 0, n)
    pace_up(plan, lane, r, now)
    arm_cpu(lane, at, now)
    return done


@njit(inline=True, internal=True)
def queue_up(lane, at, span, now):  # type: ignore[no-untyped-def]
    """Put a span at the end of the queue for a thread."""
    r = replica_at(lane, at)
    if r.q_tail < 0:
        r.last_empty = now
    r.q_head, r.q_tail = into_line(lane, span, r.q_head, r.q_tail)
    set_queued(r, r.queued + 1, now)


@njit(inline=True, internal=True)
def next_in_queue(lane, at, now):  # type: ignore[no-untyped-def]
    """Take the head of the queue off and return it."""
    r = replica_at(lane, at)
    span = r.q_head
    after = span_at(lane, span).q_next
    r.q_head = after
    if after < 0:
        r.q_tail = -1
        r.last_empty = now
    else:
        span_at(lane, after).q_prev = -1
    set_queued(r, r.queued - 1, now)
    return span


@njit(internal=True)
def applies(mod, r):  # type: ignore[no-untyped-def]
    """Return whether a modulation that has begun lives in this replica."""
    if mod.begun == 0 or mod.over == 1 or mod.service != r.service or (mod.replica >= 0 and mod.replica != r.ordinal):
        return False
    if mod.place == _PROCESS:
        return r.born <= mod.since
    if mod.place == _VERSION:
        return mod.bad_from <= r.version <= mod.bad_to
    return True


@njit(internal=True)
def refresh(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Recompute the effective values of a replica from its base and the modulations, in order."""
    r = replica_at(lane, at)
    base = service_at(plan, r.service)
    speed, cores = base.speed, base.cores
    demand, delay, network, ok, timeout = 1.0, 1.0, 1.0, 1.0, 1.0
    hold, pool = 1.0, 1.0
    leak = base.leak_bytes
    crash = 0.0
    for i in range(lane.n_mods):
        mod = mod_at(lane, i)
        if not applies(mod, r):
            continue
        value = mod.value
        if mod.param == _SPEED:
            speed = speed * value
        elif mod.param == _CORES:
            cores = cores * value
        elif mod.param == _DEMAND:
            demand = demand * value
        elif mod.param == _DELAY:
            delay = delay * value
        elif mod.param == _NETWORK:
            network = network * value
        elif mod.param == _OK:
            ok = ok * value
        elif mod.param == _TIMEOUT:
            timeout = timeout * value
        elif mod.param == _HOLD:
            hold = hold * value
        elif mod.param == _POOL:
            pool = pool * value
        elif mod.param == _LEAK:
            leak = leak + np.int64(value)
        elif mod.param == _CRASH and value > 0.0 and (crash == 0.0 or value < crash):
            crash = value
    r.demand, r.delay, r.network, r.ok, r.timeout = demand, delay, network, ok, timeout
    r.hold = hold
    if pool != r.pool:
        r.pool = pool
        hand_on_all(plan, lane, at, now)
    r.leak = leak
    r.crash = crash
    if r.collecting:
        speed = 0.0
    if speed != r.speed or cores != r.cores:
        sync(r, now)
        r.speed = speed
        r.cores = cores
        r.alone_pace = 1.0 / speed if speed > 0.0 else 0.0
        pace_up(plan, lane, r, now)
        arm_cpu(lane, at, now)


@njit(internal=True)
def enter_replica(lane, time, at, what):  # type: ignore[no-untyped-def]
    """Enter an event of a replica under its present incarnation, and ask for room if little is left."""
    r = replica_at(lane, at)
    enter_control(lane, time, _REPLICA, np.uint64(at), r.entries, what, at, r.incarnation)
    r.entries += 1
    if control_is_short(lane, _SLACK):
        lane.need |= _CONTROL
