"""Tests of simcore.env: episodes, the action table and its books, scrapes, and J."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from simcore.codes import ActionCode, ReplicaState
from simcore.env import Episodes
from simcore.env.actions import build_actions, build_topology
from simcore.env.episodes import UNHEALTHY_PENALTY
from simcore.errors import ActionError, InputError
from simcore.model.faults import Fault
from simcore.model.scenario import Scenario
from simcore.streams import run_key, uniform
from simcore.windows import Metric, ReplicaStat, Total
from tests.scripted import OFFERED, STEP_S, STEPS, ScriptedSession, fault, runs_of, small_scenario

Scripted = Callable[..., tuple[Episodes, ScriptedSession]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Return a function that opens episodes over a scripted session."""

    def make(scenario: Scenario | None = None, *faults: Sequence[Fault]) -> tuple[Episodes, ScriptedSession]:
        scenario = scenario or small_scenario()
        opened: list[ScriptedSession] = []

        def open_session(engine: str, scenario: Scenario, inputs: Any, **_: Any) -> ScriptedSession:
            opened.append(ScriptedSession(scenario, inputs))
            return opened[0]

        monkeypatch.setattr("simcore.env.episodes.open_session", open_session)
        return Episodes(scenario, runs_of(scenario, *(faults or ([], []))), engine="batch"), opened[0]

    return make


def number(episodes: Episodes, name: str) -> int:
    return episodes.actions.names.index(name)


def choose(episodes: Episodes, name: str, run: int = 0) -> npt.NDArray[np.int64]:
    choice = np.zeros(episodes.n_runs, np.int64)
    choice[run] = number(episodes, name)
    return choice


def legal(episodes: Episodes, name: str, run: int = 0) -> bool:
    return bool(episodes.observation.legal[run, number(episodes, name)])


def advance(episodes: Episodes, steps: int) -> None:
    for _ in range(steps):
        episodes.advance()


def test_the_topology_says_who_calls_whom_and_where_requests_enter() -> None:
    topology = build_topology(small_scenario())
    assert topology.services == ("api", "cache")
    assert topology.calls.tolist() == [[False, True], [False, False]]
    assert (topology.entry, topology.caches.tolist()) == (0, [False, True])


def test_the_action_table_lists_every_target_with_noop_first() -> None:
    table = build_actions(small_scenario())
    assert table.names == (
        "noop", "restart(api)", "restart(cache)", "scale(api,+1)", "scale(api,-1)", "scale(cache,+1)",
        "scale(cache,-1)", "clear_cache(cache)", "limit_traffic(0.7)", "limit_traffic(1)", "quarantine(api/0)",
        "quarantine(api/1)", "quarantine(api/2)", "quarantine(cache/0)", "release(api/0)", "release(api/1)",
        "release(api/2)", "release(cache/0)", "rollback(api)", "rollback(cache)",
    )  # fmt: skip
    harmless = {name for name, bad in zip(table.names, table.disruptive.tolist(), strict=True) if not bad}
    releases = {f"release({r})" for r in ("api/0", "api/1", "api/2", "cache/0")}
    assert harmless == {"noop", "scale(api,+1)", "scale(cache,+1)", "limit_traffic(1)"} | releases


def test_targets_and_values_of_the_scenario_narrow_the_table() -> None:
    actions = {"scale": {"targets": ["api"], "values": [2]}, "limit_traffic": {"values": [0.5, 0.9]}}
    table = build_actions(small_scenario(actions=actions))
    assert table.names == ("noop", "scale(api,+2)", "limit_traffic(0.5)", "limit_traffic(0.9)", "limit_traffic(1)")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"restrat": {}}, "actions.restrat: there is no such action; did you mean 'restart'"),
        ({"restart": {"targets": ["apy"]}}, "there is no service 'apy'; did you mean 'api'"),
        ({"clear_cache": {"targets": ["api"]}}, "clear_cache is aimed at a service with a cache, 'api' is none"),
    ],
)
def test_an_unknown_action_or_target_is_named(actions: dict[str, Any], message: str) -> None:
    with pytest.raises(ActionError, match=message):
        build_actions(small_scenario(actions=actions))


def test_an_action_takes_effect_after_its_delay(scripted: Scripted) -> None:
    episodes, session = scripted()
    advance(episodes, 3)
    episodes.act(choose(episodes, "restart(cache)", run=1))
    (done,) = session.applied
    assert (done.run, done.code, done.service, done.at_s) == (1, ActionCode.RESTART, 1, 3 * STEP_S + 5.0)
    assert episodes.cost[1, 3] == 0.01
    assert [(record.run, record.step, record.succeeds) for record in episodes.records] == [(1, 3, True)]


def test_a_pending_action_keeps_others_off_its_service_until_it_has_settled(scripted: Scripted) -> None:
    episodes, _ = scripted()
    advance(episodes, 1)
    episodes.act(choose(episodes, "restart(api)"))
    for _ in range(2):
        episodes.advance()
        assert not legal(episodes, "rollback(api)")
        assert legal(episodes, "rollback(cache)")
        assert episodes.observation.pending.tolist() == [[True, False], [False, False]]
    episodes.advance()
    assert legal(episodes, "rollback(api)")
    assert not episodes.observation.pending.any()


def test_a_cooldown_keeps_the_same_action_off_the_same_service(scripted: Scripted) -> None:
    episodes, _ = scripted()
    advance(episodes, 1)
    episodes.act(choose(episodes, "restart(api)"))
    advance(episodes, 5)
    assert not legal(episodes, "restart(api)")
    assert legal(episodes, "restart(cache)")
    assert legal(episodes, "restart(api)", run=1)
    episodes.advance()
    assert legal(episodes, "restart(api)")


def test_an_illegal_choice_is_refused_by_name(scripted: Scripted) -> None:
    episodes, session = scripted()
    advance(episodes, 1)
    episodes.act(choose(episodes, "restart(api)"))
    episodes.advance()
    with pytest.raises(ActionError, match=r"run 0: restart\(api\) is not legal at step 2"):
        episodes.act(choose(episodes, "restart(api)"))
    with pytest.raises(ActionError, match="action numbers are 0 to 19, got 20"):
        episodes.act(np.array([20, 0]))
    with pytest.raises(ActionError, match="one action for each of 2 runs"):
        episodes.act(np.array([0]))
    assert len(session.applied) == 1


def test_an_edge_is_acted_at_once_and_never_after_the_end(scripted: Scripted) -> None:
    episodes, _ = scripted()
    episodes.act(np.zeros(2, np.int64))
    with pytest.raises(ActionError, match="entered already"):
        episodes.act(np.zeros(2, np.int64))
    episodes.advance_to_end()
    with pytest.raises(ActionError, match="the episode is over"):
        episodes.act(np.zeros(2, np.int64))
    with pytest.raises(InputError, match="over after 60 steps"):
        episodes.advance()


def test_in_shadow_mode_nothing_is_booked_or_applied(scripted: Scripted) -> None:
    episodes, session = scripted()
    advance(episodes, 1)
    episodes.act(choose(episodes, "restart(api)"), shadow=True)
    episodes.advance()
    assert not session.applied
    assert not episodes.records
    assert not episodes.cost.any()
    assert legal(episodes, "restart(api)")
    with pytest.raises(ActionError, match="not legal"):
        episodes.act(choose(episodes, "release(api/0)"), shadow=True)


def test_scaling_stays_within_the_replica_limits(scripted: Scripted) -> None:
    episodes, _ = scripted()
    advance(episodes, 1)
    assert [legal(episodes, f"scale({name})") for name in ("api,+1", "api,-1", "cache,+1", "cache,-1")] == [
        True, True, False, False,
    ]  # fmt: skip
    episodes.act(choose(episodes, "scale(api,+1)"))
    advance(episodes, 6)
    assert not legal(episodes, "scale(api,+1)")
    assert legal(episodes, "scale(api,+1)", run=1)


def test_a_quarantine_names_the_replica_seen_in_the_slot_and_leaves_one_in_service(scripted: Scripted) -> None:
    episodes, session = scripted()
    session.replicas[:, :, 0, 1, ReplicaStat.ORDINAL] = 5
    advance(episodes, 1)
    assert legal(episodes, "quarantine(api/1)")
    assert not legal(episodes, "quarantine(api/2)")
    assert not legal(episodes, "quarantine(cache/0)")
    episodes.act(choose(episodes, "quarantine(api/1)"))
    assert (session.applied[0].code, session.applied[0].replica) == (ActionCode.QUARANTINE, 5)
    advance(episodes, 6)
    assert not legal(episodes, "quarantine(api/0)")
    assert not legal(episodes, "quarantine(api/1)")
    assert legal(episodes, "scale(api,-1)")
    assert [legal(episodes, f"release(api/{slot})") for slot in (0, 1)] == [False, True]
    episodes.act(choose(episodes, "release(api/1)"))
    advance(episodes, 6)
    assert legal(episodes, "quarantine(api/0)")


def test_the_last_replica_in_service_is_not_scaled_away(scripted: Scripted) -> None:
    episodes, _ = scripted()
    advance(episodes, 1)
    episodes.act(choose(episodes, "quarantine(api/0)"))
    advance(episodes, 6)
    assert not legal(episodes, "scale(api,-1)")


def test_a_replica_that_is_starting_cannot_take_over(scripted: Scripted) -> None:
    episodes, session = scripted()
    session.replicas[:, :, 0, 1, ReplicaStat.STATE] = ReplicaState.STARTING
    advance(episodes, 1)
    assert not legal(episodes, "quarantine(api/0)")
    assert legal(episodes, "quarantine(api/1)")


def test_traffic_is_admitted_again_without_waiting_for_the_cooldown(scripted: Scripted) -> None:
    episodes, _ = scripted()
    advance(episodes, 1)
    assert not legal(episodes, "limit_traffic(1)")
    episodes.act(choose(episodes, "limit_traffic(0.7)"))
    episodes.advance()
    assert episodes.observation.admitted.tolist() == [1.0, 1.0]
    episodes.advance()
    assert episodes.observation.admitted.tolist() == [0.7, 1.0]
    assert not legal(episodes, "limit_traffic(1)")
    episodes.advance()
    assert legal(episodes, "limit_traffic(1)")
    assert not legal(episodes, "limit_traffic(0.7)")
    episodes.act(choose(episodes, "limit_traffic(1)"))
    advance(episodes, 2)
    assert episodes.observation.admitted.tolist() == [1.0, 1.0]
    assert episodes.unhealthy[0, :6].tolist() == [False, False, True, True, True, False]


def test_failures_are_keyed_by_run_and_ordinal_and_change_nothing_but_the_books(scripted: Scripted) -> None:
    actions = {"restart": {"delay_s": 0, "settle_s": 0, "cooldown_s": 0, "cost": 0.5, "failure_probability": 0.5}}
    episodes, session = scripted(small_scenario(actions=actions))
    for _ in range(STEPS):
        episodes.act(np.full(2, number(episodes, "restart(api)")))
        episodes.advance()
    key = run_key(7, "test", 1, 4)
    expected = [uniform(key, np.uint64(i)) >= 0.5 for i in range(STEPS)]
    assert [record.succeeds for record in episodes.records if record.run == 1] == expected
    assert sum(order.run == 1 for order in session.applied) == sum(expected)
    assert 0 < sum(expected) < STEPS
    assert (episodes.cost == 0.5).all()


def test_scrapes_arrive_late(scripted: Scripted) -> None:
    episodes, session = scripted(small_scenario(observation={"lag_steps": 2}))
    session.metrics[:, :, 0, Metric.CPU_UTIL] = np.arange(STEPS)
    seen = [episodes.observation, *(episodes.advance() for _ in range(5))]
    assert [int(o.window[0]) for o in seen] == [-1, -1, -1, 0, 1, 2]
    assert [bool(o.fresh[0]) for o in seen] == [False, False, False, True, True, True]
    assert np.isnan(seen[2].metrics).all()
    assert np.isnan(seen[2].replicas).all()
    assert seen[5].metrics[0, 0, Metric.CPU_UTIL] == 2.0
    assert not seen[2].legal[0, number(episodes, "quarantine(api/0)")]


def test_a_lost_scrape_leaves_the_previous_one_standing(scripted: Scripted) -> None:
    episodes, session = scripted(small_scenario(observation={"lag_steps": 0, "drop_rate": 0.4}))
    session.metrics[:, :, 0, Metric.CPU_UTIL] = np.arange(STEPS)
    seen = [episodes.advance() for _ in range(STEPS)]
    for run in range(2):
        key = run_key(7, "test", run, 3)
        arrived = [uniform(key, np.uint64(w)) >= 0.4 for w in range(STEPS)]
        last = [max((w for w in range(k + 1) if arrived[w]), default=-1) for k in range(STEPS)]
        assert [bool(o.fresh[run]) for o in seen] == arrived
        assert [int(o.window[run]) for o in seen] == last
        values = [o.metrics[run, 0, Metric.CPU_UTIL] for o in seen]
        np.testing.assert_array_equal(values, [w if w >= 0 else np.nan for w in last])


def test_a_change_is_seen_with_the_scrape_of_its_window_and_ages(scripted: Scripted) -> None:
    episodes, session = scripted(small_scenario(observation={"lag_steps": 1}))
    session.markers[0, 2, 1] = 1
    ages = [episodes.advance().change_age_s[0] for _ in range(5)]
    assert [float(age[1]) for age in ages[3:]] == [2 * STEP_S, 3 * STEP_S]
    assert all(np.isnan(age[1]) for age in ages[:3])
    assert all(np.isnan(age[0]) for age in ages)


def test_observations_that_were_handed_out_do_not_change(scripted: Scripted) -> None:
    episodes, session = scripted(small_scenario(observation={"lag_steps": 0, "drop_rate": 0.5}))
    session.metrics[:, :, 0, Metric.CPU_UTIL] = np.arange(STEPS)
    session.markers[:, ::7] = 1
    kept, copies = [], []
    for _ in range(STEPS):
        o = episodes.observation
        kept.append(o)
        copies.append([np.array(getattr(o, name)) for name in ("window", "metrics", "replicas", "admitted", "legal")])
        if legal(episodes, "limit_traffic(0.7)"):
            episodes.act(choose(episodes, "limit_traffic(0.7)"))
        episodes.advance()
    for o, copy in zip(kept, copies, strict=True):
        for name, value in zip(("window", "metrics", "replicas", "admitted", "legal"), copy, strict=True):
            np.testing.assert_array_equal(getattr(o, name), value)


def test_running_to_the_end_at_once_leaves_the_same_truth_as_step_by_step(scripted: Scripted) -> None:
    truths = []
    for at_once in (True, False):
        episodes, session = scripted(small_scenario(observation={"lag_steps": 1, "drop_rate": 0.3}), [fault(100.0)], [])
        rng = np.random.default_rng(5)
        session.totals[..., Total.BAD] = rng.integers(0, 12, session.totals.shape[:2])
        session.metrics[..., Metric.RETRIES] = rng.integers(0, 3, session.metrics.shape[:3])
        session.markers[:] = rng.random(session.markers.shape) < 0.1
        if at_once:
            episodes.advance_to_end()
        else:
            advance(episodes, STEPS)
        assert episodes.finished
        o = episodes.observation
        truths.append(
            [episodes.bad, episodes.retries, episodes.violating, episodes.incident_open, episodes.unhealthy]
            + [episodes.metrics, o.window, o.metrics, o.change_age_s, o.legal]
            + [episodes.j_between(np.zeros(2, np.int64), np.full(2, STEPS))]
        )
    for one, other in zip(*truths, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_incident_of_the_truth_is_that_of_the_slo(scripted: Scripted) -> None:
    episodes, session = scripted(None, [fault(101.0)])
    session.bad(0, range(22, 26))
    episodes.advance_to_end()
    assert episodes.fault_steps.tolist() == [20]
    assert np.flatnonzero(episodes.violating[0]).tolist() == [22, 23, 24, 25]
    assert np.flatnonzero(episodes.incident_open[0]).tolist() == list(range(23, 37))


def test_j_is_bad_requests_costs_and_a_penalty_for_an_unhealthy_end(scripted: Scripted) -> None:
    episodes, session = scripted(None, [fault(100.0)], [])
    session.bad(0, range(58, 60), count=30)
    session.bad(1, range(10, 12), count=30)
    episodes.act(choose(episodes, "restart(api)", run=1))
    episodes.advance_to_end()
    zero, end = np.zeros(2, np.int64), np.full(2, STEPS)
    budget = 60 / (OFFERED * STEPS)
    np.testing.assert_allclose(episodes.j_between(zero, end), [-budget - UNHEALTHY_PENALTY, -budget - 0.01])


def test_the_rewards_of_the_steps_add_up_to_j(scripted: Scripted) -> None:
    episodes, session = scripted(None, [fault(100.0)], [])
    session.totals[..., Total.BAD] = np.random.default_rng(3).integers(0, 12, session.totals.shape[:2])
    episodes.act(choose(episodes, "limit_traffic(0.7)"))
    episodes.advance_to_end()
    edges = [np.full(2, k) for k in range(STEPS + 1)]
    rewards = sum(episodes.j_between(a, b) for a, b in zip(edges, edges[1:], strict=False))
    np.testing.assert_allclose(rewards, episodes.j_between(edges[0], edges[-1]), atol=1e-12)


def test_shedding_cannot_raise_j(scripted: Scripted) -> None:
    episodes, session = scripted(None, [], [])
    episodes.act(choose(episodes, "limit_traffic(0.7)"))
    session.bad(0, range(1, STEPS), count=30)
    episodes.advance_to_end()
    shed, left = episodes.j_between(np.zeros(2, np.int64), np.full(2, STEPS))
    assert shed < left == 0.0


def test_j_between_takes_a_span_per_run(scripted: Scripted) -> None:
    episodes, session = scripted()
    session.bad(0, [4], count=5)
    session.bad(1, [4], count=5)
    episodes.advance_to_end()
    j = episodes.j_between(np.array([4, 5]), np.array([5, 9]))
    assert j.tolist() == [-5 / (OFFERED * STEPS), 0.0]


def test_no_runs_are_refused() -> None:
    with pytest.raises(InputError, match="at least one run"):
        Episodes(small_scenario(), [])


def test_both_engines_give_the_same_episode() -> None:
    scenario = small_scenario(timing={"step_s": STEP_S, "steps": 12, "burn_in_steps": 0, "follow_up_steps": 8})
    seen = []
    for engine in ("batch", "simpy"):
        episodes = Episodes(scenario, runs_of(scenario, [fault(10.0, service=0)], []), engine=engine, threads=1)
        advance(episodes, 3)
        episodes.act(choose(episodes, "limit_traffic(0.7)"))
        while not episodes.finished:
            episodes.advance()
        seen.append((episodes.metrics, episodes.bad, episodes.shed, episodes.violating, episodes.observation.replicas))
        assert episodes.shed[0].any()
        assert episodes.offered.sum() > 1000
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)
