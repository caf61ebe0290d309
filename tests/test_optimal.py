"""Optimal-action maps: their cells, confidence, table, picture and command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import cli
from agent.evaluation.optimal import Cell, Grid, cells_of, map_table, map_text
from agent.evaluation.pictures import draw_map, save
from simcore.errors import InputError
from simcore.model.faults import parse_fault
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.telemetry.tables import schema_of


def three(steps: int = 40) -> Scenario:
    whole = load_scenario("three_tier").model_dump()
    whole["timing"] |= {"steps": steps, "burn_in_steps": 6, "follow_up_steps": 20}
    return Scenario.model_validate(whole)


THREE = three()
FAULT = parse_fault("error_burst@api", THREE, onset_s=0.0, severity=0.5, place="version")


def grid(**parts: Any) -> Grid:
    usual = {"loads": (1.0, 1.3), "severities": (0.005, 0.9), "onsets_s": (30.0,), "delays": (4,), "runs": 2}
    return Grid(FAULT, **(usual | {"horizon": 24} | parts))


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return list(cells_of(THREE, grid(), seed=4, threads=1))


def test_a_bad_version_is_rolled_back_if_it_hurts_and_left_alone_if_it_does_not(cells: list[Cell]) -> None:
    best = {(cell.load, cell.severity): cell.names[cell.best] for cell in cells}
    assert set(best) == {(1.0, 0.005), (1.0, 0.9), (1.3, 0.005), (1.3, 0.9)}
    assert best[1.0, 0.9] == "rollback(api)"
    assert best[1.0, 0.005] == "noop"
    for cell in cells:
        assert cell.names[0] == "noop"
        assert cell.confidence.sum() == pytest.approx(1.0)


def test_a_cell_does_not_depend_on_the_others(cells: list[Cell]) -> None:
    (alone,) = cells_of(THREE, grid(loads=(1.3,), severities=(0.9,)), seed=4, threads=1)
    one = next(cell for cell in cells if (cell.load, cell.severity) == (1.3, 0.9))
    np.testing.assert_array_equal(alone.j, one.j)
    np.testing.assert_array_equal(alone.confidence, one.confidence)


def made(j: list[list[float]]) -> Cell:
    from agent.evaluation.optimal import _confidence

    values = np.array(j)
    return Cell(1.0, 0.5, 300.0, 3, values.shape[1], ("noop", "restart(db)"), values, 0.0, _confidence(values, 1))


def test_confidence_is_full_if_every_run_agrees_and_split_if_they_do_not() -> None:
    sure = made([[0.0] * 8, [0.1, 0.2, 0.3, 0.1, 0.1, 0.2, 0.1, 0.3]])
    assert sure.confidence.tolist() == [0.0, 1.0]
    torn = made([[0.0] * 8, [1.0, -1.0] * 4])
    assert 0.4 < torn.confidence[0] < 0.9
    assert "?" in map_text([torn])
    assert "restart(db) 100%" in map_text([sure])


def test_the_table_has_a_row_per_cell_and_action(cells: list[Cell]) -> None:
    table = map_table(cells, THREE, FAULT, seed=3, split="test")
    assert table.schema == schema_of("optimal_actions")
    assert table.height == sum(len(cell.names) for cell in cells)
    assert table["best"].sum() == len(cells)
    assert table.filter(pl.col("action") == "noop")["j_gain"].to_list() == [0.0] * len(cells)


def test_a_map_is_drawn(cells: list[Cell], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are an extra")
    for name in ("map.png", "again.png", "map.svg"):
        save(draw_map(cells, "best action"), str(tmp_path / name))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "map.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert "<svg" in (tmp_path / "map.svg").read_text()


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ({"loads": (0.0,)}, "--loads must be above 0"),
        ({"loads": ()}, "--loads must be one value or more"),
        ({"severities": (1.2,)}, "--severities must be above 0, up to 1, got 1.2"),
        ({"delays": (3, 3)}, "--delays must be step counts >= 0, each once"),
        ({"runs": 1}, "--runs must be >= 2"),
        ({"horizon": 0}, "--horizon must be >= 1 step"),
        ({"onsets_s": (195.0,)}, "leave room for the action before 200 s"),
    ],
)
def test_grids_that_do_not_fit_are_refused(parts: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        next(cells_of(THREE, grid(**parts), seed=3))


def test_a_fixed_number_of_users_has_no_other_load() -> None:
    clinic = load_scenario("clinic")
    if clinic.workload.closed is None:
        whole = clinic.model_dump()
        whole["workload"]["closed"] = {"users": 5, "think": {"mean_s": 1.0}}
        clinic = Scenario.model_validate(whole)
    fault = parse_fault("latency_spike@" + clinic.service_names[0], clinic, onset_s=0.0, severity=0.5)
    with pytest.raises(InputError, match="fixed number"):
        next(cells_of(clinic, Grid(fault, loads=(2.0,), onsets_s=(30.0,)), seed=1))


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    out = capsys.readouterr()
    return int(ended.value.code or 0), out.out, out.err


def test_the_command_maps_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "map.parquet"
    size = ["--steps", "40", "--loads", "1", "--severities", "0.9", "--onsets", "6steps", "--delays", "4"]
    more = [
        "--runs",
        "2",
        "--horizon",
        "20",
        "--fault",
        "error_burst@api",
        "--place",
        "version",
        "--out",
        str(target),
        "--quiet",
    ]
    code, out, _ = ran(capsys, "map", *size, *more)
    assert code == 0
    assert "rollback(api)" in out
    table = pl.read_parquet(target)
    assert table.schema == schema_of("optimal_actions")
    assert table["onset_s"].unique().to_list() == [30.0]
    assert json.loads((tmp_path / "map.parquet.meta.json").read_text(encoding="utf-8"))["rows"] == table.height


def test_the_command_reports_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--loads", "a", "--onsets", "soon", "--delays", "1.5", "--fault", "nothing@db", "--png", "map.jpg"]
    code, _, err = ran(capsys, "map", *wrong)
    assert code == 2
    for text in (
        "--loads must be numbers",
        "--onsets",
        "whole steps",
        "nothing",
        "--png must name a .png or .svg file",
    ):
        assert text in err
    code, _, err = ran(capsys, "map", "--runs", "1", "--severities", "2")
    assert code == 2
    assert len(err.splitlines()) == 2
