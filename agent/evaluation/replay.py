"""One episode by itself, at once or step by step: of a study, or of a row of results with its round's policy state."""

__all__ = ["ON_CALL", "Live", "Played", "Replay", "play_replay", "replay_of"]

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.api import AgentTrace, Detector
from agent.evaluation.played import OF_RUNS
from agent.evaluation.scoring import Labels, score
from agent.evaluation.study import Study, state_id, unpack
from agent.evaluation.timeline import Line, Seen, lines_of, render
from agent.evaluation.training import trained_detector
from agent.loop import Agent, AgentStep
from agent.play import Playing
from agent.registry import make_detector, make_policy
from simcore.env import Episodes
from simcore.errors import ResultsError
from simcore.telemetry.writers import read_row

#: Columns of a row that a replay does not have to give again: how it was run, not what happened.
_OUTSIDE = ("engine", "training", *OF_RUNS)
#: What stands for the policy in the row of an episode in which somebody did other than the agent would have done.
ON_CALL = "on_call"


@dataclass(frozen=True, slots=True)
class Replay:
    """One episode of a study."""

    study: Study
    run: int  #: index of the run
    policy: str | None  #: None: no agent
    state: dict[str, Any] | None = None  #: learned state to act on; None: a fresh policy
    detector_state: dict[str, Any] | None = None  #: None: the detector is trained
    round: int = 0
    stored: dict[str, Any] | None = None  #: the row that it has to give again


@dataclass(frozen=True, slots=True)
class Played:
    """What a replay gave."""

    episodes: Episodes
    trace: AgentTrace | None
    row: dict[str, Any]  #: of the episodes table
    timeline: str
    differences: list[str] | None  #: from the stored row, None if there is none

    @property
    def report(self) -> str:
        """The incident report alone."""
        return self.timeline[self.timeline.index("Incident report") :]


def replay_of(target: str | Path, row: int) -> Replay:
    """Return what it takes to play a row of results again.

    Parameters
    ----------
    target
        What ``eval --out`` or ``sweep --out`` wrote.
    row
        Row of the episodes table, from 0; of a study, the number in its column ``row``.

    Raises
    ------
    ResultsError
        If there is no such row, or the metadata beside the data do not hold what is needed.
    """
    if (Path(target) / "study.json").is_file():
        from agent.evaluation.sweep.replay import replay_of_study  # which stands on this module

        return replay_of_study(target, row)
    stored, metadata = read_row(target, row)
    study = Study.from_metadata(metadata)
    state = None
    if stored["policy_state"] is not None:
        states = metadata.get("policy_states", {})
        if stored["policy_state"] not in states:
            raise ResultsError(f"the metadata of {target} lack the policy state {stored['policy_state']} of row {row}")
        state = unpack(states[stored["policy_state"]])
    return Replay(
        study=study,
        run=stored["run"],
        policy=stored["policy"],
        state=state,
        detector_state=metadata.get("detector_state"),
        round=stored["round"] or 0,
        stored=stored,
    )


class Live:
    """One episode that goes on step by step, with room for somebody on call.

    Left to itself it gives the row that ``play_replay`` gives.

    Parameters
    ----------
    replay
        What to play.
    engine, threads, log
        As ``Episodes`` takes them.

    Raises
    ------
    InputError
        If the study names something that there is not.
    """

    def __init__(self, replay: Replay, *, engine: str = "batch", threads: int | None = None, log: bool = False) -> None:
        self.replay = replay
        study = replace(replay.study, episodes=1)
        agent = None
        self._labels = Labels()
        if replay.policy is not None:
            agent, self._labels = _agent(replay, study, threads)
        runs = study.runs(replay.run, 1)
        self.episodes = Episodes(study.scenario, runs, engine=engine, threads=threads, log=log)
        self.playing = None if agent is None else Playing(self.episodes, agent, shadow=study.shadow)
        self.seen = Seen(study.scenario.timing.steps)
        #: (step, action) of what somebody did or left undone where the agent would have done otherwise
        self.interventions: list[tuple[int, int]] = []
        #: edges at which somebody acted, whether the agent would have done the same or not
        self.by_hand: set[int] = set()
        self._advice: tuple[int, AgentStep] | None = None

    @property
    def finished(self) -> bool:
        """Whether the episode is over."""
        return self.episodes.finished

    @property
    def trace(self) -> AgentTrace | None:
        """What the agent did so far, None without one."""
        return None if self.playing is None else self.playing.settle()

    def advice(self) -> AgentStep | None:
        """Return what the agent would do at the present edge, None without one; nothing is changed by asking."""
        if self.playing is None:
            return None
        if self._advice is None or self._advice[0] != self.episodes.step:
            said = self.playing.agent.fork(np.zeros(1, np.int64)).step(self.episodes.observation)
            self._advice = self.episodes.step, said
        return self._advice[1]

    def step(self, action: int | None = None) -> None:
        """Act at the present edge and go on to the next.

        Parameters
        ----------
        action
            Number of a legal action to take, 0 to leave everything as it is; None: whatever the agent does.

        Raises
        ------
        ActionError
            If it is not legal; nothing has happened then.
        """
        episodes = self.episodes
        if action is not None:
            episodes.check(0, action)
            if action > 0:
                self.by_hand.add(episodes.step)
            said = self.advice()
            if action == (0 if said is None or self.replay.study.shadow else int(said.choice[0])):
                action = None
            else:
                self.interventions.append((episodes.step, action))
        if self.playing is not None:
            self.playing.step(None if action is None else np.array([action]))
        else:
            episodes.act(np.array([action or 0]))
            episodes.advance()
        self.seen.take(episodes)

    def to_end(self) -> None:
        """Let the rest of the episode go by itself."""
        if self.playing is None:
            self.episodes.advance_to_end()
            self.seen.take(self.episodes)
        while not self.finished:
            self.step()

    def lines(self) -> list[Line]:
        """Return the timeline so far."""
        return lines_of(self.episodes, self.trace, self.seen)

    def played(self) -> Played:
        """Return what became of it; the episode is over."""
        labels, stored = self._labels, self.replay.stored
        if self.interventions:
            labels, stored = labels | Labels(policy=ON_CALL), None
            labels.pop("policy_state", None)
        episodes, trace = self.episodes, self.trace
        row = score(episodes, trace, labels, tables=("episodes",))["episodes"].row(0, named=True)
        return Played(episodes, trace, row, render(episodes, trace, self.seen, labels), _differences(row, stored))


def play_replay(replay: Replay, *, engine: str = "batch", threads: int | None = None, log: bool = False) -> Played:
    """Play one episode to its end.

    Parameters
    ----------
    replay
        What to play.
    engine, threads, log
        As ``Episodes`` takes them.

    Raises
    ------
    InputError
        If the study names something that there is not.
    """
    live = Live(replay, engine=engine, threads=threads, log=log)
    live.to_end()
    return live.played()


def _agent(replay: Replay, study: Study, threads: int | None) -> tuple[Agent, Labels]:
    """Return the agent as it stood, and what the round is called in the tables."""
    assert replay.policy is not None
    policy = make_policy(replay.policy)
    if replay.state is not None:
        policy.load(replay.state)
    if study.frozen:
        policy.freeze()
    labels = Labels(
        round=replay.round,
        policy_state=state_id(policy.state()),
        detector=study.detector,
        diagnoser=study.diagnoser,
        policy=policy.name,
    )
    return Agent(_detector(replay, threads), study.new_diagnoser(), policy), labels


def _detector(replay: Replay, threads: int | None) -> Detector:
    study = replay.study
    if replay.detector_state is None:
        return trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
    detector = make_detector(study.detector)
    detector.load(replay.detector_state)
    return detector


def _differences(row: dict[str, Any], stored: dict[str, Any] | None) -> list[str] | None:
    if stored is None:
        return None
    wrong = [name for name in row if name not in _OUTSIDE and row[name] != stored[name]]
    return [f"{name} was {stored[name]}, is {row[name]}" for name in wrong]
