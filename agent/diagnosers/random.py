"""Blames a service at random: what every ranking has to beat."""

__all__ = ["RandomRank"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.keys import subkeys, uniforms

Ints = npt.NDArray[np.int64]


class RandomRank:
    """Ranks services in an order drawn by the key of the run and the step."""

    name: ClassVar[str] = "random"
    PER_RUN = ("_keys",)

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._n_services = topology.n_services
        self._keys = subkeys(keys, np.full(keys.size, 2 << 20, np.uint64))

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        n = self._n_services
        steps = subkeys(self._keys[runs], np.full(runs.size, observation.step, np.uint64))
        draws = uniforms(subkeys(np.repeat(steps, n), np.tile(np.arange(n, dtype=np.uint64), runs.size)))
        ranked = np.argsort(draws.reshape(runs.size, n), axis=1, kind="stable").astype(np.int64)
        confidence = np.full(runs.size, 1.0 / n)
        tied = np.ones((runs.size, n))
        return Diagnosis(runs.copy(), ranked[:, 0].copy(), confidence, ranked, lambda row: "drawn at random", tied)
