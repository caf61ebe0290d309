"""Leave one type of fault out: what a policy that learns is worth against faults that it has never met."""

__all__ = ["Unseen", "train_unseen", "unseen_contestants", "unseen_types", "without"]

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Decision, Detector, Policy, Signature, Situation
from agent.evaluation.contest import Contestant, Plan, train
from agent.evaluation.study import OnProgress, Study
from agent.evaluation.taught import frozen
from agent.loop import Agent
from simcore.env import Episodes
from simcore.model.scenario import Scenario
from simcore.observation import ActionTable, Topology

Ints = npt.NDArray[np.int64]


class Unseen:
    """Lets every run be decided by a policy that was trained without the type of its fault.

    Nobody who learned from a fault of the kind decides in a run that has one; runs without a fault, and those of
    several, go to the policy of the first type.
    """

    name: ClassVar[str] = "unseen"

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        """Take fault type -> the policy that has never met it."""
        self._policies = dict(policies)

    def inform(self, episodes: Episodes) -> None:
        """Learn which policy is whose: by the fault of the run, which the policies themselves are not told."""
        first = next(iter(self._policies))
        types = [run.faults[0].type if run.faults else first for run in episodes.runs]
        self._of = np.array([type_ if type_ in self._policies else first for type_ in types])

    def fork(self, rows: Ints) -> "Unseen":
        """Return one that goes on with some runs, (row,) positions."""
        twin = Unseen(self._policies)
        twin._of = self._of[rows]
        return twin

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        for policy in self._policies.values():
            policy.start(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        n = situation.runs.size
        action, propensity, score = np.zeros(n, np.int64), np.ones(n), np.full(n, np.nan)
        said: dict[int, tuple[Choices, int]] = {}
        whose = self._of[situation.runs]
        for type_, policy in self._policies.items():
            rows = np.flatnonzero(whose == type_)
            if rows.size:
                own = policy.decide(_part(situation, rows))
                action[rows], propensity[rows], score[rows] = own.action, own.propensity, own.score
                said.update((int(row), (own, i)) for i, row in enumerate(rows))
        return Choices(action, propensity, score, lambda row: said[row][0].explain(said[row][1]))

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn nothing."""

    def freeze(self) -> None:
        """Change nothing: they are frozen."""

    def state(self) -> dict[str, Any]:
        """Return all states by the type that was left out."""
        return {type_: policy.state() for type_, policy in self._policies.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore them."""
        for type_, policy in self._policies.items():
            policy.load(state[type_])


def _part(situation: Situation, rows: Ints) -> Situation:
    """Return some rows of a situation."""
    said, signature = situation.diagnosis, situation.signature
    own = {name: getattr(said, name)[rows] for name in ("runs", "suspect", "confidence", "ranked")}
    if said.blame is not None:
        own["blame"] = said.blame[rows]
    return replace(
        situation,
        runs=situation.runs[rows],
        keys=situation.keys[rows],
        diagnosis=replace(said, **own, explain=lambda row: said.explain(int(rows[row]))),
        signature=Signature(**{field.name: getattr(signature, field.name)[rows] for field in fields(signature)}),
        allowed=situation.allowed[rows],
    )


def unseen_types(scenario: Scenario) -> tuple[str, ...]:
    """Return the types that can be left out: those of the mix, if there is another one to learn from."""
    types = tuple(dict.fromkeys(row.type for row in scenario.faults.mix if row.type != "none" and row.weight > 0))
    return types if len(types) > 1 else ()


def without(scenario: Scenario, types: Collection[str]) -> Scenario:
    """Return a scenario whose mix of faults lacks some types, validated anew: a copy would carry the old digest."""
    mix = [row.model_dump() for row in scenario.faults.mix if row.type not in types]
    return Scenario.model_validate(scenario.model_dump() | {"faults": scenario.faults.model_dump() | {"mix": mix}})


def train_unseen(
    study: Study,
    name: str,
    plan: Plan,
    detector: Detector,
    *,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, dict[str, Any]]]:
    """Return, for every training, fault type -> the state learned without it.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C came.
    """
    found: list[dict[str, dict[str, Any]]] = [{} for _ in range(plan.trainings)]
    for number, type_ in enumerate(unseen_types(study.scenario)):
        done = number * plan.trainings * plan.train_episodes
        tell = None if on_progress is None else lambda runs, done=done: on_progress(done + runs)
        other = replace(study, scenario=without(study.scenario, (type_,)))
        learned = train(other, name, plan, detector, threads=threads, on_progress=tell)
        for states, state in zip(found, learned, strict=True):
            states[type_] = state
    return found


def unseen_contestants(
    study: Study, name: str, detector: Detector, states: Sequence[Mapping[str, dict[str, Any]]]
) -> list[Contestant]:
    """Return a contestant per training, ``NAME, unseen``, for what ``train_unseen`` gave."""
    return [
        Contestant(
            f"{name}, unseen",
            Agent(
                detector,
                study.new_diagnoser(),
                Unseen({type_: frozen(name, state) for type_, state in of.items()}),
            ),
            study.detector,
            study.diagnoser,
            training=number,
        )
        for number, of in enumerate(states)
    ]
