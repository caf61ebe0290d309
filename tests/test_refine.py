"""Intervals that hold at every stopping rule, and the rule that says where runs are spent."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from agent.evaluation.statistics import LEVEL, fraction
from agent.evaluation.sweep.refine import Order, Point, Rule, Standing, flips, midpoints, next_orders, weights
from agent.evaluation.sweep.sequential import confidence_interval, fixed_runs, log_wealth
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]


def generator(what: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(7, spawn_key=(what,))))


def share_of(share: float, runs: int) -> Floats:
    return (np.arange(runs) < round(share * runs)).astype(np.float64)


def ever(misses: npt.NDArray[np.bool_], hits: npt.NDArray[np.int64]) -> float:
    """Return to what share of the studies a miss happens at some moment; misses (run, hits), hits (study, run)."""
    return float(misses[np.arange(hits.shape[1]), hits].any(axis=1).mean())


@pytest.mark.parametrize("truth", [0.03, 0.3, 0.5])
def test_who_stops_when_the_truth_is_excluded_does_so_seldom_and_often_with_a_fixed_interval(truth: float) -> None:
    runs, studies = 150, 4000
    hits = (generator(1).random((studies, runs)) < truth).cumsum(axis=1)
    bound = -math.log1p(-LEVEL)
    ours = np.zeros((runs, runs + 1), np.bool_)
    fixed = np.zeros((runs, runs + 1), np.bool_)
    for n, s in itertools.product(range(1, runs + 1), range(runs + 1)):
        if s <= n:
            ours[n - 1, s] = log_wealth(share_of(s / n, n), truth) >= bound
            found = fraction(s, n)
            fixed[n - 1, s] = not found.low <= truth <= found.high
    # three standard errors of a share of 4,000 studies are 0.01
    assert ever(ours, hits) <= 1.0 - LEVEL + 0.01
    assert ever(fixed, hits) > 0.10 if truth < 0.1 else ever(fixed, hits) > 0.14
    # without stopping both hold
    assert fixed[-1][hits[:, -1]].mean() <= 1.0 - LEVEL + 0.01


@pytest.mark.parametrize("shape", [(0.4, 3.0), (2.0, 60.0), (0.05, 0.05)])
def test_the_interval_of_bounded_outcomes_holds_at_every_moment(shape: tuple[float, float]) -> None:
    truth, studies = shape[0] / sum(shape), 500
    outcomes = generator(2).beta(*shape, (studies, 120))
    bound = -math.log1p(-LEVEL)
    misses = [any(log_wealth(values[:n], truth) >= bound for n in range(2, 121, 6)) for values in outcomes]
    assert sum(misses) / studies <= 1.0 - LEVEL + 0.03


def test_the_interval_is_where_the_wealth_is_small_whatever_the_order() -> None:
    values = generator(3).beta(2.0, 5.0, 40)
    found = confidence_interval(values)
    assert found == confidence_interval(values[::-1].copy())
    bound = -math.log1p(-LEVEL)
    for inside, outside in ((found.low + 1e-3, found.low - 1e-3), (found.high - 1e-3, found.high + 1e-3)):
        assert log_wealth(values, inside) < bound < log_wealth(values, outside)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(values.mean(), abs=1e-12)


def test_all_alike_gives_an_open_end_and_a_few_runs_decide_a_half() -> None:
    nothing = confidence_interval(np.zeros(0))
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert confidence_interval(np.ones(8)).low > 0.5 > confidence_interval(np.ones(6)).low
    assert confidence_interval(np.ones(8)).high == 1.0
    assert confidence_interval(np.zeros(8)).high == pytest.approx(1.0 - confidence_interval(np.ones(8)).low, abs=1e-5)


def test_little_variance_gives_a_narrow_interval() -> None:
    calm, wild = 0.3 + 0.01 * generator(4).standard_normal(100), share_of(0.3, 100)
    widths = [found.high - found.low for found in map(confidence_interval, (calm, wild))]
    assert widths[0] < 0.4 * widths[1]


def test_outcomes_beyond_the_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outcomes must be in \[0, 1\]"):
        confidence_interval(np.array([0.5, 1.2]))


def test_a_grid_planned_beforehand_has_the_runs_of_the_textbook() -> None:
    # 1.96^2 / 4 / 0.1^2 = 96, and a little more for a standard deviation that is estimated
    assert 96 <= fixed_runs(0.5, 0.1) <= 100
    assert fixed_runs(0.0, 0.1) == 2


# ---------------------------------------------------------------------------------------------------------- the rule

AXES = ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [10.0, 20.0, 30.0, 40.0])


NEW = Standing(0, 0, math.nan, 0.0, 1.0, 0, False)


def steep(point: Point) -> float:
    """Return a chance that jumps between 3 and 4 in the first row and later in the others."""
    x, y = (float(value) for value in point)
    return 1.0 / (1.0 + math.exp(-6.0 * (x - 3.6 - 0.05 * (y - 10.0))))


def played(rule: Rule, chance: Callable[[Point], float], study: int = 0) -> dict[Point, Floats]:
    """Refine a made-up system; run ``i`` meets the same uniform in every cell, as in the simulator."""
    uniforms = generator(100 + study).random(5000)
    cells: dict[Point, Floats] = {point: np.zeros(0) for point in itertools.product(*AXES)}
    standings: dict[Point, Standing] = {}
    while True:
        changed = [point for point, values in cells.items() if standings.get(point, NEW).runs < max(values.size, 1)]
        standings |= {point: Standing.of(cells[point], rule) for point in changed}
        orders = next_orders(standings, rule)
        if not orders:
            added = midpoints(standings, AXES, rule.depth)
            if not added or (rule.budget is not None and sum(map(len, cells.values())) >= rule.budget):
                return cells
            cells |= {point: np.zeros(0) for point in added}
        for order in orders:
            assert order.first == cells[order.point].size
            drawn = uniforms[order.first : order.first + order.count]
            cells[order.point] = np.concatenate([cells[order.point], (drawn < chance(order.point)).astype(np.float64)])


def test_runs_go_where_the_outcome_flips_and_every_cell_ends_classified_or_narrow() -> None:
    rule = Rule(half_width=0.1, level=0.5)
    cells = played(rule, steep)
    for point, values in cells.items():
        standing = Standing.of(values, rule)
        assert standing.done
        assert standing.side in (0, 1 if steep(point) > 0.5 else -1)
        far = abs(float(point[0]) - 3.6 - 0.05 * (float(point[1]) - 10.0)) > 1.0
        assert values.size == 8 or not far
    full = len(cells) * fixed_runs(0.5, rule.half_width)
    assert sum(map(len, cells.values())) < 0.25 * full


def test_intervals_of_a_refined_study_cover_at_the_stated_level() -> None:
    rule = Rule(half_width=0.15, level=0.5)
    misses = count = 0
    for study in range(12):
        for point, values in played(rule, steep, study).items():
            truth, standing = steep(point), Standing.of(values, rule)
            misses += not standing.low <= truth <= standing.high
            count += 1
    assert misses / count <= 1.0 - LEVEL


def test_the_same_findings_give_the_same_orders_and_an_interruption_changes_nothing() -> None:
    rule = Rule(half_width=0.1, level=0.5)
    whole = played(rule, steep)
    standings = {point: Standing.of(values[:8], rule) for point, values in whole.items()}
    orders = next_orders(standings, rule)
    assert orders == next_orders(dict(standings), rule)
    assert all(order.first == 8 and order.count == 4 for order in orders)
    # half of a round is played: the rest of it comes next, or more of what is open
    half = {order.point for order in orders[: len(orders) // 2]}
    later = {p: Standing.of(whole[p][:12] if p in half else whole[p][:8], rule) for p in whole}
    assert {order.point for order in orders} - half <= {order.point for order in next_orders(later, rule)}


def test_a_small_budget_goes_to_the_boundary_first() -> None:
    rule = Rule(half_width=0.01, level=0.5, budget=8 * 32 + 6)
    cells = played(rule, steep)
    assert sum(map(len, cells.values())) == rule.budget
    standings = {point: Standing.of(values, rule) for point, values in cells.items()}
    ends = {end for flip in flips(standings) for end in flip.ends}
    assert {point for point, values in cells.items() if values.size > 8} <= ends


def test_without_a_level_every_cell_gets_narrow() -> None:
    rule = Rule(half_width=0.2)
    for values in played(rule, steep).values():
        assert Standing.of(values, rule).half_width <= 0.2


def test_cells_are_added_between_sides_until_the_boundary_is_as_fine_as_asked() -> None:
    rule = Rule(half_width=0.1, level=0.5, depth=3)
    cells = played(rule, lambda point: float(float(point[0]) > 3.3))
    standings = {point: Standing.of(values, rule) for point, values in cells.items()}
    along = [flip for flip in flips(standings) if flip.axis == 0]
    assert [(flip.ends[0][0], flip.ends[1][0]) for flip in along] == [(3.25, 3.375)] * 4
    assert len(cells) == 32 + 4 * 3


def test_cells_stand_for_the_part_of_the_design_that_is_nearest_to_them() -> None:
    grid = list(itertools.product(*AXES))
    assert weights(grid, AXES, 2).tolist() == [1.0] * 32
    added = [*grid, (3.5, 10.0), (3.25, 10.0)]
    found = weights(added, AXES, 2)
    assert found.sum() == pytest.approx(32.0)
    assert found[added.index((3.25, 10.0))] < found[added.index((3.5, 10.0))] < 1.0
    named: list[Point] = [(*point, name) for point in grid for name in ("noop", "bandit")]
    assert weights([*named, (3.5, 10.0, "noop")], (*AXES, ["noop", "bandit"]), 1).sum() == pytest.approx(64.0)


def test_a_run_without_the_outcome_does_not_count() -> None:
    standing = Standing.of(np.array([1.0, np.nan, 1.0]), Rule(half_width=0.1, level=0.5))
    assert (standing.runs, standing.counted, standing.mean) == (3, 2, 1.0)


def test_all_mistakes_of_a_rule_are_told_at_once() -> None:
    with pytest.raises(InputError) as told:
        Rule(half_width=0.7, budget=0, depth=9, first_runs=1)
    assert len(str(told.value).splitlines()) == 5
    assert Order((1.0,), 0, 3).count == 3
