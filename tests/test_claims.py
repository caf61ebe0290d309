"""What the fault catalogue claims: the signs appear, the fix mends, the wrong action does not."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.commands.reference import with_block
from agent.commands.validate import fault_table
from simcore.errors import RegistryError
from simcore.model.catalogue import CATALOGUE
from simcore.model.claims import Remedy, Where
from simcore.model.faults import parse_fault
from simcore.model.loader import load_scenario
from simcore.validity import faults
from simcore.validity.faults import Outcome, Trial, claimed, try_fault


def test_every_fault_type_makes_a_claim() -> None:
    assert set(claimed()) == set(CATALOGUE) - {"none"}


@functools.cache
def trial_of(name: str) -> Trial:
    return try_fault(name, threads=1)


@pytest.mark.parametrize("name", claimed())
def test_the_claim_of_a_fault_type_holds(name: str) -> None:
    trial = trial_of(name)
    assert trial.appears, trial.shift
    assert trial.mended, (trial.noop, trial.fix)
    assert trial.useless, (trial.noop, trial.wrong)


def test_the_page_on_faults_shows_these_figures() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "explanation" / "faults.md").read_text(encoding="utf-8")
    assert with_block(page, "claims", fault_table([trial_of(name) for name in claimed()])) == page


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "N_RUNS", 4)


def test_a_wrong_claim_is_found_out(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = CATALOGUE["expiry"].claim
    assert claim is not None
    swapped = replace(claim, fix=claim.wrong, wrong=claim.fix)
    kind = replace(CATALOGUE["expiry"], claim=swapped)
    monkeypatch.setitem(CATALOGUE, "expiry", kind)  # type: ignore[arg-type]
    trial = try_fault("expiry", threads=1)
    assert trial.appears
    assert not trial.mended
    assert not trial.useless


def test_both_engines_try_alike(few: None) -> None:
    clinic = load_scenario("clinic")
    calm = clinic.model_copy(update={"workload": clinic.workload.model_copy(update={"rate_rps": 1.5})})
    one, other = (try_fault("expiry", engine=engine, threads=1, scenario=calm) for engine in ("batch", "simpy"))
    assert one == other


def test_an_outcome_leaves_out_runs_without_a_value() -> None:
    found = Outcome.of(np.array([1.0, np.nan, 3.0]))
    assert found.mean == 2.0
    assert found.low < 2.0 < found.high
    assert np.isnan(Outcome.of(np.array([np.nan, 1.0])).mean)


def test_a_type_without_a_claim_is_refused() -> None:
    with pytest.raises(RegistryError, match="no fault type 'expirt' that makes a claim; did you mean 'expiry'"):
        claimed(["expirt"])
    with pytest.raises(RegistryError, match=r"'nope' that makes .*\n.*'none' that makes .*\nfault types: .*expiry"):
        claimed(["nope", "none", "nope"])
    assert claimed(["expiry", "expiry"]) == ("expiry",)


def test_a_remedy_says_where_it_is_used() -> None:
    assert str(Remedy("limit_traffic", Where.SYSTEM, amount=0.7)) == "limit_traffic 0.7"
    assert str(Remedy("scale")) == "scale at target"


def test_the_clinic_has_a_target_for_every_fault_type() -> None:
    clinic = load_scenario("clinic")
    for name in claimed():
        assert parse_fault(name, clinic).type == name
