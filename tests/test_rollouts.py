"""Rollouts: tried actions on forks, what follows them, and the agent that goes on from a fork."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.api import ConsultsRollouts
from agent.loop import Agent
from agent.play import begin, play
from agent.registry import POLICIES, make_detector, make_diagnoser, make_policy
from agent.rollouts import Nothing, Outcomes, Release, Tryouts, all_cases, best_of, recovery_of, roll_out
from simcore.env import Episodes
from simcore.errors import ActionError, InputError
from simcore.model.faults import parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from tests.scripted import ScriptedSession, runs_of, small_scenario

AT, END = 14, 40


def scenario() -> Scenario:
    """Return three tiers, quick to simulate, with scrapes that get lost."""
    whole = load_scenario("three_tier").model_dump()
    whole["timing"] |= {"steps": END, "burn_in_steps": 6, "follow_up_steps": 20}
    whole["observation"] |= {"drop_rate": 0.1}
    return Scenario.model_validate(whole)


def opened(n_runs: int = 3) -> Episodes:
    of = scenario()
    faults = (parse_fault("latency_spike@db", of, onset_s=30.0, severity=0.9),)
    runs = [make_run(of, seed=3, split="test", run=i, faults=faults if i != 1 else ()) for i in range(n_runs)]
    return Episodes(of, runs, threads=1)


def agent_with(policy: str) -> Agent:
    detector = make_detector("threshold")
    topology = opened(1).topology
    detector.fit(np.zeros((1, 4, topology.n_services + 1, 40)), topology, seed=0)
    detector.threshold = 1.2
    return Agent(detector, make_diagnoser("causal_rank"), make_policy(policy))


def test_what_is_tried_is_what_would_have_happened() -> None:
    episodes = opened()
    episodes.advance_to(AT)
    rows, actions = all_cases(episodes.observation.legal)
    outcomes = roll_out(episodes, rows, actions, futures=(-1, 4), horizon=20, then=Nothing())
    assert outcomes.until == AT + 20
    for case in (0, 7, rows.size - 1):
        one = opened()
        one.advance_to(AT)
        choice = np.zeros(3, np.int64)
        choice[rows[case]] = actions[case]
        one.act(choice)
        one.advance_to(AT + 20)
        row = rows[case]
        assert outcomes.bad[case, 0] == one.bad[row, AT:].sum()
        assert outcomes.offered[case, 0] == one.offered[row, AT:].sum()
        assert outcomes.cost[case, 0] == one.cost[row].sum()
        assert outcomes.unhealthy[case, 0] == one.unhealthy[row, AT + 19]
        assert outcomes.j[case, 0] == one.j_between(np.full(3, AT), np.full(3, AT + 20))[row]
    assert (outcomes.offered[:, 0] != outcomes.offered[:, 1]).all()


def test_rollouts_touch_nothing_and_do_not_depend_on_chunks() -> None:
    episodes, untouched = opened(), opened()
    for each in (episodes, untouched):
        each.advance_to(AT)
    rows, actions = all_cases(episodes.observation.legal[:, :8])
    seen: list[int] = []
    one = roll_out(episodes, rows, actions, futures=(-1, 0), horizon=10, chunk=7, on_done=seen.append)
    other = roll_out(episodes, rows, actions, futures=(-1, 0), horizon=10, chunk=1000)
    for name in ("bad", "offered", "recovery", "cost", "unhealthy", "j"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert seen[-1] == rows.size * 2
    for each in (episodes, untouched):
        each.advance_to_end()
    np.testing.assert_array_equal(episodes.metrics, untouched.metrics)


def test_the_horizon_ends_with_the_episode() -> None:
    episodes = opened(1)
    episodes.advance_to(END - 3)
    outcomes = roll_out(episodes, np.zeros(1, np.int64), np.zeros(1, np.int64), horizon=60)
    assert outcomes.until == END
    episodes.advance_to_end()
    with pytest.raises(InputError, match="the episode is over"):
        roll_out(episodes, np.zeros(1, np.int64), np.zeros(1, np.int64))


@pytest.mark.parametrize(("horizon", "futures"), [(0, (-1,)), (5, ())])
def test_rollouts_need_a_horizon_and_a_future(horizon: int, futures: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a horizon >= 1 and a future"):
        roll_out(opened(1), np.zeros(1, np.int64), np.zeros(1, np.int64), horizon=horizon, futures=futures)


def test_what_is_not_legal_cannot_be_tried() -> None:
    episodes = opened(1)
    illegal = np.flatnonzero(~episodes.observation.legal[0])[:1]
    with pytest.raises(ActionError, match="not legal"):
        roll_out(episodes, np.zeros(1, np.int64), illegal)


def test_release_lifts_a_limit_once_the_slo_holds_and_noop_leaves_it() -> None:
    episodes = opened(2)
    episodes.advance_to(5)
    limit = episodes.actions.names.index("limit_traffic(0.7)")
    cases = np.array([1]), np.array([limit])
    stays, goes = (roll_out(episodes, *cases, horizon=30, then=then) for then in (Nothing(), Release()))
    assert stays.unhealthy[0, 0]
    assert not goes.unhealthy[0, 0]
    assert goes.bad[0, 0] < 0.5 * stays.bad[0, 0]
    # whatever else is done, they are the same
    rest = np.array([0, 1]), np.array([0, 0])
    one, other = (roll_out(episodes, *rest, horizon=30, then=then) for then in (Nothing(), Release()))
    np.testing.assert_array_equal(one.j, other.j)


@pytest.mark.parametrize("name", [n for n in POLICIES if not isinstance(make_policy(n), ConsultsRollouts)])
def test_an_agent_that_is_made_to_do_what_it_does_goes_on_as_the_run_itself(name: str) -> None:
    whole, episodes, agent = opened(), opened(), agent_with(name)
    trace = play(whole, agent_with(name))
    acted = np.flatnonzero(trace.choice.any(axis=0))
    begin(episodes, agent)
    rows = np.array([2, 0, 1, 0])
    for edge in sorted({*acted[:2].tolist(), AT}):
        while episodes.step < edge:
            episodes.act(agent.step(episodes.observation).choice)
            episodes.advance()
        for _ in range(2):  # nothing of the original is used up
            fork = episodes.fork(rows)
            agent.carry_on(fork, rows, trace.choice[rows, edge], END)
            for truth in ("bad", "cost", "metrics", "legal"):
                np.testing.assert_array_equal(getattr(fork, truth), getattr(whole, truth)[rows], err_msg=truth)
    assert acted.size or name in ("noop", "learned")  # which has been taught nothing here


def test_an_agent_can_be_made_to_act_out_of_the_blue_and_waits_for_the_effect() -> None:
    episodes, agent = opened(), agent_with("playbook")
    begin(episodes, agent)
    for _ in range(3):
        episodes.act(agent.step(episodes.observation).choice)
        episodes.advance()
    restart = episodes.actions.names.index("restart(db)")
    twin = agent.fork(np.array([1, 1]))
    fork = episodes.fork([1, 1])
    said = twin.step(fork.observation, np.array([restart, -1]))
    assert said.choice.tolist() == [restart, 0]
    assert [d.action for d in twin.decisions] == [restart]
    assert twin.decisions[0].run == 0
    fork.act(said.choice)
    fork.advance()
    assert not agent.decisions
    forced = twin.step(fork.observation, np.array([0, 0]))
    assert forced.choice.tolist() == [0, 0]


def test_a_policy_that_consults_rollouts_cannot_be_what_follows() -> None:
    episodes, agent = opened(1), agent_with("oracle_clairvoyant")
    begin(episodes, agent)
    with pytest.raises(InputError, match="consults rollouts"):
        agent.carry_on(episodes.fork([0]), np.zeros(1, np.int64), np.zeros(1, np.int64), 5)


def scripted(open_: list[list[bool]], monkeypatch: pytest.MonkeyPatch) -> Episodes:
    of = small_scenario()
    monkeypatch.setattr("simcore.env.episodes.open_session", lambda *a, **k: ScriptedSession(of, a[2]))
    episodes = Episodes(of, runs_of(of, *[[] for _ in open_]))
    for row, steps in enumerate(open_):
        episodes.incident_open[row, : len(steps)] = steps
    return episodes


def test_recovery_is_the_start_of_the_last_healthy_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    no, yes = False, True
    episodes = scripted(
        [
            [no] * 30,  # never ill
            [yes] * 20 + [no] * 10,  # closed at step 20: healthy from step 9 on
            [yes] * 30,  # open to the end
            [no] * 4 + [yes] * 14 + [no] * 12,  # closed at step 18
            [yes] * 3 + [no] * 27,  # closed before it was looked at
        ],
        monkeypatch,
    )
    found = recovery_of(episodes, 5, 30)
    np.testing.assert_array_equal(found, [0.0, 4.0, np.nan, 2.0, 0.0])
    np.testing.assert_array_equal(recovery_of(episodes, 0, 30), [0.0, 9.0, np.nan, 7.0, 0.0])


def made(j: list[list[float]], row: list[int], action: list[int]) -> Outcomes:
    values = np.array(j)
    blank: Any = np.zeros(values.shape)
    futures = np.arange(values.shape[1])
    return Outcomes(
        np.array(row), np.array(action), futures, 0, 1, blank, blank, blank, blank, blank.astype(np.bool_), values
    )  # fmt: skip


def test_the_best_action_is_best_on_average_and_ties_go_to_the_lowest_number() -> None:
    outcomes = made([[0.0, 0.0], [1.0, -0.5], [0.5, 0.0], [-1.0, -1.0]], [0, 0, 0, 2], [0, 3, 4, 1])
    action, value = best_of(outcomes, 3)
    assert action.tolist() == [3, -1, 1]
    np.testing.assert_array_equal(value, [0.25, np.nan, -1.0])


def test_a_policy_gets_the_values_of_what_is_allowed() -> None:
    episodes = opened(2)
    episodes.advance_to(AT)
    allowed = np.zeros((1, len(episodes.actions)), np.bool_)
    allowed[0, [0, 2]] = True
    values = Tryouts(episodes).values(np.array([1]), allowed, (-1, 3))
    assert values.shape == (1, len(episodes.actions), 2)
    assert not np.isnan(values[0, [0, 2]]).any()
    assert np.isnan(values[0, 1]).all()
    expected = roll_out(episodes, np.array([1, 1]), np.array([0, 2]), futures=(-1, 3))
    np.testing.assert_array_equal(values[0, [0, 2]], expected.j)
