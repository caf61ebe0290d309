"""The agent's own logs and spans: alarm, evidence, suspect, decision, action, effect, tied to the incident."""

__all__ = ["AGENT", "Journal", "journal"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace, Decision
from simcore.env import Episodes
from simcore.env.ledger import ActionRecord
from simcore.streams import keyed
from simcore.telemetry.logs import LogRecord
from simcore.telemetry.sampling import Roots, roots_of
from simcore.telemetry.traces import trace_id_of
from simcore.telemetry.wire import Happening, Link, SpanKind, WireSpan

#: Service name of the agent.
AGENT = "agent"

#: Indices of the keys of a run's journal, mixed with the run's own; the kinds are so far apart.
_FIRST, _APART = 2**61 + 2, 2**20
_RUN, _INCIDENT, _ALARM, _DECISION, _ACT = range(5)


@dataclass(frozen=True, slots=True)
class Journal:
    """What an agent has to tell of a run."""

    records: list[LogRecord]  #: in order of time
    spans: list[WireSpan]  #: one trace: the run, its incidents and alarms, under them the decisions and actions


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time in which an incident or an alarm was open."""

    span_id: str
    first: int  #: edge at which it opened
    last: int  #: edge at which it closed, or the end


def journal(episodes: Episodes, trace: AgentTrace | None, row: int) -> Journal:
    """Return the journal of a run of finished episodes; without an agent it knows of incidents only.

    An incident's span is linked to traces of requests that show it: of the step that opened it the slowest one that
    failed, and the slowest one of all.

    Parameters
    ----------
    episodes
        Opened with ``log``, finished.
    trace
        What the agent did; None without one.
    row
        Position of the run.
    """
    scribe = _Scribe(episodes, trace, row)
    spans = list(scribe.spans())
    return Journal(sorted(scribe.records(), key=lambda record: record.time_s), spans)


def _stretches(open_: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield (first, after the last) of the stretches of flags."""
    padded = np.concatenate([[False], open_, [False]]).astype(np.int8)
    change = np.diff(padded)
    yield from zip(np.flatnonzero(change > 0).tolist(), np.flatnonzero(change < 0).tolist(), strict=True)


class _Scribe:
    """Writes the journal of one run."""

    def __init__(self, episodes: Episodes, trace: AgentTrace | None, row: int) -> None:
        self._episodes, self._trace, self._row = episodes, trace, row
        self._step_s = episodes.scenario.timing.step_s
        self._end_s = episodes.n_steps * self._step_s
        self._key = episodes.runs[row].inputs.key
        self._root_id = self._id(_RUN, 0)
        self.trace_id = trace_id_of(self._key, int(self._root_id, 16))
        number = episodes.runs[row].run
        found = [] if trace is None else trace.decisions
        self._decisions: list[Decision] = [decision for decision in found if decision.run == number]
        self._records = [record for record in episodes.records if record.run == row]
        # what is open at the end of step k is open from edge k + 1 on
        self._incidents = self._open(episodes.incident_open[row], _INCIDENT, later=1)
        self._alarms = [] if trace is None else self._open(trace.alarm[row], _ALARM, later=0)

    def _open(self, flags: npt.NDArray[np.bool_], kind: int, later: int) -> list[_Stretch]:
        return [
            _Stretch(self._id(kind, number), first + later, min(last + later, self._episodes.n_steps))
            for number, (first, last) in enumerate(_stretches(flags))
        ]

    def _id(self, kind: int, number: int) -> str:
        return f"{int(keyed(self._key, _FIRST + kind * _APART + number)):016x}"

    def _under(self, edge: int) -> str:
        """Return the span that what happens at an edge belongs to: the incident, else the alarm, else the run."""
        for stretch in (*self._incidents, *self._alarms):
            if stretch.first <= edge <= stretch.last:
                return stretch.span_id
        return self._root_id

    # --- spans

    def spans(self) -> Iterator[WireSpan]:
        """Yield the spans, each after the one above it."""
        run, names = self._episodes.runs[self._row], self._episodes.topology.services
        about = {"mendsim.seed": run.seed, "mendsim.split": run.split, "mendsim.run": run.run}
        scenario = {"mendsim.scenario": self._episodes.scenario.name}
        yield self._span(self._root_id, "", "run", 0.0, self._end_s, scenario | about)
        roots = roots_of(self._episodes.session.events(self._row)) if self._incidents else None
        for stretch in self._incidents:
            assert roots is not None
            links = tuple(self._exemplars(roots, stretch.first))
            yield self._span(stretch.span_id, self._root_id, "incident", *self._times(stretch), {}, links=links)
        for stretch in self._alarms:
            assert self._trace is not None
            scores = self._trace.score[self._row, stretch.first]
            told = {f"mendsim.score.{name}": float(x) for name, x in zip(names, scores, strict=True) if x == x}
            yield self._span(stretch.span_id, self._incident_at(stretch), "alarm", *self._times(stretch), told)
        for number, decision in enumerate(self._decisions):
            yield self._decided(number, decision)
        for number, record in enumerate(self._records):
            yield self._acted(number, record)

    def _times(self, stretch: _Stretch) -> tuple[float, float]:
        return stretch.first * self._step_s, stretch.last * self._step_s

    def _incident_at(self, alarm: _Stretch) -> str:
        """Return the incident that was open when an alarm was raised; the run if none was."""
        return next((i.span_id for i in self._incidents if i.first <= alarm.first <= i.last), self._root_id)

    def _span(
        self, span_id: str, parent: str, name: str, start_s: float, end_s: float, attributes: dict[str, Any],
        error: str = "", links: tuple[Link, ...] = (), happenings: tuple[Happening, ...] = (),
    ) -> WireSpan:  # fmt: skip
        return WireSpan(
            self.trace_id, span_id, parent, AGENT, "", name, SpanKind.INTERNAL, start_s, min(end_s, self._end_s),
            attributes, error, happenings, links,
        )  # fmt: skip

    def _exemplars(self, roots: Roots, edge: int) -> Iterator[Link]:
        """Yield links to requests of the step before an edge."""
        until_s = edge * self._step_s
        here = (roots.offered_s >= until_s - self._step_s) & (roots.offered_s < until_s)
        latency = np.where(np.isnan(roots.latency_s), 0.0, roots.latency_s)
        shown: set[int] = set()
        for relation, some in (("failed_request", here & roots.failed), ("slow_request", here)):
            of = np.flatnonzero(some)
            if of.size:
                at = int(of[latency[of].argmax()])
                if at not in shown:
                    shown.add(at)
                    key = int(roots.keys[at])
                    yield Link(trace_id_of(self._key, key), f"{key:016x}", relation)

    def _decided(self, number: int, decision: Decision) -> WireSpan:
        closed = decision.closed if decision.closed >= 0 else self._episodes.n_steps
        attributes = self._suspicion(decision.opened) | {
            "mendsim.action": self._name(decision.action),
            "mendsim.propensity": decision.propensity,
            "mendsim.signature": decision.signature,
            "mendsim.rationale": decision.rationale,
        }
        if decision.reward == decision.reward:
            attributes["mendsim.reward"] = decision.reward
        return self._span(
            self._id(_DECISION, number), self._under(decision.opened), f"decide {self._name(decision.action)}",
            decision.opened * self._step_s, closed * self._step_s, attributes,
        )  # fmt: skip

    def _acted(self, number: int, record: ActionRecord) -> WireSpan:
        of = next(
            (n for n, d in enumerate(self._decisions) if (d.opened, d.action) == (record.step, record.action)), -1
        )
        parent = self._id(_DECISION, of) if of >= 0 else self._under(record.step)
        start_s = record.step * self._step_s
        name, error = self._name(record.action), "" if record.succeeds else "action failed"
        return self._span(self._id(_ACT, number), parent, name, start_s, max(start_s, record.effect_s), {}, error)

    def _name(self, action: int) -> str:
        return self._episodes.actions.names[action]

    def _suspicion(self, edge: int) -> dict[str, Any]:
        """Return the diagnosis in force at an edge."""
        trace, names = self._trace, self._episodes.topology.services
        if trace is None or trace.ranked[self._row, edge, 0] < 0:
            return {}
        suspect = int(trace.suspect[self._row, edge])
        return {
            "mendsim.suspect": names[suspect] if suspect >= 0 else "none",
            "mendsim.confidence": float(trace.confidence[self._row, edge]),
            "mendsim.ranked": [names[s] for s in trace.ranked[self._row, edge].tolist() if s >= 0],
        }

    # --- records

    def records(self) -> Iterator[LogRecord]:
        """Yield what happened, kind by kind."""
        for stretch in self._incidents:
            yield self._record(stretch.first, "ERROR", "incident.opened", "the SLO is broken", stretch.span_id)
            if stretch.last < self._episodes.n_steps:
                yield self._record(stretch.last, "INFO", "incident.closed", "the SLO holds again", stretch.span_id)
        yield from self._alarm_records()
        yield from self._diagnosis_records()
        for number, decision in enumerate(self._decisions):
            span_id, name = self._id(_DECISION, number), self._name(decision.action)
            told = {"action": name, "propensity": decision.propensity, "signature": decision.signature}
            yield self._record(decision.opened, "INFO", "decision", f"{name}: {decision.rationale}", span_id, told)
            if decision.closed >= 0:
                body = f"{name} has settled, reward {decision.reward:.2f}"
                told = {"action": name, "reward": decision.reward}
                yield self._record(decision.closed, "INFO", "decision.judged", body, span_id, told)
        for number, record in enumerate(self._records):
            name, severity = self._name(record.action), "INFO" if record.succeeds else "ERROR"
            body = f"{name} takes effect" if record.succeeds else f"{name} has failed"
            if record.effect_s < self._end_s:
                yield LogRecord(
                    record.effect_s, severity, AGENT, "", "action.effect", body, {"action": name}, self.trace_id,
                    self._id(_ACT, number),
                )  # fmt: skip

    def _alarm_records(self) -> Iterator[LogRecord]:
        for stretch in self._alarms:
            assert self._trace is not None
            overall = float(self._trace.overall[self._row, stretch.first])
            body = f"anomaly score {overall:.2f} is above the threshold"
            yield self._record(stretch.first, "WARN", "alarm.raised", body, stretch.span_id, {"score": overall})
            if stretch.last < self._episodes.n_steps:
                yield self._record(stretch.last, "INFO", "alarm.cleared", "the alarm is over", stretch.span_id)

    def _diagnosis_records(self) -> Iterator[LogRecord]:
        """Yield a record whenever the suspect changes."""
        before: Any = None
        for edge in range(self._episodes.n_steps if self._trace is not None else 0):
            told = self._suspicion(edge)
            suspect = told.get("mendsim.suspect")
            if suspect is not None and suspect != before:
                body = f"suspect {suspect}, confidence {told['mendsim.confidence']:.2f}"
                evidence = {key.removeprefix("mendsim."): value for key, value in told.items()}
                yield self._record(edge, "INFO", "diagnosis", body, self._under(edge), evidence)
            before = suspect

    def _record(
        self, edge: int, severity: str, name: str, body: str, span_id: str, attributes: dict[str, Any] | None = None
    ) -> LogRecord:
        return LogRecord(
            edge * self._step_s, severity, AGENT, "", name, body, attributes or {}, self.trace_id, span_id
        )  # fmt: skip
