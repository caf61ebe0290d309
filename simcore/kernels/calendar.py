"""The calendar of one run: event sources in groups of eight, a heap with removal, and FIFO rings of timers.

Sources (leaves): 0 the heap of span entries, 1 the control heap (faults, actions, replicas), 2 the
arrival streams, then a ring per constant time-out, then the replicas' processor-sharing completions. A timer
ring's leaf may be early (a lower bound): cancelling a timer does not touch it. Every group knows its first leaf,
so an event looks at the groups only, and a leaf that changes looks at its group only if it was the first.
"""

import numpy as np

from simcore.codes import Kind
from simcore.jit import njit
from simcore.kernels.spans import RING_END
from simcore.layout import NEVER, control_at, group_at, heap_at, job_at, leaf_at, span_at, stream_at

HEAP_LEAF, CONTROL_LEAF, STREAM_LEAF, FIRST_RING = np.arange(4)

#: Leaves per group, a power of two (``leaf >> 3`` is the group).
FAN = np.int64(8)

_CPU, _TIMEOUT, _ROOT = np.int64(Kind.CPU), np.int64(Kind.TIMEOUT), np.int64(Kind.ROOT)
_NO_KEY = np.uint64(0)


@njit(inline=True, internal=True)
def before(time_a, kind_a, key_a, time_b, kind_b, key_b):  # type: ignore[no-untyped-def]
    """Return whether entry a runs before entry b; equal keys cannot meet among spans."""
    if time_a != time_b:
        return time_a < time_b
    if kind_a != kind_b:
        return kind_a < kind_b
    return key_a < key_b


@njit(internal=True)
def _leaf_rank(lane, leaf):  # type: ignore[no-untyped-def]
    """Return (kind, key) of a source's next entry; (0, 0) for a ring whose leaf is early: it is mended first."""
    if leaf == HEAP_LEAF:
        return heap_at(lane, 0).kind, heap_at(lane, 0).key
    if leaf == CONTROL_LEAF:
        return control_at(lane, 0).kind, control_at(lane, 0).key
    if leaf == STREAM_LEAF:
        return _ROOT, stream_at(lane, next_stream(lane)).root
    first_replica = lane.first_replica_leaf
    if leaf < first_replica:
        ring = leaf - FIRST_RING
        first = first_timer(lane, ring)
        if first == ring or span_at(lane, first).expires > leaf_at(lane, leaf).time:
            return 0, _NO_KEY
        return _TIMEOUT, span_at(lane, first).key
    return _CPU, job_at(lane, (leaf - first_replica) * lane.per_replica).key


@njit(internal=True)
def _tie(lane, a, b):  # type: ignore[no-untyped-def]
    kind_a, key_a = _leaf_rank(lane, a)
    kind_b, key_b = _leaf_rank(lane, b)
    return kind_a < kind_b or (kind_a == kind_b and key_a < key_b)


@njit(internal=True)
def _first_of_equals(lane, group, time):  # type: ignore[no-untyped-def]
    best = -1
    for leaf in range(group * FAN, group * FAN + FAN):
        if leaf_at(lane, leaf).time == time and (best < 0 or _tie(lane, leaf, best)):
            best = leaf
    return best


@njit(internal=True)
def rescan(lane, group):  # type: ignore[no-untyped-def]
    """Find the first leaf of a group again; without branches, since nobody can predict which it is."""
    at = group * FAN
    a, b, c, d = (
        leaf_at(lane, at).time,
        leaf_at(lane, at + 1).time,
        leaf_at(lane, at + 2).time,
        leaf_at(lane, at + 3).time,
    )
    e, f, g, h = (
        leaf_at(lane, at + 4).time,
        leaf_at(lane, at + 5).time,
        leaf_at(lane, at + 6).time,
        leaf_at(lane, at + 7).time,
    )
    # a tournament: times and places go up together
    ab, cd, ef, gh = min(a, b), min(c, d), min(e, f), min(g, h)
    in_ab, in_cd, in_ef, in_gh = np.int64(b < a), 2 + np.int64(d < c), 4 + np.int64(f < e), 6 + np.int64(h < g)
    ad, eh = min(ab, cd), min(ef, gh)
    in_ad = in_cd if cd < ab else in_ab
    in_eh = in_gh if gh < ef else in_ef
    time = min(ad, eh)
    best = at + (in_eh if eh < ad else in_ad)
    equal = (
        (a == time) + (b == time) + (c == time) + (d == time) + (e == time) + (f == time) + (g == time) + (h == time)
    )
    if equal > 1 and time < NEVER:
        best = _first_of_equals(lane, group, time)
    first = group_at(lane, group)
    first.time = time
    first.leaf = best
    first.tied = equal > 1


@njit(inline=True, internal=True)
def set_leaf(lane, leaf, time):  # type: ignore[no-untyped-def]
    """Enter the next time of a source (``NEVER`` for none)."""
    leaf_at(lane, leaf).time = time
    if time <= lane.now:
        lane.tied = 1
    group = group_at(lane, leaf >> 3)
    if time < group.time:
        group.time = time
        group.leaf = leaf
        group.tied = 0
    elif group.leaf == leaf or (time == group.time and time < NEVER):
        # at once rather than when the loop needs it: the processor does it beside the rest of the event
        rescan(lane, leaf >> 3)


@njit(inline=True, internal=True)
def first_group(lane):  # type: ignore[no-untyped-def]
    """Return the group whose first leaf comes first; its record has the leaf and its time."""
    best = 0
    time, tied = group_at(lane, 0).time, group_at(lane, 0).tied
    for group in range(1, lane.groups):
        here = group_at(lane, group)
        if here.time < time:
            best, time, tied = group, here.time, here.tied
        elif here.time == time and time < NEVER:
            tied = 1
            if _tie(lane, here.leaf, group_at(lane, best).leaf):
                best = group
    lane.tied = tied
    return best


@njit(inline=True, internal=True)
def log_room(lane):  # type: ignore[no-untyped-def]
    """Return how many rows of the log one event may write at most: a kill has two per span, scaling one per replica."""
    return 2 * lane.span_cap + lane.replica_cap + lane.log_room


@njit(internal=True)
def control_is_short(lane, more):  # type: ignore[no-untyped-def]
    """Return whether control entries may outgrow their room: one per replica and abandoned attempt, and ``more``."""
    return lane.n_control + lane.n_replicas + more + lane.cancels * lane.span_cap > lane.control_cap


@njit(inline=True, internal=True)
def alone(lane):  # type: ignore[no-untyped-def]
    """Return whether nothing is pending at this instant and there is room for another event.

    Then an entry that would be made for this instant may run in line, since it would be the next to run. The answer
    may be no for an entry that has been taken away since: then the other goes through the calendar.
    """
    return not (lane.need or lane.tied or (lane.log_on and lane.n_log + log_room(lane) > lane.log_cap))


@njit(internal=True)
def next_stream(lane):  # type: ignore[no-untyped-def]
    """Return the arrival stream whose candidate comes first."""
    best = 0
    for i in range(1, lane.n_streams):
        a, b = stream_at(lane, i), stream_at(lane, best)
        if a.time < b.time or (a.time == b.time and a.root < b.root):
            best = i
    return best


@njit(inline=True, internal=True)
def _settle(lane, i, time, kind, key, span):  # type: ignore[no-untyped-def]
    heap_at(lane, i).time = time
    heap_at(lane, i).key = key
    heap_at(lane, i).kind = kind
    heap_at(lane, i).span = span
    span_at(lane, span).heap_at = i


@njit(internal=True)
def _sift_up(lane, i, time, kind, key, span):  # type: ignore[no-untyped-def]
    while i > 0:
        up = (i - 1) >> 1
        e = heap_at(lane, up)
        if not before(time, kind, key, e.time, e.kind, e.key):
            break
        _settle(lane, i, e.time, e.kind, e.key, e.span)
        i = up
    _settle(lane, i, time, kind, key, span)
    return i


@njit(internal=True)
def _sift_down(lane, i, time, kind, key, span):  # type: ignore[no-untyped-def]
    n = lane.n_heap
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n:
            a, b = heap_at(lane, child + 1), heap_at(lane, child)
            if before(a.time, a.kind, a.key, b.time, b.kind, b.key):
                child += 1
        e = heap_at(lane, child)
        if not before(e.time, e.kind, e.key, time, kind, key):
            break
        _settle(lane, i, e.time, e.kind, e.key, e.span)
        i = child
    _settle(lane, i, time, kind, key, span)


@njit(internal=True)
def enter(lane, time, kind, key, span):  # type: ignore[no-untyped-def]
    """Enter the one calendar entry of a span."""
    n = lane.n_heap
    lane.n_heap = n + 1
    if _sift_up(lane, n, time, kind, key, span) == 0:
        set_leaf(lane, HEAP_LEAF, time)


@njit(internal=True)
def leave(lane, span):  # type: ignore[no-untyped-def]
    """Take the calendar entry of a span away, run or not."""
    i = span_at(lane, span).heap_at
    span_at(lane, span).heap_at = -1
    n = lane.n_heap - 1
    lane.n_heap = n
    if i < n:
        e = heap_at(lane, n)
        time, kind, key, moved = e.time, e.kind, e.key, e.span
        if _sift_up(lane, i, time, kind, key, moved) == i:
            _sift_down(lane, i, time, kind, key, moved)
    if i == 0:
        set_leaf(lane, HEAP_LEAF, heap_at(lane, 0).time if n > 0 else NEVER)


@njit(inline=True, internal=True)
def first_timer(lane, ring):  # type: ignore[no-untyped-def]
    """Return the span whose timer is the first of a ring, the ring itself if it is empty."""
    return span_at(lane, ring).t_next


@njit(internal=True)
def empty_ring(lane, ring):  # type: ignore[no-untyped-def]
    """Make a span record the end of a ring, in both directions: so timers come and go without asking where they are."""
    end = span_at(lane, ring)
    end.state = RING_END
    end.ring = -1
    end.t_prev = ring
    end.t_next = ring
    end.expires = -np.inf


@njit(inline=True, internal=True)
def arm(lane, ring, span, time):  # type: ignore[no-untyped-def]
    """Put a timer of a span into its ring; rings keep (time, key) order, so a changed time-out walks back."""
    key = span_at(lane, span).key
    at = span_at(lane, ring).t_prev
    while span_at(lane, at).expires > time or (span_at(lane, at).expires == time and span_at(lane, at).key > key):
        at = span_at(lane, at).t_prev
    after = span_at(lane, at).t_next
    span_at(lane, span).expires = time
    span_at(lane, span).ring = ring
    span_at(lane, span).t_prev = at
    span_at(lane, span).t_next = after
    span_at(lane, after).t_prev = span
    span_at(lane, at).t_next = span
    if time <= leaf_at(lane, FIRST_RING + ring).time:
        set_leaf(lane, FIRST_RING + ring, time)


@njit(inline=True, internal=True)
def disarm(lane, span):  # type: ignore[no-untyped-def]
    """Take the timer of a span out of its ring, if it has one."""
    ring = span_at(lane, span).ring
    if ring < 0:
        return
    before, after = span_at(lane, span).t_prev, span_at(lane, span).t_next
    span_at(lane, span).ring = -1
    span_at(lane, after).t_prev = before
    span_at(lane, before).t_next = after
    if span_at(lane, after).expires == leaf_at(lane, FIRST_RING + ring).time:
        # the same instant under another key: its matches may turn out differently
        set_leaf(lane, FIRST_RING + ring, span_at(lane, after).expires)


@njit(inline=True, internal=True)
def _control_before(a, b):  # type: ignore[no-untyped-def]
    if a.time != b.time:
        return a.time < b.time
    if a.kind != b.kind:
        return a.kind < b.kind
    if a.key != b.key:
        return a.key < b.key
    return a.attempt < b.attempt


@njit(internal=True)
def _swap_control(lane, i, j):  # type: ignore[no-untyped-def]
    a, b = control_at(lane, i), control_at(lane, j)
    a.time, b.time = b.time, a.time
    a.key, b.key = b.key, a.key
    a.attempt, b.attempt = b.attempt, a.attempt
    a.kind, b.kind = b.kind, a.kind
    a.what, b.what = b.what, a.what
    a.index, b.index = b.index, a.index
    a.incarnation, b.incarnation = b.incarnation, a.incarnation


@njit(internal=True)
def enter_control(lane, time, kind, key, attempt, what, index, incarnation):  # type: ignore[no-untyped-def]
    """Enter a fault, action or replica event; the caller has checked the room."""
    i = lane.n_control
    lane.n_control = i + 1
    entry = control_at(lane, i)
    entry.time = time
    entry.key = key
    entry.attempt = attempt
    entry.kind = kind
    entry.what = what
    entry.index = index
    entry.incarnation = incarnation
    while i > 0 and _control_before(control_at(lane, i), control_at(lane, (i - 1) >> 1)):
        _swap_control(lane, i, (i - 1) >> 1)
        i = (i - 1) >> 1
    if i == 0:
        set_leaf(lane, CONTROL_LEAF, time)


@njit(internal=True)
def pop_control(lane):  # type: ignore[no-untyped-def]
    """Drop the first control entry, moving it behind the last one, where the caller may still read it."""
    n = lane.n_control - 1
    lane.n_control = n
    _swap_control(lane, 0, n)
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and _control_before(control_at(lane, child + 1), control_at(lane, child)):
            child += 1
        if not _control_before(control_at(lane, child), control_at(lane, i)):
            break
        _swap_control(lane, i, child)
        i = child
    set_leaf(lane, CONTROL_LEAF, control_at(lane, 0).time if n > 0 else NEVER)
    return n
