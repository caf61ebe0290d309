"""Kinds of action, bound to the service at fault: what a learner chooses between, whatever a scenario offers."""

__all__ = ["ARMS", "Arms", "worst_slot"]

import numpy as np
import numpy.typing as npt

from agent.api import Situation
from simcore.codes import ActionCode, ReplicaState
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Kinds of action, in the order of the arm axis.
ARMS = ("noop", "restart", "scale_up", "clear_cache", "limit_traffic", "rollback", "quarantine")
_RESTART, _SCALE, _CLEAR, _LIMIT, _ROLLBACK, _QUARANTINE = range(1, 7)
#: The admitted fraction that the arm ``limit_traffic`` asks for, or the nearest one that the scenario offers.
LIMIT = 0.7
#: Answers that a replica's mean latency must rest on.
MIN_FINISHED = 5


def worst_slot(replicas: Floats, usual_s: float = np.inf) -> tuple[int, float]:
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
    mean, finished = replicas[:, ReplicaStat.MEAN_LATENCY_S], replicas[:, ReplicaStat.FINISHED]
    used = (replicas[:, ReplicaStat.STATE] == ReplicaState.UP) & ~(replicas[:, ReplicaStat.QUARANTINED] > 0)
    slots = np.flatnonzero(used & (finished >= MIN_FINISHED) & (mean > 0))
    if slots.size < 2:
        return -1, 1.0
    worst = int(slots[np.argmax(mean[slots])])
    others = (mean[slots].sum() - mean[worst]) / (slots.size - 1)
    return worst, float(mean[worst] / others) if others < usual_s else 1.0


class Arms:
    """The action numbers behind the arms, compiled once per scenario."""

    def __init__(self, topology: Topology, actions: ActionTable) -> None:
        n_services = topology.n_services
        self._topology = topology
        #: (service, arm) action number, -1 where the scenario has none; quarantine is bound per decision
        self._of = np.full((n_services, len(ARMS)), -1, np.int64)
        self._of[:, 0] = 0
        self._quarantine: dict[tuple[int, int], int] = {}
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

    def busiest(self, metrics: Floats) -> int:
        """Return the service with the highest CPU utilisation in (service + 1, metric), the entry if none is known."""
        util = metrics[:-1, Metric.CPU_UTIL]
        return self._topology.entry if np.isnan(util).all() else int(np.nanargmax(util))

    def bind(self, situation: Situation) -> Ints:
        """Return (row, arm) action numbers; -1 where there is none, or it is not allowed.

        Without a target (the workload) the busiest service stands in.
        """
        observation, target = situation.observation, situation.signature.target
        bound = np.empty((situation.runs.size, len(ARMS)), np.int64)
        for row, run in enumerate(situation.runs):
            service = int(target[row])
            if service < 0:
                service = self.busiest(observation.metrics[run])
            bound[row] = self._of[service]
            slot, _ = worst_slot(observation.replicas[run, service])
            bound[row, _QUARANTINE] = self._quarantine.get((service, slot), -1)
        allowed = np.take_along_axis(situation.allowed, np.maximum(bound, 0), 1)
        bound[~allowed] = -1
        bound[:, 0] = 0
        return bound
