"""What the moment of a fault changes: the designs are paired, and what they find is what there is."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from ruamel.yaml import YAML

from agent.evaluation.sweep import Crew, FaultSpec, Sweep
from agent.evaluation.timing import earlier
from agent.evaluation.timing.action import action_moment
from agent.evaluation.timing.arms import Arm, Outcomes, compared, restricted_ttm
from agent.evaluation.timing.telemetry import slow_telemetry
from agent.evaluation.timing.warmup import detector_warmup
from agent.evaluation.timing.wave import first_harmonic, load_wave
from simcore.errors import InputError
from simcore.model.faults import parse_fault
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from tests.conftest import TINY, Invoke

Floats = npt.NDArray[np.float64]

WAVE = TINY.replace("timeout_s: 2\n", "timeout_s: 2\n  shape: sinusoidal\n  amplitude: 0.5\n  period_s: 800\n")
FAULT = FaultSpec("latency_spike@db", onset_s=75.0, severity=0.9)
RUNS = 5


def scenario_of(text: str) -> Scenario:
    return build_scenario(YAML(typ="safe", pure=True).load(text))


@pytest.fixture(scope="module")
def tiny() -> Scenario:
    return scenario_of(WAVE)


def sweep_of(scenario: Scenario, *faults: FaultSpec) -> Sweep:
    parts = {"detector": "threshold", "diagnoser": "max_score", "policy": "noop"}
    return Sweep(scenario, replications=RUNS, faults=faults or (FAULT,), **parts)


def outcomes(budget: Floats) -> Outcomes:
    return Outcomes(budget, budget, *(np.zeros(budget.size) for _ in range(4)))


def noise(*shape: int) -> Floats:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(11))).standard_normal(shape)


def test_the_first_harmonic_is_found_where_there_is_one_and_not_in_noise() -> None:
    turns = np.arange(8) / 8
    wave = 3.0 + 2.0 * np.cos(2 * np.pi * (turns - 0.3)) + noise(40, 1) + 0.5 * noise(40, 8)
    amplitude, turn, p = first_harmonic(wave)
    assert (amplitude, turn) == (pytest.approx(2.0, abs=0.15), pytest.approx(0.3, abs=0.02))
    assert p < 1e-10
    found = [first_harmonic(noise(400, 8).reshape(20, 20, 8)[i])[2] for i in range(20)]
    assert sum(p < 0.05 for p in found) <= 4
    assert math.isnan(first_harmonic(np.ones((10, 8)))[2])


def test_times_to_mitigation_are_restricted_to_the_follow_up() -> None:
    table = pl.DataFrame(
        {
            "censored_s": [200.0, 200.0, 200.0, None],
            "fault_onset_s": [80.0, 80.0, 80.0, None],
            "incident": [True, True, False, False],
            "ttm_s": [35.0, None, None, None],
        }
    )
    assert restricted_ttm(table).tolist()[:3] == [35.0, 120.0, 0.0]
    assert math.isnan(restricted_ttm(table)[3])


def test_arms_are_compared_run_by_run_and_the_p_values_adjusted() -> None:
    base = 10.0 * noise(30)
    arms = [Arm({"x": i}, 0) for i in range(4)]
    found = compared(
        arms, {i: outcomes(base + shift * np.arange(30) / 29) for i, shift in enumerate((0.0, 1.0, 0.0, -2.0))}, seed=1
    )
    assert [row["verdict"] for row in found] == ["-", "worse", "not shown", "better"]
    assert found[1]["difference"] == pytest.approx(0.5)
    assert found[1]["difference_high"] - found[1]["difference_low"] < 0.3
    assert found[2]["difference"] == 0.0
    assert found[1]["p"] == pytest.approx(3 * 2 / 10_001)
    assert [row["x"] for row in compared(arms, {0: outcomes(base), 3: outcomes(base)}, seed=1)] == [0, 3]


def test_the_wave_is_turned_under_the_fault(tiny: Scenario) -> None:
    study = sweep_of(tiny)
    found = load_wave(study, ("noop",), Crew(study), onset_s=75.0, positions=4)
    assert [row["point"] for row in found.rows] == ["mean, rising", "crest", "mean, falling", "trough"]
    assert [row["load"] for row in found.rows] == pytest.approx([1.0, 1.5, 1.0, 0.5])
    assert {row["runs"] for row in found.rows} == {RUNS}
    assert found.rows[3]["difference"] is None
    # a saturated db loses more requests while the load is high
    assert found.rows[1]["budget"] > found.rows[3]["budget"]
    flat = sweep_of(scenario_of(TINY))
    with pytest.raises(InputError, match="must be sinusoidal"):
        load_wave(flat, ("noop",), Crew(flat), onset_s=75.0)


def test_without_an_agent_nothing_depends_on_the_control_step_or_the_lag(tiny: Scenario) -> None:
    study = sweep_of(tiny)
    found = slow_telemetry(study, ("noop", "threshold_rules"), Crew(study), steps_s=(2.5, 5.0), lags_s=(2.5, 5.0, 10.0))
    assert [(row["control_step_s"], row["scrape_lag_s"]) for row in found.rows[:5]] == [
        (2.5, 2.5), (2.5, 5), (2.5, 10), (5, 5), (5, 10)
    ]  # fmt: skip
    assert {row["budget"] for row in found.rows[:5]} == {found.rows[0]["budget"]}
    assert [row["difference"] for row in found.rows[:5]] == [None, 0.0, 0.0, 0.0, 0.0]
    # detection comes later the later the scrape
    assert found.rows[2]["ttd_s"] > found.rows[0]["ttd_s"]
    assert "loses nothing, in any run" in found.sentences[0]


def test_steps_that_do_not_divide_the_episode_are_refused(tiny: Scenario) -> None:
    study = sweep_of(tiny)
    with pytest.raises(InputError) as told:
        slow_telemetry(study, ("noop",), Crew(study), steps_s=(7.0,), lags_s=(7.0,))
    assert "control_step_s: timing.steps last 300 s and must be a multiple of the step of 7 s" in str(told.value)


def test_what_two_faults_cost_beyond_their_sum_is_the_interaction(tiny: Scenario) -> None:
    neither, later, first = noise(20), 2.0 + noise(20), 3.0 + noise(20)
    both = first + later - neither + 1.5
    corners = dict(enumerate(map(outcomes, (neither, later, first, both))))
    row = earlier._rows(corners, ("noop",), (60.0,), 1)[0]
    assert row["difference"] == pytest.approx(1.5)
    assert row["verdict"] == "worse"
    assert row["both"] == pytest.approx(float(both.mean()))
    study = sweep_of(tiny, FaultSpec("error_burst@db", duration_s=30.0), FAULT)
    found = earlier.earlier_fault(study, ("noop",), Crew(study), onset_s=90.0, gaps_s=(30.0,))
    row = found.rows[0]
    assert row["neither"] < min(row["earlier"], row["later"])
    assert row["difference"] == pytest.approx(row["both"] - row["earlier"] - row["later"] + row["neither"])
    with pytest.raises(InputError, match="an earlier and a later fault"):
        earlier.earlier_fault(sweep_of(tiny), ("noop",), Crew(study), onset_s=90.0)


def test_an_action_before_and_after_the_end_of_the_trigger(tiny: Scenario) -> None:
    fault = parse_fault("latency_spike@db", tiny, onset_s=62.0, severity=0.9, place="version")
    found = action_moment(
        tiny, fault, "rollback(db)", durations_s=(40.0,), delays_s=(10.0, 60.0), runs=RUNS, seed=1
    )  # fmt: skip
    nobody, before, after = found.rows
    assert [row["when"] for row in found.rows] == ["nobody acts", "before the end", "after the end"]
    assert (before["effect_s"], before["taken"], nobody["taken"]) == (15.0, 1.0, 0.0)
    assert before["budget"] < nobody["budget"]
    assert len(found.sentences) == 3
    with pytest.raises(InputError) as told:
        action_moment(tiny, fault, "rolback(db)", durations_s=(-1.0,), delays_s=(-5.0,), runs=2, seed=1)
    assert "did you mean 'rollback(db)'" in str(told.value)
    assert len(str(told.value).splitlines()) == 3


def test_a_fault_within_the_warm_up_is_missed_by_the_detector_that_fits_itself(tiny: Scenario) -> None:
    fault = parse_fault("latency_spike@db", tiny, severity=0.9)
    found = detector_warmup(
        tiny, fault, "noop", diagnoser="max_score", shares=(0.5, 1.4), warmup_steps=14, runs=RUNS, seed=1
    )
    assert [row["when"] for row in found.rows] == ["warming up", "warming up", "warm", "warm"]
    fitted, itself = found.rows[:2]
    assert itself["missed"] > fitted["missed"]
    assert itself["difference"] == 0.0  # noop does not act on it
    with pytest.raises(InputError, match="leaves no follow-up"):
        detector_warmup(tiny, fault, "noop", diagnoser="max_score", shares=(9.0,), runs=2, seed=1)


def test_the_command_tells_all_mistakes_at_once(invoke: Invoke, tmp_path: Path) -> None:
    wrong = ["--positions", "6", "--fault", "nothing@db", "--policy", "nop", "--out", "x.txt", "--onset", "soon"]
    result = invoke("timing", "wave", *wrong)
    assert result.code == 2
    for what in ("--positions must be", "no fault type", "did you mean 'noop'", "--out must name", "--onset: a time"):
        assert what in result.err
    result = invoke("timing", "telemetry", "--lags", "a,b", "--control-steps", "-1")
    assert result.code == 2
    assert len(result.err.splitlines()) == 2


def test_the_command_writes_its_table_and_json(invoke: Invoke, tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.yaml"
    scenario.write_text(WAVE, encoding="utf-8")
    out = tmp_path / "table.csv"
    given = ["--scenario", str(scenario), "--fault", "latency_spike@db", "--runs", "4", "--quiet"]
    result = invoke(
        "timing", "action", *given, "--action", "rollback(db)", "--durations", "30", "--delays", "10", "--json",
        "--out", str(out), "--onset", "60", "--png", str(tmp_path / "picture.png"),
    )  # fmt: skip
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["analysis"] == "action"
    assert [row["when"] for row in told["rows"]] == ["nobody acts", "before the end"]
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert pl.read_csv(out)["budget"].to_list() == [row["budget"] for row in told["rows"]]
