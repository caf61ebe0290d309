"""Kinds of action, bound to the service at fault: what a learner chooses between, whatever a scenario offers."""

__all__ = ["ARMS", "Arms", "worst_slot"]

import numpy as np
import numpy.typing as npt

from agent.api import Situation
from simcore.codes import ActionCode, ReplicaState
from simcore.jit import njit
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Kinds of action, in the order of the arm axis.
ARMS = ("noop", "restart", "scale_up", "clear_cache", "limit_traffic", "rollback", "quarantine")
_RESTART, _SCALE, _CLEAR, _LIMIT, _ROLLBACK, _QUARANTINE = range(1, 7)
_STATE, _QUARANTINED = int(ReplicaStat.STATE), int(ReplicaStat.QUARANTINED)
_FINISHED, _MEAN = int(ReplicaStat.FINISHED), int(ReplicaStat.MEAN_LATENCY_S)
_ALIVE, _UTIL = int(ReplicaState.UP), int(Metric.CPU_UTIL)
#: The admitted fraction that the arm ``limit_traffic`` asks for, or the nearest one that the scenario offers.
LIMIT = 0.7
#: Answers that a replica's mean latency must rest on.
MIN_FINISHED = 5


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


@njit
def _bind(of, quarantine, replicas, metrics, entry, runs, target, allowed, bound):  # type: ignore[no-untyped-def]
    """Fill bound (row, arm) with action numbers, -1 where there is none or it is not allowed."""
    for i in range(runs.size):
        run, service = runs[i], target[i]
        if service < 0:
            service, most = entry, -1.0
            for s in range(of.shape[0]):
                if metrics[run, s, _UTIL] > most:
                    service, most = s, metrics[run, s, _UTIL]
        slot, _ = worst_slot(replicas[run, service], np.inf)
        for arm in range(of.shape[1]):
            number = of[service, arm]
            if arm == _QUARANTINE:
                number = quarantine[service, slot] if 0 <= slot < quarantine.shape[1] else -1
            bound[i, arm] = number if number >= 0 and allowed[i, number] else -1
        bound[i, 0] = 0


class Arms:
    """The action numbers behind the arms, compiled once per scenario."""

    def __init__(self, topology: Topology, actions: ActionTable) -> None:
        n_services = topology.n_services
        self._topology = topology
        #: (service, arm) action number, -1 where the scenario has none; quarantine is bound per decision
        self._of = np.full((n_services, len(ARMS)), -1, np.int64)
        self._of[:, 0] = 0
        #: (service, slot) action number, -1 where there is none
        self._quarantine = np.full((n_services, max(1, int(actions.slot.max()) + 1)), -1, np.int64)
        limit, distance = -1, np.inf
        for number in range(len(actions)):
            code, service, amount = (
                int(actions.code[number]),
                int(actions.service[number]),
                float(actions.amount[number]),
            )
            if code == ActionCode.RESTART:
                self._of[service, _RESTART] = number
            elif code == ActionCode.SCALE and amount > 0 and self._of[service, _SCALE] < 0:
                self._of[service, _SCALE] = number
            elif code == ActionCode.ROLLBACK:
                self._of[service, _ROLLBACK] = number
            elif code == ActionCode.CLEAR_CACHE:
                # a cache's own, and that of the services that ask it
                self._of[service, _CLEAR] = number
                askers = topology.calls[:, service] & (self._of[:, _CLEAR] < 0)
                self._of[askers & ~topology.caches, _CLEAR] = number
            elif code == ActionCode.LIMIT_TRAFFIC and amount < 1 and abs(amount - LIMIT) < distance:
                limit, distance = number, abs(amount - LIMIT)
            elif code == ActionCode.QUARANTINE:
                self._quarantine[service, int(actions.slot[number])] = number
        self._of[:, _LIMIT] = limit

    def number(self, service: int, arm: int) -> int:
        """Return the action number of an arm at a service, -1 if the scenario has none (quarantine: always)."""
        return int(self._of[service, arm])

    def bind(self, situation: Situation) -> Ints:
        """Return (row, arm) action numbers; -1 where there is none, or it is not allowed.

        Without a target (the workload) the service with the highest CPU utilisation stands in.
        """
        bound = np.empty((situation.runs.size, len(ARMS)), np.int64)
        _bind(
            self._of, self._quarantine, situation.observation.replicas, situation.observation.metrics,
            self._topology.entry, situation.runs, situation.signature.target, situation.allowed, bound,
        )  # fmt: skip
        return bound
