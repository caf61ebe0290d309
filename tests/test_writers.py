"""Tests of simcore.telemetry.writers."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from simcore.errors import ResultsError
from simcore.telemetry import writers
from simcore.telemetry.tables import SCHEMAS, empty, frame
from simcore.telemetry.writers import ResultsWriter, describe, read_metadata, read_row, read_table
from tests.scripted import small_scenario

META = {"seed": 7}
N_RUNS = 23
TARGETS = ("out.csv", "out.parquet", "out")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "PART_RUNS", 5)


def tables(first: int, last: int, policy: str | None = "noop") -> dict[str, pl.DataFrame]:
    """Return the tables of runs [first, last): two incidents a run, none in every third."""
    runs = list(range(first, last))
    key: dict[str, Any] = {"policy": policy, "split": "test", "seed": 7}
    blank: dict[str, Any] = dict.fromkeys(SCHEMAS["episodes"])
    mine = {"fault_type": [f'fäult, "{run}"' for run in runs], "j": [-run / 7 for run in runs], "run": runs}
    twice = [run for run in runs for _ in range(2) if run % 3]
    rows = {"run": twice, "incident": [i % 2 for i in range(len(twice))], "opened_s": [run / 3 for run in twice]}
    rest: dict[str, Any] = {"kind": "false", "recovered_s": None, "duration_s": None}
    found = frame("incidents", key | rows | rest) if twice else empty("incidents")
    return {"episodes": frame("episodes", blank | key | mine), "incidents": found}


def write(target: Path, *cuts: int, **options: Any) -> ResultsWriter:
    writer = ResultsWriter(target, metadata=META, **options)
    edges = [0, *cuts, N_RUNS]
    for first, last in zip(edges, edges[1:], strict=False):
        writer.write(tables(first, last))
    writer.close({"wall_s": 1.5})
    return writer


def bytes_of(target: Path) -> dict[str, bytes]:
    files = [target] if target.is_file() else [p for p in sorted(target.rglob("*")) if p.suffix == ".parquet"]
    return {path.name if path == target else str(path.relative_to(target)): path.read_bytes() for path in files}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_written_is_read_back(tmp_path: Path, name: str) -> None:
    writer = write(tmp_path / name, 4, 11)
    assert (writer.n_runs, writer.n_kept) == (N_RUNS, N_RUNS)
    assert_frame_equal(read_table(tmp_path / name), tables(0, N_RUNS)["episodes"])
    assert read_metadata(tmp_path / name) == {"seed": 7, "wall_s": 1.5, "complete": True, "runs": N_RUNS}
    assert not leftovers(tmp_path)


def test_a_folder_holds_every_table_in_parts_of_a_fixed_number_of_runs(tmp_path: Path) -> None:
    write(tmp_path / "out", 4, 11)
    assert_frame_equal(read_table(tmp_path / "out", "incidents"), tables(0, N_RUNS)["incidents"])
    parts = [pl.read_parquet(path)["run"].to_list() for path in sorted((tmp_path / "out/episodes").iterdir())]
    assert [(part[0], part[-1]) for part in parts] == [(0, 4), (5, 9), (10, 14), (15, 19), (20, 22)]
    incidents = pl.read_parquet(tmp_path / "out/incidents/part-00001.parquet")
    assert set(incidents["run"]) == {5, 7, 8}


@pytest.mark.parametrize("name", TARGETS)
def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path, name: str) -> None:
    seen = []
    for i, cuts in enumerate([(), (4, 11), (1, 2, 3, 5, 10, 20, 21), tuple(range(1, N_RUNS))]):
        folder = tmp_path / str(i)
        folder.mkdir()
        write(folder / name, *cuts)
        seen.append(bytes_of(folder / name))
    assert seen[0]
    assert all(other == seen[0] for other in seen)


def test_the_same_runs_under_two_policies_stand_one_after_the_other(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "out", metadata=META) as writer:
        for policy in ("noop", None):
            writer.write(tables(0, 7, policy))
    episodes = read_table(tmp_path / "out")
    assert episodes["policy"].to_list() == ["noop"] * 7 + [None] * 7
    assert read_table(tmp_path / "out", "incidents").filter(pl.col("policy").is_null()).height == 8


def test_a_table_may_be_left_out_of_a_chunk(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "out", metadata=META) as writer:
        writer.write(tables(0, 3))
        writer.write({"episodes": tables(3, 7)["episodes"]})
    assert_frame_equal(read_table(tmp_path / "out", "incidents"), tables(0, 3)["incidents"])


def test_rows_of_unknown_runs_are_refused(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "out", metadata=META) as writer, pytest.raises(ValueError, match="not among"):
        writer.write({"episodes": tables(0, 3)["episodes"], "incidents": tables(0, 5)["incidents"]})


@pytest.mark.parametrize("name", TARGETS)
def test_no_runs_give_an_empty_table(tmp_path: Path, name: str) -> None:
    ResultsWriter(tmp_path / name, metadata=META).close()
    assert read_table(tmp_path / name).height == 0


@pytest.mark.parametrize("name", TARGETS)
def test_what_exists_needs_force(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ResultsError, match=r"exists; use --force|is not empty; use --force"):
        ResultsWriter(tmp_path / name, metadata=META)
    writer = ResultsWriter(tmp_path / name, metadata=META, force=True)
    writer.write(tables(0, 2))
    writer.close()
    assert read_table(tmp_path / name).height == 2


def test_force_removes_earlier_results_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    (tmp_path / "out/episodes/notes.txt").write_text("mine")
    ResultsWriter(tmp_path / "out", metadata=META, force=True)
    left = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert left == ["episodes/notes.txt", "metadata.json", "notes.txt"]


def test_an_empty_folder_needs_no_force(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert write(tmp_path / "out").n_kept == N_RUNS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/out.csv", "there is no folder"),
        ("none/out", "there is no folder"),
        ("file", "it is a file"),
        ("folder.csv", "it is a folder"),
        ("out.json", "must end in .csv or .parquet"),
    ],
)
def test_an_impossible_target_is_refused_at_once(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ResultsError, match=message):
        ResultsWriter(tmp_path / name, metadata=META, force=True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", TARGETS)
def test_an_unwritable_folder_is_refused_at_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResultsError, match="Permission denied") as caught:
        ResultsWriter(tmp_path / name, metadata=META)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TARGETS)
def test_ctrl_c_keeps_what_was_finished(tmp_path: Path, name: str) -> None:
    writer = ResultsWriter(tmp_path / name, metadata=META)
    writer.write(tables(0, 7))
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert writer.n_kept == 7
    assert_frame_equal(read_table(tmp_path / name), tables(0, 7)["episodes"])
    metadata = read_metadata(tmp_path / name)
    assert (metadata["complete"], metadata["stopped_by"], metadata["runs"]) == (False, "KeyboardInterrupt", 7)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_ctrl_c_before_anything_is_finished_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path / name, metadata=META, force=True):
        raise KeyboardInterrupt
    assert read_table(tmp_path / name).height == N_RUNS
    assert not leftovers(tmp_path)


def test_ctrl_c_while_a_part_is_written_loses_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def interrupted(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 3:  # metadata and one table of the part are there
            raise KeyboardInterrupt
        replace(source, target)

    writer = ResultsWriter(tmp_path / "out", metadata=META)
    monkeypatch.setattr(os, "replace", interrupted)
    calls.append("metadata")
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(tables(0, 7))
    assert_frame_equal(read_table(tmp_path / "out"), tables(0, 7)["episodes"])
    assert_frame_equal(read_table(tmp_path / "out", "incidents"), tables(0, 7)["incidents"])


def test_a_full_disk_leaves_no_half_written_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith("incidents/part-00001.parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    writer = ResultsWriter(tmp_path / "out", metadata=META)
    with pytest.raises(ResultsError, match="No space left on device; 5 runs were kept"), writer:
        writer.write(tables(0, 14))
    assert_frame_equal(read_table(tmp_path / "out"), tables(0, 5)["episodes"])
    assert_frame_equal(read_table(tmp_path / "out", "incidents"), tables(0, 5)["incidents"])
    metadata = read_metadata(tmp_path / "out")
    assert (metadata["complete"], metadata["runs"]) == (False, 5)
    assert not leftovers(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the size of files")
def test_a_real_full_disk_keeps_whole_rows_of_a_csv(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from tests.test_writers import META, ResultsError, ResultsWriter, tables
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
writer = ResultsWriter({str(tmp_path / "out.csv")!r}, metadata=META)
try:
    for run in range(1000):
        writer.write(tables(run, run + 1))
except ResultsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept = read_table(tmp_path / "out.csv").height
    assert f"File too large; {kept} runs were kept" in done.stdout
    assert kept > 10
    assert (tmp_path / "out.csv").read_bytes().endswith(b"\n")
    assert read_metadata(tmp_path / "out.csv")["runs"] == kept
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_row_comes_back_with_its_metadata(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, 9)
    row, metadata = read_row(tmp_path / name, 13)
    assert (row["run"], row["j"], row["policy"], row["t_v_s"]) == (13, -13 / 7, "noop", None)
    assert metadata["seed"] == 7
    with pytest.raises(ResultsError, match=r"row 23 is not in .*: rows are 0 to 22"):
        read_row(tmp_path / name, N_RUNS)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "out.csv")
    cases = {
        "none.csv": "there is no such file",
        "broken.parquet": "cannot read",
        "other.csv": "it is no episodes table, it lacks",
        "empty": "holds no results",
    }
    for name, message in cases.items():
        with pytest.raises(ResultsError, match=message):
            read_table(tmp_path / name)
    with pytest.raises(ResultsError, match="holds only episodes"):
        read_table(tmp_path / "out.csv", "steps")
    for text in (None, "{", "[]"):
        meta = tmp_path / "out.csv.meta.json"
        meta.unlink(missing_ok=True)
        if text is not None:
            meta.write_text(text)
        with pytest.raises(ResultsError, match="cannot read the metadata"):
            read_row(tmp_path / "out.csv", 0)


def test_the_metadata_describe_what_a_replay_needs() -> None:
    scenario = small_scenario()
    found = json.loads(json.dumps(describe(scenario, seed=3, arguments={"episodes": 50})))
    assert type(scenario).model_validate(found["scenario"]).digest == found["scenario_hash"] == scenario.digest
    assert (found["seed"], found["arguments"]) == (3, {"episodes": 50})
    assert {"python", "numpy", "numba", "polars"} <= set(found["versions"])
