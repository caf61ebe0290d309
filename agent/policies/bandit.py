"""UCB1 over kinds of action, with experience kept by incident signature (Auer, Cesa-Bianchi and Fischer, 2002).

Departures from the paper, each because runs of a round share one frozen policy and most signatures are rare:

- *Back-off.* Experience is kept at three levels: the whole signature; target, whether the SLO is broken, pattern and
  whether something was tried before; the same without the target. A level's mean is shrunk towards the next coarser
  one with the weight of ``PRIOR_PULLS`` pulls, and the coarsest towards the playbook's ranking.
- *Spreading.* A frozen UCB1 would pull one arm for a whole round. Instead the next ``SPREAD`` pulls are allotted as
  UCB1 would do them one by one if each returned the mean it expects; a run takes an arm by its share, with its
  decision's key. Untried arms are thus spread over the runs, and the propensity is known.
- *Scale.* The confidence radius is ``exploration * sqrt(2 ln N / n)``; the paper has exploration 1, which suits
  rewards of variance 1/4 and many more pulls than a signature gets here.
"""

__all__ = ["PRIOR_PULLS", "SPREAD", "Ucb1Policy"]

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from agent.api import BROKEN, PATTERNS, Choices, Decision, Situation
from agent.keys import uniforms
from agent.policies.arms import ARMS, Arms
from agent.policies.playbook import EARLY, PLAYBOOK
from simcore.codes import ActionCode
from simcore.errors import InputError
from simcore.jit import njit
from simcore.observation import ActionTable, Topology
from simcore.samplers import log

#: Pulls that a coarser level, or the playbook, is worth.
PRIOR_PULLS = 3.0
#: Pulls that are allotted in advance.
SPREAD = 24
#: Expected reward before any experience: of the playbook's arms by rank, of noop, and of the others.
_RANKED, _NOOP, _OTHER = (0.75, 0.65, 0.55), 0.4, 0.35
#: Of noop while the SLO holds and the playbook waits.
_WAIT = 0.9

_ARM_OF = {
    ActionCode.NOOP: 0,
    ActionCode.RESTART: 1,
    ActionCode.SCALE: 2,
    ActionCode.CLEAR_CACHE: 3,
    ActionCode.LIMIT_TRAFFIC: 4,
    ActionCode.ROLLBACK: 5,
    ActionCode.QUARANTINE: 6,
}


def _levels(signature: str) -> tuple[str, str, str]:
    """Return the keys under which a signature's experience is kept, coarsest first."""
    target, broken, _, _, pattern, again = signature.split("|")
    rough = f"{'holds' if broken == BROKEN[0] else 'broken'}|{pattern}|{again}"
    return rough, f"{target}|{rough}", signature


def _prior(signature: str) -> list[float]:
    """Return the (arm,) rewards expected before any experience."""
    _, broken, _, _, pattern, _ = signature.split("|")
    means = [_OTHER] * len(ARMS)
    means[0] = _NOOP
    for rank, arm in enumerate(PLAYBOOK[pattern]):
        means[ARMS.index(arm)] = _RANKED[rank]
    if broken == BROKEN[0] and pattern not in EARLY:
        means[0] = _WAIT
    return means


@njit
def _allot(mean, weight, open_, exploration, pulls):  # type: ignore[no-untyped-def]
    """Return (arm,) the shares of the next pulls, each as if it returned its mean; weight is overwritten."""
    share = np.zeros(mean.size)
    total = 1.0
    for a in range(mean.size):
        total += weight[a] if open_[a] else 0.0
    for _ in range(pulls):
        radius = 2.0 * log(total)
        best, most = -1, -np.inf
        for a in range(mean.size):
            if open_[a]:
                bound = mean[a] + exploration * np.sqrt(radius / weight[a])
                if bound > most:
                    best, most = a, bound
        weight[best] += 1.0
        total += 1.0
        share[best] += 1.0 / pulls
    return share


class Ucb1Policy:
    """Learns which kind of action pays for which kind of incident."""

    name: ClassVar[str] = "bandit"

    def __init__(self, *, exploration: float = 0.05) -> None:
        """Start without experience.

        Parameters
        ----------
        exploration
            Factor of the confidence radius, >= 0.

        Raises
        ------
        InputError
            If it is negative.
        """
        if not exploration >= 0:
            raise InputError(f"bandit: exploration must be >= 0, got {exploration}")
        self.exploration = exploration
        self.explores = True
        self._pulls: dict[str, list[int]] = {}
        self._rewards: dict[str, list[float]] = {}
        self._shares: dict[tuple[str, tuple[bool, ...]], tuple[list[float], list[float]]] = {}

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._services = topology.services
        self._arms = Arms(topology, actions)

    def freeze(self) -> None:
        """Stop exploring: take the arm with the largest mean."""
        self.explores = False
        self._shares.clear()

    def _expect(self, signature: str) -> tuple[list[float], list[float]]:
        """Return (arm,) the mean reward and the pulls it rests on, the prior's share included."""
        mean = _prior(signature)
        weight = [1.0] * len(ARMS)
        for key in _levels(signature):
            pulls, rewards = self._pulls.get(key), self._rewards.get(key)
            if pulls is None or rewards is None:
                continue
            for a, n in enumerate(pulls):
                mean[a] = (rewards[a] + PRIOR_PULLS * mean[a]) / (n + PRIOR_PULLS)
                weight[a] = n + min(weight[a], PRIOR_PULLS)
        return mean, weight

    def _share(self, signature: str, open_: tuple[bool, ...]) -> tuple[list[float], list[float]]:
        """Return (arm,) the share of each arm among the next pulls, and the means; remembered until the next merge."""
        known = self._shares.get((signature, open_))
        if known is not None:
            return known
        mean, weight = self._expect(signature)
        share = [0.0] * len(ARMS)
        if self.explores:
            share = _allot(np.array(mean), np.array(weight), np.array(open_), self.exploration, SPREAD).tolist()
        else:
            share[max((a for a, is_open in enumerate(open_) if is_open), key=lambda a: mean[a])] = 1.0
        self._shares[signature, open_] = share, mean
        return share, mean

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row, with the experience of earlier rounds only."""
        bound = self._arms.bind(situation)
        n = situation.runs.size
        action, propensity, score = np.zeros(n, np.int64), np.ones(n), np.zeros(n)
        arms: list[str] = []
        for row, u in enumerate(uniforms(situation.keys)):
            signature = situation.signature.key(row, self._services)
            share, mean = self._share(signature, tuple((bound[row] >= 0).tolist()))
            arm, left = 0, float(u)
            for a, part in enumerate(share):
                if part > 0.0:
                    arm = a
                    left -= part
                    if left < 0.0:
                        break
            action[row], propensity[row], score[row] = bound[row, arm], share[arm], mean[arm]
            arms.append(ARMS[arm])
        return Choices(action, propensity, score, lambda row: f"{arms[row]} expects {score[row]:.2f}")

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn from the judged decisions of a round, in order of runs."""
        for decision in decisions:
            arm = _ARM_OF.get(ActionCode(decision.code))
            if arm is None or math.isnan(decision.reward):
                continue
            for key in _levels(decision.signature):
                self._pulls.setdefault(key, [0] * len(ARMS))[arm] += 1
                self._rewards.setdefault(key, [0.0] * len(ARMS))[arm] += decision.reward
        self._shares.clear()

    def state(self) -> dict[str, Any]:
        """Return all experience, JSON-able; keys sorted, so that equal experience gives equal text."""
        return {
            "version": 1,
            "name": self.name,
            "exploration": self.exploration,
            "arms": list(ARMS),
            "experience": {
                key: {"pulls": self._pulls[key], "rewards": self._rewards[key]} for key in sorted(self._pulls)
            },
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this policy's, or damaged.
        """
        if state.get("name") != self.name or state.get("version") != 1:
            raise InputError(
                f"policy state: expected {self.name} version 1, got {state.get('name')} {state.get('version')}"
            )
        if state.get("arms") != list(ARMS):
            raise InputError(f"policy state: arms must be {', '.join(ARMS)}, got {state.get('arms')}")
        pulls: dict[str, list[int]] = {}
        rewards: dict[str, list[float]] = {}
        try:
            exploration = float(state["exploration"])
            for key, entry in state["experience"].items():
                pulls[key] = [int(n) for n in entry["pulls"]]
                rewards[key] = [float(r) for r in entry["rewards"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        for key in pulls:
            _check_entry(key, pulls[key], rewards[key])
        if not exploration >= 0:
            raise InputError(f"policy state: exploration must be >= 0, got {exploration}")
        self.exploration, self._pulls, self._rewards = exploration, pulls, rewards
        self._shares.clear()


def _check_entry(key: str, pulls: list[int], rewards: list[float]) -> None:
    """Check one signature's experience: known form, an entry per arm, rewards possible for the pulls.

    Raises
    ------
    InputError
        If a rule is broken.
    """
    parts = key.split("|")
    if len(parts) not in (3, 4, 6) or parts[-2] not in PATTERNS or parts[-1] not in ("first", "again"):
        raise InputError(f"policy state: experience.{key}: no such signature")
    if len(pulls) != len(ARMS) or len(rewards) != len(ARMS):
        raise InputError(f"policy state: experience.{key}: needs {len(ARMS)} pulls and rewards")
    if not all(n >= 0 and -1e-9 <= r <= n + 1e-9 for n, r in zip(pulls, rewards, strict=True)):
        raise InputError(f"policy state: experience.{key}: rewards must lie in [0, pulls]")
