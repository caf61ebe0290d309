"""The playbook in the closed loop: what it mends when it is told where the fault is."""

import numpy as np
import pytest

from agent.detectors.threshold import ThresholdDetector
from agent.diagnosers.causal_rank import CausalRank
from agent.evaluation.oracles import OracleDiagnoser
from agent.evaluation.study import with_steps
from agent.loop import Agent
from agent.play import play
from agent.policies.playbook import Playbook
from simcore.env import Episodes
from simcore.model.faults import parse_fault
from simcore.model.inputs import Run, make_run
from simcore.model.loader import load_scenario

SHOP = with_steps(load_scenario("three_tier"), 140)
RUNS_EACH = 2
#: From this loss of J on a fault is worth mending.
HURTS = 0.03

#: What hurts in three_tier at full strength, and where it is tried.
MENDED = (
    "error_burst@db", "error_burst@api", "slow_query@db", "crash_loop@api", "bad_deploy@api", "bad_deploy@db",
    "cache_poison@cache", "cpu_saturation@api", "cpu_throttle@db", "slow_replica@api/1", "noisy_neighbour@api/1",
    "expiry@api", "expiry@cache", "latency_spike@db", "pool_exhaustion@db", "lock_contention@db",
    "partition@api:partner", "net_delay@api:partner", "config_error@api",
)  # fmt: skip


def runs(texts: tuple[str, ...]) -> list[Run]:
    """Return some runs for each fault, at full strength; what may live in several places does so in the likeliest."""
    return [
        make_run(
            SHOP,
            seed=21,
            split="tune",
            run=RUNS_EACH * i + k,
            faults=(parse_fault(text, SHOP, onset_s=150, severity=1.0),),
        )
        for i, text in enumerate(texts)
        for k in range(RUNS_EACH)
    ]


def lost(texts: tuple[str, ...], acting: bool) -> np.ndarray:
    """Return (fault,) the mean loss of J."""
    made = runs(texts)
    episodes = Episodes(SHOP, made)
    if acting:
        quiet = Episodes(SHOP, [make_run(SHOP, seed=22, split="train", run=i, faults=()) for i in range(4)])
        quiet.advance_to_end()
        detector = ThresholdDetector()
        detector.fit(quiet.metrics, quiet.topology, seed=0)
        play(episodes, Agent(detector, OracleDiagnoser(CausalRank()), Playbook()))
    else:
        episodes.advance_to_end()
    zero = np.zeros(len(made), np.int64)
    return -episodes.j_between(zero, zero + episodes.n_steps).reshape(len(texts), RUNS_EACH).mean(axis=1)


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[float, float]]:
    noop, playbook = lost(MENDED, False), lost(MENDED, True)
    return {text: (float(a), float(b)) for text, a, b in zip(MENDED, noop, playbook, strict=True)}


@pytest.mark.parametrize("text", MENDED)
def test_a_fault_that_hurts_is_mended(table: dict[str, tuple[float, float]], text: str) -> None:
    noop, playbook = table[text]
    assert noop > HURTS
    assert playbook < 0.5 * noop
