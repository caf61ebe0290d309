"""Faults: how people write them, and what they become for an engine."""

import pytest

from simcore.codes import Param, Place
from simcore.errors import FaultError
from simcore.model.fault_types import NEUTRAL, ONE_SHOT, Aim, targets_of
from simcore.model.faults import CATALOGUE, FOREVER, Fault, expand, label, parse_fault, parse_time
from simcore.model.loader import build_scenario, load_scenario
from simcore.model.modulation import Change
from simcore.model.scenario import Scenario

SHOP = load_scenario("three_tier")
CLINIC = load_scenario("clinic")
API, CACHE, DB = range(3)


def made(text: str, **given: float | str) -> list[tuple[Param, float, float]]:
    """Return (parameter, time, value) of all changes of a fault."""
    modulations, changes = expand(parse_fault(text, SHOP, **given), SHOP)  # type: ignore[arg-type]
    return [(modulations[c.modulation].param, c.time_s, c.value) for c in changes]


# As written. ----------------------------------------------------------------------------------------------------


def test_a_fault_is_written_as_type_at_target() -> None:
    fault = parse_fault("latency_spike@db", SHOP, onset_s=300.0, duration_s=90.0, severity=0.8)
    assert fault == Fault("latency_spike", DB, -1, 300.0, 90.0, 0.8, "step", Place.PROCESS)


def test_one_replica_is_written_after_a_slash() -> None:
    fault = parse_fault("slow_replica@db/2", SHOP)
    assert (fault.service, fault.replica, fault.place) == (DB, 2, Place.NODE)
    assert parse_fault("error_burst@api/1", SHOP).replica == 1
    assert parse_fault("slow_replica@api", SHOP).replica == 0


def test_what_is_left_out_comes_from_the_scenario() -> None:
    fault = parse_fault("traffic_surge", SHOP)
    row = next(row for row in SHOP.faults.mix if row.type == "traffic_surge")
    assert row.duration_s is not None
    assert fault.service == -1
    assert fault.onset_s == 450.0
    assert fault.duration_s == (row.duration_s.min + row.duration_s.max) / 2
    assert fault.severity == (row.severity.min + row.severity.max) / 2


def test_what_the_scenario_does_not_say_comes_from_the_catalogue() -> None:
    fault = parse_fault("cpu_saturation", load_scenario("w2"))
    assert (fault.service, fault.duration_s, fault.severity, fault.profile) == (0, FOREVER, 0.75, "step")
    assert fault.onset_s == 120.0


def test_a_cache_fault_finds_the_only_cache() -> None:
    assert parse_fault("cache_flush", SHOP).service == CACHE


@pytest.mark.parametrize("text", ["latency_spike@db", "slow_replica@api/2", "traffic_surge@workload", "none"])
def test_a_label_is_what_people_write(text: str) -> None:
    assert label(parse_fault(text, SHOP), SHOP) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency_spik@db", "there is no fault type 'latency_spik'; did you mean 'latency_spike'? (types: none, lat"),
        (
            "net_delay@cache:db",
            "the target must be 'api:cache', 'api:db', 'api:partner' or 'clients:api', got 'cache:db'",
        ),
        ("net_delay@api:db/1", "an edge between two services has no replicas, got 'api:db/1'"),
        ("latency_spike@api:db", "'api:db' is an edge between two services; latency_spike is aimed at a service or"),
        ("latency_spike@dbb", "the target must be 'api', 'cache', 'db' or 'partner', got 'dbb'; did you mean 'db'?"),
        ("latency_spike@", "the target must be 'api', 'cache', 'db' or 'partner', got ''"),
        ("latency_spike@workload", "the target must be 'api', 'cache', 'db' or 'partner', got 'workload'"),
        (
            "cache_flush@db",
            "cache_flush is aimed at a cache or one replica of it: the target must be 'cache', got 'db'",
        ),
        ("traffic_surge@api", "traffic_surge is aimed at the workload: the target must be 'workload', got 'api'"),
        ("traffic_surge@workload/1", "the workload has no replicas, got 'workload/1'"),
        ("bad_deploy@db/1", "bad_deploy is aimed at a service, not at one replica, got 'db/1'"),
        ("slow_replica@db/3", "the replica of db must be a number from 0 to 2, got '3'"),
        ("slow_replica@db/x", "the replica of db must be a number from 0 to 2, got 'x'"),
        ("none@db", "none is aimed at nothing, got 'db'"),
    ],
)
def test_a_wrong_fault_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text, SHOP)
    assert message in str(caught.value)


def test_a_cache_fault_needs_a_cache() -> None:
    with pytest.raises(FaultError, match="scenario w2 has none"):
        parse_fault("cache_flush", load_scenario("w2"))


def test_all_mistakes_of_a_fault_are_reported_at_once() -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(
            "crash_loop@dbb", SHOP, onset_s=1200.0, duration_s=0.0, severity=1.5, profile="square", place="proces"
        )
    start = "fault crash_loop@dbb: "
    assert str(caught.value).splitlines() == [
        start + "onset must be >= 0 and before the episode's end at 1200 s, got 1200",
        start + "duration must be > 0 (or -1: until fixed), got 0",
        start + "severity must be > 0 and <= 1, got 1.5",
        start + "crash_loop is aimed at a service or one replica of it: the target must be 'api', 'cache', 'db' or "
        "'partner', got 'dbb'; did you mean 'db'?",
        start + "profile of crash_loop must be 'step', 'ramp' or 'pulses', got 'square'",
        start + "place of crash_loop must be 'node', 'version', 'config', 'outside' or 'quota', got 'proces'",
    ]


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_severity_lies_in_zero_to_one(value: float) -> None:
    with pytest.raises(FaultError, match="severity must be > 0 and <= 1"):
        parse_fault("latency_spike@db", SHOP, severity=value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("5min", 300.0), ("12steps", 60.0), ("1 step", 5.0), (".5min", 30.0), ("1e2", 100.0)],
)
def test_a_time_is_seconds_or_carries_its_unit(text: str, seconds: float) -> None:
    assert parse_time(text, 5.0) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "5 h", "90ms", "1e99", "nan", "inf", "5min 3s", "1_0"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="a time"):
        parse_time(text, 5.0)


# As engines see it. ---------------------------------------------------------------------------------------------


def test_a_step_is_on_at_the_onset_and_off_at_its_end() -> None:
    assert made("error_burst@api", onset_s=10.0, duration_s=5.0, severity=1.0) == [
        (Param.OK, 10.0, pytest.approx(0.3)),
        (Param.OK, 15.0, 1.0),
    ]


def test_until_fixed_has_no_end() -> None:
    assert len(made("error_burst@api", duration_s=FOREVER)) == 1


def test_a_ramp_is_a_staircase_of_eight_levels_over_a_third_of_its_duration() -> None:
    found = made("cpu_saturation@db", onset_s=100.0, duration_s=240.0, severity=0.8, profile="ramp")
    assert [time_s for _, time_s, _ in found] == [100.0 + 10.0 * i for i in range(8)] + [340.0]
    values = [value for _, _, value in found]
    assert values[:8] == pytest.approx([1.0 - 0.85 * 0.8 * (i + 1) / 8 for i in range(8)])
    assert values[8] == 1.0


def test_a_ramp_until_fixed_takes_two_minutes() -> None:
    found = made("cpu_saturation@db", onset_s=100.0, duration_s=FOREVER, profile="ramp")
    assert [time_s for _, time_s, _ in found] == [100.0 + 15.0 * i for i in range(8)]


def test_pulses_go_on_and_off_and_end_off() -> None:
    found = made("error_burst@db", onset_s=100.0, duration_s=80.0, severity=0.5, profile="pulses")
    assert [(time_s, value < 1.0) for _, time_s, value in found] == [
        (100.0, True), (130.0, False), (160.0, True), (180.0, False),
    ]  # fmt: skip


def test_pulses_until_fixed_go_on_to_the_end_of_the_episode() -> None:
    found = made("error_burst@db", onset_s=1000.0, duration_s=FOREVER, profile="pulses")
    assert [time_s for _, time_s, _ in found] == [1000.0, 1030.0, 1060.0, 1090.0, 1120.0, 1150.0, 1180.0, 1200.0]


def test_a_one_shot_fault_acts_once() -> None:
    assert made("cache_poison", onset_s=7.0, severity=0.6) == [(Param.POISON, 7.0, 0.6)]


def test_pulses_of_a_one_shot_fault_repeat_it() -> None:
    found = made("cache_flush", onset_s=0.0, duration_s=150.0, profile="pulses")
    assert found == [(Param.FLUSH, time_s, 1.0) for time_s in (0.0, 60.0, 120.0)]


def test_a_bad_deploy_changes_the_version_first_and_once() -> None:
    for profile in ("step", "ramp", "pulses"):
        fault = parse_fault("bad_deploy@db", SHOP, onset_s=100.0, duration_s=240.0, profile=profile)
        modulations, changes = expand(fault, SHOP, first=5)
        assert [m.param for m in modulations] == [Param.DEPLOY, Param.DEMAND, Param.OK]
        assert {m.place for m in modulations} == {Place.VERSION}
        assert changes[0] == Change(100.0, 5, 1.0)
        assert sum(c.modulation == 5 for c in changes) == 1


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "none"])
@pytest.mark.parametrize("duration_s", [FOREVER, 77.0])
def test_changes_are_sorted_and_timed_faults_end_neutral(name: str, duration_s: float) -> None:
    for profile in CATALOGUE[name].profiles:
        fault = parse_fault(name, CLINIC, onset_s=100.0, duration_s=duration_s, severity=0.7, profile=profile)
        modulations, changes = expand(fault, CLINIC, first=2)
        order = [(c.time_s, c.modulation) for c in changes]
        assert order == sorted(set(order))
        assert {c.modulation for c in changes} == set(range(2, 2 + len(modulations)))
        for i, modulation in enumerate(modulations):
            last = [c for c in changes if c.modulation == i + 2][-1]
            if modulation.param not in ONE_SHOT and duration_s > 0:
                assert last == Change(177.0, i + 2, NEUTRAL[modulation.param])


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_fault_type_says_what_it_is(name: str) -> None:
    kind = CATALOGUE[name]
    assert all((kind.mechanism, kind.signature, kind.fixes))
    assert kind.places
    assert all(kind.may_live_in(place) for place in kind.places)


@pytest.mark.parametrize("name", [name for name, kind in CATALOGUE.items() if kind.aim is not Aim.NOTHING])
def test_more_severity_is_never_milder(name: str) -> None:
    kind = CATALOGUE[name]
    service = targets_of(kind, CLINIC)[0].service
    mild, bad = (dict(kind.effects(strength, CLINIC, service)) for strength in (0.3, 0.9))
    assert mild.keys() == bad.keys()
    for param in mild:
        if param is Param.CRASH:
            assert 0.0 < bad[param] < mild[param]
        elif param not in ONE_SHOT:
            assert abs(bad[param] - NEUTRAL[param]) > abs(mild[param] - NEUTRAL[param])


def test_a_leak_fills_the_memory_within_one_to_four_minutes() -> None:
    spec = SHOP.services["api"]
    for strength in (0.25, 0.5, 1.0):
        leak = dict(CATALOGUE["memory_leak"].effects(strength, SHOP, API))[Param.LEAK]
        assert leak == int(leak)
        rate = SHOP.workload.rate_rps / spec.replicas.initial
        seconds = (spec.memory.limit_bytes - spec.memory.base_bytes) / leak / rate
        assert seconds == pytest.approx(60.0 / strength, rel=0.05)


def test_a_leak_of_a_service_without_traffic_is_finite() -> None:
    data = {
        "name": "idle",
        "services": {"a": {"operations": {"o": {}}}, "b": {"operations": {"o": {}}}},
        "workload": {"rate_rps": 1.0, "entries": [{"operation": "a.o"}]},
    }
    idle: Scenario = build_scenario(data)
    assert dict(CATALOGUE["memory_leak"].effects(1.0, idle, 1))[Param.LEAK] >= 1.0


def test_a_service_that_waits_gets_slower_waits_and_one_that_does_not_slower_work() -> None:
    of = CATALOGUE["latency_spike"].effects
    assert [param for param, _ in of(1.0, SHOP, DB)] == [Param.NETWORK, Param.DELAY]
    assert [param for param, _ in of(1.0, SHOP, API)] == [Param.NETWORK, Param.DEMAND]
