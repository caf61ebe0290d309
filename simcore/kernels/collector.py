"""What a runtime costs the requests: warm-up after a start, and garbage collection that stops the world."""

import numpy as np

from simcore.codes import Event
from simcore.jit import njit
from simcore.kernels.replica import enter_replica, refresh
from simcore.kernels.spans import GC_END, note
from simcore.layout import replica_at, rules_at, service_at

_COLLECTION = np.int64(Event.COLLECTION)


@njit(internal=True)
def warmup_factor(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Return by how much a step needs more CPU at a replica that has come up not long ago."""
    r = replica_at(lane, at)
    rules = rules_at(plan, r.service)
    age_s = now - r.came_up
    if age_s >= rules.warmup_s:
        r.warming = 0
        return 1.0
    return 1.0 + (rules.warmup_factor - 1.0) * (1.0 - age_s / rules.warmup_s)


@njit(internal=True)
def litter(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Add the garbage of a finished span, and begin a collection if there is too much."""
    r = replica_at(lane, at)
    base, rules = service_at(plan, r.service), rules_at(plan, r.service)
    if rules.collects == 0:
        return
    r.garbage += rules.garbage_bytes
    live = base.per_span_bytes * r.in_flight + r.leaked
    room = base.limit_bytes - base.base_bytes - live
    if r.collecting or r.garbage < max(rules.least_bytes, np.int64(rules.share * np.float64(room))):
        return
    note(lane, now, -1, at, _COLLECTION, r.garbage)
    r.garbage = 0
    r.collecting = 1
    refresh(plan, lane, at, now)
    enter_replica(lane, now + rules.pause_s + rules.pause_s_per_gb * (np.float64(live) / 1e9), at, GC_END)
