"""The statistics of a comparison against other implementations, known values, and their own promises."""

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evaluation.statistics import (
    Interval,
    Resampler,
    fraction,
    holm,
    kaplan_meier,
    quantile_of,
    rate,
    restricted_mean,
)

#: Weeks in remission with 6-MP (Freireich et al. 1963), the textbook example of survival analysis.
WEEKS = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35], np.float64)
RELAPSED = np.isin(np.arange(21), [0, 1, 2, 4, 6, 9, 10, 14, 15])


def draw(name: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(3, spawn_key=(name,))))


def test_kaplan_meier_gives_the_published_remission_curve() -> None:
    found = kaplan_meier(WEEKS, RELAPSED)
    np.testing.assert_array_equal(found.times, [6, 7, 10, 13, 16, 22, 23])
    np.testing.assert_allclose(found.share, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=5e-4)
    assert quantile_of(WEEKS, RELAPSED, 0.5) == 23.0
    # the published interval of the median begins at week 13 and has no upper end
    assert found.first_below(0.5) == Interval(23.0, 13.0, float("inf"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=40))
def test_kaplan_meier_and_its_band_are_those_of_scipy(runs: list[tuple[int, bool]]) -> None:
    time_s, happened = np.array([float(t) for t, _ in runs]), np.array([h for _, h in runs])
    if not happened.any():
        return
    found = kaplan_meier(time_s, happened)
    censored = scipy.stats.CensoredData(uncensored=time_s[happened], right=time_s[~happened])
    curve = scipy.stats.ecdf(censored).sf
    np.testing.assert_allclose(found.share, curve.evaluate(found.times), atol=1e-12)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it is undefined where all or none are left
        band = curve.confidence_interval(method="log-log")
    known = ~np.isnan(found.low)
    np.testing.assert_allclose(found.low[known], band.low.evaluate(found.times)[known], atol=1e-9)
    np.testing.assert_allclose(found.high[known], band.high.evaluate(found.times)[known], atol=1e-9)


def test_the_restricted_mean_without_censoring_is_the_mean_of_what_was_cut_off() -> None:
    time_s = draw(1).exponential(30.0, 400)
    found = restricted_mean(time_s, np.ones(400, bool), 60.0)
    cut = np.minimum(time_s, 60.0)
    assert found.value == pytest.approx(cut.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * cut.std(ddof=1) / 20.0, rel=0.01)


def test_the_restricted_mean_of_the_remission_curve_is_its_area() -> None:
    steps = [(6, 1.0), (1, 0.857143), (3, 0.806723), (3, 0.752941), (3, 0.690196), (6, 0.627451), (1, 0.537815)]
    area = sum(width * share for width, share in steps) + 12 * 0.448179
    assert restricted_mean(WEEKS, RELAPSED, 35.0).value == pytest.approx(area, abs=1e-4)


def test_nine_in_ten_and_more_intervals_of_a_restricted_mean_hold_it_under_censoring() -> None:
    generator, truth, held = draw(2), 50.0 * (1.0 - np.exp(-90.0 / 50.0)), 0
    for _ in range(400):
        event, end = generator.exponential(50.0, 60), generator.uniform(30.0, 180.0, 60)
        end[0] = 180.0
        found = restricted_mean(np.minimum(event, end), event <= end, 90.0)
        held += found.low <= truth <= found.high
    assert scipy.stats.binomtest(held, 400, 0.95).pvalue > 1e-4, held


def test_the_band_of_a_survival_curve_holds_the_truth_at_its_level() -> None:
    generator, held = draw(3), 0
    for _ in range(400):
        event, end = generator.exponential(50.0, 60), generator.uniform(30.0, 180.0, 60)
        found = kaplan_meier(np.minimum(event, end), event <= end)
        last = np.flatnonzero(found.times <= 40.0)[-1]
        held += found.low[last] <= np.exp(-40.0 / 50.0) <= found.high[last]
    assert scipy.stats.binomtest(held, 400, 0.95).pvalue > 1e-4, held


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (10, 10), (3, 10), (1, 400)])
def test_a_fraction_has_the_exact_interval_of_scipy(hits: int, of: int) -> None:
    exact = scipy.stats.binomtest(hits, of).proportion_ci(method="exact")
    assert fraction(hits, of) == pytest.approx((hits / of, exact.low, exact.high))


def test_a_fraction_of_nothing_is_unknown() -> None:
    assert np.isnan(fraction(0, 0)).all()


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.688879), (1, 0.025318, 5.571643), (10, 4.795389, 18.390356)]
)
def test_a_poisson_rate_has_the_tabulated_exact_interval(count: int, low: float, high: float) -> None:
    assert rate(count, 1.0) == pytest.approx((count, low, high), abs=1e-5)
    assert rate(count, 4.0) == pytest.approx((count / 4, low / 4, high / 4), abs=1e-5)


def test_a_rate_without_exposure_is_unknown() -> None:
    assert np.isnan(rate(0, 0.0)).all()


def test_holm_steps_down_and_never_up() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01, float("nan"), 0.02]) == pytest.approx([0.02, float("nan"), 0.02], nan_ok=True)
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_finding_at_its_level() -> None:
    generator = draw(4)
    false = sum(min(holm(generator.uniform(size=12).tolist())) < 0.05 for _ in range(2_000))
    assert false / 2_000 < 0.065


def zeros(n: int) -> np.ndarray:
    return np.zeros((1, n))


def test_runs_are_resampled_as_the_textbook_does_it() -> None:
    gaps = draw(5).normal(0.3, 1.0, (1, 200))
    found = Resampler(200, seed=1).mean(gaps)
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(gaps.mean())
    assert found.low == pytest.approx(gaps.mean() - half, abs=0.02)
    assert found.high == pytest.approx(gaps.mean() + half, abs=0.02)


def test_what_runs_have_in_common_drops_out_of_a_difference() -> None:
    common, own = draw(10).normal(0.0, 50.0, (1, 300)), draw(11).normal(0.4, 1.0, (1, 300))
    found, _ = Resampler(300, seed=1).tested(common + own, common)
    assert found == pytest.approx(tuple(Resampler(300, seed=1).mean(own)))


def test_trainings_that_differ_widen_the_interval_beyond_that_of_their_runs() -> None:
    gaps = draw(6).normal(0.0, 1.0, (5, 400)) + np.array([-0.5, -0.2, 0.0, 0.3, 0.6])[:, None]
    both = Resampler(400, seed=1).mean(gaps)
    runs_only = Resampler(400, seed=1).mean(gaps.mean(0)[None])
    assert both.high - both.low > 3.0 * (runs_only.high - runs_only.low)


def test_the_trainings_of_a_reference_are_drawn_too() -> None:
    spread = np.repeat(np.array([[-1.0], [0.0], [1.0]]), 50, axis=1)
    found, p = Resampler(50, seed=1).tested(spread, spread)
    one_sided, _ = Resampler(50, seed=1).tested(spread, zeros(50))
    assert found.value == 0.0
    assert found.high - found.low > 1.2 * (one_sided.high - one_sided.low)
    assert p > 0.5


def test_the_paired_interval_holds_the_truth_at_about_its_level() -> None:
    generator, held = draw(7), 0
    for number in range(300):
        # a difference per run, none in most: what a comparison of policies looks like
        gaps = np.where(generator.uniform(size=150) < 0.3, generator.exponential(2.0, 150), 0.0)
        found = Resampler(150, seed=number, resamples=600).mean(gaps[None])
        held += found.low <= 0.6 <= found.high
    assert 0.89 <= held / 300 <= 0.98, held


def test_without_any_effect_a_difference_is_shown_one_time_in_twenty() -> None:
    generator, shown = draw(8), 0
    for number in range(400):
        _, p = Resampler(100, seed=number, resamples=600).tested(generator.normal(size=(1, 100)), zeros(100))
        shown += p < 0.05
    assert scipy.stats.binomtest(shown, 400, 0.055).pvalue > 1e-4, shown


def test_the_p_value_says_what_the_interval_says() -> None:
    for number in range(60):
        gaps = draw(100 + number).normal(0.2, 1.0, (1, 80))
        interval, p = Resampler(80, seed=2).tested(gaps, zeros(80))
        if not 0.04 < p < 0.06:
            assert (p < 0.05) == (not interval.low <= 0.0 <= interval.high)


def test_no_difference_in_any_run_is_no_difference() -> None:
    interval, p = Resampler(10, seed=1).tested(np.ones((2, 10)), np.ones((1, 10)))
    assert interval == (0.0, 0.0, 0.0)
    assert p == 1.0


def test_cells_that_do_not_count_are_left_out() -> None:
    values = np.array([[1.0, np.nan, 3.0, np.nan]])
    sample = Resampler(4, seed=1)
    assert sample.mean(values).value == 2.0
    assert np.isnan(sample.mean(np.full((1, 4), np.nan))).all()
    assert np.isnan(sample.mean(np.array([[1.0, np.nan, np.nan, np.nan]])).low)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(training, 3\), got shape \(3, 2\)"):
        Resampler(3, seed=1).means(np.zeros((3, 2)))


def test_a_survival_band_of_several_trainings_holds_the_pooled_curve() -> None:
    generator = draw(9)
    time_s = np.minimum(generator.exponential(50.0, (5, 60)), 120.0)
    found = Resampler(60, seed=1, resamples=500).survival(time_s, time_s < 120.0, np.ones((5, 60), bool))
    np.testing.assert_allclose(found.share, kaplan_meier(time_s.ravel(), time_s.ravel() < 120.0).share)
    inside = slice(20, -20)
    assert (found.low[inside] <= found.share[inside]).all()
    assert (found.share[inside] <= found.high[inside]).all()
    assert (found.high - found.low)[inside].max() < 0.4
