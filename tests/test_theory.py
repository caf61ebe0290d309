"""The simulator against queueing theory: the cases of ``mendsim validate``, and proof that they catch what is wrong."""

import functools
import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent.commands.reference import with_block
from agent.commands.validate import table
from simcore.codes import Event, Param, Place
from simcore.engines.api import Modulation
from simcore.validity import measures
from simcore.validity.cases import CASES, COMPARISONS
from simcore.validity.experiment import Case, Quantity, Row, check
from simcore.validity.judge import Rule, Verdict, judge
from simcore.validity.trace import Trace

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "validity.md"
LAWS = [name for name in CASES if name.startswith("laws_")]

#: Rows whose theoretical value is a number, not 0 or a bound.
NUMBERS = [
    (case.name, i)
    for case in CASES.values()
    for i, quantity in enumerate(case.quantities)
    if quantity.rule is Rule.MEAN and quantity.theory != 0.0
]


@functools.cache
def rows_of(name: str) -> list[Row]:
    return check(CASES[name], "batch", seed=1, n_comparisons=COMPARISONS)


def verdicts(case: Case, engine: str = "batch") -> list[Verdict]:
    return [row.verdict for row in check(case, engine, seed=1, n_comparisons=COMPARISONS)]


@pytest.mark.parametrize("name", CASES)
def test_the_simulator_shows_what_theory_says(name: str) -> None:
    assert [row for row in rows_of(name) if row.verdict is not Verdict.OK] == []


def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    printed = table([row for name in CASES for row in rows_of(name)])
    assert with_block(page, "validity", printed) == page, "docs/explanation/validity.md is out of date: make docs"


# --- the SimPy engine


@pytest.mark.parametrize("name", [*LAWS, "m_m_4_path"])
def test_the_simpy_engine_keeps_the_laws_too(name: str) -> None:
    assert set(verdicts(replace(CASES[name], runs=1, requests=CASES[name].requests // 4), "simpy")) == {Verdict.OK}


@pytest.mark.parametrize("name", ["m_m_2_k", "m_g_1_ps_gamma", "jackson_revisits"])
def test_the_simpy_engine_gives_the_very_same_table(name: str) -> None:
    small = replace(CASES[name], requests=5_000, runs=4)
    batch, simpy = (check(small, engine, seed=1, n_comparisons=COMPARISONS) for engine in ("batch", "simpy"))
    assert simpy == batch
    assert Verdict.MISS not in {row.verdict for row in simpy}


# --- what is wrong is caught


@pytest.mark.parametrize(("name", "i"), NUMBERS)
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_formula_that_is_three_percent_off_is_a_miss(name: str, i: int, factor: float) -> None:
    row = rows_of(name)[i]
    assert judge(row.rule, row.found, factor * row.theory) is Verdict.MISS


@pytest.mark.parametrize("name", ["m_m_1", "m_g_1_ps_lognormal", "m_m_2_k"])
@pytest.mark.parametrize("speed", [0.97, 1.03])
def test_an_engine_whose_service_is_three_percent_too_slow_or_fast_misses(name: str, speed: float) -> None:
    slow = (Modulation(Param.SPEED, Place.OUTSIDE, service=0), speed)
    assert set(verdicts(replace(CASES[name], throughout=(slow,)))) == {Verdict.MISS}


def test_a_station_of_a_network_that_is_three_percent_too_slow_misses_alone() -> None:
    case = CASES["jackson_revisits"]
    slow = (Modulation(Param.SPEED, Place.OUTSIDE, service=case.scenario.service_names.index("b")), 0.97)
    assert verdicts(replace(case, throughout=(slow,)))[:2] == [Verdict.OK, Verdict.MISS]


def test_servers_that_share_what_should_be_served_in_turn_miss() -> None:
    fifo, shared = CASES["m_g_1_gamma"], CASES["m_g_1_ps_gamma"]
    stay = Quantity("mean time, s", 2.5, measures.stay("desk"))
    assert verdicts(replace(fifo, scenario=shared.scenario, quantities=(stay,), requests=400_000)) == [Verdict.MISS]


def test_work_that_costs_more_than_was_drawn_breaks_the_law_of_utilisation() -> None:
    slow = (Modulation(Param.DEMAND, Place.OUTSIDE, service=0), 1.000001)
    assert verdicts(replace(CASES["laws_w2"], throughout=(slow,)))[2] is Verdict.MISS


def test_every_wait_is_another_one_if_the_engine_works_a_little_faster() -> None:
    fast = (Modulation(Param.SPEED, Place.OUTSIDE, service=0), 1.0001)
    assert verdicts(replace(CASES["m_m_4_path"], throughout=(fast,))) == [Verdict.MISS]


def test_arrivals_on_a_grid_or_of_another_rate_are_not_poisson() -> None:
    case = CASES["poisson"]
    plain = case.scenario.model_dump()
    plain["workload"]["arrivals"] = "grid"
    grid = replace(case, scenario=type(case.scenario).model_validate(plain), requests=50_000)
    assert verdicts(grid)[1:3] == [Verdict.MISS, Verdict.MISS]
    off = Quantity("gaps", 0.0, measures.gaps(1.03 * 2.0), Rule.DISTRIBUTION)
    assert verdicts(replace(case, quantities=(off,), requests=200_000)) == [Verdict.MISS]


def test_streams_that_follow_one_another_are_found() -> None:
    case = CASES["streams"]
    # the base against itself, in place of the surge
    same = Quantity("correlation", 0.0, lambda trace: measures.count_correlation(trace, 0, 0, 5.0))
    assert verdicts(replace(case, quantities=(same,), requests=50_000)) == [Verdict.MISS]


def test_few_runs_say_too_little() -> None:
    few = verdicts(replace(CASES["m_m_1"], requests=20_000))
    assert Verdict.IMPRECISE in few
    assert Verdict.MISS not in few


def test_a_lost_span_is_a_miss_of_the_flow() -> None:
    case = CASES["laws_w2"]
    original = case.quantities[0]

    def without_one_end(trace: Trace) -> float:
        ends = trace.log["event"] == Event.FINISHED
        kept = trace.log[~ends | (ends.cumsum() != 5)]
        return float(original.measure(Trace(trace.scenario, kept, trace.metrics, trace.replicas, trace.horizon_s)))

    lossy = replace(case, quantities=(replace(original, measure=without_one_end),))
    assert verdicts(lossy) == [Verdict.MISS]


# --- the design of the cases


@pytest.mark.parametrize(("name", "servers", "load"), [("m_m_1_p_wait", 1, 0.5), ("m_m_4_p_wait", 4, 3.2)])
def test_the_warm_up_takes_twenty_relaxation_times(name: str, servers: int, load: float) -> None:
    case = CASES[name]
    warm_up_s = case.requests / (case.runs * load * 10)
    # of M/M/c with mean demand 1 (Morse, "Queues, Inventories and Maintenance", 1958)
    assert warm_up_s > 20 / (math.sqrt(servers) - math.sqrt(load)) ** 2


def test_every_name_of_a_row_is_there_once() -> None:
    for case in CASES.values():
        assert len({quantity.name for quantity in case.quantities}) == len(case.quantities)
