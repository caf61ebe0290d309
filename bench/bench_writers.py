"""Writing the tables of a round, as one CSV or Parquet file or as a folder of all tables."""

import functools
from pathlib import Path

import polars as pl
import pytest

from agent.evaluation.played import Labels
from agent.evaluation.scoring import score
from agent.evaluation.study import play_round
from bench.conftest import Timed
from bench.workloads import closed_loop
from simcore.telemetry.writers import ResultsWriter, read_table

_N_RUNS, _N_ROUNDS, _STEPS = 50, 20, 60


@functools.cache
def _tables() -> tuple[dict[str, pl.DataFrame], ...]:
    """Return the tables of every round; played once, with other run numbers each time."""
    study = closed_loop(n_runs=_N_RUNS, steps=_STEPS, shadow=True)
    tables = score(*play_round(study, study.runs(0, _N_RUNS), None, None, threads=1), Labels())
    return tuple(
        {name: table.with_columns(pl.col("run") + _N_RUNS * number) for name, table in tables.items()}
        for number in range(_N_ROUNDS)
    )


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "folder"])
def test_writing_twenty_rounds(name: str, tmp_path: Path, timed: Timed) -> None:
    rounds, target = _tables(), tmp_path / name
    written = ("episodes",) if "." in name else tuple(rounds[0])

    def piece() -> Path:
        with ResultsWriter(target, metadata={}, force=True) as writer:
            for tables in rounds:
                writer.write(tables)
        return target

    def done(target: Path) -> dict[str, int]:
        for table in written:
            rows = sum(tables[table].height for tables in rounds)
            assert read_table(target, table).height == rows
        return {"rows": sum(tables[table].height for tables in rounds for table in written)}

    assert sum(tables["steps"].height for tables in rounds) == _N_RUNS * _N_ROUNDS * _STEPS * 4
    timed("writers", name, piece, done=done, rounds=5)
