"""What an agent remembers of every run: the recent scrapes, and what was normal before things went wrong."""

__all__ = ["DELAY", "FLOORS", "NORMAL_STEPS", "WINDOW", "WIRE_S", "History"]

import numpy as np
import numpy.typing as npt

from simcore.jit import njit
from simcore.observation import Observation, Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Steps kept in the ring.
WINDOW = 24
#: A scrape counts as normal only when the run is still quiet this many steps later: alarms come late.
DELAY = 6
#: Weight of a new normal scrape once many have been seen (an average over about this many steps).
MEMORY_STEPS = 36
#: Normal scrapes kept one by one, for medians and quantiles.
NORMAL_STEPS = 36
#: Column after the last ``Metric`` that recorded data may have: the time between a caller and the service, seconds.
WIRE_S = len(Metric)

#: (metric + 1,) smallest believable spread: (share of the centre, absolute), so that a quiet metric does not turn
#: noise into evidence.
FLOORS = np.zeros((len(Metric) + 1, 2))
FLOORS[:, 0] = 0.05
FLOORS[[Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.P95_FAILED_S, WIRE_S]] = (0.08, 0.002)
FLOORS[Metric.ERROR_RATE] = (0.1, 0.005)
FLOORS[Metric.CPU_UTIL] = (0.05, 0.03)
FLOORS[Metric.MEMORY_FRAC] = (0.02, 0.02)
FLOORS[Metric.HIT_RATIO] = (0.02, 0.02)
FLOORS[[Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.POOL_WAITING]] = (0.2, 0.5)
FLOORS[Metric.LAG] = (0.2, 2.0)
FLOORS[[Metric.REJECTED, Metric.TIMEOUTS, Metric.RETRIES, Metric.DENIED]] = (0.2, 2.0)


@njit
def _push(ring, slot, old, fresh, quiet, metrics, count, centre, spread, limit):  # type: ignore[no-untyped-def]
    """Write a step into the ring, and let the step ``DELAY`` ago into the normal values of quiet runs."""
    for run in range(metrics.shape[0]):
        for row in range(metrics.shape[1]):
            for m in range(metrics.shape[2]):
                ring[run, slot, row, m] = metrics[run, row, m] if fresh[run] else np.nan
                x = ring[run, old, row, m]
                if not quiet[run] or np.isnan(x):
                    continue
                n = count[run, row, m]
                weight = 1.0 / (n + 1)
                gap = x - centre[run, row, m] if n > 0 else 0.0
                centre[run, row, m] = x if n == 0 else centre[run, row, m] + weight * gap
                spread[run, row, m] += weight * (abs(gap) - spread[run, row, m])
                if n < limit:
                    count[run, row, m] = n + 1


def _floors(centre: Floats) -> Floats:
    """Return the smallest believable spread around (..., metric) centres."""
    floors = FLOORS[: centre.shape[-1]]
    smallest: Floats = np.maximum(floors[:, 0] * np.abs(centre), floors[:, 1])
    return smallest


class History:
    """Recent scrapes and normal values of a batch of runs; the loop owns and feeds it, diagnosers and policies read.

    Attributes
    ----------
    ring
        (run, ``WINDOW``, service + 1, metric) scrapes; step t is in slot ``t % WINDOW``; nan where none arrived.
    centre, spread
        (run, service + 1, metric) mean and mean absolute deviation of the scrapes of quiet times, weighted towards
        the recent ones; centre is nan while none is known.
    normal
        (run, ``NORMAL_STEPS``, service + 1, metric) the latest scrapes of quiet times, a ring; nan where none.
    kept
        (run,) how many scrapes have gone into ``normal``: the next goes to that place, round the ring.
    onset
        (run,) step since which the run is not quiet, less one because alarms come late; -1 while it is quiet.
    step
        The last step pushed, -1 before the first.
    signals
        The same of what traces and logs say, without the system's row: (.., service, signal); None: there is neither.
    """

    #: What belongs to single runs.
    PER_RUN = ("ring", "centre", "spread", "_count", "normal", "kept", "onset", "_arrived", "signals")

    def __init__(self, topology: Topology, n_runs: int, *, rows: int | None = None, columns: int = len(Metric)) -> None:
        shape = (n_runs, topology.n_services + 1 if rows is None else rows, columns)
        self._topology = topology
        self.signals: History | None = None
        self.ring: Floats = np.full((n_runs, WINDOW, *shape[1:]), np.nan)
        self.normal: Floats = np.full((n_runs, NORMAL_STEPS, *shape[1:]), np.nan)
        self.kept: Ints = np.zeros(n_runs, np.int64)
        self.onset: Ints = np.full(n_runs, -1, np.int64)
        self._arrived: Bools = np.zeros((n_runs, WINDOW), np.bool_)
        self.centre: Floats = np.full(shape, np.nan)
        self.spread: Floats = np.zeros(shape)
        self._count = np.zeros(shape, np.int64)
        self.step = -1

    def push(self, observation: Observation, quiet: Bools) -> None:
        """Take in the observation of one step.

        Parameters
        ----------
        observation
            Seen at this step; steps come in order.
        quiet
            (run,) whether neither an alarm is open nor the SLO broken.
        """
        self._take(observation.step, observation.metrics, observation.fresh, quiet)
        if observation.signals is not None:
            if self.signals is None:
                n_runs, rows, columns = observation.signals.shape
                self.signals = History(self._topology, n_runs, rows=rows, columns=columns)
            self.signals._take(observation.step, observation.signals, observation.fresh, quiet)

    def _take(self, step: int, values: Floats, fresh: Bools, quiet: Bools) -> None:
        """Write the values (run, row, column) of one step."""
        self.step = step
        slot = self.step % WINDOW
        old = (self.step - DELAY) % WINDOW
        _push(
            self.ring, slot, old, fresh, quiet, np.ascontiguousarray(values),
            self._count, self.centre, self.spread, MEMORY_STEPS,
        )  # fmt: skip
        self._arrived[:, slot] = fresh
        kept = np.flatnonzero(quiet & self._arrived[:, old])
        self.normal[kept, self.kept[kept] % NORMAL_STEPS] = self.ring[kept, old]
        self.kept[kept] += 1
        self.onset = np.where(quiet, -1, np.where(self.onset < 0, max(self.step - 1, 0), self.onset))

    @classmethod
    def recorded(cls, topology: Topology, normal: Floats, series: Floats, onset: Ints) -> "History":
        """Return the history of recorded cases at the last scrape of each.

        Parameters
        ----------
        topology
            Of the system.
        normal
            (case, sample, service + 1, metric) scrapes of quiet times, any number of them.
        series
            (case, ``WINDOW``, service + 1, metric) the scrapes up to the diagnosis, the last one at the end; nan where
            there are none.
        onset
            (case,) position in ``series`` of the first scrape that may show the trouble.
        """
        made = cls(topology, 0)
        made.ring, made.normal, made.onset = series, normal, onset
        made.step = WINDOW - 1
        made.kept = np.full(series.shape[0], normal.shape[1])
        known = ~np.isnan(normal)
        count = known.sum(1)
        with np.errstate(invalid="ignore"):
            made.centre = np.where(known, normal, 0.0).sum(1) / np.where(count > 0, count, np.nan)
            made.spread = np.where(known, np.abs(normal - made.centre[:, None]), 0.0).sum(1) / np.maximum(count, 1)
        made._count = count
        return made

    def scale(self, run: int) -> Floats:
        """Return (service + 1, metric) the spread of a run's metrics, not below ``FLOORS``."""
        floor = _floors(self.centre[run])
        scale: Floats = np.maximum(self.spread[run], floor)
        return scale

    def deviation(self, run: int, metrics: Floats) -> Floats:
        """Return (service + 1, metric) how many spreads a run's scrape lies above normal; nan where unknown."""
        with np.errstate(invalid="ignore", divide="ignore"):
            deviation: Floats = (metrics - self.centre[run]) / self.scale(run)
        return deviation
