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


class ScoreRank(ABC):
    """A diagnoser that gives every service a score of at least 0; a run in which all are 0 has no suspect.

    Confidence is the suspect's share of all scores, plus a constant so that weak evidence stays weak.
    """

    name: ClassVar[str]
    #: What a score means, for the rationale.
    words: ClassVar[str]

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._usual = Usual(topology, keys.size)

    @abstractmethod
    def score(self, view: View) -> Floats:
        """Return (row, service) scores of at least 0, larger is more suspect."""

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        score = self.score(View(self._topology, history, self._usual, runs))
        ranked = np.argsort(-score, axis=1, kind="stable").astype(np.int64)
        top = ranked[:, 0].copy()
        strongest = score.max(1)
        suspect = np.where(strongest > 0, top, -1)
        confidence = strongest / (score.sum(1) + 1.0)
        services = self._topology.services

        def explain(row: int) -> str:
            if suspect[row] < 0:
                return "no service stands out"
            second = ranked[row, 1] if ranked.shape[1] > 1 else -1
            then = f", next {services[second]} with {score[row, second]:.3g}" if second >= 0 else ""
            return f"{services[top[row]]}: {self.words} {strongest[row]:.3g}{then}"

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain, score)
