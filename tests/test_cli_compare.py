"""``mendsim compare`` as its users meet it."""

import importlib.util
import json
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from agent.evaluation.taught import learns, needs_state
from agent.policies.noop import NoopPolicy
from agent.registry import POLICIES, Entry
from simcore.telemetry.writers import read_metadata, read_table
from tests.conftest import Invoke

SMALL = ("--policies", "playbook,bandit", "--episodes", 4, "--train-seeds", 2, "--train-episodes", 4)


def test_compare_says_what_is_shown_and_writes_rows_that_can_be_replayed(
    tiny: str, tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / "compared.parquet"
    result = invoke("compare", "--scenario", tiny, *SMALL, "--out", out)
    assert result.code == 0, result.err
    for words in ("primary measure: error_budget_spent", "secondary measures", "by type of fault", "controls"):
        assert words in result.out
    table = read_table(out)
    assert table.group_by("policy", maintain_order=True).len().rows() == [("noop", 4), ("playbook", 4), ("bandit", 8)]
    assert set(table.filter(pl.col("policy") == "bandit")["training"].to_list()) == {0, 1}
    compared = read_metadata(out)["compared"]
    assert compared["primary"] == "error_budget_spent"
    assert {row["policy"] for row in compared["measures"]} == {"noop", "playbook", "bandit"}
    last = table.height - 1
    replayed = invoke("run", "--from", out, "--row", last)
    assert replayed.code == 0, replayed.err
    assert f"replayed row {last}: every value is as stored" in replayed.err


def test_compare_gives_the_same_object_for_any_number_of_threads_and_a_folder_with_all_tables(
    tiny: str, tmp_path: Path, invoke: Invoke
) -> None:
    arguments = ["compare", "--scenario", tiny, *SMALL, "--json", "--quiet"]
    one = invoke(*arguments, "--threads", 1, "--out", tmp_path / "folder")
    two = invoke(*arguments, "--threads", 2)
    assert one.code == two.code == 0
    assert one.out == two.out
    assert one.err == ""
    found = json.loads(one.out)
    assert found["runs"] == 4
    assert {row["measure"] for row in found["measures"]} >= {"error_budget_spent", "durable", "harmed", "recovered"}
    assert read_table(tmp_path / "folder", "decisions")["policy"].n_unique() == 3
    assert read_table(tmp_path / "folder").height == 16


def test_learned_states_take_the_place_of_trainings(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    states = []
    for seed in (1, 2, 3):
        states += ["--policy-in", tmp_path / f"{seed}.json"]
        learn = ("eval", "--scenario", tiny, "--episodes", 4, "--split", "train", "--seed", seed, "--policy", "bandit")
        assert invoke(*learn, "--policy-out", states[-1]).code == 0
    result = invoke("compare", "--scenario", tiny, "--policies", "bandit", "--episodes", 3, *states, "--json")
    row = next(row for row in json.loads(result.out)["measures"] if row["policy"] == "bandit")
    assert row["trainings"] == 3


def test_every_mistake_of_a_comparison_is_told_at_once(tmp_path: Path, invoke: Invoke) -> None:
    wrong = ("--policies", "bandid,noop", "--against", "rules", "--png", tmp_path / "no" / "such.gif")
    result = invoke("compare", *wrong, "--policy-in", tmp_path / "none.json")
    assert result.code == 2
    for words in ("--policies must be one of", "did you mean 'bandit'", "--against must be one of", ".png or .svg"):
        assert words in result.err
    assert "there is no folder" in result.err
    assert "Traceback" not in result.err
    missing = invoke("compare", "--policies", "bandit", "--policy-in", tmp_path / "none.json")
    assert missing.code == 2
    assert "--policy-in: cannot read" in missing.err


def test_policies_are_tested_on_faults_that_they_never_met(tiny: str, invoke: Invoke) -> None:
    result = invoke("compare", "--scenario", tiny, *SMALL, "--against", "bandit", "--unseen", "--no-replays", "--json")
    assert result.code == 0, result.err
    rows = {row["policy"]: row for row in json.loads(result.out)["measures"] if row["measure"] == "error_budget_spent"}
    assert rows["bandit, unseen"]["trainings"] == 2
    assert rows["bandit, unseen"]["against"] == "bandit"
    refused = invoke("compare", "--scenario", tiny, "--policies", "playbook", "--unseen", "--fault", "latency_spike@db")
    assert refused.code == 2
    assert "--fault sets the faults" in refused.err
    assert "needs a policy that is trained here" in refused.err


class Taught(NoopPolicy):
    """A policy that playing teaches nothing."""

    name: ClassVar[str] = "taught"
    from_forks: ClassVar[bool] = True


def test_a_policy_that_learns_from_forks_must_bring_its_state(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "taught", Entry(__name__, "Taught", "for this test"))
    assert needs_state("taught")
    assert not learns("taught")
    for command, option in (("compare", "--policies"), ("isolate", "--policy"), ("ope", "--policies")):
        result = invoke(command, option, "taught")
        assert result.code == 2
        assert "policy taught learns from forks: train it" in result.err


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra 'pictures'")
def test_a_comparison_is_drawn(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    png = tmp_path / "picture.png"
    assert invoke("compare", "--scenario", tiny, *SMALL, "--png", png).code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_size > 10_000
