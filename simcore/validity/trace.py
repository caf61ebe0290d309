"""What one run shows: its windows, and the visits that its event log tells of."""

__all__ = ["Trace", "Visits"]

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.codes import Event
from simcore.model.scenario import Scenario
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Log = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Visits:
    """The spans that a service took in, in order of arrival; nan where the log ends before."""

    spans: Keys
    arrived_s: Floats
    started_s: Floats
    finished_s: Floats


class Trace:
    """One run.

    Parameters
    ----------
    scenario
        What was simulated.
    log
        The event log, from before time 0 (burn-in) until after the horizon, so that what arrives before it is seen
        to end. Empty if nothing that is measured needs it.
    metrics
        (window, service + 1, metric), windows from time 0.
    replicas
        (window, service, slot, stat), the same windows.
    horizon_s
        End of the time in which arrivals count and over which levels are averaged; a multiple of the step.
    """

    def __init__(self, scenario: Scenario, log: Log, metrics: Floats, replicas: Floats, horizon_s: float) -> None:
        self.scenario = scenario
        self.log = log
        self.metrics = metrics
        self.step_s = scenario.timing.step_s
        self.replicas = replicas
        self.horizon_s = horizon_s
        self.n_measured = round(horizon_s / self.step_s)
        self._rows: dict[Event, Log] = {}
        self._visits: dict[str, Visits] = {}
        initial = [service.replicas.initial for service in scenario.services.values()]
        self._service_of = np.repeat(np.arange(len(initial)), initial)

    def rows(self, event: Event) -> Log:
        """Return the rows of one kind of event."""
        if event not in self._rows:
            self._rows[event] = self.log[np.flatnonzero(self._events == event)]
        return self._rows[event]

    @functools.cached_property
    def _events(self) -> npt.NDArray[np.int32]:
        return np.ascontiguousarray(self.log["event"])

    def level(self, service: str, metric: Metric) -> float:
        """Return the mean of a service's metric over the measured windows."""
        return float(self.metrics[: self.n_measured, self.scenario.service_names.index(service), metric].mean())

    def total(self, service: str, metric: Metric) -> float:
        """Return the sum of a service's metric over all windows, those after the horizon included."""
        return float(self.metrics[:, self.scenario.service_names.index(service), metric].sum())

    def replica(self, service: str, stat: ReplicaStat) -> Floats:
        """Return what the first replica of a service shows in the measured windows."""
        return self.replicas[: self.n_measured, self.scenario.service_names.index(service), 0, stat]

    def offered_s(self, stream: int = 0) -> Floats:
        """Return when the requests of a stream were offered, from time 0 to the horizon."""
        rows = self.rows(Event.OFFERED)
        return self._measured(rows["time_s"][rows["request"] >> 40 == stream])

    def _measured(self, times_s: Floats) -> Floats:
        return times_s[(times_s >= 0.0) & (times_s < self.horizon_s)]

    def rejected_s(self, service: str) -> Floats:
        """Return when the service turned spans away, over the whole log."""
        rows = self._at(service, Event.REJECTED)
        return np.ascontiguousarray(rows["time_s"])

    def _at(self, service: str, event: Event) -> Log:
        rows = self.rows(event)
        if len(self.scenario.services) == 1:
            return rows
        found: Log = rows[self._service_of[rows["aux"]] == self.scenario.service_names.index(service)]
        return found

    @functools.cached_property
    def _ends(self) -> tuple[Keys, Floats]:
        return _by_span(self.rows(Event.FINISHED))

    def visits(self, service: str) -> Visits:
        """Return the spans that the service took in, over the whole log."""
        if service not in self._visits:
            arrived, started = self._at(service, Event.ARRIVED), self._at(service, Event.STARTED)
            rejected = self._at(service, Event.REJECTED)["span"]
            if rejected.size:
                arrived = arrived[~np.isin(arrived["span"], rejected)]
            spans = np.ascontiguousarray(arrived["span"])
            self._visits[service] = Visits(
                spans,
                np.ascontiguousarray(arrived["time_s"]),
                look_up(*_by_span(started), spans),
                look_up(*self._ends, spans),
            )
        return self._visits[service]

    def measured(self, service: str) -> Visits:
        """Return the spans that the service took in from time 0 to the horizon."""
        every = self.visits(service)
        inside = (every.arrived_s >= 0.0) & (every.arrived_s < self.horizon_s)
        return Visits(*(getattr(every, name)[inside] for name in Visits.__slots__))

    def numbers(self, service: str, times_s: Floats) -> npt.NDArray[np.int64]:
        """Return how many spans the service holds at these instants."""
        every = self.visits(service)
        ended = np.sort(every.finished_s[~np.isnan(every.finished_s)])
        return np.searchsorted(every.arrived_s, times_s, "right") - np.searchsorted(ended, times_s, "right")

    def cpu_done_s(self, step: int, spans: Keys) -> Floats:
        """Return when these spans ended their CPU step of this number."""
        rows = self.rows(Event.CPU_DONE)
        return look_up(*_by_span(rows[rows["aux"] == step]), spans)


def _by_span(rows: Log) -> tuple[Keys, Floats]:
    spans = np.ascontiguousarray(rows["span"])
    order = np.argsort(spans)
    return spans[order], rows["time_s"][order]


def look_up(known: Keys, values: Floats, wanted: Keys) -> Floats:
    """Return the values of the wanted spans (``known`` is sorted), nan where there is none."""
    if not known.size:
        return np.full(wanted.size, np.nan)
    # in order, so that the search walks through memory instead of leaping
    order = np.argsort(wanted)
    ordered = wanted[order]
    at = np.minimum(np.searchsorted(known, ordered), known.size - 1)
    found = np.empty(wanted.size)
    found[order] = np.where(known[at] == ordered, values[at], np.nan)
    return found
