"""Metric windows: what happened between two edges, per service. The one kernel that both engines use.

An engine hands over, per run and window, the latencies of the spans that ended (``END`` records), integer
tallies, and time integrals; :func:`close_window` turns them into metrics. Row ``n_services`` is the system as its
clients see it.
"""

__all__ = ["END", "MIN_SAMPLES", "Area", "Metric", "ReplicaStat", "Tally", "Total", "Windows", "close_window"]

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from simcore.jit import njit

#: A quantile of fewer samples is nan (FIELD: what counts).
MIN_SAMPLES = 20

#: A span that ended: its latency, service (``n_services`` for a root at the client) and whether it failed.
END = np.dtype([("latency_s", np.float64), ("service", np.int32), ("failed", np.int32)])


class Metric(IntEnum):
    """Columns of the metrics, axis -1."""

    P50_S = 0  #: quantiles of the successes (system row: with clients' timeouts at their full length)
    P95_S = 1
    P99_S = 2
    P95_FAILED_S = 3  #: of the failures
    OK = 4  #: successes, count
    ERROR_RATE = 5  #: (failed + rejected) / (ok + failed + rejected); system: bad ends / all ends
    CPU_UTIL = 6  #: busy core-seconds / core-seconds of replicas that were up
    MEMORY_FRAC = 7  #: of the limit, the fullest replica at the window's end
    REQUEST_RATE_RPS = 8  #: arrivals per second (system: offered)
    IN_FLIGHT = 9  #: time average
    QUEUE_LENGTH = 10  #: time average
    REJECTED = 11  #: count (system: shed)
    TIMEOUTS = 12  #: attempts given up by callers
    RETRIES = 13  #: attempts after the first
    HIT_RATIO = 14  #: of a cache's lookups
    REPLICAS_UP = 15  #: at the window's end
    POOL_WAITING = 16  #: attempts of the service that wait for a connection, time average
    DENIED = 17  #: attempts of the service that were never sent: pool, breaker, deadline; messages that found no room
    LAG = 18  #: messages that the service has yet to consume, time average


class Tally(IntEnum):
    """Integer counts that an engine keeps per service row within a window."""

    ARRIVALS = 0  #: system: offered
    REJECTED = 1  #: system: shed
    FAILED = 2  #: failures without a latency: refused, unavailable, killed (system: unused)
    TIMEOUTS = 3  #: system: clients that gave up
    RETRIES = 4
    HITS = 5
    MISSES = 6
    GOOD = 7  #: system row only
    BAD = 8  #: system row only
    ERRORS = 9  #: system row only: replies that are not OK
    ATTEMPTS = 10  #: sends to the service (system: sends of roots)
    DENIED = 11  #: attempts of the service's spans that were not sent, messages that found no room


class Area(IntEnum):
    """Time integrals that an engine hands over per service, and two levels at the edge."""

    BUSY = 0  #: core-seconds
    UP = 1  #: replica-seconds
    IN_FLIGHT = 2  #: span-seconds
    QUEUE = 3  #: span-seconds
    MEMORY_FRAC = 4  #: fullest UP or DRAINING replica at the edge, 0 if none
    REPLICAS_UP = 5  #: at the edge
    POOL_WAITING = 6  #: attempt-seconds
    LAG = 7  #: message-seconds


class Total(IntEnum):
    """Integer totals of a window, axis -1 of ``Windows.totals``."""

    OFFERED = 0
    GOOD = 1
    BAD = 2
    SHED = 3
    ERRORS = 4
    TIMEOUTS = 5
    ATTEMPTS = 6  #: all sends, of roots and of calls


class ReplicaStat(IntEnum):
    """Per replica and window, axis -1 of ``Windows.replicas``; slot = rank among STARTING and UP ones."""

    ORDINAL = 0  #: within the service, -1 for an empty slot
    STATE = 1  #: a ``ReplicaState``
    QUARANTINED = 2
    FINISHED = 3  #: spans ended in the window
    MEAN_LATENCY_S = 4  #: of them, nan if none
    BUSY = 5  #: core-seconds / (step * cores)


@dataclass(frozen=True, slots=True)
class Windows:
    """Closed windows of all runs of a session."""

    first: int  #: index of the first window
    metrics: npt.NDArray[np.float64]  #: (run, window, service + 1, metric)
    totals: npt.NDArray[np.int64]  #: (run, window, total)
    replicas: npt.NDArray[np.float64]  #: (run, window, service, slot, stat)
    markers: npt.NDArray[np.int64]  #: (run, window, service) deploys and configuration changes begun


N_METRICS = len(Metric)
N_TALLIES = len(Tally)
N_AREAS = len(Area)
N_TOTALS = len(Total)
N_STATS = len(ReplicaStat)

_P50, _P95, _P99, _P95F, _OK = (
    int(Metric.P50_S),
    int(Metric.P95_S),
    int(Metric.P99_S),
    int(Metric.P95_FAILED_S),
    int(Metric.OK),
)
_ERRORS, _UTIL, _MEMORY, _RATE = (
    int(Metric.ERROR_RATE),
    int(Metric.CPU_UTIL),
    int(Metric.MEMORY_FRAC),
    int(Metric.REQUEST_RATE_RPS),
)
_FLIGHT, _QUEUE, _REJ, _TMO = (
    int(Metric.IN_FLIGHT),
    int(Metric.QUEUE_LENGTH),
    int(Metric.REJECTED),
    int(Metric.TIMEOUTS),
)
_RETRIES, _HIT, _UP = int(Metric.RETRIES), int(Metric.HIT_RATIO), int(Metric.REPLICAS_UP)
_POOL, _DENIED, _LAG = int(Metric.POOL_WAITING), int(Metric.DENIED), int(Metric.LAG)
_T_ARR, _T_REJ, _T_FAIL, _T_TMO = int(Tally.ARRIVALS), int(Tally.REJECTED), int(Tally.FAILED), int(Tally.TIMEOUTS)
_T_RETRY, _T_HIT, _T_MISS = int(Tally.RETRIES), int(Tally.HITS), int(Tally.MISSES)
_T_GOOD, _T_BAD, _T_ERR, _T_ATT = int(Tally.GOOD), int(Tally.BAD), int(Tally.ERRORS), int(Tally.ATTEMPTS)
_A_BUSY, _A_UP, _A_FLIGHT, _A_QUEUE = int(Area.BUSY), int(Area.UP), int(Area.IN_FLIGHT), int(Area.QUEUE)
_A_MEM, _A_REP, _A_POOL = int(Area.MEMORY_FRAC), int(Area.REPLICAS_UP), int(Area.POOL_WAITING)
_A_LAG = int(Area.LAG)
_T_DENIED = int(Tally.DENIED)


#: So many values are sorted by insertion.
_FEW = np.uint64(4)
_ONE = np.uint64(1)


@njit
def select(x, lo, hi, k):  # type: ignore[no-untyped-def]
    """Reorder x[lo:hi] so that x[k] has its sorted value, none greater before it, none smaller behind, and return it.

    Quickselect with the median of three and Lomuto's partition (Edelkamp and Weiss, "BlockQuicksort", 2019), which
    moves every value alike: whether one is below the pivot is a toss-up that no processor foresees. lo <= k < hi;
    indices are unsigned, so that they are not checked for counting from the end.
    """
    left, right, at = np.uint64(lo), np.uint64(hi), np.uint64(k)
    while right - left > _FEW:
        a, b, c = x[left], x[(left + right) >> _ONE], x[right - _ONE]
        pivot = max(min(a, b), min(max(a, b), c))
        n = left
        for i in range(left, right):
            value = x[i]
            x[i] = x[n]
            x[n] = value
            n += np.uint64(value < pivot)
        if at < n:
            right = n
        elif n > left:
            left = n
        else:
            # none is below the pivot: set those that equal it apart
            for i in range(left, right):
                value = x[i]
                x[i] = x[n]
                x[n] = value
                n += np.uint64(value <= pivot)
            if at < n:
                return pivot
            left = n
    for i in range(left + _ONE, right):
        value = x[i]
        j = np.uint64(i)
        while j > left and x[j - _ONE] > value:
            x[j] = x[j - _ONE]
            j -= _ONE
        x[j] = value
    return x[at]


@njit
def rank_of(n, permille):  # type: ignore[no-untyped-def]
    """Return the index of a quantile in n sorted values: the smallest with at least that share at or below it."""
    return max(0, (n * permille + 999) // 1000 - 1)


@njit(internal=True)
def _quantiles(scratch, lo, hi, out):  # type: ignore[no-untyped-def]
    n = hi - lo
    if n < MIN_SAMPLES:
        return
    k50 = lo + rank_of(n, 500)
    k95 = lo + rank_of(n, 950)
    k99 = lo + rank_of(n, 990)
    # the median first: it halves what is left for the others
    out[_P50] = select(scratch, lo, hi, k50)
    out[_P95] = select(scratch, k50, hi, k95)
    out[_P99] = select(scratch, k95, hi, k99)


@njit
def close_window(ends, n_ends, tally, area, cores, step_s, scratch, metrics, totals):  # type: ignore[no-untyped-def]
    """Turn what one run did in one window into its metrics.

    Parameters
    ----------
    ends
        (capacity,) ``END`` records, the first ``n_ends`` valid.
    n_ends
        Number of spans and roots that ended.
    tally
        (service + 1, tally) counts.
    area
        (service, area) integrals over the window, and levels at its end.
    cores
        (service,) base cores of one replica.
    step_s
        Length of the window, seconds.
    scratch
        (>= n_ends,) working memory, overwritten.
    metrics
        (service + 1, metric), overwritten.
    totals
        (total,), overwritten.
    """
    n_rows = tally.shape[0]
    system = n_rows - 1
    # sort by row and outcome: first how many there are, then where each goes
    first = np.zeros(2 * n_rows + 1, np.int64)
    for i in range(n_ends):
        first[2 * ends[i].service + ends[i].failed + 1] += 1
    for i in range(2 * n_rows):
        first[i + 1] += first[i]
    place = first.copy()
    for i in range(n_ends):
        kind = 2 * ends[i].service + ends[i].failed
        scratch[place[kind]] = ends[i].latency_s
        place[kind] += 1
    metrics[:, :] = np.nan
    attempts = 0
    for row in range(n_rows):
        lo, mid, hi = first[2 * row], first[2 * row + 1], first[2 * row + 2]
        out = metrics[row]
        _quantiles(scratch, lo, mid, out)
        successes = mid - lo
        failures = hi - mid
        if failures >= MIN_SAMPLES:
            out[_P95F] = select(scratch, mid, hi, mid + rank_of(failures, 950))
        count = tally[row]
        out[_RATE] = count[_T_ARR] / step_s
        out[_REJ] = count[_T_REJ]
        out[_TMO] = count[_T_TMO]
        out[_RETRIES] = count[_T_RETRY]
        attempts += count[_T_ATT]
        if row == system:
            # a client's timeout is among the successes' quantiles, but it is no success
            out[_OK] = successes - count[_T_TMO]
            bad_ends = failures + count[_T_TMO] + count[_T_REJ]
            all_ends = successes + failures + count[_T_REJ]
            if all_ends > 0:
                out[_ERRORS] = bad_ends / all_ends
            continue
        out[_OK] = successes
        bad_ends = failures + count[_T_FAIL] + count[_T_REJ]
        if successes + bad_ends > 0:
            out[_ERRORS] = bad_ends / (successes + bad_ends)
        if area[row, _A_UP] > 0.0:
            out[_UTIL] = area[row, _A_BUSY] / (area[row, _A_UP] * cores[row])
        out[_MEMORY] = area[row, _A_MEM]
        out[_FLIGHT] = area[row, _A_FLIGHT] / step_s
        out[_QUEUE] = area[row, _A_QUEUE] / step_s
        if count[_T_HIT] + count[_T_MISS] > 0:
            out[_HIT] = count[_T_HIT] / (count[_T_HIT] + count[_T_MISS])
        out[_UP] = area[row, _A_REP]
        out[_POOL] = area[row, _A_POOL] / step_s
        out[_LAG] = area[row, _A_LAG] / step_s
        out[_DENIED] = count[_T_DENIED]
    totals[0] = tally[system, _T_ARR]
    totals[1] = tally[system, _T_GOOD]
    totals[2] = tally[system, _T_BAD]
    totals[3] = tally[system, _T_REJ]
    totals[4] = tally[system, _T_ERR]
    totals[5] = tally[system, _T_TMO]
    totals[6] = attempts
