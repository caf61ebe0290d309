"""The Bayesian diagnoser: what its posterior is, how it learns, and whether its probabilities can be believed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from agent.diagnosers.bayes import NOTHING, WORKLOAD, Bayes, log_posterior
from agent.diagnosers.features import SERVICE_FEATURES, SYSTEM_FEATURES
from agent.evaluation.learning import Examples, _loss, _truth, calibrated, collect, fit, joined, probabilities
from agent.evaluation.reliability import reliability
from agent.evaluation.study import Study
from simcore.errors import InputError
from simcore.model.loader import load_scenario
from simcore.telemetry.writers import read_table
from tests.agent_world import API, DB, TOPOLOGY, failing, healthy, keys, observe, remember, slow, strange
from tests.conftest import TINY, Invoke

N_SERVICE, N_SYSTEM = len(SERVICE_FEATURES), len(SYSTEM_FEATURES)
KINDS = ("slow", "broken")


def made_up(n: int, *, services: int = 4, seed: int = 0, noise: float = 1.0) -> Examples:
    """Return examples in which feature k of the service at fault is high for kind k, and workload and nothing show."""
    rng = np.random.default_rng(seed)
    service, system = rng.normal(0, noise, (n, services, N_SERVICE)), rng.normal(0, noise, (n, N_SYSTEM))
    truth, others = np.zeros((n, services, 2), np.bool_), np.zeros((n, 2), np.bool_)
    for row in range(n):
        what = rng.integers(0, 4)
        if what < 2:
            at = rng.integers(0, services)
            truth[row, at, what] = True
            service[row, at, what] += 3.0
        else:
            others[row, what - 2] = True
            system[row, what - 2] += 3.0
    return Examples(service, system, truth, others, np.ones(n), KINDS)


def test_the_posterior_adds_up_to_one_and_leaves_out_services_that_are_not_there() -> None:
    examples = made_up(5)
    examples.service[2, 3] = np.nan
    rng = np.random.default_rng(1)
    log_p = log_posterior(
        examples.service, examples.system, rng.normal(size=(2, N_SERVICE + 1)), rng.normal(size=(2, N_SYSTEM + 1))
    )
    p = np.exp(log_p)
    np.testing.assert_allclose(p.sum(1), 1.0)
    assert (p[2, 6:8] == 0).all()
    assert (p[2, :6] > 0).all()


def test_the_posterior_is_bayes_rule_where_the_likelihoods_are_known() -> None:
    # one feature that is normal around 0, and around 2 at the service at fault: log likelihood ratio 2 x - 2
    weights, others = np.zeros((1, N_SERVICE + 1)), np.zeros((2, N_SYSTEM + 1))
    weights[0, 0], weights[0, -1] = 2.0, -2.0 + np.log(0.1)
    others[:, -1] = np.log([0.3, 0.5])
    x = np.zeros((1, 2, N_SERVICE))
    x[0, :, 0] = 1.7, -0.4
    p = np.exp(log_posterior(x, np.zeros((1, N_SYSTEM)), weights, others))[0]

    def density(value: float, mean: float) -> float:
        return float(np.exp(-0.5 * (value - mean) ** 2))

    joint = np.array(
        [
            0.1 * density(1.7, 2) * density(-0.4, 0),
            0.1 * density(1.7, 0) * density(-0.4, 2),
            0.3 * density(1.7, 0) * density(-0.4, 0),
            0.5 * density(1.7, 0) * density(-0.4, 0),
        ]
    )
    np.testing.assert_allclose(p, joint / joint.sum())
    assert p[WORKLOAD] == pytest.approx(p[NOTHING] * 0.6)


def test_the_slope_of_the_loss_is_its_derivative() -> None:
    examples = made_up(30)
    examples.truth[3, :2, 0] = True  # either is right
    rng = np.random.default_rng(3)
    flat = rng.normal(0, 0.3, 2 * (N_SERVICE + 1) + 2 * (N_SYSTEM + 1))
    _, slope = _loss(flat, examples, _truth(examples))
    for i in (*rng.integers(0, flat.size, 12), N_SERVICE, flat.size - 1):
        step = np.zeros(flat.size)
        step[i] = 1e-5
        up, down = (_loss(flat + sign * step, examples, _truth(examples))[0] for sign in (1, -1))
        assert slope[i] == pytest.approx((up - down) / 2e-5, abs=1e-6)


def test_what_is_learned_finds_service_and_kind_in_systems_of_another_size() -> None:
    made = fit(joined([made_up(400, seed=1, noise=0.7), made_up(200, services=6, seed=2, noise=0.7)]), learned_from="")
    other = made_up(300, services=9, seed=5, noise=0.7)
    p, true = probabilities(made, other)
    assert p.shape == (300, 11)
    assert true[np.arange(300), p.argmax(1)].mean() > 0.85
    assert p[true].mean() > 0.7


def test_probabilities_are_calibrated_on_other_examples() -> None:
    bold = fit(made_up(150, noise=0.8, seed=1), learned_from="few")
    bold.weights, bold.others = 4 * bold.weights, 4 * bold.others
    before = reliability(bold, made_up(3000, seed=7))
    mild, temperature = calibrated(bold, made_up(1500, seed=6))
    after = reliability(mild, made_up(3000, seed=7))
    assert temperature > 1.5
    assert after["gap"] < 0.04 < before["gap"]
    assert after["brier"] < before["brier"]
    assert after["ac1"] == pytest.approx(before["ac1"])


def test_reliability_is_what_it_says() -> None:
    examples = made_up(4)
    sure = fit(made_up(300, noise=0.1), learned_from="x")
    found = reliability(sure, made_up(200, noise=0.1, seed=9))
    assert found["ac1"] == pytest.approx(1.0)
    assert found["brier"] < 0.01
    assert sum(part["share"] for part in found["bins"]) == pytest.approx(1.0)
    # one that knows nothing: 10 hypotheses of the same probability, 8 of them at services
    sure.weights, sure.others = 0 * sure.weights, 0 * sure.others
    found = reliability(
        sure, dataclasses.replace(examples, others=np.tile([True, False], (4, 1)), truth=examples.truth & False)
    )
    assert found["brier"] == pytest.approx(4 * 0.2**2 + 0.9**2 + 0.1**2)
    assert found["bins"][0]["mean"] == pytest.approx(0.2)


def test_the_one_that_comes_along_knows_slow_and_failing_services_of_a_system_it_never_saw() -> None:
    metrics = healthy(2, 60)
    slow(metrics, 0, DB, 40)
    failing(metrics, 1, API, 40)
    made = Bayes()
    made.start(TOPOLOGY, keys(2))
    detection = strange(2, API, 1.2)
    detection.excess[0, DB] = 1.5  # the slow one is strange too, as any detector would find
    diagnosis = made.diagnose(observe(metrics, 50), detection, remember(metrics, 50, 42), np.arange(2))
    assert diagnosis.suspect.tolist() == [DB, API]
    assert diagnosis.blame is not None
    np.testing.assert_allclose(diagnosis.confidence, diagnosis.blame.max(1))
    assert "most likely" in diagnosis.explain(0)
    assert "%" in diagnosis.explain(0)


def test_a_state_goes_through_json_and_a_damaged_one_is_refused() -> None:
    made = Bayes()
    state = json.loads(json.dumps(made.state(), allow_nan=False))
    copied = Bayes()
    copied.load(state)
    assert copied.state() == made.state()
    for change, message in (
        ({"name": "somebody"}, "expected the state of diagnoser bayes"),
        ({"features": ["a"]}, "train it anew"),
        ({"weights": [[1.0]]}, "expected finite weights"),
        ({"weights": "x"}, "expected weights"),
        ({"classes": None}, "expected weights, others, classes"),
    ):
        with pytest.raises(InputError, match=message):
            copied.load(state | change)


def test_examples_carry_the_truth_of_their_time_and_runs_weigh_alike(tiny: str, tmp_path: Path) -> None:
    study = Study(load_scenario(tiny), seed=2, episodes=14, split="train", round_size=6, detector="threshold")
    examples = collect(study)
    assert examples.service.shape[1:] == (2, N_SERVICE)
    assert np.isfinite(examples.service).all()
    assert np.isfinite(examples.system).all()
    said = examples.truth.any((1, 2)).astype(int) + examples.others.sum(1)
    assert (said == 1).all()
    kinds = {examples.classes[k] for k in np.flatnonzero(examples.truth.any((0, 1)))}
    assert kinds <= {"error_burst", "latency_spike"}
    assert examples.truth[:, 1].any()  # db is where faults are
    assert not examples.truth[:, 0].any()
    total = examples.weight.sum()
    assert total == pytest.approx(round(total))
    assert 2 <= total <= 14
    quiet = TINY.replace("noise: {deploys_per_hour: 6, config_changes_per_hour: 6, bursts_per_hour: 6}\n", "")
    quiet = quiet.replace("rate_rps: 8", "rate_rps: 2").replace("p95_s: 0.3", "p95_s: 0.5")
    (tmp_path / "calm.yaml").write_text(quiet, encoding="utf-8")
    calm = dataclasses.replace(study, scenario=load_scenario(str(tmp_path / "calm.yaml")), faults=(), episodes=2)
    with pytest.raises(InputError, match="none of 2 runs of tiny raised an alarm"):
        collect(calm)


def test_the_command_teaches_verifies_and_writes_a_state_that_loads(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    told = ("train", "diagnoser", "--scenario", tiny, "--episodes", 12, "--detector", "threshold", "--quiet")
    result = invoke(*told, "--out", tmp_path / "b.json")
    assert result.code == 0, result.err
    assert "Brier score" in result.out
    made = Bayes()
    made.load(json.loads((tmp_path / "b.json").read_text(encoding="utf-8")))
    assert made.learned_from == "tiny: 12 runs each, seed 1"
    again = json.loads(invoke(*told, "--out", tmp_path / "c.json", "--json", "--threads", 1).out)
    assert 0 <= again["brier"] <= 2
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    wrong = invoke("train", "diagnoser", "--scenario", "tin,mm4", "--detector", "x", "--out", tmp_path / "b.json")
    assert wrong.code == 2
    for part in ("no scenario 'tin'", "--detector must be one of", "use --force", "draws no faults"):
        assert part in wrong.err


def test_a_learned_state_can_be_judged_beside_others(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    state = Bayes().state()
    state["weights"] = (0 * np.array(state["weights"])).tolist()
    state["others"] = [[0.0] * (N_SYSTEM + 1), [0.0] * N_SYSTEM + [50.0]]  # sure that nothing is wrong
    (tmp_path / "calm.json").write_text(json.dumps(state), encoding="utf-8")
    told = ("rca", "simulate", "--scenario", tiny, "--episodes", 6, "--detector", "threshold", "--quiet", "--json")
    told = (*told, "--fault", "error_burst@db", "--onset", "60", "--severity", "0.9")
    found = [
        json.loads(invoke(*told, "--diagnoser", "bayes,max_z", *more).out)["ac1"][-1]
        for more in ((), ("--diagnoser-in", tmp_path / "calm.json"))
    ]
    assert found[0]["max_z"] == found[1]["max_z"]
    assert found[0]["bayes"] > found[1]["bayes"] == 0.0
    (tmp_path / "other.json").write_text('{"name": "max_z"}', encoding="utf-8")
    for names, message in (("bayes", "must hold the state of one of bayes, got 'max_z'"), ("max_z", "does not learn")):
        refused = invoke(*told, "--diagnoser", names, "--diagnoser-in", tmp_path / "other.json")
        assert refused.code == 2
        assert message in refused.err


def test_an_agent_uses_what_a_diagnoser_learned_and_its_rows_can_be_replayed(
    tiny: str, tmp_path: Path, invoke: Invoke
) -> None:
    state = Bayes().state()
    state["weights"] = (0 * np.array(state["weights"])).tolist()
    state["others"] = [[0.0] * (N_SYSTEM + 1), [0.0] * N_SYSTEM + [50.0]]  # sure that nothing is wrong
    taught, rows = tmp_path / "calm.json", tmp_path / "rows.parquet"
    taught.write_text(json.dumps(state), encoding="utf-8")
    how = ("--scenario", tiny, "--detector", "threshold", "--policy", "playbook", "--quiet", "--steps", 40)
    how = (*how, "--fault", "error_burst@db", "--onset", "60", "--severity", "0.9")
    told = ("eval", *how, "--diagnoser", "bayes", "--episodes", 1, "--diagnoser-in", taught, "--out", rows)
    assert invoke(*told).code == 0
    assert read_table(rows)["diagnosed"].to_list() == ["workload"]
    replayed = invoke("run", "--from", rows, "--row", 0)
    assert replayed.code == 0, replayed.err
    assert "every value is as stored" in replayed.err
    alone = json.loads(invoke("run", *how, "--diagnoser", "bayes", "--json").out)
    assert alone["diagnosed"] == "db"
    refused = invoke("compare", *how[:2], "--diagnoser", "max_z", "--diagnoser-in", taught, "--policies", "bandid")
    assert refused.code == 2
    for words in ("--diagnoser-in", "must hold the state of one of max_z", "did you mean 'bandit'"):
        assert words in refused.err
