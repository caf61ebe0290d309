"""Plays a batch of episodes with an agent, and says what each of its decisions was worth."""

__all__ = ["Playing", "begin", "play", "reward"]

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace, ConsultsRollouts, Decision, Informed
from agent.loop import Agent, AgentStep
from agent.rollouts import Tryouts
from simcore.env import Episodes
from simcore.env.episodes import UNHEALTHY_PENALTY
from simcore.streams import run_key

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_POLICY_STREAM = 5


def reward(episodes: Episodes, first: Ints, last: Ints) -> Floats:
    """Return (run,) the reward of a decision that was under way over the steps [first, last), in [0, 1].

    ``reward = (healthy + max(0, 1 - loss)) / 2``. Healthy is 1 if the run is not unhealthy at the end of the last
    step (two of the last three steps violate the SLO, or traffic is turned away). The loss is the fall of J by bad
    requests and action cost, per step, in units of all requests of a step: ``-(change of J + penalty given or taken)
    * steps of the horizon / (last - first)``.

    Parameters
    ----------
    episodes
        With the steps closed.
    first, last
        (run,) edges; rows with ``last <= first`` give nan.
    """
    rows = np.arange(episodes.n_runs)
    length = last - first
    after = episodes.unhealthy[rows, np.maximum(last - 1, 0)]
    before = np.where(first > 0, episodes.unhealthy[rows, np.maximum(first - 1, 0)], False)
    change = episodes.j_between(first, np.maximum(first, last))
    change = change + UNHEALTHY_PENALTY * (after.astype(np.float64) - before)
    loss = np.maximum(0.0, -change * episodes.n_steps / np.maximum(length, 1))
    value: Floats = 0.5 * ~after + 0.5 * np.maximum(0.0, 1.0 - loss)
    return np.where(length > 0, value, np.nan)


def _set_rewards(episodes: Episodes, decisions: list[Decision]) -> None:
    """Fill in the rewards of all judged decisions, numbered by position, one call per ordinal within their run."""
    waves: list[dict[int, Decision]] = []
    ordinal: dict[int, int] = {}
    for decision in decisions:
        if decision.closed < 0:
            continue
        run = decision.run
        number = ordinal[run] = ordinal.get(run, -1) + 1
        if number == len(waves):
            waves.append({})
        waves[number][run] = decision
    for wave in waves:
        first, last = np.zeros(episodes.n_runs, np.int64), np.zeros(episodes.n_runs, np.int64)
        for run, decision in wave.items():
            first[run], last[run] = decision.opened, decision.closed
        rewards = reward(episodes, first, last)
        for run, decision in wave.items():
            decision.reward = float(rewards[run])


def begin(episodes: Episodes, agent: Agent, numbers: Ints | None = None) -> None:
    """Make an agent ready for a batch of episodes at edge 0: its parts get the truth or the rollouts they ask for.

    Parameters
    ----------
    episodes, agent
        The batch, and who will play it.
    numbers
        (run,) what the runs are called in the decision records; by default the indices of the runs.
    """
    for part in (agent.detector, agent.diagnoser, agent.policy):
        if isinstance(part, Informed):
            part.inform(episodes)
    keys = np.array([run_key(run.seed, run.split, run.run, _POLICY_STREAM) for run in episodes.runs], np.uint64)
    if numbers is None:
        numbers = np.array([run.run for run in episodes.runs], np.int64)
    agent.start(episodes.topology, episodes.actions, keys, numbers)
    if isinstance(agent.policy, ConsultsRollouts):
        agent.policy.consult(Tryouts(episodes))


class Playing:
    """A batch of episodes with an agent, step by step.

    Parameters
    ----------
    episodes
        At edge 0.
    agent
        Fitted and calibrated.
    shadow
        Let the agent think, but apply and book nothing of what it chooses by itself.
    on_decided
        Called with the episodes and what the agent made of the step, at edges at which it decides, before it acts.
    """

    def __init__(
        self,
        episodes: Episodes,
        agent: Agent,
        *,
        shadow: bool = False,
        on_decided: Callable[[Episodes, AgentStep], None] | None = None,
    ) -> None:
        self.episodes, self.agent, self.shadow, self._on_decided = episodes, agent, shadow, on_decided
        #: What the agent did so far; its decisions, and their rewards, are up to date after ``settle``.
        self.trace = _empty_trace(episodes)
        # A batch may hold a run several times, under different faults: the agent calls runs by their positions.
        begin(episodes, agent, np.arange(episodes.n_runs))

    def step(self, forced: Ints | None = None) -> AgentStep:
        """Let the agent look and act at the present edge, and advance to the next.

        Parameters
        ----------
        forced
            (run,) as ``Agent.step`` takes it; what is forced is applied even where the agent only shadows.
        """
        episodes, trace, t = self.episodes, self.trace, self.episodes.step
        said = self.agent.step(episodes.observation, forced)
        trace.alarm[:, t], trace.triggered[:, t] = said.detection.alarm, said.triggered
        trace.overall[:, t], trace.score[:, t] = said.detection.overall, said.detection.score
        trace.choice[:, t], trace.suspect[:, t] = said.choice, said.suspect
        trace.confidence[:, t], trace.ranked[:, t] = said.confidence, said.ranked
        if self._on_decided is not None and said.opened:
            self._on_decided(episodes, said)
        choice = said.choice
        if self.shadow and forced is not None:
            choice = np.where(forced >= 0, choice, 0)
        episodes.act(choice, shadow=self.shadow and forced is None)
        episodes.advance()
        if episodes.finished:
            self.agent.finish(episodes.n_steps)
        return said

    def settle(self) -> AgentTrace:
        """Return the trace with the decisions so far, those judged with their rewards."""
        decisions = sorted(self.agent.decisions, key=lambda decision: (decision.run, decision.opened))
        _set_rewards(self.episodes, decisions)
        runs = self.episodes.runs
        self.trace.decisions = [replace(decision, run=runs[decision.run].run) for decision in decisions]
        return self.trace


def play(
    episodes: Episodes,
    agent: Agent,
    *,
    shadow: bool = False,
    on_step: Callable[[Episodes], None] | None = None,
    on_decided: Callable[[Episodes, AgentStep], None] | None = None,
) -> AgentTrace:
    """Play a batch of episodes to the end.

    Parameters
    ----------
    episodes
        At edge 0; afterwards finished.
    agent
        Fitted and calibrated.
    shadow
        Let the agent think, but apply and book nothing.
    on_step
        Called with the episodes after every step.
    on_decided
        Called with the episodes and what the agent made of the step, at edges at which it decides, before it acts.

    Returns
    -------
    What the agent did, rewards included.
    """
    playing = Playing(episodes, agent, shadow=shadow, on_decided=on_decided)
    while not episodes.finished:
        playing.step()
        if on_step is not None:
            on_step(episodes)
    return playing.settle()


def _empty_trace(episodes: Episodes) -> AgentTrace:
    shape, n_services = (episodes.n_runs, episodes.n_steps), episodes.topology.n_services
    return AgentTrace(
        alarm=np.zeros(shape, np.bool_),
        triggered=np.zeros(shape, np.bool_),
        overall=np.full(shape, np.nan),
        score=np.full((*shape, n_services), np.nan),
        choice=np.zeros(shape, np.int64),
        suspect=np.full(shape, -1, np.int64),
        confidence=np.full(shape, np.nan),
        ranked=np.full((*shape, n_services), -1, np.int64),
    )
