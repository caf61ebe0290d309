"""Many episodes in rounds: each round plays with a frozen policy, which then learns from it in run order.

A study's results depend on the study alone: not on threads, not on the engine, not on what else was evaluated.
"""

__all__ = [
    "OnProgress", "Outcome", "Study", "evaluate", "noop_twins", "pack", "play_round", "state_id", "uninterrupted",
    "unpack", "with_steps",
]  # fmt: skip

import base64
import contextlib
import dataclasses
import hashlib
import json
import math
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from agent.api import AgentTrace, Detector, Diagnoser, Policy
from agent.evaluation.scoring import Labels, score
from agent.evaluation.training import trained_detector
from agent.loop import Agent
from agent.play import play
from agent.registry import make_diagnoser, make_policy
from simcore.codes import Place
from simcore.env import Episodes
from simcore.errors import ResultsError
from simcore.model.faults import Fault
from simcore.model.inputs import Run, make_run
from simcore.model.scenario import Scenario
from simcore.model.spec import Range
from simcore.telemetry.writers import ResultsWriter

#: Called with the number of runs done so far; a round under way counts in part.
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that the results depend on."""

    scenario: Scenario
    seed: int
    episodes: int = 1
    first_run: int = 0  #: of the runs; the seed space has room for all of them
    split: str = "test"
    round_size: int = 50
    detector: str = ""
    detector_seed: int = 0  #: of the fault-free runs that the detector learns from
    diagnoser: str = ""
    diagnoser_state: dict[str, Any] | None = None  #: what it learned; None: what comes with it
    policies: tuple[str, ...] = ()  #: compared on the same runs; none: no agent at all
    shadow: bool = False  #: the agent thinks, and its actions are not applied
    frozen: bool = False  #: policies neither explore nor learn
    twins: bool = False  #: every run is also run without actions
    faults: tuple[Fault, ...] | None = None  #: the same for all runs; None: drawn from the scenario
    mix: str = "default"  #: one of ``simcore.model.inputs.MIXES``: how they are drawn

    @property
    def drawn(self) -> str:
        """How the faults are drawn, to follow in a title; nothing to say of the scenario's own mix."""
        return "" if self.mix == "default" else f", {self.mix} mix of faults"

    def arguments(self) -> dict[str, Any]:
        """Return the study but for its scenario, JSON-able; ``from_metadata`` is the way back."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "scenario"}
        plain["policies"] = list(self.policies)
        if self.faults is not None:
            plain["faults"] = [dataclasses.asdict(fault) | {"place": fault.place.name} for fault in self.faults]
        return plain

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Study":
        """Return the study that the metadata beside a result describe.

        Raises
        ------
        ResultsError
            If they do not describe one.
        """
        try:
            plain = dict(metadata["arguments"])
            plain["scenario"] = Scenario.model_validate(metadata["scenario"])
            plain["policies"] = tuple(plain["policies"])
            if plain["faults"] is not None:
                plain["faults"] = tuple(Fault(**fault | {"place": Place[fault["place"]]}) for fault in plain["faults"])
            study = cls(**plain)
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError(f"the metadata do not describe a study that can be replayed: {error}") from error
        if study.scenario.digest != metadata.get("scenario_hash"):
            raise ResultsError("the scenario in the metadata is not the one that was simulated: its hash differs")
        return study

    def new_diagnoser(self) -> Diagnoser:
        """Return a diagnoser with what it learned.

        Raises
        ------
        InputError
            If there is none of the name, or the state is not its own.
        """
        return make_diagnoser(self.diagnoser, self.diagnoser_state)

    def runs(self, first: int, count: int) -> list[Run]:
        """Return runs ``first`` to ``first + count - 1``."""
        return [
            make_run(self.scenario, seed=self.seed, split=self.split, run=run, faults=self.faults, mix=self.mix)
            for run in range(first, first + count)
        ]


def with_steps(scenario: Scenario, steps: int) -> Scenario:
    """Return a scenario with another number of control steps.

    Where onset and follow-up would no longer fit, both shrink in proportion.
    """
    timing, faults = scenario.timing, scenario.faults
    if steps == timing.steps:
        return scenario
    share = steps / timing.steps
    fits = faults.onset_s.max + timing.follow_up_steps * timing.step_s <= steps * timing.step_s
    if not fits:
        onset = Range(min=faults.onset_s.min * share, max=faults.onset_s.max * share)
        faults = faults.model_copy(update={"onset_s": onset})
    follow_up = timing.follow_up_steps if fits else max(1, math.floor(timing.follow_up_steps * share))
    timing = timing.model_copy(update={"steps": steps, "follow_up_steps": follow_up})
    changed = scenario.model_dump() | {"timing": timing.model_dump(), "faults": faults.model_dump()}
    # Validated anew: a copy would carry the old digest along.
    return Scenario.model_validate(changed)


@dataclass(slots=True)
class Outcome:
    """What came out of a study, besides its tables."""

    episodes: pl.DataFrame  #: the episodes table, rounds in order and within each the policies in order
    learned: dict[str, dict[str, Any]] = field(default_factory=dict)  #: policy -> its state after the last round
    states: dict[str, str] = field(default_factory=dict)  #: id -> packed policy state, every one that was played
    events: int = 0  #: calendar entries that the engine executed, 0 if it does not count them
    interrupted: bool = False  #: stopped by Ctrl-C; what is here are the finished rounds


def evaluate(
    study: Study,
    *,
    engine: str = "batch",
    threads: int | None = None,
    writer: ResultsWriter | None = None,
    detector: Detector | None = None,
    learned: dict[str, dict[str, Any]] | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Run a study round by round; Ctrl-C ends it after the last finished round.

    Parameters
    ----------
    study
        What to run.
    engine, threads
        How to run it; without influence on the results.
    writer
        Takes the tables of each round; left open.
    detector
        A trained one, if there is one already.
    learned
        Policy -> state to start from.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        If the study names something that there is not.
    """
    outcome = Outcome(pl.DataFrame())
    frames: list[pl.DataFrame] = []
    policies = [_policy(study, name, learned or {}) for name in study.policies]
    players: list[Policy | None] = [*policies] or [None]
    done = 0
    with contextlib.suppress(KeyboardInterrupt):
        outcome.interrupted = True
        if detector is None and policies:
            detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
        for number, first in enumerate(range(0, study.episodes, study.round_size)):
            runs = study.runs(study.first_run + first, min(study.round_size, study.episodes - first))
            twins = noop_twins(study, runs, engine=engine, threads=threads) if study.twins else Labels()
            for policy in players:
                tell = _share(on_progress, done, len(runs), study.scenario.timing.steps)
                state = None if policy is None else policy.state()
                episodes, trace = play_round(
                    study, runs, policy, detector, engine=engine, threads=threads, on_step=tell
                )
                labels = _labels(study, policy, number, state)
                labels.update(twins)
                tables = score(episodes, trace, labels, tables=None if _wants_all(writer) else ("episodes",))
                done += len(runs)
                with uninterrupted():
                    frames.append(tables["episodes"])
                    outcome.events += _events(episodes)
                    if state is not None:
                        outcome.states.setdefault(state_id(state), pack(state))
                    if writer is not None:
                        writer.write(tables)
                    if policy is not None and trace is not None and not (study.frozen or study.shadow):
                        policy.merge(trace.decisions)
        outcome.interrupted = False
    outcome.episodes = pl.concat(frames) if frames else outcome.episodes
    outcome.learned = {policy.name: policy.state() for policy in policies}
    return outcome


def play_round(
    study: Study,
    runs: Sequence[Run],
    policy: Policy | None,
    detector: Detector | None,
    *,
    engine: str = "batch",
    threads: int | None = None,
    log: bool = False,
    on_step: Callable[[Episodes], None] | None = None,
) -> tuple[Episodes, AgentTrace | None]:
    """Play some runs of a study to their end.

    Parameters
    ----------
    study, runs
        What to play.
    policy, detector
        The policy as it stands, and a trained detector; None without an agent.
    engine, threads, log
        As ``Episodes`` takes them.
    on_step
        Called after every step; without an agent there is only one call, at the end.
    """
    episodes = Episodes(study.scenario, runs, engine=engine, threads=threads, log=log)
    if policy is None or detector is None:
        episodes.advance_to_end()
        if on_step is not None:
            on_step(episodes)
        return episodes, None
    agent = Agent(detector, study.new_diagnoser(), policy)
    return episodes, play(episodes, agent, shadow=study.shadow, on_step=on_step)


def pack(state: dict[str, Any]) -> str:
    """Return a state as text: compressed JSON."""
    return base64.b85encode(zlib.compress(_canonical(state), 9)).decode()


def unpack(packed: str) -> dict[str, Any]:
    """Return the state that ``pack`` packed.

    Raises
    ------
    ResultsError
        If the text is damaged.
    """
    try:
        state: dict[str, Any] = json.loads(zlib.decompress(base64.b85decode(packed)))
    except (ValueError, zlib.error) as error:
        raise ResultsError(f"a policy state in the metadata is damaged: {error}") from error
    return state


def state_id(state: dict[str, Any]) -> str:
    """Return twelve hex digits that name a policy's state."""
    return hashlib.sha256(_canonical(state)).hexdigest()[:12]


def _canonical(state: dict[str, Any]) -> bytes:
    return json.dumps(state, sort_keys=True, separators=(",", ":")).encode()


def _policy(study: Study, name: str, learned: dict[str, dict[str, Any]]) -> Policy:
    policy = make_policy(name)
    if name in learned:
        policy.load(learned[name])
    if study.frozen:
        policy.freeze()
    return policy


def _labels(study: Study, policy: Policy | None, number: int, state: dict[str, Any] | None) -> Labels:
    if policy is None or state is None:
        return Labels()
    return Labels(
        round=number,
        policy_state=state_id(state),
        detector=study.detector,
        diagnoser=study.diagnoser,
        policy=policy.name,
    )


def noop_twins(study: Study, runs: Sequence[Run], *, engine: str = "batch", threads: int | None = None) -> Labels:
    """Return what the runs come to without any action: whether an incident opens, and J."""
    twin, _ = play_round(study, runs, None, None, engine=engine, threads=threads)
    found = score(twin, None, Labels(), tables=("episodes",))["episodes"]
    return Labels(noop_incident=found["incident"].to_list(), noop_j=found["j"].to_list())


def _share(tell: OnProgress | None, done: int, count: int, steps: int) -> Callable[[Episodes], None] | None:
    return None if tell is None else lambda episodes: tell(done + count * episodes.step / steps)


def _wants_all(writer: ResultsWriter | None) -> bool:
    return writer is not None and writer.kind == "folder"


def _events(episodes: Episodes) -> int:
    count = getattr(episodes.session, "events_run", None)
    return 0 if count is None else int(count())


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the block is through, so that a round is kept as a whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hits: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: hits.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if hits:
        raise KeyboardInterrupt
