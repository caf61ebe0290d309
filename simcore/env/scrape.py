"""How telemetry reaches the agent: late, and now and then not at all."""

__all__ = ["Scraper", "keyed_uniforms"]

import copy
from collections import deque

import numpy as np
import numpy.typing as npt

from simcore.jit import njit
from simcore.model.scenario import Scenario
from simcore.streams import rekey_all, uniform
from simcore.windows import N_METRICS, N_STATS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@njit
def keyed_uniforms(keys, count):  # type: ignore[no-untyped-def]
    """Return (key, count) the first ``count`` uniforms of each key (uint64)."""
    out = np.empty((keys.size, count))
    for i in range(keys.size):
        for j in range(count):
            out[i, j] = uniform(keys[i], np.uint64(j))
    return out


class Scraper:
    """Keeps, for every run, the last complete scrape: the window, its metrics and replicas, and changes seen.

    A scrape of window w arrives at edge ``w + 1 + lag``, unless it is lost, by a uniform keyed by the run and the
    window; the previous one is kept then. Changes (deploys, configuration) travel with the scrapes and are never
    lost: they are seen with the next scrape that arrives.
    """

    def __init__(self, scenario: Scenario, keys: npt.NDArray[np.uint64], n_steps: int, n_slots: int) -> None:
        """Start with nothing seen.

        Parameters
        ----------
        scenario
            Lag and drop rate.
        keys
            (run,) key of the telemetry stream.
        n_steps
            Windows of an episode.
        n_slots
            Length of the slot axis of ``replicas``.
        """
        n_runs, n_services = keys.size, len(scenario.services)
        self._step_s = scenario.timing.step_s
        self._lag = scenario.observation.lag_steps
        self._keys, self._drop_rate = keys, scenario.observation.drop_rate
        self._lost = self._losses(keys, n_steps)
        self._on_the_way: deque[tuple[Floats, Floats, Ints, Floats | None]] = deque()
        self._changed = np.full((n_runs, n_services), -1, np.int64)
        self._changed_seen = self._changed.copy()
        self.window = np.full(n_runs, -1, np.int64)  #: (run,) window of the last scrape, -1: none yet
        self.fresh = np.zeros(n_runs, np.bool_)  #: (run,) whether it arrived at the present edge
        self.metrics = np.full((n_runs, n_services + 1, N_METRICS), np.nan)  #: (run, service + 1, metric)
        self.replicas = np.full((n_runs, n_services, n_slots, N_STATS), np.nan)  #: (run, service, slot, stat)
        self.signals: Floats | None = None  #: (run, service, signal)

    def _losses(self, keys: npt.NDArray[np.uint64], n_steps: int) -> Bools:
        if self._drop_rate > 0:
            lost: Bools = keyed_uniforms(keys, n_steps) < self._drop_rate
            return lost
        return np.zeros((keys.size, n_steps), np.bool_)

    def fork(self, rows: Ints, rekey: Ints, step: int) -> "Scraper":
        """Return a continuation of the runs ``rows``; the scrapes of windows from ``step`` on get re-keyed losses.

        Parameters
        ----------
        rows
            (row,) positions of runs, repeats allowed.
        rekey
            (row,) number of the future, -1: the run's own.
        step
            Windows closed so far.
        """
        twin = copy.copy(self)
        twin._keys = rekey_all(self._keys[rows], rekey)
        twin._lost = self._lost[rows]
        other = rekey >= 0
        if other.any():
            twin._lost[other, step:] = self._losses(twin._keys[other], twin._lost.shape[1])[:, step:]
        twin._on_the_way = deque(
            (m[rows], r[rows], c[rows], None if s is None else s[rows]) for m, r, c, s in self._on_the_way
        )
        twin.signals = None if self.signals is None else self.signals[rows]
        for name in ("_changed", "_changed_seen", "window", "fresh", "metrics", "replicas"):
            setattr(twin, name, getattr(self, name)[rows])
        return twin

    def close(
        self, window: int, metrics: Floats, replicas: Floats, markers: Ints, signals: Floats | None = None
    ) -> None:
        """Take in a closed window; what arrives at its end becomes visible.

        Parameters
        ----------
        window
            Its number; windows come in order.
        metrics, replicas, markers, signals
            (run, service + 1, metric), (run, service, slot, stat), (run, service) and, if there are any, (run,
            service, signal) of that window; kept by reference until they arrive.
        """
        self._on_the_way.append((metrics, replicas, markers, signals))
        arriving = window - self._lag
        if arriving < 0:
            return
        metrics, replicas, markers, signals = self._on_the_way.popleft()
        self._changed[markers > 0] = arriving
        fresh = ~self._lost[:, arriving]
        self.fresh = fresh
        if fresh.all():
            # arrays that the agent may still hold are replaced, never changed
            self.window, self._changed_seen = np.full_like(self.window, arriving), self._changed.copy()
            self.metrics, self.replicas, self.signals = metrics, replicas, signals
            return
        self.window = np.where(fresh, arriving, self.window)
        self._changed_seen = np.where(fresh[:, None], self._changed, self._changed_seen)
        self.metrics = np.where(fresh[:, None, None], metrics, self.metrics)
        self.replicas = np.where(fresh[:, None, None, None], replicas, self.replicas)
        if signals is not None:
            before = np.full_like(signals, np.nan) if self.signals is None else self.signals
            self.signals = np.where(fresh[:, None, None], signals, before)

    def change_age_s(self, step: int) -> Floats:
        """Return (run, service) seconds from the start of the window of the last change seen to edge ``step``."""
        age: Floats = np.where(self._changed_seen >= 0, (step - self._changed_seen) * self._step_s, np.nan)
        return age
