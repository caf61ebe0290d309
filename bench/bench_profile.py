"""What it costs to take the times of the stages, and that it costs nothing when nobody does."""

from collections.abc import Mapping

import pytest

from agent.evaluation.profiling.clocks import best_of
from agent.evaluation.profiling.stages import Stages, hooks_of
from agent.evaluation.study import play_round
from agent.evaluation.training import trained_detector
from agent.registry import make_policy
from bench.conftest import Holds
from bench.workloads import closed_loop

_N_RUNS, _STEPS = 8, 48
#: What watching may add to a round.
_WATCHED = 1.05
#: What a round may differ from itself: nothing but noise.
_OFF = 1.03


@pytest.mark.guard
def test_stages_cost_nothing_when_nobody_watches_and_little_when_somebody_does(holds: Holds) -> None:
    study = closed_loop(n_runs=_N_RUNS, steps=_STEPS, shadow=True)
    detector = trained_detector(study.detector, study.scenario, seed=0, threads=1)
    runs = study.runs(0, _N_RUNS)
    hooks = hooks_of("batch", detector=detector, diagnoser=study.diagnoser, policies=[make_policy("bandit")])

    def play() -> None:
        play_round(study, runs, make_policy("bandit"), detector, threads=1)

    seen: list[Stages] = []

    def watched() -> None:
        stages = Stages()
        with stages.watching(hooks):
            play()
        seen.append(stages)

    def off(best: Mapping[str, float]) -> float:
        return best["after"] / best["before"]

    # before and after: with nobody watching, the one after a round in which somebody did
    best = best_of(
        {"before": play, "watched": watched, "after": play},
        rounds=5,
        enough=lambda best: 1 / _OFF <= off(best) <= _OFF and best["watched"] <= _WATCHED * best["before"],
    )
    assert seen[-1].seconds["simulate"] > 0.5 * best["watched"]
    assert seen[-1].calls["detect"] == _STEPS
    holds("three_tier, CPU time with stages watched over without", best["watched"] / best["before"], at_most=_WATCHED)
    holds("three_tier, CPU time after somebody watched over before", off(best), at_least=1 / _OFF, at_most=_OFF)
