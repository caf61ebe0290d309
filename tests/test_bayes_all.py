"""The diagnoser that looks at traces and logs beside metrics: what it uses, what it says, and how it is taught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.api import Diagnosis, History
from agent.diagnosers.bayes_all import BayesAll
from agent.diagnosers.evidence_features import (
    ALL_SERVICE_FEATURES,
    ALL_SYSTEM_FEATURES,
    SOURCES,
    AllFeatures,
    keep,
    source_of,
    words_of,
)
from agent.diagnosers.features import SERVICE_FEATURES, Features
from agent.evaluation.evidence_sources import SETS
from simcore.errors import InputError
from simcore.signals.collector import LOGS, N_SIGNALS, Signal
from tests.agent_world import DB, TOPOLOGY, failing, healthy, keys, observe, strange
from tests.conftest import Invoke

STEPS, ONSET, N_RUNS = 60, 50, 2
RUNS = np.arange(N_RUNS)


def signals(trouble: dict[tuple[int, Signal], float]) -> np.ndarray:
    """Return (run, step, service, signal) that are quiet up to the onset, then show trouble in run 1."""
    rng = np.random.default_rng(3)
    quiet = np.zeros((N_RUNS, STEPS, 3, N_SIGNALS))
    quiet[..., Signal.WORK_S] = 0.02 + rng.normal(0, 0.0005, (N_RUNS, STEPS, 3))
    for (service, signal), value in trouble.items():
        quiet[1, ONSET:, service, signal] += value
    return quiet


def metrics_of(*, broken: bool = False) -> np.ndarray:
    metrics = healthy(N_RUNS, STEPS)
    if broken:
        failing(metrics, 1, DB, ONSET)
    return metrics


def history(seen: np.ndarray | None, *, broken: bool = False) -> History:
    made, metrics = History(TOPOLOGY, N_RUNS), metrics_of(broken=broken)
    for step in range(STEPS):
        extra = {} if seen is None else {"signals": seen[:, step]}
        made.push(observe(metrics, step, **extra), np.full(N_RUNS, step < ONSET))
    return made


def features(seen: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    observation = observe(healthy(N_RUNS, STEPS), STEPS - 1)
    return AllFeatures(TOPOLOGY, N_RUNS).of(observation, strange(N_RUNS, DB), history(seen), RUNS)


def column(found: np.ndarray, name: str) -> np.ndarray:
    return found[..., ALL_SERVICE_FEATURES.index(name)]


def test_without_traces_and_logs_the_features_are_those_of_the_metrics() -> None:
    service, system = features(None)
    observation = observe(healthy(N_RUNS, STEPS), STEPS - 1)
    own, whole = Features(TOPOLOGY, N_RUNS).of(observation, strange(N_RUNS, DB), history(None), RUNS)
    np.testing.assert_array_equal(service[..., : len(SERVICE_FEATURES)], own)
    np.testing.assert_array_equal(system[:, : whole.shape[1]], whole)
    assert not service[..., len(SERVICE_FEATURES) :].any()


def test_what_rises_in_traces_and_logs_shows_at_its_service_and_run_alone() -> None:
    trouble = {(DB, Signal.QUEUE_S): 0.4, (DB, Signal.ERRORS): 0.3, (DB, Signal.OOM): 1.0}
    service, _ = features(signals(trouble))
    for name in ("trace_queue_s", "trace_errors", "log_oom", "trace_time_share", "trace_failure_share"):
        found = column(service, name)
        assert found[1, DB] > 0.4, name
        assert (np.delete(found.ravel(), 3 + DB) < 0.2).all(), name


def test_windows_without_traces_are_no_evidence() -> None:
    blind = signals({(DB, Signal.QUEUE_S): 0.4})
    blind[1, ONSET:] = np.nan
    service, system = features(blind)
    assert np.isfinite(service).all()
    assert np.isfinite(system).all()
    assert not column(service, "trace_queue_s")[1].any()


def test_sources_can_be_left_out() -> None:
    found = features(signals({(DB, Signal.QUEUE_S): 0.4, (DB, Signal.CRASH): 2.0}))
    found[0][0, 2] = np.nan
    service, system = keep(*found, ["metrics", "logs"])
    assert not column(service, "trace_queue_s")[1].any()
    assert column(service, "log_crash")[1, DB] > 0
    assert not system[:, ALL_SYSTEM_FEATURES.index("trace_time")].any()
    assert np.isnan(service[0, 2]).all()


def asked(diagnoser: BayesAll, seen: np.ndarray | None) -> Diagnosis:
    diagnoser.start(TOPOLOGY, keys(N_RUNS))
    observation = observe(metrics_of(broken=True), STEPS - 1)
    return diagnoser.diagnose(observation, strange(N_RUNS, DB), history(seen, broken=True), RUNS)


def test_it_uses_the_sources_that_there_are_and_that_it_may() -> None:
    every, of_metrics = signals({}), signals({})
    of_metrics[:] = np.nan
    only_logs = signals({})
    only_logs[..., : LOGS[0]] = np.nan
    used = {"metrics": None, "metrics+traces+logs": every, "metrics+logs": only_logs}
    for expected, seen in used.items():
        assert BayesAll()._sources(history(seen)) == expected
    assert BayesAll(["traces"])._sources(history(every)) == "metrics+traces"
    assert BayesAll()._sources(history(of_metrics)) == "metrics"
    with pytest.raises(InputError, match="sources must be of metrics, traces, logs, got rumours"):
        BayesAll(["rumours"])


def test_its_rationale_names_the_evidence_that_spoke() -> None:
    trouble = {(DB, Signal.ERRORS): 0.5, (DB, Signal.CRASH): 2.0, (DB, Signal.GONE): 0.5}
    said = asked(BayesAll(), signals(trouble))
    assert said.ranked[1, 0] == DB
    assert "; traces: " in said.explain(1) or "; logs: " in said.explain(1)
    assert "traces" not in asked(BayesAll(["metrics"]), signals(trouble)).explain(1)


def test_every_feature_has_a_source_and_words() -> None:
    assert {source_of(name) for name in ALL_SERVICE_FEATURES} == set(SOURCES)
    for name in ALL_SERVICE_FEATURES:
        if source_of(name) != "metrics":
            assert words_of(name) not in (name, ""), name


def test_what_it_learned_comes_back_and_damage_is_refused() -> None:
    state = json.loads(json.dumps(BayesAll().state()))
    assert set(state["sets"]) == set(SETS)
    made = BayesAll()
    made.load(state)
    assert made.state() == state
    for broken, message in (
        ({"name": "bayes"}, "expected the state of diagnoser bayes_all"),
        ({"features": []}, "train anew"),
        ({"sets": {}}, "for metrics"),
        ({"sets": {"metrics": {"weights": [[1.0]], "others": [[1.0]]}}}, "finite weights of shapes"),
        ({"sets": [1]}, "expected sets, classes"),
    ):
        with pytest.raises(InputError, match=message):
            made.load(state | broken)


def test_it_can_be_taught_and_judged_by_source(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "learned.json"
    taught = invoke("train", "diagnoser", "--diagnoser", "bayes_all", "--scenario", tiny, "--episodes", "10",
                    "--traces", "0.5", "--out", out, "--quiet")  # fmt: skip
    assert taught.code == 0, taught.err
    found = invoke("rca", "sources", "--scenario", tiny, "--episodes", "6", "--diagnoser-in", out, "--quiet", "--json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)["sources"]
    assert [row["sources"] for row in rows] == list(SETS)
    assert rows[0]["gain"] == 0.0
    assert len({row["runs"] for row in rows}) == 1
    wrong = invoke("train", "diagnoser", "--scenario", tiny, "--traces", "0.5", "--out", out, "--quiet")
    assert wrong.code == 2
    assert "--traces is for --diagnoser bayes_all" in wrong.err
    assert "exists; use --force" in wrong.err
