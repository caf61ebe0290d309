"""Published phenomena appear in the simulator: the findings of docs/phenomena, with fewer runs."""

from typing import Any

import numpy as np
import pytest

from docs.phenomena import (
    best_action,
    cold_cache,
    gray_replica,
    jitter,
    lock_contention,
    queue_bound,
    queue_clearing,
    retry_storm,
)


@pytest.fixture(scope="module")
def storms() -> retry_storm.Found:
    return retry_storm.measure(24, dips_s=(0.4, 0.6, 0.7, 0.8, 0.85, 0.95, 1.0))


def test_a_retry_storm_outlives_a_dip_past_a_sharp_threshold(storms: retry_storm.Found) -> None:
    small, large = storms.by_dip
    assert (large[:3] == 0.0).all(), "no collapse up to 0.7 s"
    assert 0.1 <= large[3] <= 0.6, "some at 0.8 s"
    assert (large[5:] >= 0.9).all(), "nearly all from 0.95 s on"
    assert (np.diff(storms.by_dip) >= 0.0).all(), "a longer dip never helps"
    assert small[2] >= large[2]
    assert small[5] <= large[5], "a smaller system has the blunter threshold"


def test_the_threshold_is_where_a_smooth_flow_has_its_first_timeout(storms: retry_storm.Found) -> None:
    half = np.interp(0.5, storms.by_dip[1], [0.4, 0.6, 0.7, 0.8, 0.85, 0.95, 1.0])
    assert half == pytest.approx(retry_storm.fluid_threshold_s(), abs=0.05)


def test_no_retries_cancellation_and_fresh_queues_each_prevent_a_retry_storm(storms: retry_storm.Found) -> None:
    assert dict(zip(retry_storm.REMEDIES, storms.by_remedy, strict=True)) == {
        "as it is": 1.0, "no retries": 0.0, "cancellation": 0.0, "newest first": 0.0, "CoDel": 0.0,
    }  # fmt: skip


def test_a_queue_shorter_than_service_rate_times_timeout_never_collapses() -> None:
    good = queue_bound.measure(12, queues=(50, 100, 150, 190, 250, 400, 2000))
    assert (good[:4] > 0.95).all(), "every run below the bound recovers"
    assert (good[4:] < 0.1).all(), "none above it does"


def test_a_flushed_cache_stays_cold_above_a_load_that_it_bears_when_warm() -> None:
    loads_rps = (300, 500, 800, 1400, 2200)
    found = cold_cache.measure(3, loads_rps)
    unflushed, flushed, short_queue = found.goodput
    assert (unflushed > 0.95).all()
    assert (flushed[:2] > 0.95).all(), "also at 500 requests/s, a quarter more than the db can serve alone"
    assert (flushed[2:] < 0.3).all()
    assert (short_queue > 0.95).all(), "a db that answers in time fills the cache"
    later = found.hits[1, :, -5:].mean(axis=1) - found.hits[1, :, 8:13].mean(axis=1)
    assert (later[:2] > 0.1).all(), "the hit ratio grows below the threshold"
    assert (later[2:] < 0.02).all(), "it does not above"


def test_a_gray_replica_raises_p99_and_not_p50() -> None:
    round_robin, least_outstanding = gray_replica.measure(4, speeds=(1.0, 0.5, 0.25))
    p50, p95, p99 = (round_robin / round_robin[0]).T
    assert p50[2] < 1.15
    assert p99[2] > 4.0
    assert (p50 < p95 + 1e-9).all()
    assert (p95 < p99 + 1e-9).all()
    assert least_outstanding[2, 2] < 0.5 * round_robin[2, 2], "a balancer that counts what is outstanding avoids it"


def test_scaling_up_makes_lock_contention_worse() -> None:
    found = lock_contention.measure(3, replicas=(2, 4, 6, 12))
    below, above = found.good_rps
    assert below == pytest.approx(80.0, rel=0.03), "nothing happens while the lock is fast enough"
    assert above[0] > 95.0
    assert (np.diff(above) < 0.0).all()
    assert (above[2:] < 20.0).all()
    assert (np.diff(found.wait_s[1]) > 0.2).all()
    assert (found.utilisation[1] < 0.3).all(), "the CPU has nothing to do"


def test_the_best_action_depends_on_the_load() -> None:
    found = best_action.measure(4)
    late = {action: found.late[:, i] > 0.95 for i, action in enumerate(best_action.ACTIONS)}
    whole = {action: found.whole[:, i] for i, action in enumerate(best_action.ACTIONS)}
    healed = {load: {a for a in late if late[a][i]} for i, load in enumerate(best_action.LOADS)}
    assert healed[0.30] == set(best_action.ACTIONS)
    assert max(whole["restart the db"][0], whole["admit half"][0]) < 0.97 < whole["noop"][0], "acting only costs"
    assert healed[0.45] - {"restart the db"} == {"clear the queue", "no retries", "double the db"}
    assert max(whole, key=lambda action: float(whole[action][1])) == "clear the queue"
    assert healed[0.60] == {"no retries", "double the db"}
    assert healed[0.80] == {"no retries"}


def test_clearing_the_queue_helps_only_once_the_trigger_is_over() -> None:
    good = queue_clearing.measure(6, clearings_s=(2.0, 5.0, 8.0, 10.5, 12.0, 18.0))
    assert (good[:3] < 0.05).all()
    assert (good[3:] > 0.95).all()


def test_full_jitter_spreads_the_retries_after_a_restart() -> None:
    found = jitter.measure(6)
    none, half, full = found.peak_rps.mean(axis=1)
    assert none > 3.0 * full
    assert none > half > full
    assert found.rejected[0] > 5.0 * found.rejected[2]
    assert found.retries[2] > found.retries[0], "the shorter waits of full jitter cost attempts"


@pytest.mark.parametrize(
    "script",
    [best_action, cold_cache, gray_replica, jitter, lock_contention, queue_bound, queue_clearing, retry_storm],
    ids=lambda script: script.__name__.rpartition(".")[2],
)
def test_a_script_prints_its_finding(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script.show(script.measure(1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert len({len(line) for line in lines[1:4]}) == 1, "the columns of a table stand below each other"
