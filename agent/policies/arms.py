"""Kinds of action, bound to the service at fault: what a learner chooses between, whatever a scenario offers."""

__all__ = ["ARMS", "Arms", "worst_slot"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.api import Situation
from simcore.codes import ActionCode, ReplicaState
from simcore.jit import njit
from simcore.model.action_types import ACTIONS, ActionAim, ActionType
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STATE, _QUARANTINED = int(ReplicaStat.STATE), int(ReplicaStat.QUARANTINED)
_FINISHED, _MEAN = int(ReplicaStat.FINISHED), int(ReplicaStat.MEAN_LATENCY_S)
_ALIVE = int(ReplicaState.UP)
#: Answers that a replica's mean latency must rest on.
MIN_FINISHED = 5


@dataclass(frozen=True, slots=True)
class _Arm:
    """A kind of action with an amount to look for: the nearest one that a scenario offers is taken."""

    kind: str
    amount: float = 0.0


def _arms() -> dict[str, _Arm]:
    """Return one arm for every kind that does more than undo another; two where the amount makes a difference.

    Taking capacity away is no remedy, and putting a setting back is the guardrails' affair.
    """
    arms: dict[str, _Arm] = {}
    for name, kind in ACTIONS.items():
        if kind.undoes:
            continue
        if kind.code == ActionCode.SCALE:
            arms["scale_up"] = _Arm(name, 1.0)
        elif kind.code == ActionCode.LIMIT_TRAFFIC:
            arms[name], arms["shed"] = _Arm(name, 0.7), _Arm(name, 0.4)
        elif kind.values is not None:
            arms[name] = _Arm(name, next(v for v in kind.values.usual if not kind.is_undoing(v)))
        else:
            arms[name] = _Arm(name, kind.amount)
    return arms


_SPECS = _arms()
#: Names of the arms, in the order of the arm axis; noop is 0.
ARMS = tuple(_SPECS)
_QUARANTINE = ARMS.index("quarantine")


@njit
def worst_slot(replicas, usual_s):  # type: ignore[no-untyped-def]
    """Return the slot of the slowest replica of a service, and its mean latency over that of the others.

    Parameters
    ----------
    replicas
        (slot, stat) of one service.
    usual_s
        Mean latency that the others must stay below for the ratio to mean anything: under overload all are slow, and
        unevenly so.

    Returns
    -------
    Slot -1 if fewer than two replicas are up, in use and answering; ratio 1 then, or if the others are slow too.
    """
    worst, slot, total, n = 0.0, -1, 0.0, 0
    for i in range(replicas.shape[0]):
        row = replicas[i]
        used = row[_STATE] == _ALIVE and not row[_QUARANTINED] > 0
        if used and row[_FINISHED] >= MIN_FINISHED and row[_MEAN] > 0.0:
            total += row[_MEAN]
            n += 1
            if row[_MEAN] > worst:
                worst, slot = row[_MEAN], i
    if n < 2:
        return -1, 1.0
    others = (total - worst) / (n - 1)
    return slot, worst / others if others < usual_s else 1.0


class Arms:
    """The action numbers behind the arms, compiled once per scenario."""

    def __init__(self, topology: Topology, actions: ActionTable) -> None:
        n_services = topology.n_services
        self._topology = topology
        #: (service, arm) action number, -1 where the scenario has none; quarantine is bound per decision
        self._of = np.full((n_services, len(ARMS)), -1, np.int64)
        #: (service, slot) action number, -1 where there is none
        self._quarantine = np.full((n_services, max(1, int(actions.slot.max()) + 1)), -1, np.int64)
        for arm, spec in enumerate(_SPECS.values()):
            rows = _rows(actions, spec)
            for service in range(n_services):
                at = _at(ACTIONS[spec.kind], service, topology, rows)
                self._of[service, arm] = rows.get(at, -1)
        quarantines = actions.code == ActionCode.QUARANTINE
        self._quarantine[actions.service[quarantines], actions.slot[quarantines]] = np.flatnonzero(quarantines)
        self._of[:, _QUARANTINE] = -1

    def number(self, service: int, arm: int) -> int:
        """Return the action number of an arm at a service, -1 if the scenario has none (quarantine: always)."""
        return int(self._of[service, arm])

    def bind(self, situation: Situation) -> Ints:
        """Return (row, arm) action numbers at the targets; -1 where there is none, or it is not allowed.

        Without a target (the workload) the service with the highest CPU utilisation stands in.
        """
        utilisation = situation.observation.metrics[situation.runs, :-1, Metric.CPU_UTIL]
        busiest = np.argmax(np.where(np.isnan(utilisation), -1.0, utilisation), axis=1)
        idle = np.isnan(utilisation).all(axis=1)
        stand_in = np.where(idle, self._topology.entry, busiest)
        target = situation.signature.target
        return self.bind_to(situation, np.where(target >= 0, target, stand_in))

    def bind_to(self, situation: Situation, services: Ints) -> Ints:
        """Return (row, arm) action numbers at the given services (row,); -1 where there is none, or not allowed."""
        bound = self._of[services]
        for row, (run, service) in enumerate(zip(situation.runs.tolist(), services.tolist(), strict=True)):
            slot, _ = worst_slot(situation.observation.replicas[run, service], np.inf)
            if 0 <= slot < self._quarantine.shape[1]:
                bound[row, _QUARANTINE] = self._quarantine[service, slot]
        open_ = np.take_along_axis(situation.allowed, np.maximum(bound, 0), axis=1)
        return np.where(open_, bound, -1)


def _rows(actions: ActionTable, spec: _Arm) -> dict[int, int]:
    """Return the action of an arm by service (-1: the system): of those that have an effect, the nearest amount."""
    rows: dict[int, int] = {}
    kind = ACTIONS[spec.kind]
    for number, name in enumerate(actions.kinds):
        service, amount = int(actions.service[number]), float(actions.amount[number])
        if name != spec.kind or kind.is_undoing(amount) or amount * spec.amount < 0.0:
            continue
        if service not in rows or abs(amount - spec.amount) < abs(actions.amount[rows[service]] - spec.amount):
            rows[service] = number
    return rows


def _at(kind: ActionType, service: int, topology: Topology, rows: dict[int, int]) -> int:
    """Return where an arm is aimed when a service is at fault.

    What is set at callers belongs to those of the service, or else to the service itself; a caller leaves out only
    what it can do without. A cache stands for the services that ask it.
    """
    if kind.aim is ActionAim.SYSTEM:
        return -1
    callers = topology.optional if kind.code == ActionCode.DEGRADE else topology.calls
    near: list[int] = []
    if kind.aim in (ActionAim.CALLER, ActionAim.POOLING):
        near = [topology.entry, *range(topology.n_services)]
        near = [caller for caller in near if callers[caller, service] and caller in rows]
    elif kind.aim is ActionAim.CACHE and not topology.caches[service]:
        near = [cache for cache in np.flatnonzero(topology.calls[service]).tolist() if cache in rows]
        return near[0] if near else service
    return near[0] if near else service
