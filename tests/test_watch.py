"""Several detectors on the same simulated runs."""

from __future__ import annotations

import dataclasses
import json

import polars as pl
import pytest

from agent.detectors import threshold
from agent.evaluation.study import Study, evaluate, with_steps
from agent.evaluation.watch import Watched, watch
from simcore.model.loader import load_scenario
from tests.conftest import Invoke

SHOP = with_steps(load_scenario("three_tier"), 60)


def but_cost(rows: list[Watched]) -> list[Watched]:
    return [dataclasses.replace(row, cost=0.0) for row in rows]


def test_what_a_detector_gets_does_not_depend_on_threads_or_on_who_else_watches() -> None:
    both = watch(SHOP, ("threshold", "zscore"), seed=4, episodes=12, clean=3, threads=2)
    alone = watch(SHOP, ("zscore",), seed=4, episodes=12, clean=3, threads=1)
    assert (both.runs, both.interrupted) == (15, False)
    one, other = but_cost(both.rows)[1], but_cost(alone.rows)[0]
    gaps = {"gap_s": None, "gap_low_s": None, "gap_high_s": None}
    assert dataclasses.replace(one, **gaps) == dataclasses.replace(other, **gaps)  # type: ignore[arg-type]
    assert alone.rows[0].gap_s == 0.0
    assert all(row.cost > 0 for row in both.rows)


def test_it_counts_as_a_study_does_in_which_nobody_acts() -> None:
    study = Study(SHOP, seed=4, episodes=12, detector="threshold", diagnoser="max_score", policies=("noop",))
    table = evaluate(study).episodes
    (row,) = watch(SHOP, ("threshold",), seed=4, episodes=12, clean=1).rows
    real = table.filter(pl.col("incident"))
    assert real.height >= 3
    assert row.recall == pytest.approx(real["ttd_s"].is_not_null().mean())  # type: ignore[arg-type]
    faulty = table.filter(pl.col("fault_onset_s").is_not_null())
    assert row.recall_all == pytest.approx(faulty["ttd_s"].is_not_null().mean())  # type: ignore[arg-type]
    found = sorted(real["ttd_s"].drop_nulls().to_list())
    assert row.ttd_median_s in found


def test_what_was_finished_before_ctrl_c_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def stop(runs: float) -> None:
        seen.append(runs)
        raise KeyboardInterrupt

    found = watch(SHOP, ("threshold",), seed=4, episodes=60, clean=20, on_progress=stop)
    assert found.interrupted
    assert found.runs == seen[0] == 40
    assert found.rows[0].hours == pytest.approx(10 * 60 * 5 / 3600)


def test_the_command_tells_it_as_text_and_as_json(invoke: Invoke) -> None:
    command = ["detect", "watch", "--steps", "60", "--episodes", "6", "--clean", "2", "--detector", "threshold,zscore"]
    assert threshold.ThresholdDetector.name in invoke(*command).out
    told = json.loads(invoke(*command, "--json").out)
    assert [row["detector"] for row in told["detectors"]] == ["threshold", "zscore"]
    assert told["runs"] == 8


def test_the_command_tells_all_mistakes_at_once(invoke: Invoke) -> None:
    result = invoke("detect", "watch", "--scenario", "three_tir", "--detector", "zscor,ewma,ewma", "--episodes", "0")
    assert result.code == 2
    result = invoke("detect", "watch", "--scenario", "three_tir", "--detector", "zscor,ewma,ewma")
    assert result.code == 2
    for part in ("three_tir", "did you mean 'zscore'", "names something twice"):
        assert part in result.err
