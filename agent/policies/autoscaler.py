"""The rule of the usual horizontal autoscaler, and nothing else."""

__all__ = ["Autoscaler"]

from typing import ClassVar

import numpy as np

from agent.api import Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric

#: Utilisation that it aims at, and how far off it is tolerated (the defaults of Kubernetes' autoscaler for the latter).
TARGET, TOLERANCE = 0.6, 0.1


class Autoscaler(FixedPolicy):
    """Adds replicas where utilisation / target is largest and beyond the tolerance; it asks for no diagnosis.

    Decisions are taken when something is wrong, so it never scales down.
    """

    name: ClassVar[str] = "autoscaler"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._services = topology.services
        self._arms = Arms(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        ratio = np.nan_to_num(situation.observation.metrics[situation.runs, :-1, Metric.CPU_UTIL], nan=0.0) / TARGET
        action = np.zeros(situation.runs.size, np.int64)
        reasons = [f"no utilisation is {TOLERANCE:.0%} above {TARGET:.0%}"] * situation.runs.size
        for row, ratios in enumerate(ratio):
            for service in np.argsort(-ratios, kind="stable").tolist():
                number = self._arms.number(service, ARMS.index("scale_up"))
                if ratios[service] <= 1.0 + TOLERANCE:
                    break
                if number > 0 and situation.allowed[row, number]:
                    action[row] = number
                    reasons[row] = f"{self._services[service]} is {ratios[service] * TARGET:.0%} busy"
                    break
        return pick(action, reasons.__getitem__)
