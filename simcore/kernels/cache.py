"""Cache shards of one run: exact LRU over numbered slots, and who owns a key."""

import numpy as np

from simcore.codes import CACHE_SALT
from simcore.jit import njit
from simcore.layout import NEVER, fleet_at, replica_at, shard_at, slot_at, where_at
from simcore.streams import mix, uniform

_SALT = np.uint64(CACHE_SALT)

#: Answers of a lookup.
MISS, HIT, POISONED = np.arange(3)


@njit(internal=True)
def owner(lane, service, cache_key):  # type: ignore[no-untyped-def]
    """Return the eligible replica that owns a key by rendezvous hashing, -1 if there is none."""
    best = -1
    weight = np.uint64(0)
    hashed = mix(_SALT, np.uint64(cache_key))
    at = fleet_at(lane, service).first
    while at >= 0:
        replica = replica_at(lane, at)
        if replica.rotates == 1 and replica.quarantined == 0:
            w = mix(hashed, np.uint64(at))
            if best < 0 or w > weight:
                best = at
                weight = w
        at = replica.next
    return best


@njit(internal=True)
def clear(lane, shard, n_keys, n_slots):  # type: ignore[no-untyped-def]
    """Empty a shard."""
    s = shard_at(lane, shard)
    s.head = -1
    s.tail = -1
    s.used = 0
    s.free = -1
    for k in range(n_keys):
        where_at(lane, shard * lane.keys_wide + k).slot = -1


@njit(inline=True, internal=True)
def _unlink(lane, shard, slot):  # type: ignore[no-untyped-def]
    first_slot = shard * lane.slots_wide
    before = np.int64(slot_at(lane, first_slot + slot).prev)
    after = np.int64(slot_at(lane, first_slot + slot).next)
    if before < 0:
        shard_at(lane, shard).head = after
    else:
        slot_at(lane, first_slot + before).next = after
    if after < 0:
        shard_at(lane, shard).tail = before
    else:
        slot_at(lane, first_slot + after).prev = before


@njit(inline=True, internal=True)
def _to_front(lane, shard, slot):  # type: ignore[no-untyped-def]
    first_slot = shard * lane.slots_wide
    first = shard_at(lane, shard).head
    slot_at(lane, first_slot + slot).prev = -1
    slot_at(lane, first_slot + slot).next = first
    if first < 0:
        shard_at(lane, shard).tail = slot
    else:
        slot_at(lane, first_slot + first).prev = slot
    shard_at(lane, shard).head = slot


@njit(internal=True)
def lookup(lane, shard, cache_key, now):  # type: ignore[no-untyped-def]
    """Return MISS, HIT or POISONED; a hit becomes the most recent, an expired entry goes."""
    slot = np.int64(where_at(lane, shard * lane.keys_wide + cache_key).slot)
    if slot < 0:
        return MISS
    entry = slot_at(lane, shard * lane.slots_wide + slot)
    if now >= entry.expiry:
        _unlink(lane, shard, slot)
        where_at(lane, shard * lane.keys_wide + cache_key).slot = -1
        entry.next = shard_at(lane, shard).free
        shard_at(lane, shard).free = slot
        return MISS
    if shard_at(lane, shard).head != slot:
        _unlink(lane, shard, slot)
        _to_front(lane, shard, slot)
    return POISONED if entry.poisoned else HIT


@njit(internal=True)
def fill(lane, shard, cache_key, expiry, n_slots):  # type: ignore[no-untyped-def]
    """Write an entry as the most recent, evicting the least recent if the shard is full."""
    s = shard_at(lane, shard)
    slot = np.int64(where_at(lane, shard * lane.keys_wide + cache_key).slot)
    if slot >= 0:
        _unlink(lane, shard, slot)
    elif s.free >= 0:
        slot = s.free
        s.free = np.int64(slot_at(lane, shard * lane.slots_wide + slot).next)
    elif s.used < n_slots:
        slot = s.used
        s.used += 1
    else:
        slot = s.tail
        where_at(lane, shard * lane.keys_wide + slot_at(lane, shard * lane.slots_wide + slot).key).slot = -1
        _unlink(lane, shard, slot)
    entry = slot_at(lane, shard * lane.slots_wide + slot)
    entry.key = cache_key
    entry.expiry = expiry
    entry.poisoned = 0
    where_at(lane, shard * lane.keys_wide + cache_key).slot = slot
    _to_front(lane, shard, slot)


@njit(internal=True)
def poison(lane, shard, key, share):  # type: ignore[no-untyped-def]
    """Mark the resident entries whose keyed uniform is below ``share`` as wrong and everlasting."""
    slot = shard_at(lane, shard).head
    while slot >= 0:
        entry = slot_at(lane, shard * lane.slots_wide + slot)
        if uniform(key, np.uint64(entry.key)) < share:
            entry.poisoned = 1
            entry.expiry = NEVER
        slot = np.int64(entry.next)
