"""What a run writes down: the event log, and per window the counts, the latencies and the integrals of levels."""

__all__ = ["Ledger", "Level"]

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from simcore.codes import Event
from simcore.engines.api import LOG
from simcore.reference.calendar import Calendar
from simcore.samplers import integrate
from simcore.streams import uniform
from simcore.windows import END, Tally

#: The shared function as Python runs it: to sum and multiply is the same there, and the call is shorter.
_integrate: Callable[[float, float, float, float], float] = integrate.py_func

_NONE = np.uint64(0)

#: The request number of events that belong to no request.
NO_REQUEST = -1


class Level:
    """A piecewise constant quantity and its time integral since the last edge."""

    __slots__ = ("_acc", "_since_s", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self._acc = 0.0
        self._since_s = now

    def set(self, value: float, now: float) -> None:
        """Change the level; an equal value leaves no trace in the sums."""
        if value != self.value:
            self._acc = _integrate(self._acc, self.value, self._since_s, now)
            self._since_s = now
            self.value = value

    def close(self, edge_s: float) -> float:
        """Return the integral up to the edge and start anew there."""
        area = _integrate(self._acc, self.value, self._since_s, edge_s)
        self._acc = 0.0
        self._since_s = edge_s
        return area


class Ledger:
    """The books of one run.

    Parameters
    ----------
    calendar
        The run's clock.
    n_services
        Number of services; row ``n_services`` is the system.
    log
        Whether to keep the event log.
    share
        Of the requests whose rows the log holds.
    sample
        Key of the draws that say which.
    """

    def __init__(
        self, calendar: Calendar, n_services: int, log: bool, share: float = 1.0, sample: np.uint64 = _NONE
    ) -> None:
        self.system = n_services
        self._calendar = calendar
        self._rows: list[tuple[float, int, int, int, int]] = []
        self._logging = log
        self._share = share
        self._sample = sample
        self.open_window()

    def open_window(self) -> None:
        """Start all counts of a window at zero."""
        self.tally = [[0] * len(Tally) for _ in range(self.system + 1)]
        self.ends: list[tuple[float, int, bool]] = []
        self.markers = [0] * self.system

    def log(self, request: int, span: int, event: Event, aux: int = 0) -> None:
        """Append a row to the event log."""
        if self._logging and (request < 0 or self._share >= 1.0 or self._samples(request)):
            self._rows.append((self._calendar.now, request, span, event, aux))

    def _samples(self, request: int) -> bool:
        u: float = uniform(self._sample, np.uint64(request))
        return u < self._share

    def count(self, row: int, what: Tally) -> None:
        """Count one more of something at a service, or for the system."""
        self.tally[row][what] += 1

    def ended(self, latency_s: float, row: int, failed: bool) -> None:
        """Record the latency of a span, or of a request as its client sees it."""
        self.ends.append((latency_s, row, failed))

    def end_records(self) -> npt.NDArray[np.void]:
        """Return the window's latencies, dtype ``END``."""
        return np.array(self.ends, dtype=END)

    def events(self, first: int) -> npt.NDArray[np.void]:
        """Return the event log from a row on, dtype ``LOG``."""
        return np.array(self._rows[first:], dtype=LOG)
