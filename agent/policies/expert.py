"""An expert who knows the fault: what a decision is worth when nothing about the incident is in doubt."""

__all__ = ["REPLACED_BY", "Expert", "own_incidents"]

import copy
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Situation
from agent.policies.base import FixedPolicy, pick
from simcore.codes import Place
from simcore.env import Episodes
from simcore.env.slo import incidents
from simcore.model.claims import Remedy, Where
from simcore.model.faults import CATALOGUE, Fault
from simcore.observation import ActionTable, Topology
from simcore.windows import ReplicaStat

Ints = npt.NDArray[np.int64]

#: Place -> kinds of action that replace it, so that what lives there is gone (docs/explanation/model.md).
REPLACED_BY: dict[Place, tuple[str, ...]] = {
    Place.PROCESS: ("restart", "failover"),
    Place.NODE: ("failover", "quarantine"),
    Place.VERSION: ("rollback",),
    Place.CONFIG: ("rollback",),
    Place.CONTENT: ("clear_cache",),
    Place.QUOTA: ("raise_limit",),
    Place.CREDENTIAL: ("rotate",),
}
_REPLACING = frozenset(kind for kinds in REPLACED_BY.values() for kind in kinds)
#: What is gone for good once it has been replaced; a quarantine goes from replica to replica.
_ONCE = _REPLACING - {"quarantine"} | {"escalate"}


def own_incidents(episodes: Episodes) -> Ints:
    """Return (run,) the step whose end opens the incident of each run's fault if nobody acts; -1 without one."""
    twin = Episodes(episodes.scenario, episodes.runs)
    twin.advance_to_end()
    opened = np.full(episodes.n_runs, -1, np.int64)
    for i, begin in enumerate(episodes.fault_steps.tolist()):
        found = incidents(twin.incident_open[i], begin, episodes.n_steps, episodes.scenario.timing.step_s)
        opened[i] = next((one.opened for one in found if one.kind == "incident"), -1)
    return opened


class Expert(FixedPolicy):
    """Takes the first allowed action that replaces the place where the fault lives, or makes up for it.

    What makes up for a fault is what the catalogue claims to mend it, unless that replaces another place than the one
    in which this fault lives. While the SLO is broken all the same, replicas are added: new ones come up elsewhere, and
    a backlog takes capacity. A human is called where nothing else is left. The expert knows what has been done, and
    what would come without it: while the SLO holds it leaves alone what will hurt nobody, and what has ended by itself.
    """

    name: ClassVar[str] = "expert"

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, ...]] = []  # of every run; empty: nothing was told
        self._hurts = np.zeros(0, np.bool_)
        self._taken: list[set[int]] = []  # actions that every run has seen since its faults began

    def inform(self, episodes: Episodes) -> None:
        """Learn the faults of a batch, and what becomes of them."""
        self._faults = [run.faults for run in episodes.runs]
        self._hurts = own_incidents(episodes) >= 0
        self._taken = [set() for _ in episodes.runs]

    def fork(self, rows: Ints) -> "Expert":
        """Return an expert who goes on with some runs, (row,) positions."""
        twin = copy.copy(self)
        if self._faults:
            twin._faults = [self._faults[row] for row in rows.tolist()]
            twin._hurts, twin._taken = self._hurts[rows], [set(self._taken[row]) for row in rows.tolist()]
        return twin

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology, self._actions = topology, actions
        self._index: dict[tuple[str, int], list[int]] = {}
        for number, kind in enumerate(actions.kinds):
            self._index.setdefault((kind, int(actions.service[number])), []).append(number)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        action = np.zeros(situation.runs.size, np.int64)
        reasons = ["knows of no fault"] * situation.runs.size
        for row in range(situation.runs.size):
            for fault in self._pressing(situation, row):
                number = self._remedy(situation, row, fault)
                reasons[row] = f"knows of {fault.type} in the {fault.place.name.lower()}"
                if number > 0:
                    action[row] = number
                    self._taken[int(situation.runs[row])].add(number)
                    break
        return pick(action, reasons.__getitem__)

    def _pressing(self, situation: Situation, row: int) -> Iterator[Fault]:
        """Yield the faults of a row that have begun and still matter."""
        if not self._faults:
            return
        now, run = situation.observation.step * self._topology.step_s, int(situation.runs[row])
        for fault in self._faults[run]:
            over = 0.0 < fault.duration_s <= now - fault.onset_s
            matters = situation.signature.noticed[row] or (self._hurts[run] and not over)
            if fault.onset_s <= now and matters:
                yield fault

    def _remedy(self, situation: Situation, row: int, fault: Fault) -> int:
        """Return the first allowed action that helps against a fault; 0 where there is none or it is done."""
        taken = self._taken[int(situation.runs[row])]
        for remedy in _remedies(fault):
            services = self._services(remedy.where, fault)
            numbers = [n for service in services for n in self._numbers(remedy, service, situation, row, fault)]
            if remedy.kind in _ONCE and not taken.isdisjoint(numbers) and not situation.signature.noticed[row]:
                return 0
            for number in numbers:
                if situation.allowed[row, number]:
                    return number
        return 0

    def _services(self, where: Where, fault: Fault) -> list[int]:
        """Return the services at which a remedy is applied, -1 for the system."""
        if where is Where.SYSTEM:
            return [-1]
        if where is Where.ENTRY or fault.service < 0:
            return [self._topology.entry]
        if where is Where.CALLERS:
            callers: list[int] = np.flatnonzero(self._topology.calls[:, fault.service]).tolist()
            return [fault.caller] if fault.caller >= 0 else callers
        return [fault.service]

    def _numbers(self, remedy: Remedy, service: int, situation: Situation, row: int, fault: Fault) -> list[int]:
        """Return the actions of a kind at a service, the one with the nearest amount first."""
        numbers = self._index.get((remedy.kind, service), [])
        if remedy.kind == "quarantine":
            ordinals = situation.observation.replicas[situation.runs[row], service, :, ReplicaStat.ORDINAL]
            return [n for n in numbers if fault.replica >= 0 and ordinals[self._actions.slot[n]] == fault.replica]
        wanted = remedy.amount
        if wanted is None:
            return numbers[:1]  # the usual amount comes first in the table, what puts it back last
        amount = {number: float(self._actions.amount[number]) for number in numbers}
        same_way = [number for number in numbers if remedy.kind != "scale" or amount[number] * wanted > 0]
        return sorted(same_way, key=lambda number: abs(amount[number] - wanted))[:1]


def _remedies(fault: Fault) -> list[Remedy]:
    """Return what helps against a fault, best first."""
    claim, replacing = CATALOGUE[fault.type].claim, REPLACED_BY.get(fault.place, ())
    found, wrong = [], ""
    if claim is not None:
        wrong = claim.wrong.kind if claim.wrong.where is Where.TARGET else ""
        if claim.fix.kind in replacing or claim.fix.kind not in _REPLACING:
            found.append(claim.fix)
    found += [Remedy(kind) for kind in replacing if kind != wrong]
    found += [Remedy("scale", amount=1.0), Remedy("escalate", Where.SYSTEM)]
    return list(dict.fromkeys(found))
