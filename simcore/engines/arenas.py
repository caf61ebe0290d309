"""Where the batch engine keeps its runs: every run has arrays of its own, which can grow alone."""

__all__ = ["Arenas", "Capacity"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import Param
from simcore.engines.api import RunInputs
from simcore.errors import InputError
from simcore.layout import ARRAYS, LANE, NEVER, PER_REPLICA, Need, Plan
from simcore.streams import keyed, rekeyed

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room that a run starts with; what a run outgrows is doubled for that run alone, up to ``limit`` entries."""

    spans: int = 64
    jobs: int = 8  #: per replica
    ends: int = 512  #: spans that end in a window
    log: int = 4096
    control: int = 32
    messages: int = 64  #: if there are topics
    spare_replicas: int = 0  #: beyond the initial ones
    limit: int = 2**22

    def __post_init__(self) -> None:
        """Refuse what the kernels could not start with."""
        for field in fields(self):
            least, value = (0 if field.name == "spare_replicas" else 1), getattr(self, field.name)
            if value < least:
                raise InputError(f"capacity.{field.name} must be >= {least}, got {value}")


class Arenas:
    """The state of a batch of runs, empty but for its structure.

    Parameters
    ----------
    plan
        The compiled scenario.
    capacity
        Room that every run starts with.
    inputs
        (run) modulations and changes, whose number is known.
    log
        Whether there is an event log.
    """

    def __init__(self, plan: Plan, capacity: Capacity, inputs: Sequence[RunInputs], log: bool) -> None:
        self._plan = plan
        self._capacity = capacity
        self.lanes = np.zeros(len(inputs), LANE)
        self._arrays: list[dict[str, Array]] = [{} for _ in inputs]
        for run, given in enumerate(inputs):
            self._build(run, given, log)

    def _build(self, run: int, given: RunInputs, log: bool) -> None:
        services, capacity, lane = self._plan.services, self._capacity, self.lanes[run]
        initial = services["initial"]
        cached = services["slots"] > 0
        n_replicas = int(initial.sum()) + capacity.spare_replicas
        n_shards = int(initial[cached].sum()) + capacity.spare_replicas if cached.any() else 0
        lane["per_replica"] = capacity.jobs
        lane["groups"] = self._groups(n_replicas)
        lane["keys_wide"], lane["slots_wide"] = services["n_keys"].max(), services["slots"].max()
        lane["stack_wide"] = 2 + sum(given.modulations[c.modulation].param == Param.DEPLOY for c in given.changes)
        # users who think have a record each from the start, behind the ends of the timer rings
        head = self._plan.head[0]
        users = int(head["n_users"])
        spans = capacity.spans + (users + int(head["n_rings"]) if users else 0)
        lengths = {
            "spans": spans,
            "jobs": n_replicas * capacity.jobs,
            "replicas": n_replicas,
            "leaf": 8 * int(lane["groups"]),
            "group": int(lane["groups"]),
            "control": capacity.control + n_replicas + len(services) + len(given.changes) + self._cancels(spans),
            "streams": 1 + sum(m.param == Param.SURGE for m in given.modulations),
            "mods": len(given.modulations),
            "changes": len(given.changes),
            "actions": 1,
            "fleets": len(services),
            "stacks": len(services) * int(lane["stack_wide"]),
            "shards": n_shards,
            "ends": capacity.ends,
            "tally": len(services) + 1,
            "log": capacity.log if log else 0,
            "locks": int(head["n_locks"]),
            "wishes": len(services) * int(head["wishes_wide"]),
            "messages": capacity.messages if head["n_partitions"] else 0,
            "partitions": int(head["n_partitions"]),
        } | self._per_replica(n_replicas)
        for name, length in lengths.items():
            self._lengthen(run, name, length)

    def _per_replica(self, n_replicas: int) -> dict[str, int]:
        """Return the lengths of the arrays that have so many elements per replica."""
        head = self._plan.head[0]
        return {name: n_replicas * math.prod(int(head[w]) for w in wide) for name, wide in PER_REPLICA.items()}

    def _cancels(self, spans: int) -> int:
        """Return how many control entries one event may make to cancel spans."""
        return spans * int(self._plan.head["cancels"][0])

    def _groups(self, n_replicas: int) -> int:
        return -(-(3 + int(self._plan.head["n_rings"][0]) + n_replicas) // 8)

    def part(self, run: int, name: str) -> Array:
        """Return an array of one run."""
        return self._arrays[run][name]

    def parts(self, run: int) -> Mapping[str, Array]:
        """Return all arrays of one run, by name."""
        return self._arrays[run]

    def _put(self, run: int, name: str, array: Array) -> None:
        self._arrays[run][name] = array
        self.lanes[name][run] = array.ctypes.data

    def _lengthen(self, run: int, name: str, length: int) -> None:
        """Give an array of a run a new length, keeping what it holds, and whatever goes with it."""
        lane = self.lanes[run]
        also = {
            "spans": (("heap", length), ("spans", length)),
            "ends": (("scratch", length), ("ends", length)),
            "shards": (
                ("slots", length * int(lane["slots_wide"])),
                ("where", length * int(lane["keys_wide"])),
                ("shards", length),
            ),
        }.get(name, ((name, length),))
        for each, n in also:
            new = np.zeros(n, ARRAYS[each])
            old = self._arrays[run].get(each)
            if old is not None:
                new[: len(old)] = old
            self._put(run, each, new)
        room = {
            "spans": "span_cap",
            "ends": "end_cap",
            "log": "log_cap",
            "replicas": "replica_cap",
            "control": "control_cap",
            "messages": "message_cap",
        }
        if name in room:
            lane[room[name]] = length

    def grow(self, run: int, need: Need) -> bool:
        """Double what a run has outgrown; False if that would pass the limit."""
        lane = self.lanes[run]
        if need == Need.REPLICAS:
            self._grow_replicas(run)
            return True
        if need == Need.JOBS:
            return self._grow_jobs(run)
        name, length = {
            Need.SPANS: ("spans", max(2 * int(lane["span_cap"]), 4)),
            Need.ENDS: ("ends", max(2 * int(lane["end_cap"]), 8)),
            Need.MESSAGES: ("messages", max(2 * int(lane["message_cap"]), 4)),
            Need.LOG: ("log", 2 * int(lane["log_cap"]) + 2 * int(lane["span_cap"]) + int(lane["replica_cap"]) + 64),
            Need.CONTROL: ("control", 2 * int(lane["control_cap"]) + 2 * int(lane["n_replicas"]) + 16),
        }[need]
        if length > self._capacity.limit * (16 if need == Need.LOG else 1):
            return False
        self._lengthen(run, name, length)
        return True

    def _grow_jobs(self, run: int) -> bool:
        lane = self.lanes[run]
        per_replica, n_replicas = int(lane["per_replica"]), int(lane["replica_cap"])
        wider = max(2 * per_replica, 4)
        if wider > self._capacity.limit:
            return False
        new = np.zeros((n_replicas, wider), ARRAYS["jobs"])
        new[:, :per_replica] = self.part(run, "jobs").reshape(n_replicas, per_replica)
        self._put(run, "jobs", new.reshape(-1))
        lane["per_replica"] = wider
        return True

    def _grow_replicas(self, run: int) -> None:
        lane = self.lanes[run]
        more = max(4, int(lane["replica_cap"]))
        n_replicas = int(lane["replica_cap"]) + more
        self._lengthen(run, "replicas", n_replicas)
        self._lengthen(run, "jobs", n_replicas * int(lane["per_replica"]))
        for name, length in self._per_replica(n_replicas).items():
            self._lengthen(run, name, length)
        if lane["slots_wide"]:
            self._lengthen(run, "shards", len(self.part(run, "shards")) + more)
        old = len(self.part(run, "leaf"))
        lane["groups"] = self._groups(n_replicas)
        self._lengthen(run, "leaf", 8 * int(lane["groups"]))
        self._lengthen(run, "group", int(lane["groups"]))
        self.part(run, "leaf")["time"][old:] = NEVER

    def room_for_action(self, run: int, number: int) -> None:
        """Make room for action ``number`` of a run and its control entry."""
        lane = self.lanes[run]
        if number >= len(self.part(run, "actions")):
            self._lengthen(run, "actions", 2 * number + 4)
        least = int(lane["n_control"]) + int(lane["n_replicas"]) + 8 + self._cancels(int(lane["span_cap"]))
        if least > int(lane["control_cap"]):
            self._lengthen(run, "control", 2 * least + 16)

    def rekey(self, run: int, number: int) -> None:
        """Give a run another future: what has been drawn stays, what will be has other keys."""
        lane = self.lanes[run]
        key = lane["key"] = rekeyed(lane["key"], number)
        for stream, record in enumerate(self.part(run, "streams")):
            record["key"] = keyed(key, stream)

    def copy(self, runs: Sequence[int]) -> "Arenas":
        """Return independent copies of the given runs, repeats allowed."""
        twin = object.__new__(Arenas)
        twin._plan, twin._capacity = self._plan, self._capacity
        twin.lanes = self.lanes[np.asarray(runs, np.int64)].copy()
        twin._arrays = [{} for _ in runs]
        for i, run in enumerate(runs):
            for name, array in self._arrays[run].items():
                twin._put(i, name, array.copy())
        return twin
