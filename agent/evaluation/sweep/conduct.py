"""Runs a study from the first batch to the tables; Ctrl-C ends it after the last finished batch."""

__all__ = ["Conducted", "conduct"]

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from agent.evaluation.study import uninterrupted
from agent.evaluation.sweep.crew import Crew
from agent.evaluation.sweep.playing import BATCH_RUNS, batches, jobs_of, play_batch, runs_schema
from agent.evaluation.sweep.refining import Refiner
from agent.evaluation.sweep.storage import StudyFolder, tables_of
from agent.evaluation.sweep.worlds import Worlds


@dataclass(frozen=True, slots=True)
class Conducted:
    """What came out of a study."""

    runs: pl.DataFrame
    cells: pl.DataFrame
    differences: pl.DataFrame
    played: int  #: runs of this session
    requests: int  #: of them
    interrupted: bool  #: stopped by Ctrl-C; what is here are the finished batches
    refiner: Refiner | None = None  #: what became of a refined study


def conduct(
    worlds: Worlds,
    crew: Crew,
    *,
    folder: StudyFolder | None = None,
    known: pl.DataFrame | None = None,
    batch_runs: int = BATCH_RUNS,
    engine: str = "batch",
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    how: Callable[[int, int], dict[str, Any]] | None = None,
) -> Conducted:
    """Run every replication of every cell of a study.

    Parameters
    ----------
    worlds, crew
        Of the study.
    folder
        Where results go, claimed by ``begin`` or ``resume``; without one they stay in memory.
    known
        Runs that the folder has already.
    batch_runs, engine, threads
        How to run it; without influence on the results.
    on_progress
        Told how many runs of this session are done.
    how
        Returns what is noted of this session, from its runs and their requests.
    """
    sweep = worlds.sweep
    refiner = (
        None if sweep.refine is None else Refiner(sweep.refine, sweep.axes, sweep.cells(), sweep.scenario.slo.objective)
    )
    done = set() if known is None else set(known["row"].to_list())
    if refiner is not None and known is not None:
        refiner.take(known)
    frames, played, requests, interrupted = [pl.DataFrame(schema=runs_schema(sweep.axes))], 0, 0, True
    with contextlib.suppress(KeyboardInterrupt):
        for jobs in [jobs_of(sweep.cells(), range(sweep.replications))] if refiner is None else refiner.rounds():
            missing = (job for job in jobs if job.row not in done)
            for batch in batches(worlds, missing, size=batch_runs):
                tell = None if on_progress is None else lambda runs, before=played: on_progress(before + runs)
                table = play_batch(worlds, crew, batch, engine=engine, threads=threads, on_progress=tell)
                with uninterrupted():
                    if folder is None:
                        frames.append(table)
                    else:
                        folder.add(table)
                    if refiner is not None:
                        refiner.take(table)
                    played += table.height
                    requests += int(table["offered"].sum())
        interrupted = False
    if folder is not None:
        with uninterrupted():
            session = {} if how is None else how(played, requests)
            tables = folder.finish(sweep, how=session, complete=not interrupted)
    else:
        tables = tables_of(pl.concat(frames).sort("row"), sweep)
    return Conducted(played=played, requests=requests, interrupted=interrupted, refiner=refiner, **tables)
