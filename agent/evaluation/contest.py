"""Plays several agents, frozen, on the same runs: the noop twin first, then everybody, then the trigger once more."""

__all__ = ["Contestant", "Plan", "contestants", "hold", "train"]

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from agent.api import AgentTrace, Detector
from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.durability import durable
from agent.evaluation.played import Labels
from agent.evaluation.regret import Judge
from agent.evaluation.scoring import score
from agent.evaluation.study import OnProgress, Outcome, Study, evaluate, noop_twins, pack, state_id, uninterrupted
from agent.evaluation.taught import frozen
from agent.loop import Agent
from agent.play import play
from simcore.env import Episodes
from simcore.telemetry.writers import ResultsWriter

#: Told of every round that was played: the contestant's label, its episodes, and what the agent did.
OnRound = Callable[[str, Episodes, AgentTrace], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, besides the study that holds the test runs."""

    trainings: int = 5  #: of every policy that learns
    train_episodes: int = 200  #: of each training, split ``train``
    replays: bool = True  #: let the trigger strike again, to see whether recovery is durable


@dataclass(frozen=True, slots=True)
class Contestant:
    """An agent that takes part."""

    label: str  #: in the tables
    agent: Agent
    detector: str
    diagnoser: str
    training: int | None = None
    state: dict[str, Any] | None = None  #: of the policy, as it was frozen


def train(
    study: Study,
    name: str,
    plan: Plan,
    detector: Detector,
    *,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """Return the states that a policy learns in several trainings, each on runs of its own in the split ``train``.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C came: half a training is none.
    """
    found = []
    for number in range(plan.trainings):
        lesson = replace(
            study, split="train", policies=(name,), episodes=plan.train_episodes, frozen=False, twins=False,
            first_run=number * plan.train_episodes,
        )  # fmt: skip
        done = number * plan.train_episodes
        tell = None if on_progress is None else lambda runs, done=done: on_progress(done + runs)
        outcome = evaluate(lesson, detector=detector, threads=threads, on_progress=tell)
        if outcome.interrupted:
            raise KeyboardInterrupt
        found.append(outcome.learned[name])
    return found


def contestants(study: Study, detector: Detector, states: dict[str, list[dict[str, Any]]]) -> list[Contestant]:
    """Return a contestant per policy of the study, or per state where there are several.

    Parameters
    ----------
    study
        Names the policies and the parts that they share.
    detector
        Trained.
    states
        Policy -> its states, one per training; a policy without any plays as it comes.

    Raises
    ------
    InputError
        If a state is not the policy's.
    """
    found = []
    for name in study.policies:
        given: Sequence[dict[str, Any] | None] = states.get(name) or (None,)
        for number, state in enumerate(given):
            policy = frozen(name, state)
            agent = Agent(detector, study.new_diagnoser(), policy)
            training = None if state is None else number
            found.append(Contestant(name, agent, study.detector, study.diagnoser, training, policy.state()))
    return found


def hold(
    study: Study,
    players: Sequence[Contestant],
    *,
    replays: bool = True,
    judged: int = 0,
    margin: float = MARGIN,
    engine: str = "batch",
    threads: int | None = None,
    writer: ResultsWriter | None = None,
    on_progress: OnProgress | None = None,
    on_round: OnRound | None = None,
) -> Outcome:
    """Let everybody play every run of the study, round by round; Ctrl-C ends it after the last finished round.

    Parameters
    ----------
    study
        The runs.
    players
        Frozen agents; nobody learns here.
    replays
        Whether to find out which recoveries are durable.
    judged, margin
        In how many runs every decision is held against the best action (``agent.evaluation.regret``), the first ones;
        and what is harm there.
    engine, threads
        How to run it; without influence on the results.
    writer
        Takes the tables of each round; left open.
    on_progress, on_round
        Told how many runs are done, and what was played.
    """
    outcome, frames, done = Outcome(pl.DataFrame(), interrupted=True), [], 0
    with contextlib.suppress(KeyboardInterrupt):
        for number, first in enumerate(range(0, study.episodes, study.round_size)):
            runs = study.runs(study.first_run + first, min(study.round_size, study.episodes - first))
            twins = noop_twins(study, runs, engine=engine, threads=threads)
            at_risk = [bool(one) for one in twins["noop_incident"]]
            tables = []
            for player in players:
                episodes = Episodes(study.scenario, runs, engine=engine, threads=threads)
                judge = Judge(episodes, max(0, judged - first), margin=margin)
                trace = play(episodes, player.agent, on_decided=judge.listen)
                labels = _labels(player, number) | twins
                if judged:
                    labels |= judge.labels()
                if replays:
                    labels["durable"] = durable(episodes, at_risk, threads=threads)
                wanted = None if writer is not None and writer.kind == "folder" else ("episodes",)
                tables.append(score(episodes, trace, labels, tables=wanted))
                done += len(runs)
                if on_progress is not None:
                    on_progress(done)
                if on_round is not None:
                    on_round(player.label, episodes, trace)
            # a round counts once everybody has played it, or it would not be paired
            with uninterrupted():
                for player, found in zip(players, tables, strict=True):
                    frames.append(found["episodes"])
                    if player.state is not None:
                        outcome.states.setdefault(state_id(player.state), pack(player.state))
                    if writer is not None:
                        writer.write(found)
        outcome.interrupted = False
    outcome.episodes = pl.concat(frames) if frames else outcome.episodes
    return outcome


def _labels(player: Contestant, number: int) -> Labels:
    labels = Labels(round=number, detector=player.detector, diagnoser=player.diagnoser, policy=player.label)
    if player.state is not None:
        labels["policy_state"] = state_id(player.state)
    if player.training is not None:
        labels["training"] = player.training
    return labels
