"""What a policy can learn from: decisions of simulated runs, with what every candidate would have gained on forks.

Runs are played by the playbook, which now and then does something else, so that later decisions of an incident are
seen too. At a decision every candidate is tried on a fork whose future is re-keyed (the same for all candidates of a
decision), and nothing more is done but that a limit on the traffic is lifted. So waiting means that nobody acts, and
the gain over it is all that the action does. (With the playbook going on from there the gain over waiting is that of
acting now rather than 30 s later; a policy that was taught that waited again and again.)
"""

__all__ = ["FUTURES", "HORIZON_STEPS", "Lessons", "collect"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Detector, Diagnoser, Situation
from agent.keys import subkeys, uniforms
from agent.loop import Agent
from agent.play import begin
from agent.policies.arms import Arms
from agent.policies.base import FixedPolicy
from agent.policies.learned import INPUTS, Candidates, candidates
from agent.policies.playbook import Playbook
from agent.rollouts import roll_out
from simcore.env import Episodes
from simcore.observation import ActionTable, Topology

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Futures in which a candidate is tried.
FUTURES = 1
#: Steps over which its gain is judged.
HORIZON_STEPS = 60
#: Share of the decisions that do not follow the playbook.
_EXPLORED = 0.35
#: Decisions of one run that become lessons.
_PER_RUN = 5
#: Candidates at services further down the ranking: so many a decision, drawn.
_ASIDE = 4


@dataclass(frozen=True, slots=True)
class Lessons:
    """Candidates that were tried, one row each."""

    group: Ints  #: (candidate,) number of the decision
    run: Ints  #: (candidate,) number of the run
    arm: Ints  #: (candidate,)
    rank: Ints  #: (candidate,) as ``Candidates.rank``
    inputs: Floats  #: (candidate, input)
    gain: Floats  #: (candidate,) of J over waiting
    usual: Bools  #: (candidate,) whether it is what the playbook would do

    @classmethod
    def joined(cls, parts: "Sequence[Lessons]") -> "Lessons":
        """Return all of them; groups are numbered anew."""
        shift = np.cumsum([0, *(int(part.group.max(initial=-1)) + 1 for part in parts)])
        group = np.concatenate([part.group + first for part, first in zip(parts, shift[:-1], strict=True)])
        rest = ("run", "arm", "rank", "inputs", "gain", "usual")
        return cls(group, *(np.concatenate([getattr(part, name) for part in parts]) for name in rest))


class _Wanderer(FixedPolicy):
    """The playbook, and now and then a candidate at random, by the key of the decision."""

    name: ClassVar[str] = "wanderer"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology, self._actions, self._arms = topology, actions, Arms(topology, actions)
        self._playbook = Playbook()
        self._playbook.start(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        choices = self._playbook.decide(situation)
        action = choices.action.copy()
        found = candidates(situation, self._topology, self._actions, self._arms)
        whether = uniforms(situation.keys)
        which = uniforms(subkeys(situation.keys, np.full(situation.keys.size, 1, np.uint64)))
        for row in np.flatnonzero((whether < _EXPLORED) & situation.signature.noticed).tolist():
            open_ = found.action[(found.row == row) & (found.rank == 0)]
            if open_.size:
                action[row] = open_[int(which[row] * open_.size)]
        return Choices(action, choices.propensity, choices.score, choices.explain)


class _Witness(FixedPolicy):
    """Writes down what it is asked, and waits."""

    name: ClassVar[str] = "witness"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self.asked: list[Situation] = []

    def decide(self, situation: Situation) -> Choices:
        """Wait."""
        self.asked.append(situation)
        n = situation.runs.size
        return Choices(np.zeros(n, np.int64), np.ones(n), np.full(n, np.nan), lambda row: "witness")


def collect(
    episodes: Episodes,
    detector: Detector,
    diagnoser: Diagnoser,
    *,
    futures: int = FUTURES,
    horizon: int = HORIZON_STEPS,
    on_step: Callable[[Episodes], None] | None = None,
) -> Lessons:
    """Play a batch of episodes and return the lessons of its decisions.

    Parameters
    ----------
    episodes
        At edge 0; afterwards finished.
    detector, diagnoser
        Parts of the agent; the detector is trained.
    futures, horizon
        Re-keyed futures a candidate, and steps over which it is judged.
    on_step
        Called with the episodes after every step.
    """
    agent = Agent(detector, diagnoser, _Wanderer())
    begin(episodes, agent)
    arms = Arms(episodes.topology, episodes.actions)
    everyone, taught = np.arange(episodes.n_runs), np.zeros(episodes.n_runs, np.int64)
    parts: list[Lessons] = []
    while not episodes.finished:
        witness = agent.fork(everyone, policy=_Witness())
        witness.step(episodes.observation)
        asked = [s for s in witness.policy.asked if s.observation.step == episodes.step]  # type: ignore[attr-defined]
        for situation in asked:
            found = candidates(situation, episodes.topology, episodes.actions, arms)
            found = _chosen(found, situation, taught)
            if found.row.size:
                parts.append(_tried(episodes, situation, found, futures, horizon))
                taught[situation.runs[np.unique(found.row)]] += 1
        episodes.act(agent.step(episodes.observation).choice)
        episodes.advance()
        if on_step is not None:
            on_step(episodes)
    return Lessons.joined(parts) if parts else _none()


def _chosen(found: Candidates, situation: Situation, taught: Ints) -> Candidates:
    """Return the candidates that are tried: all at the service to act on, a few drawn at the others.

    Only decisions that users have a part in are lessons: in the others the policy waits.
    """
    keep = found.rank == 0
    for row in np.unique(found.row).tolist():
        aside = np.flatnonzero((found.row == row) & (found.rank > 0))
        keys = subkeys(np.full(aside.size, situation.keys[row]), np.arange(2, 2 + aside.size).astype(np.uint64))
        keep[aside[np.argsort(uniforms(keys), kind="stable")[:_ASIDE]]] = True
    keep &= (taught[situation.runs[found.row]] < _PER_RUN) & situation.signature.noticed[found.row]
    parts = ("row", "arm", "action", "rank", "inputs", "usual")
    return Candidates(*(getattr(found, name)[keep] for name in parts))


def _tried(episodes: Episodes, situation: Situation, found: Candidates, futures: int, horizon: int) -> Lessons:
    """Try candidates on forks, waiting too, and return what they gain over waiting."""
    rows = np.unique(found.row)
    runs = np.concatenate([situation.runs[rows], situation.runs[found.row]])
    action = np.concatenate([np.zeros(rows.size, np.int64), found.action])
    value = roll_out(episodes, runs, action, futures=range(futures), horizon=horizon).mean_j()
    waiting = np.zeros(situation.runs.size)
    waiting[rows] = value[: rows.size]
    number = np.array([episodes.runs[run].run for run in situation.runs.tolist()], np.int64)
    return Lessons(
        group=np.searchsorted(rows, found.row),
        run=number[found.row],
        arm=found.arm,
        rank=found.rank,
        inputs=found.inputs,
        gain=value[rows.size :] - waiting[found.row],
        usual=found.usual,
    )


def _none() -> Lessons:
    empty = np.zeros(0, np.int64)
    return Lessons(empty, empty, empty, empty, np.zeros((0, len(INPUTS))), np.zeros(0), empty > 0)
