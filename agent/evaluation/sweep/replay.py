"""One run of a study by itself, exactly as it was."""

__all__ = ["replay_of_study"]

from pathlib import Path

import polars as pl

from agent.evaluation.replay import Replay
from agent.evaluation.study import Study
from agent.evaluation.sweep.axes import Cell
from agent.evaluation.sweep.storage import crew_of, read_study
from agent.evaluation.sweep.worlds import Worlds
from simcore.errors import ResultsError


def replay_of_study(target: str | Path, row: int) -> Replay:
    """Return what it takes to play a run of a study again.

    Parameters
    ----------
    target
        The study's folder.
    row
        Its number in the column ``row``.

    Raises
    ------
    ResultsError
        If there is no such row, or the study cannot be read.
    """
    sweep, metadata, runs = read_study(target)
    found = runs.filter(pl.col("row") == row)
    if not found.height:
        numbers = runs["row"].to_list()
        known = f"rows are {numbers[0]} to {numbers[-1]}" if numbers else "there are none yet"
        raise ResultsError(f"row {row} is not in {target}: {known}")
    stored = found.row(0, named=True)
    worlds = Worlds(sweep)
    cell = Cell(stored["cell"], tuple(stored[key] for key in sweep.keys))
    scenario, parts = worlds.scenario(cell), worlds.parts(cell)
    crew = crew_of(sweep, metadata)
    study = Study(
        scenario=scenario,
        seed=sweep.seed,
        split=sweep.split,
        detector="" if parts is None else parts.detector,
        detector_seed=sweep.detector_seed,
        diagnoser="" if parts is None else parts.diagnoser,
        diagnoser_state=None if parts is None else crew.diagnosers.get(parts.diagnoser),
        policies=() if parts is None else (parts.policy,),
        shadow=sweep.shadow,
        frozen=True,
        faults=worlds.faults(cell, stored["run"]),
    )
    return Replay(
        study=study,
        run=stored["run"],
        policy=None if parts is None else parts.policy,
        state=None if parts is None else crew.states.get(parts.policy),
        detector_state=None if parts is None else crew.detector(scenario, parts.detector).state(),
        stored=stored,
    )
