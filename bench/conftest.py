"""What all benchmarks share: CPU time as the clock, and a table of work per CPU-second after pytest-benchmark's own."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from bench.measure import SPINS, calibration, cpu_s

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


class Timed(Protocol):
    """Measures a piece of work and checks what it did."""

    def __call__(
        self, group: str, what: str, piece: Callable[[], T], *, done: Callable[[T], Mapping[str, int]], rounds: int = 3
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


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS], config.stash[_CALIBRATIONS] = [], []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Wall time on a machine that others use says more about them than about us.
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.fixture
def timed(benchmark: Any, request: pytest.FixtureRequest) -> Timed:
    """Return a function that measures and adds a line to the table."""
    rows, calibrations = request.config.stash[_ROWS], request.config.stash[_CALIBRATIONS]

    def run(
        group: str, what: str, piece: Callable[[], T], *, done: Callable[[T], Mapping[str, int]], rounds: int = 3
    ) -> T:
        benchmark.group = group
        result: T = benchmark.pedantic(piece, rounds=rounds, warmup_rounds=1)
        counts = done(result)
        if benchmark.stats is not None:
            calibrations.append(cpu_s(calibration))
            benchmark.extra_info.update(counts, calibration_s=calibrations[-1])
            rows.append(Row(group, what, counts, benchmark.stats["min"]))
        return result

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows, calibrations = config.stash[_ROWS], config.stash[_CALIBRATIONS]
    if not rows:
        return
    tell = terminalreporter.write_line
    terminalreporter.section("work per CPU-second, best round")
    for group, members in itertools.groupby(sorted(rows, key=lambda row: row.group), key=lambda row: row.group):
        base = None
        for row in members:
            base = base or row.rate
            unit, *others = row.done
            more = "".join(f"   {row.done[other] / row.best_s:,.0f} {other}" for other in others)
            tell(f"{group:<12}{row.what:<28}{row.rate:>14,.0f} {unit:<12}{row.rate / base:>8.2f}{more}")
    fastest, slowest = SPINS / min(calibrations) / 1e6, SPINS / max(calibrations) / 1e6
    tell(f"calibration loop: {fastest:,.0f} million mixes per CPU-second at best, {slowest:,.0f} at worst")
