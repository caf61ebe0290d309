"""Steps per second of the Gymnasium environments on three_tier: the batch, single ones, and the SimPy engine."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from agent.environments.single import RemediationEnv
from agent.environments.vector import RemediationVectorEnv
from agent.evaluation.profiling.clocks import best_of
from bench.conftest import Holds, Timed
from bench.workloads import SEED

_STEPS, _MANY = 24, 16
#: How many times as many steps the batch does in a CPU-second as an environment of the SimPy engine.
_TIMES = 30.0


@functools.cache
def _single(engine: str) -> RemediationEnv:
    return RemediationEnv("three_tier", steps=_STEPS, layout="scaled", engine=engine)


@functools.cache
def _vector() -> RemediationVectorEnv:
    return RemediationVectorEnv(_MANY, "three_tier", steps=_STEPS, layout="scaled", threads=1)


def _one(engine: str) -> dict[str, int]:
    """Play an episode, the actions drawn from what is legal."""
    env, rng, steps, over = _single(engine), np.random.default_rng(SEED), 0, False
    env.reset(seed=SEED)
    while not over:
        seen, _, _, over, _ = env.step(rng.choice(np.flatnonzero(env.action_masks())))
        steps += 1
    assert np.count_nonzero(seen) > 10
    return {"steps": steps}


def _many() -> dict[str, int]:
    """Play a batch likewise."""
    env, rng, steps, over = _vector(), np.random.default_rng(SEED), 0, False
    env.reset(seed=SEED)
    while not over:
        actions = [rng.choice(np.flatnonzero(mask)) for mask in env.action_masks()]
        seen, _, _, truncated, _ = env.step(np.array(actions))
        steps, over = steps + _MANY, bool(truncated.all())
    assert (np.count_nonzero(seen, axis=1) > 10).all()
    return {"steps": steps}


_PIECES: Mapping[str, Callable[[], dict[str, int]]] = {
    "SimPy engine": lambda: _one("simpy"),
    "single": lambda: _one("batch"),
    f"vector of {_MANY}": _many,
}


@pytest.mark.parametrize("what", _PIECES)
def test_episodes_of_an_environment(what: str, timed: Timed) -> None:
    timed("gymnasium", what, _PIECES[what], done=_checked, rounds=3)


def _checked(done: dict[str, int]) -> dict[str, int]:
    assert done["steps"] in (_STEPS, _STEPS * _MANY)
    return done


@pytest.mark.guard
def test_the_batch_does_many_times_the_steps_of_the_simpy_engine(holds: Holds) -> None:
    def times(best: Mapping[str, float]) -> float:
        return best["simpy"] / (best["batch"] / _MANY)

    best = best_of(
        {"simpy": lambda: _one("simpy"), "batch": _many}, rounds=2, enough=lambda best: times(best) >= _TIMES
    )
    holds("environments, steps per CPU-second, vector over SimPy", times(best), at_least=_TIMES)
