"""Decisions held against the best action, and the share of an oracle's gap that is closed."""

import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from agent.evaluation.compare import PER_DECISION, PRIMARY_MEASURE, Comparison, compare
from agent.evaluation.gap import gap_closed, gaps
from agent.evaluation.regret import Judge
from agent.policies.fork_oracle import SPACING, fair_values
from agent.rollouts import Tryouts, roll_out
from simcore.env import Episodes
from simcore.model.faults import parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario, load_scenario
from tests.conftest import TINY, Invoke
from tests.test_compare import made, row_of


@pytest.fixture(scope="module")
def ill() -> Episodes:
    """Return two runs of a system whose db is slow since step 14, at step 20."""
    scenario = build_scenario(YAML(typ="safe").load(io.StringIO(TINY)))
    faults = (parse_fault("latency_spike@db", scenario, onset_s=70.0, severity=1.0),)
    episodes = Episodes(
        scenario, [make_run(scenario, seed=5, split="tune", run=run, faults=faults) for run in range(2)]
    )
    episodes.advance_to(20)
    return episodes


def said(episodes: Episodes, names: dict[int, str]) -> Any:
    """Return what an agent says that takes these actions, of all that are legal."""
    choice = np.zeros(episodes.n_runs, np.int64)
    for run, name in names.items():
        choice[run] = episodes.actions.names.index(name)
    legal = episodes.observation.legal
    opened = {run: SimpleNamespace(legal=tuple(np.flatnonzero(legal[run]).tolist())) for run in names}
    return SimpleNamespace(choice=choice, opened=opened)


def test_the_best_action_has_no_regret_and_a_useless_one_has_what_it_costs_more(ill: Episodes) -> None:
    legal = ill.observation.legal
    best = fair_values(Tryouts(ill), np.arange(2), legal).argmax(axis=1)
    assert best[0] > 0  # something helps
    judge = Judge(ill, runs=2)
    judge.listen(ill, said(ill, {0: ill.actions.names[best[0]], 1: "restart(api)"}))
    found = judge.labels()
    assert found["regret"][0] == 0.0
    assert found["harmful_decisions"][0] == 0
    assert found["regret"][1] is not None
    # the same futures, by hand: those beyond the eight that chose the best
    taken = np.array([ill.actions.names.index("restart(api)"), best[1], 0])
    j = roll_out(ill, np.ones(3, np.int64), taken, futures=range(8, 16)).mean_j()
    assert found["regret"][1] == pytest.approx(j[1] - j[0])
    assert found["regret"][1] > 0.01
    assert found["judged_disruptive"] == [1, 1]
    assert found["harmful_decisions"][1] == int(j[0] - j[2] < -0.01)
    # what is known in advance is worth no less than the best of what is taken
    assert found["regret_clairvoyant"][0] is not None
    assert found["regret_clairvoyant"][0] >= 0.0


def test_a_run_is_judged_once_in_a_while_and_only_if_that_was_asked_for(ill: Episodes) -> None:
    judge = Judge(ill, runs=1)
    waits = said(ill, {0: "noop", 1: "noop"})
    judge.listen(ill, waits)
    judge.listen(ill, waits)  # at the same edge: not yet due again
    found = judge.labels()
    assert SPACING > 1
    assert found["judged_decisions"] == [1, None]
    assert found["regret"][1] is None
    assert found["judged_disruptive"] == [0, None]
    silent = Judge(ill, runs=1)
    assert silent.labels()["judged_decisions"] == [0, None]
    assert silent.labels()["regret"] == [None, None]


def test_regret_is_a_mean_over_decisions_and_harm_a_share_of_the_disruptive_ones() -> None:
    noop = made(4, judged_decisions=[1, 1, 0, None], regret=[0.2, 0.2, None, None], judged_disruptive=[0, 0, 0, None])
    own = made(
        4, policy="bandit", judged_decisions=[3, 1, 0, None], regret=[0.1, 0.5, None, None],
        regret_clairvoyant=[0.2, 0.6, None, None], judged_disruptive=[3, 1, 0, None],
        harmful_decisions=[1, 1, 0, None],
    )  # fmt: skip
    runs = Comparison(pl.concat([noop, own]), seed=1)
    found = compare(runs, measures=(PRIMARY_MEASURE, *PER_DECISION))
    assert row_of(found, "bandit", "regret")["value"] == pytest.approx((3 * 0.1 + 0.5) / 4)
    assert row_of(found, "bandit", "regret")["difference"] == pytest.approx(0.0)
    assert row_of(found, "bandit", "regret")["runs"] == 2
    harmful = row_of(found, "bandit", "harmful_decisions")
    assert harmful["value"] == pytest.approx(0.5)
    # two of four decisions: no narrower than the exact interval
    assert harmful["low"] <= 0.0676
    assert harmful["high"] >= 0.9324
    assert row_of(found, "noop", "harmful_decisions")["value"] is None


def test_the_gap_closed_is_a_ratio_of_means_with_an_interval_that_covers_it() -> None:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(4)))
    noop = generator.exponential(10.0, 80)
    oracle, policy = 0.1 * noop, 0.28 * noop + generator.normal(0.0, 0.5, 80)
    parts = [("noop", noop), ("good", policy), ("oracle_fair", oracle)]
    runs = Comparison(pl.concat([made(80, policy=name, error_budget_spent=spent) for name, spent in parts]), seed=3)
    found = gap_closed(runs, "good", "oracle_fair")
    assert found.value == pytest.approx((noop - policy).mean() / (noop - oracle).mean())
    assert found.low < found.value < found.high
    assert found.low < 0.8 < found.high
    assert found.high - found.low < 0.2  # paired: the spread of noop itself, a factor of thousands, drops out
    assert gap_closed(runs, "oracle_fair", "oracle_fair") == pytest.approx((1.0, 1.0, 1.0))
    assert [(row["policy"], row["oracle"]) for row in gaps(runs)] == [("good", "oracle_fair")]
    nobody = Comparison(pl.concat([made(5), made(5, policy="good")]), seed=3)
    assert gaps(nobody) == []
    level = Comparison(pl.concat([made(5), made(5, policy="good"), made(5, policy="oracle_fair")]), seed=3)
    assert np.isnan(gap_closed(level, "good", "oracle_fair").value)
    assert gaps(level)[0]["share"] is None


def test_compare_tells_regret_and_the_gap(tiny: str, invoke: Invoke) -> None:
    told = ("compare", "--scenario", tiny, "--episodes", 6, "--regret", 4, "--no-replays", "--detector", "threshold")
    result = invoke(*told, "--policies", "playbook,oracle_fair")
    assert result.code == 0, result.err
    assert "share of the gap between noop and oracle_fair that is closed" in result.out
    assert "decisions of 4 runs held against the best action on forks" in result.out
    found = json.loads(invoke(*told, "--policies", "playbook", "--threads", 1, "--json").out)
    regret = {row["policy"]: row for row in found["measures"] if row["measure"] == "regret"}
    assert regret["playbook"]["runs"] >= 1
    assert regret["playbook"]["value"] is not None
    assert found["gap_closed"] == []
    assert load_scenario(tiny).name == "tiny"
