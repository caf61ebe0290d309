"""Ablation truth: triggers, sustaining causes, and the chain along which a fault spreads."""

from __future__ import annotations

from typing import Any

import pytest

from agent.evaluation.ablation import chains, sustaining_causes, triggers
from docs.phenomena.common import pair
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import Run, make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric


def three(steps: int = 60) -> Scenario:
    whole = load_scenario("three_tier").model_dump()
    whole["timing"] |= {"steps": steps, "burn_in_steps": 6, "follow_up_steps": 30}
    return Scenario.model_validate(whole)


THREE = three()
API, CACHE, DB = (THREE.service_names.index(name) for name in ("api", "cache", "db"))


def fault(text: str, onset_s: float, of: Scenario = THREE, **how: Any) -> Fault:
    return parse_fault(text, of, onset_s=onset_s, **how)


def run_of(*faults: Fault, of: Scenario = THREE, number: int = 0) -> Run:
    return make_run(of, seed=7, split="test", run=number, faults=faults)


def test_a_fault_that_makes_an_incident_is_its_trigger_and_one_that_does_nothing_is_not() -> None:
    strong, weak = fault("latency_spike@db", 60.0, severity=0.9), fault("latency_spike@cache", 60.0, severity=0.01)
    found = triggers(THREE, [run_of(strong), run_of(weak, number=1), run_of(number=2), run_of(weak, strong, number=3)])
    assert [t.ill for t in found] == [True, False, False, True]
    assert [t.triggers for t in found] == [(0,), (), (), (1,)]
    assert found[3].necessary == found[3].sufficient == (False, True)


def test_of_two_faults_either_of_which_would_do_both_are_triggers() -> None:
    both = fault("latency_spike@db", 60.0, severity=0.9), fault("error_burst@api", 70.0, severity=0.5)
    (found,) = triggers(THREE, [run_of(*both)])
    assert found.necessary == (False, False)
    assert found.sufficient == (True, True)
    assert found.triggers == (0, 1)


def test_a_lasting_fault_keeps_its_incident_up_and_so_does_the_place_where_it_lives() -> None:
    run = run_of(fault("latency_spike@db", 60.0, severity=0.9, place="process"))
    episodes = Episodes(THREE, [run, run_of(number=1)], threads=1)
    episodes.advance_to(18)
    ill, well = sustaining_causes(episodes, [0, 1], horizon=40)
    assert ill.ill
    assert not ill.heals_itself
    assert ill.causes[0].fault == 0
    assert ill.causes[0].service == DB
    assert {(c.service, c.what) for c in ill.causes if c.fault < 0} >= {(DB, "process")}
    assert not [c for c in ill.causes if c.service == CACHE]
    assert not well.ill
    assert well.causes == ()
    # nothing was touched
    assert episodes.step == 18
    assert not episodes.records


def test_two_lasting_faults_keep_it_up_together() -> None:
    both = fault("latency_spike@db", 60.0, severity=0.9), fault("error_burst@api", 70.0, severity=0.5)
    episodes = Episodes(THREE, [run_of(*both)], threads=1)
    episodes.advance_to(20)
    (found,) = sustaining_causes(episodes, [0], horizon=40)
    assert found.together
    assert not [c for c in found.causes if c.fault >= 0]


def test_a_retry_storm_is_triggered_by_the_dip_and_kept_up_by_the_retries() -> None:
    of = pair(load=0.8, steps=130)
    dip = fault("cpu_throttle@db", 5.0, of, severity=0.9, duration_s=4.0)
    run = run_of(dip, of=of)
    (trigger,) = triggers(of, [run])
    assert trigger.triggers == (0,)
    episodes = Episodes(of, [run], threads=1)
    episodes.advance_to(20)
    (found,) = sustaining_causes(episodes, [0], horizon=100)
    assert not found.heals_itself
    assert not [c for c in found.causes if c.fault >= 0]
    assert not found.together
    front = of.service_names.index("front")
    assert (front, "retries") in {(c.service, c.what) for c in found.causes}
    assert found.causes[0].named(of.service_names).endswith(("@front", "@db"))


def test_a_fault_spreads_from_where_it_is_to_the_callers() -> None:
    runs = [run_of(fault("latency_spike@db", 60.0, severity=0.9)), run_of(number=1)]
    chain, nothing = chains(THREE, runs)
    assert [d.service for d in chain[:2]] == [DB, API]
    assert chain[0].step == 12
    assert chain[0].metric in (Metric.P50_S, Metric.P95_S)
    assert all(d.step >= chain[1].step for d in chain[2:])
    assert nothing == ()


def test_nothing_can_be_taken_away_at_the_end() -> None:
    episodes = Episodes(three(6), [run_of(of=three(6))], threads=1)
    episodes.advance_to_end()
    with pytest.raises(InputError, match="the episode is over"):
        sustaining_causes(episodes, [0])
