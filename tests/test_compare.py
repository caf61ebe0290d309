"""Comparisons: what is paired with what, who counts, what is shown, and who must lose."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from agent.api import Choices, Situation
from agent.evaluation.compare import PRIMARY_MEASURE, SECONDARY, Comparison, compare
from agent.evaluation.contest import Contestant, Plan, contestants, hold, train
from agent.evaluation.durability import durable, struck_again
from agent.evaluation.report import by_fault, controls, report
from agent.evaluation.study import Study, noop_twins
from agent.evaluation.taught import learns
from agent.evaluation.training import trained_detector
from agent.evaluation.unseen import train_unseen, unseen_contestants, unseen_types
from agent.loop import Agent
from agent.policies.base import FixedPolicy, pick
from agent.registry import POLICIES, make_diagnoser, make_policy
from simcore.codes import ActionCode
from simcore.env import Episodes
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.observation import ActionTable, Topology
from simcore.telemetry.tables import SCHEMAS, empty
from tests.conftest import TINY

MEASURES = (PRIMARY_MEASURE, *SECONDARY)


def made(n: int, **columns: Any) -> pl.DataFrame:
    """Return n rows of the episodes table: runs 0 to n - 1 with a fault, at risk, and what is given."""
    usual: dict[str, Any] = {
        "policy": "noop", "split": "test", "seed": 1, "run": list(range(n)), "fault_type": "bad_deploy",
        "fault_onset_s": 300.0, "censored_s": 840.0, "noop_incident": True, "incident": True, "steps": 240,
        "step_s": 5.0, "error_budget_spent": 2.0, "j": -0.1, "noop_j": -0.1, "false_actions": 0, "action_cost": 0.0,
        "actions": 0, "relapses": 0, "durable": False,
    }  # fmt: skip
    rows = pl.concat([empty("episodes"), pl.DataFrame(schema=SCHEMAS["episodes"]).clear(n)])
    given = {
        name: value if isinstance(value, (list, np.ndarray)) else [value] * n
        for name, value in (usual | columns).items()
    }
    return rows.with_columns(
        pl.Series(name, values, dtype=SCHEMAS["episodes"][name], strict=False) for name, values in given.items()
    )


def row_of(table: pl.DataFrame, policy: str, measure: str = "error_budget_spent") -> dict[str, Any]:
    return table.row(by_predicate=(pl.col("policy") == policy) & (pl.col("measure") == measure), named=True)


def test_a_comparison_is_paired_by_run() -> None:
    own = np.linspace(0.0, 50.0, 8)
    noop, bandit = made(8, error_budget_spent=own), made(8, policy="bandit", error_budget_spent=own - 0.5)
    found = compare(Comparison(pl.concat([noop, bandit.reverse()]), seed=1))
    row = row_of(found, "bandit")
    assert (row["against"], row["runs"], row["verdict"]) == ("noop", 8, "better")
    assert [row[name] for name in ("difference", "difference_low", "difference_high")] == pytest.approx([-0.5] * 3)
    assert row["value"] == pytest.approx(24.5)
    assert row_of(found, "noop")["verdict"] is None


def test_runs_that_one_policy_lacks_are_left_out() -> None:
    table = pl.concat([made(6), made(4, policy="bandit", error_budget_spent=1.0)])
    assert compare(Comparison(table, seed=1))["runs"].to_list() == [4, 4]


def test_no_difference_is_said_to_be_no_difference_shown() -> None:
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence(1))).normal(0.0, 1.0, 60)
    table = pl.concat([made(60, error_budget_spent=2.0), made(60, policy="other", error_budget_spent=2.0 + noise)])
    row = row_of(compare(Comparison(table, seed=1)), "other")
    assert row["difference_low"] < 0.0 < row["difference_high"]
    assert row["verdict"] == "no difference shown"


def test_a_worse_policy_is_called_worse() -> None:
    table = pl.concat([made(40), made(40, policy="bad", error_budget_spent=3.0, action_cost=0.1)])
    found = compare(Comparison(table, seed=1), measures=MEASURES)
    assert row_of(found, "bad")["verdict"] == "worse"
    assert row_of(found, "bad", "action_cost")["verdict"] == "worse"


def test_trainings_widen_the_interval_and_are_counted() -> None:
    lucky = [made(30, policy="bandit", training=k, error_budget_spent=1.0 + 0.4 * k) for k in range(5)]
    row = row_of(compare(Comparison(pl.concat([made(30), *lucky]), seed=1)), "bandit")
    assert (row["trainings"], row["runs"]) == (5, 30)
    assert row["value"] == pytest.approx(1.8)
    assert row["difference_low"] < -0.5
    assert row["difference_high"] > 0.1
    assert row["verdict"] == "no difference shown"


def test_an_incident_that_was_prevented_counts_as_recovered_at_once_and_not_as_missing() -> None:
    ttm = [None, None, 60.0, 120.0]
    table = pl.concat([made(4), made(4, policy="bandit", incident=[False, True, True, True], ttm_s=ttm)])
    runs = Comparison(table, seed=1)
    found = compare(runs, measures=MEASURES)
    assert row_of(found, "bandit", "prevented")["value"] == 0.25
    assert row_of(found, "bandit", "recovered")["value"] == 0.75
    assert row_of(found, "noop", "recovered")["value"] == 0.0
    # prevented 0, censored at the end of the follow-up, and the two that recovered
    assert row_of(found, "bandit", "ttm_restricted_s")["value"] == pytest.approx((0 + 540 + 60 + 120) / 4)
    assert row_of(found, "noop", "ttm_restricted_s")["value"] == 540.0
    assert runs.survival("bandit").share.tolist() == [0.75, 0.5, 0.25]


def test_at_risk_is_what_the_noop_twin_says_for_every_policy() -> None:
    risk = [True, True, False, False]
    own = made(
        4, policy="bandit", noop_incident=risk, incident=[True, False, True, False], ttm_s=[9.0, None, 9.0, None]
    )
    found = compare(Comparison(pl.concat([made(4, noop_incident=risk, incident=risk), own]), seed=1), measures=MEASURES)
    assert row_of(found, "bandit", "recovered")["runs"] == row_of(found, "noop", "recovered")["runs"] == 2
    assert row_of(found, "bandit", "prevented")["value"] == 0.5


def test_harm_is_a_j_below_the_noop_twins_by_more_than_the_margin() -> None:
    table = pl.concat([made(4), made(4, policy="bandit", j=[-0.105, -0.111, -0.3, 0.0])])
    for margin, share in ((0.01, 0.5), (0.001, 0.75), (0.5, 0.0)):
        found = compare(Comparison(table, seed=1, margin=margin), measures=MEASURES)
        assert row_of(found, "bandit", "harmed")["value"] == share
        assert row_of(found, "bandit", "harmed")["high"] > share


def test_false_actions_are_per_hour_without_a_fault_with_an_exact_bound() -> None:
    clear = {"fault_type": "none", "fault_onset_s": None, "censored_s": None, "noop_incident": False, "incident": False}
    table = pl.concat([made(3, **clear), made(3, policy="bandit", false_actions=[1, 0, 1], **clear)])
    found = compare(Comparison(table, seed=1), measures=MEASURES)
    row = row_of(found, "bandit", "false_actions")
    assert row["value"] == pytest.approx(2.0)  # two in three runs of twenty minutes
    assert row["high"] == pytest.approx(7.2247, abs=1e-3)
    assert row_of(found, "noop", "false_actions")["high"] == pytest.approx(3.6889, abs=1e-3)


def test_secondary_measures_are_corrected_for_their_number_and_the_primary_is_not() -> None:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(9)))
    gap = generator.normal(-0.31, 1.0, 50)
    table = pl.concat([made(50), made(50, policy="bandit", error_budget_spent=2.0 + gap, action_cost=gap)])
    found = compare(Comparison(table, seed=1), measures=MEASURES)
    primary, cost = row_of(found, "bandit"), row_of(found, "bandit", "action_cost")
    assert primary["p"] == cost["p"]
    assert primary["p"] < 0.05 < cost["p_holm"]
    assert (primary["verdict"], cost["verdict"]) == ("better", "no difference shown")
    assert primary["p_holm"] is None


def test_a_report_names_the_primary_measure_and_every_control() -> None:
    clear = {"fault_type": "none", "fault_onset_s": None, "censored_s": None, "noop_incident": False, "incident": False}
    more = {"run": [10, 11, 12]}
    parts = [made(5), made(3, **clear, **more)]
    parts += [made(5, policy="bandit", durable=True, ttm_s=60.0, relapses=1), made(3, policy="bandit", **clear, **more)]
    table = pl.concat(parts)
    runs = Comparison(table, seed=1)
    checked = controls(runs)
    assert [(row["clear_runs"], row["no_effect_runs"], row["relapses"]) for row in checked] == [
        (3, 0, 0.0),
        (3, 0, 1.0),
    ]
    faults = by_fault(table, seed=1, margin=0.01, against="noop")
    assert faults["fault_type"].unique(maintain_order=True).to_list() == ["bad_deploy", "none"]
    text = report(runs, compare(runs, measures=MEASURES), faults, checked)
    for words in (
        "primary measure: error_budget_spent",
        "Holm over",
        "5 runs at risk",
        "no difference shown",
        "relapses",
    ):
        assert words in text


# --- the trigger strikes again


SHOP = TINY.replace("scale: {", "limit_traffic: {delay_s: 0, settle_s: 5, cost: 0.001, values: [0.05]}\n  scale: {")


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    import io

    from ruamel.yaml import YAML

    return build_scenario(YAML(typ="safe").load(io.StringIO(SHOP)))


def played(scenario: Scenario, fault: Fault, *actions: tuple[int, str]) -> tuple[Episodes, list[bool | None]]:
    runs = [make_run(scenario, seed=2, split="test", run=run, faults=(fault,)) for run in range(3)]
    episodes = Episodes(scenario, runs)
    orders = dict(actions)
    while not episodes.finished:
        if episodes.step in orders:
            episodes.act(np.full(3, episodes.actions.names.index(orders[episodes.step])))
        episodes.advance()
    return episodes, durable(episodes, [True, True, False])


def fault_of(scenario: Scenario, text: str, **how: Any) -> Fault:
    return parse_fault(text, scenario, onset_s=75.0, severity=1.0, **how)


def test_what_was_mended_at_its_place_stays_mended_when_the_trigger_strikes_again(scenario: Scenario) -> None:
    fault = fault_of(scenario, "error_burst@db", place="version")
    _, found = played(scenario, fault, (20, "rollback(db)"))
    assert found == [True, True, None]


def test_a_fault_that_nobody_mends_is_not_recovered_from_for_good(scenario: Scenario) -> None:
    assert played(scenario, fault_of(scenario, "error_burst@db", place="version"))[1] == [False, False, None]


def test_what_ended_by_itself_comes_back_with_its_trigger(scenario: Scenario) -> None:
    fault = fault_of(scenario, "error_burst@db", place="outside", duration_s=40.0)
    episodes, found = played(scenario, fault)
    assert not episodes.incident_open[:, -1].any()
    assert found == [False, False, None]


def test_the_second_strike_changes_nothing_before_it(scenario: Scenario) -> None:
    fault = fault_of(scenario, "latency_spike@db", duration_s=40.0)
    run = make_run(scenario, seed=2, split="test", run=0, faults=(fault,))
    once, twice = Episodes(scenario, [run]), Episodes(scenario, [struck_again(run, 200.0)])
    once.advance_to_end()
    twice.advance_to_end()
    np.testing.assert_array_equal(once.metrics[:, :40], twice.metrics[:, :40])
    assert (once.bad != twice.bad)[:, 40:48].any()
    times = [change.time_s for change in twice.runs[0].inputs.changes]
    assert times == sorted(times)


# --- contests


class ShutOff(FixedPolicy):
    """Turns nearly everybody away as soon as it is asked."""

    name: ClassVar[str] = "shut_off"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        self._limit = int(np.argmin(np.where(actions.code == ActionCode.LIMIT_TRAFFIC, actions.amount, np.inf)))

    def decide(self, situation: Situation) -> Choices:
        allowed = situation.allowed[:, self._limit]
        return pick(np.where(allowed, self._limit, 0), lambda row: "nobody in, nobody hurt")


class ScaleUp(FixedPolicy):
    """Adds replicas wherever it may."""

    name: ClassVar[str] = "scale_up"

    def start(self, topology: Topology, actions: ActionTable) -> None:
        self._more = (actions.code == ActionCode.SCALE) & (actions.amount > 0)

    def decide(self, situation: Situation) -> Choices:
        allowed = situation.allowed & self._more
        return pick(np.where(allowed.any(1), allowed.argmax(1), 0), lambda row: "more is more")


@pytest.fixture(scope="module")
def study(scenario: Scenario) -> Study:
    return Study(
        scenario, seed=5, episodes=24, round_size=6, detector="threshold", diagnoser="causal_rank",
        policies=("noop", "playbook", "expert"), frozen=True, twins=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def contest(study: Study) -> pl.DataFrame:
    detector = trained_detector("threshold", study.scenario, seed=0)
    cheats = [
        Contestant(policy.name, Agent(detector, make_diagnoser("causal_rank"), policy), "threshold", "causal_rank")
        for policy in (ShutOff(), ScaleUp())
    ]
    return hold(study, [*contestants(study, detector, {}), *cheats]).episodes


def test_who_shuts_traffic_off_or_scales_to_the_limit_loses(contest: pl.DataFrame) -> None:
    found = compare(Comparison(contest, seed=1), against="expert")
    assert row_of(found, "shut_off")["verdict"] == "worse"
    assert row_of(found, "scale_up")["verdict"] == "worse"
    assert row_of(compare(Comparison(contest, seed=1)), "shut_off")["verdict"] == "worse"
    assert row_of(compare(Comparison(contest, seed=1)), "playbook")["verdict"] == "better"


def test_everybody_meets_the_same_runs_and_the_same_twins(contest: pl.DataFrame, study: Study) -> None:
    same = ["run", "fault_type", "fault_onset_s", "offered", "noop_incident", "noop_j"]
    first, *others = contest.partition_by("policy", maintain_order=True)
    assert all(part.select(same).equals(first.select(same)) for part in others)
    noop = contest.filter(pl.col("policy") == "noop")
    assert noop["j"].to_list() == noop["noop_j"].to_list()
    assert first["noop_incident"].to_list()[:6] == noop_twins(study, study.runs(0, 6))["noop_incident"]
    assert first["noop_incident"].sum() > 5


def test_a_contest_does_not_depend_on_the_size_of_its_rounds(contest: pl.DataFrame, study: Study) -> None:
    detector = trained_detector("threshold", study.scenario, seed=0)
    again = hold(replace(study, round_size=12), contestants(study, detector, {})).episodes
    of = contest.filter(pl.col("policy").is_in(["noop", "playbook"])).drop("round").sort("policy", "run")
    assert again.filter(pl.col("policy") != "expert").drop("round").sort("policy", "run").equals(of)


def test_trainings_are_on_runs_of_their_own_and_give_states_of_their_own(study: Study) -> None:
    detector = trained_detector("threshold", study.scenario, seed=0)
    plan = Plan(trainings=2, train_episodes=6)
    told: list[float] = []
    states = train(study, "bandit", plan, detector, on_progress=told.append)
    assert len(states) == 2
    assert states[0] != states[1]
    assert told == sorted(told)
    assert told[-1] == 12
    assert train(study, "bandit", Plan(trainings=1, train_episodes=6), detector) == states[:1]
    players = contestants(replace(study, policies=("noop", "bandit")), detector, {"bandit": states})
    assert [(player.label, player.training) for player in players] == [("noop", None), ("bandit", 0), ("bandit", 1)]
    table = hold(replace(study, episodes=2), players, replays=False).episodes
    assert table["training"].to_list() == [None, None, 0, 0, 1, 1]
    assert table["durable"].null_count() == 6


def test_which_policies_learn_is_known() -> None:
    assert learns("bandit")
    assert not learns("playbook")
    assert all(isinstance(learns(name), bool) for name in POLICIES)
    assert make_policy("noop").state()["name"] == "noop"


def test_whoever_decides_in_a_run_has_never_met_its_fault(study: Study) -> None:
    detector = trained_detector("threshold", study.scenario, seed=0)
    plan = Plan(trainings=2, train_episodes=6)
    assert unseen_types(study.scenario) == ("error_burst", "latency_spike")
    told: list[float] = []
    states = train_unseen(study, "bandit", plan, detector, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 2 * 2 * 6
    assert [sorted(of) for of in states] == [["error_burst", "latency_spike"]] * 2
    assert states[0]["error_burst"] != states[0]["latency_spike"]
    whole = hold(replace(study, episodes=8), unseen_contestants(study, "bandit", detector, states), replays=False)
    table = whole.episodes
    assert table["policy"].unique().to_list() == ["bandit, unseen"]
    assert sorted(set(table["training"].to_list())) == [0, 1]
    # run by run it is the policy that lacks the run's type of fault, and no other
    for type_ in ("error_burst", "latency_spike"):
        mine = [of[type_] for of in states]
        alone = hold(
            replace(study, episodes=8, policies=("bandit",)),
            contestants(replace(study, policies=("bandit",)), detector, {"bandit": mine}),
            replays=False,
        ).episodes
        of_type = pl.col("fault_type") == type_
        columns = ["training", "run", "bad", "actions", "j"]
        assert table.filter(of_type).height > 0
        assert table.filter(of_type).select(columns).equals(alone.filter(of_type).select(columns))
