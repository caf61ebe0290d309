"""The policy that is taught on forks: what it looks at, what it chooses, and how it is taught."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.detectors.threshold import ThresholdDetector
from agent.diagnosers.max_score import MaxScore
from agent.evaluation.lessons import Lessons, collect
from agent.evaluation.teaching import MARGINS, THRESHOLDS, teach
from agent.policies.arms import ARMS, Arms
from agent.policies.learned import BELIEF, INPUTS, RANKS, LearnedPolicy, Trees, candidates
from agent.policies.playbook import Playbook
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario
from tests.agent_world import API, CACHE, DB, TOPOLOGY, actions, ask, failing, healthy
from tests.conftest import Invoke

TABLE = actions()


def broken(runs: int = 1) -> np.ndarray:
    metrics = healthy(1, 60)
    failing(metrics, 0, DB, 40)
    return metrics[[0] * runs]


def constant(value: float) -> Trees:
    return Trees(value, np.zeros((1, 1), np.int64), np.zeros((1, 1)), np.zeros((1, 2)))


def prefers(**worth: float) -> Trees:
    """Return trees that predict a gain for some arms, and a loss of 1 for the others."""
    feature = np.array([[INPUTS.index(f"arm_{arm}")] for arm in worth])
    value = np.array([[0.0, gain + 1.0] for gain in worth.values()])
    return Trees(-1.0, feature, np.full((len(worth), 1), 0.5), value)


def taught(trees: Trees, **options: float) -> LearnedPolicy:
    policy = LearnedPolicy(**options)
    policy.trees = trees
    policy.start(TOPOLOGY, TABLE)
    return policy


def chosen(policy: LearnedPolicy, situation) -> str:  # type: ignore[no-untyped-def]
    return TABLE.names[policy.decide(situation).action[0]]


# --- what it looks at


def test_candidates_are_all_arms_at_the_service_at_fault_and_at_the_next_in_rank() -> None:
    found = candidates(ask(broken(), 50, DB), TOPOLOGY, TABLE, Arms(TOPOLOGY, TABLE))
    names = [TABLE.names[action] for action in found.action]
    assert {"restart(db)", "rollback(db)", "escalate", "restart(api)", "clear_cache(cache)"} <= set(names)
    assert "noop" not in names
    assert len(set(names)) == len(names)
    assert [TABLE.names[a] for a in found.action[found.usual]] == ["restart(db)"]
    assert set(found.rank.tolist()) == set(range(RANKS))
    assert found.inputs.shape == (len(names), len(INPUTS))
    assert np.isfinite(found.inputs).all()
    arm = found.inputs[:, [INPUTS.index(f"arm_{name}") for name in ARMS]].argmax(1)
    np.testing.assert_array_equal(arm, found.arm)


def test_what_may_not_be_done_is_no_candidate_but_is_seen() -> None:
    allowed = np.ones((1, len(TABLE)), np.bool_)
    allowed[0, TABLE.names.index("restart(db)")] = False
    found = candidates(ask(broken(), 50, DB, allowed=allowed), TOPOLOGY, TABLE, Arms(TOPOLOGY, TABLE))
    assert "restart(db)" not in [TABLE.names[action] for action in found.action]
    blocked = found.inputs[found.rank == 0][:, INPUTS.index("blocked_restart")]
    assert (blocked == 1).all()


def test_the_inputs_do_not_depend_on_what_services_are_called() -> None:
    situation = ask(broken(), 50, DB)
    renamed = replace(TOPOLOGY, services=("x", "y", "z"))
    here, there = (candidates(situation, topology, TABLE, Arms(topology, TABLE)) for topology in (TOPOLOGY, renamed))
    np.testing.assert_array_equal(here.inputs, there.inputs)


# --- what it chooses


def test_an_untaught_policy_waits() -> None:
    policy = LearnedPolicy()
    policy.start(TOPOLOGY, TABLE)
    assert chosen(policy, ask(broken(), 50, DB)) == "noop"


def test_the_largest_predicted_gain_above_the_threshold_is_taken() -> None:
    situation = ask(broken(), 50, DB)
    trees = prefers(failover=0.03, rotate=0.05)
    assert chosen(taught(trees, threshold=0.01), situation) == "rotate(db)"
    assert chosen(taught(trees, threshold=0.06), situation) == "noop"
    assert chosen(taught(constant(-0.1)), situation) == "noop"
    choices = taught(trees, threshold=0.06).decide(situation)
    assert choices.explain(0) == "waits: rotate(db) is predicted to gain +0.0500 of J over waiting"


def test_it_waits_until_users_notice() -> None:
    unnoticed = ask(healthy(1, 60), 50, DB)
    assert not unnoticed.signature.noticed.any()
    policy = taught(prefers(rotate=0.05))
    assert chosen(policy, unnoticed) == "noop"
    assert policy.decide(unnoticed).explain(0) == "waits until users notice"


def test_it_departs_from_the_playbook_for_more_than_the_margin_only() -> None:
    situation = ask(broken(), 50, DB)
    trees = prefers(restart=0.04, rotate=0.05)
    assert chosen(taught(trees, margin=0.0), situation) == "rotate(db)"
    assert chosen(taught(trees, margin=0.02), situation) == "restart(db)"
    explained = taught(trees, margin=0.02).decide(situation).explain(0)
    assert explained == "restart(db) (as the playbook) is predicted to gain +0.0400 of J over waiting"


def test_every_action_that_did_not_help_takes_from_what_is_believed_of_the_next() -> None:
    policy = taught(prefers(rotate=0.05), threshold=0.01)
    for in_vain in range(4):
        choices = policy.decide(ask(broken(), 50, DB, in_vain=in_vain))
        assert choices.score[0] == pytest.approx(0.05 * BELIEF**in_vain)
        assert TABLE.names[choices.action[0]] == "rotate(db)"
    tired = policy.decide(ask(broken(), 50, DB, in_vain=5))  # 0.05 * 0.7**5 is below the threshold
    assert tired.action[0] == 0
    assert tired.explain(0).startswith("waits: rotate(db) is predicted to gain +0.008")


def test_rows_are_decided_each_by_itself() -> None:
    metrics = np.concatenate([broken(), healthy(1, 60), broken()])
    together = taught(prefers(rotate=0.05)).decide(ask(metrics, 50, DB))
    assert [TABLE.names[action] for action in together.action] == ["rotate(db)", "noop", "rotate(db)"]
    assert together.explain(1) == "waits until users notice"
    assert together.explain(2).startswith("rotate(db)")


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"threshold": float("nan")}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="margin >= 0"):
        LearnedPolicy(**options)


def test_what_it_was_taught_survives_being_saved_and_loaded() -> None:
    policy = taught(prefers(rotate=0.05), threshold=0.01, margin=0.002)
    policy.taught = {"decisions": 3}
    copied = LearnedPolicy()
    copied.load(json.loads(json.dumps(policy.state(), allow_nan=False)))
    copied.start(TOPOLOGY, TABLE)
    assert copied.state() == policy.state()
    assert chosen(copied, ask(broken(), 50, DB)) == "rotate(db)"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.update(name="noop"), "expected learned"),
        (lambda s: s.update(inputs=["x"]), "train the policy anew"),
        (lambda s: s.pop("margin"), "missing or wrong"),
        (lambda s: s.update(margin=-1), "margin >= 0"),
        (lambda s: s["trees"].pop("value"), "missing or wrong"),
        (lambda s: s["trees"].update(value=[[1.0]]), "complete"),
        (lambda s: s["trees"].update(feature=[[len(INPUTS)]]), "inputs from 0"),
        (lambda s: s["trees"].update(base=float("inf")), "finite"),
    ],
)
def test_a_damaged_state_is_refused(damage, message) -> None:  # type: ignore[no-untyped-def]
    state = json.loads(json.dumps(taught(prefers(rotate=0.05)).state()))
    damage(state)
    with pytest.raises(InputError, match=message):
        LearnedPolicy().load(state)


# --- how it is taught


def lessons(decisions: int, seed: int = 0) -> Lessons:
    """Return made-up lessons: restarting gains where memory is full, rolling back where there was a change."""
    rng = np.random.default_rng(seed)
    arms = [ARMS.index(name) for name in ("restart", "rollback", "escalate")]
    group = np.repeat(np.arange(decisions), len(arms))
    arm = np.tile(arms, decisions)
    inputs = np.zeros((group.size, len(INPUTS)))
    inputs[:, :20] = rng.random((group.size, 20))
    full = np.repeat(rng.random(decisions) < 0.5, len(arms))
    inputs[:, INPUTS.index("memory")], inputs[:, INPUTS.index("changed")] = full, ~full
    for number, name in enumerate(ARMS):
        inputs[:, INPUTS.index(f"arm_{name}")] = arm == number
    right = np.where(full, arms[0], arms[1])
    gain = np.where(arm == arms[2], -0.05, np.where(arm == right, 0.1, -0.03)) + rng.normal(0, 0.01, group.size)
    usual = arm == arms[0]
    inputs[:, INPUTS.index("playbook")] = usual
    return Lessons(group, group // 2, arm, np.zeros(group.size, np.int64), inputs, gain, usual)


def test_a_rule_that_is_in_the_lessons_is_learned() -> None:
    policy, report = teach(lessons(200), seed=1, scenarios=["abc"])
    assert report.decisions == 200
    assert report.gained > 0.9 * report.best > 0.08
    assert report.gained > report.playbook + 0.04
    assert report.harmed < 0.02
    assert report.threshold in THRESHOLDS
    assert report.margin in MARGINS
    assert policy.taught == {"scenarios": ["abc"], "decisions": 200, "candidates": 600}
    fresh = lessons(60, seed=9)
    assert policy.trees is not None
    guessed = policy.trees.predict(fresh.inputs).reshape(60, 3)
    assert (guessed.argmax(1) == fresh.gain.reshape(60, 3).argmax(1)).mean() > 0.95


def test_where_there_is_nothing_to_learn_it_does_no_better_than_it_says() -> None:
    """Gains that follow from nothing: what the report promises is near what can be had, not what noise suggests."""
    noise = lessons(120)
    shuffled = np.random.default_rng(3).permutation(noise.gain.size)
    report = teach(replace(noise, gain=noise.gain[shuffled] - 0.02), seed=1, scenarios=[])[1]
    assert report.gained < 0.25 * report.best


def test_the_same_lessons_give_the_same_policy() -> None:
    one, other = (teach(lessons(40), seed=1, scenarios=[])[0].state() for _ in range(2))
    assert json.dumps(one) == json.dumps(other)


def test_exported_trees_predict_what_the_fitted_ones_do() -> None:
    from sklearn.ensemble import GradientBoostingRegressor

    from agent.evaluation import teaching

    made = lessons(60)
    model = GradientBoostingRegressor(
        n_estimators=20, max_depth=teaching._DEPTH, learning_rate=teaching._RATE, random_state=0
    ).fit(made.inputs.astype(np.float32), made.gain)
    trees = teaching._exported(model, float(made.gain.mean()))
    np.testing.assert_allclose(trees.predict(made.inputs), model.predict(made.inputs.astype(np.float32)), atol=1e-12)


def test_too_few_decisions_are_refused() -> None:
    with pytest.raises(InputError, match="got 5: play more episodes"):
        teach(lessons(5), seed=1, scenarios=[])


def test_lessons_are_joined_with_decisions_of_their_own() -> None:
    both = Lessons.joined([lessons(3), lessons(2)])
    assert both.group.tolist() == np.repeat(np.arange(5), 3).tolist()


def test_lessons_of_real_runs_do_not_depend_on_the_batch() -> None:
    scenario = load_scenario("three_tier")
    timing = scenario.timing.model_copy(update={"steps": 20, "follow_up_steps": 5})
    onset = scenario.faults.model_copy(update={"onset_s": type(scenario.faults.onset_s)(min=20, max=30)})
    scenario = scenario.model_copy(update={"timing": timing, "faults": onset})

    def learned(numbers: list[int]) -> Lessons:
        episodes = Episodes(scenario, [make_run(scenario, seed=2, split="train", run=i) for i in numbers])
        detector = ThresholdDetector()
        detector.fit(episodes.metrics, episodes.topology, seed=0)
        return collect(episodes, detector, MaxScore(), horizon=6)

    together = learned([0, 1, 2])
    assert together.gain.size > 0
    assert np.isfinite(together.gain).all()
    assert (np.bincount(together.group) >= 1).all()
    run = int(together.run[0])
    alone = learned([run])
    np.testing.assert_array_equal(together.gain[together.run == run], alone.gain)
    np.testing.assert_array_equal(together.inputs[together.run == run], alone.inputs)


# --- the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenario", "w2", "--out", "p.json"], "draws no faults"),
        (["--out", "p.json", "--without", "expirey"], "did you mean 'expiry'?"),
        ([], "Missing option '--out'"),
        (["--out", "nowhere/p.json", "--detector", "x"], "there is no folder"),
        (["--out", "p.json", "--diagnoser", "x"], "--diagnoser must be one of"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(
    options: list[str], message: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "policy", *options)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_policy_is_taught_and_then_used(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--steps", "100", "--horizon", "4", "--detector", "threshold", "--quiet")
    result = invoke("train", "policy", "--episodes", "36", "--out", "p.json", "--json", *small)
    assert result.code == 0, result.err
    assert json.loads(result.out)["decisions"] >= 20
    used = ("--policy", "learned,playbook", "--policy-in", "p.json", "--freeze", "--detector", "threshold")
    result = invoke("eval", "--episodes", "2", "--steps", "100", *used, "--quiet")
    assert result.code == 0, result.err
    again = invoke("train", "policy", "--out", "p.json")
    assert again.code == 2
    assert "--force" in again.err


def test_the_playbook_is_what_it_is_measured_against() -> None:
    """The candidate that is called usual is what the playbook chooses, for every service at fault."""
    for suspect in (API, CACHE, DB, -1):
        situation = ask(broken(3), 50, suspect)
        playbook = Playbook()
        playbook.start(TOPOLOGY, TABLE)
        found = candidates(situation, TOPOLOGY, TABLE, Arms(TOPOLOGY, TABLE))
        for row, action in enumerate(playbook.decide(situation).action):
            usual = found.action[(found.row == row) & found.usual].tolist()
            assert usual == ([int(action)] if action else [])
