"""Rewards of the arms, kept by incident signature, and bandits that choose by them.

Two things differ from the textbook, because runs of a round share one frozen policy and most signatures are rare:

- *Back-off.* Experience is kept at three levels: the whole signature; target, whether the SLO is broken, pattern and
  whether something was tried before; the same without the target. A level's mean is shrunk towards the next coarser
  one with the weight of ``PRIOR_PULLS`` pulls, and the coarsest towards the playbook's ranking.
- *Shares.* A bandit says with which share of the next pulls each arm is taken, and a run takes an arm by its share
  with its decision's key. Arms are thus spread over the runs of a round, and the propensity is known.
"""

__all__ = ["PRIOR_PULLS", "Experience", "SignatureBandit", "prior"]

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import BROKEN, PATTERNS, Choices, Decision, Situation
from agent.keys import uniforms
from agent.policies.arms import ARMS, Arms
from agent.policies.base import check_owner
from agent.policies.playbook import PLAYBOOK
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology

Floats = npt.NDArray[np.float64]

#: Pulls that a coarser level, or the playbook, is worth.
PRIOR_PULLS = 3.0
#: Expected reward before any experience: of the playbook's arms by rank (the last for all further ones), of noop,
#: and of the others.
_RANKED, _NOOP, _OTHER = (0.75, 0.65, 0.55), 0.4, 0.35
#: Of noop while the SLO holds and the playbook waits.
_WAIT = 0.9


def _levels(signature: str) -> tuple[str, str, str]:
    """Return the keys under which a signature's experience is kept, coarsest first."""
    target, broken, _, _, pattern, again = signature.split("|")
    rough = f"{'holds' if broken == BROKEN[0] else 'broken'}|{pattern}|{again}"
    return rough, f"{target}|{rough}", signature


def prior(signature: str) -> list[float]:
    """Return the (arm,) rewards expected before any experience."""
    _, broken, _, _, pattern, _ = signature.split("|")
    means = [_OTHER] * len(ARMS)
    means[0] = _NOOP
    for rank, arm in enumerate(PLAYBOOK[pattern]):
        means[ARMS.index(arm)] = _RANKED[min(rank, len(_RANKED) - 1)]
    if broken == BROKEN[0]:
        means[0] = _WAIT
    return means


class Experience:
    """Pulls and rewards by signature."""

    def __init__(self) -> None:
        self.pulls: dict[str, list[int]] = {}
        self.rewards: dict[str, list[float]] = {}

    def add(self, signature: str, arm: int, reward: float) -> None:
        """Take in the reward of an arm."""
        for key in _levels(signature):
            self.pulls.setdefault(key, [0] * len(ARMS))[arm] += 1
            self.rewards.setdefault(key, [0.0] * len(ARMS))[arm] += reward

    def expect(self, signature: str) -> tuple[Floats, Floats]:
        """Return (arm,) the mean reward and the pulls it rests on, the prior's share included."""
        mean = prior(signature)
        weight = [1.0] * len(ARMS)
        for key in _levels(signature):
            pulls, rewards = self.pulls.get(key), self.rewards.get(key)
            if pulls is None or rewards is None:
                continue
            for a, n in enumerate(pulls):
                mean[a] = (rewards[a] + PRIOR_PULLS * mean[a]) / (n + PRIOR_PULLS)
                weight[a] = n + min(weight[a], PRIOR_PULLS)
        return np.array(mean), np.array(weight)

    def plain(self) -> dict[str, Any]:
        """Return it JSON-able; keys sorted, so that equal experience gives equal text."""
        return {key: {"pulls": self.pulls[key], "rewards": self.rewards[key]} for key in sorted(self.pulls)}

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "Experience":
        """Return what ``plain`` returned.

        Raises
        ------
        InputError
            If it is damaged.
        """
        made = cls()
        try:
            for key, entry in plain.items():
                made.pulls[key] = [int(n) for n in entry["pulls"]]
                made.rewards[key] = [float(r) for r in entry["rewards"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        for key in made.pulls:
            _check(key, made.pulls[key], made.rewards[key])
        return made


def _check(key: str, pulls: list[int], rewards: list[float]) -> None:
    """Check one signature's experience: known form, an entry per arm, rewards possible for the pulls."""
    parts = key.split("|")
    if len(parts) not in (3, 4, 6) or parts[-2] not in PATTERNS or parts[-1] not in ("first", "again"):
        raise InputError(f"policy state: experience.{key}: no such signature")
    if len(pulls) != len(ARMS) or len(rewards) != len(ARMS):
        raise InputError(f"policy state: experience.{key}: needs {len(ARMS)} pulls and rewards")
    if not all(n >= 0 and -1e-9 <= r <= n + 1e-9 for n, r in zip(pulls, rewards, strict=True)):
        raise InputError(f"policy state: experience.{key}: rewards must lie in [0, pulls]")


class SignatureBandit:
    """What bandits over signatures share; subclasses say how the next pulls are spread (``share``)."""

    name: ClassVar[str]
    #: Name of the bandit's one option, which is kept with its state.
    option: ClassVar[str]

    def __init__(self, value: float) -> None:
        self.value = value
        self.explores = True
        self._experience = Experience()
        self._shares: dict[tuple[str, tuple[bool, ...]], tuple[Floats, Floats]] = {}

    def share(self, mean: Floats, weight: Floats, open_: npt.NDArray[np.bool_]) -> Floats:
        """Return (arm,) the share of each arm among the next pulls while exploring; 0 for those not open.

        Parameters
        ----------
        mean, weight
            (arm,) expected reward, and the pulls that it rests on.
        open_
            (arm,) which arms may be pulled; noop always.
        """
        raise NotImplementedError

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._services = topology.services
        self._arms = Arms(topology, actions)

    def freeze(self) -> None:
        """Stop exploring: take the arm with the largest mean."""
        self.explores = False
        self._shares.clear()

    def _spread(self, signature: str, open_: tuple[bool, ...]) -> tuple[Floats, Floats]:
        """Return (arm,) the shares, and the means; remembered until the next merge."""
        known = self._shares.get((signature, open_))
        if known is not None:
            return known
        mean, weight = self._experience.expect(signature)
        is_open = np.array(open_)
        if self.explores:
            share = self.share(mean, weight, is_open)
        else:
            share = np.zeros(len(ARMS))
            share[int(np.argmax(np.where(is_open, mean, -np.inf)))] = 1.0
        self._shares[signature, open_] = share, mean
        return share, mean

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row, with the experience of earlier rounds only."""
        bound = self._arms.bind(situation)
        n = situation.runs.size
        arm, propensity, score = np.zeros(n, np.int64), np.ones(n), np.zeros(n)
        for row, u in enumerate(uniforms(situation.keys)):
            signature = situation.signature.key(row, self._services)
            share, mean = self._spread(signature, tuple((bound[row] >= 0).tolist()))
            taken = np.flatnonzero(share > 0.0)
            arm[row] = taken[min(int(np.searchsorted(np.cumsum(share[taken]), u, "right")), taken.size - 1)]
            # two arms may mean the same action
            propensity[row] = share[bound[row] == bound[row, arm[row]]].sum()
            score[row] = mean[arm[row]]
        action = bound[np.arange(n), arm]
        return Choices(
            action, propensity, score, lambda row: f"{ARMS[arm[row]]} expects {score[row]:.2f}",
            context=arm[:, None].astype(np.float64),
        )  # fmt: skip

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn from the judged decisions of a round, in order of runs."""
        for decision in decisions:
            if len(decision.context) == 1 and not math.isnan(decision.reward):
                self._experience.add(decision.signature, int(decision.context[0]), decision.reward)
        self._shares.clear()

    def state(self) -> dict[str, Any]:
        """Return all experience, JSON-able."""
        return {
            "version": 1,
            "name": self.name,
            self.option: self.value,
            "arms": list(ARMS),
            "experience": self._experience.plain(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this policy's, or damaged.
        """
        check_owner(state, self.name)
        if state.get("arms") != list(ARMS):
            raise InputError(f"policy state: arms must be {', '.join(ARMS)}, got {state.get('arms')}")
        try:
            value, experience = float(state[self.option]), Experience.read(state["experience"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        type(self)(**{self.option: value})
        self.value, self._experience = value, experience
        self._shares.clear()
