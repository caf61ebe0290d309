"""What all benchmarks share: CPU time as the clock, and a table of work per CPU-second after pytest-benchmark's own."""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from agent.evaluation.profiling.clocks import cpu_s
from bench.measure import SPINS, bounded, calibration

T = TypeVar("T")

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    group: str
    what: str
    done: Mapping[str, int]
    best_s: float

    @property
    def rate(self) -> float:
        """Units of work (the first count) per CPU-second."""
        return next(iter(self.done.values())) / self.best_s


_ROWS = pytest.StashKey[list[Row]]()
_CALIBRATIONS = pytest.StashKey[list[float]]()
_HELD = pytest.StashKey[list[str]]()


class Timed(Protocol):
    """Measures a piece of work and checks what it did."""

    def __call__(
        self, group: str, what: str, piece: Callable[[], T], *, done: Callable[[T], Mapping[str, int]], rounds: int = 20
    ) -> T:
        """Return what the last round returned.

        Parameters
        ----------
        group, what
            Place in the table; the rows of a group are compared with its first one.
        piece
            The work; done once more beforehand, which compiles and does not count.
        done
            Checks the result and says how much was done, the unit of the table first.
        rounds
            How often it is timed; the best one counts.
        """


class Holds(Protocol):
    """Checks a ratio that must hold, and keeps it for the end of the run."""

    def __call__(self, what: str, ratio: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Note the ratio; fail if it is out of bounds.

        Raises
        ------
        AssertionError
            Naming the ratio and its bound.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--notes", type=Path, help="append every benchmark to this file as it is done, as JSON lines")
    parser.addoption("--rounds-at-most", type=int, default=1000, help="time nothing more often than this")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS], config.stash[_CALIBRATIONS], config.stash[_HELD] = [], [], []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Wall time on a machine that others use says more about them than about us.
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.fixture
def timed(benchmark: Any, request: pytest.FixtureRequest) -> Timed:
    """Return a function that measures and adds a line to the table."""
    rows, calibrations = request.config.stash[_ROWS], request.config.stash[_CALIBRATIONS]
    notes, at_most = request.config.getoption("--notes"), request.config.getoption("--rounds-at-most")

    def run(
        group: str, what: str, piece: Callable[[], T], *, done: Callable[[T], Mapping[str, int]], rounds: int = 20
    ) -> T:
        benchmark.group = group
        result: T = benchmark.pedantic(piece, rounds=min(rounds, at_most), warmup_rounds=1)
        counts = done(result)
        if benchmark.stats is not None:
            calibrations.extend(cpu_s(calibration) for _ in range(5))
            benchmark.extra_info.update(counts, calibration_s=min(calibrations[-5:]))
            rows.append(Row(group, what, counts, benchmark.stats["min"]))
            if notes is not None:
                _note(notes, request.node.nodeid, rows[-1], min(calibrations[-5:]))
        return result

    return run


def _note(path: Path, name: str, row: Row, calibration_s: float) -> None:
    """Append a benchmark to a file that another process reads."""
    whole = {"name": name, **dataclasses.asdict(row), "calibration_s": calibration_s}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(whole) + "\n")


@pytest.fixture
def holds(request: pytest.FixtureRequest) -> Holds:
    """Return a function that checks a ratio and adds a line to the list of guards."""

    def check(what: str, ratio: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        held, line = bounded(what, ratio, at_least=at_least, at_most=at_most)
        request.config.stash[_HELD].append(line)
        assert held, line

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_HELD]:
        terminalreporter.section("guards")
        for line in config.stash[_HELD]:
            terminalreporter.write_line(line)
    if config.stash[_ROWS]:
        terminalreporter.section("work per CPU-second, best round")
        _tell_rates(config.stash[_ROWS], config.stash[_CALIBRATIONS], terminalreporter.write_line)


def _tell_rates(rows: list[Row], calibrations: list[float], tell: Callable[[str], None]) -> None:
    """Tell a line for every row, in units of the first one of its group, and how steady the machine was."""
    for group, members in itertools.groupby(sorted(rows, key=lambda row: row.group), key=lambda row: row.group):
        base = None
        for row in members:
            base = base or row.rate
            unit, *others = row.done
            more = "".join(f"   {row.done[other] / row.best_s:,.0f} {other}" for other in others)
            tell(f"{group:<12}{row.what:<28}{row.rate:>14,.0f} {unit:<12}{row.rate / base:>8.2f}{more}")
    fastest, slowest = SPINS / min(calibrations) / 1e6, SPINS / max(calibrations) / 1e6
    tell(f"calibration loop: {fastest:,.0f} million rounds per CPU-second at best, {slowest:,.0f} at worst")
