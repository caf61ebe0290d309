"""Which parameter is answerable for an outcome: indices of functions whose indices are known, and of a system."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from agent.evaluation.sweep.indices import morris_design, morris_effects, sobol_design, sobol_shares
from simcore.errors import InputError
from tests.conftest import Invoke

Floats = npt.NDArray[np.float64]

#: Ishigami and Homma's function (1990) with a = 7, b = 0.1: its shares in closed form.
A, B = 7.0, 0.1
V1, V2, V13 = 0.5 * (1 + B * math.pi**4 / 5) ** 2, A**2 / 8, B**2 * math.pi**8 * 8 / 225
V = V1 + V2 + V13
FIRST = [V1 / V, V2 / V, 0.0]
TOTAL = [(V1 + V13) / V, V2 / V, V13 / V]


def ishigami(unit: Floats) -> Floats:
    x = math.pi * (2.0 * unit - 1.0)
    value: Floats = np.sin(x[:, 0]) + A * np.sin(x[:, 1]) ** 2 + B * x[:, 2] ** 4 * np.sin(x[:, 0])
    return value


def test_the_shares_of_ishigamis_function_are_those_of_the_formula() -> None:
    design = sobol_design(3, 1024, seed=1)
    shares = sobol_shares(ishigami(design.unit), 3, seed=1)
    for found, truth in ((shares.first, FIRST), (shares.total, TOTAL)):
        for interval, value in zip(found, truth, strict=False):
            assert interval.value == pytest.approx(value, abs=0.03)
            assert interval.low - 0.01 <= value <= interval.high + 0.01
    # nothing is drawn, so chance has no share
    assert shares.first[3].value == shares.total[3].value == 0.0


def test_the_shares_are_those_of_scipy() -> None:
    from scipy.stats import sobol_indices

    design = sobol_design(3, 256, seed=2)
    outcome = ishigami(design.unit)
    blocks = outcome.reshape(6, 1, 256)
    theirs = sobol_indices(func={"f_A": blocks[0], "f_B": blocks[1], "f_AB": blocks[2:5]}, n=256)
    ours = sobol_shares(outcome, 3, seed=1)
    assert [found.value for found in ours.total[:3]] == pytest.approx(theirs.total_order.ravel().tolist(), rel=1e-9)
    # they centre by A and B together too
    assert [found.value for found in ours.first[:3]] == pytest.approx(theirs.first_order.ravel().tolist(), rel=1e-9)


def test_chance_has_the_share_that_no_parameter_explains() -> None:
    design = sobol_design(2, 1024, seed=3)
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5))).standard_normal(2 * 1024)
    # variances: 1/12 of the parameter, 1/12 of chance
    outcome = design.unit[:, 0] + math.sqrt(1 / 12) * noise[design.run]
    shares = sobol_shares(outcome, 2, seed=1)
    assert [found.value for found in shares.total] == pytest.approx([0.5, 0.0, 0.5], abs=0.05)
    assert shares.total[1].value == 0.0


def test_what_does_not_vary_has_no_shares() -> None:
    shares = sobol_shares(np.full(5 * 8, 3.0), 2, seed=1)
    assert all(math.isnan(found.value) for found in shares.first + shares.total)


def test_elementary_effects_of_a_plane_are_its_slopes_and_of_a_product_they_spread() -> None:
    design = morris_design(4, 60, seed=1)
    x = design.unit
    effects = morris_effects(design, 3.0 * x[:, 0] - 2.0 * x[:, 1] + 4.0 * x[:, 2] * x[:, 3], seed=1)
    assert effects.mean[0] == pytest.approx((3.0, 3.0, 3.0))
    assert effects.mean[1] == pytest.approx((-2.0, -2.0, -2.0))
    assert effects.size[1] == pytest.approx((2.0, 2.0, 2.0))
    assert effects.spread[0].value == pytest.approx(0.0, abs=1e-9)
    assert effects.spread[2].low > 0.5
    assert effects.size[2].low < 2.0 < effects.size[2].high


def test_along_a_trajectory_one_parameter_moves_at_a_time_with_the_same_run() -> None:
    design = morris_design(5, 7, seed=2)
    assert design.unit.min() >= 0.0
    assert design.unit.max() <= 1.0
    paths = design.unit.reshape(7, 6, 5)
    assert ((np.diff(paths, axis=1) != 0.0).sum(axis=2) == 1).all()
    assert (design.run.reshape(7, 6) == np.arange(7)[:, None]).all()


def test_designs_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="power of 2"):
        sobol_design(2, 100, seed=1)
    with pytest.raises(InputError, match="at least one parameter"):
        sobol_design(0, 8, seed=1)
    with pytest.raises(InputError, match="trajectories must be >= 2"):
        morris_design(2, 1, seed=1)


STUDY = ("--no-agent", "--fault", "error_burst@db", "--onset", "70", "--quiet", "--vary", "fault.severity=0.1..0.9")


def test_what_nobody_uses_has_no_effect_and_the_severity_has(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    """Nobody acts, so the cost of an action can change nothing: exactly nothing, since the runs are the same."""
    given = ("sensitivity", "--scenario", tiny, *STUDY, "--vary", "actions.scale.cost=0..0.1", "--json")
    out = tmp_path / "runs.parquet"
    result = invoke(*given, "--method", "morris", "--samples", "3", "--out", out)
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["runs"] == 9
    found = {(row["outcome"], row["parameter"]): row for row in told["rows"]}
    assert found["error_budget_spent", "actions.scale.cost"]["size"] == 0.0
    assert found["ttm_s", "actions.scale.cost"]["size"] == 0.0
    assert found["error_budget_spent", "fault.severity"]["mean_low"] > 0.0
    assert "depends most on fault.severity" in told["sentences"][0]
    assert "hardly on actions.scale.cost" in told["sentences"][0]
    assert pl.read_parquet(out)["fault.severity"].n_unique() == 4
    result = invoke(*given, "--samples", "4")
    assert result.code == 0, result.err
    found = {(row["outcome"], row["parameter"]): row for row in json.loads(result.out)["rows"]}
    assert found["error_budget_spent", "actions.scale.cost"]["total"] == 0.0
    assert found["error_budget_spent", "fault.severity"]["total"] > 0.0
    assert "chance" in {parameter for _, parameter in found}


def test_the_command_tells_all_mistakes_at_once(invoke: Invoke, tiny: str) -> None:
    wrong = ["--vary", "lod=1..2", "--vary", "load", "--samples", "12", "--png", "x.gif", "--policy", "plybook"]
    result = invoke("sensitivity", "--scenario", tiny, *wrong, "--severity", "0.4")
    assert result.code == 2
    for what in (
        "did you mean 'load'",
        "--vary must be KEY=SPEC",
        "power of 2",
        "--png must name",
        "'playbook'",
        "--sev",
    ):
        assert what in result.err
