"""Cached steps that are more than a lookup and a fill: keys that live on several replicas, keys that do not exist."""

import numpy as np

from simcore.codes import BORDER, Event, Purpose
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.balancers import count_eligible
from simcore.kernels.cache import SALT
from simcore.kernels.replica import UP
from simcore.kernels.spans import note
from simcore.layout import ABSENT, fleet_at, replica_at, rules_at, service_at, site_at, span_at
from simcore.streams import draw_index, mix, uniform

_FILLED, _BALANCER = np.int64(Event.FILLED), np.int64(Purpose.BALANCER)
_ABSENT = np.uint64(ABSENT)


@njit(internal=True)
def holder(lane, service, cache_key, rank):  # type: ignore[no-untyped-def]
    """Return the eligible replica with the so-manieth largest weight for a key, -1 if there are fewer."""
    hashed = mix(SALT, np.uint64(cache_key))
    last = -1
    last_weight = np.uint64(0)
    for _ in range(rank + 1):
        best = -1
        weight = np.uint64(0)
        at = fleet_at(lane, service).first
        while at >= 0:
            replica = replica_at(lane, at)
            if replica.rotates == 1 and replica.quarantined == 0:
                w = mix(hashed, np.uint64(at))
                later = last < 0 or w < last_weight or (w == last_weight and at > last)
                if later and (best < 0 or w > weight):
                    best = at
                    weight = w
            at = replica.next
        if best < 0:
            return best
        last = best
        last_weight = weight
    return last


@njit(internal=True)
def holds(lane, at, seed):  # type: ignore[no-untyped-def]
    """Return whether a replica is one of those that hold a key."""
    for rank in range(seed.copies):
        if holder(lane, replica_at(lane, at).service, np.int64(seed.key), rank) == at:
            return True
    return False


@njit(internal=True)
def _n_copies(plan, call, cache_key):  # type: ignore[no-untyped-def]
    return rules_at(plan, call.service).copies if cache_key - call.key_offset < call.replicated else 1


@njit(internal=True)
def drawn_holder(plan, lane, s):  # type: ignore[no-untyped-def]
    """Return the replica to which a lookup goes, one of those that hold its key; -1 if none is eligible."""
    span = span_at(lane, s)
    n = min(_n_copies(plan, site_at(plan, span.site), span.cache_key), count_eligible(lane, span.service))
    if n <= 1:
        return cache.owner(lane, span.service, span.cache_key)
    u = uniform(span.key, draw_index(BORDER, _BALANCER))
    return holder(lane, span.service, span.cache_key, min(n - 1, np.int64(u * np.float64(n))))


@njit(internal=True)
def fill_all(plan, lane, s, call, cache_key, now):  # type: ignore[no-untyped-def]
    """Write what a span has fetched to every replica that holds the key; of a key that does not exist, its absence."""
    span = span_at(lane, s)
    rules = rules_at(plan, call.service)
    ttl_s = service_at(plan, call.service).ttl_s
    if call.absent > 0.0 and uniform(mix(_ABSENT, np.uint64(cache_key)), np.uint64(0)) < call.absent:
        ttl_s = rules.negative_ttl_s
        if ttl_s == 0.0:
            return
    for rank in range(_n_copies(plan, call, cache_key)):
        at = holder(lane, call.service, cache_key, rank)
        if at < 0:
            return
        # health checks may trust a replica that is down
        if replica_at(lane, at).state == UP:
            note(lane, now, span.request, span.key, _FILLED, cache_key)
            slots = service_at(plan, call.service).slots
            cache.fill(lane, replica_at(lane, at).shard, cache_key, now + ttl_s, slots)
