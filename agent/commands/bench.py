"""``mendsim bench``: the benchmark suite, and whether anything got slower."""

__all__ = ["bench"]

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.files import check_file

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes
    from agent.evaluation.benchmarks import Baseline, Row

_HOUSE = Path(__file__).resolve().parent.parent.parent
#: Where baselines with a name are kept.
_KEPT = _HOUSE / ".benchmarks"
#: Rounds of a benchmark at most, and passes through the suite, with --quick.
_QUICK_ROUNDS, _QUICK_PASSES = 5, 2
_PASSES = 3
#: How often what seems slower is measured once more before it is believed.
_MORE = 2


@click.command(cls=Command, short_help="The benchmark suite; did anything get slower?")
@option("--against", metavar="NAME|FILE", help="Compare with this saved baseline.")
@option("--save", metavar="NAME|FILE", help="Keep the results: a name, or a .json file.")
@option("--force", is_flag=True, show_default=False, help="Replace the results kept there.")
@option("--only", metavar="EXPRESSION", help="Of the suite, as pytest's -k takes it: w2, or 'w2 and batch'.")
@option("--passes", type=click.IntRange(2, 50), metavar="N", help="Through the suite; else 3, with --quick 2.")
@option("--quick", is_flag=True, show_default=False, help="Fewer rounds and passes: more noise.")
@option("--bound", type=click.FloatRange(0, 10), metavar="X", default=0.05, help="Smaller changes are no changes.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def bench(**options: Any) -> int:
    """Run the benchmarks of the repository and compare them with saved ones from the same machine.

    Exits with 1 if a benchmark is slower by more than the bound and twice the noise, also when measured again.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    _check_suite(mistakes)
    target = None if options["save"] is None else _path_of(options["save"])
    if target is not None and _is_name(options["save"]):
        if target.exists() and not options["force"]:
            mistakes.lines.append(f"--save: a baseline {options['save']} exists; use --force to replace it")
    elif target is not None:
        check_file("--save", options["save"], options["force"], mistakes, (".json",))
    baseline = None if options["against"] is None else _baseline(options["against"], mistakes)
    mistakes.report()

    suite = _Suite(options)
    suite.run()
    if baseline is not None and not suite.interrupted:
        suite.confirm(baseline, options["bound"])
    if target is not None and suite.found.entries:
        suite.found.save(target)
    return _report(suite, baseline, target, options)


def _check_suite(mistakes: "Mistakes") -> None:
    """Note if the suite or what it runs under is missing."""
    if not (_HOUSE / "bench" / "workloads.py").exists():
        mistakes.lines.append("the benchmarks are in mendsim's repository, not in the installed package: run it there")
    missing = [name for name in ("pytest", "pytest_benchmark") if importlib.util.find_spec(name) is None]
    if missing:
        mistakes.lines.append(f"the benchmarks need {' and '.join(missing)}: install mendsim[dev]")


def _is_name(text: str) -> bool:
    return text.replace("-", "").replace("_", "").isalnum()


def _path_of(text: str) -> Path:
    return _KEPT / f"{text}.json" if _is_name(text) else Path(text)


def _baseline(text: str, mistakes: "Mistakes") -> "Baseline | None":
    """Return the baseline to compare with, unless it cannot be read or is another machine's."""
    from agent.evaluation.benchmarks import machine, read_baseline
    from simcore.errors import ResultsError

    path = _path_of(text)
    if _is_name(text) and not path.exists():
        known = ", ".join(sorted(each.stem for each in _KEPT.glob("*.json"))) or "none"
        mistakes.lines.append(f"--against: there is no baseline {text} (known: {known}); make one with --save {text}")
        return None
    try:
        found = read_baseline(path)
    except ResultsError as error:
        mistakes.lines.append(f"--against: {error}")
        return None
    here = machine()
    other = [f"{key} {found.machine.get(key)!r} there, {value!r} here" for key, value in here.items()]
    other = [line for line, (key, value) in zip(other, here.items(), strict=True) if found.machine.get(key) != value]
    if other:
        mistakes.lines.append(f"--against: {text} is from another machine and says nothing here: {'; '.join(other)}")
    if not found.entries or not found.calibration_s:
        mistakes.lines.append(f"--against: {text} holds no benchmark")
    return found


class _Suite:
    """Runs the suite pass by pass, in a process of its own each."""

    def __init__(self, options: dict[str, Any]) -> None:
        from agent.evaluation.benchmarks import Baseline, machine
        from simcore.telemetry.writers import versions

        self._options = options
        self.passes = options["passes"] or (_QUICK_PASSES if options["quick"] else _PASSES)
        self.found = Baseline(machine=machine(), versions=versions(), commit=_commit())
        self.interrupted = False
        self.failed = ""  #: what pytest said, if a benchmark's own check failed
        self.confirmed = 0  #: passes beyond the usual ones

    def run(self) -> None:
        """Go through the suite as often as it takes, until Ctrl-C or a failure."""
        for number in range(self.passes):
            self._tell(f"pass {number + 1} of {self.passes}")
            if not self._once(["bench"]):
                break

    def confirm(self, baseline: "Baseline", bound: float) -> None:
        """Measure once more what seems slower: noise only ever adds time."""
        from agent.evaluation.benchmarks import Verdict, compare

        for _ in range(_MORE):
            if self.failed or not self.found.entries:
                return
            rows = compare(self.found, baseline, bound=bound)
            names = [row.name for row in rows if row.verdict is Verdict.SLOWER]
            if not names:
                return
            self.confirmed += 1
            self._tell(f"once more: {len(names)} that seem slower")
            if not self._once(names):
                return

    def _once(self, what: list[str]) -> bool:
        """Run some of the suite and take in its notes; False if that was the last time."""
        with tempfile.TemporaryDirectory() as folder:
            notes = Path(folder) / "notes.jsonl"
            command = [
                sys.executable, "-m", "pytest", *what, "-q", "-m", "not guard", "-p", "no:cacheprovider",
                "-p", "no:xdist", "--notes", str(notes),
            ]  # fmt: skip
            if self._options["only"] and what == ["bench"]:
                command += ["-k", self._options["only"]]
            if self._options["quick"]:
                command += ["--rounds-at-most", str(_QUICK_ROUNDS)]
            with (Path(folder) / "said.txt").open("w+", encoding="utf-8") as said:
                code = self._wait(command, said, notes)
                said.seek(0)
                text = said.read()
            for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []:
                self.found.add(json.loads(line))
        if code and not self.interrupted:
            self.failed = text
        self.found.complete = not self.interrupted and not self.failed
        return self.found.complete

    def _wait(self, command: list[str], said: Any, notes: Path) -> int:
        """Wait for a process, saying what it has done; Ctrl-C reaches it too, and ends it."""
        # A pytest around this one, as in the tests, is none of its business.
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        with subprocess.Popen(command, cwd=_HOUSE, stdout=said, stderr=subprocess.STDOUT, env=own) as process:
            told = 0
            try:
                while True:
                    ended = process.poll()
                    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
                    for line in lines[told:]:
                        note = json.loads(line)
                        self._tell(f"  {note['group']}: {note['what']}")
                    told = len(lines)
                    if ended is not None:
                        return ended
                    time.sleep(0.2)
            except KeyboardInterrupt:
                self.interrupted = True
                process.terminate()
                process.wait()
                return 1

    def _tell(self, what: str) -> None:
        if not self._options["quiet"]:
            click.echo(what, err=True)


def _commit() -> str | None:
    """Return the commit of the sources, None if nobody knows."""
    try:
        ended = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=_HOUSE, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return ended.stdout.strip() or None if ended.returncode == 0 else None


def _report(suite: _Suite, baseline: "Baseline | None", target: Path | None, options: dict[str, Any]) -> int:
    """Tell what was found, and return the exit code."""
    from agent.evaluation.benchmarks import Verdict, compare, drift

    found = suite.found
    if suite.failed:
        click.echo(suite.failed.rstrip()[-3000:], err=True)
        none = "no tests ran" in suite.failed or "deselected" in suite.failed and not found.entries
        why = f"no benchmark fits --only {options['only']}" if none else "a benchmark failed its own check"
        click.echo(f"error: {why}", err=True)
    if suite.interrupted:
        click.echo(f"interrupted; finished at least once: {len(found.entries)}", err=True)
    rows: list[Row] = []
    if baseline is not None and found.entries:
        rows = compare(found, baseline, bound=options["bound"])
        if options["only"] or not found.complete:
            # what was not run is not gone
            rows = [row for row in rows if row.verdict is not Verdict.GONE]
    slower = [row for row in rows if row.verdict is Verdict.SLOWER]
    if options["as_json"]:
        speed = drift(found, baseline) if baseline is not None and found.entries else None
        whole = {
            **dataclasses.asdict(found), "drift": speed, "rows": [_plain(row) for row in rows], "slower": len(slower),
        }  # fmt: skip
        click.echo(json.dumps(whole, indent=2, allow_nan=False))
    elif found.entries:
        click.echo(_compared(suite, baseline, rows, options) if baseline is not None else _listed(found))
        if target is not None:
            click.echo(f"saved in {target.name if _is_name(options['save']) else target}")
    return int(bool(suite.failed or suite.interrupted or slower))


def _plain(row: "Row") -> dict[str, Any]:
    known = math.isfinite(row.ratio)
    return {
        "name": row.name, "group": row.entry.group, "what": row.entry.what, "verdict": row.verdict.value,
        "ratio": row.ratio if known else None, "noise": row.noise if known else None,
    }  # fmt: skip


def _listed(found: "Baseline") -> str:
    """Return the results as a table of work per CPU-second."""
    lines = [f"{'group':<12}{'what':<26}{'a CPU-second':>15} {'':<11}{'best':>9}  passes"]
    for entry in found.entries.values():
        best = min(entry.best_s)
        lines.append(
            f"{entry.group:<12}{entry.what[:25]:<26}{entry.done / best:>15,.0f} {entry.unit:<11}"
            f"{1e3 * best:>6,.1f} ms  {_spread(entry.best_s)}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _spread(best_s: list[float]) -> str:
    return f"+{max(best_s) / min(best_s) - 1.0:.1%}" if len(best_s) > 1 else "one"


def _compared(suite: _Suite, baseline: "Baseline", rows: "list[Row]", options: dict[str, Any]) -> str:
    """Return the comparison as a table, slowest first."""
    from agent.evaluation.benchmarks import Verdict, drift

    lines = [f"{'group':<12}{'what':<26}{'a CPU-second':>13}{'ratio':>8}{'noise':>7}  verdict"]
    for row in sorted(rows, key=lambda row: -row.ratio if math.isfinite(row.ratio) else math.inf):
        known = math.isfinite(row.ratio)
        cells = f"{row.ratio:>8.3f}{row.noise:>7.1%}" if known else f"{'':>15}"
        lines.append(f"{row.entry.group:<12}{row.entry.what[:25]:<26}{row.rate:>13,.0f}{cells}  {row.verdict.value}")
    count = {verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict}
    speed = drift(suite.found, baseline)
    lines += [
        "",
        ", ".join(f"{count[verdict]} {verdict.value}" for verdict in Verdict if count[verdict]) + ";",
        f"baseline {options['against']}, commit {baseline.commit or 'unknown'}.",
        f"ratio: CPU time now over then, best of {suite.passes} passes, at the same speed of the",
        f"machine: its calibration loop takes {speed:.3f} times as long.",
        f"A change is one beyond {options['bound']:.0%} and twice the noise.",
    ]
    if suite.confirmed:
        often = "once" if suite.confirmed == 1 else "twice"
        lines.append(f"What seemed slower at first was measured {often} more.")
    differing = [
        f"{name} {baseline.versions.get(name)} then, {version} now"
        for name, version in suite.found.versions.items()
        if baseline.versions.get(name) != version
    ]
    if differing:
        lines.append("Other versions: " + "; ".join(differing))
    if abs(speed - 1.0) > 0.1:
        lines.append("The machine's speed has changed by more than a tenth: believe only large ratios.")
    return "\n".join(line.rstrip() for line in lines)
