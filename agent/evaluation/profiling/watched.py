"""A study played as it always is, with the times of its stages taken."""

__all__ = ["Watched", "watch_study"]

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.api import Detector
from agent.evaluation.profiling.stages import Stages, hooks_of
from agent.evaluation.study import Outcome, Study, evaluate
from agent.registry import make_policy
from simcore.telemetry.writers import ResultsWriter, describe, read_table

Learned = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Watched:
    """The best of some rounds."""

    seconds: dict[str, float]  #: stage -> CPU time of all threads
    calls: dict[str, int]
    cpu_s: float
    wall_s: float
    noise: float  #: how far the second best round was from the best, relative; nan of a single one
    rounds: int
    runs: int
    steps: int  #: of a run
    requests: int
    attempts: int
    entries: int  #: calendar entries executed, burn-in included; 0 if the engine does not count them
    written_bytes: int


def watch_study(
    study: Study,
    *,
    engine: str,
    threads: int | None,
    detector: Detector | None,
    learned: Learned | None = None,
    rounds: int = 3,
) -> Watched:
    """Play a study some times, all tables written to a folder that is thrown away, and take the times of its stages.

    Parameters
    ----------
    study, engine, threads, detector, learned
        As ``agent.evaluation.study.evaluate`` takes them.
    rounds
        How often; one more beforehand does not count, which loads and compiles what is needed.
    """
    policies = [make_policy(name) for name in study.policies]
    hooks = hooks_of(engine, detector=detector, diagnoser=study.diagnoser, policies=policies)

    def once(study: Study) -> Outcome:
        metadata = describe(study.scenario, seed=study.seed, arguments=study.arguments())
        with ResultsWriter(out, metadata=metadata, force=True) as writer:
            outcome = evaluate(study, engine=engine, threads=threads, writer=writer, detector=detector, learned=learned)
        if outcome.interrupted:
            raise KeyboardInterrupt
        return outcome

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results"
        once(dataclasses.replace(study, episodes=1))
        best: Watched | None = None
        times = []
        for _ in range(rounds):
            stages = Stages()
            cpu, wall = time.process_time(), time.perf_counter()
            with stages.watching(hooks):
                outcome = once(study)
            times.append(time.process_time() - cpu)
            if best is None or times[-1] < best.cpu_s:
                best = _watched(study, stages, outcome, out, times[-1], time.perf_counter() - wall)
    assert best is not None
    noise = sorted(times)[1] / best.cpu_s - 1.0 if rounds > 1 else best.noise
    return dataclasses.replace(best, noise=noise, rounds=rounds)


def _watched(study: Study, stages: Stages, outcome: Outcome, out: Path, cpu_s: float, wall_s: float) -> Watched:
    table = outcome.episodes
    return Watched(
        seconds=stages.seconds,
        calls=stages.calls,
        cpu_s=cpu_s,
        wall_s=wall_s,
        noise=float("nan"),
        rounds=1,
        runs=table.height,
        steps=study.scenario.timing.steps,
        requests=int(table["offered"].sum()),
        attempts=int(read_table(out, "steps")["attempts"].sum()),
        entries=outcome.events,
        written_bytes=sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    )
