"""Studies: rounds, learning between them, replays, and comparisons."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agent.evaluation import training
from agent.evaluation.render import comparison, curve_text, learning_curve, summary
from agent.evaluation.study import Study, evaluate, pack, state_id, unpack, with_steps
from agent.evaluation.timeline import clock
from agent.evaluation.training import fault_free, trained_detector
from agent.registry import make_policy
from simcore.errors import ResultsError
from simcore.model.faults import parse_fault
from simcore.model.loader import build_scenario, load_scenario
from simcore.model.scenario import Scenario
from simcore.telemetry.tables import SCHEMAS, empty
from simcore.telemetry.writers import ResultsWriter, describe
from tests.conftest import TINY

PARTS: dict[str, Any] = {"detector": "isolation_forest", "diagnoser": "causal_rank"}


@pytest.fixture
def scenario(tiny: str) -> Scenario:
    return load_scenario(tiny)


def study_of(scenario: Scenario, *policies: str, **more: Any) -> Study:
    settings: dict[str, Any] = {"seed": 5, "episodes": 6, "round_size": 2, "policies": policies} | PARTS | more
    return Study(scenario, **settings)


def written(study: Study, folder: Path, **how: Any) -> dict[str, bytes]:
    metadata = describe(study.scenario, seed=study.seed, arguments=study.arguments())
    with ResultsWriter(folder, metadata=metadata) as writer:
        evaluate(study, writer=writer, **how)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "metadata.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_tables_are_byte_identical_for_any_number_of_threads(scenario: Scenario, tmp_path: Path) -> None:
    study = study_of(scenario, "bandit", "threshold_rules", twins=True)
    one = written(study, tmp_path / "one", threads=1)
    two = written(study, tmp_path / "two", threads=2)
    assert {name.split("/")[0] for name in one} >= {"episodes", "steps", "decisions", "diagnoses", "actions"}
    assert one == two


def test_both_engines_give_the_same_tables(scenario: Scenario) -> None:
    study = study_of(scenario, "bandit", episodes=4)
    batch, simpy = (evaluate(study, engine=engine).episodes for engine in ("batch", "simpy"))
    assert batch.drop("engine").equals(simpy.drop("engine"))


def test_without_learning_the_round_size_does_not_matter(scenario: Scenario) -> None:
    small, large = (evaluate(study_of(scenario, "threshold_rules", round_size=n)).episodes for n in (1, 6))
    assert small.drop("round").equals(large.drop("round"))


def test_a_run_does_not_depend_on_how_many_runs_there_are(scenario: Scenario) -> None:
    few, many = (evaluate(study_of(scenario, episodes=n)).episodes for n in (2, 6))
    assert few.equals(many.head(2))


def test_a_policy_learns_between_rounds_and_is_frozen_within_them(scenario: Scenario) -> None:
    outcome = evaluate(study_of(scenario, "bandit", round_size=3))
    states = outcome.episodes.select("round", "policy_state").unique(maintain_order=True)
    assert states["round"].to_list() == [0, 1]
    assert states["policy_state"][0] == state_id(make_policy("bandit").state())
    assert states["policy_state"][0] != states["policy_state"][1]
    assert set(outcome.states) == set(states["policy_state"])
    assert outcome.learned["bandit"]["experience"]


def test_a_study_goes_on_from_what_was_learned(scenario: Scenario) -> None:
    whole = evaluate(study_of(scenario, "bandit"))
    first = evaluate(study_of(scenario, "bandit", episodes=2))
    assert state_id(first.learned["bandit"]) == whole.episodes["policy_state"][2]
    later = evaluate(study_of(scenario, "bandit"), learned=first.learned)
    assert later.episodes["policy_state"][0] == whole.episodes["policy_state"][2]


def test_a_frozen_policy_does_not_learn(scenario: Scenario) -> None:
    outcome = evaluate(study_of(scenario, "bandit", frozen=True))
    assert outcome.episodes["policy_state"].n_unique() == 1


def test_in_shadow_mode_the_world_goes_on_as_without_an_agent(scenario: Scenario) -> None:
    shadow = evaluate(study_of(scenario, "random", shadow=True))
    alone = evaluate(study_of(scenario))
    world = ["run", "offered", "good", "bad", "errors", "violation_steps", "actions", "j"]
    assert shadow.episodes.select(world).equals(alone.episodes.select(world))
    assert shadow.episodes["anomaly_steps"].sum() > 0
    assert alone.episodes["anomaly_steps"].null_count() == 6


def test_twins_say_which_runs_were_at_risk(scenario: Scenario) -> None:
    outcome = evaluate(study_of(scenario, "noop", "bandit", twins=True))
    noop, bandit = outcome.episodes.partition_by("policy", maintain_order=True)
    noop, bandit = noop.sort("run"), bandit.sort("run")
    assert noop["noop_incident"].to_list() == noop["incident"].to_list()
    assert bandit["noop_incident"].to_list() == noop["incident"].to_list()


def test_policies_meet_the_same_faults_and_requests(scenario: Scenario) -> None:
    outcome = evaluate(study_of(scenario, "noop", "random"))
    noop, other = (part.sort("run") for part in outcome.episodes.partition_by("policy", maintain_order=True))
    same = ["run", "fault_type", "fault_severity", "fault_onset_s", "offered"]
    assert noop.select(same).equals(other.select(same))


def test_progress_ends_with_all_runs(scenario: Scenario) -> None:
    told: list[float] = []
    evaluate(study_of(scenario, "noop", "random", episodes=3), on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 6


def test_an_interrupted_study_holds_whole_rounds(scenario: Scenario) -> None:
    def press(runs: float) -> None:
        if runs > 2:
            signal.raise_signal(signal.SIGINT)

    outcome = evaluate(study_of(scenario, "bandit"), on_progress=press)
    assert outcome.interrupted
    assert outcome.episodes["run"].to_list() == [0, 1]


def test_a_study_survives_its_metadata(scenario: Scenario) -> None:
    fault = parse_fault("latency_spike@db", scenario, onset_s=60.0)
    study = study_of(scenario, "noop", "bandit", faults=(fault,), shadow=True)
    metadata = json.loads(json.dumps(describe(scenario, seed=5, arguments=study.arguments())))
    assert Study.from_metadata(metadata) == study


def test_metadata_that_were_changed_are_refused(scenario: Scenario) -> None:
    metadata = describe(scenario, seed=5, arguments=study_of(scenario).arguments())
    other = metadata | {"scenario": metadata["scenario"] | {"version": 2}}
    with pytest.raises(ResultsError, match="its hash differs"):
        Study.from_metadata(other)
    with pytest.raises(ResultsError, match="do not describe a study"):
        Study.from_metadata(metadata | {"arguments": {}})


def test_a_policy_state_survives_packing_and_damage_is_seen() -> None:
    state = {"name": "bandit", "experience": {"db": [1, 2.5]}}
    assert unpack(pack(state)) == state
    with pytest.raises(ResultsError, match="damaged"):
        unpack(pack(state)[:-7])


@pytest.mark.parametrize("steps", [1, 7, 24, 59, 60, 100])
def test_a_scenario_with_other_steps_is_still_valid(steps: int) -> None:
    import io

    from ruamel.yaml import YAML

    scenario = build_scenario(YAML(typ="safe").load(io.StringIO(TINY)))
    assert scenario.digest
    changed = with_steps(scenario, steps)
    timing, onset_s = changed.timing, changed.faults.onset_s
    assert timing.steps == steps
    assert onset_s.max < steps * timing.step_s
    if steps > 1:
        assert onset_s.max + timing.follow_up_steps * timing.step_s <= steps * timing.step_s
    assert (changed.digest == scenario.digest) == (steps == 60)
    if steps >= 60:
        assert changed.faults == scenario.faults


def test_a_trained_detector_is_kept_and_found_again(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "cache_root", lambda: tmp_path)
    made: list[str] = []

    def counted(*arguments: Any, **more: Any) -> Any:
        made.append(more["split"])
        return fault_free(*arguments, **more)

    monkeypatch.setattr(training, "fault_free", counted)
    first = trained_detector("isolation_forest", scenario, seed=0)
    assert made == ["train", "calibrate"]
    assert trained_detector("isolation_forest", scenario, seed=0).state() == first.state()
    assert len(made) == 2
    trained_detector("isolation_forest", scenario, seed=1)
    trained_detector("isolation_forest", replace_rate(scenario), seed=0)
    assert len(made) == 6
    for file in (tmp_path / "detectors").iterdir():
        file.write_text("{")
    assert trained_detector("isolation_forest", scenario, seed=0).state() == first.state()
    assert len(made) == 8


def replace_rate(scenario: Scenario) -> Scenario:
    data = scenario.model_dump()
    return Scenario.model_validate(data | {"workload": data["workload"] | {"rate_rps": 9.0}})


def episodes_of(**columns: list[Any]) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    rows = pl.concat([empty("episodes")] + [pl.DataFrame(schema=SCHEMAS["episodes"]).clear(1)] * height)
    return rows.with_columns(
        pl.Series(name, values, dtype=SCHEMAS["episodes"][name]) for name, values in columns.items()
    )


def test_the_learning_curve_has_a_point_per_round_and_a_short_text() -> None:
    rounds = 20
    table = episodes_of(
        policy=["bandit"] * (2 * rounds),
        round=[i // 2 for i in range(2 * rounds)],
        run=list(range(2 * rounds)),
        error_budget_spent=[float(i // 2) for i in range(2 * rounds)],
        j=[0.0] * (2 * rounds),
    )
    curve = learning_curve(table)
    assert [point["error_budget_spent"] for point in curve] == [float(i) for i in range(rounds)]
    assert len(curve_text(table).splitlines()) <= 10
    assert "0-2" in curve_text(table)
    assert curve_text(table.filter(pl.col("round") == 0)) == ""


def test_a_summary_names_policies_and_faults(scenario: Scenario) -> None:
    study = study_of(scenario, "noop", "bandit")
    episodes = evaluate(study).episodes
    text = summary(episodes)
    assert text.index("policy noop") < text.index("policy bandit")
    assert {line.split()[0] for line in text.splitlines() if line} >= {"fault", "all"}
    assert "bandit - noop" in comparison(episodes, seed=1)


def test_a_study_without_policies_has_no_agent(scenario: Scenario) -> None:
    outcome = evaluate(replace(study_of(scenario), detector="", diagnoser=""))
    assert outcome.episodes["policy"].null_count() == 6
    assert "no agent" in summary(outcome.episodes)
    assert outcome.states == {}


def test_clock_shows_minutes_and_seconds() -> None:
    assert [clock(0), clock(65), clock(3605)] == ["0:00", "1:05", "60:05"]
