"""Programs of operations, as spans walk through them step by step."""

import numpy as np

from simcore.codes import Event, Kind, Param, Purpose, Status, StepCode
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.calendar import enter
from simcore.kernels.collector import warmup_factor
from simcore.kernels.copies import fill_all
from simcore.kernels.flights import board, land
from simcore.kernels.locks import enter_section, leave_section
from simcore.kernels.members import fork, new_child
from simcore.kernels.replica import UP, join_cpu
from simcore.kernels.spans import DELAYED, FINISH, NOTHING, ON_CPU, SEND, WALK, note
from simcore.kernels.topics import publish
from simcore.layout import (
    BOARD,
    END,
    FAIL,
    FILL,
    UNLOCK,
    alias_at,
    fleet_at,
    mod_at,
    replica_at,
    service_at,
    site_at,
    span_at,
    step_at,
)
from simcore.samplers import draw, popular
from simcore.streams import draw_index, uniform

_FILLED = np.int64(Event.FILLED)
_OK, _ERROR, _DEPENDENCY = np.int64(Status.OK), np.int64(Status.ERROR), np.int64(Status.DEPENDENCY)
_DELAY = np.int64(Kind.DELAY)
_WORK, _CHOICE = np.int64(Purpose.WORK), np.int64(Purpose.CHOICE)
_POPULARITY = np.int64(Purpose.POPULARITY)
_CPU_STEP, _DELAY_STEP, _CALL_STEP = np.int64(StepCode.CPU), np.int64(StepCode.DELAY), np.int64(StepCode.CALL)
_LOCK_STEP, _PARALLEL_STEP, _PUBLISH_STEP = (
    np.int64(StepCode.LOCK),
    np.int64(StepCode.PARALLEL),
    np.int64(StepCode.PUBLISH),
)
_FILL_STEP, _END_STEP, _UNLOCK_STEP, _BOARD_STEP, _FAIL_STEP = FILL, END, UNLOCK, BOARD, FAIL
_DONE = np.int64(0)
_HOT_KEY = np.int64(Param.HOT_KEY)


@njit(inline=True, internal=True)
def cache_key_of(plan, call, key, step):  # type: ignore[no-untyped-def]
    """Return the cache key that a span draws at a cached step."""
    scaled = uniform(key, draw_index(step, _POPULARITY)) * call.table_n
    column = np.int64(scaled)
    row = alias_at(plan, call.table + column)
    return call.key_offset + popular(scaled, column, row.accept, row.alias)


@njit(internal=True)
def _hot_key(lane, call, s, step, cache_key):  # type: ignore[no-untyped-def]
    """Return what a cached step reads: the key given, or the hot one; the span keeps which, for the fill."""
    share = 0.0
    for i in range(lane.n_mods):
        mod = mod_at(lane, i)
        if mod.param == _HOT_KEY and mod.service == call.service and mod.begun == 1 and mod.over == 0:
            share = share + mod.value
    span = span_at(lane, s)
    bit = np.int64(1) << call.depth
    span.hot &= ~bit
    if share > 0.0 and uniform(span.key, draw_index(step, _POPULARITY) + np.uint64(1)) < min(1.0, share):
        span.hot |= bit
        return np.int64(call.key_offset)
    return cache_key


@njit(inline=True, internal=True)
def _filled_key(plan, lane, s, call, step):  # type: ignore[no-untyped-def]
    """Return the cache key that a span reads and fills at the cached step that it is in."""
    span = span_at(lane, s)
    if lane.hot_keys and (span.hot >> call.depth) & 1:
        return np.int64(call.key_offset)
    return cache_key_of(plan, call, span.key, step)


@njit(internal=True)
def _fill_special(plan, lane, s, call, step, now):  # type: ignore[no-untyped-def]
    """Write the key of a cached step that is more than plain, and let those go on who wait for it."""
    fill_all(plan, lane, s, call, _filled_key(plan, lane, s, call, step.number), now)
    if call.coalesces:
        land(lane, s, step.site, _DONE, now)


@njit(internal=True)
def _special(plan, lane, s, kind, now):  # type: ignore[no-untyped-def]
    """Run a step that plain programs do not have; WALK: go on."""
    span = span_at(lane, s)
    if kind == _LOCK_STEP:
        return WALK if enter_section(plan, lane, s, now) else NOTHING, s, _OK
    if kind == _FAIL_STEP:
        return FINISH, s, _ERROR
    if kind == _UNLOCK_STEP:
        leave_section(lane, s, now)
    elif kind == _PUBLISH_STEP:
        if not publish(plan, lane, s, now):
            return FINISH, s, _DEPENDENCY
    elif kind == _BOARD_STEP:
        step = step_at(plan, span.pc)
        call = site_at(plan, step.site)
        if not board(lane, s, step.site, _filled_key(plan, lane, s, call, step.number), now):
            return NOTHING, s, _OK
    else:
        child = fork(plan, lane, s)
        if child >= 0:
            return SEND, child, _OK
    span.pc += 1
    return WALK, s, _OK


@njit(inline=True, internal=True)
def walk(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Go on with a program until it has to wait, calls, or ends."""
    span = span_at(lane, s)
    at = span.replica
    while True:
        step = step_at(plan, span.pc)
        kind = step.kind
        if kind == _CPU_STEP:
            demand = draw(step.dist, step.mean, step.shape, span.key, step.number, _WORK)
            if replica_at(lane, at).warming:
                demand = demand * warmup_factor(plan, lane, at, now)
            demand = demand * replica_at(lane, at).demand
            if step.lock >= 0:
                demand = demand * replica_at(lane, at).hold
            span.state = ON_CPU
            join_cpu(plan, lane, at, s, demand, now)
            return NOTHING, s, _OK
        if kind == _END_STEP:
            return FINISH, s, _OK
        if kind == _DELAY_STEP:
            wait = draw(step.dist, step.mean, step.shape, span.key, step.number, _WORK) * replica_at(lane, at).delay
            if step.lock >= 0:
                wait = wait * replica_at(lane, at).hold
            span.state = DELAYED
            enter(lane, now + wait, _DELAY, span.key, s)
            return NOTHING, s, _OK
        if (
            kind == _LOCK_STEP
            or kind == _UNLOCK_STEP
            or kind == _PARALLEL_STEP
            or kind == _BOARD_STEP
            or kind == _PUBLISH_STEP
            or kind == _FAIL_STEP
        ):
            todo, child, status = _special(plan, lane, s, kind, now)
            if todo == WALK:
                continue
            return todo, child, status
        call = site_at(plan, step.site)
        if kind == _FILL_STEP:
            if call.special:
                _fill_special(plan, lane, s, call, step, now)
                span.pc += 1
                continue
            cache_key = _filled_key(plan, lane, s, call, step.number)
            holder = cache.owner(lane, call.service, cache_key)
            # health checks may trust a replica that is down
            if holder >= 0 and replica_at(lane, holder).state == UP:
                note(lane, now, span.request, span.key, _FILLED, cache_key)
                cached = service_at(plan, call.service)
                cache.fill(lane, replica_at(lane, holder).shard, cache_key, now + cached.ttl_s, cached.slots)
            span.pc += 1
            continue
        if lane.degraded and kind == _CALL_STEP and not call.required and fleet_at(lane, span.service).degraded:
            span.pc = step.after
            continue
        if call.probability < 1.0 and uniform(span.key, draw_index(step.number, _CHOICE)) >= call.probability:
            span.pc = step.after
            continue
        child = new_child(plan, lane, s, step.site, 0)
        if kind != _CALL_STEP:
            cache_key = cache_key_of(plan, call, span.key, step.number)
            if lane.hot_keys:
                cache_key = _hot_key(lane, call, s, step.number, cache_key)
            span_at(lane, child).cache_key = cache_key
        return SEND, child, _OK
