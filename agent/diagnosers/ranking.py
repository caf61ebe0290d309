"""What diagnosers that score every service have in common: the order, the suspect, the confidence, the words."""

__all__ = ["ScoreRank"]

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.view import Usual, View

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A part is told as a reason from this share of a suspect's score on.
_TOLD = 0.15


class ScoreRank(ABC):
    """A diagnoser that gives every service evidence in parts, whose sum is its score.

    Where no score reaches ``least`` (or all are 0) there is no suspect, and where the workload's is larger than all it
    is the workload. Confidence is the suspect's share of all scores, plus a constant so that weak evidence stays weak.
    """

    #: What belongs to single runs.
    PER_RUN = ("_usual",)
    name: ClassVar[str]
    #: Parts of the evidence in words, for the rationale.
    parts: ClassVar[tuple[str, ...]]
    #: The smallest score that accuses.
    least: ClassVar[float] = 0.0

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._usual = Usual(topology, keys.size)

    @abstractmethod
    def weigh(self, view: View) -> Floats:
        """Return (row, service, part) evidence of at least 0; more is more suspect."""

    def workload(self, view: View) -> Floats:
        """Return (row,) the score of the workload."""
        return np.zeros(view.runs.size)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        view = View(self._topology, history, self._usual, runs)
        parts, workload = self.weigh(view), self.workload(view)
        score = parts.sum(2)
        ranked = np.argsort(-score, axis=1, kind="stable").astype(np.int64)
        top = ranked[:, 0]
        strongest = score.max(1)
        surge = workload > strongest
        suspect = np.where((strongest > 0) & (strongest >= self.least) & ~surge, top, -1)
        confidence = np.maximum(strongest, workload) / (score.sum(1) + workload + 1.0)

        def explain(row: int) -> str:
            if surge[row]:
                return "the workload: requests rose far above normal, and the services slow down with them"
            if suspect[row] < 0:
                return "no service stands out"
            return self._reasons(top[row], parts[row, top[row]])

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain, score)

    def _reasons(self, service: int, found: Floats) -> str:
        strongest = [part for part in np.argsort(-found, kind="stable")[:3] if found[part] >= _TOLD * found.sum()]
        return f"{self._topology.services[service]}: " + ", ".join(
            f"{self.parts[p]} ({found[p]:.3g})" for p in strongest
        )
