"""``mendsim sweep --refine``: the study that decides itself where its runs go, and can be interrupted all the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agent.evaluation.sweep import conduct
from agent.evaluation.sweep.boundary import boundary_text
from agent.evaluation.sweep.playing import play_batch
from agent.evaluation.sweep.refine import FIRST_RUNS
from agent.evaluation.sweep.refining import Refiner
from agent.evaluation.sweep.sequential import confidence_interval
from agent.evaluation.sweep.storage import read_study
from tests.conftest import TINY, Invoke

STUDY = (
    "sweep", "--scenario", "./tiny.yaml", "--fault", "error_burst@db", "--onset", "70", "--no-agent",
    "--vary", "fault.severity=0.02,0.1,0.5", "--vary", "load=1,1.5",
    "--refine", "incident", "--width", "0.3", "--depth", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a scenario, for the whole module."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return folder


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def done(at_home: Path, invoke: Invoke) -> Path:
    """Return the folder of a finished study, which is run once."""
    folder = at_home / "done"
    if not folder.exists():
        result = invoke(*STUDY, "--out", "done")
        assert result.code == 0, result.err
        (at_home / "told.txt").write_text(result.out, encoding="utf-8")
    return folder


def test_cells_get_runs_until_they_are_known_and_say_it(done: Path) -> None:
    runs, cells = pl.read_parquet(done / "runs.parquet"), pl.read_parquet(done / "cells.parquet")
    found = json.loads((done / "study.json").read_text(encoding="utf-8"))
    assert (found["design"], found["complete"], found["runs"]) == ("refined", True, runs.height)
    assert runs["row"].to_list() == list(range(runs.height))
    assert cells["n"].min() == FIRST_RUNS < cells["n"].max()
    for row in cells.iter_rows(named=True):
        values = runs.filter(pl.col("cell") == row["cell"])["incident"].cast(pl.Float64).to_numpy()
        interval = confidence_interval(values)
        assert (row["incident_low"], row["incident_high"]) == pytest.approx((interval.low, interval.high))
        assert interval.low > 0.5 or interval.high < 0.5 or interval.high - interval.low <= 0.6
        # J has no bounds, so it has no interval that would hold
        assert row["j_mean"] is not None
        assert row["j_low"] is None
    told = (done.parent / "told.txt").read_text(encoding="utf-8")
    for what in ("refined by incident, level 0.5", "it flips between\n  fault.severity", "saved"):
        assert what in told


def test_weights_undo_that_cells_have_more_runs_or_were_added(done: Path) -> None:
    runs, cells = pl.read_parquet(done / "runs.parquet"), pl.read_parquet(done / "cells.parquet")
    assert runs["weight"].mean() == pytest.approx(1.0)
    total = runs.group_by("cell").agg(pl.col("weight").sum()).sort("cell")["weight"].to_numpy()
    added = cells["cell"].to_numpy() >= 6
    assert added.any()
    assert total[~added].min() > 0.0
    # a cell in the middle takes from its neighbours, and no more than it stands for
    assert total[added].max() < total[~added].max()
    assert total.sum() == pytest.approx(runs.height)
    # each replication is a run of its own, numbered from 0 in every cell
    for _, part in runs.group_by("cell"):
        assert sorted(part["replication"]) == list(range(part.height))


def test_an_interrupted_refinement_goes_on_and_ends_with_the_same_bytes(
    done: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def tired(*arguments: Any, **settings: Any) -> pl.DataFrame:
        calls.append(1)
        if len(calls) in (2, 6):
            raise KeyboardInterrupt
        return play_batch(*arguments, **settings)

    monkeypatch.setattr(conduct, "play_batch", tired)
    assert invoke(*STUDY, "--out", "again", "--quiet").code == 1
    assert json.loads(Path("again/study.json").read_text(encoding="utf-8"))["complete"] is False
    assert invoke(*STUDY, "--out", "again", "--quiet", "--resume").code == 1
    assert invoke(*STUDY, "--out", "again", "--quiet", "--resume").code == 0
    for name in ("runs.parquet", "cells.parquet"):
        assert (done.parent / "again" / name).read_bytes() == (done / name).read_bytes()


def test_a_row_of_a_refined_study_can_be_replayed(done: Path, invoke: Invoke) -> None:
    last = pl.read_parquet(done / "runs.parquet").height - 1
    result = invoke("run", "--from", "done", "--row", last, "--json")
    assert result.code == 0, result.err


def test_the_budget_is_kept_and_what_is_not_known_is_said(done: Path, invoke: Invoke) -> None:
    result = invoke(*STUDY, "--budget", "52", "--quiet", "--json", "--out", "little")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["runs"] == told["refined"]["runs"] == 52
    assert told["refined"]["done"] < told["refined"]["cells"]
    sweep, _, runs = read_study("little")
    assert sweep.refine is not None
    refiner = Refiner(sweep.refine, sweep.axes, sweep.cells(), sweep.scenario.slo.objective)
    refiner.take(runs)
    assert [len(jobs) for jobs in refiner.rounds()] == [48, 4]
    assert "?" in boundary_text(refiner)
    assert np.isclose(sum(s.runs for s in refiner.standings.values()), 52)


def test_all_mistakes_of_a_refinement_are_told_at_once(at_home: Path, invoke: Invoke) -> None:
    given = (*STUDY[:-6], "--vary", "fault.duration_s=20,forever", "--depth", "2", "--width", "0.9")
    result = invoke(*given, "--refine", "incidents", "--replications", "3")
    assert result.code == 2
    for what in ("did you mean 'incident'?", "--replications must be absent beside refine"):
        assert what in result.err
    result = invoke(*given, "--refine", "incident", "--level", "1.5")
    assert result.code == 2
    for what in ("half-width must be", "level must lie within", "nothing halfway to forever"):
        assert what in result.err
    result = invoke(*STUDY[:-6], "--depth", "2")
    assert result.code == 2
    assert "there is no --refine MEASURE" in result.err
