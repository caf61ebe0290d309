"""Simple rules on observed metrics, as in a hand-written runbook: no scores, no diagnosis, no learning."""

__all__ = ["ThresholdRules"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]

#: Limits of the rules.
MEMORY, CPU = 0.9, 0.85


class ThresholdRules(FixedPolicy):
    """The first rule that fires, on the service that breaks it most, decides; a rule not allowed is passed over.

    1. memory above 90 %: restart the service
    2. errors of a service above the SLO: restart it
    3. CPU of a service above 85 %: add a replica; where that is not possible, limit the traffic
    4. p95 at the client above the SLO: restart the slowest service
    """

    name: ClassVar[str] = "threshold_rules"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology = topology
        self._arms = Arms(topology, actions)

    def _rules(self, metrics: Floats) -> list[tuple[str, int, str]]:
        """Return (arm, service, reason) of the rules that fire on (service + 1, metric), in order."""
        services, system = metrics[:-1], metrics[-1]
        names = self._topology.services
        fired: list[tuple[str, int, str]] = []

        def rule(metric: Metric, limit: float, arms: tuple[str, ...], what: str) -> None:
            values = np.nan_to_num(services[:, metric], nan=-np.inf)
            worst = int(np.argmax(values))
            if values[worst] > limit:
                fired.extend(
                    (arm, worst, f"{what} of {names[worst]} {values[worst]:.2f} above {limit:.2f}") for arm in arms
                )

        rule(Metric.MEMORY_FRAC, MEMORY, ("restart",), "memory")
        rule(Metric.ERROR_RATE, self._topology.bad_frac_slo, ("restart",), "error rate")
        rule(Metric.CPU_UTIL, CPU, ("scale_up", "limit_traffic"), "CPU")
        if system[Metric.P95_S] > self._topology.p95_slo_s:
            rule(Metric.P95_S, 0.0, ("restart",), "client p95 above its objective; p95")
        return fired

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        action = np.zeros(situation.runs.size, np.int64)
        reasons = ["no rule fires"] * situation.runs.size
        for row, run in enumerate(situation.runs):
            for arm, service, reason in self._rules(situation.observation.metrics[run]):
                number = self._arms.number(service, ARMS.index(arm))
                if number > 0 and situation.allowed[row, number]:
                    action[row], reasons[row] = number, reason
                    break
        return pick(action, reasons.__getitem__)
