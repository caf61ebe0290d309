"""A table from what an incident looks like to what one does about it, most promising first."""

__all__ = ["PLAYBOOK", "Playbook"]

from typing import ClassVar

import numpy as np

from agent.api import PATTERNS, Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from simcore.observation import ActionTable, Topology

#: Pattern -> kinds of action in the order in which they are tried (FIELD: fault catalogue, what fixes it).
PLAYBOOK: dict[str, tuple[str, ...]] = {
    "poison": ("clear_cache", "rollback", "restart"),
    "skew": ("quarantine", "restart", "rollback"),
    "flapping": ("rollback", "restart", "scale_up"),
    "change": ("rollback", "restart", "scale_up"),
    "memory": ("rollback", "restart", "scale_up"),
    "errors": ("rollback", "restart", "clear_cache"),
    "cold": ("limit_traffic", "noop", "scale_up"),
    "surge": ("scale_up", "limit_traffic", "noop"),
    "cpu": ("restart", "scale_up", "rollback"),
    "latency": ("restart", "rollback", "scale_up"),
    "nothing": ("noop", "restart", "rollback"),
}


class Playbook(FixedPolicy):
    """Takes the first allowed action that the playbook names for the incident's pattern; noop when all are used up."""

    name: ClassVar[str] = "playbook"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._arms = Arms(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        bound = self._arms.bind(situation)
        patterns = [PATTERNS[code] for code in situation.signature.pattern]
        action = np.zeros(len(patterns), np.int64)
        for row, pattern in enumerate(patterns):
            numbers = (int(bound[row, ARMS.index(arm)]) for arm in PLAYBOOK[pattern])
            action[row] = next((number for number in numbers if number >= 0), 0)
        return pick(action, lambda row: f"playbook for '{patterns[row]}'")
