"""Policies: what they choose and what they learn."""

import json
from dataclasses import replace

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
from simcore.errors import InputError
from simcore.model.action_types import ACTIONS
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


def decision(signature: str, arm: str, reward: float) -> Decision:
    return Decision(
        run=0, opened=0, action=1, code=1, legal=(0, 1), propensity=1.0, score=0.5, signature=signature, target=0,
        explain=str, closed=5, reward=reward, context=(float(ARMS.index(arm)),),
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
        "shed": "limit_traffic(0.7)",  # the deepest that is offered
        "quarantine": "quarantine(db/1)",
        "rollback": "rollback(db)",
        "set_retry_budget": "set_retry_budget(api,0)",
        "open_breaker": "open_breaker(db)",
        "resize_pool": "resize_pool(api,4)",
        "clear_queue": "clear_queue(db)",
        "raise_limit": "raise_limit(db)",
        "rotate": "rotate(db)",
        "failover": "failover(db)",
        "warm_cache": None,
        "degrade": None,  # the api cannot do without the db
        "skip_message": "skip_message(db)",
        "escalate": "escalate",
    }


def test_every_kind_that_does_more_than_undo_another_has_an_arm() -> None:
    undoing = {name for name, kind in ACTIONS.items() if kind.undoes}
    assert undoing == {"release", "close_breaker"}
    assert {"scale" if arm == "scale_up" else arm for arm in ARMS} - {"shed"} == set(ACTIONS) - undoing


def test_a_caller_leaves_out_what_it_can_do_without() -> None:
    spare = replace(
        TOPOLOGY, optional=TOPOLOGY.calls & (np.arange(3) == DB), required=TOPOLOGY.calls & (np.arange(3) != DB)
    )
    assert spare.spared.tolist() == [False, False, True]
    bound = Arms(spare, TABLE).bind(ask(broken(), 50, DB))[0]
    assert TABLE.names[bound[ARMS.index("degrade")]] == "degrade(api,1)"


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


def put(*changes: tuple[int, Metric, float]):  # type: ignore[no-untyped-def]
    """Return what sets metrics of services."""

    def change(metrics: np.ndarray) -> None:
        for service, metric, value in changes:
            metrics[:, :, service, metric] = value

    return change


def test_patterns_are_told_apart() -> None:
    age = np.full((1, 3), np.nan)
    age[0, DB] = 60.0
    skewed, short, crowded = replicas(1), replicas(1), replicas(1)
    skewed[0, API, 1, ReplicaStat.MEAN_LATENCY_S] = 0.4
    skewed[0, API, 0, ReplicaStat.MEAN_LATENCY_S] = 0.04
    short[0, API, 0, ReplicaStat.QUARANTINED] = 1
    crowded[0, CACHE, :2, ReplicaStat.BUSY] = 0.2, 0.98
    busy = (DB, Metric.CPU_UTIL, 0.95)
    surge = (SYSTEM, Metric.REQUEST_RATE_RPS, 90.0)
    waits = (DB, Metric.TIMEOUTS, 60.0)
    assert pattern(API) == "nothing"
    assert pattern(DB, change_age_s=age) == "change"
    assert pattern(API, replicas=skewed) == "skew"
    assert pattern(API, replicas=short) == "short"
    assert pattern(API, put((API, Metric.REPLICAS_UP, 1.0))) == "flapping"
    assert pattern(DB, put((DB, Metric.MEMORY_FRAC, 0.9))) == "memory"
    assert pattern(DB, put(busy)) == "cpu"
    assert pattern(DB, put(busy, surge)) == "overload"
    assert pattern(DB, put(busy, waits, (DB, Metric.RETRIES, 60.0))) == "storm"
    assert pattern(DB, put((API, Metric.POOL_WAITING, 20.0))) == "pool"
    assert pattern(DB, put((DB, Metric.LAG, 200.0))) == "stuck"
    assert pattern(DB, put((DB, Metric.LAG, 200.0), busy)) == "backlog"
    assert pattern(DB, put(waits)) == "cut"
    assert pattern(DB, put((DB, Metric.ERROR_RATE, 0.3))) == "errors"
    assert pattern(DB, put((DB, Metric.P95_S, 1.0))) == "latency"
    assert pattern(CACHE, put((CACHE, Metric.HIT_RATIO, 0.3))) == "cold"
    assert pattern(CACHE, put((SYSTEM, Metric.ERROR_RATE, 0.3))) == "poison"
    assert pattern(CACHE, replicas=crowded) == "hot"
    assert pattern(-1, put(surge)) == "surge"
    assert pattern(-1) == "nothing"


def test_a_service_that_all_can_do_without_is_told_apart() -> None:
    metrics = broken()
    situation = ask(metrics, 50, DB)
    spare = replace(TOPOLOGY, optional=TOPOLOGY.calls, required=np.zeros((3, 3), np.bool_))
    seen = signatures(spare, situation.observation, situation.history, np.array([0]), np.array([DB]), np.array([False]))
    assert PATTERNS[seen.pattern[0]] == "spared"


def test_the_far_end_of_a_cut_edge_is_the_target_unless_all_edges_are_cut() -> None:
    metrics = healthy(1, 60)
    metrics[:, 40:, DB, Metric.TIMEOUTS] = 60.0
    signature = ask(metrics, 50, API).signature
    assert (signature.target[0], PATTERNS[signature.pattern[0]]) == (DB, "cut")
    metrics[:, 40:, CACHE, Metric.TIMEOUTS] = 60.0
    signature = ask(metrics, 50, API).signature
    assert (signature.target[0], PATTERNS[signature.pattern[0]]) == (API, "cut")
    recent = np.full((1, 3), np.nan)
    recent[0, API] = 10.0
    assert PATTERNS[ask(metrics, 50, API, change_age_s=recent).signature.pattern[0]] == "change"


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
    assert chosen(Playbook(), situation) == ["restart(db)"]
    fewer = situation.allowed.copy()
    fewer[0, NUMBER["restart(db)"]] = False
    assert chosen(Playbook(), ask(broken(), 50, DB, allowed=fewer)) == ["rotate(db)"]
    fewer[0, [NUMBER[f"{name}(db)"] for name in ("rotate", "rollback")]] = False
    assert chosen(Playbook(), ask(broken(), 50, DB, allowed=fewer)) == ["escalate"]  # three in ten requests fail
    mild = broken()
    mild[0, 40:, SYSTEM, Metric.ERROR_RATE] = 0.07
    assert chosen(Playbook(), ask(mild, 50, DB, allowed=fewer)) == ["noop"]
    none = np.zeros((1, len(TABLE)), np.bool_)
    none[:, 0] = True
    assert chosen(Playbook(), ask(broken(), 50, DB, allowed=none)) == ["noop"]


def test_the_playbook_waits_until_users_notice() -> None:
    metrics = healthy(1, 60)
    metrics[0, 40:, DB, Metric.CPU_UTIL] = 0.95
    metrics[0, 40:, SYSTEM, Metric.REQUEST_RATE_RPS] *= 1.6
    assert chosen(Playbook(), ask(metrics, 50, DB)) == ["noop"]
    metrics[0, 40:, SYSTEM, Metric.P95_S] = 2.0 * TOPOLOGY.p95_slo_s
    assert chosen(Playbook(), ask(metrics, 50, DB)) == ["scale(db,+1)"]


# --- the bandit

KEY = "db|errors|load1|amp0|errors|first"


def shares(policy: Ucb1Policy, runs: int = 400) -> dict[str, float]:
    """Return the share of runs that take each action for one signature."""
    names = chosen(policy, ask(broken(DB, runs), 50, DB))
    return {name: names.count(name) / runs for name in set(names)}


def test_without_experience_the_playbook_leads_and_runs_are_spread() -> None:
    taken = shares(Ucb1Policy(exploration=0.5))
    assert max(taken, key=lambda name: taken[name]) == "restart(db)"
    assert len(taken) >= 4


def test_rewards_move_the_choice_and_freezing_ends_exploration() -> None:
    policy = Ucb1Policy()
    policy.merge([decision(KEY, "rollback", 0.95), decision(KEY, "restart", 0.05)] * 30)
    assert shares(policy)["rollback(db)"] > 0.6
    policy.freeze()
    assert shares(policy) == {"rollback(db)": 1.0}


def test_a_fresh_signature_falls_back_to_coarser_experience() -> None:
    policy = Ucb1Policy()
    other = "api|p95|load2|amp1|errors|first"  # another service, load and threshold; the same pattern
    policy.merge([decision(other, "rollback", 0.95), decision(other, "restart", 0.05)] * 30)
    policy.freeze()
    assert shares(policy) == {"rollback(db)": 1.0}
    unrelated = "api|p95|load2|amp1|latency|first"
    fresh = Ucb1Policy()
    fresh.merge([decision(unrelated, "rollback", 0.95)] * 30)
    fresh.freeze()
    assert shares(fresh) == {"restart(db)": 1.0}


def test_experience_while_the_slo_holds_is_kept_apart() -> None:
    policy = Ucb1Policy()
    policy.merge([decision("db|none|load1|amp0|errors|first", "noop", 1.0)] * 50)
    policy.freeze()
    assert shares(policy) == {"restart(db)": 1.0}


def test_a_known_signature_outweighs_its_relatives() -> None:
    policy = Ucb1Policy()
    other = "api|errors|load1|amp0|errors|first"
    policy.merge([decision(other, "restart", 0.9)] * 40 + [decision(KEY, "restart", 0.1)] * 20)
    policy.merge([decision(KEY, "rollback", 0.8)] * 20)
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
    round_ = [decision(KEY, "restart", r) for r in (0.1, 0.2, 0.7)]
    policy.merge(round_)
    halves.merge(round_[:1])
    halves.merge(round_[1:])
    assert json.dumps(policy.state()) == json.dumps(halves.state())


def test_unjudged_decisions_and_other_actions_teach_nothing() -> None:
    policy = Ucb1Policy()
    policy.merge([decision(KEY, "restart", float("nan")), replace(decision(KEY, "noop", 1.0), context=())])
    assert policy.state()["experience"] == {}


def test_arms_that_pay_are_found_among_bernoulli_arms() -> None:
    """The regret of the last rounds is far below that of choosing at random (mean 0.5 below the best)."""
    rng = np.random.default_rng(0)
    pays = {"restart": 0.2, "rollback": 0.3, "scale_up": 0.9}
    policy = Ucb1Policy()
    late = []
    for number in range(30):
        policy.start(TOPOLOGY, TABLE)
        taken = policy.decide(ask(broken(DB, 20), 50, DB, seed=number)).context
        assert taken is not None
        arms = [ARMS[int(arm)] for arm in taken[:, 0]]
        policy.merge([decision(KEY, arm, float(rng.random() < pays.get(arm, 0.1))) for arm in arms])
        late.append(np.mean([pays.get(arm, 0.1) for arm in arms]))
    assert np.mean(late[-5:]) > 0.8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.update(name="noop"), "expected bandit"),
        (lambda s: s.update(arms=["noop"]), "arms must be"),
        (lambda s: s.pop("experience"), "missing or wrong"),
        (lambda s: s.update(exploration=-1), "exploration"),
        (
            lambda s: s["experience"].update({"x": {"pulls": [0] * len(ARMS), "rewards": [0] * len(ARMS)}}),
            "no such signature",
        ),
        (lambda s: s["experience"][KEY].update(pulls=[1]), f"needs {len(ARMS)}"),
        (lambda s: s["experience"][KEY].update(rewards=[9.0] * len(ARMS)), "rewards must lie"),
    ],
)
def test_a_damaged_policy_state_is_refused(damage, message) -> None:  # type: ignore[no-untyped-def]
    policy = Ucb1Policy()
    policy.merge([decision(KEY, "restart", 0.5)])
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
