"""Studies as a library: keys, axes, designs, runs that are paired, and the numbers of a cell."""

import math

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from agent.evaluation.study import Study, evaluate
from agent.evaluation.sweep import Axis, Cell, Crew, FaultSpec, Sweep, Worlds, parse_axis, play
from agent.evaluation.sweep.axes import Value
from agent.evaluation.sweep.cells import cells_table, differences_table, interval_of, until_of
from agent.evaluation.sweep.design import cells_of
from agent.evaluation.sweep.keys import key_of
from agent.evaluation.sweep.playing import batches, jobs_of, play_batch
from agent.evaluation.sweep.text import study_text
from agent.evaluation.training import fault_free, normal_of, trained_detector
from simcore.errors import InputError
from simcore.model.keypath import locate, value_at, with_value
from simcore.model.loader import build_scenario, load_scenario
from simcore.model.scenario import Scenario
from tests.conftest import TINY


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario(YAML(typ="safe").load(TINY))


def sweep_of(scenario: Scenario, *axes: Axis, **more: object) -> Sweep:
    settings = {"detector": "threshold", "diagnoser": "max_score", "policy": "noop", "replications": 2} | more
    return Sweep(scenario=scenario, axes=axes, **settings)  # type: ignore[arg-type]


ONSETS = Axis("fault.onset_s", (60.0, 100.0))
POLICIES = Axis("policy", ("noop", "threshold_rules"))
BURST = (FaultSpec("error_burst@db", severity=0.9),)


@pytest.fixture(scope="module")
def paired(scenario: Scenario) -> tuple[Sweep, pl.DataFrame]:
    """Return a study of three axes and its runs."""
    sweep = sweep_of(scenario, ONSETS, Axis("load", (1.0, 1.5)), POLICIES, faults=BURST)
    return sweep, play(sweep, sweep.cells(), range(sweep.replications))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("services.db.threads", 16),
        ("services.db.replicas.initial", 3),
        ("workload.entries[api.buy].weight", 0.15),
        ("workload.entries[0].weight", 0.85),
        ("faults.mix.bad_deploy.weight", 13),
        ("services.api.operations.browse.steps[0].cpu.mean_s", 0.008),
        ("services.api.pools.db.size", 10),
        ("workload.deadline_s", None),
    ],
)
def test_a_key_path_finds_and_changes_one_value(text: str, value: Value) -> None:
    plain = load_scenario("three_tier").model_dump()
    path = locate(plain, text)
    assert value_at(plain, path) == value
    changed = with_value(plain, path, 77)
    assert value_at(changed, path) == 77
    assert value_at(plain, path) == value
    assert {key for key in plain if changed[key] is not plain[key]} == {path[0]}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("services.db.thread", "there is no 'thread' in services.db; did you mean 'threads'?"),
        ("services.db.cache.slots", "services.db.cache is absent in this scenario"),
        ("services.db", "is not a single value; name one of its members: replicas"),
        ("workload.rate_rps.max", "no 'max' in workload.rate_rps, which is a single value"),
        ("faults.mix[77].weight", "there is no '77' in faults.mix"),
        ("fault.onset", "a fault has no 'onset'; did you mean 'onset_s'?"),
        ("polcy", "there is no such key; did you mean 'policy'?"),
        ("services..db", "must look like"),
    ],
)
def test_a_key_that_is_not_there_is_named_with_what_is(text: str, rule: str) -> None:
    with pytest.raises(InputError) as error:
        key_of(text, load_scenario("three_tier").model_dump(), step_s=5.0)
    assert rule in str(error.value)


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("fault.onset_s", "60:180:60", (60.0, 120.0, 180.0)),
        ("fault.onset_s", "1min,24steps", (60.0, 120.0)),
        ("fault.duration_s", "60,forever", (60.0, -1.0)),
        ("fault.severity", "0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("services.db.replicas.initial", "2:4:1", (2, 3, 4)),
        ("workload.rate_rps", "20,40", (20.0, 40.0)),
        ("workload.random_phase", "true,false", (True, False)),
        ("workload.deadline_s", "none,2", (None, 2.0)),
        ("services.db.balancer", "random,round_robin", ("random", "round_robin")),
        ("fault", "net_delay@api:db,bad_deploy@api", ("net_delay@api:db", "bad_deploy@api")),
    ],
)
def test_values_are_typed_by_what_they_are_for(key: str, text: str, values: tuple[Value, ...]) -> None:
    found = key_of(key, load_scenario("three_tier").model_dump(), step_s=5.0)
    axis = parse_axis(key, text, parse=found.parse, numeric=found.numeric, whole=found.whole)
    assert axis.values == values
    assert [type(value) for value in axis.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("600:60:20", "must be start:stop:step with stop >= start"),
        ("60:600:0", "step > 0"),
        ("0:1e8:1", "at most 10000 values, got 100000001"),
        ("1,,2", "has an empty value"),
        ("1,1", "has a value twice"),
        ("x,y", "must be a number, got 'x'\nmust be a number, got 'y'"),
        ("2..1", "must be a range a..b with a < b"),
        ("0..1:log", "must begin above 0"),
        ("nan", "must be a finite number"),
    ],
)
def test_a_spec_that_makes_no_sense_is_told(text: str, rule: str) -> None:
    key = key_of("load", load_scenario("three_tier").model_dump(), step_s=5.0)
    with pytest.raises(InputError) as error:
        parse_axis("load", text, parse=key.parse, numeric=key.numeric)
    assert rule in str(error.value)


def test_a_grid_has_every_combination_once_the_last_axis_fastest() -> None:
    cells = cells_of([Axis("a", (1, 2)), Axis("b", ("x", "y", "z"))], samples=0, seed=1)
    assert [cell.values for cell in cells] == [(a, b) for a in (1, 2) for b in "xyz"]
    assert [cell.number for cell in cells] == list(range(6))


def test_a_latin_hypercube_meets_every_part_of_every_range_once() -> None:
    axes = [Axis("a", low=0.0, high=8.0), Axis("p", ("x", "y")), Axis("b", low=1.0, high=256.0, log=True)]
    cells = cells_of(axes, samples=8, seed=3)
    assert len(cells) == 16
    of_x = [cell.values for cell in cells if cell.values[1] == "x"]
    of_y = [cell.values for cell in cells if cell.values[1] == "y"]
    assert [(a, b) for a, _, b in of_x] == [(a, b) for a, _, b in of_y]
    assert sorted(int(a) for a, _, _ in of_x) == list(range(8))  # type: ignore[arg-type]
    assert sorted(int(math.log2(b)) for _, _, b in of_x) == list(range(8))  # type: ignore[arg-type]
    assert cells_of(axes, samples=8, seed=4) != cells
    whole = cells_of([Axis("n", low=2, high=5, whole=True)], samples=400, seed=1)
    counts = np.unique([cell.values[0] for cell in whole], return_counts=True)
    assert counts[0].tolist() == [2, 3, 4, 5]
    assert abs(counts[1] - 100).max() <= 1


def test_a_study_survives_its_metadata(scenario: Scenario) -> None:
    sweep = sweep_of(scenario, ONSETS, Axis("load", low=0.5, high=2.0, log=True), samples=3, design="lhs", faults=BURST)
    metadata = {
        "scenario": scenario.model_dump(mode="json"), "scenario_hash": scenario.digest,
        "axes": [axis.plain() for axis in sweep.axes], "arguments": sweep.arguments(),
    }  # fmt: skip
    assert Sweep.from_metadata(metadata) == sweep


def test_a_cell_has_the_scenario_the_faults_and_the_agent_that_its_values_say(scenario: Scenario) -> None:
    axes = (
        Axis("load", (2.0,)), Axis("action_delay_s", (30.0,)), Axis("services.db.threads", (3,)),
        Axis("fault.target", ("api",)), Axis("fault.severity", (0.3,)), POLICIES,
    )  # fmt: skip
    worlds = Worlds(sweep_of(scenario, *axes, faults=BURST))
    cell = worlds.sweep.cells()[1]
    made = worlds.scenario(cell)
    assert (made.workload.rate_rps, made.services["db"].threads) == (16.0, 3)
    assert {name: spec.delay_s for name, spec in made.actions.items()} == dict.fromkeys(scenario.actions, 35.0)
    (fault,) = worlds.faults(cell, 0)
    assert (fault.type, fault.service, fault.severity) == ("error_burst", 0, 0.3)
    parts = worlds.parts(cell)
    assert parts is not None
    assert parts.policy == "threshold_rules"
    assert scenario.workload.rate_rps == 8.0


def test_a_drawn_fault_changes_only_in_what_varies(scenario: Scenario) -> None:
    plain, moved = Worlds(sweep_of(scenario, Axis("load", (1.0,)))), Worlds(sweep_of(scenario, ONSETS))
    for run in range(6):
        before, after = plain.faults(Cell(0, (1.0,)), run), moved.faults(Cell(0, (60.0,)), run)
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert other.onset_s == 60.0
            assert (one.type, one.target, one.severity) == (other.type, other.target, other.severity)


@pytest.mark.parametrize(
    ("axes", "faults", "rule"),
    [
        ((Axis("load", (1.0,)), Axis("workload.rate_rps", (8.0,))), (), "load: changes workload.rate_rps"),
        ((Axis("fault.target", ("db",)),), (), "fault.target: needs a fault that is not drawn"),
        ((ONSETS,), (*BURST, *BURST), "there are 2 faults, name one of them: fault[0].onset_s or fault[1].onset_s"),
        ((Axis("fault[3].onset_s", (60.0,)),), BURST, "there is no fault of that number"),
        ((Axis("fault", ("none",)), Axis("fault.type", ("none",))), (), "leaves no room for fault.type"),
        ((ONSETS, ONSETS), BURST, "fault.onset_s: is varied twice"),
    ],
)
def test_keys_that_do_not_go_together_are_told(
    scenario: Scenario, axes: tuple[Axis, ...], faults: tuple[FaultSpec, ...], rule: str
) -> None:
    with pytest.raises(InputError) as error:
        Worlds(sweep_of(scenario, *axes, faults=faults))
    assert rule in str(error.value)


def test_rules_that_cells_break_are_told_once_each_with_a_place(scenario: Scenario) -> None:
    axes = (Axis("services.db.threads", (4, 0)), Axis("fault.severity", (0.5, 7.0)), POLICIES)
    found = Worlds(sweep_of(scenario, *axes, faults=BURST)).mistakes(sweep_of(scenario, *axes).cells())
    assert found == [
        "fault error_burst@db: severity must be > 0 and <= 1, got 7 (at services.db.threads=4, fault.severity=7)",
        "services.db.threads must be >= 1, got 0 (at services.db.threads=0, fault.severity=0.5)",
    ]
    drawn = Worlds(sweep_of(scenario, Axis("fault.severity", (7.0,))))
    assert "severity must be > 0 and <= 1, got 7" in drawn.mistakes([Cell(0, (7.0,))])[0]


def test_the_runs_of_a_cell_are_those_that_eval_gives(paired: tuple[Sweep, pl.DataFrame]) -> None:
    sweep, runs = paired
    for number in (1, 6):
        cell = sweep.cells()[number]
        worlds = Worlds(sweep)
        parts = worlds.parts(cell)
        assert parts is not None
        study = Study(
            scenario=worlds.scenario(cell), seed=sweep.seed, episodes=2, detector=parts.detector, frozen=True,
            diagnoser=parts.diagnoser, policies=(parts.policy,), faults=worlds.faults(cell, 0),
        )  # fmt: skip
        alone = evaluate(study).episodes
        assert runs.filter(pl.col("cell") == number).select(alone.columns).equals(alone)


def test_cells_and_policies_are_compared_on_the_same_randomness(paired: tuple[Sweep, pl.DataFrame]) -> None:
    _, runs = paired
    before = runs.filter((pl.col("load") == 1.0) & (pl.col("policy") == "noop"))
    assert before["run"].to_list() == [0, 1, 0, 1]
    offered = before.group_by("replication").agg(pl.col("offered").unique())
    assert offered["offered"].list.len().to_list() == [1, 1]
    assert runs["row"].to_list() == list(range(16))
    assert runs["weight"].unique().to_list() == [1.0]


def test_results_do_not_depend_on_batches_engine_or_threads(scenario: Scenario) -> None:
    sweep = sweep_of(scenario, ONSETS, POLICIES, faults=BURST, twins=True)
    whole = play(sweep, sweep.cells(), range(2))
    worlds, crew = Worlds(sweep), Crew(sweep)
    small = list(batches(worlds, jobs_of(sweep.cells(), range(2)), size=1))
    assert [batch.runs for batch in small] == [2, 2, 2, 2]
    pieces = pl.concat(
        play_batch(worlds, crew, batch, engine="simpy" if i % 2 else "batch", threads=1)
        for i, batch in enumerate(small)
    )
    assert whole.drop("engine").equals(pieces.sort("row").drop("engine"))
    mine = whole.filter((pl.col("policy") == "noop") & (pl.col("actions") == 0))
    assert mine.height
    assert mine["noop_j"].to_list() == mine["j"].to_list()


def test_a_study_without_an_agent_plays_the_system_alone(scenario: Scenario) -> None:
    sweep = sweep_of(scenario, ONSETS, faults=BURST, detector="", diagnoser="", policy="")
    runs = play(sweep, sweep.cells(), range(1))
    assert runs["policy"].to_list() == [None, None]
    with pytest.raises(InputError, match="there is no agent"):
        Worlds(sweep_of(scenario, POLICIES, detector="", diagnoser="", policy=""))


def test_a_detector_learns_the_same_from_the_normal_of_a_scenario(scenario: Scenario) -> None:
    changed = scenario.model_dump() | {"actions": {}, "observation": {"lag_steps": 4}}
    other = Scenario.model_validate(changed)
    assert normal_of(other).digest == normal_of(scenario).digest
    assert normal_of(with_rate(scenario, 9.0)).digest != normal_of(scenario).digest
    one, two = (fault_free(of, seed=0, split="train", runs=2) for of in (scenario, normal_of(scenario)))
    np.testing.assert_array_equal(one, two)


def with_rate(scenario: Scenario, rate_rps: float) -> Scenario:
    plain = scenario.model_dump()
    return Scenario.model_validate(plain | {"workload": plain["workload"] | {"rate_rps": rate_rps}})


def test_a_crew_trains_for_each_system_or_for_the_one_before_anything_varies(scenario: Scenario) -> None:
    faster = with_rate(scenario, 20.0)
    own = Crew(sweep_of(scenario, ONSETS, detector="zscore")).detector(faster, "zscore").state()
    base = Crew(sweep_of(scenario, ONSETS, detector="zscore", detector_from="base")).detector(faster, "zscore").state()
    assert own == trained_detector("zscore", faster, seed=0).state()
    assert base == trained_detector("zscore", scenario, seed=0).state()
    assert own != base


def test_a_cells_numbers_are_those_of_its_runs(paired: tuple[Sweep, pl.DataFrame]) -> None:
    sweep, runs = paired
    table = cells_table(runs, sweep.axes)
    assert table["n"].to_list() == [2] * 8
    for row in table.iter_rows(named=True):
        mine = runs.filter(pl.col("cell") == row["cell"])
        spent = mine["error_budget_spent"].to_numpy()
        assert row["error_budget_spent_mean"] == pytest.approx(spent.mean())
        # Student's t with one degree of freedom
        half = 12.7062047364 * spent.std(ddof=1) / math.sqrt(2)
        assert row["error_budget_spent_high"] == pytest.approx(spent.mean() + half)
        assert row["error_budget_spent_p90"] == pytest.approx(np.quantile(spent, 0.9))
        assert row["incident_mean"] == mine["incident"].mean()
        follow_up = mine["censored_s"] - mine["fault_onset_s"]
        ttm = pl.select(pl.when(mine["incident"]).then(mine["ttm_s"].fill_null(follow_up)).otherwise(0.0)).to_series()
        assert row["ttm_s_mean"] == pytest.approx(np.minimum(ttm.to_numpy(), until_of(runs)).mean())
        assert (row["load"], row["policy"]) == (mine["load"][0], mine["policy"][0])


def test_intervals_are_unknown_or_exact_where_there_is_little() -> None:
    assert all(math.isnan(x) for x in interval_of(np.array([np.nan])))
    one = interval_of(np.array([3.0, np.nan]))
    assert one.value == 3.0
    assert math.isnan(one.low)
    share = interval_of(np.ones(10), share=True)
    assert share.low == pytest.approx(0.6915, abs=1e-4)  # Clopper and Pearson, 10 of 10
    assert share.high == 1.0


def test_policies_are_compared_run_by_run_in_each_setting(paired: tuple[Sweep, pl.DataFrame]) -> None:
    sweep, runs = paired
    table = differences_table(runs, sweep.axes)
    assert table.select("fault.onset_s", "load", "policy", "against", "n").rows() == [
        (onset, load, "threshold_rules", "noop", 2) for onset in (60.0, 100.0) for load in (1.0, 1.5)
    ]
    first = runs.filter((pl.col("fault.onset_s") == 60.0) & (pl.col("load") == 1.0)).sort("replication")
    mine, other = (first.filter(pl.col("policy") == name)["j"].to_numpy() for name in ("threshold_rules", "noop"))
    assert table["j_difference"][0] == pytest.approx((mine - other).mean())
    half = 12.7062047364 * (mine - other).std(ddof=1) / math.sqrt(2)
    assert table["j_low"][0] == pytest.approx((mine - other).mean() - half)
    back = differences_table(runs, sweep.axes, against="threshold_rules")
    assert back["j_difference"].to_list() == pytest.approx([-x for x in table["j_difference"].to_list()])
    assert differences_table(runs, sweep.axes[:2]).height == 0


def test_the_text_shows_a_map_a_table_or_means_and_fits_80_columns(paired: tuple[Sweep, pl.DataFrame]) -> None:
    sweep, runs = paired
    cells, differences = cells_table(runs, sweep.axes), differences_table(runs, sweep.axes)
    text = study_text(sweep, cells, differences, until_s=until_of(runs))
    assert "follow-up budget, noop: fault.onset_s down, load across" in text
    assert "against noop" in text
    one = sweep_of(sweep.scenario, ONSETS)
    table = study_text(one, cells.filter(pl.col("cell") < 2), differences.head(0), until_s=90.0)
    assert "restricted to 90 s" in table
    wide = tuple(float(n) for n in range(60))
    many = sweep_of(sweep.scenario, Axis("a", wide), Axis("b", wide))
    made = pl.DataFrame({"a": np.repeat(wide, 60), "b": np.tile(wide, 60)}).with_columns(
        pl.lit(2).alias("n"), pl.col("a").alias("error_budget_spent_mean")
    )
    drawn = study_text(many, made, differences.head(0), until_s=None)
    assert f"59{'█' * 60}" in drawn
    for line in (text + "\n" + table + "\n" + drawn).splitlines():
        assert len(line) <= 80, line
