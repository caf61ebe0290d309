"""Forks of episodes: the own future bit for bit, other futures, and what nobody can know of."""

from __future__ import annotations

import numpy as np
import pytest

from simcore.codes import Event
from simcore.engines.registry import ENGINES
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import Run, make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric

TRUTH = (
    "bad", "offered", "good", "shed", "errors", "attempts", "retries", "violating", "incident_open", "unhealthy",
    "cost", "metrics", "legal",
)  # fmt: skip
AT = 8
DB = load_scenario("three_tier").service_names.index("db")


def scenario(**parts: object) -> Scenario:
    """Return three tiers at a low rate, with scrapes that get lost and actions that fail."""
    whole = load_scenario("three_tier").model_dump()
    whole["timing"] |= {"steps": 20, "burn_in_steps": 2, "follow_up_steps": 5}
    whole["workload"] |= {"rate_rps": 20.0, "shape": "constant"}
    whole["observation"] |= {"drop_rate": 0.3}
    whole["noise"] |= {"deploys_per_hour": 60.0, "bursts_per_hour": 60.0}
    for spec in whole["actions"].values():
        spec |= {"failure_probability": 0.5, "delay_sigma": 0.5}
    return Scenario.model_validate(whole | parts)


def fault(of: Scenario, onset_s: float) -> Fault:
    return parse_fault("latency_spike@db", of, onset_s=onset_s, severity=0.9)


def run_of(of: Scenario, number: int, *faults: Fault) -> Run:
    return make_run(of, seed=5, split="test", run=number, faults=faults)


def opened(engine: str = "batch", onset_s: float = 20.0, n_runs: int = 3) -> Episodes:
    of = scenario()
    return Episodes(of, [run_of(of, i, fault(of, onset_s)) for i in range(n_runs)], engine=engine, log=True, threads=1)


def doing(episodes: Episodes, until: int, seed: int = 1) -> None:
    """Take legal actions at some edges; which ones depends on the run and the step alone."""
    while episodes.step < until:
        choice = np.zeros(episodes.n_runs, np.int64)
        for row, run in enumerate(episodes.runs):
            rng = np.random.default_rng([seed, run.run, episodes.step])
            legal = np.flatnonzero(episodes.observation.legal[row])
            if rng.random() < 0.4:
                choice[row] = rng.choice(legal)
        episodes.act(choice)
        episodes.advance()


def assert_same(one: Episodes, row: int, other: Episodes, column: int) -> None:
    for name in TRUTH:
        np.testing.assert_array_equal(getattr(one, name)[row], getattr(other, name)[column], err_msg=name)
    for name in ("window", "fresh", "metrics", "replicas", "change_age_s", "admitted", "pending", "legal"):
        np.testing.assert_array_equal(
            getattr(one.observation, name)[row], getattr(other.observation, name)[column], err_msg=name
        )
    assert one.session.events(row).tobytes() == other.session.events(column).tobytes()
    own, others = ([r for r in e.records if r.run == i] for e, i in ((one, row), (other, column)))
    assert [(r.step, r.action, r.effect_s, r.succeeds) for r in own] == [
        (r.step, r.action, r.effect_s, r.succeeds) for r in others
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fork_that_does_the_same_is_the_run_itself(engine: str) -> None:
    episodes = opened(engine)
    doing(episodes, AT)
    rows = [2, 0, 0, 1]
    fork = episodes.fork(rows)
    for row, run in enumerate(rows):
        assert_same(fork, row, episodes, run)
    doing(fork, 16)
    doing(episodes, 16)
    assert len(episodes.records) > 3
    for row, run in enumerate(rows):
        assert_same(fork, row, episodes, run)


def test_a_fork_and_its_original_do_not_touch_each_other() -> None:
    episodes, twin = opened(), opened()
    doing(episodes, AT)
    doing(twin, AT)
    fork = episodes.fork([0, 1])
    doing(fork, 16, seed=9)
    for row in range(3):
        assert_same(episodes, row, twin, row)
    doing(episodes, 16)
    doing(twin, 16)
    for row in range(3):
        assert_same(episodes, row, twin, row)


def test_both_engines_give_the_same_forks_with_other_futures() -> None:
    forks = []
    for engine in ENGINES:
        episodes = opened(engine)
        doing(episodes, AT)
        fork = episodes.fork([1, 1, 2, 0], rekey=[-1, 0, 0, 7])
        doing(fork, 12)
        again = fork.fork([3, 1, 1], rekey=[2, 0, -1])
        doing(again, 16)
        doing(fork, 16)
        forks.append((fork, again))
    for one, other in zip(*forks, strict=True):
        for row in range(one.n_runs):
            assert_same(one, row, other, row)


def test_another_future_has_the_same_past_and_no_future_depends_on_its_neighbours() -> None:
    episodes = opened()
    doing(episodes, AT)
    fork, alone = episodes.fork([0, 0, 0, 1], rekey=[-1, 3, 4, 3]), episodes.fork([0], rekey=[4])
    past = episodes.session.events(0).size
    for each in (fork, alone):
        each.advance_to_end()
    assert_same(fork, 2, alone, 0)
    logs = [fork.session.events(row) for row in range(3)]
    for one in logs[1:]:
        assert one[:past].tobytes() == logs[0][:past].tobytes()
    assert len({log.tobytes() for log in logs}) == 3
    # what is under way goes on with its own keys: the next arrival is still the same
    offered = [log[past:][log["event"][past:] == Event.OFFERED] for log in logs]
    arrivals = [rows["span"][rows["request"] >> 40 == 0] for rows in offered]
    assert arrivals[0][0] == arrivals[1][0] == arrivals[2][0]
    assert not set(arrivals[0][1:]) & set(arrivals[1][1:])
    assert (fork.offered[0, AT:] != fork.offered[1, AT:]).any()


def test_actions_fail_and_scrapes_get_lost_by_other_keys_in_another_future() -> None:
    episodes = opened()
    for _ in range(AT):
        episodes.advance()
    futures = [-1, *range(12)]
    fork = episodes.fork([0] * 13, rekey=futures)
    action = int(np.flatnonzero(fork.observation.legal[0])[1])
    fork.act(np.full(13, action))
    fresh = []
    while not fork.finished:
        fresh.append(fork.advance().fresh)
    assert len({record.succeeds for record in fork.records if record.step == AT}) == 2
    assert len({record.effect_s for record in fork.records if record.step == AT}) == 13
    seen = np.stack(fresh, 1)
    assert (seen[:, 0] == seen[0, 0]).all()  # on its way at the fork
    assert len({row.tobytes() for row in seen}) > 6


def test_nobody_knows_of_what_has_not_begun() -> None:
    episodes = opened(onset_s=AT * 5.0 + 10.0)
    for _ in range(AT):
        episodes.advance()
    fork = episodes.fork([0, 0], rekey=[-1, 0])
    fork.advance_to_end()
    slow_s = np.nanmedian(fork.metrics[:, AT + 3 :, DB, Metric.P50_S], axis=1)
    assert slow_s[0] > 2.0 * slow_s[1]
    assert fork.fault_steps.tolist() == [AT + 2, -1]
    # one that has begun goes on
    episodes = opened(onset_s=10.0)
    for _ in range(AT):
        episodes.advance()
    fork = episodes.fork([0, 0], rekey=[-1, 0])
    fork.advance_to_end()
    slow_s = np.nanmedian(fork.metrics[:, AT + 3 :, DB, Metric.P50_S], axis=1)
    assert slow_s[1] > 0.5 * slow_s[0]
    assert fork.fault_steps.tolist() == [2, 2]


def test_what_has_begun_is_known_fault_by_fault() -> None:
    of = scenario()
    run = run_of(of, 0, fault(of, 20.0), fault(of, 60.0))
    noise = {i for i, own in enumerate(run.owner) if own < 0}
    faulty = [set(range(len(run.owner))) - noise - set(run.unbegun(now_s)) for now_s in (20.0, 20.1, 60.1)]
    assert [{run.owner[i] for i in begun} for begun in faulty] == [set(), {0}, {0, 1}]
    assert noise <= set(run.unbegun(0.0))
    assert not set(run.unbegun(1e9))


@pytest.mark.parametrize(
    ("rows", "rekey", "rule"),
    [
        ([], None, "at least one run"),
        ([3], None, "runs to fork must be in 0 .. 2, got 3"),
        ([0, 1], [1], "one number >= -1 for each of 2 runs"),
        ([0], [-2], "one number >= -1 for each of 1 runs"),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_forks_are_refused(engine: str, rows: list[int], rekey: list[int] | None, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        opened(engine).fork(rows, rekey=rekey)
