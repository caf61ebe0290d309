"""The command line, as its users meet it."""

import ast
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import cli
from agent.commands.progress import Compiling, Progress
from simcore.model.action_types import ACTIONS
from simcore.model.catalogue import CATALOGUE
from simcore.model.inputs import MIXES
from tests.conftest import TINY, Invoke

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"numba", "numpy", "polars", "sklearn", "pydantic", "simpy", "rich", "ruamel"}
NAMES = (
    "run", "eval", "compare", "isolate", "abstain", "ope", "explain", "scenario", "scenario check", "faults", "actions",
    "validate", "rca", "counterfactual", "watch",
)  # fmt: skip
COMMANDS = [(), *(tuple(name.split()) for name in NAMES)]


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    def cpu_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(cpu_s() for _ in range(4)) < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, cli\ntry:\n    cli.main(['eval', '--help'])\nexcept SystemExit:\n    print('|'.join(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.split(".")[0] for name in ran.stdout.splitlines()[-1].split("|")}
    assert "click" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], invoke: Invoke) -> None:
    result = invoke(*command, "--help")
    assert result.code == 0
    assert "Usage: mendsim" in result.out


@pytest.mark.parametrize("version", [(3, 10), (3, 15), (2, 7)])
def test_another_python_is_told_which_ones_will_do(version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    source = (ROOT / "cli.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match=r"needs Python 3.11 to 3.14, this is {}\.{}".format(*version)):
        exec(compile(source, "cli.py", "exec"), {"__name__": "cli"})


def test_scenarios_are_listed_shown_and_described_by_a_schema(invoke: Invoke) -> None:
    listed = invoke("scenario", "list").out
    assert all(name in listed for name in ("three_tier", "online_boutique", "mm4", "w2", "w2_hot"))
    assert "api" in invoke("scenario", "show", "three_tier").out
    assert json.loads(invoke("scenario", "show", "three_tier", "--json").out)["name"] == "three_tier"
    assert "services" in json.loads(invoke("scenario", "schema").out)["properties"]


def test_a_scenario_file_is_checked(tiny: str, invoke: Invoke) -> None:
    result = invoke("scenario", "check", tiny)
    assert result.code == 0
    assert "fine" in result.out


def test_every_mistake_in_a_scenario_file_is_reported_at_once(tmp_path: Path, invoke: Invoke) -> None:
    bad = tmp_path / "bad.yaml"
    text = TINY.replace("threads: 8", "threads: 0", 1).replace("to: db.query", "to: db.quary").replace("slo:", "sloo:")
    bad.write_text(text, encoding="utf-8")
    result = invoke("scenario", "check", bad)
    assert result.code == 2
    assert "services.api.threads must be >= 1, got 0" in result.err
    assert "db.quary" in result.err
    assert "did you mean 'slo'?" in result.err
    assert re.search(r"bad\.yaml:\d+", result.err)


def test_faults_and_actions_are_listed(tiny: str, invoke: Invoke) -> None:
    faults = invoke("faults").out
    assert "latency_spike" in faults
    assert "mended by" in faults
    actions = invoke("actions", "--scenario", tiny).out
    assert "restart(db)" in actions
    assert "clear_cache" not in actions


def test_the_catalogues_come_as_json_too(tiny: str, invoke: Invoke) -> None:
    faults = {row["type"]: row for row in json.loads(invoke("faults", "--json").out)}
    assert set(faults) == set(CATALOGUE)
    assert faults["poison_pill"]["parameters"] == ["pill"]
    assert faults["latency_spike"]["parameters"] == ["network", "demand", "delay"]
    assert faults["expiry"]["lives_in"] == {"credential": 1.0}
    kinds = {row["kind"]: row for row in json.loads(invoke("actions", "--json").out)}
    assert set(kinds) == set(ACTIONS)
    assert kinds["scale"]["undone_by"] == "scale the other way"
    offered = json.loads(invoke("actions", "--scenario", tiny, "--json").out)
    assert [row["action"] for row in offered][:3] == ["noop", "restart(api)", "restart(db)"]
    assert (offered[1]["service"], offered[1]["delay_s"], offered[1]["cost"]) == ("api", 5.0, 0.002)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--scenario", "three_teer"], ["did you mean 'three_tier'?"]),
        (["--episodes", "0", "--seed", "-1"], ["'--episodes'", "'--seed'"]),
        (["--policy", "bandid", "--detector", "nothing"], ["did you mean 'bandit'?", "--detector must be one of"]),
        (["--policy", "noop,noop"], ["names something twice"]),
        (["--no-agent", "--shadow", "--policy", "noop"], ["--no-agent leaves no room for --policy", "--shadow"]),
        (["--onset", "90"], ["no --fault is given"]),
        (["--mix", "uniform", "--fault", "none"], ["--mix uniform says how faults are drawn, but --fault sets them"]),
        (["--mix", "even"], ["'even' is not one of 'default', 'uniform'"]),
        (["--fault", "latency_spik@db", "--onset", "soon"], ["did you mean 'latency_spike'?", "--onset: a time must"]),
        (["--fault", "error_burst@nowhere", "--severity", "2"], ["severity must be > 0 and <= 1", "got 'nowhere'"]),
        (["--policy-in", "missing.json"], ["cannot read missing.json"]),
        (["--out", "no/such/folder/x.csv"], ["there is no folder"]),
        (["--episode", "3"], ["--episodes"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_mistake_on_the_command_line_is_one_clear_line(
    arguments: list[str], messages: list[str], invoke: Invoke
) -> None:
    result = invoke("eval", *arguments)
    assert result.code == 2
    assert all(message in result.err for message in messages), result.err
    assert "Traceback" not in result.err
    assert not result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "3"], "--from RESULTS and --row N belong together"),
        (["--from", "x.csv", "--row", "0", "--seed", "2", "--run", "1"], "leaves no room for --seed, --run"),
        (["--from", "x.csv", "--row", "0", "--mix", "uniform"], "leaves no room for --mix"),
        (["--from", "x.csv", "--row", "0"], "there is no such file"),
        (["--events", "log.txt"], "must name a .csv or .parquet file"),
        (["--json", "--render"], "exclude each other"),
        (["--policy", "noop,bandit"], "takes one name here"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(arguments: list[str], message: str, invoke: Invoke) -> None:
    result = invoke("run", *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_eval_writes_a_row_per_run_with_the_columns_that_matter(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "results.csv"
    result = invoke("eval", "--scenario", tiny, "--episodes", 4, "--out", out)
    assert result.code == 0
    table = pl.read_csv(out)
    assert table.height == 4
    wanted = ["fault_type", "fault_service", "fault_severity", "fault_onset_s", "fault_duration_s"]
    wanted += ["anomaly_steps", "violation_steps", "first_violation_s", "t_r_s"]
    assert set(wanted) <= set(table.columns)
    assert "recov." in result.out
    assert str(out) in result.out


def test_output_to_a_pipe_has_no_colour_and_no_bar(tiny: str, invoke: Invoke) -> None:
    result = invoke("eval", "--scenario", tiny, "--episodes", 2, "--policy", "noop")
    assert "\x1b" not in result.out + result.err
    assert "\r" not in result.out + result.err


def test_quiet_says_nothing_on_stderr(tiny: str, invoke: Invoke) -> None:
    assert invoke("eval", "--scenario", tiny, "--episodes", 2, "--no-agent", "--quiet").err == ""


def test_json_is_one_object_with_what_was_done_and_what_it_took(tiny: str, invoke: Invoke) -> None:
    result = invoke("eval", "--scenario", tiny, "--episodes", 2, "--policy", "noop,bandit", "--threads", 1, "--json")
    found = json.loads(result.out)
    keys = (
        "summary runs requests events wall_s cpu_s requests_per_cpu_s compile_s peak_rss_bytes engine threads versions"
    )
    assert set(keys.split()) <= set(found)
    assert found["runs"] == 4
    assert found["requests"] > 0
    assert found["events"] > found["requests"]
    assert found["threads"] == 1
    assert set(found["summary"]["policies"]) == {"noop", "bandit"}
    assert found["summary"]["compared"][0]["against"] == "noop"


def test_a_folder_that_is_not_empty_needs_force(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "results"
    again = ["eval", "--scenario", tiny, "--episodes", 2, "--no-agent", "--out", out]
    assert invoke(*again).code == 0
    refused = invoke(*again)
    assert refused.code == 2
    assert "--force" in refused.err
    assert invoke(*again, "--force").code == 0


def test_ctrl_c_keeps_the_finished_rounds_and_says_so(
    tiny: str, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(self: Progress, runs: float) -> None:
        if runs > 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "show", press)
    out = tmp_path / "results.csv"
    arguments = ["--scenario", tiny, "--episodes", 8, "--round-size", 2, "--policy", "noop", "--out", out]
    result = invoke("eval", *arguments)
    assert result.code == 1
    assert f"interrupted after 4 finished runs; kept in {out}: 4 runs" in result.err
    assert pl.read_csv(out)["run"].to_list() == [0, 1, 2, 3]
    assert json.loads((tmp_path / "results.csv.meta.json").read_text())["complete"] is False


def test_both_engines_render_the_same_text(tiny: str, invoke: Invoke) -> None:
    arguments = ["run", "--scenario", tiny, "--seed", 3, "--fault", "error_burst@db", "--onset", "15steps", "--render"]
    batch, simpy = (invoke(*arguments, "--engine", engine) for engine in ("batch", "simpy"))
    assert batch.code == simpy.code == 0
    assert batch.out == simpy.out
    for part in ("fault begins: error_burst@db", "suspect: db", "decision: ", "effect of", "Incident report"):
        assert part in batch.out


@pytest.mark.parametrize("name", ["results.csv", "results.parquet", "results"])
def test_any_row_is_replayed_exactly_with_the_policy_of_its_round(
    name: str, tiny: str, tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / name
    arguments = ["--scenario", tiny, "--episodes", 6, "--round-size", 2, "--policy", "noop,bandit", "--out", out]
    assert invoke("eval", *arguments).code == 0
    Path(tiny).unlink()
    for row in (0, 5, 11):
        result = invoke("run", "--from", out, "--row", row)
        assert result.code == 0, result.err
        assert f"replayed row {row}: every value is as stored" in result.err


def test_rows_of_another_mix_of_faults_are_replayed(tmp_path: Path, invoke: Invoke) -> None:
    drawn = {}
    for mix in MIXES:
        out = tmp_path / f"{mix}.csv"
        few = ["--scenario", "clinic", "--episodes", 12, "--steps", 6, "--policy", "noop", "--mix", mix, "--out", out]
        result = invoke("eval", *few)
        assert result.code == 0
        assert ("uniform mix of faults" in result.out) == (mix == "uniform")
        drawn[mix] = pl.read_csv(out)["fault_type"].to_list()
    assert drawn["uniform"] != drawn["default"]
    differing = next(i for i, kinds in enumerate(zip(*drawn.values(), strict=True)) if len(set(kinds)) == 2)
    result = invoke("run", "--from", tmp_path / "uniform.csv", "--row", differing)
    assert result.code == 0, result.err
    assert f"replayed row {differing}: every value is as stored" in result.err


def test_an_evaluation_of_a_scenario_that_draws_no_faults_says_so(invoke: Invoke) -> None:
    few = ["--scenario", "w2", "--episodes", 1, "--steps", 4, "--no-agent"]
    assert "note: scenario w2 draws no faults; aim one with --fault" in invoke("eval", *few).err
    assert "note:" not in invoke("eval", *few, "--quiet").err
    assert "note:" not in invoke("eval", *few, "--fault", "expiry@db", "--onset", 2).err


def test_a_row_is_replayed_when_the_services_are_not_in_the_order_of_the_alphabet(
    tmp_path: Path, invoke: Invoke
) -> None:
    out = tmp_path / "results.csv"
    fault = ["--fault", "net_delay@front:stock", "--onset", 30]
    arguments = ["--scenario", "clinic", "--episodes", 1, "--steps", 20, "--policy", "random", *fault, "--out", out]
    assert invoke("eval", *arguments).code == 0
    result = invoke("run", "--from", out, "--row", 0)
    assert result.code == 0, result.err
    assert "replayed row 0: every value is as stored" in result.err


def test_a_row_that_was_changed_is_not_replayed_in_silence(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "results.csv"
    assert invoke("eval", "--scenario", tiny, "--episodes", 2, "--policy", "noop", "--out", out).code == 0
    table = pl.read_csv(out)
    table.with_columns(pl.col("offered") + 1).write_csv(out)
    result = invoke("run", "--from", out, "--row", 1)
    assert result.code == 1
    assert "the replay differs: offered was" in result.err


def test_a_row_beyond_the_end_is_refused(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "results.csv"
    assert invoke("eval", "--scenario", tiny, "--episodes", 2, "--no-agent", "--out", out).code == 0
    result = invoke("run", "--from", out, "--row", 2)
    assert result.code == 2
    assert "rows are 0 to 1" in result.err


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_event_log_is_exported(suffix: str, tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    file = tmp_path / f"events{suffix}"
    arguments = ["run", "--scenario", tiny, "--no-agent", "--events", file]
    assert invoke(*arguments).code == 0
    table = pl.read_csv(file) if suffix == ".csv" else pl.read_parquet(file)
    assert table["event"][0] == "offered"
    assert table["time_s"].is_sorted()
    refused = invoke(*arguments)
    assert refused.code == 2
    assert "use --force" in refused.err


def test_what_was_learned_is_saved_and_taken_up_again(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    learned = tmp_path / "learned.json"
    common = ["eval", "--scenario", tiny, "--episodes", 6, "--round-size", 3, "--policy", "bandit"]
    assert invoke(*common, "--split", "train", "--policy-out", learned).code == 0
    first = json.loads(learned.read_text())["policies"]["bandit"]
    frozen = invoke(*common, "--freeze", "--policy-in", learned, "--policy-out", tmp_path / "same.json")
    assert frozen.code == 0
    assert "policies frozen" in frozen.out
    assert json.loads((tmp_path / "same.json").read_text())["policies"]["bandit"] == first
    other = invoke("eval", "--scenario", tiny, "--policy", "noop", "--policy-in", learned)
    assert other.code == 2
    assert "holds the policies bandit, none of noop" in other.err


def test_fewer_steps_leave_room_for_the_fault_and_its_follow_up(tiny: str, invoke: Invoke) -> None:
    result = invoke("eval", "--scenario", tiny, "--steps", 24, "--episodes", 4, "--no-agent", "--json")
    assert result.code == 0
    assert json.loads(result.out)["runs"] == 4


def test_compiling_is_announced_once_and_its_time_counted(capfd: pytest.CaptureFixture[str]) -> None:
    import numba

    with Compiling() as compiling:
        for number in (1, 2):
            numba.njit(lambda x, n=number: x + n)(1.0)
    assert compiling.seconds > 0
    assert capfd.readouterr().err.count("compiling the kernels") == 1
    with Compiling(quiet=True):
        numba.njit(lambda x: x * 2)(1.0)
    assert capfd.readouterr().err == ""


def test_an_interrupt_outside_a_round_ends_with_one_line(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simcore.model.loader.load_scenario", interrupted)
    result = invoke("scenario", "show", "three_tier")
    assert result.code == 1
    assert result.err.strip() == "interrupted"


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback() -> None:
    ran = subprocess.run(
        f'"{sys.executable}" "{ROOT / "cli.py"}" scenario schema | head -n 1; exit "${{PIPESTATUS[0]}}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1)
    assert not ran.stderr


def test_the_command_is_installed_under_its_name() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["mendsim"].split(":")
    assert module == "cli"
    assert callable(getattr(cli, function))
