"""Whether an action is better before or after what triggered the trouble has ended."""

__all__ = ["action_moment"]

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.played import Labels
from agent.evaluation.scoring import score
from agent.evaluation.statistics import Interval, Resampler
from agent.evaluation.timing.arms import NOT_SHOWN, Arm, Finding, OnProgress, Outcomes, compared, verdict
from simcore.env import Episodes
from simcore.env.actions import build_actions
from simcore.errors import InputError, suggest
from simcore.model.faults import Fault, label
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario

Floats = npt.NDArray[np.float64]

#: Runs that are simulated together.
_BATCH = 50


def action_moment(
    scenario: Scenario,
    fault: Fault,
    action: str,
    *,
    durations_s: Sequence[float],
    delays_s: Sequence[float],
    runs: int,
    seed: int,
    split: str = "test",
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Finding:
    """Take one action at a fixed time after the onset of faults that last for different times, and nothing else.

    Each is compared with doing nothing in the same run; both begin as one simulation, which is forked at the action.

    Parameters
    ----------
    scenario, fault
        What happens; the fault's duration is replaced.
    action
        As the scenario calls it, such as ``restart(db)``; where it is not legal in a run it is not taken.
    durations_s, delays_s
        From the onset to the trigger's end, and to the decision, which is taken at the next edge.
    runs, seed, split
        The runs: 0 to ``runs - 1``.
    threads
        Of the batch engine.
    on_progress
        Told how many runs are done, those of ``durations * (delays + 1)`` arms.

    Raises
    ------
    InputError
        Listing every mistake, one a line.
    """
    number, delay_s = _check(scenario, fault, action, durations_s, delays_s)
    arms: list[Arm] = []
    outcomes: dict[int, Outcomes] = {}
    width, done, interrupted = 1 + len(delays_s), 0, False
    for duration in sorted(durations_s):
        struck, base = replace(fault, duration_s=duration), len(arms)
        parts = []
        try:
            for first in range(0, runs, _BATCH):
                batch = [
                    make_run(scenario, seed=seed, split=split, run=run, faults=(struck,))
                    for run in range(first, min(first + _BATCH, runs))
                ]
                parts.append(
                    _played(Episodes(scenario, batch, threads=threads), fault.onset_s, number, sorted(delays_s))
                )
                done += len(batch) * width
                if on_progress is not None:
                    on_progress(done)
        except KeyboardInterrupt:
            interrupted = True
            break
        arms.append(Arm(_labels(duration, None, delay_s), base))
        arms += [Arm(_labels(duration, delay, delay_s), base) for delay in sorted(delays_s)]
        for i in range(width):
            table = pl.concat([part[i] for part in parts])
            outcomes[base + i] = Outcomes.of(table)
            arms[base + i].labels["taken"] = float((table["actions"] > 0).mean())  # type: ignore[arg-type]
    rows = compared(arms, outcomes, seed=seed)
    return Finding(
        "action", f"Is {action} better before or after {label(fault, scenario)} has ended? (against nobody acting)",
        rows, _sentences(arms, outcomes, seed, action),
        [
            ("duration_s", "fault s", 0), ("delay_s", "decided s", 0), ("effect_s", "effect s", 0),
            ("when", "when", -1), ("taken", "taken", 2),
            ("budget", "budget", 2), ("difference", "less noop", 2), ("difference[]", "95 % interval", 2),
            ("verdict", "verdict", -1), ("lost", "unrecov.", 2),
        ],
        interrupted,
    )  # fmt: skip


def _labels(duration_s: float, delay_s: float | None, takes_s: float) -> dict[str, Any]:
    if delay_s is None:
        return {"duration_s": duration_s, "delay_s": None, "effect_s": None, "when": "nobody acts"}
    effect_s = delay_s + takes_s
    when = "before the end" if effect_s < duration_s else "after the end"
    return {"duration_s": duration_s, "delay_s": delay_s, "effect_s": effect_s, "when": when}


def _check(
    scenario: Scenario, fault: Fault, action: str, durations_s: Sequence[float], delays_s: Sequence[float]
) -> tuple[int, float]:
    """Return the number of the action and how long it takes."""
    table, wrong = build_actions(scenario), []
    if action not in table.names[1:]:
        kinds = ", ".join(dict.fromkeys(table.kinds[1:]))
        wrong.append(
            f"--action must be an action of {scenario.name}, got '{action}'{suggest(action, table.names[1:])} ({kinds})"
        )
    if not durations_s or min(durations_s) <= 0.0:
        wrong.append("--durations must be above 0: a fault that lasts until it is fixed has no end")
    end_s = scenario.timing.steps * scenario.timing.step_s
    late = fault.onset_s + max(delays_s, default=0.0) + 2.0 * scenario.timing.step_s
    if not delays_s or min(delays_s) < 0.0 or late > end_s:
        wrong.append(f"--delays must be >= 0 and end before the episode's end at {end_s:g} s")
    if wrong:
        raise InputError("\n".join(wrong))
    number = table.names.index(action)
    return number, float(table.delay_s[number])


def _played(episodes: Episodes, onset_s: float, action: int, delays_s: Sequence[float]) -> list[pl.DataFrame]:
    """Return the episodes tables of nobody acting, and of the action taken at each of the increasing delays."""
    step_s, everybody = episodes.scenario.timing.step_s, np.arange(episodes.n_runs)
    found = []
    for delay in delays_s:
        episodes.advance_to(math.ceil((onset_s + delay) / step_s - 1e-9))
        fork = episodes.fork(everybody)
        fork.act(np.where(fork.observation.legal[:, action], action, 0))
        fork.advance_to_end()
        found.append(_scored(fork))
    episodes.advance_to_end()
    return [_scored(episodes), *found]


def _scored(episodes: Episodes) -> pl.DataFrame:
    return score(episodes, None, Labels(), tables=("episodes",))["episodes"]


def _sentences(arms: Sequence[Arm], outcomes: dict[int, Outcomes], seed: int, action: str) -> list[str]:
    """Return what the action changes before the end, after it, and whether that differs, in the mean over the arms."""
    means: dict[str, Floats] = {}
    for when in ("before the end", "after the end"):
        gains = [
            outcomes[i].budget - outcomes[arm.reference].budget
            for i, arm in enumerate(arms)
            if arm.labels["when"] == when
        ]
        if gains:
            means[when] = np.mean(gains, axis=0)
    if not means:
        return []
    resampler = Resampler(next(iter(means.values())).size, seed=seed)
    found = {when: resampler.tested(values[None], np.zeros((1, values.size))) for when, values in means.items()}
    sentences = [f"{action} with effect {when} {_told(*told)}." for when, told in found.items()]
    if len(means) == 2:
        before, after = means["before the end"], means["after the end"]
        difference, p = resampler.tested(before[None], after[None])
        said = verdict(difference, p)
        between = f"{difference.value:+.2f} [{difference.low:.2f}, {difference.high:.2f}] budgets"
        sentences.append(
            f"The moment matters: earlier is {said} than later, {between}."
            if said != NOT_SHOWN
            else f"No difference shown between acting before and after the end: {between}."
        )
    return sentences


def _told(difference: Interval, p: float) -> str:
    said = verdict(difference, p)
    between = f"{difference.value:+.2f} [{difference.low:.2f}, {difference.high:.2f}] budgets"
    return f"is {said} than nothing: {between}" if said != NOT_SHOWN else f"shows no difference: {between}"
