"""Experts and oracles know the truth, and the stages share out what is lost."""

import numpy as np
import polars as pl
import pytest

from agent.evaluation.compare import Comparison
from agent.evaluation.contest import hold
from agent.evaluation.isolation import STAGES, attribute, label, variants
from agent.evaluation.oracles import OracleDetector, OracleDiagnoser
from agent.evaluation.study import Study
from agent.evaluation.training import trained_detector
from agent.loop import RENEW_STEPS, Agent
from agent.play import play
from agent.policies.expert import REPLACED_BY, Expert
from agent.registry import make_diagnoser, make_policy
from simcore.codes import Place
from simcore.env import Episodes
from simcore.env.actions import build_actions
from simcore.model.faults import CATALOGUE, parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric
from tests.conftest import TINY
from tests.test_compare import made


@pytest.fixture(scope="module")
def clinic() -> Scenario:
    return load_scenario("clinic")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return load_scenario(str(path))


@pytest.mark.parametrize(("place", "kind"), [(place, kind) for place, kinds in REPLACED_BY.items() for kind in kinds])
def test_every_kind_of_action_that_replaces_a_place_heals_what_lives_there(
    clinic: Scenario, place: Place, kind: str
) -> None:
    type_, target = {Place.CONTENT: ("cache_poison", "cache"), Place.CREDENTIAL: ("expiry", "stock")}.get(
        place, ("error_burst", "front/0" if kind == "quarantine" else "front")
    )
    name = f"{kind}({target.replace('/', '/')})"
    fault = parse_fault(f"{type_}@{target}", clinic, onset_s=100.0, severity=1.0, place=place.name.lower())
    runs = [make_run(clinic, seed=1, split="test", run=run, faults=(fault,)) for run in range(4)]
    episodes = Episodes(clinic, runs)
    while episodes.step < 60:
        if episodes.step == 30:
            episodes.act(np.full(4, episodes.actions.names.index(name)))
        episodes.advance()
    errors = episodes.metrics[:, :, -1, Metric.ERROR_RATE]
    failed = np.array([not record.succeeds for record in episodes.records])
    before, after = errors[:, 22:29].mean(1), errors[:, 45:60].mean(1)
    assert (before > 0.02).all()
    assert (after[~failed] < 0.25 * before[~failed]).all(), (before, after)
    assert not failed.all()


def test_an_expert_mends_every_fault_of_the_clinic_that_its_actions_reach(clinic: Scenario) -> None:
    detector = trained_detector("threshold", clinic, seed=0)
    spent: dict[str, tuple[float, float]] = {}
    for name, kind in CATALOGUE.items():
        if kind.claim is None or kind.claim.fix.kind not in set(build_actions(clinic).kinds):
            continue
        at = name if kind.claim.target is None else f"{name}@{kind.claim.target}"
        fault = parse_fault(at, clinic, onset_s=100.0, severity=1.0)
        runs = [make_run(clinic, seed=3, split="test", run=run, faults=(fault,)) for run in range(3)]
        bad = []
        for policy in ("noop", "expert"):
            episodes = Episodes(clinic, runs)
            play(episodes, Agent(detector, make_diagnoser("max_score"), make_policy(policy)))
            bad.append(float(episodes.bad.sum()))
        spent[name] = bad[0], bad[1]
    assert len(spent) > 15
    worse = {name: pair for name, pair in spent.items() if pair[1] > 1.1 * pair[0] + 30}
    mended = {name for name, (noop, expert) in spent.items() if noop > 300 and expert < 0.5 * noop}
    serious = {name for name, (noop, _) in spent.items() if noop > 300}
    assert not worse
    assert len(mended) >= 0.7 * len(serious), {name: spent[name] for name in serious - mended}


def test_an_expert_who_was_told_nothing_waits() -> None:
    from tests.test_agent_contract import TABLE, TOPOLOGY, situations

    expert = Expert()
    expert.start(TOPOLOGY, TABLE)
    assert not any(expert.decide(situation).action.any() for situation in situations())


def closely(scenario: Scenario, *, informed_by: str) -> tuple[Episodes, object]:
    detector = OracleDetector(trained_detector("threshold", scenario, seed=0))
    runs = [make_run(scenario, seed=4, split="test", run=run) for run in range(12)]
    episodes = Episodes(scenario, runs)
    agent = Agent(detector, OracleDiagnoser(make_diagnoser("max_score")), make_policy(informed_by))
    return episodes, play(episodes, agent)


def test_oracle_detection_is_in_time_for_what_will_hurt_and_silent_otherwise(small: Scenario) -> None:
    episodes, trace = closely(small, informed_by="noop")
    seen = 0
    for i, run in enumerate(episodes.runs):
        alarm = np.flatnonzero(trace.alarm[i])  # type: ignore[attr-defined]
        begin = int(episodes.fault_steps[i])
        hurts = begin >= 0 and episodes.incident_open[i, begin:].any()
        assert bool(alarm.size) == bool(hurts or episodes.incident_open[i].any())
        if hurts:
            seen += 1
            first_broken = begin + int(np.argmax(episodes.violating[i, begin:]))
            mine = alarm[alarm * small.timing.step_s >= run.faults[0].onset_s]
            assert mine[0] <= first_broken + 1
    assert 2 < seen < 12


def test_oracle_diagnosis_names_the_service_at_fault(small: Scenario) -> None:
    episodes, trace = closely(small, informed_by="noop")
    named = 0
    for i, run in enumerate(episodes.runs):
        if not run.faults:
            continue
        # what was said before the onset is renewed after a few steps
        first = int(np.ceil(run.faults[0].onset_s / small.timing.step_s)) + RENEW_STEPS
        said = trace.suspect[i, first:][trace.ranked[i, first:, 0] >= 0]  # type: ignore[attr-defined]
        named += said.size
        assert (said == run.faults[0].service).all()
    assert named > 20


@pytest.fixture(scope="module")
def isolated(small: Scenario) -> pl.DataFrame:
    study = Study(
        small, seed=5, episodes=10, detector="threshold", diagnoser="max_score", policies=("playbook",), frozen=True
    )
    return hold(study, variants(study, trained_detector("threshold", small, seed=0), {}), replays=False).episodes


def test_every_set_of_stages_is_played_on_the_same_runs(isolated: pl.DataFrame) -> None:
    runs = Comparison(isolated, seed=1)
    expected = {
        "noop", "agent", "oracle detection", "oracle diagnosis", "oracle decision", "oracle detection+diagnosis",
        "oracle detection+decision",
    }  # fmt: skip
    assert set(runs.policies) == expected
    assert runs.runs == 10


def test_who_knows_the_fault_does_not_listen_to_the_diagnosis(small: Scenario, isolated: pl.DataFrame) -> None:
    study = Study(small, seed=5, episodes=10, detector="threshold", diagnoser="random", policies=("noop",), frozen=True)
    players = variants(study, trained_detector("threshold", small, seed=0), {})
    other = hold(study, [p for p in players if p.label == "oracle decision"], replays=False).episodes
    same = isolated.filter(pl.col("policy") == "oracle decision")
    assert other.select("run", "bad", "j", "actions").equals(same.select("run", "bad", "j", "actions"))


def test_what_the_stages_lose_adds_up_to_what_the_agent_loses(isolated: pl.DataFrame) -> None:
    runs = Comparison(isolated, seed=1)
    rows = {row["stage"]: row for row in attribute(runs)}
    assert sum(rows[stage]["lost"] for stage in STAGES) == pytest.approx(rows["all"]["lost"])
    spent = {name: runs.column(name, "error_budget_spent").mean() for name in runs.policies}
    assert rows["all"]["lost"] == pytest.approx(spent["agent"] - spent["oracle detection+decision"])
    assert spent["oracle detection+decision"] < spent["noop"]


def test_a_stage_that_alone_loses_everything_gets_all_the_blame() -> None:
    levels = {label(()): 5.0, label(("detection",)): 5.0, label(("diagnosis",)): 2.0, label(("decision",)): 5.0}
    levels |= {label(("detection", "diagnosis")): 2.0, label(("detection", "decision")): 2.0}
    # an expert does not listen to the diagnosis: its level stands for both
    levels[label(("decision",))] = 2.0
    table = pl.concat([made(6, policy=name, error_budget_spent=value) for name, value in levels.items()])
    rows = {row["stage"]: row for row in attribute(Comparison(table, seed=1))}
    assert rows["detection"]["lost"] == pytest.approx(0.0)
    assert rows["diagnosis"]["lost"] + rows["decision"]["lost"] == pytest.approx(3.0)
    assert rows["diagnosis"]["alone"] == pytest.approx(3.0)
    assert rows["all"]["share"] == pytest.approx(1.0)
