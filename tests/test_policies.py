"""Policies: what they choose and what they learn."""

import json

import numpy as np
import pytest

from agent.api import PATTERNS, Decision
from agent.policies.arms import ARMS, Arms, worst_slot
from agent.policies.bandit import Ucb1Policy
from agent.policies.noop import NoopPolicy
from agent.policies.playbook import PLAYBOOK, Playbook
from agent.policies.random import RandomPolicy
from agent.policies.signature import admitted_errors, signatures
from agent.policies.threshold_rules import ThresholdRules
from simcore.codes import ActionCode
from simcore.errors import InputError
from simcore.windows import Metric, ReplicaStat
from tests.agent_world import (
    API,
    CACHE,
    DB,
    SYSTEM,
    TOPOLOGY,
    actions,
    ask,
    failing,
    healthy,
    observe,
    remember,
    replicas,
    slow,
)

TABLE = actions()
NUMBER = {name: i for i, name in enumerate(TABLE.names)}


def decision(signature: str, code: ActionCode, reward: float) -> Decision:
    return Decision(
        run=0, opened=0, action=1, code=int(code), legal=(0, 1), propensity=1.0, score=0.5,
        signature=signature, target=0, explain=str, closed=5, reward=reward,
    )  # fmt: skip


def chosen(policy, situation) -> list[str]:  # type: ignore[no-untyped-def]
    policy.start(TOPOLOGY, TABLE)
    return [TABLE.names[a] for a in policy.decide(situation).action]


def broken(service: int = DB, runs: int = 1) -> np.ndarray:
    metrics = healthy(1, 60)
    failing(metrics, 0, service, 40)
    return metrics[[0] * runs]


# --- arms and signatures


def test_arms_bind_kinds_of_action_to_the_target() -> None:
    stats = replicas(1)
    stats[0, DB, 1, ReplicaStat.MEAN_LATENCY_S] = 0.5
    bound = Arms(TOPOLOGY, TABLE).bind(ask(broken(), 50, DB, replicas=stats))[0]
    names = [TABLE.names[a] if a >= 0 else None for a in bound]
    assert dict(zip(ARMS, names, strict=True)) == {
        "noop": "noop",
        "restart": "restart(db)",
        "scale_up": "scale(db,+1)",
        "clear_cache": None,
        "limit_traffic": "limit_traffic(0.7)",
        "rollback": "rollback(db)",
        "quarantine": "quarantine(db/1)",
    }


def test_the_caller_of_a_cache_can_have_it_cleared_and_the_workload_stands_for_the_busiest_service() -> None:
    arms = Arms(TOPOLOGY, TABLE)
    assert TABLE.names[arms.bind(ask(broken(), 50, API))[0, ARMS.index("clear_cache")]] == "clear_cache(cache)"
    metrics = broken()
    metrics[:, :, DB, Metric.CPU_UTIL] = 0.95
    assert TABLE.names[arms.bind(ask(metrics, 50, -1))[0, ARMS.index("scale_up")]] == "scale(db,+1)"


def test_what_is_not_allowed_is_not_bound() -> None:
    allowed = np.ones((1, len(TABLE)), np.bool_)
    allowed[0, NUMBER["restart(db)"]] = False
    bound = Arms(TOPOLOGY, TABLE).bind(ask(broken(), 50, DB, allowed=allowed))[0]
    assert bound[ARMS.index("restart")] == -1
    assert bound[ARMS.index("noop")] == 0


def test_the_worst_replica_needs_others_that_answer_as_usual() -> None:
    stats = replicas(1)[0, API]
    stats[:2, ReplicaStat.MEAN_LATENCY_S] = 0.1, 0.4
    assert worst_slot(stats, np.inf) == (1, pytest.approx(4.0))
    assert worst_slot(stats, 0.05) == (1, 1.0)
    stats[1, ReplicaStat.QUARANTINED] = 1
    assert worst_slot(stats, np.inf) == (-1, 1.0)


def pattern(target: int, change=None, **seen: object) -> str:  # type: ignore[no-untyped-def]
    """Return the pattern of a target whose metrics were changed from step 40 on."""
    metrics = healthy(1, 60)
    if change is not None:
        change(metrics[:, 40:])
    signature = ask(metrics, 50, target, **seen).signature
    return PATTERNS[signature.pattern[0]]


def test_patterns_are_told_apart() -> None:
    def put(service: int, metric: Metric, value: float):  # type: ignore[no-untyped-def]
        return lambda m: m.__setitem__((slice(None), slice(None), service, metric), value)

    age = np.full((1, 3), np.nan)
    age[0, DB] = 60.0
    skewed, short = replicas(1), replicas(1)
    skewed[0, API, 1, ReplicaStat.MEAN_LATENCY_S] = 0.4
    skewed[0, API, 0, ReplicaStat.MEAN_LATENCY_S] = 0.04
    short[0, API, 0, ReplicaStat.QUARANTINED] = 1
    assert pattern(API) == "nothing"
    assert pattern(DB, change_age_s=age) == "change"
    assert pattern(API, replicas=skewed) == "skew"
    assert pattern(API, replicas=short) == "short"
    assert pattern(API, put(API, Metric.REPLICAS_UP, 1.0)) == "flapping"
    assert pattern(DB, put(DB, Metric.MEMORY_FRAC, 0.9)) == "memory"
    assert pattern(DB, put(DB, Metric.CPU_UTIL, 0.95)) == "cpu"
    assert pattern(DB, put(DB, Metric.ERROR_RATE, 0.3)) == "errors"
    assert pattern(DB, put(DB, Metric.P95_S, 1.0)) == "latency"
    assert pattern(CACHE, put(CACHE, Metric.HIT_RATIO, 0.3)) == "cold"
    assert pattern(CACHE, put(SYSTEM, Metric.ERROR_RATE, 0.3)) == "poison"
    assert pattern(-1, put(SYSTEM, Metric.REQUEST_RATE_RPS, 90.0)) == "surge"
    assert pattern(-1) == "nothing"


def test_every_pattern_has_a_page_in_the_playbook() -> None:
    assert set(PLAYBOOK) == set(PATTERNS)
    assert {arm for page in PLAYBOOK.values() for arm in page} <= set(ARMS)


def test_a_signature_reads_as_text() -> None:
    metrics = broken()
    metrics[:, 40:, DB, Metric.RETRIES] = 80
    metrics[:, 40:, SYSTEM, Metric.REQUEST_RATE_RPS] = 60
    situation = ask(metrics, 50, DB)
    assert situation.signature.key(0, TOPOLOGY.services) == "db|errors|load2|amp1|errors|first"
    again = signatures(
        TOPOLOGY, situation.observation, situation.history, np.array([0]), np.array([-1]), np.array([True])
    )
    assert again.key(0, TOPOLOGY.services) == "workload|errors|load2|amp1|surge|again"


def test_shed_requests_are_not_taken_for_failures_of_the_admitted() -> None:
    system = np.full((3, len(Metric)), np.nan)
    system[:, Metric.OK] = 140, 70, 0
    system[:, Metric.REJECTED] = 60, 60, 60
    system[:, Metric.ERROR_RATE] = 60 / 200, 130 / 200, 1.0  # 0 or 70 of 140 admitted ones failed; or all of them
    np.testing.assert_allclose(admitted_errors(system), [0.0, 0.5, 1.0], atol=1e-12)
    system[:, Metric.REJECTED] = 0
    np.testing.assert_allclose(admitted_errors(system), system[:, Metric.ERROR_RATE])


# --- policies without learning


def test_noop_never_acts() -> None:
    assert chosen(NoopPolicy(), ask(broken(), 50, DB)) == ["noop"]


def test_random_takes_every_allowed_action_equally_often() -> None:
    n = 6000
    legal = np.zeros((n, len(TABLE)), np.bool_)
    legal[:, [0, 3, 7]] = True
    situation = ask(broken(), 50, DB)
    policy = RandomPolicy()
    policy.start(TOPOLOGY, TABLE)
    from dataclasses import replace

    from tests.agent_world import keys

    choices = policy.decide(replace(situation, runs=np.zeros(n, np.int64), keys=keys(n), allowed=legal))
    count = np.bincount(choices.action, minlength=len(TABLE))
    assert set(np.flatnonzero(count)) == {0, 3, 7}
    assert (np.abs(count[[0, 3, 7]] - n / 3) < 150).all()
    np.testing.assert_allclose(choices.propensity, 1 / 3)


def test_the_rules_fire_in_order_and_pass_over_what_is_not_allowed() -> None:
    metrics = healthy(1, 60)
    metrics[0, 40:, DB, Metric.CPU_UTIL] = 0.95
    assert chosen(ThresholdRules(), ask(metrics, 50, API)) == ["scale(db,+1)"]
    no_scaling = np.ones((1, len(TABLE)), np.bool_)
    no_scaling[0, NUMBER["scale(db,+1)"]] = False
    assert chosen(ThresholdRules(), ask(metrics, 50, API, allowed=no_scaling)) == ["limit_traffic(0.7)"]
    metrics[0, 40:, CACHE, Metric.ERROR_RATE] = 0.2
    assert chosen(ThresholdRules(), ask(metrics, 50, API)) == ["restart(cache)"]
    metrics[0, 40:, API, Metric.MEMORY_FRAC] = 0.95
    assert chosen(ThresholdRules(), ask(metrics, 50, API)) == ["restart(api)"]
    assert chosen(ThresholdRules(), ask(healthy(1, 60), 50, API)) == ["noop"]


def test_the_rules_restart_the_slowest_service_when_clients_wait() -> None:
    metrics = healthy(1, 60)
    slow(metrics, 0, API, 40)
    assert chosen(ThresholdRules(), ask(metrics, 50, DB)) == ["restart(api)"]


def test_the_playbook_takes_the_first_action_that_is_left() -> None:
    situation = ask(broken(), 50, DB)
    assert chosen(Playbook(), situation) == ["rollback(db)"]
    fewer = np.ones((1, len(TABLE)), np.bool_)
    fewer[0, NUMBER["rollback(db)"]] = False
    assert chosen(Playbook(), ask(broken(), 50, DB, allowed=fewer)) == ["restart(db)"]
    none = np.zeros((1, len(TABLE)), np.bool_)
    none[:, 0] = True
    assert chosen(Playbook(), ask(broken(), 50, DB, allowed=none)) == ["noop"]


def test_the_playbook_waits_while_users_notice_nothing_unless_the_pattern_is_worth_it() -> None:
    metrics = healthy(1, 60)
    metrics[0, 40:, DB, Metric.P95_S] = 0.3
    assert chosen(Playbook(), ask(metrics, 50, DB)) == ["noop"]
    metrics[0, 40:, DB, Metric.CPU_UTIL] = 0.95
    assert chosen(Playbook(), ask(metrics, 50, DB)) == ["scale(db,+1)"]


# --- the bandit

KEY = "db|errors|load1|amp0|errors|first"


def shares(policy: Ucb1Policy, runs: int = 400) -> dict[str, float]:
    """Return the share of runs that take each action for one signature."""
    names = chosen(policy, ask(broken(DB, runs), 50, DB))
    return {name: names.count(name) / runs for name in set(names)}


def test_without_experience_the_playbook_leads_and_runs_are_spread() -> None:
    taken = shares(Ucb1Policy(exploration=0.5))
    assert max(taken, key=lambda name: taken[name]) == "rollback(db)"
    assert len(taken) >= 4


def test_rewards_move_the_choice_and_freezing_ends_exploration() -> None:
    policy = Ucb1Policy()
    policy.merge([decision(KEY, ActionCode.RESTART, 0.95), decision(KEY, ActionCode.ROLLBACK, 0.05)] * 30)
    assert shares(policy)["restart(db)"] > 0.6
    policy.freeze()
    assert shares(policy) == {"restart(db)": 1.0}


def test_a_fresh_signature_falls_back_to_coarser_experience() -> None:
    policy = Ucb1Policy()
    other = "api|p95|load2|amp1|errors|first"  # another service, load and threshold; the same pattern
    policy.merge([decision(other, ActionCode.RESTART, 0.95), decision(other, ActionCode.ROLLBACK, 0.05)] * 30)
    policy.freeze()
    assert shares(policy) == {"restart(db)": 1.0}
    unrelated = "api|p95|load2|amp1|latency|first"
    fresh = Ucb1Policy()
    fresh.merge([decision(unrelated, ActionCode.RESTART, 0.95)] * 30)
    fresh.freeze()
    assert shares(fresh) == {"rollback(db)": 1.0}


def test_experience_while_the_slo_holds_is_kept_apart() -> None:
    policy = Ucb1Policy()
    policy.merge([decision("db|none|load1|amp0|errors|first", ActionCode.NOOP, 1.0)] * 50)
    policy.freeze()
    assert shares(policy) == {"rollback(db)": 1.0}


def test_a_known_signature_outweighs_its_relatives() -> None:
    policy = Ucb1Policy()
    other = "api|errors|load1|amp0|errors|first"
    policy.merge([decision(other, ActionCode.RESTART, 0.9)] * 40 + [decision(KEY, ActionCode.RESTART, 0.1)] * 20)
    policy.merge([decision(KEY, ActionCode.ROLLBACK, 0.6)] * 20)
    policy.freeze()
    assert shares(policy) == {"rollback(db)": 1.0}


def test_propensities_are_the_shares_with_which_arms_are_taken() -> None:
    policy = Ucb1Policy(exploration=0.5)
    policy.start(TOPOLOGY, TABLE)
    situation = ask(broken(DB, 3000), 50, DB)
    choices = policy.decide(situation)
    for action in np.unique(choices.action):
        taken = choices.action == action
        assert abs(taken.mean() - choices.propensity[taken][0]) < 0.03


def test_deciding_learns_nothing_and_merging_does_not_depend_on_batches() -> None:
    policy, halves = Ucb1Policy(), Ucb1Policy()
    before = json.dumps(policy.state())
    shares(policy)
    assert json.dumps(policy.state()) == before
    round_ = [decision(KEY, ActionCode.RESTART, r) for r in (0.1, 0.2, 0.7)]
    policy.merge(round_)
    halves.merge(round_[:1])
    halves.merge(round_[1:])
    assert json.dumps(policy.state()) == json.dumps(halves.state())


def test_unjudged_decisions_and_other_actions_teach_nothing() -> None:
    policy = Ucb1Policy()
    policy.merge([decision(KEY, ActionCode.RESTART, float("nan")), decision(KEY, ActionCode.RELEASE, 1.0)])
    assert policy.state()["experience"] == {}


def test_arms_that_pay_are_found_among_bernoulli_arms() -> None:
    """The regret of the last rounds is far below that of choosing at random (mean 0.5 below the best)."""
    rng = np.random.default_rng(0)
    pays = {ActionCode.RESTART: 0.2, ActionCode.ROLLBACK: 0.3, ActionCode.SCALE: 0.9}
    policy = Ucb1Policy()
    late = []
    for number in range(30):
        policy.start(TOPOLOGY, TABLE)
        situation = ask(broken(DB, 20), 50, DB, seed=number)
        codes = [ActionCode(int(TABLE.code[a])) for a in policy.decide(situation).action]
        policy.merge([decision(KEY, c, float(rng.random() < pays.get(c, 0.1))) for c in codes])
        late.append(np.mean([pays.get(c, 0.1) for c in codes]))
    assert np.mean(late[-5:]) > 0.8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.update(name="noop"), "expected bandit"),
        (lambda s: s.update(arms=["noop"]), "arms must be"),
        (lambda s: s.pop("experience"), "missing or wrong"),
        (lambda s: s.update(exploration=-1), "exploration"),
        (lambda s: s["experience"].update({"x": {"pulls": [0] * 7, "rewards": [0] * 7}}), "no such signature"),
        (lambda s: s["experience"][KEY].update(pulls=[1]), "needs 7"),
        (lambda s: s["experience"][KEY].update(rewards=[9.0] * 7), "rewards must lie"),
    ],
)
def test_a_damaged_policy_state_is_refused(damage, message) -> None:  # type: ignore[no-untyped-def]
    policy = Ucb1Policy()
    policy.merge([decision(KEY, ActionCode.RESTART, 0.5)])
    state = json.loads(json.dumps(policy.state()))
    damage(state)
    with pytest.raises(InputError, match=message):
        Ucb1Policy().load(state)


def test_negative_exploration_is_refused() -> None:
    with pytest.raises(InputError, match="exploration"):
        Ucb1Policy(exploration=-0.1)


def test_histories_are_needed_for_patterns_only() -> None:
    """Right after the start nothing is normal yet; signatures are then plain, and nothing warns."""
    metrics = healthy(1, 10)
    signature = signatures(
        TOPOLOGY, observe(metrics, 0), remember(metrics, 0, 0), np.array([0]), np.array([DB]), np.array([False])
    )
    assert signature.key(0, TOPOLOGY.services) == "db|none|load0|amp0|nothing|first"
