"""Diagnoses held against what ablation finds."""

from __future__ import annotations

import json

import polars as pl
import pytest

from agent.evaluation.ablation import Cause, Sustaining, Trigger
from agent.evaluation.panel import consult
from agent.evaluation.study import Study
from agent.evaluation.truth import places_of, rejudge
from docs.phenomena.common import pair
from simcore.model.faults import parse_fault
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario
from tests.conftest import Invoke

STORM: Scenario = pair(load=0.8, steps=130)
DIP = parse_fault("cpu_throttle@db", STORM, onset_s=5.0, severity=0.9, duration_s=4.0)
RUN = make_run(STORM, seed=7, split="test", run=0, faults=(DIP,))
NAMES = STORM.service_names


def table(diagnosed: str | None) -> pl.DataFrame:
    schema = {
        "run": pl.Int64, "diagnosed": pl.String, "diagnosed_s": pl.Float64, "t_v_s": pl.Float64, "ttl_s": pl.Float64,
        "ac1": pl.Float64, "ac3": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame([(0, diagnosed, 20.0, 9.0, 1.0, 0.5, 0.5)], schema=schema, orient="row")


def test_in_a_retry_storm_trigger_and_sustaining_cause_are_not_at_the_same_place() -> None:
    by = {truth: rejudge(table("front"), STORM, [RUN], truth) for truth in ("injected", "trigger", "sustaining")}
    assert by["injected"].equals(table("front"))
    assert by["trigger"]["ac1"].to_list() == [0.0]
    assert by["sustaining"]["ac1"].to_list() == [1.0]
    assert by["trigger"]["ac3"].to_list() == [None]
    assert rejudge(table("db"), STORM, [RUN], "trigger")["ac1"].to_list() == [1.0]
    assert rejudge(table(None), STORM, [RUN], "trigger")["ac1"].to_list() == [0.0]


def test_where_there_is_nothing_to_find_nobody_is_judged() -> None:
    weak = parse_fault("cpu_throttle@db", STORM, onset_s=5.0, severity=0.01, duration_s=4.0)
    calm = make_run(STORM, seed=7, split="test", run=0, faults=(weak,))
    for truth in ("trigger", "sustaining"):
        assert rejudge(table("db"), STORM, [calm], truth)["ac1"].to_list() == [None]


def test_either_end_of_an_edge_counts_and_the_workload_has_a_name() -> None:
    edge = Sustaining(True, False, (Cause(0, 1, 0, "net_delay"), Cause(-1, 0, -1, "process")), False)
    assert places_of(edge, RUN, NAMES) == {"db", "front"}
    surge = Sustaining(True, False, (Cause(0, -1, -2, "traffic_surge"),), False)
    assert places_of(surge, RUN, NAMES) == {"workload"}
    elsewhere = Sustaining(True, False, (Cause(-1, 0, -1, "retries"),), False)
    assert places_of(elsewhere, RUN, NAMES) == {"front"}
    assert places_of(Sustaining(True, False, (), True), RUN, NAMES) == {"db"}
    assert places_of(Sustaining(True, True, (), False), RUN, NAMES) == frozenset()
    assert places_of(Trigger(True, True, (False,), (False,)), RUN, NAMES) == frozenset()


def test_a_panel_can_be_judged_by_ablation(tiny: str) -> None:
    from simcore.model.loader import load_scenario

    study = Study(
        load_scenario(tiny), seed=4, episodes=6, split="tune", round_size=4, detector="threshold", shadow=True
    )
    names = ["max_z", "own_excess"]
    injected, trigger = (consult(study, names, truth=truth).episodes for truth in ("injected", "trigger"))
    rest = pl.exclude("ac1", "ac3", "ttl_s")
    assert trigger.select(rest).equals(injected.select(rest))
    assert trigger["ac1"].null_count() >= injected["ac1"].null_count()
    both = trigger["ac1"].is_not_null()
    # a single fault that is the trigger: where it was put is the truth
    assert trigger.filter(both)["ac1"].to_list() == injected.filter(both)["ac1"].to_list()


@pytest.mark.parametrize("truth", ["trigger", "sustaining"])
def test_the_command_takes_the_truth(truth: str, invoke: Invoke) -> None:
    size = ["--episodes", "2", "--steps", "50", "--fault", "latency_spike@db", "--onset", "100", "--severity", "0.9"]
    result = invoke(
        "rca", "simulate", *size, "--detector", "threshold", "--diagnoser", "max_z", "--truth", truth, "--json"
    )
    assert result.code == 0
    found = json.loads(result.out)
    assert found["truth"] == truth
    assert invoke("rca", "simulate", "--truth", "guess").code == 2
