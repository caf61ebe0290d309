"""A whole profile: which parts there are, how they are measured, and what follows from them."""

__all__ = ["PARTS", "Advice", "Profile", "measure"]

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.api import Detector
from agent.evaluation.profiling.counts import EventCounts, StateBytes, count_events, state_bytes, window_s
from agent.evaluation.profiling.engines import SideBySide, side_by_side
from agent.evaluation.profiling.memory import Memory, measure_memory
from agent.evaluation.profiling.scaling import Scaling, measure_scaling
from agent.evaluation.profiling.simulation import Simulation
from agent.evaluation.profiling.startup import Startup, measure_startup
from agent.evaluation.profiling.watched import Learned, Watched, watch_study
from agent.evaluation.profiling.whatif import Trial, try_changes
from agent.evaluation.study import Study

#: Parts of a profile -> what they answer, in the order in which they are measured and told.
PARTS = {
    "stages": "where the time goes",
    "events": "what happens in a run",
    "engines": "both engines side by side",
    "scaling": "cost against runs, load, services, threads",
    "faster": "what would make it faster",
    "memory": "state of a run, peaks by stage",
    "start": "imports, loading, compiling",
}

#: Stages that a run without an agent does not have.
AGENT = ("detect", "diagnose", "decide", "agent", "act", "learn")
_SIMULATION = ("burn-in", "simulate", "windows")


#: Noise of a single round, which shows none.
_UNKNOWN_NOISE = 0.1


def _known(noise: float) -> float:
    return _UNKNOWN_NOISE if math.isnan(noise) else noise


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that would save time, with the figure that says so."""

    what: str
    saves: float  #: share of the whole
    of: str  #: CPU time or wall time
    results: str  #: what it does to the results
    source: str  #: where the figure comes from


@dataclass(slots=True)
class Profile:
    """What was measured; parts that were not asked for are None."""

    study: Study
    engine: str
    threads: int | None
    stages: Watched | None = None
    half: Watched | None = None  #: the same with half the runs in a round
    events: EventCounts | None = None
    engines: SideBySide | None = None
    scaling: Scaling | None = None
    trials: list[Trial] | None = None
    state: StateBytes | None = None
    memory: Memory | None = None
    start: Startup | None = None
    compile: Startup | None = None  #: from an empty cache
    interrupted: bool = False  #: by Ctrl-C; what is here is finished

    def advice(self) -> list[Advice]:
        """Return what the figures say would save time, most first; nothing that they do not show."""
        found = [*self._by_leaving_out(), *self._by_larger_rounds(), *self._by_another_model(), *self._by_running()]
        return sorted(found, key=lambda advice: -advice.saves)

    def share(self, *stages: str) -> float:
        """Return the share of some stages in the CPU time of the study, 0 if they were not measured."""
        return sum(self.stages.seconds[stage] for stage in stages) / self.stages.cpu_s if self.stages else 0.0

    def _by_leaving_out(self) -> list[Advice]:
        if self.stages is None:
            return []
        found = []
        least = max(0.01, _known(self.stages.noise))
        for what, stages, results in (
            ("--no-agent", AGENT, "no actions"),
            ("no --out", ("write",), "not kept"),
            ("burn_in_steps: 0", ("burn-in",), "another model"),
        ):
            saves = self.share(*stages)
            if saves > least:
                found.append(Advice(what, saves, "CPU", results, "stages"))
        return found

    def _by_larger_rounds(self) -> list[Advice]:
        if self.stages is None or self.half is None:
            return []
        whole, half = self.stages.cpu_s / self.stages.runs, self.half.cpu_s / self.half.runs
        saves = 1.0 - whole / half
        if saves <= max(0.02, _known(self.stages.noise) + _known(self.half.noise)):
            return []
        what = f"--round-size {self.stages.runs} instead of {self.half.runs}"
        learns = "other learning" if self.study.policies and not self.study.frozen else "the same"
        return [Advice(what, saves, "CPU", learns, "two plays")]

    def _by_another_model(self) -> list[Advice]:
        whole = self.share(*_SIMULATION) or 1.0
        source = "a trial" if self.engine == "batch" else "batch trial"
        return [
            Advice(trial.change, trial.saves * whole, "CPU", "another model", source)
            for trial in self.trials or ()
            if trial.shown
        ]

    def _by_running(self) -> list[Advice]:
        found = []
        if self.engine == "simpy" and self.engines is not None:
            found.append(Advice("--engine batch", 1.0 - 1.0 / self.engines.ratio, "CPU", "the same", "engines"))
        threads = self.scaling.series("threads") if self.scaling else []
        used = self.threads or (int(threads[-1].at) if threads else 1)
        if threads and self.engine == "batch":
            best = min(threads, key=lambda point: point.cost_s)
            now = min(threads, key=lambda point: abs(point.at - used))
            saves = 1.0 - best.cost_s / now.cost_s
            if saves > max(0.02, best.noise + now.noise):
                share = self.share(*_SIMULATION) or 1.0
                what = f"--threads {best.at:g} instead of {now.at:g}"
                found.append(Advice(what, saves * share, "wall", "the same", "scaling"))
        return found


def measure(
    study: Study,
    *,
    engine: str,
    threads: int | None,
    detector: Detector | None,
    learned: Learned | None = None,
    parts: Sequence[str] = tuple(PARTS),
    rounds: int = 3,
    allocations: bool = False,
    cold: bool = False,
    tell: Callable[[str], None] = lambda what: None,
) -> Profile:
    """Measure the parts of a profile; Ctrl-C ends it after the last finished part.

    Parameters
    ----------
    study
        Played in one round.
    engine, threads, detector, learned
        How it is played.
    parts
        Of ``PARTS``.
    rounds
        Of the study; small pieces are timed more often.
    allocations
        Also trace allocations, stage by stage.
    cold
        Also compile everything anew.
    tell
        Called with what is measured next.
    """
    profile = Profile(study, engine, threads, interrupted=True)
    scenario, seed = study.scenario, study.seed
    one = Simulation.of(scenario, seed=seed)

    def play(study: Study) -> Watched:
        return watch_study(study, engine=engine, threads=threads, detector=detector, learned=learned, rounds=rounds)

    def stages() -> None:
        profile.stages = _with_windows(play(study), one, engine)

    def events() -> None:
        profile.events = count_events(one)

    def engines() -> None:
        profile.engines = side_by_side(scenario, seed=seed, rounds=rounds)

    def scaling() -> None:
        profile.scaling = measure_scaling(scenario, seed=seed, rounds=2 * rounds + 1)

    def faster() -> None:
        if profile.stages is not None and study.policies and study.episodes > 1:
            profile.half = play(dataclasses.replace(study, episodes=study.episodes // 2))
        profile.trials = try_changes(scenario, seed=seed, rounds=3 * rounds)

    def memory() -> None:
        profile.state = state_bytes(one)
        if allocations:
            profile.memory = measure_memory(study, engine=engine, threads=threads, detector=detector)

    def start() -> None:
        profile.start = measure_startup(study, engine=engine)
        if cold:
            profile.compile = measure_startup(study, engine=engine, cold=True)

    with contextlib.suppress(KeyboardInterrupt):
        for part, work in zip(PARTS, (stages, events, engines, scaling, faster, memory, start), strict=True):
            if part in parts:
                tell(part)
                work()
        profile.interrupted = False
    return profile


def _with_windows(watched: Watched, one: Simulation, engine: str) -> Watched:
    """Return the stages with the windows, which the batch engine closes inside its kernel, as one of their own."""
    if engine != "batch":
        return watched
    timing = one.scenario.timing
    each_s = window_s(one)
    seconds, calls = dict(watched.seconds), dict(watched.calls)
    for stage, windows in (("burn-in", timing.burn_in_steps), ("simulate", timing.steps)):
        spent = min(seconds[stage], each_s * windows * watched.runs)
        seconds[stage] -= spent
        seconds["windows"] += spent
        calls["windows"] += windows * watched.runs
    return dataclasses.replace(watched, seconds=seconds, calls=calls)
