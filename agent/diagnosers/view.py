"""What the statistical diagnosers look at: the trouble of some runs beside their normal state, metric by metric."""

__all__ = ["COMPARED", "NOW_STEPS", "Usual", "View", "ratio"]

import numpy as np
import numpy.typing as npt

from agent.history import FLOORS, WINDOW, WIRE_S, History
from simcore.observation import Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: "Now" is the mean over so many scrapes at most, all of them since the onset.
NOW_STEPS = 4
#: Metrics that the plain scores compare with normal, each in its own units of spread.
COMPARED = [
    Metric.P50_S, Metric.P95_S, Metric.P99_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC,
    Metric.REQUEST_RATE_RPS, Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.HIT_RATIO,
]  # fmt: skip
#: Quartiles of a normal distribution lie so many standard deviations apart.
_IQR_SIGMAS = 1.349


def ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    """Return above / below where both are known and below is positive, else ``otherwise``."""
    known = (below > 0) & ~np.isnan(above)
    out = np.full(np.broadcast_shapes(above.shape, below.shape), otherwise)
    divided: Floats = np.divide(above, below, out=out, where=known)
    return divided


def _quantiles(sample: Floats, levels: tuple[float, ...]) -> list[Floats]:
    """Return the quantiles of (row, sample, ...) along axis 1, nan left out; nan where nothing is known."""
    ordered = np.sort(sample, axis=1)  # nan last
    count = (~np.isnan(ordered)).sum(1, keepdims=True)
    found = []
    for level in levels:
        place = np.maximum(count - 1, 0) * level
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        below, above = (np.take_along_axis(ordered, i, 1)[:, 0] for i in (low, high))
        found.append(below + (above - below) * (place - low)[:, 0])
    return found


class Usual:
    """Median and spread of the normal scrapes of a batch, worked out anew only where they have changed.

    Parameters
    ----------
    topology
        Of the batch.
    n_runs
        How many runs.
    """

    #: What belongs to single runs.
    PER_RUN = ("_kept", "_median", "_iqr", "_per_request_s")

    def __init__(self, topology: Topology, n_runs: int) -> None:
        self._kept = np.full(n_runs, -1, np.int64)
        self._shape = (n_runs, topology.n_services + 1)
        self._median: Floats | None = None
        self._iqr: Floats | None = None
        self._per_request_s: Floats = np.full(self._shape, np.nan)

    def of(self, history: History, runs: Ints) -> tuple[Floats, Floats, Floats]:
        """Return median, spread and time per request of normal times; nan while no normal scrape is known.

        The first two are (row, service + 1, metric), the spread being the distance of the quartiles in standard
        deviations of a normal distribution; the third is (row, service + 1): time in flight / requests, seconds.
        """
        if self._median is None or self._iqr is None:
            shape = (*self._shape, history.normal.shape[-1])
            self._median, self._iqr = np.full(shape, np.nan), np.full(shape, np.nan)
        stale = runs[self._kept[runs] != history.kept[runs]]
        if stale.size:
            low, middle, high = _quantiles(history.normal[stale], (0.25, 0.5, 0.75))
            self._median[stale], self._iqr[stale] = middle, (high - low) / _IQR_SIGMAS
            flight, rate = (history.normal[stale, :, :, m] for m in (Metric.IN_FLIGHT, Metric.REQUEST_RATE_RPS))
            known = ~np.isnan(flight) & (rate > 0)
            spent, requests = (np.where(known, part, 0.0).sum(1) for part in (flight, rate))
            self._per_request_s[stale] = ratio(spent, requests, np.nan)
            self._kept[stale] = history.kept[stale]
        return self._median[runs], self._iqr[runs], self._per_request_s[runs]


class View:
    """The trouble of some runs beside their normal state.

    Attributes
    ----------
    topology
        Of the batch.
    now
        (row, service + 1, metric) mean of the scrapes since the onset, ``NOW_STEPS`` at most; nan where unknown.
    centre, scale
        (row, service + 1, metric) median of normal times, and the spread around it, not below ``FLOORS``; nan where
        unknown, the spread also where a metric without a floor never moved.
    per_request_s
        (row, service + 1) time in flight per request in normal times, seconds; nan where unknown.
    series
        (row, time, service + 1, metric) the recent scrapes, the latest last.
    since
        (row, time) whether the scrape is of the time since the onset.
    """

    def __init__(self, topology: Topology, history: History, usual: Usual, runs: Ints) -> None:
        self.topology, self.history, self.runs = topology, history, runs
        order = np.arange(history.step + 1, history.step + 1 + WINDOW) % WINDOW
        self.series: Floats = history.ring[runs][:, order]
        onset = np.where(history.onset[runs] < 0, history.step, history.onset[runs])
        age = np.arange(WINDOW - 1, -1, -1)
        self.since: Bools = age[None, :] <= (history.step - onset)[:, None]
        latest = self.series[:, -NOW_STEPS:]
        known = ~np.isnan(latest) & self.since[:, -NOW_STEPS:, None, None]
        count = known.sum(1)
        total = np.where(known, latest, 0.0).sum(1)
        self.now: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        self.centre, iqr, self.per_request_s = usual.of(history, runs)
        floors = FLOORS[: self.centre.shape[-1]]
        scale = np.fmax(iqr, np.fmax(floors[:, 0] * np.abs(self.centre), floors[:, 1]))
        self.scale: Floats = np.where(scale > 0, scale, np.nan)  # always 0 before: no measure of what is much

    def normal(self) -> Floats:
        """Return (row, sample, service + 1, metric) the scrapes of normal times in their order; nan where none."""
        kept, n = self.history.kept[self.runs], self.history.normal.shape[1]
        order = (kept[:, None] + np.arange(n)) % n
        normal: Floats = self.history.normal[self.runs[:, None], order]
        return normal

    def above(self, metric: int) -> Floats:
        """Return (row, service + 1) how many spreads a metric lies above normal; 0 where unknown."""
        if metric >= self.now.shape[-1]:
            return np.zeros(self.now.shape[:2])
        z = (self.now[..., metric] - self.centre[..., metric]) / self.scale[..., metric]
        return np.where(np.isnan(z), 0.0, z)

    def rise(self, metric: int) -> Floats:
        """Return (row, service + 1) by how much a metric lies above normal, in its own units; 0 where unknown."""
        if metric >= self.now.shape[-1]:
            return np.zeros(self.now.shape[:2])
        gap = self.now[..., metric] - self.centre[..., metric]
        return np.where(np.isnan(gap), 0.0, gap)

    def harm(self) -> Floats:
        """Return (row, service) how far the symptom's own kind of metrics lies above normal, in spreads.

        Latency (the farther of median and p95) and errors, each as much as it is the system's trouble.
        """
        late = np.maximum(self.above(Metric.P50_S), self.above(Metric.P95_S))
        kinds = np.maximum(0.0, np.stack([late, self.above(Metric.ERROR_RATE)], 2))[:, :-1]
        harm: Floats = (kinds * self.symptom()[:, None]).sum(2)
        return harm

    def symptom(self) -> Floats:
        """Return (row, 2) how much of the system's trouble is lateness, and how much is errors; they add up to 1."""
        late = np.maximum(0.0, np.maximum.reduce([self.above(m)[:, -1] for m in (Metric.P50_S, Metric.P95_S, WIRE_S)]))
        bad = np.maximum(0.0, self.above(Metric.ERROR_RATE)[:, -1])
        parts = np.stack([late / (late + 4.0), bad / (bad + 4.0)], 1)
        total = parts.sum(1, keepdims=True)
        return np.where(total > 0, parts / np.where(total > 0, total, 1.0), 0.5)
