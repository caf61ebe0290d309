"""What happens to replicas of one run: kills and starts, faults, actions. Rare events, so plain rather than fast."""

import numpy as np

from simcore.codes import BORDER, ActionCode, Down, Event, Kind, Param, Place, Purpose, Status
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.calendar import STREAM_LEAF, enter, next_stream, set_leaf
from simcore.kernels.cancel import drop_waits
from simcore.kernels.gates import hand_on_all, reset_gates
from simcore.kernels.repairs import (
    end_all,
    end_one,
    end_place,
    home,
    refresh_service,
    skip_messages,
    warm_cache,
)
from simcore.kernels.replica import (
    DRAINING,
    GONE,
    STARTING,
    UP,
    arm_cpu,
    enter_replica,
    next_in_queue,
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
from simcore.kernels.threads import drop, put_back
from simcore.kernels.topics import arm_pills
from simcore.layout import (
    NEVER,
    NO_VERSION,
    action_at,
    change_at,
    fleet_at,
    mod_at,
    replica_at,
    rules_at,
    service_at,
    span_at,
    stack_at,
    stream_at,
    tally_at,
)
from simcore.samplers import backoff, draw
from simcore.streams import draw_index, mix, uniform

_KILLED, _UP_EV, _DOWN, _DRAIN_EV = (
    np.int64(Event.KILLED),
    np.int64(Event.REPLICA_UP),
    np.int64(Event.REPLICA_DOWN),
    np.int64(Event.REPLICA_DRAINING),
)
_GONE_EV, _FAULT_EV, _ACTION_EV = (
    np.int64(Event.REPLICA_GONE),
    np.int64(Event.FAULT_CHANGE),
    np.int64(Event.ACTION_DONE),
)
_BY_RESTART, _BY_CRASH, _BY_OOM = np.int64(Down.RESTART), np.int64(Down.CRASH), np.int64(Down.OOM)
_REPLY = np.int64(Kind.REPLY)
_RESET = np.int64(Status.RESET)
_CRASH_DRAW, _ARRIVAL = np.int64(Purpose.CRASH), np.int64(Purpose.ARRIVAL)
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
def _crash_entry(lane, at, now):  # type: ignore[no-untyped-def]
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
            _crash_entry(lane, at, now)
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
                _crash_entry(lane, at, now)
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


@njit(inline=True, internal=True)
def next_candidate(lane, stream):  # type: ignore[no-untyped-def]
    """Enter the next candidate of a stream; number ``n`` is the one that comes."""
    s = stream_at(lane, stream)
    s.root = mix(s.key, np.uint64(s.n))
    if s.gap < 0.0:
        s.time = s.first_s + np.float64(s.n + 1) * -s.gap
    else:
        s.time = s.time + draw(1, s.gap, 0.0, s.root, BORDER, _ARRIVAL)


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
def scale(plan, lane, service, amount, now):  # type: ignore[no-untyped-def]
    """Add so many replicas to a service, or drain so many of the newest."""
    for _ in range(amount):
        at = add_replica(plan, lane, service, STARTING, now)
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
