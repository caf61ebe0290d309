"""The first instant of a run, and what a session enters from outside."""

import numpy as np

from simcore.codes import Kind, ReplicaState
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.calendar import (
    FAN,
    FIRST_RING,
    STREAM_LEAF,
    control_is_short,
    empty_ring,
    enter_control,
    next_stream,
    rescan,
    set_leaf,
)
from simcore.kernels.copies import holder
from simcore.kernels.health import enter_probe
from simcore.kernels.lifecycle import add_replica
from simcore.kernels.spans import FREE
from simcore.kernels.users import begin_users, next_candidate
from simcore.layout import (
    NEVER,
    Need,
    change_at,
    fleet_at,
    leaf_at,
    lock_at,
    partition_at,
    replica_at,
    rules_at,
    seed_at,
    service_at,
    span_at,
    stack_at,
    stream_at,
)
from simcore.streams import mix, uniform

_UP = np.int64(ReplicaState.UP)
_FAULT, _ACTION = np.int64(Kind.FAULT), np.int64(Kind.ACTION)
_SPANS, _CONTROL, _MESSAGES = np.int64(Need.SPANS), np.int64(Need.CONTROL), np.int64(Need.MESSAGES)
_NONE, _FIRST, _SLACK = np.int64(0), np.int64(1), np.int64(4)


@njit(internal=True)
def free_spans(lane, used):  # type: ignore[no-untyped-def]
    """Chain the span records from ``used`` on into the free list; the first of all are the ends of the timer rings."""
    n_rings = lane.first_replica_leaf - FIRST_RING
    for ring in range(used, min(n_rings, lane.span_cap)):
        empty_ring(lane, ring)
    for i in range(lane.span_cap - 1, max(used, n_rings) - 1, -1):
        span = span_at(lane, i)
        span.state = FREE
        # what plain calls never set, and the others set back
        span.deadline = np.inf
        span.sibling, span.hedge, span.pool, span.epoch, span.lock = -1, -1, -1, -1, -1
        span_at(lane, i).q_next = lane.free_span
        lane.free_span = i
        lane.n_free += 1


@njit(internal=True)
def check_room(lane):  # type: ignore[no-untyped-def]
    """Ask for the room that the largest event may take."""
    if lane.n_free < lane.span_room:
        lane.need |= _SPANS
    if lane.n_messages + lane.message_room > lane.message_cap:
        lane.need |= _MESSAGES
    if control_is_short(lane, _SLACK):
        lane.need |= _CONTROL


@njit(internal=True)
def regroup(lane):  # type: ignore[no-untyped-def]
    """Find the first leaf of every group again, after their number has changed."""
    for group in range(lane.groups):
        rescan(lane, group)


@njit(internal=True)
def _fill_cache(plan, lane, service, start_s):  # type: ignore[no-untyped-def]
    base = service_at(plan, service)
    full = np.zeros(lane.replica_cap, np.int64)
    mine = np.full((lane.replica_cap, base.slots), -1, np.int64)
    for i in range(base.n_seeds):
        seed = seed_at(plan, base.first_seed + i)
        for rank in range(seed.copies):
            at = holder(lane, service, np.int64(seed.key), rank)
            if at >= 0 and full[at] < base.slots:
                mine[at, full[at]] = seed.key
                full[at] += 1
    for at in range(lane.n_replicas):
        for i in range(full[at] - 1, -1, -1):
            cache_key = mine[at, i]
            age = uniform(mix(lane.key, np.uint64(2**40 + cache_key)), np.uint64(0))
            cache.fill(lane, replica_at(lane, at).shard, cache_key, start_s + base.ttl_s * age, base.slots)


@njit(internal=True)
def prepare_run(plan, lane):  # type: ignore[no-untyped-def]
    """Bring a zeroed run to its start; its head, modulations, changes and streams are filled in already."""
    lane.now = plan.start_s
    lane.first_replica_leaf = FIRST_RING + plan.n_rings
    lane.plain = 1 if plan.plain and not lane.edges else 0
    lane.cancels = plan.cancels
    lane.span_room = plan.span_room
    lane.log_room = plan.log_room
    lane.message_room = plan.message_room
    lane.free_message = -1
    lane.free_span = -1
    free_spans(lane, 0)
    for i in range(lane.groups * FAN):
        leaf_at(lane, i).time = NEVER
    regroup(lane)
    for i in range(plan.n_locks):
        lock = lock_at(lane, i)
        lock.holder, lock.head, lock.tail = -1, -1, -1
    for i in range(plan.n_partitions):
        part = partition_at(lane, i)
        part.head, part.tail, part.delivery = -1, -1, -1
    for service in range(plan.n_services):
        fleet = fleet_at(lane, service)
        fleet.last = -1
        fleet.first = -1
        fleet.version = 1
        fleet.newest = 1
        fleet.depth = 2
        fleet.retry = 1.0
        fleet.pool = 1.0
        fleet.lag_since = plan.start_s
        stack_at(lane, service * lane.stack_wide + 1).version = 1
        for _ in range(service_at(plan, service).initial):
            add_replica(plan, lane, service, _UP, plan.start_s)
    for service in range(plan.n_services):
        if service_at(plan, service).slots > 0:
            _fill_cache(plan, lane, service, plan.start_s)
        if rules_at(plan, service).probe_s > 0.0:
            enter_probe(plan, lane, service, _FIRST)
    if plan.n_users > 0:
        stream_at(lane, 0).time = NEVER
        begin_users(plan, lane)
    else:
        stream_at(lane, 0).time = plan.start_s
        stream_at(lane, 0).first_s = plan.start_s
        next_candidate(lane, 0)
    set_leaf(lane, STREAM_LEAF, stream_at(lane, next_stream(lane)).time)
    for i in range(lane.n_changes):
        enter_control(lane, change_at(lane, i).time, _FAULT, np.uint64(i), _NONE, _NONE, i, _NONE)
    check_room(lane)


@njit
def prepare_runs(plans, lanes):  # type: ignore[no-untyped-def]
    """Bring every run to its start."""
    for run in range(lanes.size):
        prepare_run(plans[0], lanes[run])


@njit
def after_growth(lanes, run, old_spans):  # type: ignore[no-untyped-def]
    """Make use of the new room of a run."""
    lane = lanes[run]
    lane.need = 0
    free_spans(lane, old_spans)
    regroup(lane)
    check_room(lane)


@njit
def enter_action(lanes, run, number, time):  # type: ignore[no-untyped-def]
    """Enter an action of a run, which the caller has written to its actions."""
    enter_control(lanes[run], time, _ACTION, np.uint64(number), _NONE, _NONE, number, _NONE)
