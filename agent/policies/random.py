"""Acts at random: what acting without thinking is worth."""

__all__ = ["RandomPolicy"]

from typing import ClassVar

import numpy as np

from agent.api import Choices, Situation
from agent.keys import uniforms
from agent.policies.base import FixedPolicy


class RandomPolicy(FixedPolicy):
    """Chooses uniformly among the allowed actions, noop included, by the key of the decision."""

    name: ClassVar[str] = "random"

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        count = situation.allowed.sum(1)
        rank = np.minimum((uniforms(situation.keys) * count).astype(np.int64), count - 1)
        action = np.argmax(np.cumsum(situation.allowed, 1) > rank[:, None], 1).astype(np.int64)
        return Choices(action, 1.0 / count, np.full(count.size, np.nan), lambda row: f"one of {count[row]} at random")
