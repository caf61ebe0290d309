"""One episode by itself: of a study, or of a row of results with the policy state of its round."""

__all__ = ["Played", "Replay", "play_replay", "replay_of"]

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.api import AgentTrace, Detector
from agent.evaluation.scoring import Labels, score
from agent.evaluation.study import Study, play_round, state_id, unpack
from agent.evaluation.timeline import Seen, render
from agent.evaluation.training import trained_detector
from agent.registry import make_detector, make_policy
from simcore.env import Episodes
from simcore.errors import ResultsError
from simcore.telemetry.writers import read_row

#: Columns of a row that a replay does not have to give again: how it was run, not what happened.
_OUTSIDE = ("engine", "training", "noop_incident", "noop_j", "durable")


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
    study = replace(replay.study, episodes=1)
    policy = detector = None
    labels = Labels()
    if replay.policy is not None:
        policy = make_policy(replay.policy)
        if replay.state is not None:
            policy.load(replay.state)
        if study.frozen:
            policy.freeze()
        detector = _detector(replay, threads)
        labels = Labels(
            round=replay.round,
            policy_state=state_id(policy.state()),
            detector=study.detector,
            diagnoser=study.diagnoser,
            policy=policy.name,
        )
    seen = Seen(study.scenario.timing.steps)
    runs = study.runs(replay.run, 1)
    episodes, trace = play_round(
        study, runs, policy, detector, engine=engine, threads=threads, log=log, on_step=seen.take
    )
    row = score(episodes, trace, labels, tables=("episodes",))["episodes"].row(0, named=True)
    return Played(episodes, trace, row, render(episodes, trace, seen, labels), _differences(row, replay.stored))


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
