"""How much an agent loses because it looks seldom and late."""

__all__ = ["SECONDS", "slow_telemetry"]

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.evaluation.sweep import Axis, Cell, Crew, Sweep
from agent.evaluation.timing.arms import Arm, Finding, OnProgress, compared, play_arms

#: Control steps and scrape lags, seconds.
SECONDS = (1.0, 5.0, 15.0, 60.0)


def slow_telemetry(
    sweep: Sweep,
    policies: Sequence[str],
    crew: Crew,
    *,
    steps_s: Sequence[float] = SECONDS,
    lags_s: Sequence[float] = SECONDS,
    on_progress: OnProgress | None = None,
) -> Finding:
    """Play the same runs with other control steps, and with scrapes that come in later.

    The system does not change with the step: the same requests meet the same fault, and without an agent every arm
    ends the same. Detectors are trained anew for every step, since a longer window is smoother, not for a lag.

    Parameters
    ----------
    sweep
        Scenario, faults, runs and parts of the agent; its own axes do not count.
    policies
        Each is compared with itself at the shortest step and lag.
    crew
        The agents.
    steps_s, lags_s
        Seconds; combined where the lag is a multiple of the step, since scrapes come once a step.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        If the episode is not a multiple of a step.
    """
    pairs = [(step, lag) for step in sorted(steps_s) for lag in sorted(lags_s) if (lag / step).is_integer()]
    axes = (
        Axis("control_step_s", tuple(steps_s)),
        Axis("scrape_lag_s", tuple(lags_s)),
        Axis("policy", tuple(policies)),
    )
    arms: list[Arm] = []
    cells: list[Cell] = []
    for p, policy in enumerate(policies):
        for step, lag in pairs:
            labels = {"policy": policy, "control_step_s": step, "scrape_lag_s": lag}
            arms.append(Arm(labels, p * len(pairs)))
            cells.append(Cell(len(cells), (step, lag, policy)))
    outcomes, interrupted = play_arms(replace(sweep, axes=axes), cells, crew, on_progress=on_progress)
    rows = compared(arms, outcomes, seed=sweep.seed, measure="spent")
    sentences = [
        _sentence(policy, [row for row in rows if row["policy"] == policy])
        for policy in policies
        if any(row["policy"] == policy for row in rows)
    ]
    return Finding(
        "telemetry", "What does an agent lose by slow telemetry? (against itself at the shortest step and lag)",
        rows, sentences,
        [
            ("policy", "policy", -1), ("control_step_s", "step s", 0), ("scrape_lag_s", "lag s", 0),
            ("budget", "budget", 2), ("difference", "lost", 2), ("difference[]", "95 % interval", 2),
            ("verdict", "verdict", -1), ("lost", "unrecov.", 2), ("ttd_s", "TTD s", 0), ("ttm_s", "TTM s", 0),
        ],
        interrupted,
    )  # fmt: skip


def _sentence(policy: str, rows: Sequence[dict[str, Any]]) -> str:
    first, slower = rows[0], rows[1:]
    worse = sorted((row for row in slower if row["verdict"] == "worse"), key=lambda row: float(row["difference"]))
    if all(row["difference"] == 0.0 for row in slower):
        return f"{policy}: loses nothing, in any run: it does nothing that telemetry could change."
    base = f"{first['control_step_s']:g} s steps and {first['scrape_lag_s']:g} s lag"
    if not worse:
        return f"{policy}: no difference shown to {base}, up to {_arm(slower[-1])}."
    least, most = worse[0], worse[-1]
    text = f"{policy}: against {base}, {_arm(most)} cost {_amount(most)} error budgets"
    return f"{text}; the smallest loss shown is with {_arm(least)}: {_amount(least)}."


def _arm(row: dict[str, Any]) -> str:
    return f"{row['control_step_s']:g} s steps and {row['scrape_lag_s']:g} s lag"


def _amount(row: dict[str, Any]) -> str:
    return f"{row['difference']:.2f} [{row['difference_low']:.2f}, {row['difference_high']:.2f}]"
