"""Runs: everything drawn from (seed, split, run), and nothing from anything else."""

import math
import time
from collections import Counter
from typing import Any

import pytest

from simcore.codes import Param, Place
from simcore.errors import InputError
from simcore.model.catalogue import CATALOGUE
from simcore.model.fault_types import Aim, targets_of
from simcore.model.faults import FOREVER, parse_fault
from simcore.model.inputs import Run, make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.streams import SPLITS

SHOP = load_scenario("three_tier")
HORIZON = SHOP.timing.steps * SHOP.timing.step_s


def runs(count: int, scenario: Scenario = SHOP, **given: Any) -> list[Run]:
    return [make_run(scenario, **{"seed": 5, "split": "test", "run": i, **given}) for i in range(count)]


def with_noise(**noise: Any) -> Scenario:
    return SHOP.model_copy(update={"noise": SHOP.noise.model_copy(update=noise)})


def test_a_run_depends_on_seed_split_and_number_only() -> None:
    assert runs(20) == runs(20)
    assert make_run(SHOP, seed=5, split="test", run=13) == runs(20)[13]


def test_seeds_splits_and_numbers_give_different_runs() -> None:
    keys = [
        make_run(SHOP, seed=seed, split=split, run=run).inputs.key
        for seed in (1, 2)
        for split in SPLITS
        for run in (0, 1)
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"run": -1}, {"split": "validate"}])
def test_a_place_outside_the_seed_space_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="seed and run must be >= 0 and split one of train"):
        make_run(SHOP, **{"seed": 1, "split": "test", "run": 0, **wrong})


def test_the_share_of_runs_without_a_fault_is_the_scenarios() -> None:
    found = runs(2000)
    none = sum(not run.faults for run in found)
    assert abs(none - 400) < 4 * math.sqrt(2000 * 0.2 * 0.8)


def test_in_the_uniform_mix_all_types_come_alike_and_nothing_else_changes() -> None:
    weighted, alike = runs(3000), runs(3000, mix="uniform")
    found = Counter(run.faults[0].type for run in alike if run.faults)
    expected = sum(found.values()) / len(SHOP.faults.mix)
    assert set(found) == {row.type for row in SHOP.faults.mix}
    assert all(abs(count - expected) < 4 * math.sqrt(expected) for count in found.values()), found
    for one, other in zip(weighted, alike, strict=True):
        assert [fault.onset_s for fault in one.faults] == [fault.onset_s for fault in other.faults]
        assert one.inputs.key == other.inputs.key
    assert weighted != alike


def test_an_unknown_mix_is_refused() -> None:
    with pytest.raises(InputError, match="mix must be one of default, uniform, got 'unifrom'; did you mean 'uniform'"):
        runs(1, mix="unifrom")


def test_types_come_with_their_weights() -> None:
    found = Counter(run.faults[0].type for run in runs(3000) if run.faults)
    total = sum(found.values())
    weights = sum(row.weight for row in SHOP.faults.mix)
    for row in SHOP.faults.mix:
        share = row.weight / weights
        assert abs(found[row.type] - total * share) < 4 * math.sqrt(total * share), row.type


def test_drawn_faults_stay_within_the_scenarios_ranges() -> None:
    rows = {row.type: row for row in SHOP.faults.mix}
    for run in runs(500):
        for fault in run.faults:
            row, kind = rows[fault.type], CATALOGUE[fault.type]
            assert row.severity.min <= fault.severity <= row.severity.max
            assert SHOP.faults.onset_s.min <= fault.onset_s <= SHOP.faults.onset_s.max
            assert fault.place in kind.places
            assert row.targets is None or fault.target.written(SHOP) in row.targets
            assert (fault.replica >= 0) == (kind.aim is Aim.REPLICA)
            if row.duration_s is None:
                assert fault.duration_s == (FOREVER if kind.duration_s is None else kind.duration_s)
            else:
                assert row.duration_s.min <= fault.duration_s <= row.duration_s.max


def test_every_replica_has_its_turn() -> None:
    found = {run.faults[0].replica for run in runs(1500) if run.faults and run.faults[0].type == "slow_replica"}
    assert found == set(range(SHOP.services["api"].replicas.initial))


def test_places_come_with_the_weights_of_the_row() -> None:
    mix = [SHOP.faults.mix[0].model_copy(update={"places": {"version": 3.0, "process": 1.0}})]
    scenario = SHOP.model_copy(update={"faults": SHOP.faults.model_copy(update={"mix": mix, "none_share": 0.0})})
    found = Counter(run.faults[0].place for run in runs(400, scenario))
    assert set(found) == {Place.VERSION, Place.PROCESS}
    assert abs(found[Place.VERSION] - 300) < 4 * math.sqrt(400 * 0.75 * 0.25)


def test_a_scenario_without_a_mix_has_no_faults() -> None:
    assert all(run.faults == () and run.inputs.modulations == () for run in runs(10, load_scenario("w2")))


def test_given_faults_replace_the_drawn_ones_and_several_are_allowed() -> None:
    given = (parse_fault("latency_spike@db", SHOP), parse_fault("none", SHOP), parse_fault("cache_flush", SHOP))
    run = make_run(SHOP, seed=5, split="test", run=3, faults=given)
    assert [fault.type for fault in run.faults] == ["latency_spike", "cache_flush"]
    assert [number for number in run.owner if number >= 0] == [0, 0, 1]


def test_every_modulation_has_an_owner() -> None:
    for run in runs(200):
        assert len(run.owner) == len(run.inputs.modulations)
        of_faults = {number for number in run.owner if number >= 0}
        assert of_faults == set(range(len(run.faults)))


def test_changes_are_sorted_by_time_then_modulation() -> None:
    for run in runs(200):
        order = [(change.time_s, change.modulation) for change in run.inputs.changes]
        assert order == sorted(order)


def test_a_run_without_its_fault_keeps_everything_else() -> None:
    for run in runs(50):
        twin = make_run(SHOP, seed=5, split="test", run=run.run, faults=())
        noise = run.owner.count(-1)
        assert (twin.inputs.key, twin.inputs.phase) == (run.inputs.key, run.inputs.phase)
        assert twin.inputs.modulations == run.inputs.modulations[:noise]
        assert twin.inputs.changes == tuple(c for c in run.inputs.changes if c.modulation < noise)


def test_the_phase_is_drawn_where_the_wave_has_one() -> None:
    phases = [run.inputs.phase for run in runs(500)]
    assert len(set(phases)) == 500
    assert abs(sum(phases) / 500 - 0.5) < 4 * math.sqrt(1 / 12 / 500)
    fixed = SHOP.model_copy(update={"workload": SHOP.workload.model_copy(update={"random_phase": False})})
    assert {run.inputs.phase for run in runs(5, fixed)} == {0.0}
    given = SHOP.model_copy(update={"workload": SHOP.workload.model_copy(update={"phase": 0.75})})
    assert {run.inputs.phase for run in runs(5, given)} == {0.75}
    assert {run.inputs.phase for run in runs(5, load_scenario("w2"))} == {0.0}


def test_noise_comes_at_its_rate_within_the_episode() -> None:
    found: Counter[Param] = Counter()
    for run in runs(600, faults=()):
        for change in run.inputs.changes:
            modulation = run.inputs.modulations[change.modulation]
            if modulation.param is not Param.SURGE or change.value > 0.0:
                assert 0.0 <= change.time_s < HORIZON
                found[modulation.param] += 1
    hours = 600 * HORIZON / 3600
    noise = SHOP.noise
    for param, rate in (
        (Param.DEPLOY, noise.deploys_per_hour),
        (Param.CONFIG, noise.config_changes_per_hour),
        (Param.SURGE, noise.bursts_per_hour),
    ):
        assert abs(found[param] - rate * hours) < 4 * math.sqrt(rate * hours), param
    assert found[Param.DEMAND] == found[Param.DEPLOY]
    assert found[Param.TIMEOUT] == found[Param.CONFIG]


def test_noise_is_mild_and_marked() -> None:
    for run in runs(300, faults=()):
        modulations = run.inputs.modulations
        for i, modulation in enumerate(modulations):
            changes = [c for c in run.inputs.changes if c.modulation == i]
            if modulation.param is Param.DEMAND:
                assert (modulations[i - 1].param, modulation.place) == (Param.DEPLOY, Place.VERSION)
                assert 0.97 <= changes[0].value <= 1.03
            elif modulation.param is Param.TIMEOUT:
                assert (modulations[i - 1].param, modulation.place) == (Param.CONFIG, Place.CONFIG)
                assert 0.9 <= changes[0].value <= 1.1
            elif modulation.param is Param.SURGE:
                on, off = changes
                assert SHOP.noise.burst_factor.min - 1 <= on.value <= SHOP.noise.burst_factor.max - 1
                assert SHOP.noise.burst_s.min <= off.time_s - on.time_s <= SHOP.noise.burst_s.max + 1e-9
                assert off.value == 0.0


def test_noise_hits_its_targets_only() -> None:
    found = {m.service for run in runs(200, faults=()) for m in run.inputs.modulations if m.param is Param.DEPLOY}
    assert found == {0, 2}
    everywhere = with_noise(targets=None)
    assert {
        m.service for run in runs(200, everywhere, faults=()) for m in run.inputs.modulations if m.param is Param.DEPLOY
    } == {0, 1, 2, 3}


def test_no_rate_means_no_noise() -> None:
    silent = with_noise(deploys_per_hour=0.0, config_changes_per_hour=0.0, bursts_per_hour=0.0)
    assert all(run.inputs.modulations == () for run in runs(20, silent, faults=()))


def test_more_bursts_leave_the_deploys_where_they_are() -> None:
    def deploys(scenario: Scenario) -> list[float]:
        return [
            change.time_s
            for run in runs(50, scenario, faults=())
            for change in run.inputs.changes
            if run.inputs.modulations[change.modulation].param is Param.DEPLOY
        ]

    assert deploys(SHOP) == deploys(with_noise(bursts_per_hour=50.0))


def test_a_run_is_made_in_well_under_a_millisecond() -> None:
    runs(20)
    start = time.process_time()
    runs(300)
    assert (time.process_time() - start) / 300 < 2e-3


@pytest.mark.parametrize("name", ["three_tier", "online_boutique"])
def test_a_shop_draws_every_fault_that_it_has_a_place_for(name: str) -> None:
    shop = load_scenario(name)
    possible = {kind for kind, fault in CATALOGUE.items() if fault.claim and targets_of(fault, shop)}
    assert {row.type for row in shop.faults.mix} == possible
    assert sum(row.weight for row in shop.faults.mix) == pytest.approx(100.0)
