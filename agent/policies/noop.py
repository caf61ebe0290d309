"""Does nothing: what every policy has to beat."""

__all__ = ["NoopPolicy"]

from typing import ClassVar

import numpy as np

from agent.api import Choices, Situation
from agent.policies.base import FixedPolicy, pick


class NoopPolicy(FixedPolicy):
    """Waits, whatever happens."""

    name: ClassVar[str] = "noop"

    def decide(self, situation: Situation) -> Choices:
        """Choose noop for every row."""
        return pick(np.zeros(situation.runs.size, np.int64), lambda row: "never acts")
