"""Logs judge policies that did not act; unsure decisions are left to a human; both are held against the truth."""

import json
from dataclasses import replace

import numpy as np
import pytest

from agent.evaluation.contest import Contestant, contestants, hold
from agent.evaluation.offpolicy import ESTIMATORS, Log, audit, estimate, first_decisions, merged, model
from agent.evaluation.study import Study
from agent.evaluation.training import trained_detector
from agent.evaluation.wrapped import Cautious, Softened
from agent.loop import Agent
from agent.registry import make_diagnoser, make_policy
from simcore.codes import ActionCode
from simcore.errors import InputError
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from tests.agent_world import DB, TOPOLOGY, actions, ask, healthy, keys, slow
from tests.conftest import TINY, Invoke

KINDS = ("noop@-1", "restart@0", "restart@1", "scale@0")
#: What each action really returns in each of two contexts.
WORTH = np.array([[0.2, 0.5, 0.9, 0.4], [0.8, 0.5, 0.1, 0.6]])


def draw(name: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(11, spawn_key=(name,))))


def logged(n: int, name: int) -> tuple[Log, np.ndarray]:
    """Return a log with uneven propensities, and each row's context."""
    generator = draw(name)
    context = generator.integers(0, 2, n)
    chances = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])[context]
    action = (generator.uniform(size=n)[:, None] > np.cumsum(chances, 1)).sum(1)
    reward = np.clip(WORTH[context, action] + generator.normal(0.0, 0.1, n), 0.0, 1.0)
    texts = tuple(f"db|broken|{c}" for c in context)
    return Log(np.arange(n), action, chances[np.arange(n), action], reward, texts, KINDS), context


def best(context: np.ndarray) -> np.ndarray:
    return WORTH.argmax(1)[context]


def test_every_estimator_finds_what_the_target_is_worth() -> None:
    log, context = logged(6_000, 1)
    found, overlap = estimate(log, best(context), seed=1)
    truth = WORTH.max(1)[context].mean()
    assert set(found) == set(ESTIMATORS)
    for name, interval in found.items():
        assert interval.value == pytest.approx(truth, abs=0.04), name
        if name != "model":
            assert interval.low < truth < interval.high, name
    assert 100 < overlap.ess < 6_000
    assert overlap.weight == pytest.approx(1.0, abs=0.06)
    # the log's own mean is another thing altogether
    assert abs(log.reward.mean() - truth) > 0.2


def test_intervals_hold_the_truth_at_about_their_level_and_doubly_robust_is_the_sharpest() -> None:
    held, errors = dict.fromkeys(("ips", "snips", "dr"), 0), {name: [] for name in ("ips", "snips", "dr")}
    for number in range(120):
        log, context = logged(400, 100 + number)
        found, _ = estimate(log, best(context), seed=number)
        for name, hits in held.items():
            # of the contexts met: what is drawn besides is chance and reward
            truth = WORTH.max(1).mean()
            held[name] = hits + (found[name].low <= truth <= found[name].high)
            errors[name].append(found[name].value - truth)
    for name, hits in held.items():
        assert 0.86 <= hits / 120 <= 1.0, (name, hits)
        assert abs(np.mean(errors[name])) < 4 * np.std(errors[name]) / np.sqrt(120) + 0.01, name
    spread = {name: np.std(values) for name, values in errors.items()}
    assert spread["dr"] < 0.7 * spread["ips"]


def test_the_effective_sample_size_is_the_number_of_equal_weights() -> None:
    n = 50
    same = Log(np.arange(n), np.zeros(n, np.int64), np.full(n, 0.5), np.ones(n), ("db|broken|x",) * n, KINDS)
    assert estimate(same, np.zeros(n, np.int64), seed=1)[1].ess == pytest.approx(n)
    found, overlap = estimate(same, np.ones(n, np.int64), seed=1)
    assert overlap == (0.0, 0.0)
    assert np.isnan(found["snips"].value)
    assert found["ips"].value == 0.0


def test_the_model_of_a_run_has_not_seen_it() -> None:
    log, _ = logged(200, 3)
    changed = replace(log, reward=np.where(log.run == 17, 1.0 - log.reward, log.reward))
    assert model(log, log.action)[17] == model(changed, log.action)[17]
    assert (model(log, log.action) != model(changed, log.action)).any()


def test_an_audit_compares_on_the_runs_that_both_have() -> None:
    log, context = logged(300, 5)
    own = Log(log.run[::-1], best(context)[::-1], np.ones(300), np.full(300, 0.85), log.context[::-1], KINDS)
    rows = audit(log.keep(log.run < 200), {"good": own.keep(own.run >= 100)}, seed=1)
    assert {row["runs"] for row in rows} == {100}
    assert {row["estimator"] for row in rows} == set(ESTIMATORS)
    assert all(row["truth"] == pytest.approx(0.85) for row in rows)
    assert all(row["error"] == pytest.approx(row["estimate"] - row["truth"]) for row in rows)
    json.dumps(rows, allow_nan=False)


# --- policies made of policies


def test_a_softened_policy_says_how_likely_every_choice_was() -> None:
    metrics = healthy(400, 60)
    for run in range(400):
        slow(metrics, run, DB, 35)
    inner = make_policy("playbook")
    policy = Softened(inner, 0.5)
    policy.start(TOPOLOGY, actions())
    allowed = np.zeros((400, len(actions())), np.bool_)
    allowed[:, :6] = True
    situation = ask(metrics, 45, DB, allowed=allowed)
    choices, own = policy.decide(situation), inner.decide(situation)
    # noop, three restarts and two scalings: each kind has a third of what is left to chance
    assert list(actions().kinds[:6]) == ["noop", *["restart"] * 3, *["scale"] * 2]
    chance = np.array([1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 6])
    as_told = choices.action == own.action
    np.testing.assert_allclose(choices.propensity, 0.5 * chance[choices.action] + 0.5 * as_told)
    expected = 0.5 * chance + 0.5 * np.bincount(own.action, minlength=6) / 400
    np.testing.assert_allclose(np.bincount(choices.action, minlength=6) / 400, expected, atol=0.08)
    assert allowed[np.arange(400), choices.action].all()
    again = policy.decide(situation)
    np.testing.assert_array_equal(choices.action, again.action)
    assert keys(3).size == 3


def test_only_a_policy_that_is_certain_can_be_softened() -> None:
    policy = Softened(make_policy("random"), 0.3)
    policy.start(TOPOLOGY, actions())
    with pytest.raises(InputError, match="leaves decisions to chance itself"):
        policy.decide(ask(healthy(2, 60), 45, DB))
    with pytest.raises(InputError, match="> 0 and <= 1, got 0"):
        Softened(make_policy("noop"), 0.0)


def test_a_cautious_policy_decides_alone_only_when_it_is_sure() -> None:
    metrics = healthy(4, 60)
    for run in range(4):
        slow(metrics, run, DB, 35)
    situation = ask(metrics, 45, DB)
    unsure = replace(situation, diagnosis=replace(situation.diagnosis, confidence=np.array([0.1, 0.4, 0.6, 0.9])))
    human = actions().names.index("escalate")
    nobody = replace(actions(), code=np.where(actions().code == ActionCode.ESCALATE, ActionCode.NOOP, actions().code))
    for table, instead in ((actions(), human), (nobody, 0)):
        inner, policy = make_policy("playbook"), Cautious(make_policy("playbook"), 0.5)
        inner.start(TOPOLOGY, table)
        policy.start(TOPOLOGY, table)
        found = policy.decide(unsure)
        assert found.action[:2].tolist() == [instead, instead]
        np.testing.assert_array_equal(found.action[2:], inner.decide(unsure).action[2:])
        assert (policy.decisions, policy.covered) == (4, 2)
        assert "not decided alone" in found.explain(0)


# --- against the simulator


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return load_scenario(str(path))


def test_up_to_the_first_decision_a_run_is_the_same_whoever_decides(small: Scenario) -> None:
    study = Study(
        small, seed=8, episodes=40, round_size=20, detector="threshold", diagnoser="max_score",
        policies=("noop", "playbook"), frozen=True,
    )  # fmt: skip
    detector = trained_detector("threshold", small, seed=0)
    players = contestants(study, detector, {})
    soft = Softened(make_policy("playbook"), 0.5)
    players.append(Contestant("soft", Agent(detector, make_diagnoser("max_score"), soft), "threshold", "max_score"))
    logs: dict[str, list[Log]] = {}
    hold(
        study,
        players,
        replays=False,
        on_round=lambda label, e, t: logs.setdefault(label, []).append(first_decisions(e, t)),
    )
    whole = {label: merged(parts) for label, parts in logs.items()}
    for name in ("playbook", "soft"):
        np.testing.assert_array_equal(whole[name].run, whole["noop"].run)
        assert whole[name].context == whole["noop"].context
    assert (whole["noop"].action == 0).all()
    same = whole["soft"].action == whole["playbook"].action
    assert 0 < same.sum() < same.size
    # the same choice in the same run is the same future
    np.testing.assert_array_equal(whole["soft"].reward[same], whole["playbook"].reward[same])


def test_the_audit_says_how_wrong_each_estimate_is(tiny: str, invoke: Invoke) -> None:
    result = invoke("ope", "--scenario", tiny, "--episodes", 24, "--policies", "noop,playbook", "--json", "--quiet")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert {row["policy"] for row in found["audit"]} == {"noop", "playbook"}
    for row in found["audit"]:
        assert 0.0 <= row["truth"] <= 1.0
        assert 0 < row["ess"] <= row["runs"]
    text = invoke("ope", "--scenario", tiny, "--episodes", 4, "--policies", "noop")
    assert "holds truth" in text.out
    assert "doubly robust" in text.out


def test_only_certain_policies_are_audited(invoke: Invoke) -> None:
    result = invoke("ope", "--policies", "random,nop")
    assert result.code == 2
    assert "certain of their choices" in result.err
    assert "did you mean 'noop'" in result.err


def test_harm_is_shown_against_coverage(tiny: str, invoke: Invoke) -> None:
    arguments = ("abstain", "--scenario", tiny, "--policy", "playbook", "--episodes", 6, "--quiet")
    found = json.loads(invoke(*arguments, "--thresholds", "0,0.6,1.01", "--json").out)
    coverage = [level["coverage"] for level in found["levels"]]
    assert coverage[0] is None  # noop
    assert coverage[1] == 1.0
    assert coverage[1] >= coverage[2] >= coverage[3] == 0.0
    levels = {level["threshold"]: level for level in found["levels"]}
    assert levels["1.01"]["error_budget_spent"] == levels["noop"]["error_budget_spent"]
    assert "coverage" in invoke(*arguments, "--thresholds", "0.5").out


def test_thresholds_that_make_no_sense_are_refused(invoke: Invoke) -> None:
    assert "numbers joined by commas" in invoke("abstain", "--thresholds", "0,high").err
    assert "from 0 to 2" in invoke("abstain", "--thresholds", "0,0").err
