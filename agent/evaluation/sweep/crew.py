"""The agents of a study: detectors trained once for every system that differs, policies with what they have learned."""

__all__ = ["Crew", "learned_on"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.api import Detector, Diagnoser
from agent.evaluation.contest import Plan, train
from agent.evaluation.study import OnProgress, Study, state_id
from agent.evaluation.sweep.sweep import Sweep
from agent.evaluation.sweep.worlds import Parts, Worlds
from agent.evaluation.taught import frozen
from agent.evaluation.training import normal_of, trained_detector
from agent.loop import Agent
from agent.registry import make_diagnoser
from simcore.model.scenario import Scenario

#: Trained detectors kept in memory, and those of a session kept on the disk: a sample of systems would fill it.
_KEPT = 8


@dataclass(slots=True)
class Crew:
    """Makes the agent of a cell; policies are frozen, so that no run depends on another."""

    sweep: Sweep
    states: Mapping[str, dict[str, Any]] = field(default_factory=dict)  #: policy -> what it has learned
    threads: int | None = None
    diagnosers: Mapping[str, dict[str, Any]] = field(default_factory=dict)  #: diagnoser -> what it has learned
    _trained: int = field(default=0, repr=False)
    _detectors: dict[tuple[str, str], Detector] = field(default_factory=dict, repr=False)

    def agent(self, scenario: Scenario, parts: Parts) -> tuple[Agent, str]:
        """Return an agent for a scenario of the study, and the id of its policy's state."""
        policy = frozen(parts.policy, self.states.get(parts.policy))
        agent = Agent(self.detector(scenario, parts.detector), self.diagnoser(parts.diagnoser), policy)
        return agent, state_id(policy.state())

    def diagnoser(self, name: str) -> Diagnoser:
        """Return a diagnoser with what it has learned."""
        return make_diagnoser(name, self.diagnosers.get(name))

    def detector(self, scenario: Scenario, name: str) -> Detector:
        """Return a detector that knows the scenario, or the one before anything varied."""
        normal = self.normal(scenario)
        key = name, normal.digest
        if key not in self._detectors:
            while len(self._detectors) >= _KEPT:
                del self._detectors[next(iter(self._detectors))]
            keep = self._trained < _KEPT
            self._trained += 1
            self._detectors[key] = trained_detector(
                name, normal, seed=self.sweep.detector_seed, threads=self.threads, keep=keep
            )
        return self._detectors[key]

    def normal(self, scenario: Scenario) -> Scenario:
        """Return the system whose detector watches over a scenario."""
        return normal_of(self.sweep.scenario if self.sweep.detector_from == "base" else scenario)


def learned_on(
    worlds: Worlds,
    crew: Crew,
    names: Sequence[str],
    episodes: int,
    *,
    on_progress: OnProgress | None = None,
) -> dict[str, dict[str, Any]]:
    """Return policy -> what it learns by playing on the scenario before anything varies.

    The faults are those that the scenario draws, or those of the first cell if it draws none.

    Parameters
    ----------
    worlds, crew
        Of the study; the crew lends detector and diagnoser.
    names
        Policies that learn.
    episodes
        Runs of each training, in the split ``train``.
    on_progress
        As ``agent.evaluation.study.evaluate`` takes it.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C came: half a training is none.
    """
    sweep = worlds.sweep
    faults = None if sweep.scenario.faults.mix else worlds.faults(sweep.cells()[0], 0)
    detector = crew.detector(sweep.scenario, sweep.detector)
    study = Study(
        scenario=sweep.scenario, seed=sweep.seed, detector=sweep.detector, detector_seed=sweep.detector_seed,
        diagnoser=sweep.diagnoser, faults=faults, mix=sweep.mix,
        diagnoser_state=crew.diagnosers.get(sweep.diagnoser),
    )  # fmt: skip
    plan = Plan(trainings=1, train_episodes=episodes)
    found = {}
    for number, name in enumerate(names):
        tell = None if on_progress is None else lambda runs, before=number * episodes: on_progress(before + runs)
        found[name] = train(study, name, plan, detector, threads=crew.threads, on_progress=tell)[0]
    return found
