"""``mendsim sweep``: study files, folders, Ctrl-C and resume, and the replay of a study's rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agent.evaluation.sweep import Crew, conduct
from agent.evaluation.sweep.conduct import play_batch
from agent.evaluation.sweep.storage import StudyFolder, read_study
from agent.evaluation.sweep.text import study_text
from simcore.errors import ResultsError
from tests.conftest import TINY, Invoke

#: An agent that needs little training.
AGENT = ("--detector", "threshold", "--diagnoser", "max_score", "--policy", "threshold_rules")
VARY = ("--vary", "fault.onset_s=60,100", "--vary", "load=1,1.5", "--vary", "policy=noop,threshold_rules")
FAULT = ("--fault", "error_burst@db", "--severity", "0.9")
STUDY = (*VARY, *FAULT, *AGENT, "--replications", "2", "--quiet")

STUDY_FILE = """
scenario: ./tiny.yaml
vary:
  fault.onset_s: 60:100:40
  load: [1, 1.5]
  policy: noop,threshold_rules
faults:
  - {fault: error_burst@db, severity: 0.9}
replications: 2
detector: threshold
diagnoser: max_score
policy: threshold_rules
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a scenario, for the whole module."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return folder


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def done(at_home: Path, invoke: Invoke) -> Path:
    """Return the folder of a finished study, which is run once."""
    folder = at_home / "done"
    if not folder.exists():
        assert invoke("sweep", "--scenario", "./tiny.yaml", *STUDY, "--out", "done").code == 0
    return folder


def contents(folder: Path, named: str = "done") -> dict[str, bytes]:
    """Return a study's files; the command in them names another folder where ``named`` says so."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "how.json"}
    return found | {"study.json": found["study.json"].replace(f"--out {named}".encode(), b"--out done")}


def test_a_study_leaves_runs_cells_differences_and_what_it_is(done: Path) -> None:
    assert sorted(path.name for path in done.iterdir()) == [
        "cells.parquet", "differences.parquet", "how.json", "runs.parquet", "study.json",
    ]  # fmt: skip
    runs, cells = pl.read_parquet(done / "runs.parquet"), pl.read_parquet(done / "cells.parquet")
    assert runs.columns[:6] == ["row", "cell", "replication", "weight", "fault.onset_s", "load"]
    assert (runs.height, cells.height) == (16, 8)
    assert {f"{m}_{n}" for m in ("j", "ttm_s") for n in ("mean", "low", "high", "p50", "p90")} <= set(cells.columns)
    found = json.loads((done / "study.json").read_text(encoding="utf-8"))
    assert (found["complete"], found["runs"], found["planned"], found["design"]) == (True, 16, 16, "grid")
    assert found["axes"][0] == {"key": "fault.onset_s", "values": [60.0, 100.0], "unit": "s"}
    assert found["command"].startswith("mendsim sweep --scenario ./tiny.yaml --vary fault.onset_s=60,100 ")
    assert "--quiet" not in found["command"]
    how = json.loads((done / "how.json").read_text(encoding="utf-8"))
    assert how["sessions"][0]["runs"] == 16


def test_an_interrupted_study_goes_on_and_ends_with_the_same_bytes(
    done: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def tired(*arguments: Any, **settings: Any) -> pl.DataFrame:
        calls.append(1)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return play_batch(*arguments, **settings)

    monkeypatch.setattr(conduct, "play_batch", tired)
    study = ("sweep", "--scenario", "./tiny.yaml", *(word for word in STUDY if word != "--quiet"), "--out", "again")
    first = invoke(*study)
    assert first.code == 1
    assert "interrupted after 8 of 16 runs, kept in again; the same command with --resume goes on" in first.err
    assert pl.read_parquet("again/runs.parquet").height == 8
    assert json.loads(Path("again/study.json").read_text(encoding="utf-8"))["complete"] is False
    refused = invoke(*study)
    assert (refused.code, calls) == (2, [1, 1])
    assert "it holds a study (8 of 16 runs); --resume goes on with it, --force replaces it" in refused.err
    assert invoke(*study, "--resume").code == 0
    assert contents(Path("again"), "again") == contents(done)
    # nothing is left to do
    calls.clear()
    assert invoke(*study, "--resume").code == 0
    assert not calls
    assert contents(Path("again"), "again") == contents(done)
    other = invoke(*study, "--resume", "--seed", "2")
    assert other.code == 2
    assert "it holds another study, which differs in the arguments" in other.err


def test_a_study_that_is_interrupted_at_once_keeps_nothing_and_can_go_on(
    done: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tired(*arguments: Any, **settings: Any) -> pl.DataFrame:
        raise KeyboardInterrupt

    study = ("sweep", "--scenario", "./tiny.yaml", *STUDY, "--out", "soon")
    with monkeypatch.context() as patched:
        patched.setattr(conduct, "play_batch", tired)
        first = invoke(*study)
    assert (first.code, first.out) == (1, "no run is finished\nresults in soon\n")
    assert pl.read_parquet("soon/cells.parquet").height == 0
    assert invoke(*study, "--resume").code == 0
    assert contents(Path("soon"), "soon") == contents(done)


def test_what_was_finished_survives_a_kill_between_two_files(done: Path, tmp_path: Path) -> None:
    sweep, metadata, runs = read_study(done)
    folder = StudyFolder(tmp_path / "killed")
    told = {key: metadata[key] for key in ("name", "description", "command", "train_episodes")}
    folder.begin(Crew(sweep), planned=16, more=told)
    folder.add(runs.head(8))
    # the table is there, and so are its parts
    (tmp_path / "killed" / "runs.parquet").write_bytes((done / "runs.parquet").read_bytes())
    found = StudyFolder(tmp_path / "killed")
    before = found.check(resume=True, force=False)
    assert before is not None
    assert found.resume(before, Crew(sweep))["row"].to_list() == list(range(16))
    tables = found.finish(sweep, how={}, complete=True)
    assert tables["runs"].equals(runs)
    assert contents(tmp_path / "killed") == contents(done)


def test_every_row_of_a_study_can_be_replayed_exactly(done: Path, invoke: Invoke) -> None:
    for row in (0, 6, 15):
        result = invoke("run", "--from", done, "--row", row)
        assert (result.code, result.err) == (0, f"replayed row {row}: every value is as stored\n")
    assert "row 16 is not in" in invoke("run", "--from", done, "--row", 16).err
    stored = pl.read_parquet(done / "runs.parquet")
    changed = done.parent / "changed"
    changed.mkdir()
    for name, data in contents(done).items():
        (changed / name).write_bytes(data)
    stored.with_columns(pl.col("bad") + 1).write_parquet(changed / "runs.parquet")
    result = invoke("run", "--from", changed, "--row", 3)
    assert result.code == 1
    assert "the replay differs: bad was" in result.err


def test_a_row_of_a_study_with_drawn_faults_and_ranges_can_be_replayed(at_home: Path, invoke: Invoke) -> None:
    study = (
        "sweep", "--scenario", "./tiny.yaml", "--design", "lhs", "--samples", "2", "--vary", "fault.severity=0.2..0.9",
        "--vary", "services.db.threads=2..8", "--vary", "workload.rate_rps=4..16:log", *AGENT, "--replications", "2",
        "--out", "lhs", "--quiet", "--twins",
    )  # fmt: skip
    assert invoke(*study).code == 0
    runs = pl.read_parquet("lhs/runs.parquet")
    assert runs.schema["services.db.threads"] == pl.Int64()
    assert runs["noop_j"].null_count() == 0
    for row in (0, 3):
        assert invoke("run", "--from", "lhs", "--row", row).code == 0


def test_one_of_several_faults_can_vary(at_home: Path, invoke: Invoke) -> None:
    study = (
        "sweep", "--scenario", "./tiny.yaml", "--fault", "error_burst@db", "--fault", "latency_spike@api", "--onset",
        "60", "--vary", "fault[1].onset_s=70,90", "--vary", "workload.deadline_s=none,1", *AGENT, "--replications",
        "1", "--out", "two", "--quiet",
    )  # fmt: skip
    result = invoke(*study)
    assert result.code == 0, result.err
    assert "fault[1].onset_s down, workload.deadline_s across" in result.out
    runs = pl.read_parquet("two/runs.parquet")
    assert runs["fault_type"].unique().to_list() == ["error_burst+latency_spike"]
    assert runs["workload.deadline_s"].to_list() == [None, 1.0, None, 1.0]
    assert invoke("run", "--from", "two", "--row", 2).code == 0


def test_a_study_file_says_the_same_as_options(done: Path, at_home: Path, invoke: Invoke) -> None:
    folder = at_home / "below"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY_FILE, encoding="utf-8")
    # paths start at the study file
    assert invoke("sweep", "--study", "below/study.yaml", "--out", "filed", "--quiet").code == 0
    assert Path("filed/runs.parquet").read_bytes() == (done / "runs.parquet").read_bytes()
    saved = invoke("sweep", "--scenario", "./tiny.yaml", *STUDY, "--save-study", "below/saved.yaml")
    assert (saved.code, saved.out) == (0, "study file written: below/saved.yaml\n")
    ways = (("--study", "below/saved.yaml"), ("--study", "below/study.yaml"), ("--scenario", "./tiny.yaml", *STUDY))
    plans = [invoke("sweep", *words, "--dry-run", "--quiet").out for words in ways]
    assert plans[0].startswith("tiny: 8 cells x 2 runs = 16 runs, seed 1, split test; 2 different systems (a detector")
    assert plans == [plans[0]] * 3
    text = (at_home / "below" / "saved.yaml").read_text(encoding="utf-8")
    assert "scenario: ../tiny.yaml" in text


def test_all_mistakes_of_a_study_file_are_told_with_their_lines(at_home: Path, invoke: Invoke) -> None:
    (at_home / "wrong.yaml").write_text(
        "scenario: ./tiny.yaml\nreplications: 0\nvaried: {}\nvary: {load: x}\ndesing: lhs\n", encoding="utf-8"
    )
    result = invoke("sweep", "--study", "wrong.yaml")
    assert result.code == 2
    assert result.err.splitlines() == [
        "error: wrong.yaml:2: replications must be >= 1, got 0",
        "error: wrong.yaml:3: varied is not a known key; did you mean 'vary'?",
        "error: wrong.yaml:5: desing is not a known key; did you mean 'design'?",
    ]
    (at_home / "wrong.yaml").write_text(
        "scenario: ./tiny.yaml\nvary:\n  load: x\n  services.db.threads: [2, 0]\n  policy: [noop, nop]\n"
        "faults:\n  - {fault: error_burst@dbx}\ndesign: lhs\n",
        encoding="utf-8",
    )
    lines = invoke("sweep", "--study", "wrong.yaml").err.splitlines()
    rules = (
        (1, "samples is missing: how many points of the ranges does design lhs take?"),
        (3, "must be a number, got 'x'"),
        (4, "services.db.threads must be >= 1, got 0"),
        (5, "did you mean 'noop'?"),
        (7, "did you mean 'db'?"),
        (8, "is lhs, but nothing varies over a range"),
    )
    for (number, rule), line in zip(rules, lines, strict=True):
        assert line.startswith(f"error: wrong.yaml:{number}: "), line
        assert rule in line


def test_all_mistakes_of_a_command_are_told_at_once(at_home: Path, invoke: Invoke) -> None:
    result = invoke(
        "sweep", "--scenario", "./tiny.yaml", "--vary", "lod=1", "--vary", "services.db.threads=0,2", "--vary",
        "policy", "--vary", "load=1,x", "--fault", "error_burst@dbx", "--onset", "6x", "--detector", "thresold",
        "--resume", "--vary", "fault.severity=0.1..0.5", "--policy", "noop,bandit",
    )  # fmt: skip
    assert result.code == 2
    for told in (
        "--resume needs --out",
        "--vary must be KEY=SPEC such as load=0.8,1,1.2, got 'policy'",
        "--vary lod: there is no such key; did you mean 'load'?",
        "--vary load must be a number, got 'x'",
        "--vary services.db.threads: services.db.threads must be >= 1, got 0",
        "--vary fault.severity is a range, which a grid cannot walk",
        "--onset: a time's unit must be s, min or steps, got '6x'",
        "the target must be 'api' or 'db', got 'dbx'; did you mean 'db'?",
        "--detector must be one of",
        "--policy must be one name, got 'noop,bandit'; compare several by varying policy",
    ):
        assert told in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--out", "no/where"), "there is no folder"),
        (("--out", "tiny.yaml"), "it is a file; a study goes into a folder"),
        (("--out", "/proc/study"), "cannot write /proc/study"),
        (("--out", "x.parquet"), "a study goes into a folder, not into a file"),
        (("--out", "full"), "it is not empty and holds no study; choose another folder"),
        (("--out", "full", "--force"), "it is not empty and holds no study"),
        (("--out", "x", "--force", "--resume"), "--resume and --force exclude each other"),
        (("--save-study", "study.txt"), "--save-study must name a .yaml or .yml file"),
        (("--samples", "3"), "--samples goes with design lhs, got 3"),
        (("--design", "lhs"), "--samples is missing"),
        (("--mix", "uniform", "--fault", "error_burst@db"), "--mix must be absent beside faults that are given"),
        (("--severity", "0.4"), "--severity says how a fault is, but no --fault is given"),
        (("--no-agent", "--policy", "noop"), "--policy must be absent where there is no agent"),
        (("--policy", "learned"), "policy learned learns from forks"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    at_home: Path, invoke: Invoke, words: tuple[str, ...], rule: str
) -> None:
    (at_home / "full").mkdir(exist_ok=True)
    (at_home / "full" / "mine.txt").write_text("keep me", encoding="utf-8")
    result = invoke("sweep", "--scenario", "./tiny.yaml", "--vary", "load=1,2", *words)
    assert result.code == 2
    assert rule in result.err
    assert (at_home / "full" / "mine.txt").exists()
    assert not (at_home / "x").exists()


def test_a_folder_that_cannot_be_read_is_told(done: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot read"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"kind": "study"}', encoding="utf-8")
    with pytest.raises(ResultsError, match="does not describe a study"):
        read_study(tmp_path)
    for name, data in contents(done).items():
        (tmp_path / name).write_bytes(data)
    pl.read_parquet(done / "runs.parquet").drop("j").write_parquet(tmp_path / "runs.parquet")
    with pytest.raises(ResultsError, match="it is not of this version, it lacks j"):
        read_study(tmp_path)
    (tmp_path / "runs.parquet").write_bytes(b"no table")
    with pytest.raises(ResultsError, match="cannot read"):
        read_study(tmp_path)


def test_json_holds_the_cells_and_the_differences(done: Path, invoke: Invoke) -> None:
    study = ("sweep", "--scenario", "./tiny.yaml", *STUDY, "--out", "done", "--resume")
    found = json.loads(invoke(*study, "--json").out)
    assert (found["runs"], found["interrupted"], len(found["cells"]), len(found["differences"])) == (16, False, 8, 4)
    assert found["cells"] == pl.read_parquet(done / "cells.parquet").to_dicts()
    text = invoke(*study).out
    sweep, metadata, _ = read_study(done)
    cells, differences = pl.read_parquet(done / "cells.parquet"), pl.read_parquet(done / "differences.parquet")
    assert text.startswith(study_text(sweep, cells, differences, until_s=metadata["ttm_until_s"]))
    assert text.endswith("results in done\n")


def test_a_policy_that_learns_is_trained_first_and_its_state_is_kept(at_home: Path, invoke: Invoke) -> None:
    study = (
        "sweep", "--scenario", "./tiny.yaml", "--vary", "policy=noop,bandit", *AGENT, "--replications", "1",
        "--train-episodes", "4", "--out", "learned",
    )  # fmt: skip
    result = invoke(*study)
    assert result.code == 0
    assert "training bandit on 4 runs each ..." in result.err
    found = json.loads(Path("learned/study.json").read_text(encoding="utf-8"))
    assert list(found["policies"]) == ["bandit"]
    rows = pl.read_parquet("learned/runs.parquet")
    assert rows.filter(pl.col("policy") == "bandit")["policy_state"].to_list() == [found["policies"]["bandit"]]
    again = invoke(*study, "--resume")
    assert "training" not in again.err
    assert invoke("run", "--from", "learned", "--row", "1").code == 0
