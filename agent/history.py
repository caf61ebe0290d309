"""What an agent remembers of every run: the recent scrapes, and what was normal before things went wrong."""

__all__ = ["DELAY", "FLOORS", "WINDOW", "History"]

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

#: (metric,) smallest believable spread: (share of the centre, absolute), so that a quiet metric does not turn
#: noise into evidence.
FLOORS = np.zeros((len(Metric), 2))
FLOORS[:, 0] = 0.05
FLOORS[[Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.P95_FAILED_S]] = (0.08, 0.002)
FLOORS[Metric.ERROR_RATE] = (0.1, 0.005)
FLOORS[Metric.CPU_UTIL] = (0.05, 0.03)
FLOORS[Metric.MEMORY_FRAC] = (0.02, 0.02)
FLOORS[Metric.HIT_RATIO] = (0.02, 0.02)
FLOORS[[Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.POOL_WAITING]] = (0.2, 0.5)
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


class History:
    """Recent scrapes and normal values of a batch of runs; the loop owns and feeds it, diagnosers and policies read.

    Attributes
    ----------
    ring
        (run, ``WINDOW``, service + 1, metric) scrapes; step t is in slot ``t % WINDOW``; nan where none arrived.
    centre, spread
        (run, service + 1, metric) mean and mean absolute deviation of the scrapes of quiet times, weighted towards
        the recent ones; centre is nan while none is known.
    step
        The last step pushed, -1 before the first.
    """

    PER_RUN = ("ring", "centre", "spread", "_count")

    def __init__(self, topology: Topology, n_runs: int) -> None:
        shape = (n_runs, topology.n_services + 1, len(Metric))
        self.ring: Floats = np.full((n_runs, WINDOW, *shape[1:]), np.nan)
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
        self.step = observation.step
        slot = self.step % WINDOW
        old = (self.step - DELAY) % WINDOW
        _push(
            self.ring, slot, old, observation.fresh, quiet, np.ascontiguousarray(observation.metrics),
            self._count, self.centre, self.spread, MEMORY_STEPS,
        )  # fmt: skip

    def scale(self, run: int) -> Floats:
        """Return (service + 1, metric) the spread of a run's metrics, not below ``FLOORS``."""
        floor = np.maximum(FLOORS[:, 0] * np.abs(self.centre[run]), FLOORS[:, 1])
        scale: Floats = np.maximum(self.spread[run], floor)
        return scale

    def deviation(self, run: int, metrics: Floats) -> Floats:
        """Return (service + 1, metric) how many spreads a run's scrape lies above normal; nan where unknown."""
        with np.errstate(invalid="ignore", divide="ignore"):
            deviation: Floats = (metrics - self.centre[run]) / self.scale(run)
        return deviation
