"""The event loop: one run up to an edge."""

import numpy as np
from numba import carray

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.jit import njit, pointer
from simcore.kernels.autoscaler import call_autoscalers, on_autoscale, wish
from simcore.kernels.calendar import (
    CONTROL_LEAF,
    FIRST_RING,
    HEAP_LEAF,
    STREAM_LEAF,
    control_is_short,
    disarm,
    first_group,
    first_timer,
    leave,
    log_room,
    next_stream,
    pop_control,
    set_leaf,
)
from simcore.kernels.cancel import on_cancel
from simcore.kernels.control import on_action, on_change
from simcore.kernels.health import on_probe
from simcore.kernels.lifecycle import on_replica
from simcore.kernels.locks import on_lock
from simcore.kernels.members import on_hedge, pool_timed_out
from simcore.kernels.programs import walk
from simcore.kernels.replica import DRAINING, STARTING, UP, complete_cpu
from simcore.kernels.requests import arrive, failed, finish, on_reply, on_timeout, send, start
from simcore.kernels.spans import ARRIVE, FAILED, FINISH, NOTHING, REPLY, SEND, WALK, allocate, note
from simcore.kernels.users import STREAM_BITS, become_root, let_in, next_candidate, on_user, recorded_factor
from simcore.layout import (
    NEVER,
    Need,
    action_at,
    control_at,
    fleet_at,
    group_at,
    heap_at,
    replica_at,
    service_at,
    span_at,
    step_at,
    stream_at,
    tally_at,
)
from simcore.samplers import integrate, rate_factor
from simcore.streams import draw_index, uniform
from simcore.windows import END as END_RECORD
from simcore.windows import N_TALLIES, Area, ReplicaStat, close_window

_CPU_DONE, _DELAY_DONE, _OFFERED, _SHED = (
    np.int64(Event.CPU_DONE),
    np.int64(Event.DELAY_DONE),
    np.int64(Event.OFFERED),
    np.int64(Event.SHED),
)
_DELAY, _REPLY, _GRANT, _ARRIVE, _RETRY = (
    np.int64(Kind.DELAY),
    np.int64(Kind.REPLY),
    np.int64(Kind.GRANT),
    np.int64(Kind.ARRIVE),
    np.int64(Kind.RETRY),
)
_OK, _DEPENDENCY, _FLIGHT = np.int64(Status.OK), np.int64(Status.DEPENDENCY), np.int64(Kind.FLIGHT)
_FAULT, _ACTION, _PROBE = np.int64(Kind.FAULT), np.int64(Kind.ACTION), np.int64(Kind.PROBE)
_CANCEL, _LOCK, _POOL, _HEDGE = np.int64(Kind.CANCEL), np.int64(Kind.LOCK), np.int64(Kind.POOL), np.int64(Kind.HEDGE)
_AUTOSCALE, _ROOT, _SLACK = np.int64(Kind.AUTOSCALE), np.int64(Kind.ROOT), np.int64(4)
_THIN, _CHOICE, _ADMIT = np.int64(Purpose.THIN), np.int64(Purpose.CHOICE), np.int64(Purpose.ADMIT)
_NEED_LOG, _NEED_REPLICAS = np.int64(Need.LOG), np.int64(Need.REPLICAS)
_NEED_CONTROL, _NEED_SPANS = np.int64(Need.CONTROL), np.int64(Need.SPANS)
_A_BUSY, _A_UP, _A_FLIGHT, _A_QUEUE = (
    np.int64(Area.BUSY),
    np.int64(Area.UP),
    np.int64(Area.IN_FLIGHT),
    np.int64(Area.QUEUE),
)
_A_MEM, _A_REP = np.int64(Area.MEMORY_FRAC), np.int64(Area.REPLICAS_UP)
_A_POOL, _A_LAG = np.int64(Area.POOL_WAITING), np.int64(Area.LAG)
_R_ORDINAL, _R_STATE, _R_QUARANTINED = (
    np.int64(ReplicaStat.ORDINAL),
    np.int64(ReplicaStat.STATE),
    np.int64(ReplicaStat.QUARANTINED),
)
_R_FINISHED, _R_MEAN, _R_BUSY = (
    np.int64(ReplicaStat.FINISHED),
    np.int64(ReplicaStat.MEAN_LATENCY_S),
    np.int64(ReplicaStat.BUSY),
)


@njit(inline=True, internal=True)
def on_candidate(plan, lane, now):  # type: ignore[no-untyped-def]
    """The next candidate of the arrival streams: thinned away, shed, or sent. Returns its span or -1."""
    i = next_stream(lane) if lane.n_streams > 1 else 0
    stream = stream_at(lane, i)
    root, number = stream.root, stream.n
    if plan.n_points > 0:
        factor = recorded_factor(plan, now)
    else:
        factor = rate_factor(plan.shape, plan.a, plan.b, plan.c, lane.phase, now)
    rate = plan.rate_rps * factor
    if i > 0:
        rate = rate * stream.value
    peak = stream.peak
    stream.n += 1
    next_candidate(lane, i)
    set_leaf(lane, STREAM_LEAF, stream_at(lane, next_stream(lane) if lane.n_streams > 1 else 0).time)
    if rate < peak and uniform(root, draw_index(BORDER, _THIN)) * peak >= rate:
        return -1
    request = (np.int64(i) << STREAM_BITS) | number
    kind = let_in(plan, lane, root, request, now)
    if kind < 0:
        return -1
    s = allocate(lane)
    span_at(lane, s).key = root
    span_at(lane, s).request = request
    become_root(plan, lane, s, kind, now)
    return s


@njit(inline=True, internal=True)
def _on_heap(plan, lane, now):  # type: ignore[no-untyped-def]
    """Take the first entry off the heap and return what is to be done."""
    s = heap_at(lane, 0).span
    kind = heap_at(lane, 0).kind
    leave(lane, s)
    if kind == _REPLY:
        return REPLY, s, _OK
    if kind == _RETRY:
        return SEND, s, _OK
    if kind == _ARRIVE:
        return ARRIVE, s, _OK
    span = span_at(lane, s)
    if kind == _DELAY:
        note(lane, now, span.request, span.key, _DELAY_DONE, step_at(plan, span.pc).number)
        span.pc += 1
        return WALK, s, _OK
    if kind == _GRANT:
        return start(lane, s, now)
    return _on_extra(plan, lane, s, kind, now)


@njit(internal=True)
def _on_extra(plan, lane, s, kind, now):  # type: ignore[no-untyped-def]
    """Run a heap entry of a kind that plain calls do not have."""
    if kind == _LOCK:
        on_lock(plan, lane, s, now)
        return WALK, s, _OK
    if kind == _FLIGHT:
        span = span_at(lane, s)
        if span.failing:
            return FINISH, s, _DEPENDENCY
        span.pc = step_at(plan, span.pc).after
        return WALK, s, _OK
    if kind == _POOL:
        return SEND, s, _OK
    if kind == _ROOT:
        todo, s = on_user(plan, lane, s, now)
        return todo, s, _OK
    if kind == _HEDGE:
        on_hedge(lane, s)
        return SEND, s, _OK
    return pool_timed_out(plan, lane, s, now)


@njit(internal=True)
def _on_control(plan, lane, now):  # type: ignore[no-untyped-def]
    """Run the first control entry; returns whether there was room for it."""
    first = control_at(lane, 0)
    if first.kind == _CANCEL:
        s, key = first.index, first.key
        pop_control(lane)
        on_cancel(plan, lane, s, key, now)
        return True
    if first.kind == _ACTION or first.kind == _AUTOSCALE:
        if first.kind == _ACTION:
            grows = np.int64(max(0.0, action_at(lane, first.index).amount)) + 1
        else:
            n, wanted = wish(plan, lane, first.index)
            grows = max(0, wanted - n) + 1
        # who skips messages may have the next ones delivered on all partitions
        if lane.n_free < lane.span_room + plan.skips:
            lane.need |= _NEED_SPANS
            return False
        if lane.n_replicas + grows > lane.replica_cap:
            lane.need |= _NEED_REPLICAS
            return False
        if control_is_short(lane, grows + _SLACK):
            lane.need |= _NEED_CONTROL
            return False
    if control_is_short(lane, _SLACK):
        lane.need |= _NEED_CONTROL
        return False
    at = pop_control(lane)
    kind, what, index, incarnation = (
        control_at(lane, at).kind,
        control_at(lane, at).what,
        control_at(lane, at).index,
        control_at(lane, at).incarnation,
    )
    if kind == _FAULT:
        on_change(plan, lane, index, now)
    elif kind == _ACTION:
        on_action(plan, lane, index, now)
    elif kind == _AUTOSCALE:
        on_autoscale(plan, lane, index, what, now)
    elif kind == _PROBE:
        on_probe(plan, lane, index, what, now)
    else:
        on_replica(plan, lane, index, what, incarnation, now)
    return True


@njit(internal=True)
def _count_overdue(plan, lane, edge):  # type: ignore[no-untyped-def]
    """Count roots that are past the latency objective and unanswered as bad, in the window in which they became so."""
    s = first_timer(lane, 0)
    while s != 0 and span_at(lane, s).sent + plan.latency_s < edge:
        if span_at(lane, s).counted == 0:
            span_at(lane, s).counted = 1
            tally_at(lane, plan.n_services).bad += 1
        s = span_at(lane, s).t_next


@njit(internal=True)
def close(plan, lane, edge, cores, area, metrics, totals, replicas, markers):  # type: ignore[no-untyped-def]
    """Close the window that ends at ``edge`` and write its metrics."""
    _count_overdue(plan, lane, edge)
    area[:, :] = 0.0
    replicas[:, :, :] = np.nan
    replicas[:, :, _R_ORDINAL] = -1.0
    for service in range(plan.n_services):
        base = service_at(plan, service)
        slot = 0
        at = fleet_at(lane, service).first
        while at >= 0:
            r = replica_at(lane, at)
            r.busy_acc = integrate(r.busy_acc, r.busy, r.busy_since, edge)
            r.flight_acc = integrate(r.flight_acc, np.float64(r.in_flight), r.flight_since, edge)
            r.queue_acc = integrate(r.queue_acc, np.float64(r.queued), r.queue_since, edge)
            up = r.state == UP or r.state == DRAINING
            r.up_acc = integrate(r.up_acc, 1.0 if up else 0.0, r.up_since, edge)
            area[service, _A_BUSY] += r.busy_acc
            area[service, _A_UP] += r.up_acc
            area[service, _A_FLIGHT] += r.flight_acc
            area[service, _A_QUEUE] += r.queue_acc
            r.waiting_acc = integrate(r.waiting_acc, np.float64(r.waiting), r.waiting_since, edge)
            r.waiting_since = edge
            area[service, _A_POOL] += r.waiting_acc
            r.waiting_acc = 0.0
            if up:
                used = np.float64(base.base_bytes + base.per_span_bytes * r.in_flight + r.leaked)
                area[service, _A_MEM] = max(area[service, _A_MEM], used / np.float64(base.limit_bytes))
            if r.state == UP:
                area[service, _A_REP] += 1.0
            if (r.state == UP or r.state == STARTING) and slot < replicas.shape[1]:
                out = replicas[service, slot]
                slot += 1
                out[_R_ORDINAL] = r.ordinal
                out[_R_STATE] = r.state
                out[_R_QUARANTINED] = r.quarantined
                out[_R_FINISHED] = r.finished
                if r.finished > 0:
                    out[_R_MEAN] = r.latency_sum / np.float64(r.finished)
                out[_R_BUSY] = r.busy_acc / (plan.step_s * base.cores)
            r.busy_acc, r.flight_acc, r.queue_acc, r.up_acc = 0.0, 0.0, 0.0, 0.0
            r.busy_since, r.flight_since, r.queue_since, r.up_since = edge, edge, edge, edge
            r.latency_sum = 0.0
            r.finished = 0
            at = r.next
        fleet = fleet_at(lane, service)
        area[service, _A_LAG] = integrate(fleet.lag_acc, np.float64(fleet.lag), fleet.lag_since, edge)
        fleet.lag_acc = 0.0
        fleet.lag_since = edge
        markers[service] = fleet.marks
        fleet.marks = 0
    ends = carray(pointer(lane.ends), lane.end_cap, END_RECORD)
    scratch = carray(pointer(lane.scratch), lane.end_cap, np.float64)
    tally = carray(pointer(lane.tally), (np.int64(plan.n_services) + 1, N_TALLIES), np.int64)
    close_window(ends, lane.n_ends, tally, area, cores, plan.step_s, scratch, metrics, totals)
    if plan.wishes_wide > 0:
        call_autoscalers(plan, lane, edge, metrics)
    lane.n_ends = 0
    tally[:, :] = 0


@njit(internal=True)
def advance_run(plan, lane, windows, cores, area, metrics, totals, replicas, markers):  # type: ignore[no-untyped-def]
    """Advance one run to the edge of control step ``windows``.

    Returns a ``Need`` code, after which the call may be repeated. The output arrays hold the windows that end at that
    edge; the burn-in is written to the first of them and overwritten.
    """
    first_replica = lane.first_replica_leaf
    first_window = windows - metrics.shape[0]
    edge = np.float64(lane.window + 1) * plan.step_s
    if lane.window >= windows:
        return 0
    while True:
        if lane.need:
            return lane.need
        if lane.log_on and lane.n_log + log_room(lane) > lane.log_cap:
            return _NEED_LOG
        first = group_at(lane, first_group(lane))
        now = first.time
        if now >= edge:
            if plan.wishes_wide > 0 and control_is_short(lane, plan.n_services + _SLACK):
                return _NEED_CONTROL
            at = max(0, lane.window - first_window)
            close(plan, lane, edge, cores, area, metrics[at], totals[at], replicas[at], markers[at])
            lane.window += 1
            edge = np.float64(lane.window + 1) * plan.step_s
            if lane.window >= windows:
                return 0
            continue
        leaf = first.leaf
        lane.now = now
        lane.events += 1
        todo, s, status = NOTHING, 0, _OK
        if leaf >= first_replica:
            s = complete_cpu(plan, lane, leaf - first_replica, now)
            span = span_at(lane, s)
            note(lane, now, span.request, span.key, _CPU_DONE, step_at(plan, span.pc).number)
            span.pc += 1
            todo = WALK
        elif leaf == HEAP_LEAF:
            todo, s, status = _on_heap(plan, lane, now)
        elif leaf == STREAM_LEAF:
            s = on_candidate(plan, lane, now)
            if s >= 0:
                todo = SEND
        elif leaf == CONTROL_LEAF:
            # without room for it the entry waits, and counts when it runs
            lane.events -= not _on_control(plan, lane, now)
        else:
            ring = leaf - FIRST_RING
            s = first_timer(lane, ring)
            if s != ring and span_at(lane, s).expires <= now:
                disarm(lane, s)
                todo, s, status = on_timeout(plan, lane, s, now)
            s2 = first_timer(lane, ring)
            set_leaf(lane, leaf, span_at(lane, s2).expires if s2 != ring else NEVER)
        # in the order in which one usually leads to the next, so that the branches can be foreseen
        while todo != NOTHING:
            if todo == WALK:
                todo, s, status = walk(plan, lane, s, now)
            if todo == FINISH:
                todo = finish(plan, lane, s, status, now)
                lane.events += todo == REPLY
            if todo == REPLY:
                todo, s, status = on_reply(plan, lane, s, now)
            if todo == FAILED:
                todo, s, status = failed(plan, lane, s, now)
            if todo == SEND:
                todo, s = send(plan, lane, s, now)
                lane.events += todo == ARRIVE
            if todo == ARRIVE:
                todo, s, status = arrive(plan, lane, s, now)
                lane.events += todo == REPLY
