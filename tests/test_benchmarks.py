"""``mendsim bench``: saved benchmarks, and what a comparison says."""

import json
from pathlib import Path

import pytest

from agent.commands import bench as command
from agent.evaluation.benchmarks import Baseline, Verdict, compare, drift, machine, read_baseline
from simcore.errors import ResultsError
from tests.conftest import Invoke


def _baseline(times: dict[str, list[float]], calibration_s: float = 0.1) -> Baseline:
    made = Baseline(machine(), {"python": "3"})
    for name, passes in times.items():
        for best_s in passes:
            note = {"name": name, "group": "g", "what": name, "done": {"requests": 10}, "best_s": best_s}
            made.add(note | {"calibration_s": calibration_s})
    return made


def _verdicts(now: Baseline, then: Baseline, bound: float = 0.05) -> dict[str, Verdict]:
    return {row.name: row.verdict for row in compare(now, then, bound=bound)}


def test_what_is_slower_or_faster_beyond_the_noise_is_called_so() -> None:
    then = _baseline({"a": [1.0, 1.01], "b": [1.0, 1.01], "c": [1.0, 1.01], "old": [1.0, 1.0]})
    now = _baseline({"a": [1.2, 1.21], "b": [1.03, 1.04], "c": [0.8, 0.81], "new": [1.0, 1.0]})
    assert _verdicts(now, then) == {
        "a": Verdict.SLOWER, "b": Verdict.SAME, "c": Verdict.FASTER, "new": Verdict.NEW, "old": Verdict.GONE,
    }  # fmt: skip
    assert _verdicts(now, then, bound=0.3)["a"] is Verdict.SAME


def test_a_noisy_benchmark_is_not_called_slower() -> None:
    assert _verdicts(_baseline({"a": [1.2, 1.4]}), _baseline({"a": [1.0, 1.01]}))["a"] is Verdict.SAME


def test_a_benchmark_that_was_lucky_twice_gets_the_noise_of_the_others() -> None:
    noisy = {f"n{i}": [1.0, 1.2] for i in range(3)}
    then, now = _baseline({"a": [1.0, 1.0], **noisy}), _baseline({"a": [1.2, 1.2], **noisy})
    assert _verdicts(now, then)["a"] is Verdict.SAME


def test_another_speed_of_the_machine_is_taken_out_and_makes_the_figures_less_certain() -> None:
    then, now = _baseline({"a": [1.0, 1.01]}), _baseline({"a": [1.1, 1.11]}, calibration_s=0.11)
    assert drift(now, then) == pytest.approx(1.1)
    (row,) = compare(now, then)
    assert row.ratio == pytest.approx(1.0)
    assert row.noise > 0.05
    assert row.verdict is Verdict.SAME


def test_the_best_pass_counts_and_work_is_compared_not_rounds() -> None:
    then, now = _baseline({"a": [1.0, 1.01]}), _baseline({"a": [1.5, 1.0, 1.01]})
    now.entries["a"].done = 20
    (row,) = compare(now, then)
    assert row.ratio == pytest.approx(0.5)
    assert row.rate == pytest.approx(20.0)


def test_a_baseline_is_read_as_it_was_saved(tmp_path: Path) -> None:
    made = _baseline({"a": [1.0, 2.0]})
    made.save(tmp_path / "new" / "kept.json")
    assert read_baseline(tmp_path / "new" / "kept.json") == made
    (tmp_path / "other.json").write_text('{"kind": "other"}')
    for path in (tmp_path / "other.json", tmp_path / "none.json"):
        with pytest.raises(ResultsError):
            read_baseline(path)


def test_the_command_refuses_another_machines_baseline_and_tells_all_mistakes(tmp_path: Path, invoke: Invoke) -> None:
    made = _baseline({"a": [1.0]})
    made.machine = machine() | {"processor": "an abacus"}
    made.save(tmp_path / "abacus.json")
    result = invoke(
        "bench", "--against", tmp_path / "abacus.json", "--save", tmp_path / "none" / "x.csv", "--passes", 2
    )
    assert result.code == 2
    assert "is from another machine and says nothing here: processor 'an abacus' there" in result.err
    assert "--save must name a .json file" in result.err
    assert "there is no folder" in result.err


def test_the_command_says_what_is_missing(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_HOUSE", tmp_path)
    monkeypatch.setattr(command, "_KEPT", tmp_path)
    _baseline({"a": [1.0]}).save(tmp_path / "monday.json")
    result = invoke("bench", "--against", "sunday", "--save", "monday")
    assert result.code == 2
    assert "in mendsim's repository, not in the installed package" in result.err
    assert "there is no baseline sunday (known: monday)" in result.err
    assert "a baseline monday exists; use --force" in result.err


def test_the_suite_runs_in_passes_and_is_compared(tmp_path: Path, invoke: Invoke) -> None:
    name = "bench/bench_kernels.py::test_the_forest_kernel"
    _baseline({name: [1000.0, 1001.0], "other": [1.0, 1.0]}).save(tmp_path / "slow.json")
    result = invoke(
        "bench",
        "--only",
        "forest_kernel",
        "--quick",
        "--against",
        tmp_path / "slow.json",
        "--save",
        tmp_path / "n.json",
    )
    assert result.code == 0, result.err
    assert "pass 2 of 2" in result.err
    assert "1 faster;" in result.out
    assert max(map(len, result.out.splitlines()[:2])) <= 80
    (entry,) = read_baseline(tmp_path / "n.json").entries.values()
    assert (entry.group, entry.what, entry.unit, len(entry.best_s)) == ("forest", "kernel", "scores", 2)


def _scripted(monkeypatch: pytest.MonkeyPatch, *passes: float) -> list[list[str]]:
    """Let the suite consist of one benchmark that takes these times; return what is asked for, pass by pass."""
    left, asked = list(passes), []

    def once(suite: command._Suite, what: list[str]) -> bool:
        asked.append(what)
        note = {"name": "x", "group": "g", "what": "x", "done": {"requests": 10}, "calibration_s": 0.1}
        suite.found.add(note | {"best_s": left.pop(0)})
        return True

    monkeypatch.setattr(command._Suite, "_once", once)
    return asked


def test_a_slow_spell_is_not_taken_for_a_loss(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    _baseline({"x": [1.0, 1.01]}).save(tmp_path / "then.json")
    asked = _scripted(monkeypatch, 1.5, 1.51, 1.0, 1.01)
    result = invoke("bench", "--passes", 2, "--against", tmp_path / "then.json")
    assert result.code == 0
    assert asked[:3] == [["bench"], ["bench"], ["x"]]
    assert "What seemed slower at first was measured" in result.out


def test_a_loss_is_found_also_when_measured_again(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    _baseline({"x": [1.0, 1.01]}).save(tmp_path / "then.json")
    asked = _scripted(monkeypatch, 1.5, 1.51, 1.52, 1.5)
    result = invoke("bench", "--passes", 2, "--against", tmp_path / "then.json", "--json", "--quiet")
    assert result.code == 1
    assert len(asked) == 4
    found = json.loads(result.out)
    (row,) = found["rows"]
    assert row["verdict"] == "slower"
    assert row["ratio"] == pytest.approx(1.5)
    assert 0.0 < row["noise"] < 0.05
    assert found["slower"] == 1
