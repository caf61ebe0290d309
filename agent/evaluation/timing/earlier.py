"""Whether a fault is worse, or handled worse, because another one came shortly before."""

__all__ = ["GAPS_S", "earlier_fault"]

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.statistics import Resampler, holm
from agent.evaluation.sweep import Axis, Cell, Crew, Sweep
from agent.evaluation.timing.arms import Finding, OnProgress, Outcomes, between, plain, play_arms, verdict
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]

#: From the earlier onset to the later one, seconds.
GAPS_S = (30.0, 60.0, 120.0, 240.0)
_NONE = "none"


def earlier_fault(
    sweep: Sweep,
    policies: Sequence[str],
    crew: Crew,
    *,
    onset_s: float,
    gaps_s: Sequence[float] = GAPS_S,
    on_progress: OnProgress | None = None,
) -> Finding:
    """Play the same runs with both faults, with each alone and with none.

    What the two cost beyond the sum of each alone, ``both - earlier - later + neither`` of the same run, is what the
    one does to the other: through the system, or through the agent, which may be waiting, cooling down or misled.

    Parameters
    ----------
    sweep
        Scenario, runs and parts of the agent, and two faults, the earlier one first; its own axes do not count.
    policies
        Who acts.
    crew
        The agents.
    onset_s
        Of the later fault.
    gaps_s
        How much earlier the other one begins.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        If there are not two faults, or a gap reaches before the episode.
    """
    if len(sweep.faults) != 2:
        raise InputError(f"an earlier and a later fault are needed, got {len(sweep.faults)}")
    if wrong := [gap for gap in gaps_s if not 0.0 <= gap <= onset_s]:
        raise InputError(f"--gaps must be between 0 and the onset at {onset_s:g} s, got {wrong[0]:g}")
    first, second = (fault.fault for fault in sweep.faults)
    axes = tuple(
        Axis(key, values)
        for key, values in (
            ("fault[0]", (first, _NONE)), ("fault[0].onset_s", tuple(onset_s - gap for gap in gaps_s)),
            ("fault[1]", (second, _NONE)), ("policy", tuple(policies)),
        )
    )  # fmt: skip
    faults = (sweep.faults[0], replace(sweep.faults[1], onset_s=onset_s))
    cells: list[Cell] = []
    for policy in policies:
        corners = [(_NONE, onset_s, _NONE), (_NONE, onset_s, second)]
        corners += [(first, onset_s - gap, last) for gap in gaps_s for last in (_NONE, second)]
        cells += [Cell(len(cells) + i, (*corner, policy)) for i, corner in enumerate(corners)]
    study = replace(sweep, axes=axes, faults=faults, detector_from="base")
    outcomes, interrupted = play_arms(study, cells, crew, on_progress=on_progress)
    rows = _rows(outcomes, policies, gaps_s, sweep.seed)
    sentences = [_sentence(policy, [row for row in rows if row["policy"] == policy]) for policy in policies]
    return Finding(
        "earlier", f"Is {second} at {onset_s:g} s worse because {first} came before? (budget of the whole episode)",
        rows,
        [sentence for sentence in sentences if sentence],
        [
            ("policy", "policy", -1), ("gap_s", "gap s", 0), ("both", "both", 2), ("earlier", "first", 2),
            ("later", "second", 2), ("neither", "none", 2), ("difference", "beyond", 2),
            ("difference[]", "95 % interval", 2), ("verdict", "verdict", -1),
        ],
        interrupted,
    )  # fmt: skip


def _rows(
    outcomes: dict[int, Outcomes], policies: Sequence[str], gaps_s: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    size = max((found.spent.size for found in outcomes.values()), default=1)
    resampler, width = Resampler(size, seed=seed), 2 + 2 * len(gaps_s)
    rows: list[dict[str, Any]] = []
    tested = []
    for p, policy in enumerate(policies):
        for g, gap in enumerate(gaps_s):
            corners = [outcomes.get(p * width + i) for i in (0, 1, 2 + 2 * g, 3 + 2 * g)]
            if None in corners:
                continue
            neither, later, earlier, both = (found.spent for found in corners if found is not None)
            excess: Floats = both - earlier - later + neither
            tested.append(resampler.tested(excess[None], np.zeros((1, size))))
            named = {"both": both, "earlier": earlier, "later": later, "neither": neither}
            row: dict[str, Any] = {"policy": policy, "gap_s": gap, "runs": size}
            rows.append(row | {name: float(of.mean()) for name, of in named.items()})
    for row, (difference, _), adjusted in zip(rows, tested, holm([p for _, p in tested]), strict=True):
        row |= between("difference", difference) | {"p": plain(adjusted), "verdict": verdict(difference, adjusted)}
    return rows


def _sentence(policy: str, rows: Sequence[dict[str, Any]]) -> str:
    shown = [row for row in rows if row["verdict"] in ("worse", "better")]
    if not rows:
        return ""
    if not shown:
        return f"{policy}: no difference shown between the two together and the sum of each alone, at any gap."
    most = max(shown, key=lambda row: abs(row["difference"]))
    what = "more" if most["difference"] > 0.0 else "less"
    gaps = ", ".join(f"{row['gap_s']:g}" for row in shown)
    return (
        f"{policy}: {most['gap_s']:g} s apart the two cost {abs(most['difference']):.2f} error budgets {what} than "
        f"the sum of each alone [{most['difference_low']:.2f}, {most['difference_high']:.2f}]; shown at {gaps} s."
    )
