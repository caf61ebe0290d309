"""The common layout: one table a case with the columns ``time, <service>_<metric>``, as CSV or Parquet.

A case is a folder with ``metrics.csv`` or ``metrics.parquet`` and ``case.json``; a set is a folder of such folders.
``graph.csv`` with the columns ``caller,callee``, beside the case or above it in the set, is the call graph.
"""

__all__ = ["COLUMNS", "load"]

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.realdata.case import N_SIGNALS, Case
from agent.evaluation.realdata.reading import number, read_json, rows_of
from agent.history import WINDOW, WIRE_S
from simcore.errors import InputError, suggest
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Metric names of the layout -> column of ours; seconds, fractions, and requests per second.
COLUMNS: dict[str, int] = {
    "p50": Metric.P50_S, "latency-50": Metric.P50_S, "latency": Metric.P50_S,
    "p95": Metric.P95_S, "latency-95": Metric.P95_S, "latency-90": Metric.P95_S,
    "p99": Metric.P99_S, "latency-99": Metric.P99_S,
    "errors": Metric.ERROR_RATE, "error": Metric.ERROR_RATE,
    "cpu": Metric.CPU_UTIL, "mem": Metric.MEMORY_FRAC, "memory": Metric.MEMORY_FRAC,
    "rate": Metric.REQUEST_RATE_RPS, "load": Metric.REQUEST_RATE_RPS, "workload": Metric.REQUEST_RATE_RPS,
    "inflight": Metric.IN_FLIGHT, "queue": Metric.QUEUE_LENGTH, "hits": Metric.HIT_RATIO, "wire": WIRE_S,
}  # fmt: skip
_KEYS = {"onset", "diagnosed", "root_cause", "entry"}
_SYMPTOM = [
    Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.ERROR_RATE, Metric.REQUEST_RATE_RPS, Metric.IN_FLIGHT,
]  # fmt: skip


def load(folder: Path) -> list[Case]:
    """Return the cases of a folder in the common layout, by name.

    ``case.json`` holds ``root_cause`` (a service or a list of them) and ``onset``, and may hold ``diagnosed`` (a time;
    else the last row) and ``entry`` (the service that shows the symptom; else the one that calls and is not called).

    Raises
    ------
    InputError
        If a file is missing or not in the format; names file and rule.
    """
    found = sorted(folder.rglob("case.json"))
    if not found:
        raise InputError(f"{folder} must hold folders with case.json and metrics.csv or metrics.parquet, found none")
    return [_case(path, folder) for path in found]


def _case(path: Path, top: Path) -> Case:
    told = _told(path)
    file, names, values = _read(path.parent)
    order = np.argsort(values[:, 0], kind="stable")
    times, values = values[order, 0], values[order]
    services = tuple(sorted({name.rpartition("_")[0] for name in names[1:] if name.rpartition("_")[2] in COLUMNS}))
    if not services:
        raise InputError(f"{file} must have columns <service>_<metric>, metric one of {', '.join(COLUMNS)}")
    signals = np.full((len(times), len(services) + 1, N_SIGNALS), np.nan)
    for column, name in enumerate(names[1:], start=1):
        service, _, metric = name.rpartition("_")
        if metric in COLUMNS:
            signals[:, services.index(service), COLUMNS[metric]] = values[:, column]
    calls = _graph(path.parent, top, services)
    entry = int(np.argmax(np.where(calls.any(0), -1, calls.sum(1))))
    if told["entry"] is not None:
        entry = _service(told["entry"], services, f"{path}: entry")
    signals[:, -1, _SYMPTOM] = signals[:, entry, _SYMPTOM]
    onset, end = (int(np.searchsorted(times, told[key])) for key in ("onset", "diagnosed"))
    end = min(end, len(times) - 1)
    if not 2 <= onset <= end:
        raise InputError(f"{path}: onset must lie within {file.name}, after two rows at least, got {told['onset']:g}")
    begin = max(0, end + 1 - WINDOW)
    return Case(
        name=str(path.parent.relative_to(top)) if path.parent != top else top.name,
        services=services,
        calls=calls,
        entry=entry,
        step_s=float(np.median(np.diff(times))),
        normal=signals[:onset],
        series=signals[begin : end + 1],
        onset=max(0, onset - begin),
        truth=frozenset(_service(name, services, f"{path}: root_cause") for name in told["root_cause"]),
    )


def _told(path: Path) -> dict[str, Any]:
    told = read_json(path)
    if not isinstance(told, dict) or not isinstance(told.get("onset"), int | float) or not told.get("root_cause"):
        raise InputError(f"{path} must hold root_cause and onset, a number")
    if unknown := set(told) - _KEYS:
        raise InputError(f"{path} may hold {', '.join(sorted(_KEYS))}, got {', '.join(sorted(unknown))}")
    causes = told["root_cause"]
    causes = [causes] if isinstance(causes, str) else causes
    return {"diagnosed": math.inf, "entry": None} | told | {"root_cause": causes}


def _service(name: Any, services: tuple[str, ...], where: str) -> int:
    if name not in services:
        raise InputError(f"{where} must be a service of the table, got {name!r}{suggest(str(name), services)}")
    return services.index(name)


def _read(folder: Path) -> tuple[Path, list[str], Floats]:
    """Return the file, its column names with time first, and (row, column) values."""
    parquet, csv = folder / "metrics.parquet", folder / "metrics.csv"
    if parquet.exists():
        import polars as pl

        try:
            table = pl.read_parquet(parquet)
            names, values = table.columns, table.cast(pl.Float64).to_numpy()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"cannot read {parquet}: {error}") from None
        file = parquet
    else:
        rows = rows_of(csv)
        names, file = rows[0], csv
        odd = [str(i) for i, row in enumerate(rows[1:], start=2) if len(row) != len(names)]
        if odd:
            raise InputError(f"{csv} must have {len(names)} cells in every row, not so in line {', '.join(odd[:5])}")
        values = np.array([[number(cell) for cell in row] for row in rows[1:]]).reshape(-1, len(names))
    if names[0] != "time" or len(values) < 3 or np.isnan(values[:, 0]).any():
        raise InputError(f"{file} must begin with the column time, a number in every row, and have three rows at least")
    return file, list(names), values


def _graph(folder: Path, top: Path, services: tuple[str, ...]) -> Bools:
    """Return (service, service) of the nearest ``graph.csv``, up to the top of the set; all False without one."""
    calls = np.zeros((len(services), len(services)), np.bool_)
    for place in [folder, *folder.parents]:
        path = place / "graph.csv"
        if path.exists():
            rows = rows_of(path)
            if rows[0] != ["caller", "callee"] or any(len(row) != 2 for row in rows):
                raise InputError(f"{path} must have the columns caller,callee")
            for caller, callee in rows[1:]:
                calls[_service(caller, services, f"{path}: caller"), _service(callee, services, f"{path}: callee")] = (
                    True
                )
            break
        if place == top:
            break
    return calls
