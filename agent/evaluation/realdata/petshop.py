"""PetShop (Hardt et al. 2023): issues of a web shop on AWS, with latency, requests and availability of every node.

A set is a folder with ``graph.csv``, ``noissue/metrics.csv`` and ``*/issue_N/metrics.csv`` with ``target.json``.
"""

__all__ = ["load"]

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.evaluation.realdata.case import N_SIGNALS, Case
from agent.evaluation.realdata.reading import number, read_json, rows_of
from simcore.errors import InputError
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: (metric, statistic) of the files -> (column of ours, factor, offset).
_DIRECT = {
    ("latency", "p50"): (Metric.P50_S, 1.0, 0.0),
    ("latency", "p95"): (Metric.P95_S, 1.0, 0.0),
    ("latency", "p99"): (Metric.P99_S, 1.0, 0.0),
    ("availability", "Average"): (Metric.ERROR_RATE, -0.01, 1.0),
}
#: Columns of the symptom, by the metric that raised the alarm.
_SYMPTOMS = {
    "latency": [Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.IN_FLIGHT, Metric.REQUEST_RATE_RPS],
    "availability": [Metric.ERROR_RATE, Metric.REQUEST_RATE_RPS],
}
_HEADER = 4


@dataclass(frozen=True, slots=True)
class _Table:
    """A metrics file: (time,) seconds and (time, column) values."""

    columns: list[tuple[str, str, str]]  #: node, metric, statistic
    times: Floats
    values: Floats


def load(folder: Path) -> list[Case]:
    """Return the cases of a PetShop folder, such as ``low_traffic``.

    Raises
    ------
    InputError
        If a file is missing or not in the format; names file and rule.
    """
    names, calls = _graph(folder / "graph.csv")
    normal = _table(folder / "noissue" / "metrics.csv")
    issues = sorted(folder.glob("*/issue_*/target.json"), key=lambda path: (path.parent.parent.name, _number(path)))
    if not issues:
        raise InputError(f"{folder} must hold issues as FOLDER/issue_N/target.json, found none")
    return [_case(path.parent, normal, names, calls) for path in issues]


def _number(path: Path) -> tuple[int, str]:
    tail = path.parent.name.rpartition("_")[2]
    return (int(tail) if tail.isdigit() else -1, tail)


def _graph(path: Path) -> tuple[tuple[str, ...], Bools]:
    rows = rows_of(path)
    names = tuple(rows[0][1:])
    if [row[0] for row in rows[1:]] != list(names) or any(len(row) != len(names) + 1 for row in rows):
        raise InputError(f"{path} must be a square table with the same nodes in rows and columns")
    return names, np.array([[number(cell) > 0 for cell in row[1:]] for row in rows[1:]])


def _table(path: Path) -> _Table:
    rows = rows_of(path)
    if len(rows) <= _HEADER or [row[0] for row in rows[:3]] != ["microservice", "metric", "statistic"]:
        raise InputError(f"{path} must begin with the rows microservice, metric, statistic, unix_timestamp")
    columns = list(zip(*(row[1:] for row in rows[:3]), strict=True))
    body = [row for row in rows[_HEADER:] if len(row) == len(columns) + 1]
    times = np.array([number(row[0]) for row in body])
    if len(times) < 2 or not (np.diff(times) > 0).all():
        raise InputError(f"{path} must hold at least two rows in order of their time stamps")
    return _Table(columns, times, np.array([[number(cell) for cell in row[1:]] for row in body]))


def _signals(table: _Table, names: tuple[str, ...]) -> Floats:
    """Return (time, service + 1, signal); the last row of services is left nan."""
    place = {name: i for i, name in enumerate(names)}
    period = float(np.median(np.diff(table.times)))
    out = np.full((len(table.times), len(names) + 1, N_SIGNALS), np.nan)
    for column, (node, metric, statistic) in enumerate(table.columns):
        if (metric, statistic) in _DIRECT and node in place:
            to, factor, offset = _DIRECT[metric, statistic]
            out[:, place[node], to] = offset + factor * table.values[:, column]
        elif metric == "requests" and node in place:
            out[:, place[node], Metric.REQUEST_RATE_RPS] = table.values[:, column] / period
    rate = out[..., Metric.REQUEST_RATE_RPS]
    for column, (node, metric, statistic) in enumerate(table.columns):
        if (metric, statistic) == ("latency", "Average") and node in place:
            # Little's law; without requests there is no latency, and nothing in flight
            mean = np.where(rate[:, place[node]] == 0, 0.0, table.values[:, column])
            out[:, place[node], Metric.IN_FLIGHT] = rate[:, place[node]] * mean
    return out


def _case(folder: Path, normal: _Table, names: tuple[str, ...], calls: Bools) -> Case:
    target = read_json(folder / "target.json")
    try:
        symptom, kind = target["target"]["node"], target["target"]["metric"]
        alarm, cause = float(target["target"]["timestamp"]), target["root_cause"]["node"]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder / 'target.json'} must hold target.node, target.metric, target.timestamp and root_cause.node"
        ) from None
    for key, node in (("target.node", symptom), ("root_cause.node", cause)):
        if node not in names:
            raise InputError(f"{folder / 'target.json'}: {key} must be a node of graph.csv, got {node!r}")
    if kind not in _SYMPTOMS:
        raise InputError(f"{folder / 'target.json'}: target.metric must be one of {', '.join(_SYMPTOMS)}, got {kind!r}")
    table = _table(folder / "metrics.csv")
    at = min(int(np.searchsorted(table.times, alarm)), len(table.times) - 1)
    entry, shown = names.index(symptom), _SYMPTOMS[kind]
    quiet, series = _signals(normal, names), _signals(table, names)[: at + 1]
    for signals in (quiet, series):
        signals[:, -1, shown] = signals[:, entry, shown]
    return Case(
        name=f"{folder.parent.name}/{folder.name}",
        services=names,
        calls=calls,
        entry=entry,
        step_s=float(np.median(np.diff(normal.times))),
        normal=quiet,
        series=series,
        onset=at,
        truth=frozenset({names.index(cause)}),
    )
