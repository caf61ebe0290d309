"""What ``mendsim validate`` is made of: formulas, intervals and verdicts, and the command itself."""

import json
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from simcore.errors import RegistryError
from simcore.validity import theory
from simcore.validity.cases import CASES, COMPARISONS, named
from simcore.validity.experiment import Quantity
from simcore.validity.judge import PRECISION, ROUNDING, Estimate, Rule, Verdict, estimate, judge
from simcore.validity.trace import look_up
from tests.conftest import Invoke

Floats = npt.NDArray[np.float64]


# --- formulas


@pytest.mark.parametrize(("c", "load"), [(1, 0.3), (2, 1.5), (4, 3.2), (8, 7.0)])
def test_erlangs_formulas_are_their_sums(c: int, load: float) -> None:
    terms = [load**k / math.factorial(k) for k in range(c + 1)]
    last = terms[c] * c / (c - load)
    assert theory.erlang_b(c, load) == pytest.approx(terms[c] / sum(terms))
    assert theory.erlang_c(c, load) == pytest.approx(last / (sum(terms[:c]) + last))


def test_erlang_c_gives_what_is_published_for_mm4() -> None:
    assert theory.m_m_c_wait(4, 3.2, 1.0) == pytest.approx(0.7455, abs=5e-5)
    assert theory.m_m_c(4, 3.2, 1.0).in_flight == pytest.approx(5.586, abs=5e-4)


@pytest.mark.parametrize(("c", "rate"), [(1, 0.5), (3, 2.0)])
def test_much_room_is_like_no_bound_and_none_is_erlang_b(c: int, rate: float) -> None:
    bounded, free = theory.m_m_c_k(c, 400, rate, 1.0), theory.m_m_c(c, rate, 1.0)
    assert bounded.in_flight == pytest.approx(free.in_flight)
    assert bounded.queue == pytest.approx(free.queue)
    assert bounded.utilisation == pytest.approx(free.utilisation)
    assert theory.m_m_c_k(c, c, rate, 1.0).loss == pytest.approx(theory.erlang_b(c, rate))


def test_pollaczek_and_khinchine_give_m_m_1_and_half_of_it_for_constants() -> None:
    exponential = theory.pollaczek_khinchine(0.6, 1.0, theory.scv_of("exponential"))
    assert exponential == pytest.approx(theory.m_m_c_wait(1, 0.6, 1.0))
    assert theory.pollaczek_khinchine(0.6, 1.0, theory.scv_of("constant")) == pytest.approx(exponential / 2.0)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.7, 0.95, 0.999])
def test_the_root_of_d_m_1_solves_its_equation(rate: float) -> None:
    s = theory.d_m_1_busy(rate, 1.0)
    assert 0.0 < s < 1.0 - 1e-6
    assert math.exp(-(1.0 - s) / rate) == pytest.approx(s, abs=1e-12)


def test_kingmans_bound_lies_above_what_is_exact() -> None:
    for rate in (0.3, 0.6, 0.9):
        assert theory.kingman_bound(rate, 1.0, 1.0, 1.0) > theory.m_m_c_wait(1, rate, 1.0)
        s = theory.d_m_1_busy(rate, 1.0)
        assert theory.kingman_bound(rate, 1.0, 0.0, 1.0) > s / (1.0 - s)


@pytest.mark.parametrize(("dist", "shape"), [("lognormal", 0.8), ("gamma", 0.5)])
def test_squared_variations_are_those_of_samples(dist: str, shape: float) -> None:
    rng = np.random.default_rng(1)
    sample = rng.lognormal(0.0, shape, 400_000) if dist == "lognormal" else rng.gamma(shape, size=400_000)
    assert sample.var() / sample.mean() ** 2 == pytest.approx(theory.scv_of(dist, shape), rel=0.03)


# --- intervals and verdicts


def test_an_interval_misses_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(Rule.MEAN, rng.exponential(size=(200, 50)).mean(axis=0).tolist(), 0.1) for _ in range(2000)]
    missed = np.mean([abs(each.value - 1.0) > each.half_width for each in found])
    assert missed == pytest.approx(0.1, abs=0.03)


def test_the_band_of_a_distribution_misses_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(Rule.DISTRIBUTION, list(rng.random((4, 100))), 0.1) for _ in range(1000)]
    missed = np.mean([each.value > each.half_width for each in found])
    assert 0.05 < missed < 0.12


def test_the_distance_of_a_distribution_is_the_largest_one() -> None:
    assert estimate(Rule.DISTRIBUTION, [np.array([0.9, 0.8])], 0.1).value == pytest.approx(0.8)
    assert estimate(Rule.DISTRIBUTION, [np.array([0.1]), np.array([0.2])], 0.1).value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("rule", "value", "half", "known", "verdict"),
    [
        (Rule.MEAN, 1.01, 0.015, 1.0, Verdict.OK),
        (Rule.MEAN, 1.02, 0.015, 1.0, Verdict.MISS),
        (Rule.MEAN, 0.98, 0.015, 1.0, Verdict.MISS),
        (Rule.MEAN, 1.01, 1.01 * PRECISION, 1.0, Verdict.IMPRECISE),
        (Rule.MEAN, 1.1, 1.01 * PRECISION, 1.0, Verdict.MISS),
        (Rule.MEAN, 0.001, 0.9 * PRECISION, 0.0, Verdict.OK),
        (Rule.MEAN, 0.001, 1.1 * PRECISION, 0.0, Verdict.IMPRECISE),
        (Rule.MEAN, math.nan, 0.01, 1.0, Verdict.MISS),
        (Rule.MEAN, 1.0, math.nan, 1.0, Verdict.MISS),
        (Rule.AT_MOST, 0.2, 0.01, 1.0, Verdict.OK),
        (Rule.AT_MOST, 1.005, 0.01, 1.0, Verdict.OK),
        (Rule.AT_MOST, 1.02, 0.01, 1.0, Verdict.MISS),
        (Rule.AT_MOST, 0.2, 0.1, 1.0, Verdict.IMPRECISE),
        (Rule.DISTRIBUTION, 0.01, 0.005, 0.0, Verdict.MISS),
        (Rule.IDENTITY, 1e-12, ROUNDING, 0.0, Verdict.OK),
        (Rule.IDENTITY, 1e-8, ROUNDING, 0.0, Verdict.MISS),
    ],
)
def test_a_verdict_asks_for_truth_and_precision(
    rule: Rule, value: float, half: float, known: float, verdict: Verdict
) -> None:
    assert judge(rule, Estimate(value, half), known) is verdict


def test_what_is_not_in_the_log_is_nan() -> None:
    known, values = np.array([2, 5], np.uint64), np.array([20.0, 50.0])
    found = look_up(known, values, np.array([5, 3, 9], np.uint64))
    np.testing.assert_array_equal(found, [50.0, np.nan, np.nan])
    assert np.isnan(look_up(known[:0], values[:0], known)).all()


def test_cases_are_found_by_name_in_the_order_of_the_table() -> None:
    assert [case.name for case in named(["tandem", "m_m_1", "tandem"])] == ["m_m_1", "tandem"]
    assert len(named([])) == len(CASES)
    with pytest.raises(RegistryError, match="there is no case 'x'"):
        named(["x"])


# --- the command


def test_a_case_that_holds_is_printed_and_exits_with_0(invoke: Invoke) -> None:
    result = invoke("validate", "--case", "laws_w2", "--case", "m_m_4_path", "--quiet")
    assert result.code == 0
    assert result.err == ""
    assert "m_m_4_path" in result.out
    assert f"1 - 0.01/{COMPARISONS} each" in result.out
    assert "all 4 rows hold" in result.out


@pytest.mark.parametrize("engine", ["batch", "simpy"])
def test_a_miss_exits_with_1(engine: str, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    case = CASES["laws_mm4"]
    measured: list[Quantity] = [replace(case.quantities[0], theory=1.0), *case.quantities[1:]]
    monkeypatch.setitem(CASES, "laws_mm4", replace(case, quantities=tuple(measured)))
    result = invoke("validate", "--case", "laws_mm4", "--engine", engine)
    assert result.code == 1
    assert "1 of 3 rows fail" in result.out


def test_too_little_precision_exits_with_1(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setitem(CASES, "m_m_1", replace(CASES["m_m_1"], requests=20_000))
    result = invoke("validate", "--case", "m_m_1", "--json")
    assert result.code == 1
    found = json.loads(result.out)
    assert found["passed"] is False
    assert "imprecise" in {row["verdict"] for row in found["rows"]}


def test_json_holds_the_rows_and_how_they_were_judged(invoke: Invoke) -> None:
    found = json.loads(invoke("validate", "--case", "laws_w2_hot", "--seed", 3, "--json").out)
    assert found["passed"] is True
    assert (found["engine"], found["seed"], found["comparisons"]) == ("batch", 3, COMPARISONS)
    assert found["rows"][0].keys() >= {"case", "quantity", "rule", "theory", "simulated", "half_width", "verdict"}


def test_seeds_and_only_seeds_change_what_is_simulated(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    monkeypatch.setitem(CASES, "m_m_1", replace(CASES["m_m_1"], requests=20_000))
    one, same, other = (
        invoke("validate", "--case", "m_m_1", "--seed", seed, "--threads", threads).out
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--case", "m_g_inf"], ["there is no case 'm_g_inf'; did you mean 'm_g_infinity'?", "cases: m_m_1"]),
        (["--case", "tandm", "--case", "nothing"], ["did you mean 'tandem'?", "there is no case 'nothing'"]),
        (["--case", ""], ["there is no case ''"]),
        (["--engine", "simpi", "--seed", "-1", "--threads", "0"], ["'--engine'", "'--seed'", "'--threads'"]),
        (["--cases", "m_m_1"], ["--case"]),
        (["m_m_1"], ["unexpected extra argument"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_mistake_exits_with_2(arguments: list[str], messages: list[str], invoke: Invoke) -> None:
    result = invoke("validate", *arguments)
    assert result.code == 2
    assert all(message in result.err for message in messages), result.err
    assert "Traceback" not in result.err
    assert not result.out


def test_mean_value_analysis_is_the_machine_repair_model_for_one_station() -> None:
    users, think, mean = 8, 4.0, 1.0
    # states of the birth and death process: n users at the station, the others think
    weights = [math.factorial(users) / math.factorial(users - n) * (mean / think) ** n for n in range(users + 1)]
    busy = 1.0 - weights[0] / sum(weights)
    number = sum(n * weight for n, weight in enumerate(weights)) / sum(weights)
    throughput, at = theory.mean_value_analysis(users, think, [mean])
    assert throughput == pytest.approx(busy / mean)
    assert at == [pytest.approx(number)]


def test_a_single_user_of_a_closed_network_never_waits() -> None:
    throughput, at = theory.mean_value_analysis(1, 3.0, [0.5, 1.5])
    assert throughput == pytest.approx(1.0 / 5.0)
    assert at == [pytest.approx(0.1), pytest.approx(0.3)]
