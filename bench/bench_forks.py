"""Forks of three_tier: every legal action over 60 steps, against the same engine without forks."""

import functools
from collections.abc import Mapping

import numpy as np
import pytest

from agent.evaluation.profiling.clocks import best_of
from agent.evaluation.training import trained_detector
from agent.loop import Agent
from agent.play import begin
from agent.registry import make_diagnoser, make_policy
from agent.rollouts import HORIZON, Nothing, Outcomes, Then, all_cases, roll_out
from bench.conftest import Holds, Timed
from bench.workloads import SEED, THREE_TIER
from simcore.env import Episodes
from simcore.model.inputs import make_run

_N_RUNS, _EDGE = 4, 95
#: What forks must leave of the engine's speed: requests per CPU-second.
_SHARE = 0.75


def _opened(edge: int = 0) -> Episodes:
    scenario = THREE_TIER.scenario()
    runs = [make_run(scenario, seed=SEED, split="tune", run=run) for run in range(_N_RUNS)]
    episodes = Episodes(scenario, runs, threads=1)
    episodes.advance_to(edge)
    return episodes


@functools.cache
def _at_the_edge() -> Episodes:
    return _opened(_EDGE)


@functools.cache
def _agent() -> Agent:
    """Return an agent that has seen everything up to the edge of runs in which it did nothing."""
    episodes = _opened()
    scenario = THREE_TIER.scenario()
    agent = Agent(
        trained_detector("threshold", scenario, seed=0, threads=1), make_diagnoser("causal_rank"), make_policy("noop")
    )
    begin(episodes, agent)
    while episodes.step < _EDGE:
        episodes.act(agent.step(episodes.observation).choice)
        episodes.advance()
    return agent


def _rolled(then: Then | None, futures: tuple[int, ...]) -> Outcomes:
    episodes = _at_the_edge()
    rows, actions = all_cases(episodes.observation.legal)
    return roll_out(episodes, rows, actions, futures=futures, then=then)


def _checked(outcomes: Outcomes) -> dict[str, int]:
    assert outcomes.until - outcomes.step == HORIZON
    assert outcomes.j.size >= 10 * _N_RUNS
    assert (outcomes.offered > 1000).all()
    assert np.unique(outcomes.j).size > 10
    return {"forks": outcomes.j.size, "requests": int(outcomes.offered.sum())}


@pytest.mark.parametrize(
    ("what", "futures"), [("own future", (-1,)), ("another future", (0,)), ("release", (0,)), ("agent goes on", (0,))]
)
def test_every_legal_action_on_forks(what: str, futures: tuple[int, ...], timed: Timed) -> None:
    _at_the_edge()
    then = {"release": None, "agent goes on": _agent() if what == "agent goes on" else None}.get(what, Nothing())
    timed("forks", what, lambda: _rolled(then, futures), done=_checked, rounds=3)


@pytest.mark.guard
def test_forks_run_at_nearly_the_speed_of_the_engine(holds: Holds) -> None:
    fresh = [_opened() for _ in range(12)]
    counts: dict[str, int] = {}

    def plain() -> None:
        episodes = fresh.pop()
        episodes.advance_to_end()
        counts["plain"] = int(episodes.offered.sum())

    def forks() -> None:
        counts["forks"] = _checked(_rolled(Nothing(), (-1,)))["requests"]

    def share(best: Mapping[str, float]) -> float:
        return (counts["forks"] / best["forks"]) / (counts["plain"] / best["plain"])

    best = best_of({"plain": plain, "forks": forks}, rounds=3, enough=lambda best: share(best) >= _SHARE)
    holds("three_tier, requests per CPU-second, forks over no forks", share(best), at_least=_SHARE)
