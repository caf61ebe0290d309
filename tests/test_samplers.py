"""Samplers against exact arithmetic, textbook distributions, and a hash of their bytes."""

import hashlib
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcore.codes import Dist, Purpose
from simcore.jit import njit
from simcore.model.popularity import alias_table
from simcore.samplers import (
    backoff,
    draw,
    exp,
    exponential,
    integrate,
    log,
    normal,
    popular,
    popularity,
    rate_factor,
    sin_turn,
)
from simcore.streams import draw_index, keyed, mix, run_key, uniform
from tests import naive

Floats = npt.NDArray[np.float64]

_N = 400_000
_SCORE = 4.7  #: normal score that a sound sampler passes once in 400,000 tests; the seeds are fixed
_KS = 2.4  #: likewise for sqrt(n) D

KEY = run_key(9, "test", 0, 0)
LIMIT = 7.69711747013104972  #: where the tail of the exponential ziggurat begins
BELL_LIMIT = 3.6541528853610088  #: ... and those of the normal one


@njit
def _draw_many(dist, mean, shape, root, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = draw(dist, mean, shape, mix(root, np.uint64(i)), 3, 0)


@njit
def _apply_many(which, x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        if which == 0:
            out[i] = log(x[i])
        elif which == 1:
            out[i] = exp(x[i])
        else:
            out[i] = sin_turn(x[i])


@njit
def _normal_many(root, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = normal(mix(root, np.uint64(i)), draw_index(3, 0))


@njit
def _popular_many(accept, alias, root, counts):  # type: ignore[no-untyped-def]
    for i in range(1_000_000):
        counts[popularity(accept, alias, uniform(root, np.uint64(i)))] += 1


def draws(dist: Dist, mean: float = 1.0, shape: float = 0.0, n: int = _N) -> Floats:
    out = np.empty(n)
    _draw_many(int(dist), mean, shape, KEY, out)
    return out


def normals(n: int = _N) -> Floats:
    out = np.empty(n)
    _normal_many(KEY, out)
    return out


def many(function: str, x: Floats) -> Floats:
    out = np.empty(x.size)
    _apply_many(("log", "exp", "sin_turn").index(function), x, out)
    return out


# --- functions


def ulps(value: float, exact: Decimal) -> float:
    return float(abs(Decimal(value) - exact) / Decimal(math.ulp(float(exact))))


def _log_arguments() -> list[float]:
    spread = np.random.default_rng(1)
    wide = 2.0 ** spread.uniform(-1021, 1023, 800)
    close = 1.0 + spread.uniform(-0.3, 0.5, 400)
    fractions = 2.0 ** -spread.uniform(0, 53, 400)
    edges = [
        1.0,
        math.nextafter(1, 0),
        math.nextafter(1, 2),
        2.0,
        0.5,
        2.0**-53,
        1.0 - 2.0**-53,
        2.0**0.5,
        2.3e-308,
        1.7e308,
    ]
    return [float(x) for x in (*wide, *close, *fractions, *edges)]


def test_log_is_within_one_ulp_of_the_exact_value() -> None:
    with localcontext(prec=60):
        worst = max((ulps(log(x), Decimal(x).ln()), x) for x in _log_arguments() if x != 1.0)
    assert worst[0] < 1.0, worst
    assert log(1.0) == 0.0


def test_exp_is_within_one_ulp_of_the_exact_value() -> None:
    spread = np.random.default_rng(2)
    arguments = [
        *spread.uniform(-700, 700, 800),
        *spread.uniform(-1, 1, 400),
        *(10.0 ** spread.uniform(-18, 0, 200)),
        700.0,
        -700.0,
    ]
    with localcontext(prec=60):
        worst = max((ulps(exp(float(x)), Decimal(float(x)).exp()), float(x)) for x in arguments)
    assert worst[0] < 1.0, worst
    assert exp(0.0) == 1.0


@given(st.floats(-300, 300))
def test_log_undoes_exp(x: float) -> None:
    assert log(exp(x)) == pytest.approx(x, rel=1e-14, abs=1e-15)


def test_sin_turn_is_the_sine_of_turns() -> None:
    for x in np.linspace(-3.0, 3.0, 4801):
        assert sin_turn(float(x)) == pytest.approx(math.sin(2.0 * math.pi * math.fmod(x, 1.0)), abs=1e-10)
    assert sin_turn(0.25) == pytest.approx(1.0, abs=1e-11)
    assert [sin_turn(x) for x in (0.0, 1.0, 7.0)] == [0.0, 0.0, 0.0]


@given(st.floats(0, 1, exclude_max=True), st.integers(-1000, 1000))
def test_a_wave_repeats_every_turn(x: float, turns: int) -> None:
    assert sin_turn(x + turns) == pytest.approx(sin_turn(x), abs=1e-9)


def test_integrals_add_level_times_length() -> None:
    assert integrate(1.0, 3.0, 2.0, 4.5) == 8.5
    assert integrate(1.0, 3.0, 2.0, 2.0) == 1.0


# --- distributions


def assert_moments(x: Floats, mean: float, variance: float, kurtosis: float) -> None:
    """Compare mean and variance with those of a distribution; ``kurtosis`` is its fourth moment over variance^2."""
    assert abs(x.mean() - mean) < _SCORE * math.sqrt(variance / x.size)
    assert abs(x.var() - variance) < _SCORE * variance * math.sqrt((kurtosis - 1.0) / x.size)


def test_a_constant_is_its_mean() -> None:
    assert set(draws(Dist.CONSTANT, 0.125, n=50)) == {0.125}


def _exponential_cdf(x: Floats) -> Floats:
    return -np.expm1(-x)


def test_exponentials_follow_their_distribution() -> None:
    x = draws(Dist.EXPONENTIAL)
    assert x.min() >= 0.0
    assert_moments(x, 1.0, 1.0, 9.0)
    assert naive.ks_distance(x, _exponential_cdf) < _KS
    # equally likely bins, finer than the layers of the ziggurat
    bins = np.bincount((_exponential_cdf(x) * 1000).astype(int), minlength=1000)
    assert abs(naive.chi_square_z(bins, x.size / 1000)) < _SCORE


def test_the_tail_of_the_exponential_is_exponential_again() -> None:
    x = draws(Dist.EXPONENTIAL, n=4_000_000)
    tail = x[x > LIMIT] - LIMIT
    expected = x.size * math.exp(-LIMIT)
    assert abs(tail.size - expected) < _SCORE * math.sqrt(expected)
    assert_moments(tail, 1.0, 1.0, 9.0)
    assert naive.ks_distance(tail, _exponential_cdf) < _KS
    near = np.count_nonzero((x > LIMIT - 0.5) & (x <= LIMIT))
    expected = x.size * (math.exp(0.5 - LIMIT) - math.exp(-LIMIT))
    assert abs(near - expected) < _SCORE * math.sqrt(expected)


def test_a_wrong_exponential_is_noticed() -> None:
    x = draws(Dist.EXPONENTIAL)
    with pytest.raises(AssertionError):
        assert_moments(x * 1.02, 1.0, 1.0, 9.0)
    assert naive.ks_distance(x**1.03, _exponential_cdf) > _KS
    assert (
        naive.chi_square_z(np.bincount((_exponential_cdf(np.maximum(x, 3e-3)) * 1000).astype(int)), x.size / 1000)
        > _SCORE
    )


def _normal_cdf(x: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2.0)) for v in x])


def test_normals_follow_their_distribution() -> None:
    x = normals()
    assert_moments(x, 0.0, 1.0, 3.0)
    assert abs((x**3).mean()) < _SCORE * math.sqrt(15.0 / x.size)
    assert abs((x**4).mean() - 3.0) < _SCORE * math.sqrt(96.0 / x.size)
    assert naive.ks_distance(x, _normal_cdf) < _KS
    # equally likely bins, finer than the layers of the ziggurat
    bins = np.bincount((_normal_cdf(x) * 1000).astype(int), minlength=1000)
    assert abs(naive.chi_square_z(bins, x.size / 1000)) < _SCORE


def test_the_layers_of_the_normal_meet_without_a_seam() -> None:
    x = np.abs(normals(4_000_000))
    # narrow bins over the body, where each layer's wedge has its place
    edges = np.linspace(0.0, BELL_LIMIT, 2001)
    expected = np.diff(2.0 * _normal_cdf(edges) - 1.0) * x.size
    z = (np.histogram(x, edges)[0] - expected) / np.sqrt(expected)
    assert np.abs(z).max() < _SCORE + 1.0  # the largest of 2,000
    assert abs((z**2).sum() - z.size) < _SCORE * math.sqrt(2.0 * z.size)


def test_the_tails_of_the_normal_are_normal() -> None:
    x = normals(8_000_000)
    beyond = math.erfc(BELL_LIMIT / math.sqrt(2.0)) / 2.0
    for tail in (x[x > BELL_LIMIT], -x[x < -BELL_LIMIT]):
        assert abs(tail.size - beyond * x.size) < _SCORE * math.sqrt(beyond * x.size)
        assert naive.ks_distance(tail, lambda v: 1.0 - _normal_cdf(-v) / beyond) < _KS


def test_a_sign_is_a_coin_of_its_own() -> None:
    x = normals()
    positive = x > 0.0
    assert abs(positive.mean() - 0.5) < _SCORE * 0.5 / math.sqrt(x.size)
    size = np.abs(x)
    assert abs(size[positive].mean() - size[~positive].mean()) < _SCORE * 2.0 * size.std() / math.sqrt(x.size)


def test_a_wrong_normal_is_noticed() -> None:
    x = normals()
    with pytest.raises(AssertionError):
        assert_moments(x * 1.02, 0.0, 1.0, 3.0)
    assert naive.ks_distance(x + 0.01, _normal_cdf) > _KS
    tail = x[x > BELL_LIMIT - 1.0] - 0.1
    beyond = math.erfc((BELL_LIMIT - 1.0) / math.sqrt(2.0)) / 2.0
    assert naive.ks_distance(tail, lambda v: 1.0 - _normal_cdf(-v) / beyond) > _KS


@pytest.mark.parametrize(("dist", "shape"), [(Dist.EXPONENTIAL, 0.0), (Dist.LOGNORMAL, 0.7), (Dist.GAMMA, 2.5)])
def test_the_mean_only_scales_a_draw(dist: Dist, shape: float) -> None:
    np.testing.assert_array_equal(draws(dist, 2.0, shape, 2000), 2.0 * draws(dist, 1.0, shape, 2000))
    np.testing.assert_allclose(draws(dist, 0.3, shape, 2000), 0.3 * draws(dist, 1.0, shape, 2000), rtol=1e-15)


def test_a_mean_of_zero_gives_zero() -> None:
    for dist, shape in ((Dist.EXPONENTIAL, 0.0), (Dist.LOGNORMAL, 0.7), (Dist.GAMMA, 0.5)):
        assert not draws(dist, 0.0, shape, 100).any()


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.5])
def test_logarithms_of_lognormals_are_normal_and_the_mean_is_kept(sigma: float) -> None:
    x = draws(Dist.LOGNORMAL, 0.02, sigma)
    assert_moments(np.log(x / 0.02) + 0.5 * sigma**2, 0.0, sigma**2, 3.0)
    assert abs(x.mean() / 0.02 - 1.0) < _SCORE * math.sqrt(math.expm1(sigma**2) / x.size)


@pytest.mark.parametrize("shape", [0.05, 0.3, 1.0, 2.0, 7.5, 1000.0])
def test_gammas_have_their_moments(shape: float) -> None:
    assert_moments(draws(Dist.GAMMA, 1.0, shape), 1.0, 1.0 / shape, 3.0 + 6.0 / shape)


GAMMA_CDF: dict[float, Callable[[Floats], Floats]] = {
    0.5: lambda x: np.array([math.erf(math.sqrt(v / 2.0)) for v in x]),  # the square of a normal
    1.0: _exponential_cdf,
    2.0: lambda x: 1.0 - np.exp(-2.0 * x) * (1.0 + 2.0 * x),  # Erlang
}


@pytest.mark.parametrize("shape", GAMMA_CDF)
def test_gammas_follow_their_distribution(shape: float) -> None:
    assert naive.ks_distance(draws(Dist.GAMMA, 1.0, shape), GAMMA_CDF[shape]) < _KS


def test_different_steps_and_purposes_draw_differently() -> None:
    for dist, shape in ((Dist.EXPONENTIAL, 0.0), (Dist.LOGNORMAL, 0.7), (Dist.GAMMA, 0.5)):
        drawn = [draw(int(dist), 1.0, shape, KEY, step, int(purpose)) for step in range(20) for purpose in Purpose]
        assert len(set(drawn)) == len(drawn)
        assert draw(int(dist), 1.0, shape, KEY, 3, 0) == draw(int(dist), 1.0, shape, KEY, 3, 0)


@pytest.mark.parametrize("word", [0, 1, 255, 2**11 - 1, 2**63, 2**64 - 2**11, 2**64 - 2, 2**64 - 1])
@pytest.mark.parametrize(
    ("dist", "shape"),
    [(Dist.EXPONENTIAL, 0.0), (Dist.LOGNORMAL, 4.0), (Dist.GAMMA, 0.5), (Dist.GAMMA, 1000.0)],
)
def test_the_most_extreme_random_numbers_give_finite_draws(dist: Dist, shape: float, word: int) -> None:
    assert 0.0 <= _draw_of(word, dist, shape) < 1e16


def _draw_of(word: int, dist: Dist, shape: float) -> float:
    """Return a draw whose first random number is ``word``."""
    index = int(draw_index(3, Purpose.WORK))
    key = np.uint64(naive.splitmix64_seed(word, index))
    assert mix(key, np.uint64(index)) == word
    return float(draw(int(dist), 1.0, shape, key, 3, int(Purpose.WORK)))


def test_a_gamma_of_the_smallest_shape_is_never_negative() -> None:
    assert 0.0 <= _draw_of(2**64 - 1, Dist.GAMMA, 0.05) < 1e16


# --- popularity


def _weights(count: int, zipf: float) -> Floats:
    weights = [(rank + 1) ** -zipf for rank in range(count)]
    return np.array([weight / sum(weights) for weight in weights])


@pytest.mark.parametrize(
    ("count", "zipf"), [(1, 1.0), (2, 0.0), (37, 0.0), (100, 0.8), (100, 1.2), (1000, 1.0), (8, 5.0)]
)
def test_keys_are_as_popular_as_zipf_says(count: int, zipf: float) -> None:
    counts = np.zeros(count, np.int64)
    _popular_many(*alias_table(count, zipf), KEY, counts)
    if count == 1:
        assert counts[0] == 1_000_000
        return
    expected = 1_000_000 * _weights(count, zipf)
    assert abs(naive.chi_square_z(counts, expected)) < _SCORE


def test_another_popularity_is_noticed() -> None:
    counts = np.zeros(100, np.int64)
    _popular_many(*alias_table(100, 1.01), KEY, counts)
    assert naive.chi_square_z(counts, 1_000_000 * _weights(100, 1.0)) > _SCORE


@given(st.integers(1, 3000), st.floats(0, 5), st.floats(0, 1, exclude_max=True))
def test_a_popular_key_is_a_key(count: int, zipf: float, u: float) -> None:
    accept, alias = alias_table(count, zipf)
    for value in (u, math.nextafter(1.0, 0.0)):
        key = popularity(accept, alias, value)
        assert 0 <= key < count
        column = int(value * count)
        assert key == popular(value * count, column, accept[column], alias[column])


# --- backing off


def test_waits_double_up_to_the_limit() -> None:
    waits = [backoff(0.125, 1.5, 0.0, attempt, 0.9) for attempt in range(7)]
    assert waits == [0.125, 0.25, 0.5, 1.0, 1.5, 1.5, 1.5]
    assert backoff(3.0, 1.5, 0.0, 0, 0.0) == 1.5
    assert backoff(0.0, 1.5, 0.5, 20, 0.3) == 0.0


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 1), st.integers(0, 20), st.floats(0, 1, exclude_max=True))
def test_jitter_shortens_a_wait_by_its_share_at_most(
    base_s: float, limit_s: float, jitter: float, attempt: int, u: float
) -> None:
    full = backoff(base_s, limit_s, 0.0, attempt, u)
    wait = backoff(base_s, limit_s, jitter, attempt, u)
    assert full == min(base_s * 2**attempt, limit_s)
    assert full * (1.0 - jitter) - 1e-12 <= wait <= full
    assert wait == pytest.approx(full * (1.0 - jitter * u), rel=1e-12, abs=1e-300)


# --- rates


def test_a_constant_rate_is_the_base_rate() -> None:
    assert [rate_factor(0, 9.0, 9.0, 9.0, 0.3, t) for t in (-5.0, 0.0, 1e6)] == [1.0, 1.0, 1.0]


def test_a_wave_swings_about_the_base_rate() -> None:
    wave = [rate_factor(1, 0.4, 80.0, 0.0, 0.0, t) for t in (0.0, 20.0, 40.0, 60.0, 80.0)]
    assert wave == pytest.approx([1.0, 1.4, 1.0, 0.6, 1.0], abs=1e-9)
    assert rate_factor(1, 0.4, 80.0, 0.0, 0.25, 0.0) == pytest.approx(1.4, abs=1e-9)
    assert rate_factor(1, 0.4, 80.0, 0.0, 0.25, -20.0) == pytest.approx(1.0, abs=1e-9)


def test_a_step_begins_at_its_instant_and_a_burst_ends_before_its_end() -> None:
    assert [rate_factor(2, 2.5, 10.0, 0.0, 0.0, t) for t in (9.999, 10.0, 1e6)] == [1.0, 2.5, 2.5]
    assert [rate_factor(3, 2.5, 10.0, 20.0, 0.0, t) for t in (9.999, 10.0, 19.999, 20.0)] == [1.0, 2.5, 2.5, 1.0]


# --- the same bytes everywhere


@pytest.mark.parametrize(
    ("dist", "mean", "shape"),
    [
        (Dist.CONSTANT, 0.1, 0.0),
        (Dist.EXPONENTIAL, 0.1, 0.0),
        (Dist.LOGNORMAL, 0.1, 0.7),
        (Dist.GAMMA, 0.1, 0.4),
        (Dist.GAMMA, 0.1, 3.0),
    ],
)
def test_a_sampler_called_from_python_gives_what_it_gives_within_a_kernel(
    dist: Dist, mean: float, shape: float
) -> None:
    called = [draw(int(dist), mean, shape, keyed(KEY, i), 3, int(Purpose.WORK)) for i in range(3000)]
    assert np.array(called).tobytes() == draws(dist, mean, shape, 3000).tobytes()


@pytest.mark.parametrize(
    ("function", "compiled", "arguments"),
    [
        ("log", log, 2.0 ** np.linspace(-1000, 1000, 3001)),
        ("exp", exp, np.linspace(-700, 700, 3001)),
        ("sin_turn", sin_turn, np.linspace(-7, 7, 3001)),
    ],
)
def test_a_function_called_from_python_gives_what_it_gives_within_a_kernel(
    function: str, compiled: Any, arguments: Floats
) -> None:
    called = np.array([compiled(float(x)) for x in arguments])
    assert called.tobytes() == many(function, arguments).tobytes()


def _sample_of_everything() -> bytes:
    """Return the bytes of draws of every sampler; arguments are exact, so that no platform can differ in them."""
    grid = np.arange(1.0, 4000.0)
    parts = [
        many("log", grid / 64.0),
        many("log", 1.0 / (1.0 + grid)),
        many("exp", (grid - 2000) / 4.0),
        many("sin_turn", (grid - 1000) / 256.0),
        draws(Dist.EXPONENTIAL, 0.02, n=50_000),
        normals(50_000),
        draws(Dist.LOGNORMAL, 0.02, 0.5, n=4000),
        *(draws(Dist.GAMMA, 0.02, shape, n=4000) for shape in (0.05, 0.5, 2.0, 40.0)),
        np.array([exponential(keyed(KEY, 1), draw_index(step, 0)) for step in range(100)]),
        np.array([backoff(0.05, 5.0, 0.5, i % 9, uniform(KEY, np.uint64(i))) for i in range(100)]),
        np.array([rate_factor(1, 0.4, 1200.0, 1.0, 0.3, 5.0 * i) for i in range(300)]),
        *alias_table(500, 1.1),
    ]
    return b"".join(np.ascontiguousarray(part).astype("<f8").tobytes() for part in parts)


GOLDEN = "e193292c1b280a92e9f58daa3f947bb8d854bd10d72cf7fc2c79b647682f8714"


def test_the_bytes_of_all_samplers_are_the_same_on_every_platform() -> None:
    assert hashlib.sha256(_sample_of_everything()).hexdigest() == GOLDEN
