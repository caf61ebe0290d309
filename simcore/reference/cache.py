"""What caches hold: one shard per replica with exact LRU, and the keys of the call sites that use it."""

__all__ = ["KeySpace", "Popularity", "Shard", "owners_of"]

import functools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from simcore.codes import ABSENT_SALT, CACHE_SALT, ReplicaState
from simcore.model.popularity import alias_table
from simcore.model.programs import CachedStep
from simcore.model.scenario import Scenario
from simcore.samplers import popularity
from simcore.streams import keyed, uniform

if TYPE_CHECKING:
    from simcore.reference.replica import ServiceState

#: Index ranges of a run's keys (model.md: caches, faults).
WARM_INDEX = 2**40
POISON_INDEX = 2**42


@dataclass(slots=True)
class _Item:
    expiry_s: float
    poisoned: bool = False


class Shard:
    """The entries of one replica, least recent first."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._items: OrderedDict[int, _Item] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether the next new key evicts another."""
        return len(self._items) >= self.slots

    def lookup(self, key: int, now: float) -> tuple[bool, bool]:
        """Return (hit, poisoned); an expired entry goes, a live one becomes the most recent."""
        item = self._items.get(key)
        if item is None:
            return False, False
        if now >= item.expiry_s:
            del self._items[key]
            return False, False
        self._items.move_to_end(key)
        return True, item.poisoned

    def fill(self, key: int, expiry_s: float) -> None:
        """Write an entry as the most recent one; a new key evicts the least recent if the shard is full."""
        if key not in self._items and self.full:
            self._items.popitem(last=False)
        self._items[key] = _Item(expiry_s)
        self._items.move_to_end(key)

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()

    def poison(self, run_key: np.uint64, modulation: int, share: float) -> None:
        """Turn a keyed share of the entries wrong; they never expire."""
        base = keyed(run_key, POISON_INDEX + modulation)
        for key, item in self._items.items():
            if uniform(base, np.uint64(key)) < share:
                item.poisoned = True
                item.expiry_s = math.inf


class _Owner(Protocol):
    number: int
    shard: Shard


OwnerT = TypeVar("OwnerT", bound=_Owner)


def owners_of(key: int, eligible: Sequence[OwnerT], copies: int = 1) -> list[OwnerT]:
    """Return the replicas with the largest hashes of key and replica number (rendezvous), the largest first."""
    return sorted(eligible, key=lambda replica: (-_weight(key, replica.number), replica.number))[:copies]


@functools.lru_cache(2**16)
def _weight(key: int, replica: int) -> int:
    return int(keyed(keyed(np.uint64(CACHE_SALT), key), replica))


@dataclass(frozen=True, slots=True)
class Popularity:
    """The keys of one ``cached`` call site."""

    offset: int  #: its first key among those of the cache service
    absent: float  #: share of the keys that do not exist
    replicated: int  #: so many of the most popular keys ...
    copies: int  #: ... live on so many replicas
    accept: npt.NDArray[np.float64]
    alias: npt.NDArray[np.int64]

    def pick(self, u: float) -> int:
        """Return the cache key that a uniform selects."""
        return self.offset + int(popularity(self.accept, self.alias, u))

    def has(self, key: int) -> bool:
        """Return whether there is anything to cache under a key."""
        return self.absent <= 0.0 or float(uniform(keyed(np.uint64(ABSENT_SALT), key), np.uint64(0))) >= self.absent

    def owners(self, key: int, eligible: Sequence[OwnerT]) -> list[OwnerT]:
        """Return the replicas that a key lives on."""
        return owners_of(key, eligible, self.copies if key - self.offset < self.replicated else 1)


class KeySpace:
    """The cache keys of a scenario: consecutive ranges of each cache service's keys, by call site."""

    def __init__(self, scenario: Scenario) -> None:
        self.sites: dict[int, Popularity] = {}
        self._by_service: dict[str, list[Popularity]] = {name: [] for name in scenario.services}
        for step in scenario.sites:
            if isinstance(step.spec, CachedStep):
                cached = step.spec.cached
                name, spec = cached.to.split(".")[0], cached.keys
                users = self._by_service[name]
                offset = users[-1].offset + users[-1].accept.size if users else 0
                shard = scenario.services[name].cache
                assert shard is not None
                table = alias_table(spec.count, spec.zipf)
                keys = Popularity(offset, spec.absent, spec.replicated, shard.copies, *table)
                users.append(keys)
                self.sites[step.site] = keys

    def by_rank(self, service: str) -> Iterator[tuple[Popularity, int]]:
        """Yield the keys of a cache service that exist, the most popular first, call sites taking turns."""
        users = self._by_service[service]
        for rank in range(max((keys.accept.size for keys in users), default=0)):
            for keys in users:
                if rank < keys.accept.size and keys.has(keys.offset + rank):
                    yield keys, keys.offset + rank

    def warm(self, service: str, replicas: Sequence[OwnerT], run_key: np.uint64, t0: float, ttl_s: float) -> None:
        """Fill the shards with the most popular keys, these being the most recent."""
        for replica, keys in self._shares(service, replicas):
            for key in keys:
                u = uniform(keyed(run_key, WARM_INDEX + key), np.uint64(0))
                replica.shard.fill(key, t0 + ttl_s * u)

    def load(self, service: "ServiceState", now: float) -> None:
        """Load the most popular keys into the replicas of a cache that are up."""
        if service.spec.cache is None:
            return
        for replica, keys in self._shares(service.name, service.eligible()):
            if replica.state is ReplicaState.UP:
                for key in keys:
                    replica.shard.fill(key, now + service.spec.cache.ttl_s)

    def _shares(self, service: str, replicas: Sequence[OwnerT]) -> Iterator[tuple[OwnerT, list[int]]]:
        """Yield the most popular keys that each replica owns and has room for, the least popular first."""
        chosen: dict[int, list[int]] = {replica.number: [] for replica in replicas}
        n_open = len(replicas)
        for keys, key in self.by_rank(service):
            if n_open == 0:
                break
            for owner in keys.owners(key, replicas):
                mine = chosen[owner.number]
                if len(mine) < owner.shard.slots:
                    mine.append(key)
                    n_open -= len(mine) == owner.shard.slots
        for replica in replicas:
            yield replica, chosen[replica.number][::-1]
