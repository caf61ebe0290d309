"""What it changes at which point of the load's wave a fault begins."""

__all__ = ["POSITIONS", "load_wave"]

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agent.evaluation.sweep import Axis, Cell, Crew, Sweep
from agent.evaluation.timing.arms import Arm, Finding, OnProgress, Outcomes, compared, play_arms
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]

#: Points of the wave at which the fault begins, evenly spread; a quarter turn is the crest, three are the trough.
POSITIONS = 8
_TROUGH = 0.75


def load_wave(
    sweep: Sweep,
    policies: Sequence[str],
    crew: Crew,
    *,
    onset_s: float,
    positions: int = POSITIONS,
    on_progress: OnProgress | None = None,
) -> Finding:
    """Let the fault begin at the same time of the same runs, with the wave turned so that it meets another load.

    Parameters
    ----------
    sweep
        Scenario, faults, runs and parts of the agent; its own axes do not count.
    policies
        Compared with themselves at the trough.
    crew
        The agents.
    onset_s
        Of the fault.
    positions
        Points of the wave, a multiple of 4.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        If the load has no wave, or the positions are not a multiple of 4.
    """
    workload = sweep.scenario.workload
    if workload.shape != "sinusoidal":
        raise InputError(f"workload.shape must be sinusoidal for a wave, {sweep.scenario.name} has {workload.shape}")
    if positions < 4 or positions % 4:
        raise InputError(f"--positions must be a multiple of 4 (trough and crest are among them), got {positions}")
    turns = [i / positions for i in range(positions)]
    trough = turns.index(_TROUGH)
    axes = (Axis("workload.phase", tuple(turns)), Axis("policy", tuple(policies)))
    arms: list[Arm] = []
    cells: list[Cell] = []
    for p, policy in enumerate(policies):
        for turn in turns:
            factor = 1.0 + workload.amplitude * math.sin(2.0 * math.pi * turn)
            labels = {"policy": policy, "turn": turn, "point": _point(turn), "load": factor}
            arms.append(Arm(labels, p * positions + trough))
            phase = (turn - onset_s / workload.period_s) % 1.0
            cells.append(Cell(len(cells), (phase, policy)))
    outcomes, interrupted = play_arms(
        replace(sweep, axes=axes, detector_from="base"), cells, crew, on_progress=on_progress
    )
    sentences = []
    for p, policy in enumerate(policies):
        own = [outcomes.get(p * positions + i) for i in range(positions)]
        if all(own):
            sentences.append(_sentence(policy, turns, [of for of in own if of is not None], workload.period_s))
    return Finding(
        "wave",
        f"Does it matter where in the load's wave (period {workload.period_s:g} s) the fault begins, at {onset_s:g} s?",
        compared(arms, outcomes, seed=sweep.seed), sentences,
        [
            ("policy", "policy", -1), ("turn", "turn", 3), ("point", "wave", -1), ("load", "load", 2),
            ("budget", "budget", 2), ("difference", "less trough", 2), ("difference[]", "95 % interval", 2),
            ("verdict", "verdict", -1), ("lost", "lost", 2), ("ttm_s", "TTM s", 0),
        ],
        interrupted,
    )  # fmt: skip


def _point(turn: float) -> str:
    named = {0.0: "mean, rising", 0.25: "crest", 0.5: "mean, falling", 0.75: "trough"}
    return named.get(turn, "rising" if turn < 0.25 or turn > 0.75 else "falling")


def first_harmonic(values: Floats) -> tuple[float, float, float]:
    """Return amplitude, position (turns) and p-value of the wave in outcomes (run, position).

    Every run gives its two Fourier coefficients; that their mean is zero is tested by Hotelling's T squared (1931),
    which asks nothing of the noise within a run but that runs are independent.
    """
    from scipy.special import fdtrc

    runs, positions = values.shape
    angle = 2.0 * np.pi * np.arange(positions) / positions
    own = values @ np.stack([np.cos(angle), np.sin(angle)], axis=1) * (2.0 / positions)
    mean = own.mean(axis=0)
    amplitude, turn = float(np.hypot(*mean)), float(np.arctan2(mean[1], mean[0]) / (2.0 * np.pi) % 1.0)
    spread = np.cov(own, rowvar=False)
    if runs < 4 or np.linalg.matrix_rank(spread) < 2:
        return amplitude, turn, float("nan")
    squared = float(runs * mean @ np.linalg.solve(spread, mean))
    return amplitude, turn, float(fdtrc(2, runs - 2, squared * (runs - 2) / (2.0 * (runs - 1))))


def _sentence(policy: str, turns: Sequence[float], outcomes: Sequence[Outcomes], period_s: float) -> str:
    values = np.stack([own.budget for own in outcomes], axis=1)
    amplitude, turn, p = first_harmonic(values)
    if np.isnan(p) or p >= 0.05:
        return f"{policy}: no difference shown between points of the wave (p = {p:.2g})."
    worst, best = (int(choose(values.mean(axis=0))) for choose in (np.argmax, np.argmin))
    to_crest = ((0.25 - turn + 0.5) % 1.0 - 0.5) * period_s
    moment = f"{abs(to_crest):.0f} s {'before' if to_crest > 0 else 'after'} the crest"
    return (
        f"{policy}: worst for faults that begin about {moment} (amplitude {amplitude:.2f} budgets, p = {p:.2g}); "
        f"at {_point(turns[worst])} {values[:, worst].mean():.2f} budgets are spent, at {_point(turns[best])} "
        f"{values[:, best].mean():.2f}."
    )
