"""Acts where the symptoms are, without asking for their cause: what a diagnosis is worth."""

__all__ = ["AnomalyOnly"]

from dataclasses import replace
from typing import ClassVar

import numpy as np

from agent.api import Choices, Situation
from agent.policies.playbook import Playbook
from agent.policies.signature import signatures
from simcore.observation import ActionTable, Topology


class AnomalyOnly(Playbook):
    """The playbook, applied to the service that the clients talk to."""

    name: ClassVar[str] = "anomaly_only"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        super().start(topology, actions)
        self._topology = topology

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        entry = np.full(situation.runs.size, self._topology.entry)
        again = situation.signature.again
        seen = signatures(self._topology, situation.observation, situation.history, situation.runs, entry, again)
        return super().decide(replace(situation, signature=replace(seen, target=entry)))
