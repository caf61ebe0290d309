"""What the parts of an agent cost, in CPU time as a share of the simulation's own."""

__all__ = ["Cost", "costs"]

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agent.api import Choices, Detection, Detector, Informed, Keys, Observation, Policy, Situation, Topology
from agent.evaluation.panel import Panel
from agent.evaluation.study import Study
from agent.evaluation.taught import frozen
from agent.evaluation.training import trained_detector
from agent.loop import Agent
from agent.play import play
from agent.policies.base import FixedPolicy
from agent.registry import make_diagnoser
from simcore.env import Episodes
from simcore.observation import ActionTable

#: How often the runs are played; the least time counts, for the first one compiles and loads.
_TIMES = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part costs."""

    kind: str  #: detector, diagnoser or policy
    name: str
    cpu_s: float
    share: float  #: of the CPU time of the same runs without an agent


class _Watchers:
    """Asks several detectors, answers with the first one's word."""

    name: ClassVar[str] = "watchers"

    def __init__(self, members: dict[str, Detector]) -> None:
        self._members = members
        self.cpu_s = dict.fromkeys(members, 0.0)

    def start(self, topology: Topology, keys: Keys) -> None:
        for member in self._members.values():
            member.start(topology, keys)

    def update(self, observation: Observation) -> Detection:
        said: list[Detection] = [
            _timed(self.cpu_s, name, member.update, observation) for name, member in self._members.items()
        ]
        return said[0]


class _Council(FixedPolicy):
    """Asks several policies, and waits."""

    name: ClassVar[str] = "council"

    def __init__(self, members: dict[str, Policy]) -> None:
        self._members = members
        self.cpu_s = dict.fromkeys(members, 0.0)

    def inform(self, episodes: Episodes) -> None:
        """Pass on the truth to those who may know it."""
        for member in self._members.values():
            if isinstance(member, Informed):
                member.inform(episodes)

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        for member in self._members.values():
            member.start(topology, actions)

    def decide(self, situation: Situation) -> Choices:
        """Ask everybody, and wait."""
        for name, member in self._members.items():
            _timed(self.cpu_s, name, member.decide, situation)
        n = situation.runs.size
        return Choices(np.zeros(n, np.int64), np.ones(n), np.full(n, np.nan), lambda row: "waits")


def _timed(spent: dict[str, float], name: str, call: Callable[[Any], Any], argument: Any) -> Any:
    before = time.process_time()
    said = call(argument)
    spent[name] += time.process_time() - before
    return said


def costs(
    study: Study,
    detectors: Sequence[str],
    diagnosers: Sequence[str],
    *,
    states: dict[str, dict[str, Any]] | None = None,
    threads: int | None = None,
) -> list[Cost]:
    """Return what detectors, diagnosers and the policies of a study cost, in this order.

    All watch the same runs, and nobody acts: so trouble lasts, and there is more to diagnose and to decide than if
    somebody did. The first of the detectors is in charge.

    Parameters
    ----------
    study
        The runs, as one batch, and the policies; none may look ahead, which is to simulate more.
    detectors, diagnosers
        Names.
    states
        Policy -> what it has learned.
    threads
        Of the engine; for the CPU time of the simulation one thread is best.
    """
    trained = {
        name: trained_detector(name, study.scenario, seed=study.detector_seed, threads=threads) for name in detectors
    }
    best: dict[tuple[str, str], float] = {}
    alone_s = np.inf
    for _ in range(_TIMES):
        alone = Episodes(study.scenario, study.runs(study.first_run, study.episodes), threads=threads)
        began = time.process_time()
        alone.advance_to_end()
        alone_s = min(alone_s, time.process_time() - began)
        for part, spent in _played(study, trained, diagnosers, states or {}, threads).items():
            best[part] = min(best.get(part, np.inf), spent)
    return [Cost(kind, name, spent, spent / max(alone_s, 1e-9)) for (kind, name), spent in best.items()]


def _played(
    study: Study,
    detectors: dict[str, Detector],
    diagnosers: Sequence[str],
    states: dict[str, dict[str, Any]],
    threads: int | None,
) -> dict[tuple[str, str], float]:
    """Return (kind, name) -> CPU time of one play."""
    watchers = _Watchers(detectors)
    panel = Panel({name: make_diagnoser(name) for name in diagnosers})
    council = _Council({name: frozen(name, states.get(name)) for name in study.policies})
    episodes = Episodes(study.scenario, study.runs(study.first_run, study.episodes), threads=threads)
    play(episodes, Agent(watchers, panel, council), shadow=True)  # type: ignore[arg-type]  # trained already
    spent: dict[tuple[str, str], float] = {}
    for kind, part in (("detector", watchers), ("diagnoser", panel), ("policy", council)):
        spent |= {(kind, name): seconds for name, seconds in part.cpu_s.items()}
    return spent
