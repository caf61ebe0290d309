"""What the system itself would log: rare events one by one, frequent ones counted, with the traces they belong to."""

__all__ = ["BURST", "LogRecord", "severity_number", "system_logs", "windows_of"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode, BreakerState, Down, Event, Param, Status
from simcore.engines.api import RunInputs
from simcore.model.scenario import Scenario
from simcore.signals.fleet import Fleet
from simcore.signals.kinship import kinship_of
from simcore.telemetry.traces import trace_id_of

Log = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]

#: Frequent events leave a record when there are so many of a kind at a service within a window.
BURST = 5

#: OpenTelemetry's numbers of the severities (logs data model, *Severity Fields*).
_SEVERITIES = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}

_DOWN = {
    Down.RESTART: ("replica.restart", "INFO", "restarts"),
    Down.CRASH: ("replica.crash", "ERROR", "has crashed"),
    Down.OOM: ("replica.oom_kill", "ERROR", "was killed: out of memory"),
}
_REPLICA = {
    Event.REPLICA_UP: ("replica.up", "INFO", "is up"),
    Event.REPLICA_ADDED: ("replica.added", "INFO", "is added"),
    Event.REPLICA_DRAINING: ("replica.draining", "INFO", "drains"),
    Event.REPLICA_GONE: ("replica.gone", "INFO", "is gone"),
}
_BREAKER = {
    BreakerState.CLOSED: ("breaker.closed", "INFO"),
    BreakerState.OPEN: ("breaker.open", "WARN"),
    BreakerState.HALF_OPEN: ("breaker.half_open", "INFO"),
}
#: Modulations that leave a line in a system's log, whoever caused them.
_CHANGES = {
    Param.DEPLOY: ("deploy", "a new version is rolled out"),
    Param.CONFIG: ("config.change", "the configuration is changed"),
    Param.FLUSH: ("cache.flush", "the cache is flushed"),
}
#: Frequent events: their severity, and how a burst of them is told.
_BURSTS = {
    "rejected": ("WARN", "requests rejected: queue full or shed"),
    "dropped": ("WARN", "queued requests dropped"),
    "refused": ("ERROR", "connections refused"),
    "unavailable": ("ERROR", "calls with no replica to send them to"),
    "timeout": ("WARN", "calls timed out"),
    "denied": ("WARN", "calls not sent"),
    "error": ("ERROR", "requests failed with an internal error"),
    "gave_up": ("WARN", "calls given up after their last attempt"),
    "shed": ("WARN", "requests turned away at the border"),
    "overflow": ("WARN", "messages refused: partition full"),
    "skipped": ("WARN", "messages thrown out"),
}


def severity_number(severity: str) -> int:
    """Return OpenTelemetry's number of a severity."""
    return _SEVERITIES[severity]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a log."""

    time_s: float  #: seconds of the simulation
    severity: str  #: DEBUG, INFO, WARN or ERROR
    service: str  #: that logs it; empty: the border
    replica: str  #: its name, such as ``db-0``; empty: the service as a whole
    name: str  #: what kind of event it is, such as ``replica.oom_kill``
    body: str  #: in words
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str = ""  #: of the first request concerned; empty: none
    span_id: str = ""  #: of the span that it belongs to, within that trace; empty: none


def system_logs(
    scenario: Scenario,
    log: Log,
    inputs: RunInputs,
    actions: Sequence[tuple[str, int]] = (),
    *,
    truth: bool = False,
) -> list[LogRecord]:
    """Return what a run's system has logged, in order of time.

    A function of the event log, so both engines give the same. What goes wrong request by request (time-outs,
    rejections, errors and the like) is counted as a rate-limited logger does it: a window (control step) in which a
    service has at least ``BURST`` of a kind leaves one record at its end, with the trace of the first of them.

    Parameters
    ----------
    scenario
        What was simulated.
    log
        Dtype ``LOG``, from the beginning of the run.
    inputs
        Of the run.
    actions
        (name, service or -1) of the actions that were applied to the run, in the order of their application.
    truth
        Whether to log faults too (``fault.change``), which no system knows of.
    """
    rare, records = log[log["request"] < 0], []
    fleet = Fleet(scenario, rare)
    records += list(_Rare(scenario, fleet, inputs, actions, truth).records(rare))
    records += list(_Frequent(scenario, fleet, inputs.key, log[log["request"] >= 0]).records())
    return sorted(records, key=lambda record: record.time_s)


class _Rare:
    """Events of replicas, services and actions."""

    def __init__(
        self, scenario: Scenario, fleet: Fleet, inputs: RunInputs, actions: Sequence[tuple[str, int]], truth: bool
    ) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._inputs = inputs
        self._actions = actions
        self._truth = truth
        self._removed: set[int] = set()

    def records(self, rows: Log) -> Iterator[LogRecord]:
        """Yield a record for every row that leaves one, in order."""
        done = rows[rows["event"] == int(Event.ACTION_DONE)]
        self._removed = set(done["span"][done["aux"] == int(ActionCode.REMOVE)].tolist())
        for row in rows:
            event, number, aux = Event(row["event"]), int(row["span"]), int(row["aux"])
            record = self._record(float(row["time_s"]), event, number, aux)
            if record is not None:
                yield record

    def _record(self, time_s: float, event: Event, number: int, aux: int) -> LogRecord | None:
        if event in _REPLICA:
            name, severity, text = _REPLICA[event]
            return self._of_replica(time_s, severity, number, name, text)
        if event is Event.REPLICA_DOWN:
            name, severity, text = _DOWN[Down(aux)]
            return self._of_replica(time_s, severity, number, name, text)
        if event is Event.ROTATION:
            name, text = ("health.in", "passes its health checks") if aux else ("health.out", "fails its health checks")
            return self._of_replica(time_s, "INFO" if aux else "WARN", number, name, text)
        if event is Event.COLLECTION:
            return self._of_replica(time_s, "DEBUG", number, "gc", "collects garbage", garbage_bytes=aux)
        if event is Event.BREAKER:
            name, severity = _BREAKER[BreakerState(aux % 4)]
            callee = self._scenario.callee_of(aux // 4)
            text = f"circuit breaker of {callee} is {name.partition('.')[2].replace('_', ' ')}"
            return self._of_replica(time_s, severity, number, name, text, callee=callee)
        if event is Event.SCALED:
            service = self._scenario.service_names[number]
            body = f"autoscaler: {aux:+d} replicas of {service}"
            return LogRecord(time_s, "INFO", service, "", "autoscaler.scaled", body, {"change": aux})
        if event is Event.FAULT_CHANGE:
            return self._change(time_s, number)
        return self._action(time_s, number, aux) if event is Event.ACTION_DONE else None

    def _of_replica(
        self, time_s: float, severity: str, replica: int, name: str, text: str, **attributes: Any
    ) -> LogRecord:
        service = self._scenario.service_names[self._fleet.service[replica]]
        at = self._fleet.name(replica)
        return LogRecord(time_s, severity, service, at, name, f"{at} {text}", attributes)

    def _change(self, time_s: float, number: int) -> LogRecord | None:
        """Return the record of a modulation that changes its value at this instant."""
        mod = self._inputs.modulations[number]
        service = self._scenario.service_names[mod.service] if mod.service >= 0 else ""
        value = next(c.value for c in self._inputs.changes if c.modulation == number and c.time_s == time_s)
        if mod.param in _CHANGES and value > 0.0:
            name, text = _CHANGES[mod.param]
            return LogRecord(time_s, "INFO", service, "", name, f"{service}: {text}")
        if not self._truth:
            return None
        attributes = {"modulation": number, "parameter": mod.param.name.lower(), "value": value}
        body = f"fault: {mod.param.name.lower()} of {service or 'the workload'} becomes {value:g}"
        return LogRecord(time_s, "DEBUG", service, "", "fault.change", body, attributes)

    def _action(self, time_s: float, number: int, code: int) -> LogRecord | None:
        if code == ActionCode.REMOVE:
            return None
        # removals take numbers too
        rank = number - sum(other < number for other in self._removed)
        name, service = self._actions[rank] if rank < len(self._actions) else (ActionCode(code).name.lower(), -1)
        where = self._scenario.service_names[service] if service >= 0 else ""
        return LogRecord(time_s, "INFO", where, "", "action", f"{name} takes effect", {"action": name})


class _Frequent:
    """Events of requests, told as bursts."""

    def __init__(self, scenario: Scenario, fleet: Fleet, run_key: np.uint64, rows: Log) -> None:
        self._scenario = scenario
        self._fleet = np.array([*fleet.service, -1], np.int64)
        self._run_key = run_key
        self._rows = rows
        self._root = dict(self._of(Event.OFFERED)[["request", "span"]].tolist())

    def _of(self, event: Event) -> Log:
        rows: Log = self._rows[self._rows["event"] == int(event)]
        return rows

    def records(self) -> Iterator[LogRecord]:
        """Yield a record per burst, kind by kind."""
        for kind, rows, services in self._kinds():
            for service in np.unique(services).tolist():
                yield from self._bursts(kind, rows[services == service], service)

    def _kinds(self) -> Iterator[tuple[str, Log, Ints]]:
        """Yield (kind, rows, service of each)."""
        for kind, event in (("rejected", Event.REJECTED), ("dropped", Event.DROPPED), ("refused", Event.REFUSED)):
            rows = self._of(event)
            yield kind, rows, self._fleet[rows["aux"]]
        shed = self._of(Event.SHED)
        yield "shed", shed, np.full(shed.size, -1)
        sent = self._of(Event.SENT)
        lost = sent[sent["aux"] < 0]
        yield "unavailable", lost, self._callee(lost)
        for kind, event in (("timeout", Event.TIMED_OUT), ("gave_up", Event.GAVE_UP), ("skipped", Event.SKIPPED)):
            rows = self._of(event)
            yield kind, rows, self._callee(rows)
        finished = self._of(Event.FINISHED)
        failed = finished[finished["aux"] == int(Status.ERROR)]
        yield "error", failed, self._callee(failed)
        for kind, event in (("denied", Event.DENIED), ("overflow", Event.OVERFLOW)):
            rows = self._of(event)
            yield kind, rows, self._caller(rows)

    def _callee(self, rows: Log) -> Ints:
        """Return the service that each row's attempt asks."""
        return self._service(rows, lambda kin, at: at)

    def _caller(self, rows: Log) -> Ints:
        """Return the service that has made each row's attempt."""
        return self._service(rows, lambda kin, at: kin.parents[at])

    def _service(self, rows: Log, which: Callable[[Any, Ints], Ints]) -> Ints:
        if not rows.size:
            return np.zeros(0, np.int64)
        kin = kinship_of(self._scenario, self._rows[np.isin(self._rows["request"], rows["request"])])
        names = self._scenario.service_names
        of = np.array([names.index(service) for service, _ in self._scenario.operations], np.int64)
        found: Ints = of[kin.operations[which(kin, kin.index_of(rows["span"]))]]
        return found

    def _bursts(self, kind: str, rows: Log, service: int) -> Iterator[LogRecord]:
        step_s = self._scenario.timing.step_s
        of = windows_of(rows["time_s"], step_s)
        windows, first, counts = np.unique(of, return_index=True, return_counts=True)
        severity, text = _BURSTS[kind]
        name = self._scenario.service_names[service] if service >= 0 else ""
        for at in np.flatnonzero(counts >= BURST).tolist():
            row, n = rows[first[at]], int(counts[at])
            attributes = {"count": n, "first_s": float(row["time_s"])}
            reasons = _reasons(rows["aux"][of == windows[at]]) if kind == "denied" else {}
            words = f" ({', '.join(f'{reason} {count}' for reason, count in reasons.items())})" if reasons else ""
            yield LogRecord(
                float((windows[at] + 1) * step_s), severity, name, "", f"burst.{kind}",
                f"{n} {text}{words} in {step_s:g} s",
                attributes | {f"reason.{reason}": count for reason, count in reasons.items()},
                trace_id_of(self._run_key, self._root[int(row["request"])]),
            )  # fmt: skip


def _reasons(statuses: npt.NDArray[np.int32]) -> dict[str, int]:
    """Return how often there is each status, by name."""
    values, counts = np.unique(statuses, return_counts=True)
    return {Status(value).name.lower(): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def windows_of(times_s: npt.NDArray[np.float64], step_s: float) -> Ints:
    """Return the window that each instant lies in; window k is [k * step_s, (k + 1) * step_s)."""
    windows = np.floor(times_s / step_s).astype(np.int64)
    windows -= times_s < windows * step_s
    windows += times_s >= (windows + 1) * step_s
    return windows
