"""Benchmark results kept, and compared with later ones: ratio, noise, verdict."""

__all__ = ["BOUND", "Baseline", "Entry", "Row", "Verdict", "compare", "drift", "machine", "read_baseline"]

import dataclasses
import enum
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from simcore.errors import ResultsError
from simcore.telemetry.files import write_json

#: Changes below this share are not called changes, however quiet the machine is.
BOUND = 0.05
#: Two measurements of the same thing differ by less than so many times the noise.
_SURE = 2.0
_KIND = "mendsim benchmarks"


def machine() -> dict[str, str]:
    """Return what must be the same for times to be comparable."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        model = found[1].strip() if found else model
    return {
        "processor": model,
        "architecture": platform.machine(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
    }


@dataclass(slots=True)
class Entry:
    """One benchmark over several passes."""

    group: str
    what: str
    unit: str  #: of the work that is counted first
    done: int  #: how much of it a round does
    best_s: list[float] = field(default_factory=list)  #: (pass,) CPU time of the best round


@dataclass(slots=True)
class Baseline:
    """What a run of the suite came to."""

    machine: dict[str, str]
    versions: dict[str, str]
    entries: dict[str, Entry] = field(default_factory=dict)  #: by name of the test
    calibration_s: list[float] = field(default_factory=list)  #: of the loop that tells how fast the machine is
    commit: str | None = None
    complete: bool = True  #: not interrupted

    def add(self, note: Mapping[str, Any]) -> None:
        """Take in one benchmark of one pass."""
        unit, done = next(iter(note["done"].items()))
        new = Entry(note["group"], note["what"], unit, done)
        self.entries.setdefault(note["name"], new).best_s.append(note["best_s"])
        self.calibration_s.append(note["calibration_s"])

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"kind": _KIND, **dataclasses.asdict(self)})


def read_baseline(path: Path) -> Baseline:
    """Return what ``Baseline.save`` wrote.

    Raises
    ------
    ResultsError
        If there is no such file, or it holds something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("kind") != _KIND:
            raise KeyError("kind")
        entries = {name: Entry(**entry) for name, entry in plain.pop("entries").items()}
        return Baseline(entries=entries, **plain)
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ResultsError(f"{path} holds no saved benchmarks") from None


class Verdict(enum.StrEnum):
    """What can be said of a benchmark."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no change shown"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Row:
    """A benchmark against the same one in the baseline."""

    name: str
    entry: Entry  #: the present one; of a benchmark that is gone, the baseline's
    ratio: float  #: CPU time now over then, at the same speed of the machine; nan without a partner
    noise: float  #: relative uncertainty of the ratio; nan without a partner
    verdict: Verdict

    @property
    def rate(self) -> float:
        """Units of work per CPU-second in the best round of all passes."""
        return self.entry.done / min(self.entry.best_s)


def drift(now: Baseline, then: Baseline) -> float:
    """Return how many times as long the calibration loop takes now."""
    return min(now.calibration_s) / min(then.calibration_s)


def compare(now: Baseline, then: Baseline, *, bound: float = BOUND) -> list[Row]:
    """Return a row for every benchmark of either, in the order of ``now``.

    Times are minima over all passes, divided by what the calibration loop took, since another day's machine may be
    slower. How far the second best pass is from the best tells the noise of a benchmark, but not less than is usual
    in the suite; half of the drift of the calibration loop is noise too: a slow spell does not slow everything alike.

    Parameters
    ----------
    now, then
        From the same machine.
    bound
        Smaller changes are not called changes.
    """
    speed = drift(now, then)
    usual = math.hypot(_usual(now), _usual(then))
    rows = []
    for name, entry in now.entries.items():
        old = then.entries.get(name)
        if old is None:
            rows.append(Row(name, entry, math.nan, math.nan, Verdict.NEW))
            continue
        ratio = (min(entry.best_s) / entry.done) / (min(old.best_s) / old.done) / speed
        noise = math.hypot(max(usual, math.hypot(_gap(entry), _gap(old))), (speed - 1.0) / 2.0)
        rows.append(Row(name, entry, ratio, noise, _verdict(ratio, max(bound, _SURE * noise))))
    gone = [name for name in then.entries if name not in now.entries]
    return rows + [Row(name, then.entries[name], math.nan, math.nan, Verdict.GONE) for name in gone]


def _verdict(ratio: float, margin: float) -> Verdict:
    if ratio > 1.0 + margin:
        return Verdict.SLOWER
    return Verdict.FASTER if ratio < 1.0 / (1.0 + margin) else Verdict.SAME


def _gap(entry: Entry) -> float:
    """Return how far the second best pass was from the best, relative; 0 of a single pass."""
    best = sorted(entry.best_s)
    return best[1] / best[0] - 1.0 if len(best) > 1 else 0.0


def _usual(baseline: Baseline) -> float:
    gaps: Sequence[float] = [_gap(entry) for entry in baseline.entries.values() if len(entry.best_s) > 1]
    return median(gaps) if gaps else BOUND / _SURE
