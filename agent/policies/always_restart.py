"""Turns it off and on again, whatever the matter is."""

__all__ = ["AlwaysRestart"]

from typing import ClassVar

import numpy as np

from agent.api import Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from simcore.observation import ActionTable, Topology


class AlwaysRestart(FixedPolicy):
    """Restarts the service at fault; noop where that is not allowed."""

    name: ClassVar[str] = "always_restart"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._arms = Arms(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        action = np.maximum(self._arms.bind(situation)[:, ARMS.index("restart")], 0)
        return pick(action, lambda row: "always restarts" if action[row] else "would restart, and may not")
