"""Counterfactuals: the best action, regret, harm, their table, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

import cli
from agent.evaluation.counterfactual import Case, Question, examine, fair_regret, table_of
from agent.evaluation.foresight import case_object, case_text, summary_object
from agent.evaluation.study import Study
from agent.rollouts import Outcomes
from simcore.errors import InputError
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario
from simcore.telemetry.tables import schema_of

THREE = load_scenario("three_tier")
NAMES = ("noop", "restart(db)", "scale(db,+1)")


def case(j: list[list[float]], taken: int = 0, futures: int = 2) -> Case:
    """Return a case with J (action, future), the own future first."""
    values = np.array(j)
    n = len(j)
    outcomes = Outcomes(
        row=np.zeros(n, np.int64),
        action=np.arange(n),
        futures=np.array([-1, *range(futures)]),
        step=95,
        until=155,
        bad=np.full(values.shape, 12),
        offered=np.full(values.shape, 1000),
        recovery=np.where(values < -0.5, np.nan, 4.0),
        cost=np.zeros(values.shape),
        unhealthy=values < -0.5,
        j=values,
    )
    run = make_run(THREE, seed=7, split="test", run=3, faults=())
    return Case(run, NAMES, 95, 60, 5.0, taken, 0.01, 0.99, outcomes)


def test_the_fair_best_action_does_not_look_at_the_own_future() -> None:
    found = case([[0.0, 0.0, 0.0], [0.9, -0.1, 0.1], [-0.2, 0.2, 0.1]])
    assert NAMES[found.best()] == "scale(db,+1)"
    assert NAMES[found.best_of_own()] == "restart(db)"
    alone = case([[0.0], [0.9], [-0.2]], futures=0)
    assert NAMES[alone.best()] == "restart(db)"


def test_waiting_is_best_among_equals() -> None:
    assert case([[0.0, 0.1, 0.1], [0.0, 0.1, 0.1], [0.0, 0.2, 0.0]]).best() == 0


def test_regret_is_valued_on_futures_that_did_not_choose_the_best() -> None:
    j = np.array([[0.0, 0.0, 0.0, 0.0], [0.4, -0.2, 0.3, -0.3], [0.1, 0.1, 0.1, 0.1]])
    found = fair_regret(j, 0)
    # on the even futures the second action looks best, valued on the odd ones; on the odd ones the third
    gap = np.array([0.1, -0.2, 0.1, -0.3])
    assert found.mean == pytest.approx(gap.mean())
    half = stats.t.ppf(0.975, 3) * gap.std(ddof=1) / 2.0
    assert (found.low, found.high) == pytest.approx((gap.mean() - half, gap.mean() + half))


def test_regret_of_pure_chance_does_not_look_like_skill() -> None:
    rng = np.random.default_rng(1)
    honest = [fair_regret(rng.normal(size=(20, 8)), 0).mean for _ in range(400)]
    naive = [float((j := rng.normal(size=(20, 8))).mean(1).max() - j[0].mean()) for _ in range(400)]
    assert abs(np.mean(honest)) < 0.1
    assert np.mean(naive) > 0.5


def test_nobody_regrets_the_best_action() -> None:
    fair, clairvoyant = case([[0.0, 0.0, 0.0], [0.5, 0.3, 0.4], [0.1, 0.0, 0.1]], taken=1).regret() or (None, None)
    assert fair is not None
    assert clairvoyant is not None
    assert (fair.mean, clairvoyant.mean) == (0.0, 0.0)
    fair, clairvoyant = case([[0.0, 0.0, 0.0], [0.5, 0.3, 0.4], [0.1, 0.0, 0.1]]).regret() or (None, None)
    assert fair is not None
    assert clairvoyant is not None
    assert fair.mean == pytest.approx(0.35)
    assert clairvoyant.mean == 0.5
    assert case([[0.0, 0.0, 0.0]], taken=-1).regret() is None


def test_harm_is_measured_against_noop_in_the_same_future() -> None:
    found = case([[0.0, -0.5, 0.0], [0.0, -0.505, -0.02], [0.0, -0.52, 0.0]])
    assert found.harmed().tolist() == [[False, False], [False, True], [True, False]]


def test_the_table_has_a_row_per_action_and_future() -> None:
    table = table_of([case([[0.0, -0.5, 0.0], [0.2, -0.6, 0.1]], taken=1)], policy="playbook", then="release")
    assert table.schema == schema_of("counterfactuals")
    assert table["action"].to_list() == ["noop"] * 3 + ["restart(db)"] * 3
    assert table["future"].to_list() == [None, 0, 1] * 2
    assert table["taken"].to_list() == [False] * 3 + [True] * 3
    assert table["recovery_s"].to_list() == [20.0, 20.0, 20.0, 20.0, None, 20.0]
    np.testing.assert_allclose(table["j_gain"].to_numpy(), [0, 0, 0, 0.2, -0.1, 0.1])
    assert table["harmed"].to_list() == [False] * 4 + [True, False]
    assert table["error_budget_spent"][0] == pytest.approx(1.2)
    assert table_of([], policy=None, then="noop").schema == schema_of("counterfactuals")


def test_the_text_names_the_best_action_the_regret_and_the_harm() -> None:
    text = case_text(case([[0.0, 0.0, 0.0], [0.5, 0.3, 0.4], [-0.1, -0.2, -0.1]]), "release")
    assert "run 3, edge 95 (475 s)" in text
    assert "best action: restart(db)" in text
    assert "* noop" in text
    assert "harmful, in most futures worse than noop by more than 0.01 of J: scale(db,+1)" in text
    found = case_object(case([[0.0, 0.0, 0.0], [0.5, -9.0, 0.4], [-0.1, -0.2, -0.1]]), "noop")
    json.dumps(found, allow_nan=False)
    assert [row["action"] for row in found["actions"]] == ["noop", "scale(db,+1)", "restart(db)"]
    assert found["actions"][2]["recovered"] == 1
    assert summary_object([case([[0.0, 0.1, 0.1]])])["best"] == {"noop": 1}
    assert summary_object([])["regret"] is None


def study(**parts: Any) -> Study:
    return Study(THREE, seed=7, episodes=3, **parts)


def test_runs_do_not_depend_on_the_rounds_in_which_they_are_examined() -> None:
    question = Question(at=4, horizon=3, futures=1)
    whole = table_of(list(examine(study(), question)), policy=None, then="release")
    rounds = table_of(list(examine(study(round_size=2), question)), policy=None, then="release")
    later = table_of(list(examine(study(), question, first=1)), policy=None, then="release")
    assert whole.equals(rounds)
    assert whole.filter(pl.col("run") == 1).equals(later.filter(pl.col("run") == 1))
    assert whole["taken"].null_count() == whole.height


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        (Question(at=240), "--at must be an edge in 0 .. 239, or alarm, got 240"),
        (Question(at=None), "--at alarm needs an agent"),
        (Question(at=3, then="agent"), "there is none"),
        (Question(at=3, then="noob"), "did you mean 'noop'"),
        (Question(at=3, margin=-1.0), "--margin must be finite and >= 0"),
    ],
)
def test_questions_that_do_not_fit_are_refused(question: Question, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        next(examine(study(), question))


def test_what_looks_ahead_cannot_follow() -> None:
    with pytest.raises(InputError, match="oracle_fair looks ahead itself"):
        Question(at=3, then="agent").check(study(policies=("oracle_fair",)))


def test_what_was_never_taught_cannot_follow() -> None:
    with pytest.raises(InputError, match="--then learned: it learns from forks; train it"):
        Question(at=3, then="learned").check(study(policies=("playbook",)))
    Question(at=3, then="learned", then_state={}).check(study(policies=("playbook",)))


# --- the command

QUICK = ["counterfactual", "--seed", "7", "--steps", "60", "--quiet", "--detector", "threshold", "--policy", "playbook"]
FAULT = ["--fault", "latency_spike@db", "--onset", "60", "--severity", "0.9"]


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    out = capsys.readouterr()
    return int(ended.value.code or 0), out.out, out.err


def test_the_command_tries_everything_at_the_alarm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "forks.csv"
    more = ["--horizon", "12", "--futures", "2", "--json", "--out", str(target)]
    code, out, _ = ran(capsys, *QUICK, *FAULT, *more)
    assert code == 0
    found = json.loads(out)
    (run,) = found["runs"]
    assert run["time_s"] >= 60.0
    assert run["taken"] in [row["action"] for row in run["actions"]]
    assert run["regret"]["fair"]
    table = pl.read_csv(target)
    assert table.height == 3 * len(run["actions"])
    assert set(table.columns) == set(schema_of("counterfactuals"))
    metadata = json.loads((tmp_path / "forks.csv.meta.json").read_text(encoding="utf-8"))
    assert metadata["complete"]
    assert metadata["rows"] == table.height
    assert metadata["arguments"]["question"]["futures"] == 2


def test_the_command_sums_up_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, *QUICK, *FAULT, "--episodes", "2", "--horizon", "6", "--futures", "0", "--at", "20")
    assert code == 0
    assert "2 of 2 runs" in out
    assert "mean regret of the agent" in out


def test_the_command_says_so_when_there_is_no_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, *QUICK, "--fault", "none")
    assert code == 0
    assert "no alarm is raised in it" in out


def test_the_command_reports_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--at", "999", "--horizon", "0", "--futures", "-1", "--then", "nobody"]
    code, _, err = ran(capsys, *QUICK, *wrong)
    assert code == 2
    assert len(err.splitlines()) == 4
    code, _, err = ran(capsys, *QUICK[:-1], "learned", "--then", "learned")
    assert code == 2
    assert "policy learned learns from forks" in err
    assert "--then learned: it learns from forks" in err
    code, _, err = ran(capsys, *QUICK, "--fault", "fire@api", "--horizon", "0", "--then", "nobody")
    assert code == 2
    assert len(err.splitlines()) == 3
    code, _, err = ran(capsys, *QUICK, "--at", "soon", "--policy", "noop,random")
    assert code == 2
    assert "--at must be a step number or alarm, got 'soon'" in err
    assert "--policy takes one name here" in err
    code, _, err = ran(capsys, "counterfactual", "--at", "3", "--out", "somewhere")
    assert code == 2
    assert "ends in .csv or .parquet" in err
