"""The closed loop on three_tier: without an agent, with one that only thinks, and with one that acts."""

import functools
from dataclasses import replace

import pytest

from agent.api import AgentTrace, ConsultsRollouts, Detector, Policy
from agent.evaluation.costs import costs
from agent.evaluation.profiling.clocks import best_of
from agent.evaluation.study import Study, play_round
from agent.evaluation.training import trained_detector
from agent.registry import DETECTORS, DIAGNOSERS, POLICIES, make_policy
from bench.conftest import Holds, Timed
from bench.workloads import closed_loop
from simcore.env import Episodes

#: Runs of a round, as ``eval`` plays them.
_N_RUNS = 50
_STEPS, _SHORT_STEPS = 120, 48
#: What an agent that only thinks must leave of the speed without one.
_SHARE = 0.7

#: What a part of an agent may take on top of the simulation's own time.
_PART_COST = 0.3

Round = tuple[Episodes, AgentTrace | None]


@functools.cache
def _detector(n_steps: int) -> Detector:
    study = closed_loop(n_runs=_N_RUNS, steps=n_steps, shadow=True)
    return trained_detector(study.detector, study.scenario, seed=0, threads=1)


def _play(study: Study, detector: Detector | None) -> Round:
    policy: Policy | None = None if detector is None else make_policy("bandit")
    return play_round(study, study.runs(0, _N_RUNS), policy, detector, threads=1)


def _checked(played: Round, mode: str) -> dict[str, int]:
    episodes, trace = played
    assert episodes.finished
    assert episodes.n_runs == _N_RUNS
    assert (episodes.offered.sum(axis=1) > 0).all()
    if trace is not None:
        assert trace.alarm.any(), "an agent that sees nothing has nothing to think about"
        assert len(trace.decisions) > 10
    assert bool(episodes.records) == (mode == "acting")
    return {"requests": int(episodes.offered.sum()), "episodes": _N_RUNS}


@pytest.mark.parametrize("mode", ["no agent", "shadow", "acting"])
def test_a_round_of_the_closed_loop(mode: str, timed: Timed) -> None:
    study = closed_loop(n_runs=_N_RUNS, steps=_STEPS, shadow=mode == "shadow")
    detector = None if mode == "no agent" else _detector(_STEPS)
    timed("closed_loop", mode, lambda: _play(study, detector), done=lambda played: _checked(played, mode), rounds=3)


@pytest.mark.guard
def test_an_agent_that_thinks_leaves_most_of_the_speed(holds: Holds) -> None:
    study, detector = closed_loop(n_runs=_N_RUNS, steps=_SHORT_STEPS, shadow=True), _detector(_SHORT_STEPS)
    last: dict[str, Round] = {}

    def piece(mode: str) -> None:
        last[mode] = _play(study, detector if mode == "shadow" else None)

    best = best_of(
        {"no agent": lambda: piece("no agent"), "shadow": lambda: piece("shadow")},
        rounds=3,
        enough=lambda best: best["no agent"] / best["shadow"] >= _SHARE,
    )
    # the same events: nothing that the agent thought was applied
    assert _checked(last["no agent"], "no agent") == _checked(last["shadow"], "shadow")
    assert last["no agent"][0].metrics.tobytes() == last["shadow"][0].metrics.tobytes()
    share = best["no agent"] / best["shadow"]
    holds("three_tier, requests per CPU-second, shadow mode over no agent", share, at_least=_SHARE)


@pytest.mark.guard
def test_no_part_of_an_agent_takes_a_third_of_the_time_that_the_simulation_takes(holds: Holds) -> None:
    study = closed_loop(n_runs=_N_RUNS, steps=_SHORT_STEPS, shadow=True)
    policies = [name for name in POLICIES if not isinstance(make_policy(name), ConsultsRollouts)]
    # the learned one has not been taught anything here: what its trees cost is in the docs
    policies.remove("learned")
    found = costs(replace(study, policies=tuple(policies)), list(DETECTORS), list(DIAGNOSERS), threads=1)
    assert len(found) == len(DETECTORS) + len(DIAGNOSERS) + len(policies)
    for part in found:
        assert part.cpu_s > 0
        name = f"three_tier, CPU time of {part.kind} {part.name} over that of the simulation"
        holds(name, part.share, at_most=_PART_COST)
