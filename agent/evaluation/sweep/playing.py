"""Plays the cells of a study: runs that share a scenario go in one batch, whatever their faults and their agents."""

__all__ = ["BATCH_RUNS", "KEY_COLUMNS", "Batch", "Job", "batches", "jobs_of", "play", "play_batch", "runs_schema"]

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from agent.evaluation.played import Labels
from agent.evaluation.scoring import score
from agent.evaluation.sweep.axes import Axis, Cell
from agent.evaluation.sweep.crew import Crew
from agent.evaluation.sweep.sweep import Sweep
from agent.evaluation.sweep.worlds import Parts, Worlds
from agent.play import play as play_episodes
from simcore.env import Episodes
from simcore.telemetry.tables import SCHEMAS

#: Runs that are simulated together.
BATCH_RUNS = 50

#: What the table of runs has before the axes and the columns of the episodes table.
KEY_COLUMNS = {"row": pl.Int64(), "cell": pl.Int64(), "replication": pl.Int64(), "weight": pl.Float64()}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a study."""

    row: int  #: its id in the study's tables
    cell: Cell
    replication: int  #: number of the run; the same number has the same randomness in every cell
    weight: float = 1.0  #: of the run in means over cells


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs that share a scenario; those that differ only in their agent are the same run, played several times."""

    jobs: tuple[tuple[Job, ...], ...]  #: (world, agent) jobs of a world have the scenario, faults and run in common

    @property
    def runs(self) -> int:
        """How many rows the batch gives."""
        return sum(len(group) for group in self.jobs)


def jobs_of(cells: Iterable[Cell], replications: Sequence[int], *, first_row: int = 0) -> Iterator[Job]:
    """Yield every replication of every cell, rows numbered from ``first_row`` by cell, then replication."""
    row = first_row
    for cell in cells:
        for replication in replications:
            yield Job(row, cell, replication)
            row += 1


def batches(worlds: Worlds, jobs: Iterable[Job], *, size: int = BATCH_RUNS) -> Iterator[Batch]:
    """Yield the batches that jobs make up: at most ``size`` different worlds each, in the order of the jobs.

    Results do not depend on how jobs are batched.
    """
    scenarios: dict[tuple[object, ...], dict[tuple[object, ...], list[Job]]] = {}
    for job in jobs:
        groups = scenarios.setdefault(worlds.world_of(job.cell), {})
        groups.setdefault((worlds.strike_of(job.cell), job.replication), []).append(job)
    for groups in scenarios.values():
        found = [tuple(group) for group in groups.values()]
        for first in range(0, len(found), size):
            yield Batch(tuple(found[first : first + size]))


def play_batch(
    worlds: Worlds,
    crew: Crew,
    batch: Batch,
    *,
    engine: str = "batch",
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> pl.DataFrame:
    """Play a batch and return its runs as a table, by row.

    Parameters
    ----------
    worlds, crew
        Of the study.
    batch
        What to play.
    engine, threads
        How to run it; without influence on the results.
    on_progress
        Told how many of the batch's runs are done; one under way counts in part.
    """
    sweep = worlds.sweep
    scenario = worlds.scenario(batch.jobs[0][0].cell)
    runs = [worlds.run(group[0].cell, group[0].replication) for group in batch.jobs]
    twins = Labels()
    if sweep.twins:
        noop = Episodes(scenario, runs, engine=engine, threads=threads)
        noop.advance_to_end()
        table = score(noop, None, Labels(), tables=("episodes",))["episodes"]
        twins = Labels(noop_incident=table["incident"].to_list(), noop_j=table["j"].to_list())
    frames, done = [], 0
    for parts, members in _players(worlds, batch).items():
        places = [place for place, _ in members]
        episodes = Episodes(scenario, [runs[place] for place in places], engine=engine, threads=threads)
        labels, trace = Labels(), None
        if parts is None:
            episodes.advance_to_end()
        else:
            agent, state = crew.agent(scenario, parts)
            tell = _share(on_progress, done, len(places), scenario.timing.steps)
            trace = play_episodes(episodes, agent, shadow=sweep.shadow, on_step=tell)
            labels = Labels(
                round=0, policy_state=state, detector=parts.detector, diagnoser=parts.diagnoser, policy=parts.policy
            )
        if twins:
            labels["noop_incident"] = [twins["noop_incident"][place] for place in places]
            labels["noop_j"] = [twins["noop_j"][place] for place in places]
        table = score(episodes, trace, labels, tables=("episodes",))["episodes"]
        frames.append(_keyed(sweep.axes, [job for _, job in members], table))
        done += len(places)
        if on_progress is not None:
            on_progress(done)
    return pl.concat(frames).sort("row")


def _players(worlds: Worlds, batch: Batch) -> dict[Parts | None, list[tuple[int, Job]]]:
    """Return who plays what: agent -> (place of the run in the batch, job), in the order of the jobs."""
    found: dict[Parts | None, list[tuple[int, Job]]] = {}
    for place, group in enumerate(batch.jobs):
        for job in group:
            found.setdefault(worlds.parts(job.cell), []).append((place, job))
    return found


def _share(
    tell: Callable[[float], None] | None, done: int, count: int, steps: int
) -> Callable[[Episodes], None] | None:
    return None if tell is None else lambda episodes: tell(done + count * episodes.step / steps)


def _type_of(axis: Axis) -> pl.DataType:
    kinds = {type(value) for value in axis.values if value is not None}
    if axis.ranged:
        return pl.Int64() if axis.whole else pl.Float64()
    if kinds == {bool}:
        return pl.Boolean()
    if kinds <= {int}:
        return pl.Int64()
    return pl.Float64() if kinds <= {int, float} else pl.String()


def runs_schema(axes: Sequence[Axis]) -> dict[str, pl.DataType]:
    """Return the columns of the table of runs: the keys, what varies, and the columns of the episodes table."""
    episodes = SCHEMAS["episodes"]
    varied = {axis.key: _type_of(axis) for axis in axes if axis.key not in episodes}
    return KEY_COLUMNS | varied | dict(episodes)


def _keyed(axes: Sequence[Axis], jobs: Sequence[Job], table: pl.DataFrame) -> pl.DataFrame:
    schema = runs_schema(axes)
    columns: dict[str, list[object]] = {
        "row": [job.row for job in jobs],
        "cell": [job.cell.number for job in jobs],
        "replication": [job.replication for job in jobs],
        "weight": [job.weight for job in jobs],
    }
    for i, axis in enumerate(axes):
        if axis.key not in table.columns:
            columns[axis.key] = [job.cell.values[i] for job in jobs]
    keys = pl.DataFrame(columns, schema={name: schema[name] for name in columns})
    return keys.hstack(table)


def play(
    sweep: Sweep,
    cells: Sequence[Cell],
    replications: Sequence[int],
    *,
    crew: Crew | None = None,
    first_row: int = 0,
    engine: str = "batch",
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> pl.DataFrame:
    """Play cells of a study, and write no files.

    Parameters
    ----------
    sweep
        The study. Its own cells are ``sweep.cells()``; any others with a value per axis will do.
    cells, replications
        Every one of these runs of every one of these cells.
    crew
        Its agents; by default policies play as they come.
    first_row
        Number of the first row; they are numbered by cell, then replication.
    engine, threads
        How to run it; without influence on the results.
    on_progress
        Told how many runs are done.

    Returns
    -------
    One row per run, by row: ``row``, ``cell``, ``replication``, ``weight``, a column per axis that the episodes
    table does not have, and the episodes table.

    Raises
    ------
    InputError
        If a cell breaks a rule.
    """
    worlds = Worlds(sweep)
    crew = crew or Crew(sweep, threads=threads)
    frames, done = [pl.DataFrame(schema=runs_schema(sweep.axes))], 0
    for batch in batches(worlds, jobs_of(cells, replications, first_row=first_row)):
        tell = None if on_progress is None else lambda runs, before=done: on_progress(before + runs)
        frames.append(play_batch(worlds, crew, batch, engine=engine, threads=threads, on_progress=tell))
        done += batch.runs
    return pl.concat(frames).sort("row")
