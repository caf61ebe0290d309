"""Memory must not grow with the number of episodes: results are streamed to disk."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.conftest import Holds
from bench.workloads import light_scenario
from simcore.telemetry.writers import read_table

_ROOT = Path(__file__).resolve().parent.parent
_FEW, _MANY = 200, 2_000
_ROUND = 100
#: Peak memory for the many over that for the few.
_GROWTH = 1.2
_MB = 2**20

#: Starts a command in a process of its own. Linux hands the parent's peak on to a child that it starts directly, so
#: that without this a few hundred megabytes of ours would hide all that the child takes.
_STARTER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def _output_of(*command: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-S", "-c", _STARTER, *command], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _evaluate(scenario: Path, episodes: int, out: Path) -> dict[str, Any]:
    what = ["--scenario", str(scenario), "--episodes", str(episodes), "--round-size", str(_ROUND), "--split", "tune"]
    facts: dict[str, Any] = json.loads(
        _output_of(sys.executable, "cli.py", "eval", *what, "--out", str(out), "--force", "--json", "--quiet")
    )
    assert facts["runs"] == episodes
    assert not facts["interrupted"]
    return facts


@pytest.mark.guard
def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path: Path, holds: Holds) -> None:
    scenario = light_scenario(tmp_path)
    # compiles, trains and keeps both: a first run would otherwise take more memory than any later one
    _evaluate(scenario, 1, tmp_path / "warm")
    few, many = (_evaluate(scenario, episodes, tmp_path / str(episodes)) for episodes in (_FEW, _MANY))
    assert few["compile_s"] == many["compile_s"] == 0, "the sources changed meanwhile: a compiler is in the figures"
    assert many["requests"] == pytest.approx(few["requests"] * _MANY / _FEW, rel=0.05)
    assert read_table(tmp_path / str(_MANY), "decisions").height > _MANY / 10
    ratio = many["peak_rss_bytes"] / few["peak_rss_bytes"]
    holds(f"peak memory of {_MANY:,} episodes over that of {_FEW}", ratio, at_most=_GROWTH)


@pytest.mark.guard
def test_what_a_child_hoards_is_seen_and_what_we_hold_is_not() -> None:
    ours = bytearray(300 * _MB)
    tell = "from agent.commands.eval import peak_rss_bytes; print(peak_rss_bytes())"
    small = int(_output_of(sys.executable, "-c", tell))
    large = int(_output_of(sys.executable, "-c", f"hoard = b'x' * (200 * {_MB}); {tell}"))
    assert small < 150 * _MB < len(ours) <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert large > small + 190 * _MB
