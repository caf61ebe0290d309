"""Blames the service with the strangest metrics."""

__all__ = ["MaxScore"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology

Ints = npt.NDArray[np.int64]


class MaxScore:
    """Ranks services by their excess anomaly score alone; without any score there is no suspect."""

    name: ClassVar[str] = "max_score"

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._services = topology.services

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        excess = detection.excess[runs]
        strange = np.where(np.isnan(excess), 0.0, np.maximum(excess, 0.0))
        ranked = np.argsort(-strange, axis=1, kind="stable").astype(np.int64)
        top = ranked[:, 0]
        strongest = strange.max(1)
        suspect = np.where(strongest > 0, top, -1)
        confidence = strongest / (strange.sum(1) + 1.0)

        def explain(row: int) -> str:
            if suspect[row] < 0:
                return "no service has a score above normal"
            return (
                f"{self._services[top[row]]}: its score is {strongest[row]:.1f} times the alarm threshold above normal"
            )

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain)
