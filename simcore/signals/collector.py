"""What traces and logs say of every service in a window, as numbers: for agents that look at more than metrics."""

__all__ = ["LOGS", "N_SIGNALS", "TRACES", "Collector", "Signal"]

import copy
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from simcore.codes import BreakerState, Down, Event
from simcore.engines.api import RunInputs, Session
from simcore.eventlog import LOG, taken
from simcore.model.scenario import Scenario
from simcore.signals.fleet import Fleet
from simcore.signals.paths import attempts_of, origins, path_times

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Log = npt.NDArray[np.void]


class Signal(IntEnum):
    """Columns of the signals, axis -1. Those of traces are means per sampled request answered in the window."""

    WORK_S = 0  #: seconds that the service's work adds to the latency, its callees' part apart
    QUEUE_S = 1  #: ... its queues
    LOCK_S = 2  #: ... its locks
    WIRE_S = 3  #: ... the way to it and back, and the wait for answers that never come
    POOL_S = 4  #: ... the wait for connections to it, by its callers
    ERRORS = 5  #: failures that begin here: the service fails by itself
    POISON = 6  #: ... callers fail on the very answer of this cache
    SILENT = 7  #: ... it does not answer in time
    GONE = 8  #: ... refused, reset, or no replica
    TURNED_AWAY = 9  #: ... rejected
    UNSENT = 10  #: ... it has no connection for a call of its own
    OOM = 11  #: log: replicas killed for their memory
    CRASH = 12  #: log: replicas that crashed
    RESTART = 13  #: log: replicas restarted
    OUT = 14  #: log: replicas taken out of rotation by health checks
    BREAKER = 15  #: log: circuit breakers opened against it
    GC = 16  #: log: garbage collections


N_SIGNALS = len(Signal)
#: Signals that come from traces, and those that come from logs.
TRACES = tuple(range(Signal.UNSENT + 1))
LOGS = tuple(range(Signal.OOM, N_SIGNALS))

#: Times are summed up as whole nanoseconds, so that the order of the sum does not matter.
_NANOS = 1e9

_TIMES = {"work": Signal.WORK_S, "queue": Signal.QUEUE_S, "lock": Signal.LOCK_S, "wire": Signal.WIRE_S,
          "pool": Signal.POOL_S}  # fmt: skip
_ORIGINS = {"errors": Signal.ERRORS, "poison": Signal.POISON, "silent": Signal.SILENT, "gone": Signal.GONE,
            "turned_away": Signal.TURNED_AWAY, "unsent": Signal.UNSENT}  # fmt: skip
_DOWN = {Down.OOM: Signal.OOM, Down.CRASH: Signal.CRASH, Down.RESTART: Signal.RESTART}


class Collector:
    """Turns what a session's logs have gained since the last window into the signals of the next.

    Parameters
    ----------
    scenario
        ``observation.traces`` is the share of the requests that are sampled, ``observation.logs`` whether logs are
        collected.
    inputs
        Of the runs.
    whole
        Whether the session's logs hold all requests, and not the sampled ones alone.
    """

    def __init__(self, scenario: Scenario, inputs: list[RunInputs], *, whole: bool) -> None:
        self._scenario = scenario
        self._share, self._logs = scenario.observation.traces, scenario.observation.logs
        self._inputs, self._whole = inputs, whole
        self._step_s = scenario.timing.step_s
        self._patience_s = scenario.workload.timeout_s  # so long before its answer a request was offered, at most
        self._first = np.zeros(len(inputs), np.int64)  # (run,) row of the log from which on requests may be open
        self._fleets = [Fleet(scenario, np.zeros(0, LOG)) for _ in inputs]
        callee = [scenario.callee_of(site).partition(".")[0] for site in range(len(scenario.sites))]
        self._callee = [scenario.service_names.index(name) for name in callee]

    def fork(self, rows: Ints) -> "Collector":
        """Return the collector of a fork of these runs."""
        twin = copy.copy(self)
        twin._inputs = [self._inputs[row] for row in rows.tolist()]
        twin._first = self._first[rows]
        twin._fleets = [self._fleets[row] for row in rows.tolist()]
        return twin

    def collect(self, session: Session, first: int, last: int) -> Floats:
        """Return (run, window, service, signal) of the windows [first, last), which have just been closed.

        Signals of traces are nan in a window in which no sampled request was answered, or without traces; those of
        logs are nan without logs.
        """
        shape = (session.n_runs, last - first, len(self._scenario.services), N_SIGNALS)
        found = np.full(shape, np.nan)
        logs = [session.events(run, int(self._first[run])) for run in range(session.n_runs)]
        for window in range(first, last):
            begin_s, end_s = window * self._step_s, (window + 1) * self._step_s
            # whoever is answered in the window was offered so long ago at most
            places = [np.searchsorted(log["time_s"], (begin_s - self._patience_s, begin_s, end_s)) for log in logs]
            if self._logs:
                for run, (log, at) in enumerate(zip(logs, places, strict=True)):
                    new = log[at[1] : at[2]]
                    self._read(run, new[new["request"] < 0], found[run, window - first])
            if self._share > 0.0:
                parts = [log[at[0] : at[2]] for log, at in zip(logs, places, strict=True)]
                self._trace(parts, begin_s, end_s, found[:, window - first])
        kept_s = last * self._step_s - self._patience_s
        self._first += np.array([np.searchsorted(log["time_s"], kept_s) for log in logs], np.int64)
        return found

    def _read(self, run: int, rows: Log, out: Floats) -> None:
        """Count the rare events of a run's window into (service, signal)."""
        out[:, LOGS] = 0.0
        if not rows.size:
            return
        if (rows["event"] == int(Event.REPLICA_ADDED)).any():
            self._fleets[run] = self._fleets[run].grown(rows)
        service = self._fleets[run].service
        for event, number, aux in zip(*(rows[name].tolist() for name in ("event", "span", "aux")), strict=True):
            if event == Event.REPLICA_DOWN:
                out[service[number], _DOWN[Down(aux)]] += 1.0
            elif event == Event.COLLECTION:
                out[service[number], Signal.GC] += 1.0
            elif event == Event.ROTATION and not aux:
                out[service[number], Signal.OUT] += 1.0
            elif event == Event.BREAKER and aux % 4 == BreakerState.OPEN:
                out[self._callee[aux // 4], Signal.BREAKER] += 1.0

    def _trace(self, logs: list[Log], begin_s: float, end_s: float, out: Floats) -> None:
        """Fill in what the sampled requests answered in a window say, (run, service, signal)."""
        runs = np.repeat(np.arange(len(logs)), [log.size for log in logs])
        rows = np.concatenate(logs)
        own = rows["request"] >= 0
        rows, runs = rows[own], runs[own]
        if self._whole:
            known = [taken(given.key, log["request"][log["request"] >= 0], self._share)
                     for given, log in zip(self._inputs, logs, strict=True)]  # fmt: skip
            own = np.concatenate(known)
            rows, runs = rows[own], runs[own]
        answered = _answered(rows, runs, begin_s)
        rows, runs = rows[answered], runs[answered]
        if not rows.size:
            return
        out[np.bincount(runs, minlength=len(logs)) > 0, :, : len(TRACES)] = 0.0
        attempts = attempts_of(self._scenario, rows, runs, end_s)
        requests = np.bincount(attempts.kin.runs[attempts.kin.parents < 0], minlength=out.shape[0])
        per = 1.0 / np.maximum(requests, 1)[:, None]
        place = attempts.kin.runs * out.shape[1] + attempts.services
        for name, times in path_times(attempts).items():
            out[..., _TIMES[name]] += (
                np.bincount(place, np.rint(times * _NANOS), out[..., 0].size).reshape(out.shape[:2]) * per / _NANOS
            )
        for name, (which, service) in origins(attempts).items():
            place = attempts.kin.runs[which] * out.shape[1] + service[which]
            out[..., _ORIGINS[name]] += np.bincount(place, minlength=out[..., 0].size).reshape(out.shape[:2]) * per


def _answered(rows: Log, runs: Ints, since_s: float) -> npt.NDArray[np.bool_]:
    """Return (row,) whether a row belongs to a request of which all is there and that was answered since then."""
    _, request = np.unique(rows["request"] ^ (runs << 52), return_inverse=True)
    event, span = rows["event"], rows["span"]
    root = np.zeros(rows.size, np.uint64)
    offered = event == int(Event.OFFERED)
    root[request[offered]] = span[offered]
    known, over = np.zeros(rows.size, np.bool_), np.zeros(rows.size, np.bool_)
    known[request[offered]] = True
    ends = ((event == int(Event.REPLIED)) | (event == int(Event.TIMED_OUT))) & (rows["time_s"] >= since_s)
    ends &= span == root[request]
    over[request[ends]] = True
    return (known & over)[request]
