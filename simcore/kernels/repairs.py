"""Actions that end what is wrong rather than restart it, or that make up for it: a cache is warmed."""

import numpy as np

from simcore.codes import Event, Param
from simcore.jit import njit
from simcore.kernels import cache
from simcore.kernels.copies import holds
from simcore.kernels.members import abandon
from simcore.kernels.replica import UP, refresh
from simcore.kernels.spans import note
from simcore.kernels.topics import FIRST, done, key_of
from simcore.layout import (
    fleet_at,
    message_at,
    mod_at,
    partition_at,
    replica_at,
    seed_at,
    service_at,
    span_at,
    stream_at,
    topic_at,
)

_SURGE, _SKIPPED = np.int64(Param.SURGE), np.int64(Event.SKIPPED)


@njit(internal=True)
def home(mod):  # type: ignore[no-untyped-def]
    """Return the service where a modulation lives: of an edge, the callee."""
    return mod.peer if mod.peer >= 0 else mod.service


@njit(internal=True)
def refresh_service(plan, lane, service, now):  # type: ignore[no-untyped-def]
    """Recompute the effective values of all replicas of a service."""
    at = fleet_at(lane, service).first
    while at >= 0:
        refresh(plan, lane, at, now)
        at = replica_at(lane, at).next


@njit(internal=True)
def end_place(plan, lane, service, place, now):  # type: ignore[no-untyped-def]
    """End the modulations of a service that have begun and live in a place."""
    for i in range(lane.n_mods):
        mod = mod_at(lane, i)
        if home(mod) == service and mod.begun == 1 and mod.place == place:
            mod.over = 1
    refresh_service(plan, lane, service, now)


@njit(internal=True)
def end_all(plan, lane, now):  # type: ignore[no-untyped-def]
    """End every modulation that has begun."""
    for i in range(lane.n_mods):
        mod = mod_at(lane, i)
        if mod.begun == 1:
            mod.over = 1
            if mod.param == _SURGE:
                stream_at(lane, mod.stream).value = 0.0
    for service in range(plan.n_services):
        refresh_service(plan, lane, service, now)


@njit(internal=True)
def end_one(plan, lane, index, now):  # type: ignore[no-untyped-def]
    """End one modulation, or keep it from ever beginning; nothing if there is none of that number."""
    if index < 0 or index >= lane.n_mods:
        return
    mod = mod_at(lane, index)
    mod.over = 1
    if mod.param == _SURGE:
        stream_at(lane, mod.stream).value = 0.0
    if home(mod) >= 0:
        refresh_service(plan, lane, home(mod), now)


@njit(internal=True)
def warm_cache(plan, lane, service, now):  # type: ignore[no-untyped-def]
    """Load the most popular keys that each replica owns into it, the most popular last."""
    base = service_at(plan, service)
    at = fleet_at(lane, service).first
    while at >= 0:
        r = replica_at(lane, at)
        if r.state == UP and r.shard >= 0:
            found = np.int64(0)
            end = np.int64(0)
            while end < base.n_seeds and found < base.slots:
                found += holds(lane, at, seed_at(plan, base.first_seed + end))
                end += 1
            for i in range(end - 1, -1, -1):
                seed = seed_at(plan, base.first_seed + i)
                if holds(lane, at, seed):
                    cache.fill(lane, r.shard, np.int64(seed.key), now + base.ttl_s, base.slots)
        at = r.next


@njit(internal=True)
def skip_messages(plan, lane, service, now):  # type: ignore[no-untyped-def]
    """Drop the messages that a service has failed to consume and that hold up the others of their partitions."""
    for i in range(plan.n_topics):
        topic = topic_at(plan, i)
        if topic.service != service:
            continue
        for number in range(topic.first, topic.first + topic.partitions):
            part = partition_at(lane, number)
            if part.n == 0 or span_at(lane, part.delivery).attempt == 0:
                continue
            head = message_at(lane, part.head)
            note(lane, now, head.request, key_of(head, FIRST), _SKIPPED, number)
            abandon(plan, lane, part.delivery, now)
            done(plan, lane, number, now)
