"""Both engines on the same workload, in turn."""

__all__ = ["EngineRow", "SideBySide", "side_by_side"]

import time
from dataclasses import dataclass

import numpy as np

from agent.evaluation.profiling import simulation
from agent.evaluation.profiling.clocks import timed_rounds
from agent.evaluation.profiling.simulation import Simulation
from agent.evaluation.profiling.stages import Hook, Stages, hooks_of
from agent.evaluation.study import with_steps
from simcore.engines.batch import BatchSession
from simcore.engines.registry import ENGINES
from simcore.model.scenario import Scenario

#: What a piece should take on the SimPy engine, CPU-seconds.
_PIECE_S = 0.6


@dataclass(frozen=True, slots=True)
class EngineRow:
    """What one engine takes for the workload."""

    engine: str
    best_s: float  #: CPU time of the best round
    noise: float  #: how far the second best round was from it, relative
    stages: dict[str, float]  #: stage -> share of a round


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Both engines on one run from an empty system, without burn-in, faults and agent."""

    rows: tuple[EngineRow, ...]  #: in the order of ``ENGINES``
    steps: int
    requests: int
    attempts: int
    entries: int  #: calendar entries of the batch engine
    equal: bool  #: whether the results are the same to the last bit

    @property
    def ratio(self) -> float:
        """CPU time of the SimPy engine over that of the batch engine."""
        return self.rows[1].best_s / self.rows[0].best_s


def side_by_side(scenario: Scenario, *, seed: int, rounds: int = 3) -> SideBySide:
    """Time one run on both engines, cut short enough for the slower one.

    Parameters
    ----------
    scenario
        What is simulated, without faults and without an agent.
    seed
        Of the run.
    rounds
        Of both engines in turn, the short one ten times as often.
    """
    short = _cut(scenario, seed)
    pieces = {engine: Simulation.of(short, seed=seed, engine=engine) for engine in ENGINES}
    sessions = {engine: piece() for engine, piece in pieces.items()}
    times = timed_rounds(pieces, rounds=max(2, rounds))
    times["batch"] += timed_rounds({"batch": pieces["batch"]}, rounds=10 * rounds)["batch"]
    rows = []
    for engine, piece in pieces.items():
        first, second = sorted(times[engine])[:2]
        rows.append(EngineRow(engine, first, second / first - 1.0, _shares(piece)))
    one, other = (sessions[engine].observe() for engine in ENGINES)
    requests, attempts = pieces["batch"].counts(sessions["batch"])
    batch = sessions["batch"]
    assert isinstance(batch, BatchSession)
    equal = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("metrics", "replicas"))
        for name in ("metrics", "totals", "replicas", "markers")
    )
    return SideBySide(tuple(rows), short.timing.steps, requests, attempts, batch.events_run(), equal)


def _cut(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario without burn-in, with as many steps as the SimPy engine plays in a piece, at least three."""
    plain = scenario.model_dump()
    plain["timing"]["burn_in_steps"] = 0
    cold = Scenario.model_validate(plain)
    pilot = Simulation.of(with_steps(cold, min(6, cold.timing.steps)), seed=seed, engine="simpy")
    pilot()
    started = time.process_time()
    pilot()
    per_step_s = (time.process_time() - started) / pilot.windows
    return with_steps(cold, min(cold.timing.steps, max(3, int(_PIECE_S / per_step_s))))


def _shares(piece: Simulation) -> dict[str, float]:
    """Return the shares of the stages in a run of its own, since looking at the clock takes time too."""
    stages = Stages()
    hooks = hooks_of(piece.engine, detector=None, diagnoser="", policies=())
    with stages.watching([*hooks, Hook(simulation, "open_session", "open")]):
        piece()
    whole = sum(stages.seconds.values())
    return {name: spent / whole for name, spent in stages.seconds.items() if spent > 0.0}
