"""A table from what an incident looks like to what one does about it, most promising first."""

__all__ = ["EARLY", "PLAYBOOK", "Playbook"]

from typing import ClassVar

import numpy as np

from agent.api import PATTERNS, Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from simcore.observation import ActionTable, Topology

#: Pattern -> kinds of action in the order in which they are tried (FIELD: fault catalogue, what fixes it).
PLAYBOOK: dict[str, tuple[str, ...]] = {
    "poison": ("clear_cache", "rollback", "restart"),
    "skew": ("quarantine", "restart", "scale_up"),
    "short": ("scale_up", "limit_traffic", "restart"),
    "flapping": ("rollback", "restart", "scale_up"),
    "change": ("rollback", "restart", "scale_up"),
    "memory": ("restart", "rollback", "scale_up"),
    "cpu": ("scale_up", "restart", "rollback"),
    "errors": ("rollback", "restart", "clear_cache"),
    "cold": ("noop", "scale_up", "limit_traffic"),
    "surge": ("scale_up", "limit_traffic", "noop"),
    "latency": ("restart", "rollback", "scale_up"),
    "nothing": ("scale_up", "restart", "rollback"),
}

#: Patterns worth acting on before users notice; with the others one waits until the SLO is broken.
EARLY = ("poison", "change", "skew", "short", "memory", "cpu", "surge")


class Playbook(FixedPolicy):
    """Takes the first allowed action that the playbook names for the incident's pattern; noop when all are used up.

    While the SLO holds it acts on the patterns ``EARLY`` only.
    """

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
            if situation.signature.broken[row] == 0 and pattern not in EARLY:
                continue
            numbers = (int(bound[row, ARMS.index(arm)]) for arm in PLAYBOOK[pattern])
            action[row] = next((number for number in numbers if number >= 0), 0)
        return pick(action, lambda row: f"playbook for '{patterns[row]}'")
