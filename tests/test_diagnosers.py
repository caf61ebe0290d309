"""Diagnosers: who is blamed, and why."""

import numpy as np
import pytest

from agent.diagnosers.causal_rank import CausalRank
from agent.diagnosers.evidence import PARTS
from agent.diagnosers.max_score import MaxScore
from agent.diagnosers.random import RandomRank
from simcore.windows import Metric, ReplicaStat
from tests.agent_world import (
    API,
    CACHE,
    DB,
    SYSTEM,
    TOPOLOGY,
    failing,
    healthy,
    keys,
    observe,
    remember,
    replicas,
    slow,
    strange,
)

ONSET, NOW = 40, 50


def diagnose(metrics: np.ndarray, loud: int = API, **changes: object):  # type: ignore[no-untyped-def]
    """Diagnose every run; the service ``loud`` has the largest anomaly score, its callees a smaller one."""
    diagnoser = CausalRank()
    diagnoser.start(TOPOLOGY, keys(metrics.shape[0]))
    detection = strange(metrics.shape[0], loud, 1.5)
    detection.excess[:] = np.maximum(detection.excess, 0.8)
    runs = np.arange(metrics.shape[0])
    return diagnoser.diagnose(observe(metrics, NOW, **changes), detection, remember(metrics, NOW, ONSET), runs)


def test_a_slow_callee_explains_its_callers() -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, DB, ONSET)
    diagnosis = diagnose(metrics)
    assert diagnosis.suspect.tolist() == [DB]
    assert diagnosis.ranked[0, 0] == DB
    assert "explains api" in diagnosis.explain(0)
    assert "slow by itself" in diagnosis.explain(0)


def test_a_caller_that_is_slow_alone_is_the_suspect() -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, API, ONSET)
    assert diagnose(metrics, loud=DB).suspect.tolist() == [API]


def test_errors_of_a_callee_explain_those_of_its_callers() -> None:
    metrics = healthy(2, 60)
    failing(metrics, 0, DB, ONSET)
    failing(metrics, 1, API, ONSET)
    diagnosis = diagnose(metrics)
    assert diagnosis.suspect.tolist() == [DB, API]
    assert "errors of its own" in diagnosis.explain(1)


def test_callers_that_fail_after_asking_the_cache_accuse_it() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, [API, SYSTEM], Metric.ERROR_RATE] = 0.3  # and the cache is asked as often as before
    diagnosis = diagnose(metrics)
    assert diagnosis.suspect.tolist() == [CACHE]
    assert "fail after asking it" in diagnosis.explain(0)


def test_a_cold_cache_explains_a_busy_database() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, CACHE, Metric.HIT_RATIO] = 0.1
    metrics[0, ONSET:, DB, Metric.REQUEST_RATE_RPS] *= 3
    metrics[0, ONSET:, DB, Metric.CPU_UTIL] = 0.95
    metrics[0, ONSET:, [API, DB, SYSTEM], Metric.P95_S] += 0.5
    diagnosis = diagnose(metrics, loud=DB)
    assert diagnosis.suspect.tolist() == [CACHE]
    assert "hit ratio fell" in diagnosis.explain(0)


def test_a_surge_accuses_the_workload_and_no_service() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, :, Metric.REQUEST_RATE_RPS] *= 2.2
    metrics[0, ONSET:, :3, Metric.CPU_UTIL] *= 1.8
    metrics[0, ONSET:, [API, SYSTEM], Metric.P95_S] += 0.5
    diagnosis = diagnose(metrics)
    assert diagnosis.suspect.tolist() == [-1]
    assert "the workload" in diagnosis.explain(0)
    assert sorted(diagnosis.ranked[0].tolist()) == [API, CACHE, DB]


def test_one_slow_replica_among_usual_ones_is_evidence() -> None:
    metrics = healthy(1, 60)
    stats = replicas(1)
    stats[0, API, 1, ReplicaStat.MEAN_LATENCY_S] = 0.3
    metrics[0, ONSET:, [API, SYSTEM], Metric.P95_S] += 0.3
    diagnosis = diagnose(metrics, replicas=stats)
    assert diagnosis.suspect.tolist() == [API]
    assert "one replica slower" in diagnosis.explain(0)


def test_all_replicas_slow_is_no_skew() -> None:
    metrics = healthy(1, 60)
    stats = replicas(1)
    stats[0, API, :2, ReplicaStat.MEAN_LATENCY_S] = 2.0, 6.0
    metrics[0, ONSET:, [API, SYSTEM], Metric.P95_S] += 4
    assert "one replica slower" not in diagnose(metrics, replicas=stats).explain(0)


def test_a_metric_that_runs_ahead_of_the_symptoms_is_found_with_its_lead() -> None:
    metrics = healthy(1, 60)
    metrics[0, ONSET:, DB, Metric.P95_S] += np.arange(60 - ONSET) * 0.1
    metrics[0, ONSET + 2 :, [API, SYSTEM], Metric.P95_S] += np.arange(60 - ONSET - 2) * 0.1
    text = diagnose(metrics).explain(0)
    assert text.startswith("db:")
    assert "ahead" in text


def test_a_healthy_run_has_no_suspect_and_no_confidence() -> None:
    diagnoser = CausalRank()
    diagnoser.start(TOPOLOGY, keys(1))
    metrics = healthy(1, 60)
    detection = strange(1, API, 0.1)
    diagnosis = diagnoser.diagnose(observe(metrics, NOW), detection, remember(metrics, NOW, 60), np.array([0]))
    assert diagnosis.suspect.tolist() == [-1]
    assert diagnosis.confidence.tolist() == [0.0]
    assert diagnosis.explain(0) == "no service stands out"


def test_a_recent_change_is_told_and_counts() -> None:
    metrics = healthy(2, 60)
    for run in range(2):
        slow(metrics, run, DB, ONSET)
    age = np.full((2, 3), np.nan)
    age[1, DB] = 40.0
    diagnosis = diagnose(metrics, change_age_s=age)
    assert "changed 40 s ago" in diagnosis.explain(1)
    assert "changed" not in diagnosis.explain(0)
    assert diagnosis.confidence[1] > diagnosis.confidence[0]


def test_every_piece_of_evidence_has_words() -> None:
    from agent.diagnosers.causal_rank import _WORDS

    assert set(_WORDS) == set(PARTS)


def test_max_score_blames_the_largest_excess_and_nobody_without_one() -> None:
    diagnoser = MaxScore()
    diagnoser.start(TOPOLOGY, keys(2))
    detection = strange(2, CACHE)
    detection.excess[1] = np.nan
    metrics = healthy(2, 5)
    diagnosis = diagnoser.diagnose(observe(metrics, 4), detection, remember(metrics, 4, 4), np.arange(2))
    assert diagnosis.suspect.tolist() == [CACHE, -1]
    assert "cache" in diagnosis.explain(0)


@pytest.mark.parametrize("step", [4, 5])
def test_random_ranks_every_service_equally_often(step: int) -> None:
    diagnoser = RandomRank()
    diagnoser.start(TOPOLOGY, keys(900))
    metrics = healthy(1, 6)[[0] * 900]
    diagnosis = diagnoser.diagnose(observe(metrics, step), strange(900, 0), remember(metrics, 1, 1), np.arange(900))
    count = np.bincount(diagnosis.suspect, minlength=3)
    assert (np.abs(count - 300) < 60).all()
    assert (np.sort(diagnosis.ranked, 1) == np.arange(3)).all()
