"""Tests of agent.evaluation.scoring, listings and summary."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from agent.api import AgentTrace, Decision
from agent.evaluation.scoring import JUDGED_AFTER_STEPS, Labels, accuracy_at, score, summarise
from agent.evaluation.statistics import quantile_of
from simcore.env import Episodes
from simcore.model.faults import Fault
from simcore.telemetry.tables import SCHEMAS, frame
from simcore.windows import Metric, Total
from tests import naive
from tests.scripted import OFFERED, STEP_S, STEPS, ScriptedSession, fault, runs_of, small_scenario

ONSET_S, BEGIN = 102.0, 20


class Played:
    """Scripted episodes of two runs, one with a fault at 102 s (step 20), one without, and a silent trace."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *faults: Fault, **parts: Any) -> None:
        scenario = small_scenario(**parts)
        opened: list[ScriptedSession] = []

        def open_session(engine: str, scenario: Any, inputs: Any, **_: Any) -> ScriptedSession:
            opened.append(ScriptedSession(scenario, inputs))
            return opened[0]

        monkeypatch.setattr("simcore.env.episodes.open_session", open_session)
        self.episodes = Episodes(scenario, runs_of(scenario, faults or [fault(ONSET_S)], []))
        self.session = opened[0]
        shape = (2, scenario.timing.steps)
        self.trace = AgentTrace(
            alarm=np.zeros(shape, np.bool_),
            triggered=np.zeros(shape, np.bool_),
            overall=np.full(shape, 0.5),
            score=np.full((*shape, 2), 0.25),
            choice=np.zeros(shape, np.int64),
            suspect=np.full(shape, -1),
            confidence=np.full(shape, np.nan),
            ranked=np.full((*shape, 2), -1),
        )

    def diagnose(self, steps: range, suspect: int, *ranked: int, run: int = 0) -> None:
        self.trace.suspect[run, list(steps)] = suspect
        self.trace.ranked[run, list(steps)] = ranked

    def score(self, agent: bool = True, **options: Any) -> dict[str, pl.DataFrame]:
        if not self.episodes.finished:
            self.episodes.advance_to_end()
        labels = Labels(policy="rules", round=3, detector="forest", diagnoser="graph", policy_state="s1")
        return score(self.episodes, self.trace if agent else None, labels if agent else Labels(), **options)

    def rows(self, **options: Any) -> list[dict[str, Any]]:
        return self.score(**options)["episodes"].rows(named=True)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def test_every_table_has_its_schema(played: Played) -> None:
    for agent in (True, False):
        tables = played.score(agent)
        assert set(tables) == set(SCHEMAS) - {"events", "counterfactuals", "optimal_actions"}
        for name, table in tables.items():
            assert table.schema == pl.Schema(SCHEMAS[name])


def test_only_the_tables_asked_for_are_made(played: Played) -> None:
    assert set(played.score(tables=["faults"])) == {"faults"}
    with pytest.raises(ValueError, match="unknown tables: fault"):
        played.score(tables=["fault"])


def test_unfinished_episodes_and_unknown_labels_are_refused(played: Played) -> None:
    with pytest.raises(ValueError, match="step 0 of 60"):
        score(played.episodes, None, {})
    played.episodes.advance_to_end()
    with pytest.raises(ValueError, match="unknown labels: polcy"):
        score(played.episodes, None, {"polcy": "a"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="noop_incident must hold one value for each of 2 runs, got 1"):
        score(played.episodes, None, {"noop_incident": [True]})


def test_a_row_names_the_run_the_fault_and_the_agent(played: Played) -> None:
    faulty, clean = played.rows()
    scenario = played.episodes.scenario
    expected = {
        "policy": "rules", "split": "test", "seed": 7, "run": 0, "round": 3, "policy_state": "s1",
        "scenario": "small", "scenario_hash": scenario.digest, "engine": "batch", "detector": "forest",
        "diagnoser": "graph", "steps": STEPS, "step_s": STEP_S, "fault_type": "latency_spike",
        "fault_service": "cache", "fault_place": "node", "fault_severity": 0.5, "fault_onset_s": ONSET_S,
        "fault_profile": "step", "fault_duration_s": None, "fault_replica": None, "load_at_onset_rps": 20.0,
        "noop_incident": None,
    }  # fmt: skip
    assert {name: faulty[name] for name in expected} == expected
    assert clean["fault_type"] == "none"
    assert [clean[name] for name in ("fault_service", "fault_onset_s", "fault_severity", "ttm_s")] == [None] * 4


def test_an_incident_is_timed_from_the_onset(played: Played) -> None:
    played.session.bad(0, range(22, 30))
    played.trace.alarm[0, 25:28] = True
    row = played.rows()[0]
    assert (row["first_violation_s"], row["t_v_s"], row["t_r_s"]) == (110.0, 120.0, 150.0)
    assert (row["t_alarm_s"], row["ttd_s"], row["ttd_v_s"], row["ttm_s"]) == (125.0, 23.0, 5.0, 48.0)
    assert (row["incident"], row["recovered"], row["censored"], row["relapses"]) == (True, True, False, 0)
    assert (row["violation_steps"], row["anomaly_steps"], row["false_alarms"]) == (8, 3, 0)


def test_what_does_not_recover_within_the_follow_up_is_censored(played: Played) -> None:
    """The follow-up is 40 steps after step 20; a healthy minute that begins at step 49 ends too late."""
    played.session.bad(0, range(22, 49))
    row = played.rows()[0]
    assert (row["recovered"], row["censored"], row["t_r_s"], row["ttm_s"]) == (False, True, None, None)
    assert row["censored_s"] == (60 - 12) * STEP_S


def test_all_runs_have_the_same_follow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, fault(52.0))
    played.session.bad(0, range(15, 45))
    played.session.bad(0, [57, 58])
    row = played.rows()[0]
    assert row["censored_s"] == (10 + 40 - 12) * STEP_S
    assert (row["censored"], row["relapses"], row["violation_steps"]) == (True, 0, 32)


def test_relapses_and_false_incidents_are_counted_apart(played: Played) -> None:
    played.session.bad(0, [3, 4, 22, 23, 40, 41])
    played.session.bad(1, [3, 4])
    faulty, clean = played.rows()
    assert (faulty["false_incidents"], faulty["relapses"], faulty["t_v_s"]) == (1, 1, 120.0)
    assert (clean["false_incidents"], clean["incident"], clean["first_violation_s"]) == (1, False, 15.0)
    incidents = played.score()["incidents"]
    assert incidents["kind"].to_list() == ["false", "incident", "relapse", "false"]
    assert incidents["opened_s"].to_list() == [25.0, 120.0, 210.0, 25.0]
    assert incidents["recovered_s"].to_list() == [25.0, 120.0, 210.0, 25.0]
    assert incidents["incident"].to_list() == [0, 1, 2, 0]


def test_an_alarm_that_is_open_at_the_onset_is_false_and_no_detection(played: Played) -> None:
    played.trace.alarm[0, 18:30] = True
    played.trace.alarm[0, 35:38] = True
    played.trace.alarm[1, [2, 9]] = True
    faulty, clean = played.rows()
    assert (faulty["false_alarms"], faulty["t_alarm_s"]) == (1, 175.0)
    assert (clean["false_alarms"], clean["t_alarm_s"], clean["anomaly_steps"]) == (2, None, 2)


def test_the_edge_before_the_onset_is_too_early_for_a_detection(played: Played) -> None:
    played.trace.alarm[0, BEGIN] = True  # at 100 s; the fault begins at 102 s
    assert played.rows()[0]["t_alarm_s"] is None
    assert played.rows()[0]["false_alarms"] == 1


def test_without_an_agent_alarms_are_null_and_not_zero(played: Played) -> None:
    row = played.rows(agent=False)[0]
    assert [row[name] for name in ("policy", "detector", "anomaly_steps", "ac1", "t_alarm_s")] == [None] * 5


def test_the_diagnosis_is_judged_some_steps_after_the_alarm(played: Played) -> None:
    played.session.bad(0, range(22, 30))
    played.trace.alarm[0, 25:] = True
    played.diagnose(range(25, 29), 0, 0, 1)
    played.diagnose(range(29, STEPS), 1, 1, 0)
    row = played.rows()[0]
    assert row["diagnosed_s"] == (25 + JUDGED_AFTER_STEPS) * STEP_S
    assert (row["diagnosed"], row["ac1"], row["ac3"], row["ttl_s"]) == ("cache", 1.0, 1.0, 29 * STEP_S - ONSET_S)


def test_the_diagnosis_is_judged_at_the_first_disruptive_action_if_that_is_earlier(played: Played) -> None:
    played.session.bad(0, range(22, 30))
    played.trace.alarm[0, 25:] = True
    played.diagnose(range(25, 29), 0, 0, 1)
    played.diagnose(range(29, STEPS), 1, 1, 0)
    names = played.episodes.actions.names
    played.trace.choice[0, 10] = names.index("restart(api)")  # before the fault: judges nothing
    played.trace.choice[0, 26] = names.index("scale(api,+1)")  # not disruptive
    played.trace.choice[0, 27] = names.index("restart(api)")
    row = played.rows()[0]
    assert (row["diagnosed_s"], row["diagnosed"], row["ttl_s"]) == (135.0, "api", None)
    assert (row["ac1"], row["ac3"]) == (0.0, 1.0)


def test_an_incident_without_a_diagnosis_is_a_wrong_one(played: Played) -> None:
    played.session.bad(0, range(22, 30))
    row = played.rows()[0]
    assert (row["ac1"], row["diagnosed"], row["ttl_s"]) == (0.0, None, None)
    played.trace.alarm[0, 25:] = True
    assert played.rows()[0]["ac1"] == 0.0


def test_where_nothing_happened_there_is_nothing_to_diagnose(played: Played) -> None:
    faulty, clean = played.rows()
    assert faulty["ac1"] is None
    assert clean["ac1"] is None


def test_naming_no_service_is_right_when_the_workload_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, fault(ONSET_S, type="traffic_surge", service=-1))
    played.session.bad(0, range(22, 30))
    played.trace.alarm[0, 25:] = True
    played.diagnose(range(20, STEPS), -1, 0, 1)
    row = played.rows()[0]
    assert (row["fault_service"], row["diagnosed"], row["ac1"], row["ttl_s"]) == ("workload", "workload", 1.0, 0.0)


@pytest.mark.parametrize("suspect", [0, 1])
def test_either_end_of_an_edge_is_a_right_diagnosis(monkeypatch: pytest.MonkeyPatch, suspect: int) -> None:
    played = Played(monkeypatch, fault(ONSET_S, type="partition", service=1, caller=0))
    played.session.bad(0, range(22, 30))
    played.trace.alarm[0, 25:] = True
    played.diagnose(range(20, STEPS), suspect, suspect, 1 - suspect)
    row = played.rows()[0]
    assert (row["fault_service"], row["ac1"]) == ("api:cache", 1.0)


@pytest.mark.parametrize(
    ("k", "ranked", "truth", "expected"),
    [(1, [2, 1], {1}, 0.0), (3, [2, 1], {1}, 1.0), (1, [1], {1, 2}, 1.0), (3, [1, 0], {1, 2}, 0.5), (1, [], {1}, 0.0)],
)
def test_accuracy_at_k_is_the_share_of_the_truth_among_the_first_k(
    k: int, ranked: list[int], truth: set[int], expected: float
) -> None:
    assert accuracy_at(k, ranked, truth) == expected


def test_several_faults_are_joined_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, fault(ONSET_S), fault(80.0, type="error_burst", service=0))
    row = played.rows()[0]
    assert (row["fault_type"], row["fault_service"]) == ("latency_spike+error_burst", "cache+api")
    assert row["fault_onset_s"] == 80.0
    faults = played.score()["faults"]
    assert faults["fault_type"].to_list() == ["latency_spike", "error_burst"]
    assert faults["fault_onset_s"].to_list() == [ONSET_S, 80.0]


def test_requests_are_counted_and_the_budget_is_what_the_objective_allows(played: Played) -> None:
    played.session.bad(0, range(22, 24), count=30)
    played.session.totals[0, 22, Total.SHED] = 11
    played.session.totals[0, 23, Total.ERRORS] = 9
    row = played.rows()[0]
    assert [row[name] for name in ("offered", "good", "bad", "shed", "errors")] == [6000, 5940, 60, 11, 9]
    assert row["error_budget_spent"] == pytest.approx(60 / (0.01 * 6000))
    assert row["j"] == pytest.approx(-60 / 6000)


def test_the_budget_of_the_follow_up_counts_what_lies_in_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, fault(52.0))
    for steps in (range(8), range(15, 17), range(55, 58)):
        played.session.bad(0, steps, count=20)
    faulty, control = played.rows()
    assert faulty["error_budget_spent"] == pytest.approx(13 * 20 / (0.01 * 6000))
    assert faulty["follow_up_budget_spent"] == pytest.approx(2 * 20 / (0.01 * 4000))
    assert control["follow_up_budget_spent"] is None


def test_amplification_is_attempts_per_first_attempt_in_the_worst_step(played: Played) -> None:
    played.session.totals[0, 5, Total.ATTEMPTS] = 300
    played.session.metrics[0, 5, 1, Metric.RETRIES] = 180
    played.session.totals[0, 6, Total.ATTEMPTS] = 30
    played.session.metrics[0, 6, 1, Metric.RETRIES] = 20  # too few first attempts to say
    faulty, clean = played.rows()
    assert (faulty["peak_amplification"], clean["peak_amplification"]) == (2.5, 1.0)


def test_actions_are_counted_and_listed(played: Played) -> None:
    names = played.episodes.actions.names
    for step, run, name in [(3, 1, "restart(api)"), (4, 0, "scale(api,+1)"), (9, 1, "quarantine(api/1)")]:
        while played.episodes.step < step:
            played.episodes.advance()
        choice = np.zeros(2, np.int64)
        choice[run] = names.index(name)
        played.episodes.act(choice)
    faulty, clean = played.rows()
    assert (faulty["actions"], faulty["disruptive_actions"], faulty["action_cost"]) == (1, 0, 0.01)
    assert (clean["actions"], clean["disruptive_actions"], clean["action_cost"]) == (2, 2, 0.02)
    listed = played.score()["actions"].rows(named=True)
    assert [row["action"] for row in listed] == ["scale(api,+1)", "restart(api)", "quarantine(api/1)"]
    assert [row["ordinal"] for row in listed] == [0, 0, 1]
    assert [row["amount"] for row in listed] == [1.0, None, None]
    assert [row["replica"] for row in listed] == [None, None, 1]
    assert [(row["decided_s"], row["effect_s"]) for row in listed] == [(20.0, 25.0), (15.0, 20.0), (45.0, 50.0)]


def test_the_steps_hold_metrics_scores_and_the_truth_of_the_system(played: Played) -> None:
    played.session.bad(1, [3, 4])
    played.session.metrics[1, 3, 0, Metric.P95_S] = np.nan
    played.trace.alarm[1, 3] = True
    steps = played.score()["steps"]
    assert steps.height == 2 * STEPS * 3
    here = steps.filter((pl.col("run") == 1) & (pl.col("step") == 3)).rows(named=True)
    assert [row["service"] for row in here] == ["api", "cache", "system"]
    assert [row["p95_s"] for row in here] == [None, 0.1, 0.1]
    assert [row["score"] for row in here] == [0.25, 0.25, 0.5]
    assert [row["bad"] for row in here] == [None, None, 50]
    assert [row["violating"] for row in here] == [None, None, True]
    assert [row["alarm"] for row in here] == [None, None, True]
    assert steps.filter(pl.col("service") == "system")["offered"].sum() == 2 * STEPS * OFFERED


def test_decisions_and_diagnoses_are_listed_by_run_and_step(played: Played) -> None:
    names = played.episodes.actions.names
    restart = names.index("restart(api)")
    for run, opened, closed in [(1, 9, -1), (0, 30, -1), (0, 25, 29)]:
        decision = Decision(
            run=run, opened=opened, action=restart, code=1, legal=(0, restart), propensity=0.5, score=1.5,
            signature="api|p95", target=0, explain=lambda: "because",
        )  # fmt: skip
        decision.closed, decision.reward = closed, 0.75 if closed >= 0 else float("nan")
        played.trace.decisions.append(decision)
    played.diagnose(range(25, 29), 0, 0, 1)
    played.diagnose(range(29, 33), 1, 1, 0)
    played.trace.confidence[0, 25:33] = 0.6
    tables = played.score()
    decisions = tables["decisions"].select("run", "decision", "opened_step", "closed_step", "reward", "legal").rows()
    assert decisions == [
        (0, 0, 25, 29, 0.75, "noop restart(api)"),
        (0, 1, 30, None, None, "noop restart(api)"),
        (1, 0, 9, None, None, "noop restart(api)"),
    ]
    diagnoses = tables["diagnoses"].select("run", "step", "suspect", "ranked", "confidence", "alarm").rows()
    assert diagnoses == [(0, 25, "api", "api cache", 0.6, False), (0, 29, "cache", "cache api", 0.6, False)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=30),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_quantiles_are_those_of_kaplan_and_meier(runs: list[tuple[int, bool]], share: float) -> None:
    times, happened = [float(t) for t, _ in runs], [e for _, e in runs]
    found = quantile_of(np.array(times, float), np.array(happened, bool), share)
    assert found == naive.first_time_with_share(times, happened, share)


def test_an_unrecovered_half_leaves_the_median_open() -> None:
    times = np.array([10.0, 20.0, 600.0, 600.0, 600.0])
    assert quantile_of(times, times < 600, 0.5) is None
    assert quantile_of(times, times < 600, 0.4) == 20.0


def table_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    base = dict.fromkeys(SCHEMAS["episodes"]) | {
        "split": "test", "seed": 7, "steps": 240, "step_s": 5.0, "fault_type": "none", "incident": False,
        "false_alarms": 0, "false_incidents": 0, "violation_steps": 0, "actions": 0,
        "error_budget_spent": 0.0, "j": 0.0,
    }  # fmt: skip
    full = [base | {"run": i} | row for i, row in enumerate(rows)]
    return frame("episodes", {name: [row[name] for row in full] for name in base})


def incident(ttm_s: float | None, **more: Any) -> dict[str, Any]:
    known = {"recovered": ttm_s is not None, "ttm_s": ttm_s, "incident": True}
    return {"fault_type": "crash_loop", "fault_onset_s": 300.0, "censored_s": 840.0} | known | more


def test_a_summary_has_a_row_per_type_of_fault_and_one_for_all() -> None:
    rows = [incident(50.0, ttd_s=10.0, ac1=1.0, actions=2), incident(90.0, ttd_s=30.0, ac1=0.0)]
    rows += [incident(None, ac1=0.0)]
    rows += [{"false_alarms": 3, "violation_steps": 6}]
    found = {row["fault_type"]: row for row in summarise(table_of(rows)).rows(named=True)}
    assert list(found) == ["crash_loop", "none", "all"]
    crash, none, everything = found.values()
    assert (crash["runs"], crash["incidents"], crash["recovered"]) == (3, 3, pytest.approx(2 / 3))
    assert (crash["ttm_p50_s"], crash["ttm_p90_s"], crash["ttd_median_s"]) == (90.0, None, 30.0)
    assert (crash["ac1"], crash["actions"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (none["recovered"], none["ttm_p50_s"], none["ac1"]) == (None, None, None)
    assert (none["false_alarms"], none["false_alarms_per_h"]) == (3, 9.0)
    assert everything["runs"] == 4
    assert everything["false_alarms_per_h"] == pytest.approx(3 / ((3 * 300 + 1200) / 3600))
    assert everything["violation_steps"] == 1.5


def test_an_incident_that_the_agent_prevented_counts_as_recovered() -> None:
    prevented = {"fault_type": "crash_loop", "fault_onset_s": 300.0, "censored_s": 840.0, "noop_incident": True}
    rows = [prevented, incident(None, noop_incident=True), prevented | {"noop_incident": False}]
    row = summarise(table_of(rows)).rows(named=True)[0]
    assert (row["runs"], row["at_risk"], row["incidents"], row["prevented"], row["recovered"]) == (3, 2, 1, 1, 0.5)


def test_a_summary_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    rows = [incident(float(500 * t), j=float(j), ttd_s=1.0) for t, j in rng.random((200, 2))]
    table = table_of(rows)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=5)
    assert_frame_equal(summarise(table), summarise(shuffled), check_exact=True)
