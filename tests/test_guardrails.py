"""Guardrails: what they forbid every policy, and how traffic is admitted again."""

from dataclasses import replace

import numpy as np
import pytest

from agent.policies.guardrails import HOLD_S, Guardrails, Limits, lifting
from simcore.codes import ActionCode
from simcore.errors import InputError
from simcore.model.action_types import ACTIONS
from simcore.windows import ReplicaStat
from tests.agent_world import (
    API,
    CACHE,
    DB,
    STEP_S,
    actions,
    healthy,
    observe,
    replicas,
)

TABLE = actions()
NUMBER = {name: i for i, name in enumerate(TABLE.names)}


def guard(runs: int = 1, **limits: float) -> Guardrails:
    return Guardrails(TABLE, 3, runs, STEP_S, Limits(**limits))  # type: ignore[arg-type]


def allowed(guardrails: Guardrails, step: int, **changes: object) -> dict[str, bool]:
    row = guardrails.allowed(observe(healthy(1, 750), step, **changes), np.array([0]))[0]
    return dict(zip(TABLE.names, row.tolist(), strict=True))


def test_nothing_illegal_is_allowed_and_noop_always_is() -> None:
    assert not any(v for k, v in allowed(guard(), 5, legal=np.zeros((1, len(TABLE)), np.bool_)).items() if k != "noop")
    assert allowed(guard(), 5, legal=np.zeros((1, len(TABLE)), np.bool_))["noop"]


def test_a_service_is_not_restarted_again_at_once_by_whatever_name() -> None:
    rails = guard(restart_cooldown_s=100)
    rails.took(10, np.array([0]), np.array([NUMBER["rollback(db)"]]))
    now, later = allowed(rails, 20), allowed(rails, 30)
    assert not now["restart(db)"]
    assert now["restart(api)"]
    assert now["scale(db,+1)"]
    assert later["restart(db)"]


def test_a_failover_is_a_restart_too() -> None:
    code = TABLE.code.copy()
    code[NUMBER["restart(db)"]] = ActionCode.FAILOVER
    rails = Guardrails(replace(TABLE, code=code), 3, 1, STEP_S, Limits(restart_cooldown_s=100))
    assert allowed(rails, 5)["restart(db)"]
    rails.took(10, np.array([0]), np.array([NUMBER["rollback(db)"]]))
    assert not allowed(rails, 20)["restart(db)"]
    assert allowed(rails, 30)["restart(db)"]


def test_one_disruptive_action_at_a_time_per_service() -> None:
    busy = np.array([[False, False, True]])
    seen = allowed(guard(), 5, pending=busy)
    assert not seen["restart(db)"]
    assert not seen["scale(db,-1)"]
    assert seen["scale(db,+1)"]
    assert seen["restart(api)"]


def test_traffic_is_limited_once() -> None:
    seen = allowed(guard(), 5, admitted=np.array([0.85]))
    assert not seen["limit_traffic(0.7)"]
    assert seen["limit_traffic(1)"]


def test_the_last_working_replica_and_a_second_one_are_not_quarantined() -> None:
    stats = replicas(1)
    stats[0, DB, 1, ReplicaStat.STATE] = 0
    stats[0, API, 1, ReplicaStat.QUARANTINED] = 1
    seen = allowed(guard(), 5, replicas=stats)
    assert not seen["quarantine(db/0)"]
    assert not seen["quarantine(api/0)"]
    assert seen["quarantine(cache/0)"]


def test_what_did_not_help_is_not_repeated_in_the_incident() -> None:
    rails = guard(repeat_s=200)
    rails.judged(10, 0, NUMBER["restart(db)"], DB, helped=False)
    rails.judged(10, 0, NUMBER["restart(api)"], API, helped=True)
    rails.judged(10, 0, 0, DB, helped=False)
    seen = allowed(rails, 20)
    assert not seen["restart(db)"]
    assert seen["restart(api)"]
    assert seen["noop"]
    assert rails.in_vain(np.array([0])).tolist() == [1]
    assert allowed(rails, 60)["restart(db)"]  # after a long while it may be tried again
    rails.forget(np.array([0]))
    assert allowed(rails, 21)["restart(db)"]
    assert rails.in_vain(np.array([0])).tolist() == [0]


def test_capacity_may_be_added_several_times() -> None:
    rails = guard(scalings=2)
    rails.judged(10, 0, NUMBER["scale(db,+1)"], DB, helped=False)
    assert allowed(rails, 20)["scale(db,+1)"]
    rails.judged(20, 0, NUMBER["scale(db,+1)"], DB, helped=False)
    assert not allowed(rails, 30)["scale(db,+1)"]


def test_the_budget_of_actions_covers_any_hour() -> None:
    rails = guard(actions_per_hour=2)
    for step in (0, 10):
        rails.took(step, np.array([0]), np.array([NUMBER["scale(db,+1)"]]))
        rails.took(step, np.array([0]), np.array([0]))
    assert not allowed(rails, 20)["scale(api,+1)"]
    assert allowed(rails, 20)["noop"]
    assert allowed(rails, 720)["scale(api,+1)"]  # the first is an hour old


def test_the_next_strange_service_has_its_turn_when_actions_on_the_suspect_do_not_help() -> None:
    rails = guard(runs=2, failures_per_service=1)
    ranked, suspect = np.array([[DB, CACHE, API]] * 2), np.array([DB, -1])
    strange = np.array([[True, False, True]] * 2)
    runs = np.arange(2)
    assert rails.target(runs, suspect, ranked, strange).tolist() == [DB, -1]
    rails.judged(5, 0, NUMBER["restart(db)"], DB, helped=False)
    assert rails.target(runs, suspect, ranked, strange).tolist() == [API, -1]
    rails.judged(6, 0, NUMBER["restart(api)"], API, helped=False)
    assert rails.target(runs, suspect, ranked, strange).tolist() == [DB, -1]


def lifted(rails: Guardrails, well_s: float, alarmed: bool = False, **seen: object) -> list[str]:
    observation = observe(healthy(1, 9), 5, **seen)
    chosen = rails.may_lift(observation, np.array([0]), np.array([well_s]), np.array([alarmed]))
    return [TABLE.names[action] for action in chosen]


def legal(*names: str) -> np.ndarray:
    """Return (run, action) in which what undoes something is legal for these only: they are set."""
    mask = np.ones((1, len(TABLE)), np.bool_)
    mask[0, [i for i, kind in enumerate(TABLE.kinds) if ACTIONS[kind].is_undoing(float(TABLE.amount[i]))]] = False
    mask[0, [NUMBER[name] for name in names]] = True
    return mask


def test_traffic_is_admitted_again_in_the_smallest_step() -> None:
    assert lifted(guard(), 20.0, admitted=np.array([0.7])) == ["limit_traffic(0.85)"]
    assert lifted(guard(), 20.0, admitted=np.array([0.85])) == ["limit_traffic(1)"]
    assert lifted(guard(), 15.0, admitted=np.array([0.7])) == ["noop"]


def test_whatever_was_set_is_undone_in_the_end() -> None:
    """Every kind that holds something has a row in the table that undoes it, and comes to its turn."""
    kept = {name for name, kind in ACTIONS.items() if kind.setting or kind.code == ActionCode.QUARANTINE}
    kept |= {"limit_traffic"}
    assert set(HOLD_S) == kept - {name for name, kind in ACTIONS.items() if kind.undoes}
    for name in (
        "set_retry_budget(api,1)",
        "close_breaker(db)",
        "degrade(api,0)",
        "resize_pool(api,1)",
        "release(db/1)",
    ):
        assert lifted(guard(), 600.0, legal=legal(name)) == [name]
        assert lifted(guard(), 30.0, legal=legal(name)) == ["noop"]
    both = legal("release(db/1)", "degrade(api,0)")
    assert lifted(guard(), 600.0, legal=both) == ["degrade(api,0)"]
    assert lifted(guard(), 0.0, legal=legal()) == ["noop"]


def test_an_open_alarm_delays_what_is_undone_but_not_for_ever() -> None:
    mask = legal("degrade(api,0)")
    assert lifted(guard(), 60.0, legal=mask) == ["degrade(api,0)"]
    assert lifted(guard(), 60.0, alarmed=True, legal=mask) == ["noop"]
    assert lifted(guard(), 180.0, alarmed=True, legal=mask) == ["degrade(api,0)"]


def test_what_was_undone_too_early_waits_twice_as_long_the_next_time() -> None:
    rails, mask = guard(), legal("degrade(api,0)")
    run, undo = np.array([0]), np.array([NUMBER["degrade(api,0)"]])
    for wait in (60.0, 120.0, 240.0):
        assert lifted(rails, wait - 1.0, legal=mask) == ["noop"]
        assert lifted(rails, wait, legal=mask) == ["degrade(api,0)"]
        rails.took(10, run, undo)
        rails.troubled(20, run)
        rails.troubled(21, run)  # the same trouble
    rails.took(10, run, undo)
    rails.troubled(100, run)  # long after: something else
    assert lifted(rails, 480.0, legal=mask) == ["degrade(api,0)"]


def test_a_limit_is_lifted_by_the_next_larger_share() -> None:
    observation = observe(healthy(3, 9), 5, admitted=np.array([0.7, 0.85, 1.0]))
    raised = lifting(TABLE, observation, np.arange(3))
    assert [TABLE.names[a] for a in raised] == ["limit_traffic(0.85)", "limit_traffic(1)", "noop"]


@pytest.mark.parametrize("bad", [{"restart_cooldown_s": -1}, {"actions_per_hour": 0}, {"repeat_s": 0}, {"scalings": 0}])
def test_impossible_limits_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="guardrails"):
        Limits(**bad)  # type: ignore[arg-type]
