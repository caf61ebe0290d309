"""A table from what an incident looks like to what one does about it, most promising first."""

__all__ = ["GRAVE", "PLAYBOOK", "Playbook"]

from typing import ClassVar

import numpy as np

from agent.api import PATTERNS, Choices, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import FixedPolicy, pick
from agent.policies.context import admitted_errors
from simcore.observation import ActionTable, Topology

#: Pattern -> kinds of action in the order in which they are tried; what fixes what is the fault catalogue's. Where
#: several faults look alike, what is quick and cheap comes before what is slow and dear.
PLAYBOOK: dict[str, tuple[str, ...]] = {
    "cold": ("warm_cache", "noop", "limit_traffic"),
    "poison": ("clear_cache", "rollback", "restart"),
    "hot": ("limit_traffic", "shed", "noop"),
    "spared": ("open_breaker", "degrade", "restart", "rollback"),
    "change": ("rollback", "restart", "rotate", "scale_up"),
    "skew": ("quarantine", "restart", "failover", "scale_up"),
    "short": ("scale_up", "failover", "limit_traffic", "restart"),
    "flapping": ("rollback", "restart", "scale_up"),
    "memory": ("restart", "rollback", "scale_up"),
    "storm": ("set_retry_budget", "restart", "raise_limit", "rollback", "shed"),
    "overload": ("scale_up", "limit_traffic", "restart", "raise_limit"),
    "cpu": ("restart", "raise_limit", "rollback", "scale_up", "failover"),
    "stuck": ("skip_message", "restart", "rollback", "scale_up"),
    "backlog": ("scale_up", "restart", "rollback", "limit_traffic"),
    "pool": ("restart", "rollback", "resize_pool", "failover"),
    "cut": ("degrade", "failover", "rollback", "restart"),
    "errors": ("restart", "rotate", "rollback", "clear_cache"),
    "latency": ("restart", "rollback", "failover", "limit_traffic"),
    "surge": ("scale_up", "limit_traffic", "noop"),
    "nothing": ("restart", "rollback", "scale_up"),
}

#: Share of the admitted requests that fail from which somebody is woken up when nothing is left to try.
GRAVE = 0.1


class Playbook(FixedPolicy):
    """Takes the first allowed action that the playbook names for the incident's pattern.

    While the SLO holds it waits: what an alarm sees before users do is as often harmless as not. When the page is used
    up and more than a share of ``GRAVE`` of the requests fail it escalates; otherwise it waits.
    """

    name: ClassVar[str] = "playbook"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._arms = Arms(topology, actions)

    @classmethod
    def with_arms(cls, arms: Arms) -> "Playbook":
        """Return one that has begun a batch, with arms that are compiled already."""
        made = cls()
        made._arms = arms
        return made

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        bound = self._arms.bind(situation)
        signature = situation.signature
        patterns, noticed = [PATTERNS[code] for code in signature.pattern], signature.noticed
        grave = admitted_errors(situation.observation.metrics[situation.runs, -1]) > GRAVE
        action = np.zeros(len(patterns), np.int64)
        for row, pattern in enumerate(patterns):
            if not noticed[row]:
                continue
            page = (*PLAYBOOK[pattern], "escalate") if grave[row] else PLAYBOOK[pattern]
            numbers = (int(bound[row, ARMS.index(arm)]) for arm in page)
            action[row] = next((number for number in numbers if number >= 0), 0)
        return pick(action, lambda row: f"playbook for '{patterns[row]}'")
