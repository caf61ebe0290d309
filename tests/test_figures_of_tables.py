"""Tables as figures: every number where it belongs, and a picture of each."""

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from agent.evaluation.drawing import draw
from agent.evaluation.figures import Bars, Curves, Figure, Forest, HeatMap
from agent.evaluation.figures_of_tables import (
    accuracy_of,
    budgets_of,
    calibration_of,
    caution_of,
    detectors_of,
    estimates_of,
    stages_of,
)
from agent.evaluation.pictures import save
from agent.evaluation.watch import Watched
from tests.conftest import Invoke

_EMPTY = {field.name: None for field in dataclasses.fields(Watched)}
WATCHED = [
    Watched(**_EMPTY | {"detector": "loud", "false_per_h": 3.0, "false_low_per_h": 1.0, "false_high_per_h": 7.0}),
    Watched(**_EMPTY | {"detector": "unheard"}),
]
LEVELS = [
    {"coverage": None, "harmed": 0.0, "harmed_low": 0.0, "harmed_high": 0.0},
    {"coverage": 0.9, "harmed": 0.2, "harmed_low": 0.1, "harmed_high": 0.3},
    {"coverage": 0.1, "harmed": 0.05, "harmed_low": 0.0, "harmed_high": None},
]
AUDIT = [
    {"policy": "p", "estimator": "ips", "truth": 0.5, "low": 0.4, "high": 0.9, "error": 0.15, "covered": True},
    {"policy": "p", "estimator": "dr", "truth": 0.5, "low": 0.6, "high": 0.7, "error": 0.15, "covered": False},
    {"policy": "q", "estimator": "dr", "truth": None, "low": None, "high": None, "error": None, "covered": False},
]
STAGES = [
    {"stage": "detection", "lost": 1.0, "low": 0.5, "high": 1.5, "share": 0.25},
    {"stage": "all", "lost": 4.0, "low": 3.0, "high": 5.0, "share": None},
]
BINS = [{"mean": 0.4, "right": 0.5}, {"mean": 0.9, "right": 0.85}]
FAULTS = pl.DataFrame({"fault": ["slow", "all"], "runs": [2, 2], "sage": [1.0, 1.0], "fool": [0.5, None]})


def figures() -> dict[str, Figure | None]:
    return {
        "detectors": detectors_of(WATCHED),
        "caution": caution_of(LEVELS),
        "estimates": estimates_of(AUDIT),
        "stages": stages_of(STAGES),
        "calibration": calibration_of(BINS),
        "accuracy": accuracy_of(FAULTS, ["sage", "fool"]),
    }


@pytest.mark.parametrize("name", list(figures()))
def test_every_table_can_be_drawn(name: str, tmp_path: Path) -> None:
    figure = figures()[name]
    assert figure is not None
    assert figure.key == name
    save(draw(figure), str(tmp_path / "picture.svg"))
    drawn = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert f"<!-- {figure.title} -->" in drawn


def test_what_is_unknown_is_left_out() -> None:
    detectors, caution, estimates = detectors_of(WATCHED), caution_of(LEVELS), estimates_of(AUDIT)
    assert isinstance(detectors, Forest)
    assert [row.name for row in detectors.rows] == ["loud"]
    assert isinstance(caution, Curves)
    assert caution.curves[0].x == (0.1, 0.9)
    assert isinstance(estimates, Forest)
    assert [row.name for row in estimates.rows] == ["p: ips", "p: dr"]
    accuracy = accuracy_of(FAULTS, ["sage", "fool"])
    assert isinstance(accuracy, HeatMap)
    assert len(accuracy.cells) == 3
    assert detectors_of(WATCHED[1:]) is caution_of(LEVELS[:2]) is estimates_of(AUDIT[2:]) is None


def test_an_estimate_stands_as_far_from_the_line_as_from_the_truth() -> None:
    found = estimates_of(AUDIT)
    assert isinstance(found, Forest)
    assert found.rows[1].low == pytest.approx(0.1)
    assert found.rows[1].high == pytest.approx(0.2)
    assert [row.note for row in found.rows] == ["", "misses the truth"]


def test_eval_draws_the_budget_by_fault_where_nobody_learns(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    picture, table = tmp_path / "budget.svg", tmp_path / "rows.parquet"
    given = ("eval", "--scenario", tiny, "--episodes", 3, "--no-agent", "--out", table, "--png", picture)
    result = invoke(*given)
    assert result.code == 0
    assert f"picture in {picture}" in result.err
    bars = budgets_of(pl.read_parquet(table))
    assert isinstance(bars, Bars)
    drawn = picture.read_text(encoding="utf-8")
    assert all(f"<!-- {bar.name} -->" in drawn for bar in bars.bars)


def test_a_picture_that_cannot_be_written_is_told_of_with_everything_else(invoke: Invoke, tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.touch()
    for command in (("isolate",), ("abstain",), ("ope",), ("rca", "simulate"), ("detect", "watch"), ("eval",)):
        result = invoke(*command, "--scenario", "nowhere", "--png", there)
        assert result.code == 2
        assert f"--png: {there} exists; use --force to replace it" in result.err, command
        assert "nowhere" in result.err
        assert "--png must name a .png or .svg file" in invoke(*command, "--png", tmp_path / "picture.gif").err
