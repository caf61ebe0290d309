"""Optimal-action maps: the best action over load, severity, onset and the time until somebody acts, with confidence."""

__all__ = ["Cell", "Grid", "cells_of", "map_table", "map_text"]

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.render import grid
from agent.rollouts import HORIZON, Outcomes, all_cases, roll_out
from simcore.env import Episodes
from simcore.env.slo import fault_step
from simcore.errors import InputError
from simcore.model.faults import Fault
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario
from simcore.telemetry.tables import empty, frame

Floats = npt.NDArray[np.float64]

#: Resamples of runs by which the confidence in the best action is found.
BOOTSTRAPS = 1_000
#: Below this confidence a cell is told to be open.
SURE = 0.9


@dataclass(frozen=True, slots=True)
class Grid:
    """What is varied; a cell is one value of each."""

    fault: Fault  #: its onset and severity are replaced
    loads: tuple[float, ...] = (0.7, 1.0, 1.3)  #: multiples of the scenario's rate
    severities: tuple[float, ...] = (0.3, 0.6, 0.9)
    onsets_s: tuple[float, ...] = (300.0,)
    delays: tuple[int, ...] = (3, 12)  #: steps from the onset to the action
    runs: int = 10  #: per cell
    horizon: int = HORIZON

    def check(self, scenario: Scenario) -> None:
        """Check it against the scenario.

        Raises
        ------
        InputError
            Naming every mistake, one a line.
        """
        wrong, timing = [], scenario.timing
        for name, values in (("loads", self.loads), ("severities", self.severities), ("onsets", self.onsets_s)):
            if not values or len(set(values)) < len(values):
                wrong.append(f"--{name} must be one value or more, each once, got {list(values)}")
        wrong += [f"--loads must be above 0 and finite, got {x}" for x in self.loads if not 0.0 < x < math.inf]
        wrong += [f"--severities must be above 0, up to 1, got {x}" for x in self.severities if not 0.0 < x <= 1.0]
        if not self.delays or len(set(self.delays)) < len(self.delays) or min(self.delays) < 0:
            wrong.append(f"--delays must be step counts >= 0, each once, got {list(self.delays)}")
        if self.runs < 2:
            wrong.append(f"--runs must be >= 2 for a confidence, got {self.runs}")
        if self.horizon < 1:
            wrong.append(f"--horizon must be >= 1 step, got {self.horizon}")
        end_s = timing.steps * timing.step_s
        late = max(self.onsets_s, default=0.0) + (max(self.delays, default=0) + 1) * timing.step_s
        if min(self.onsets_s, default=0.0) < 0.0 or not late < end_s:
            wrong.append(f"--onsets must be >= 0 and leave room for the action before {end_s:g} s")
        if wrong:
            raise InputError("\n".join(wrong))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a map: every action that is legal in all of its runs, noop first."""

    load: float
    severity: float
    onset_s: float
    delay: int  #: steps
    runs: int
    names: tuple[str, ...]  #: (action,)
    j: Floats  #: (action, run) change of J over the horizon
    ill_frac: float  #: share of the runs that noop leaves unhealthy at the end
    confidence: Floats  #: (action,) share of the resamples of runs in which it is best

    @property
    def best(self) -> int:
        """Position of the largest mean J."""
        return int(self.j.mean(axis=1).argmax())


def cells_of(
    scenario: Scenario,
    given: Grid,
    *,
    seed: int,
    split: str = "test",
    threads: int | None = None,
    on_cell: Callable[[int], None] | None = None,
) -> Iterator[Cell]:
    """Yield the cells of a map, delays within onsets within loads and severities.

    In a cell nobody has acted before; each run is tried in one future that nobody knew. The same run numbers are taken
    in all cells, so they have the same arrivals at the same load.

    Parameters
    ----------
    scenario, given
        What is played, and over what.
    seed, split
        Place of the runs in the seed space.
    threads
        Of the batch engine.
    on_cell
        Called with the number of cells done.

    Raises
    ------
    InputError
        If the grid does not fit the scenario.
    """
    given.check(scenario)
    done = 0
    for load in given.loads:
        loaded = scenario_at(scenario, load)
        for onset_s in given.onsets_s:
            runs = [
                make_run(
                    loaded, seed=seed, split=split, run=run,
                    faults=(replace(given.fault, onset_s=onset_s, severity=severity),),
                )
                for severity in given.severities
                for run in range(given.runs)
            ]  # fmt: skip
            episodes = Episodes(loaded, runs, threads=threads)
            first = fault_step(onset_s, loaded.timing.step_s)
            for delay in sorted(given.delays):
                episodes.advance_to(first + delay)
                rows, actions = all_cases(episodes.observation.legal)
                outcomes = roll_out(episodes, rows, actions, futures=(0,), horizon=given.horizon)
                for i, severity in enumerate(given.severities):
                    part = range(i * given.runs, (i + 1) * given.runs)
                    yield _cell(episodes, outcomes, part, load, severity, onset_s, delay, seed)
                    done += 1
                    if on_cell is not None:
                        on_cell(done)


def scenario_at(scenario: Scenario, load: float) -> Scenario:
    """Return a scenario at a multiple of its rate; recorded and closed workloads have no such thing.

    Raises
    ------
    InputError
        If the workload is closed.
    """
    if load == 1.0:
        return scenario
    if scenario.workload.closed is not None:
        raise InputError(f"--loads: the users of {scenario.name} are a fixed number, only 1 is possible, got {load}")
    whole = scenario.model_dump()
    whole["workload"]["rate_rps"] *= load
    return Scenario.model_validate(whole)


def _cell(
    episodes: Episodes,
    outcomes: Outcomes,
    rows: range,
    load: float,
    severity: float,
    onset_s: float,
    delay: int,
    seed: int,
) -> Cell:
    mine = outcomes.part(np.flatnonzero(np.isin(outcomes.row, np.array(rows))))
    action, counts = np.unique(mine.action, return_counts=True)
    action = action[counts == len(rows)]
    j = np.stack([mine.j[mine.action == number, 0] for number in action])
    waiting = mine.unhealthy[mine.action == 0, 0]
    names = tuple(episodes.actions.names[number] for number in action.tolist())
    return Cell(
        load, severity, onset_s, delay, len(rows), names, j, float(waiting.mean()), _confidence(j, seed)
    )  # fmt: skip


def _confidence(j: Floats, seed: int) -> Floats:
    """Return (action,) the share of resamples of the runs in which the mean of (action, run) is largest."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x6D6170,))))
    chosen = generator.integers(0, j.shape[1], (BOOTSTRAPS, j.shape[1]))
    best = j[:, chosen].mean(axis=2).argmax(axis=0)
    share: Floats = np.bincount(best, minlength=j.shape[0]) / BOOTSTRAPS
    return share


def map_table(cells: Sequence[Cell], scenario: Scenario, fault: Fault, *, seed: int, split: str) -> pl.DataFrame:
    """Return the table ``optimal_actions``: a row per cell and action."""
    frames = []
    for cell in cells:
        gap = cell.j - cell.j[:1]
        width = 1.96 * gap.std(axis=1, ddof=1) / math.sqrt(cell.runs)
        frames.append(
            frame(
                "optimal_actions",
                {
                    "scenario": scenario.name,
                    "scenario_hash": scenario.digest,
                    "split": split,
                    "seed": seed,
                    "fault_type": fault.type,
                    "fault_service": scenario.service_names[fault.service] if fault.service >= 0 else "workload",
                    "load": cell.load,
                    "severity": cell.severity,
                    "onset_s": cell.onset_s,
                    "delay_steps": cell.delay,
                    "runs": cell.runs,
                    "action": list(cell.names),
                    "j": cell.j.mean(axis=1),
                    "j_gain": gap.mean(axis=1),
                    "j_gain_low": gap.mean(axis=1) - width,
                    "j_gain_high": gap.mean(axis=1) + width,
                    "harmed_frac": (gap < -MARGIN).mean(axis=1),
                    "best": np.arange(len(cell.names)) == cell.best,
                    "confidence": cell.confidence,
                },
            )
        )
    return pl.concat([empty("optimal_actions"), *frames])


def _label(cell: Cell) -> str:
    sure = float(cell.confidence[cell.best])
    return f"{cell.names[cell.best]} {sure:.0%}" + ("" if sure >= SURE else " ?")


def map_text(cells: Sequence[Cell]) -> str:
    """Return the map as tables: a table per onset and delay, loads across, severities down."""
    parts = []
    for onset_s, delay in dict.fromkeys((cell.onset_s, cell.delay) for cell in cells):
        here = [cell for cell in cells if (cell.onset_s, cell.delay) == (onset_s, delay)]
        loads = list(dict.fromkeys(cell.load for cell in here))
        by = {(cell.severity, cell.load): _label(cell) for cell in here}
        rows = [
            [f"{severity:g}", *(by.get((severity, load), "") for load in loads)]
            for severity in dict.fromkeys(cell.severity for cell in here)
        ]
        parts.append(
            f"onset {onset_s:g} s, action {delay} steps later\n"
            + grid(["severity", *(f"load {load:g}" for load in loads)], rows)
        )
    note = f"after each action: in how many resamples of the runs it is the best; ? is below {SURE:.0%}"
    return "\n\n".join([*parts, note])
