"""Several detectors watch the same simulated runs; nobody acts, so that all of them see the same."""

__all__ = ["BOOTSTRAPS", "Watch", "Watched", "watch"]

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.api import Detector
from agent.evaluation.detection import intervals
from agent.evaluation.statistics import Resampler, quantile_of, rate
from agent.evaluation.training import trained_detector
from simcore.env import Episodes
from simcore.model.inputs import Run, make_run
from simcore.model.scenario import Scenario
from simcore.streams import run_key

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Resamples of an interval of paired differences.
BOOTSTRAPS = 2_000
_ROUND = 50
_AGENT_STREAM = 5


@dataclass(frozen=True, slots=True)
class Watched:
    """What a detector made of simulated runs; None where there is nothing to divide by."""

    detector: str
    precision: float | None  #: share of the alarms in runs with a fault that were raised after its onset
    recall: float | None  #: share of the faults that opened an incident, and were followed by an alarm
    f1: float | None
    recall_all: float | None  #: likewise of all faults, those without effect on users included
    ttd_median_s: float | None  #: time from onset to alarm in the incidents, misses censored (Kaplan and Meier)
    ttd_p90_s: float | None
    gap_s: float | None  #: mean TTD less that of the first detector, misses at their censoring time; same runs
    gap_low_s: float | None  #: ends of its 95 % interval
    gap_high_s: float | None
    false_alarms: int  #: in the runs without a fault
    hours: float  #: of those runs
    false_per_h: float | None
    false_low_per_h: float | None  #: ends of the 95 % interval of that rate
    false_high_per_h: float | None
    cost: float  #: CPU time as a share of what the simulation takes without anybody looking


@dataclass(frozen=True, slots=True)
class Watch:
    """What several detectors made of the same runs."""

    rows: list[Watched]  #: in the order named
    runs: int  #: that were played
    interrupted: bool  #: stopped by Ctrl-C; what is here is of the finished runs


@dataclass(slots=True)
class _Seen:
    """Alarms and CPU time of a detector, round by round."""

    detector: Detector
    alarm: list[Bools]
    cpu_s: float = 0.0


def watch(
    scenario: Scenario,
    names: Sequence[str],
    *,
    seed: int,
    episodes: int,
    clean: int,
    detector_seed: int = 0,
    threads: int | None = None,
    on_progress: Callable[[float], None] = lambda runs: None,
) -> Watch:
    """Let detectors watch runs of the split ``test``; each is fitted and calibrated as for a study.

    Parameters
    ----------
    scenario
        The system; its faults are drawn from its mix.
    names
        Detectors, as registered; the first is what the others are compared with.
    seed
        Of the runs.
    episodes
        Runs with the faults that are drawn for them (some draw none).
    clean
        Runs without a fault, for the rate of false alarms.
    detector_seed
        Of the runs that the detectors learn from.
    threads
        Threads of the engine; without influence on the results but the cost.
    on_progress
        Told how many runs are done.
    """
    seen = {name: _Seen(trained_detector(name, scenario, seed=detector_seed, threads=threads), []) for name in names}
    runs = [make_run(scenario, seed=seed, split="test", run=run) for run in range(episodes)]
    free = [
        make_run(scenario, seed=seed, split="test", run=run, faults=()) for run in range(episodes, episodes + clean)
    ]
    finished: list[Episodes] = []
    done, engine_s, interrupted = 0, 0.0, True
    with contextlib.suppress(KeyboardInterrupt):
        for part in _rounds(runs, free):
            alone_s = _alone(scenario, part, threads)
            alarms, played = _round(scenario, part, seen, threads)
            for each, alarm in zip(seen.values(), alarms, strict=True):
                each.alarm.append(alarm)
            finished.append(played)
            engine_s += alone_s
            done += len(part)
            on_progress(done)
        interrupted = False
    return Watch(_judge(scenario, seen, finished, episodes, engine_s, seed) if finished else [], done, interrupted)


def _rounds(runs: list[Run], free: list[Run]) -> list[list[Run]]:
    """Return the runs in rounds, each with its share of those without a fault."""
    count = -(-(len(runs) + len(free)) // _ROUND)
    rounds = [runs[i::count] + free[i::count] for i in range(count)]
    return [part for part in rounds if part]


def _alone(scenario: Scenario, runs: Sequence[Run], threads: int | None) -> float:
    """Return the CPU time that the runs take without anybody looking."""
    played = Episodes(scenario, runs, threads=threads)
    started = time.process_time()
    played.advance_to_end()
    return time.process_time() - started


def _round(
    scenario: Scenario, runs: Sequence[Run], seen: dict[str, _Seen], threads: int | None
) -> tuple[list[Bools], Episodes]:
    """Play some runs with all detectors looking; return the alarms (run, step) of each, and the finished runs."""
    played = Episodes(scenario, runs, threads=threads)
    keys = np.array([run_key(run.seed, run.split, run.run, _AGENT_STREAM) for run in runs], np.uint64)
    alarms = [np.zeros((played.n_runs, played.n_steps), np.bool_) for _ in seen]
    for each in seen.values():
        each.detector.start(played.topology, keys)
    while not played.finished:
        step, observation = played.step, played.observation
        for each, alarm in zip(seen.values(), alarms, strict=True):
            started = time.process_time()
            alarm[:, step] = each.detector.update(observation).alarm
            each.cpu_s += time.process_time() - started
        played.advance()
    return alarms, played


def _incident(played: Episodes) -> Bools:
    """Return (run,) whether an incident opened at or after the onset, within the follow-up."""
    n_steps, follow_up = played.n_steps, played.scenario.timing.follow_up_steps
    steps = np.arange(n_steps)
    begin = np.where(played.fault_steps >= 0, played.fault_steps, n_steps)[:, None]
    opened = played.incident_open & ~np.pad(played.incident_open, ((0, 0), (1, 0)))[:, :-1]
    within: Bools = np.logical_and(opened, (steps >= begin) & (steps < begin + follow_up))
    return np.asarray(within.any(axis=1))


def _judge(
    scenario: Scenario, seen: dict[str, _Seen], finished: list[Episodes], episodes: int, engine_s: float, seed: int
) -> list[Watched]:
    step_s, n_steps = scenario.timing.step_s, scenario.timing.steps
    onset = np.concatenate([played.fault_steps for played in finished])
    end_s = step_s * np.minimum(n_steps, onset + scenario.timing.follow_up_steps)
    runs = [run for played in finished for run in played.runs]
    onset_s = np.array([min((fault.onset_s for fault in run.faults), default=np.inf) for run in runs])
    clean = np.array([run.run >= episodes for run in runs], np.bool_)
    faulty = np.flatnonzero(onset >= 0)
    real = np.concatenate([_incident(played) for played in finished])[faulty]
    hours = float(clean.sum()) * n_steps * step_s / 3600.0
    rows: list[Watched] = []
    base: Floats | None = None
    for name, each in seen.items():
        raised = [intervals(row)[:, 0] * step_s for row in np.concatenate(each.alarm)]
        hits = [raised[run][(raised[run] >= onset_s[run]) & (raised[run] < end_s[run])] for run in faulty]
        false = sum(int((raised[run] < onset_s[run]).sum()) for run in faulty)
        found = np.array([hit.size > 0 for hit in hits], np.bool_)
        first_s = np.array([hit[0] if hit.size else end_s[run] for run, hit in zip(faulty, hits, strict=True)])
        ttd = first_s - onset_s[faulty]
        base = ttd[real] if base is None else base
        wrong = sum(raised[run].size for run in np.flatnonzero(clean))
        rows.append(
            Watched(
                detector=name,
                **_shares(sum(hit.size for hit in hits), false, found, real),
                ttd_median_s=quantile_of(ttd[real], found[real], 0.5) if real.any() else None,
                ttd_p90_s=quantile_of(ttd[real], found[real], 0.9) if real.any() else None,
                **_gap(ttd[real] - base, seed),
                false_alarms=wrong,
                hours=hours,
                **_rate(wrong, hours),
                cost=each.cpu_s / max(engine_s, 1e-9),
            )
        )
    return rows


def _shares(right: int, false: int, found: Bools, real: Bools) -> dict[str, float | None]:
    """Return precision and recall from right and false alarms, and from which faults were found and were real."""
    precision = right / (right + false) if right + false else None
    recall = float(found[real].mean()) if real.any() else None
    f1 = 2 * precision * recall / (precision + recall) if precision and recall else None
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "recall_all": float(found.mean()) if found.size else None,
    }


def _rate(count: int, hours: float) -> dict[str, float | None]:
    found = rate(count, hours)
    return {
        "false_per_h": _known(found.value),
        "false_low_per_h": _known(found.low),
        "false_high_per_h": _known(found.high),
    }


def _gap(gap: Floats, seed: int) -> dict[str, float | None]:
    """Return the mean over runs, and its 95 % interval."""
    if gap.size < 2:
        return {"gap_s": None, "gap_low_s": None, "gap_high_s": None}
    found = Resampler(gap.size, seed=seed, resamples=BOOTSTRAPS).mean(gap[None])
    return {"gap_s": found.value, "gap_low_s": _known(found.low), "gap_high_s": _known(found.high)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
