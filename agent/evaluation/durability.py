"""Durable recovery: what was done is left as it is, the trigger strikes again, and nobody helps (FIELD: durable)."""

__all__ = ["WATCH_STEPS", "durable", "struck_again"]

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from simcore.env import Episodes
from simcore.env.slo import incidents
from simcore.model.inputs import Run
from simcore.model.modulation import Change
from simcore.model.scenario import Scenario

Ints = npt.NDArray[np.int64]

#: Control steps for which a run is watched after the second strike.
WATCH_STEPS = 60


def struck_again(run: Run, at_s: float) -> Run:
    """Return a run whose faults take the same course once more, beginning at ``at_s``.

    The second strike changes the very modulations of the first. So it acts where the fault still lives: a version that
    was rolled back, a configuration or quota that was put right, a node or process that was left stay as they are,
    and a fault that has lasted all the time just goes on.
    """
    inputs, changes = run.inputs, list(run.inputs.changes)
    for change in inputs.changes:
        owner = run.owner[change.modulation]
        if owner >= 0:
            later = at_s + (change.time_s - run.faults[owner].onset_s)
            changes.append(Change(later, change.modulation, change.value))
    changes.sort(key=lambda change: (change.time_s, change.modulation))
    return replace(run, inputs=replace(inputs, changes=tuple(changes)))


def durable(episodes: Episodes, at_risk: Sequence[bool], *, threads: int | None = None) -> list[bool | None]:
    """Return whether each run at risk has recovered for good; None for the other runs.

    A run has if no incident is open at the end of its follow-up, and none opens in the ``WATCH_STEPS`` after the
    trigger has struck again. It does so at the end of the follow-up, or when its first course is over if that is later.
    The actions of the episode are repeated, there are no others.

    Parameters
    ----------
    episodes
        Finished, with the actions that were taken.
    at_risk
        (run,) whether the noop twin opens an incident.
    threads
        Threads of the engine. It is the batch engine in every case: the engines agree to the last bit.
    """
    scenario, step_s = episodes.scenario, episodes.scenario.timing.step_s
    asked = [i for i in range(episodes.n_runs) if at_risk[i] and episodes.runs[i].faults]
    found: list[bool | None] = [None] * episodes.n_runs
    healed: list[tuple[int, int]] = []
    for i in asked:
        begin = int(episodes.fault_steps[i])
        end = min(begin + scenario.timing.follow_up_steps, episodes.n_steps)
        own = [one for one in incidents(episodes.incident_open[i], begin, end, step_s) if one.kind != "false"]
        found[i] = False
        if not own or own[-1].recovered >= 0:
            healed.append((i, max(end, _course_over(episodes.runs[i], step_s))))
    if not healed:
        return found
    runs = [struck_again(episodes.runs[i], edge * step_s) for i, edge in healed]
    steps = max(edge for _, edge in healed) + WATCH_STEPS
    again = _repeat(episodes, runs, [i for i, _ in healed], _with_steps(scenario, steps), threads)
    for row, (i, edge) in enumerate(healed):
        found[i] = not again.incident_open[row, edge - 1 : edge + WATCH_STEPS].any()
    return found


def _course_over(run: Run, step_s: float) -> int:
    """Return the first edge at or after the last change that a run's faults make."""
    own = [change.time_s for change in run.inputs.changes if run.owner[change.modulation] >= 0]
    return math.ceil(max(own) / step_s - 1e-9) if own else 0


def _with_steps(scenario: Scenario, steps: int) -> Scenario:
    timing = scenario.timing.model_dump() | {"steps": max(steps, scenario.timing.steps)}
    return Scenario.model_validate(scenario.model_dump() | {"timing": timing})


def _repeat(episodes: Episodes, runs: list[Run], rows: list[int], scenario: Scenario, threads: int | None) -> Episodes:
    """Play runs to the end of a longer scenario, with the actions that were taken in these rows of the episodes."""
    at = {row: position for position, row in enumerate(rows)}
    choice: dict[int, Ints] = {}
    for record in episodes.records:
        if record.run in at:
            choice.setdefault(record.step, np.zeros(len(rows), np.int64))[at[record.run]] = record.action
    again = Episodes(scenario, runs, threads=threads)
    for step in range(max(choice, default=-1) + 1):
        if step in choice:
            again.act(choice[step])
        again.advance()
    again.advance_to_end()
    return again
