"""Several diagnosers on the same simulated incidents."""

from __future__ import annotations

import json

import polars as pl
import pytest

from agent.evaluation.panel import by_fault, consult
from agent.evaluation.study import Study, evaluate
from simcore.model.loader import load_scenario
from tests.conftest import Invoke

NAMES = ["causal_rank", "max_z", "own_excess"]
JUDGED = ["run", "fault_type", "diagnosed", "diagnosed_s", "ttl_s", "ac1", "ac3"]


@pytest.fixture
def study(tiny: str) -> Study:
    return Study(
        load_scenario(tiny), seed=4, episodes=12, split="tune", round_size=8, detector="threshold", shadow=True
    )


def test_a_member_of_a_panel_is_judged_as_if_it_were_in_charge(study: Study) -> None:
    outcome = consult(study, NAMES)
    assert outcome.episodes.height == 12 * len(NAMES)
    judged = 0
    for name in NAMES:
        alone = Study(
            study.scenario, seed=4, episodes=12, split="tune", round_size=8, detector="threshold",
            diagnoser=name, policies=("noop",), shadow=True,
        )  # fmt: skip
        expected = evaluate(alone).episodes
        found = outcome.episodes.filter(pl.col("diagnoser") == name)
        assert found.select(JUDGED).rows() == expected.select(JUDGED).rows()
        judged += expected["ac1"].is_not_null().sum()
    assert judged >= 3 * len(NAMES)


def test_cost_is_measured_beside_the_simulation(study: Study) -> None:
    outcome = consult(study, NAMES)
    assert set(outcome.cpu_s) == set(NAMES)
    assert all(seconds > 0 for seconds in outcome.cpu_s.values())
    assert outcome.simulation_cpu_s > 0


def test_the_table_by_fault_counts_runs_once_and_means_over_them() -> None:
    rows = [
        {"diagnoser": name, "seed": 1, "split": "test", "run": run, "fault_type": fault, "ac1": ac1}
        for name, hits in (("a", (1.0, 0.0, None, 1.0)), ("b", (0.0, 0.0, None, 1.0)))
        for run, (fault, ac1) in enumerate(zip(("x", "x", "x", "y"), hits, strict=True))
    ]
    found = by_fault(pl.DataFrame(rows))
    assert found.rows() == [
        ("x", 2, 0.5, 0.0),
        ("y", 1, 1.0, 1.0),
        ("all", 3, pytest.approx(2 / 3), pytest.approx(1 / 3)),
    ]
    assert by_fault(pl.DataFrame(rows).filter(pl.col("ac1").is_null())).height == 0


def test_the_command_shows_ac1_by_fault_and_the_cost(tiny: str, invoke: Invoke) -> None:
    told = (
        "rca", "simulate", "--scenario", tiny, "--episodes", 6, "--detector", "threshold", "--diagnoser", "baro,max_z",
        "--fault", "error_burst@db", "--onset", "60", "--severity", "0.9", "--quiet",
    )  # fmt: skip
    result = invoke(*told)
    assert result.code == 0, result.err
    assert result.out.splitlines()[2].split() == ["runs", "baro", "max_z"]
    assert [line.split()[0] for line in result.out.splitlines()[3:]] == ["error_burst", "all", "cost"]
    found = json.loads(invoke(*told, "--json").out)
    assert found["ac1"][-1]["fault"] == "all"
    assert set(found["cost"]) == {"baro", "max_z"}


def test_a_mistake_in_a_name_is_told_with_the_others(invoke: Invoke) -> None:
    result = invoke("rca", "simulate", "--diagnoser", "max_y", "--scenario", "three_tears", "--detector", "thresold")
    assert result.code == 2
    for part in ("did you mean 'max_z'", "did you mean 'three_tier'", "did you mean 'threshold'"):
        assert part in result.err
