"""Nezha (Yu et al., FSE 2023): faults injected into benchmark systems, with metrics of every pod each minute.

A set is a folder with ``fault_list.json``, ``*_metric.csv`` (one a pod), ``dependency.csv`` and, where they exist,
``front_service.csv`` and medians of the calls' latencies (``source_50.csv`` at the caller, ``destination_50.csv``).
"""

__all__ = ["load"]

from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.evaluation.realdata.case import N_SIGNALS, Case
from agent.evaluation.realdata.reading import number, read_json, rows_of, utc_s
from agent.history import WINDOW, WIRE_S
from simcore.errors import InputError
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Column of a pod's file -> (column of ours, factor).
_POD = {
    "CpuUsageRate(%)": (Metric.CPU_UTIL, 0.01),
    "MemoryUsageRate(%)": (Metric.MEMORY_FRAC, 0.01),
    "PodServerLatencyP95(s)": (Metric.P95_S, 1.0),
    "PodServerLatencyP99(s)": (Metric.P99_S, 1.0),
    "PodWorkload(Ops)": (Metric.REQUEST_RATE_RPS, 1.0),
}
_FRONT = {
    "LatencyP50(s)": Metric.P50_S,
    "LatencyP95(s)": Metric.P95_S,
    "LatencyP99(s)": Metric.P99_S,
}
_STEP_S = 60.0
#: How long a fault lasts, and until when after its beginning a scrape may still show it.
_FAULT_S, _AFTER_S = 180.0, 300.0


def load(folder: Path) -> list[Case]:
    """Return the cases of a Nezha folder, one for each fault of ``fault_list.json``.

    Raises
    ------
    InputError
        If a file is missing or not in the format; names file and rule.
    """
    pods = sorted(folder.glob("*_metric.csv"))
    if not pods:
        raise InputError(f"{folder} must hold a file POD_metric.csv for each pod, found none")
    faults = _faults(folder / "fault_list.json", [path.name.removesuffix("_metric.csv") for path in pods])
    # a pod's name is that of its service, of its replica set, and its own
    services = tuple(path.name.removesuffix("_metric.csv").rsplit("-", 2)[0] for path in pods)
    tables = [_timed(path) for path in pods]
    first = min(times.min() for times, _, _ in tables)
    n = 1 + max(int(_slots(times, first).max()) for times, _, _ in tables)
    signals = np.full((n, len(services) + 1, N_SIGNALS), np.nan)
    for i, (times, names, values) in enumerate(tables):
        for column, (to, factor) in _POD.items():
            if column not in names:
                raise InputError(f"{pods[i]} must have the column {column}")
            signals[_slots(times, first), i, to] = factor * values[:, names.index(column)]
    calls = _dependencies(folder / "dependency.csv", services)
    _add_wire(signals, folder, services, calls, first)
    entry = _entry(calls)
    _add_front(signals, folder / "front_service.csv", entry, first)
    return _cases(signals, services, calls, entry, faults, first)


def _faults(path: Path, pods: list[str]) -> list[tuple[str, float, int]]:
    """Return (name, time, service) of every fault."""
    found, listed = [], read_json(path)
    try:
        for entry in [entry for part in listed.values() for entry in part]:
            at = utc_s(entry["inject_time"])
            if entry["inject_pod"] not in pods or np.isnan(at):
                raise InputError(f"{path}: inject_pod must have a metric file and inject_time be a time, got {entry}")
            name = f"{entry['inject_time'][11:]} {entry['inject_type']}"
            found.append((name, at, pods.index(entry["inject_pod"])))
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{path} must list faults with inject_time, inject_pod and inject_type") from None
    if not found:
        raise InputError(f"{path} must list at least one fault")
    return found


def _timed(path: Path) -> tuple[Floats, list[str], Floats]:
    """Return (row,) times, column names, and (row, column) values; rows without a time or with odd length are left out.

    Only the text in the first column tells the time, the integer stamps beside it are unreliable.
    """
    rows = rows_of(path)
    names = rows[0]
    body = [row for row in rows[1:] if len(row) == len(names) and not np.isnan(utc_s(row[0]))]
    if not body:
        raise InputError(f"{path} must hold rows that begin with a time, found none")
    times = np.array([utc_s(row[0]) for row in body])
    return times, names, np.array([[number(cell) for cell in row] for row in body])


def _slots(times: Floats, first: float) -> Ints:
    return np.maximum(0, np.rint((times - first) / _STEP_S)).astype(np.int64)


def _dependencies(path: Path, services: tuple[str, ...]) -> Bools:
    rows = rows_of(path)
    if rows[0][:2] != ["Source", "Target"]:
        raise InputError(f"{path} must begin with Source,Target, got {','.join(rows[0])}")
    calls = np.zeros((len(services), len(services)), np.bool_)
    for row in rows[1:]:
        if len(row) >= 2 and row[0] in services and row[1] in services:  # nodes of the cluster are listed too
            calls[services.index(row[0]), services.index(row[1])] = True
    return calls


def _entry(calls: Bools) -> int:
    """Return the service that nobody calls and that calls most others."""
    return int(np.argmax(np.where(calls.any(0), -1, calls.sum(1))))


def _add_wire(signals: Floats, folder: Path, services: tuple[str, ...], calls: Bools, first: float) -> None:
    """Fill in what calls to a service take beyond its own answer, mean over its callers, in place.

    The callers that are seen calling are added to the graph.
    """
    both = [folder / name for name in ("source_50.csv", "destination_50.csv")]
    if not all(path.exists() for path in both):
        return
    (t_source, edges, seen), (t_served, others, served) = (_timed(path) for path in both)
    source = np.full((len(signals), len(edges)), np.nan)
    answer = source.copy()
    n = len(signals)
    for times, target, names, values in ((t_source, source, edges, seen), (t_served, answer, others, served)):
        slots = _slots(times, first)
        for column, edge in enumerate(names):
            if edge in edges:
                target[slots[slots < n], edges.index(edge)] = values[slots < n, column]
    for callee, name in enumerate(services):
        of = [i for i, edge in enumerate(edges) if edge.endswith(f"_{name}") and edge[: -len(name) - 1] in services]
        if not of:
            continue
        calls[[services.index(edges[i][: -len(name) - 1]) for i in of], callee] = True
        gaps = source[:, of] - answer[:, of]
        known = ~np.isnan(gaps)
        total = np.where(known, gaps, 0.0).sum(1)
        signals[:, callee, WIRE_S] = np.divide(total, known.sum(1), out=np.full(n, np.nan), where=known.any(1))


def _add_front(signals: Floats, path: Path, entry: int, first: float) -> None:
    """Fill in the symptom from what clients see of the front service, else from its pod, in place."""
    shown = [Metric.P95_S, Metric.P99_S, Metric.REQUEST_RATE_RPS]
    signals[:, -1, shown] = signals[:, entry, shown]
    if not path.exists():
        return
    times, names, values = _timed(path)
    slots = _slots(times, first)
    values, slots = values[slots < len(signals)], slots[slots < len(signals)]
    for column, to in _FRONT.items():
        if column in names:
            signals[slots, -1, to] = values[:, names.index(column)]
    if "SuccessRate(%)" in names:
        failed = 1.0 - 0.01 * values[:, names.index("SuccessRate(%)")]
        signals[slots, -1, Metric.ERROR_RATE] = signals[slots, entry, Metric.ERROR_RATE] = failed


def _cases(
    signals: Floats,
    services: tuple[str, ...],
    calls: Bools,
    entry: int,
    faults: list[tuple[str, float, int]],
    first: float,
) -> list[Case]:
    clock = first + _STEP_S * np.arange(len(signals))
    quiet = np.ones(len(signals), np.bool_)
    for _, at, _ in faults:
        quiet &= (clock < at) | (clock >= at + _AFTER_S)
    found = []
    for name, at, service in faults:
        shown = np.flatnonzero((clock >= at) & (clock < at + _FAULT_S + _STEP_S))
        if not shown.size:
            continue  # the fault lies outside the metrics
        begin = max(0, int(shown[-1]) + 1 - WINDOW)
        series = signals[begin : shown[-1] + 1].copy()
        others = ~quiet[begin : shown[-1] + 1]
        others[int(shown[0]) - begin :] = False
        series[others] = np.nan  # the trouble of another case
        found.append(
            Case(
                name=name,
                services=services,
                calls=calls,
                entry=entry,
                step_s=_STEP_S,
                normal=signals[quiet],
                series=series,
                onset=int(shown[0]) - begin,
                truth=frozenset({service}),
            )
        )
    return found
