"""Which requests are traced: a share of all, drawn when they come, and those that turn out slow or failed."""

__all__ = ["Roots", "head_sample", "roots_of", "tail_sample"]

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.codes import Event, Status
from simcore.eventlog import taken as is_taken
from simcore.telemetry.logs import windows_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Log = npt.NDArray[np.void]

#: Status codes of requests that were turned away, and of those not answered yet.
SHED, OPEN = -1, -2


@dataclass(frozen=True, slots=True)
class Roots:
    """The requests of a log, in order of arrival; all arrays are (request,)."""

    requests: Ints  #: number, ``stream << 40 | n``
    keys: Keys  #: root keys
    offered_s: Floats
    latency_s: Floats  #: until the answer or the client's time-out; nan: neither yet, or turned away
    status: Ints  #: a ``Status``; ``SHED``, ``OPEN``

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """(request,) whether the client was turned away, gave up, or got an answer that is not OK."""
        bad: npt.NDArray[np.bool_] = (self.status != int(Status.OK)) & (self.status != OPEN)
        return bad


def roots_of(log: Log) -> Roots:
    """Return what became of the requests, as their clients see it.

    Parameters
    ----------
    log
        Dtype ``LOG``, from the beginning of the run.
    """
    event = log["event"]
    offered = log[event == int(Event.OFFERED)]
    keys = offered["span"]
    order = np.argsort(keys)
    latency, status = np.full(keys.size, math.nan), np.full(keys.size, OPEN, np.int64)
    for kind in (Event.SHED, Event.REPLIED, Event.TIMED_OUT):
        rows = log[event == int(kind)]
        at = np.minimum(np.searchsorted(keys, rows["span"], sorter=order), max(keys.size - 1, 0))
        of = order[at] if keys.size else at
        own = keys[of] == rows["span"] if keys.size else np.zeros(0, np.bool_)
        of, rows = of[own], rows[own]
        if kind is not Event.SHED:
            latency[of] = rows["time_s"] - offered["time_s"][of]
        status[of] = {Event.SHED: SHED, Event.TIMED_OUT: int(Status.TIMEOUT)}.get(kind, rows["aux"])
    return Roots(offered["request"].astype(np.int64), keys.copy(), offered["time_s"].copy(), latency, status)


def head_sample(roots: Roots, ratio: float, run_key: np.uint64) -> Ints:
    """Return the requests that head sampling takes: each with this probability, by a draw keyed by it.

    They are those of which a session opened with this ``share`` keeps the rows; larger ratios take them too.

    Parameters
    ----------
    roots
        The requests.
    ratio
        In [0, 1].
    run_key
        Key of the engine's stream, ``RunInputs.key``.
    """
    return roots.requests[is_taken(run_key, roots.requests, ratio)]


def tail_sample(roots: Roots, n: int, window_s: float) -> Ints:
    """Return the requests that tail sampling takes: of each window the n slowest and the n slowest that failed.

    Parameters
    ----------
    roots
        The requests.
    n
        How many of either kind per window; what was turned away counts as failed at once.
    window_s
        Length of the windows in which requests are compared, by arrival, seconds.
    """
    if n <= 0:
        return np.zeros(0, np.int64)
    windows = windows_of(roots.offered_s, window_s)
    latency = np.where(roots.failed & np.isnan(roots.latency_s), 0.0, roots.latency_s)
    taken = [
        _slowest(np.flatnonzero(which & ~np.isnan(latency)), windows, latency, n)
        for which in (np.ones(latency.size, np.bool_), roots.failed)
    ]
    return roots.requests[np.unique(np.concatenate(taken))]


def _slowest(of: Ints, windows: Ints, latency: Floats, n: int) -> Ints:
    """Return the n slowest of some requests in every window, the earlier one of equals."""
    order = of[np.lexsort((of, -latency[of], windows[of]))]
    _, first, counts = np.unique(windows[order], return_index=True, return_counts=True)
    rank = np.arange(order.size) - np.repeat(first, counts)
    return order[rank < n]
