"""What every registered detector, diagnoser and policy has to keep to."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from agent.api import AgentTrace, ConsultsRollouts, Decision, Detection, Situation
from agent.forking import forked
from agent.registry import DETECTORS, DIAGNOSERS, POLICIES, make_detector, make_diagnoser, make_policy
from simcore.errors import InputError, RegistryError
from simcore.streams import run_key
from simcore.windows import Metric
from tests.agent_world import (
    API,
    CACHE,
    DB,
    TOPOLOGY,
    MadeUpRollouts,
    actions,
    ask,
    failing,
    healthy,
    keys,
    observe,
    remember,
    slow,
)

TABLE = actions()
N_RUNS = 5

#: Detectors with options that change how they work.
VARIANTS = [(name, {}) for name in DETECTORS] + [
    ("isolation_forest", {"mode": "own", "n_trees": 20, "warmup_steps": 20})
]


def troubled() -> np.ndarray:
    """Return runs with faults, gaps and an outage."""
    metrics = healthy(N_RUNS, 60, seed=9)
    slow(metrics, 0, DB, 35)
    failing(metrics, 1, CACHE, 30)
    metrics[2, 32:, :, [Metric.P95_S, Metric.P50_S]] = np.nan
    metrics[3, 40:] = np.nan
    metrics[4, 33:, API, Metric.CPU_UTIL] = 0.97
    return metrics


def frozen(value: Any) -> Any:
    """Make all arrays of a dataclass read-only, and return it."""
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if isinstance(part, np.ndarray):
            part.setflags(write=False)
    return value


def fitted(name: str, options: dict[str, Any]) -> Any:
    detector = make_detector(name, **options)
    detector.fit(healthy(8, 60), TOPOLOGY, seed=3)
    detector.calibrate(healthy(8, 60, seed=1), TOPOLOGY, rate_per_hour=10.0, seed=3)
    return detector


_fitted: dict[str, Any] = {}


@pytest.fixture(params=VARIANTS, ids=[f"{name}-{options.get('mode', '')}".rstrip("-") for name, options in VARIANTS])
def detector(request: pytest.FixtureRequest) -> Any:
    name, options = request.param
    label = f"{name}{options}"
    if label not in _fitted:
        _fitted[label] = fitted(name, options)
    return copy.deepcopy(_fitted[label])


def watch(detector: Any, metrics: np.ndarray, rows: list[int]) -> list[Detection]:
    detector.start(TOPOLOGY, keys(N_RUNS)[rows])
    return [detector.update(frozen(observe(metrics[rows], t))) for t in range(metrics.shape[1])]


def stacked(seen: list[Detection], name: str) -> np.ndarray:
    return np.stack([getattr(d, name) for d in seen], 1)


# --- detectors


def test_a_detector_says_what_it_must_in_the_right_shapes(detector: Any) -> None:
    for detection in watch(detector, troubled(), list(range(N_RUNS))):
        assert detection.alarm.shape == detection.overall.shape == (N_RUNS,)
        assert detection.score.shape == detection.excess.shape == (N_RUNS, 3)
        assert detection.alarm.dtype == np.bool_
        assert detection.overall.dtype == detection.score.dtype == np.float64
        assert not np.isinf(detection.score).any()
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(detection.score)
        expected = [row[k].mean() if k.any() else np.nan for row, k in zip(detection.score, known, strict=True)]
        np.testing.assert_allclose(detection.overall, expected)


def test_a_detector_raises_an_alarm_for_trouble_and_none_before_the_first_scrape(detector: Any) -> None:
    seen = watch(detector, troubled(), list(range(N_RUNS)))
    assert not seen[0].alarm.any()
    assert not seen[1].alarm.any()
    assert np.isnan(seen[0].score).all()
    assert seen[55].alarm[[0, 1]].any()


def test_a_detector_judges_a_run_alone_as_in_a_batch(detector: Any) -> None:
    together = watch(detector, troubled(), list(range(N_RUNS)))
    alone = watch(detector, troubled(), [4])
    for name in ("alarm", "overall", "score", "excess"):
        np.testing.assert_array_equal(stacked(together, name)[4], stacked(alone, name)[0])


def test_a_forked_detector_goes_on_as_if_it_had_been_there_all_along(detector: Any) -> None:
    metrics, rows = troubled(), np.array([3, 0, 0, 1])
    whole = watch(detector, metrics, list(range(N_RUNS)))
    detector.start(TOPOLOGY, keys(N_RUNS))
    for t in range(36):
        detector.update(frozen(observe(metrics, t)))
    twin = forked(detector, rows)
    later = [twin.update(frozen(observe(metrics[rows], t))) for t in range(36, metrics.shape[1])]
    original = [detector.update(frozen(observe(metrics, t))) for t in range(36, metrics.shape[1])]
    for name in ("alarm", "overall", "score", "excess"):
        np.testing.assert_array_equal(stacked(whole, name)[rows, 36:], stacked(later, name))
        np.testing.assert_array_equal(stacked(whole, name)[:, 36:], stacked(original, name))


def test_a_detector_starts_anew_with_every_batch(detector: Any) -> None:
    first, second = (watch(detector, troubled(), [0, 1, 2]) for _ in range(2))
    for name in ("alarm", "score"):
        np.testing.assert_array_equal(stacked(first, name), stacked(second, name))


def test_fitting_again_gives_the_same_detector(detector: Any) -> None:
    again = type(detector)(
        **(
            {"mode": "own", "n_trees": 20, "warmup_steps": 20}
            if detector.state()["learned"].get("options", {}).get("mode") == "own"
            else {}
        )
    )
    again.fit(healthy(8, 60), TOPOLOGY, seed=3)
    again.calibrate(healthy(8, 60, seed=1), TOPOLOGY, rate_per_hour=10.0, seed=3)
    assert json.dumps(again.state()) == json.dumps(detector.state())


def test_a_detector_survives_being_saved_and_loaded(detector: Any) -> None:
    copied = make_detector(detector.name)
    copied.load(json.loads(json.dumps(detector.state(), allow_nan=False)))
    rows = list(range(N_RUNS))
    one, other = watch(detector, troubled(), rows), watch(copied, troubled(), rows)
    for name in ("alarm", "overall", "score", "excess"):
        np.testing.assert_array_equal(stacked(one, name), stacked(other, name))
    assert json.dumps(copied.state()) == json.dumps(detector.state())


def test_a_replay_scores_as_if_the_runs_were_met_live(detector: Any) -> None:
    metrics = troubled()
    replayed = detector.replay(metrics, TOPOLOGY, seed=3)
    detector.start(TOPOLOGY, np.array([run_key(3, "test", run, 5) for run in range(N_RUNS)], np.uint64))
    live = stacked([detector.update(observe(metrics, t + 2)) for t in range(metrics.shape[1])], "score")
    np.testing.assert_array_equal(replayed, live)


def test_a_detector_refuses_the_state_of_another(detector: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        detector.load({"name": "somebody", "version": 1})


# --- diagnosers


@pytest.fixture(params=list(DIAGNOSERS))
def diagnoser(request: pytest.FixtureRequest) -> Any:
    return make_diagnoser(request.param)


def diagnose(diagnoser: Any, rows: list[int], wanted: list[int], step: int = 45) -> Any:
    metrics = troubled()[rows]
    excess = np.random.default_rng(1).gamma(1, 1, (N_RUNS, 3))
    excess[2] = np.nan
    detection = frozen(Detection(np.ones(len(rows), np.bool_), excess[rows].mean(1), excess[rows], excess[rows].copy()))
    diagnoser.start(TOPOLOGY, keys(N_RUNS)[rows])
    return diagnoser.diagnose(frozen(observe(metrics, step)), detection, remember(metrics, step, 34), np.array(wanted))


@pytest.mark.parametrize("step", [0, 1, 3, 45])
def test_a_diagnoser_ranks_all_services_once_at_any_time(diagnoser: Any, step: int) -> None:
    diagnosis = diagnose(diagnoser, list(range(N_RUNS)), [0, 2, 3], step)
    assert diagnosis.runs.tolist() == [0, 2, 3]
    assert (np.sort(diagnosis.ranked, 1) == np.arange(3)).all()
    assert ((diagnosis.confidence >= 0) & (diagnosis.confidence <= 1)).all()
    named = diagnosis.suspect >= 0
    np.testing.assert_array_equal(diagnosis.suspect[named], diagnosis.ranked[named, 0])
    for row in range(3):
        text = diagnosis.explain(row)
        assert text
        assert "nan" not in text


def test_a_diagnoser_says_of_a_run_alone_what_it_says_in_a_batch(diagnoser: Any) -> None:
    together, alone = diagnose(diagnoser, list(range(N_RUNS)), [0, 1, 3]), diagnose(diagnoser, [1], [0])
    for name in ("suspect", "confidence", "ranked"):
        np.testing.assert_array_equal(getattr(together, name)[1], getattr(alone, name)[0])
    assert together.explain(1) == alone.explain(0)


def test_a_forked_diagnoser_says_what_the_original_says(diagnoser: Any) -> None:
    rows, metrics = np.array([3, 0, 0]), troubled()
    whole = diagnose(diagnoser, list(range(N_RUNS)), [3, 0, 0])
    twin = forked(diagnoser, rows)
    excess = np.random.default_rng(1).gamma(1, 1, (N_RUNS, 3))
    excess[2] = np.nan
    detection = frozen(Detection(np.ones(3, np.bool_), excess[rows].mean(1), excess[rows], excess[rows].copy()))
    later = twin.diagnose(
        frozen(observe(metrics[rows], 45)), detection, forked(remember(metrics, 45, 34), rows), np.arange(3)
    )
    for name in ("suspect", "confidence", "ranked"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(later, name))


def test_a_diagnoser_repeats_itself(diagnoser: Any) -> None:
    one, other = (diagnose(diagnoser, list(range(N_RUNS)), [0, 1, 4]) for _ in range(2))
    np.testing.assert_array_equal(one.ranked, other.ranked)
    np.testing.assert_array_equal(one.confidence, other.confidence)


# --- policies


@pytest.fixture(params=list(POLICIES))
def policy(request: pytest.FixtureRequest) -> Any:
    return started(make_policy(request.param))


def started(policy: Any) -> Any:
    policy.start(TOPOLOGY, TABLE)
    if isinstance(policy, ConsultsRollouts):
        policy.consult(MadeUpRollouts())
    return policy


def situations() -> list[Situation]:
    rng = np.random.default_rng(2)
    metrics, found = troubled(), []
    for suspect in (-1, API, CACHE, DB):
        for step in (0, 3, 45):
            allowed = rng.random((N_RUNS, len(TABLE))) < 0.5
            allowed[:, 0] = True
            situation = ask(metrics, step, suspect, seed=step, allowed=allowed)
            frozen(situation.observation)
            found.append(frozen(situation))
    return found


def part(situation: Situation, rows: list[int]) -> Situation:
    """Return some rows of a situation."""
    signature = dataclasses.replace(
        situation.signature,
        **{f.name: getattr(situation.signature, f.name)[rows] for f in dataclasses.fields(situation.signature)},
    )
    return dataclasses.replace(
        situation,
        runs=situation.runs[rows],
        keys=situation.keys[rows],
        signature=signature,
        allowed=situation.allowed[rows],
    )


def test_a_policy_chooses_only_what_is_allowed(policy: Any) -> None:
    for situation in situations():
        choices = policy.decide(situation)
        rows = np.arange(N_RUNS)
        assert choices.action.shape == choices.propensity.shape == choices.score.shape == (N_RUNS,)
        assert situation.allowed[rows, choices.action].all()
        assert ((choices.propensity > 0) & (choices.propensity <= 1)).all()
        assert all(choices.explain(row) for row in rows)


def test_a_forked_policy_decides_as_the_original(policy: Any) -> None:
    before = situations()[4]
    policy.decide(before)
    twin = forked(policy, np.array([3]))
    one = part(before, [3])
    moved = dataclasses.replace(
        one,
        runs=np.zeros(1, np.int64),
        observation=taken(before.observation, [3]),
        history=forked(before.history, np.array([3])),
        diagnosis=dataclasses.replace(taken(before.diagnosis, [3]), runs=np.zeros(1, np.int64)),
    )
    np.testing.assert_array_equal(twin.decide(moved).action, policy.decide(before).action[3:4])


def taken(value: Any, rows: list[int]) -> Any:
    """Return a dataclass of arrays with some rows of each."""
    arrays = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **{n: a[rows] for n, a in arrays.items() if isinstance(a, np.ndarray)})


def test_a_policy_with_nothing_allowed_waits(policy: Any) -> None:
    nothing = np.zeros((N_RUNS, len(TABLE)), np.bool_)
    nothing[:, 0] = True
    assert not policy.decide(ask(troubled(), 45, DB, allowed=nothing)).action.any()


def test_a_policy_decides_for_a_run_alone_as_in_a_batch_and_again_the_same(policy: Any) -> None:
    for situation in situations():
        together, again, alone = (policy.decide(s) for s in (situation, situation, part(situation, [3])))
        for name in ("action", "propensity", "score"):
            np.testing.assert_array_equal(getattr(together, name), getattr(again, name))
            np.testing.assert_array_equal(getattr(together, name)[3], getattr(alone, name)[0])


def lessons(policy: Any) -> list[Any]:
    """Return the decisions that a policy takes in the situations, with rewards."""
    rng, found = np.random.default_rng(4), []
    for situation in situations():
        choices = policy.decide(situation)
        found += [
            Decision(
                run=row, opened=0, action=int(action), code=int(TABLE.code[action]), legal=(0, 1), propensity=1.0,
                score=0.5, signature=situation.signature.key(row, TOPOLOGY.services), target=DB, explain=str, closed=5,
                reward=rng.random(), context=() if choices.context is None else tuple(choices.context[row].tolist()),
            )
            for row, action in enumerate(choices.action)
        ]  # fmt: skip
    return found


def test_a_policy_survives_being_saved_and_loaded(policy: Any) -> None:
    policy.merge(lessons(policy))
    copied = make_policy(policy.name)
    copied.load(json.loads(json.dumps(policy.state(), allow_nan=False)))
    started(copied)
    assert json.dumps(copied.state()) == json.dumps(policy.state())
    for situation in situations():
        np.testing.assert_array_equal(policy.decide(situation).action, copied.decide(situation).action)


def test_a_frozen_policy_is_certain_unless_chance_is_its_nature(policy: Any) -> None:
    policy.merge(lessons(policy))
    policy.freeze()
    for situation in situations():
        propensity = policy.decide(situation).propensity
        assert policy.name == "random" or (propensity == 1).all()


def test_a_policy_refuses_the_state_of_another(policy: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        policy.load({"name": "somebody", "version": 1})


# --- registries


def test_names_are_those_of_the_classes_and_described_in_one_line() -> None:
    for table, make in ((DETECTORS, make_detector), (DIAGNOSERS, make_diagnoser), (POLICIES, make_policy)):
        for name, entry in table.items():
            assert make(name).name == name
            assert entry.description
            assert "\n" not in entry.description


@pytest.mark.parametrize(
    ("make", "name", "hint"),
    [
        (make_detector, "isolation_forrest", "did you mean 'isolation_forest'"),
        (make_diagnoser, "causal", "no diagnoser is called 'causal'"),
        (make_policy, "bandid", "did you mean 'bandit'"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(make: Any, name: str, hint: str) -> None:
    with pytest.raises(RegistryError, match=hint):
        make(name)


def test_the_trace_holds_what_scoring_needs() -> None:
    needed = {"alarm", "overall", "score", "choice", "suspect", "confidence", "ranked", "decisions"}
    assert needed <= {field.name for field in dataclasses.fields(AgentTrace)}
