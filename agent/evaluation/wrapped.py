"""Policies made of other policies: one that leaves some decisions to chance, one that calls a human when unsure."""

__all__ = ["Cautious", "Softened"]

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from agent.api import Choices, ConsultsRollouts, Decision, Informed, Policy, Rollouts, Situation
from agent.forking import forked
from agent.keys import subkeys, uniforms
from simcore.codes import ActionCode
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology

Ints = npt.NDArray[np.int64]

#: Sub-key of a decision with which chance decides; the policy inside draws from the decision's own.
_CHANCE = np.uint64(7 << 20)


class _Wrapped:
    """What is done as the policy inside does it."""

    name: ClassVar[str]

    def __init__(self, inner: Policy) -> None:
        self.inner = inner

    def inform(self, episodes: Episodes) -> None:
        """Pass on the truth to one who may know it."""
        if isinstance(self.inner, Informed):
            self.inner.inform(episodes)

    def consult(self, rollouts: Rollouts) -> None:
        """Pass on the means to look ahead to one who does."""
        if isinstance(self.inner, ConsultsRollouts):
            self.inner.consult(rollouts)

    def fork(self, rows: Ints) -> Self:
        """Return one that goes on with some runs, (row,) positions."""
        twin = copy.copy(self)
        twin.inner = forked(self.inner, rows)
        return twin

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self.inner.start(topology, actions)

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn nothing: what was chosen instead is no experience of the policy inside."""

    def freeze(self) -> None:
        """Let the policy inside stop exploring."""
        self.inner.freeze()

    def state(self) -> dict[str, Any]:
        """Return what the policy inside learned."""
        return self.inner.state()

    def load(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.inner.load(state)


class Softened(_Wrapped):
    """Takes any allowed action at random with some probability, else what a policy that is certain takes.

    Chance draws a kind of action first, then one of that kind: there are many targets to restart, and one way to wait.
    So every allowed action has a chance, and its propensity is known: what the log of a decision needs for others to
    be judged by it.
    """

    name: ClassVar[str] = "softened"

    def __init__(self, inner: Policy, share: float) -> None:
        """Wrap a policy.

        Parameters
        ----------
        inner
            Certain of its choices: frozen.
        share
            Probability of chance, in (0, 1].

        Raises
        ------
        InputError
            If the probability is out of range.
        """
        if not 0.0 < share <= 1.0:
            raise InputError(f"the share of decisions left to chance must be > 0 and <= 1, got {share:g}")
        super().__init__(inner)
        self.share = share

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        super().start(topology, actions)
        kinds = list(dict.fromkeys(actions.kinds))
        self._kind = np.array([kinds.index(kind) for kind in actions.kinds], np.int64)
        self._of_kind = (self._kind[:, None] == np.arange(len(kinds))).astype(np.float64)  # (action, kind)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row.

        Raises
        ------
        InputError
            If the policy inside is not certain.
        """
        own = self.inner.decide(situation)
        if not (own.propensity == 1.0).all():
            raise InputError(f"{self.inner.name} leaves decisions to chance itself: its propensities are not all known")
        n = situation.runs.size
        keys = subkeys(situation.keys, np.full(n, _CHANCE))
        within = situation.allowed.astype(np.float64) @ self._of_kind  # (row, kind) allowed actions
        share = (within > 0).sum(1, keepdims=True) * within[:, self._kind]
        chance = np.divide(situation.allowed, share, out=np.zeros(share.shape), where=share > 0)
        drawn = uniforms(subkeys(keys, np.ones(n, np.uint64)))
        any_one = np.argmax(np.cumsum(chance, 1) > drawn[:, None], 1)
        action = np.where(uniforms(keys) < self.share, any_one, own.action).astype(np.int64)
        propensity = self.share * chance[np.arange(n), action] + (1.0 - self.share) * (action == own.action)
        return Choices(action, propensity, own.score, own.explain)


class Cautious(_Wrapped):
    """Calls a human when the diagnosis is less certain than a threshold, or waits where there is nobody to call."""

    name: ClassVar[str] = "cautious"

    def __init__(self, inner: Policy, threshold: float) -> None:
        super().__init__(inner)
        self.threshold = threshold
        self.decisions = self.covered = 0  #: how many there were, and how many the policy took itself

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        super().start(topology, actions)
        found = np.flatnonzero(actions.code == ActionCode.ESCALATE)
        self._human = int(found[0]) if found.size else 0

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        own = self.inner.decide(situation)
        sure = situation.diagnosis.confidence >= self.threshold
        self.decisions += sure.size
        self.covered += int(sure.sum())
        instead = np.where(situation.allowed[:, self._human], self._human, 0)
        action = np.where(sure, own.action, instead).astype(np.int64)

        def explain(row: int) -> str:
            return own.explain(row) if sure[row] else f"less certain than {self.threshold:g}: not decided alone"

        return Choices(action, np.where(sure, own.propensity, 1.0), np.where(sure, own.score, np.nan), explain)
