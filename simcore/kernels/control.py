"""What is done to a run from outside: faults and actions. Rare events, so plain rather than fast."""

import numpy as np

from simcore.codes import ActionCode, Event, Param, Place
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.calendar import STREAM_LEAF, next_stream, set_leaf
from simcore.kernels.gates import hand_on_all
from simcore.kernels.lifecycle import enter_crash, on_replica, rolling_restart, scale
from simcore.kernels.repairs import end_all, end_one, end_place, home, refresh_service, skip_messages, warm_cache
from simcore.kernels.replica import UP, next_in_queue, refresh
from simcore.kernels.spans import RESTART, note
from simcore.kernels.threads import drop
from simcore.kernels.topics import arm_pills
from simcore.kernels.users import next_candidate
from simcore.layout import (
    NEVER,
    NO_VERSION,
    action_at,
    change_at,
    fleet_at,
    mod_at,
    replica_at,
    service_at,
    stack_at,
    stream_at,
)
from simcore.streams import mix

_FAULT_EV, _ACTION_EV = np.int64(Event.FAULT_CHANGE), np.int64(Event.ACTION_DONE)
_SURGE, _FLUSH, _POISON = np.int64(Param.SURGE), np.int64(Param.FLUSH), np.int64(Param.POISON)
_EDGE_DELAY, _LOSS_BACK = np.int64(Param.EDGE_DELAY), np.int64(Param.LOSS_BACK)
_DEPLOY, _CONFIG, _PILL = np.int64(Param.DEPLOY), np.int64(Param.CONFIG), np.int64(Param.PILL)
_VERSION, _CONFIG_PLACE = np.int64(Place.VERSION), np.int64(Place.CONFIG)
_A_RESTART, _A_SCALE, _A_CLEAR = (
    np.int64(ActionCode.RESTART),
    np.int64(ActionCode.SCALE),
    np.int64(ActionCode.CLEAR_CACHE),
)
_A_LIMIT, _A_QUARANTINE, _A_RELEASE = (
    np.int64(ActionCode.LIMIT_TRAFFIC),
    np.int64(ActionCode.QUARANTINE),
    np.int64(ActionCode.RELEASE),
)
_A_RAISE, _A_ROTATE, _A_FAILOVER = (
    np.int64(ActionCode.RAISE_LIMIT),
    np.int64(ActionCode.ROTATE),
    np.int64(ActionCode.FAILOVER),
)
_A_WARM, _A_DEGRADE, _A_ESCALATE = (
    np.int64(ActionCode.WARM_CACHE),
    np.int64(ActionCode.DEGRADE),
    np.int64(ActionCode.ESCALATE),
)
_A_REMOVE = np.int64(ActionCode.REMOVE)
_QUOTA, _CREDENTIAL, _NODE = np.int64(Place.QUOTA), np.int64(Place.CREDENTIAL), np.int64(Place.NODE)
_A_ROLLBACK, _A_CLEAR_QUEUE = np.int64(ActionCode.ROLLBACK), np.int64(ActionCode.CLEAR_QUEUE)
_A_RETRY, _A_RESIZE = np.int64(ActionCode.RETRY_BUDGET), np.int64(ActionCode.RESIZE_POOL)
_A_OPEN, _A_CLOSE = np.int64(ActionCode.OPEN_BREAKER), np.int64(ActionCode.CLOSE_BREAKER)
_A_SKIP = np.int64(ActionCode.SKIP_MESSAGE)


@njit(internal=True)
def on_change(plan, lane, index, now):  # type: ignore[no-untyped-def]
    """A modulation takes a value."""
    change = change_at(lane, index)
    mod = mod_at(lane, change.mod)
    service = mod.service
    note(lane, now, -1, change.mod, _FAULT_EV, index)
    if mod.over == 1:
        return
    mod.value = change.value
    if mod.begun == 0:
        mod.begun = 1
        mod.since = now
        if home(mod) >= 0:
            mod.bad_from = fleet_at(lane, home(mod)).version
    if mod.param == _SURGE:
        _set_surge(lane, mod.stream, change.value, now)
    elif mod.param == _DEPLOY or mod.param == _CONFIG:
        if change.value > 0.0:
            _set_version(plan, lane, service, mod.param == _DEPLOY, now)
    elif mod.param == _FLUSH or mod.param == _POISON:
        if change.value > 0.0:
            _strike_cache(plan, lane, change.mod)
    elif mod.param == _PILL:
        if change.value > 0.0:
            arm_pills(plan, lane, service, mix(lane.key, np.uint64(2**42 + change.mod)), change.value)
    elif mod.param < _EDGE_DELAY or mod.param > _LOSS_BACK:
        at = fleet_at(lane, service).first
        while at >= 0:
            r = replica_at(lane, at)
            crash = r.crash
            refresh(plan, lane, at, now)
            if crash == 0.0 and r.crash > 0.0 and r.state == UP:
                enter_crash(lane, at, now)
            at = r.next


@njit(internal=True)
def _set_surge(lane, stream, value, now):  # type: ignore[no-untyped-def]
    s = stream_at(lane, stream)
    s.value = value
    if s.n == 0 and s.time >= NEVER and value > 0.0:
        s.first_s = now
        s.time = now
        next_candidate(lane, stream)
        set_leaf(lane, STREAM_LEAF, stream_at(lane, next_stream(lane)).time)


@njit(internal=True)
def _set_version(plan, lane, service, deploy, now):  # type: ignore[no-untyped-def]
    fleet = fleet_at(lane, service)
    fleet.marks += 1
    if not deploy:
        return
    fleet.newest += 1
    fleet.version = fleet.newest
    stack_at(lane, service * lane.stack_wide + fleet.depth).version = fleet.newest
    fleet.depth += 1
    rolling_restart(plan, lane, service, now)


@njit(internal=True)
def _strike_cache(plan, lane, index):  # type: ignore[no-untyped-def]
    mod = mod_at(lane, index)
    at = fleet_at(lane, mod.service).first
    while at >= 0:
        r = replica_at(lane, at)
        if r.state == UP and r.shard >= 0 and (mod.replica < 0 or mod.replica == r.ordinal):
            if mod.param == _FLUSH:
                cache.clear(lane, r.shard, service_at(plan, r.service).n_keys, service_at(plan, r.service).slots)
            else:
                cache.poison(lane, r.shard, mix(lane.key, np.uint64(2**42 + index)), mod.value)
        at = r.next


@njit(internal=True)
def _resize_pools(plan, lane, service, amount, now):  # type: ignore[no-untyped-def]
    fleet_at(lane, service).pool = amount
    at = fleet_at(lane, service).first
    while at >= 0:
        hand_on_all(plan, lane, at, now)
        at = replica_at(lane, at).next


@njit(internal=True)
def on_action(plan, lane, index, now):  # type: ignore[no-untyped-def]
    """An action takes effect."""
    action = action_at(lane, index)
    service = action.service
    note(lane, now, -1, index, _ACTION_EV, action.code)
    if action.code == _A_RESTART:
        rolling_restart(plan, lane, service, now)
    elif action.code == _A_SCALE:
        scale(plan, lane, service, np.int64(action.amount), now)
    elif action.code == _A_LIMIT:
        lane.admitted = action.amount
    elif action.code == _A_ROLLBACK:
        _rollback(plan, lane, service, now)
    elif action.code == _A_RAISE:
        end_place(plan, lane, service, _QUOTA, now)
    elif action.code == _A_ROTATE:
        end_place(plan, lane, service, _CREDENTIAL, now)
    elif action.code == _A_FAILOVER:
        end_place(plan, lane, service, _NODE, now)
        _restart_all(plan, lane, service, now)
    elif action.code == _A_WARM:
        warm_cache(plan, lane, service, now)
    elif action.code == _A_DEGRADE:
        fleet_at(lane, service).degraded = np.int64(action.amount > 0.0)
        lane.degraded = 1
    elif action.code == _A_ESCALATE:
        end_all(plan, lane, now)
    elif action.code == _A_SKIP:
        skip_messages(plan, lane, service, now)
    elif action.code == _A_REMOVE:
        end_one(plan, lane, action.replica, now)
    elif action.code == _A_CLEAR_QUEUE:
        _clear_queue(plan, lane, service, now)
    elif action.code == _A_RETRY:
        fleet_at(lane, service).retry = action.amount
        lane.plain = 0
    elif action.code == _A_OPEN or action.code == _A_CLOSE:
        fleet_at(lane, service).shut = action.code == _A_OPEN
        lane.plain = 0
    elif action.code == _A_RESIZE:
        _resize_pools(plan, lane, service, action.amount, now)
    elif action.code == _A_CLEAR or action.code == _A_QUARANTINE or action.code == _A_RELEASE:
        at = fleet_at(lane, service).first
        while at >= 0:
            r = replica_at(lane, at)
            if action.code == _A_CLEAR:
                if r.shard >= 0:
                    cache.clear(lane, r.shard, service_at(plan, service).n_keys, service_at(plan, service).slots)
            elif r.ordinal == action.replica:
                r.quarantined = 1 if action.code == _A_QUARANTINE else 0
            at = r.next


@njit(internal=True)
def _restart_all(plan, lane, service, now):  # type: ignore[no-untyped-def]
    at = fleet_at(lane, service).first
    while at >= 0:
        on_replica(plan, lane, at, RESTART, replica_at(lane, at).incarnation, now)
        at = replica_at(lane, at).next


@njit(internal=True)
def _clear_queue(plan, lane, service, now):  # type: ignore[no-untyped-def]
    at = fleet_at(lane, service).first
    while at >= 0:
        while replica_at(lane, at).q_head >= 0:
            drop(plan, lane, next_in_queue(lane, at, now), now)
        at = replica_at(lane, at).next


@njit(internal=True)
def _rollback(plan, lane, service, now):  # type: ignore[no-untyped-def]
    fleet = fleet_at(lane, service)
    for i in range(lane.n_mods):
        mod = mod_at(lane, i)
        if home(mod) == service and mod.begun == 1:
            if mod.place == _VERSION and mod.bad_to == NO_VERSION:
                mod.bad_to = fleet.version
            elif mod.place == _CONFIG_PLACE:
                mod.over = 1
    refresh_service(plan, lane, service, now)
    if fleet.depth > 1:
        fleet.depth -= 1
    fleet.version = np.int64(stack_at(lane, service * lane.stack_wide + fleet.depth - 1).version)
    rolling_restart(plan, lane, service, now)
