"""What a fault gains by striking while the detector still learns what is normal."""

__all__ = ["SHARES", "detector_warmup"]

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from agent.api import Detector
from agent.evaluation.played import Labels
from agent.evaluation.scoring import score
from agent.evaluation.timing.arms import Arm, Finding, OnProgress, Outcomes, compared
from agent.evaluation.training import (
    CALIBRATION_RUNS,
    FALSE_ALARMS_PER_HOUR,
    TRAINING_RUNS,
    fault_free,
    trained_detector,
)
from agent.loop import Agent
from agent.play import play
from agent.policies.base import FixedPolicy
from agent.registry import make_detector, make_diagnoser, make_policy
from simcore.env import Episodes
from simcore.env.actions import build_topology
from simcore.errors import InputError
from simcore.model.faults import Fault, label
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario

#: Onsets, in units of the warm-up.
SHARES = (0.1, 0.5, 0.9, 1.1, 1.5, 2.0)
#: Runs that are simulated together.
_BATCH = 50
_NAME = "isolation_forest"


def detector_warmup(
    scenario: Scenario,
    fault: Fault,
    policy: str,
    *,
    diagnoser: str,
    shares: Sequence[float] = SHARES,
    warmup_steps: int = 48,
    runs: int,
    seed: int,
    detector_seed: int = 0,
    split: str = "test",
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Finding:
    """Let a fault begin before and after the end of the warm-up of a detector that learns on the job.

    It is the isolation forest that fits itself to the first scrapes of each run, and it is compared with the one that
    was fitted beforehand, on the same runs with the same onset. The system is warm in both: the burn-in is over.

    Parameters
    ----------
    scenario, fault
        What happens; the fault's onset is replaced.
    policy, diagnoser
        Who acts.
    shares
        Onsets, in units of the warm-up.
    warmup_steps
        Scrapes that the detector learns from.
    runs, seed, split
        The runs: 0 to ``runs - 1``.
    detector_seed
        Of the fault-free runs on which both detectors are set.
    threads
        Of the batch engine.
    on_progress
        Told how many runs are done, those of two arms for each onset.

    Raises
    ------
    InputError
        Listing every mistake, one a line.
    """
    timing = scenario.timing
    warm_s = (warmup_steps + 1 + scenario.observation.lag_steps) * timing.step_s
    onsets = [share * warm_s for share in sorted(shares)]
    latest = (timing.steps - timing.follow_up_steps) * timing.step_s
    wrong = [f"--shares: an onset of {s:g} s leaves no follow-up before the end" for s in onsets if s > latest]
    wrong += [f"--shares must be >= 0, got {share:g}" for share in shares if share < 0.0]
    if not isinstance(make_policy(policy), FixedPolicy):
        wrong.append(f"--policy must be one that does not learn, got {policy}")
    if wrong:
        raise InputError("\n".join(wrong))
    own, ready = _own(scenario, warmup_steps, detector_seed, threads), trained_detector(
        _NAME, scenario, seed=detector_seed, threads=threads
    )  # fmt: skip
    arms: list[Arm] = []
    outcomes: dict[int, Outcomes] = {}
    interrupted, done = False, 0
    for onset in onsets:
        struck = replace(fault, onset_s=onset)
        try:
            tables = []
            for detector in (ready, own):
                agent = Agent(detector, make_diagnoser(diagnoser), make_policy(policy))
                tables.append(_played(scenario, struck, agent, runs, seed, split, threads))
                done += runs
                if on_progress is not None:
                    on_progress(done)
        except KeyboardInterrupt:
            interrupted = True
            break
        when = "warming up" if onset < warm_s else "warm"
        for name, table in zip(("fitted before", "fits itself"), tables, strict=True):
            outcomes[len(arms)] = Outcomes.of(table)
            labels: dict[str, Any] = {"onset_s": onset, "when": when, "detector": name}
            labels["missed"] = float(table["t_alarm_s"].is_null().mean())  # type: ignore[arg-type]
            arms.append(Arm(labels, len(arms) - len(arms) % 2))
    rows = compared(arms, outcomes, seed=seed)
    question = (
        f"Does {label(fault, scenario)} gain by striking within the detector's warm-up ({warm_s:g} s), with {policy}?"
    )
    return Finding(
        "warmup", question, rows, _sentences(rows),
        [
            ("onset_s", "onset s", 0), ("when", "when", -1), ("detector", "detector", -1), ("missed", "missed", 2),
            ("ttd_s", "TTD s", 0), ("budget", "budget", 2), ("difference", "less fitted", 2),
            ("difference[]", "95 % interval", 2), ("verdict", "verdict", -1),
        ],
        interrupted,
    )  # fmt: skip


def _own(scenario: Scenario, warmup_steps: int, seed: int, threads: int | None) -> Detector:
    """Return the detector that fits itself on the job; scale and threshold are those of fault-free runs."""
    detector, topology = make_detector(_NAME, mode="own", warmup_steps=warmup_steps), build_topology(scenario)
    normal = fault_free(scenario, seed=seed, split="train", runs=TRAINING_RUNS, threads=threads)
    detector.fit(normal, topology, seed=seed)
    quiet = fault_free(scenario, seed=seed, split="calibrate", runs=CALIBRATION_RUNS, threads=threads)
    detector.calibrate(quiet, topology, rate_per_hour=FALSE_ALARMS_PER_HOUR, seed=seed)
    return detector


def _played(
    scenario: Scenario, fault: Fault, agent: Agent, runs: int, seed: int, split: str, threads: int | None
) -> pl.DataFrame:
    tables = []
    for first in range(0, runs, _BATCH):
        batch = [
            make_run(scenario, seed=seed, split=split, run=run, faults=(fault,))
            for run in range(first, min(first + _BATCH, runs))
        ]
        episodes = Episodes(scenario, batch, threads=threads)
        trace = play(episodes, agent)
        labels = Labels(detector=agent.detector.name, diagnoser=agent.diagnoser.name, policy=agent.policy.name)
        tables.append(score(episodes, trace, labels, tables=("episodes",))["episodes"])
    return pl.concat(tables)


def _sentences(rows: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for when in ("warming up", "warm"):
        own = [row for row in rows if row["when"] == when and row["detector"] == "fits itself"]
        if not own:
            continue
        shown = [row for row in own if row["verdict"] in ("worse", "better")]
        head = f"Onset while {when}: the detector that fits itself misses {_range(own, 'missed', 2)} of the faults"
        if not shown:
            found.append(f"{head}; no difference shown in the error budget.")
            continue
        most = max(shown, key=lambda row: abs(row["difference"]))
        between = f"{most['difference']:+.2f} [{most['difference_low']:.2f}, {most['difference_high']:.2f}]"
        found.append(f"{head}, and its agent is {most['verdict']} by {between} budgets at {most['onset_s']:.0f} s.")
    return found


def _range(rows: Sequence[dict[str, Any]], column: str, places: int) -> str:
    low, high = (choose(row[column] for row in rows) for choose in (min, max))
    return f"{low:.{places}f}" if low == high else f"{low:.{places}f} to {high:.{places}f}"
