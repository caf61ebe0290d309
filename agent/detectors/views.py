"""What a detector looks at: the features of the services of a simulated system, or all channels of a recorded machine.

A view turns (row, row of the metrics, metric) into (row, entity, feature), where the rows are runs, or steps, or both.
Detectors work on what it returns and know nothing of where it comes from: the same classes serve both.
"""

__all__ = ["MachineView", "ServiceView", "View"]

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.api import FEATURES, Topology
from simcore.errors import InputError
from simcore.jit import njit
from simcore.samplers import log
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class View(Protocol):
    """A selection of what was measured."""

    #: (entity, feature) smallest believable spread of a feature
    floor: Floats

    def learn(self, metrics: Floats, topology: Topology) -> None:
        """Learn what is needed to compute features from healthy windows (run, step, row, metric).

        Raises
        ------
        InputError
            If they do not have the shape of this view.
        """

    def begin(self, topology: Topology) -> None:
        """Begin a batch."""

    def features(self, metrics: Floats) -> tuple[Singles, Bools]:
        """Return (row, entity, feature) features without gaps, and (row, entity) whether any was there."""

    def strain(self, metrics: Floats) -> Floats:
        """Return (row, entity, feature) multiples of the static limits; nan where nothing was measured."""

    def bad(self, metrics: Floats) -> Floats:
        """Return (row, entity) the bad share of the window; nan where nothing was measured."""

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore what was learned; raises ``InputError``, ``KeyError``, ``TypeError`` or ``ValueError``."""


_COLUMNS = np.array(FEATURES, np.int64)
_P95, _RATE = FEATURES.index(Metric.P95_S), int(Metric.REQUEST_RATE_RPS)
_ERRORS = FEATURES.index(Metric.ERROR_RATE)
#: Features that follow the load; an error rate does not.
_LOADED = tuple(f for f, metric in enumerate(FEATURES) if metric != Metric.ERROR_RATE)
#: p95 enters as a logarithm, since it is skewed; below this it is all the same, seconds.
_MIN_P95_S = 1e-4
#: Error rate above which a missing p95 means that hardly anybody was answered.
_OUTAGE = 0.5
#: Smallest believable spread of the features: of the logarithm of p95, and of the shares.
_FLOORS = {Metric.P95_S: 0.08, Metric.ERROR_RATE: 0.01, Metric.CPU_UTIL: 0.03, Metric.MEMORY_FRAC: 0.02}
#: Limits of CPU utilisation and memory; those of p95 and error rate are the scenario's SLO.
_CPU_LIMIT = 0.9
_MEMORY_LIMIT = 0.9
#: If this quantile breaks the objective, at least this share of the requests does.
_SLOW = ((Metric.P50_S, 0.5), (Metric.P95_S, 0.05), (Metric.P99_S, 0.01))


@njit
def _features(metrics, columns, rate, curve, span, fill, worst, x, known):  # type: ignore[no-untyped-def]
    """Fill x (row, service, feature) float32 and known (row, service): whether any feature was there."""
    for row in range(x.shape[0]):
        for s in range(x.shape[1]):
            load = metrics[row, s, rate]
            load = span[s, 0] if np.isnan(load) else min(max(load, span[s, 0]), span[s, 1])
            known[row, s] = False
            for f in range(x.shape[2]):
                value = metrics[row, s, columns[f]]
                if np.isnan(value):
                    outage = f == _P95 and metrics[row, s, columns[_ERRORS]] > _OUTAGE
                    x[row, s, f] = worst[s] if outage else fill[s, f]
                    continue
                if f == _P95:
                    value = log(max(value, _MIN_P95_S))
                x[row, s, f] = value - (curve[s, f, 0] + (curve[s, f, 1] + curve[s, f, 2] * load) * load)
                known[row, s] = True


class ServiceView:
    """p95 latency, error rate, CPU and memory of every service of a simulated system; columns are ``Metric``.

    Latency (its logarithm), CPU and memory are taken relative to what is normal at the service's request rate, a
    parabola through the fault-free runs: otherwise the strangest scrapes of a healthy system are those at its peak
    load, where all three are at their extremes together. Beyond the rates seen, the nearest one counts.

    A missing feature (a quantile of too few answers, a rate of no requests) takes the median of the fault-free runs: it
    speaks neither for nor against an anomaly, and the features that are there decide. But a p95 that is missing while
    most requests fail is the worst that was seen.
    """

    def __init__(self) -> None:
        n = len(FEATURES)
        self.floor: Floats = np.zeros((0, n))
        self._fill: Singles = np.zeros((0, n), np.float32)
        self._worst: Singles = np.zeros(0, np.float32)
        self._curve: Floats = np.zeros((0, n, 3))
        self._span: Floats = np.zeros((0, 2))
        self._limits: Floats = np.ones(n)
        self._slo: tuple[float, float] = (np.inf, np.inf)

    def learn(self, metrics: Floats, topology: Topology) -> None:
        """Learn medians and load curves from windows (run, step, service + 1, metric)."""
        n_services = topology.n_services
        if metrics.ndim != 4 or metrics.shape[0] * metrics.shape[1] == 0 or metrics.shape[2] != n_services + 1:
            raise InputError(f"a fit needs (run, step, service + 1, metric) windows, got shape {metrics.shape}")
        windows = np.ascontiguousarray(metrics.reshape(-1, *metrics.shape[2:]))
        self._fill, self._worst = np.zeros((n_services, len(FEATURES)), np.float32), np.zeros(n_services, np.float32)
        self._set_floor(n_services)
        self._learn_load(windows)
        x, _ = self.features(windows)
        missing = np.isnan(windows[:, :-1, _COLUMNS])
        for s in range(n_services):
            for f in range(len(FEATURES)):
                values = x[~missing[:, s, f], s, f]
                # a feature that never was there (no quantile at low load) is constant
                self._fill[s, f] = np.median(values) if values.size else 0.0
                if f == _P95 and values.size:
                    self._worst[s] = values.max()

    def _learn_load(self, windows: Floats) -> None:
        """Learn how the features of each service follow its request rate in (window, service + 1, metric)."""
        n_services = windows.shape[1] - 1
        self._curve = np.zeros((n_services, len(FEATURES), 3))
        self._span = np.zeros((n_services, 2))
        for s in range(n_services):
            rate = windows[:, s, _RATE]
            seen = rate[~np.isnan(rate)]
            if not seen.size:
                continue
            self._span[s] = seen.min(), seen.max()
            for f in _LOADED:
                value = windows[:, s, _COLUMNS[f]]
                value = np.log(np.maximum(value, _MIN_P95_S)) if f == _P95 else value
                use = ~np.isnan(rate) & ~np.isnan(value)
                if use.any():
                    low, high = np.quantile(value[use], [0.005, 0.995])  # a restart or two must not bend the curve
                    use[use] = (value[use] >= low) & (value[use] <= high)
                    powers = rate[use, None] ** np.arange(3)
                    self._curve[s, f] = np.linalg.lstsq(powers, value[use], rcond=None)[0]

    def _set_floor(self, n_services: int) -> None:
        self.floor = np.tile([_FLOORS[metric] for metric in FEATURES], (n_services, 1))

    def begin(self, topology: Topology) -> None:
        """Take the limits from the scenario."""
        self._slo = (topology.p95_slo_s, topology.bad_frac_slo)
        limits = {
            Metric.P95_S: topology.p95_slo_s,
            Metric.ERROR_RATE: topology.bad_frac_slo,
            Metric.CPU_UTIL: _CPU_LIMIT,
            Metric.MEMORY_FRAC: _MEMORY_LIMIT,
        }
        self._limits = np.array([limits[feature] for feature in FEATURES])

    def features(self, metrics: Floats) -> tuple[Singles, Bools]:
        """Return (row, service, feature) of (row, service + 1, metric), and (row, service) whether any was there."""
        x = np.empty((metrics.shape[0], metrics.shape[1] - 1, len(FEATURES)), np.float32)
        known = np.empty(x.shape[:2], np.bool_)
        _features(
            np.ascontiguousarray(metrics), _COLUMNS, _RATE,
            self._curve, self._span, self._fill, self._worst, x, known,
        )  # fmt: skip
        return x, known

    def strain(self, metrics: Floats) -> Floats:
        """Return (row, service, feature) multiples of the SLO, and of the limits of CPU and memory."""
        multiples: Floats = metrics[:, :-1, FEATURES] / self._limits
        return multiples

    def bad(self, metrics: Floats) -> Floats:
        """Return (row, service) the share of failed or slow answers, as the quantiles tell, in units of the SLO's."""
        services = metrics[:, :-1]
        errors, slow = services[..., Metric.ERROR_RATE], np.zeros(services.shape[:2])
        with np.errstate(invalid="ignore"):
            for metric, share in _SLOW:
                slow = np.maximum(slow, np.where(services[..., metric] > self._slo[0], share, 0.0))
        share_bad: Floats = (errors + (1.0 - errors) * slow) / self._slo[1]
        return share_bad

    def state(self) -> dict[str, Any]:
        """Return medians and load curves, JSON-able."""
        return {
            "fill": self._fill.tolist(),
            "worst": self._worst.tolist(),
            "curve": self._curve.tolist(),
            "span": self._span.tolist(),
        }

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore what ``state`` returned."""
        fill, worst = np.array(state["fill"], np.float32), np.array(state["worst"], np.float32)
        curve, span = np.array(state["curve"], np.float64), np.array(state["span"], np.float64)
        n = len(FEATURES)
        shapes = [(n_entities, n), (n_entities,), (n_entities, n, 3), (n_entities, 2)]
        parts = (fill, worst, curve, span)
        if [part.shape for part in parts] != shapes or not all(np.isfinite(part).all() for part in parts):
            raise InputError("detector state: medians or load curves do not fit the services")
        self._fill, self._worst, self._curve, self._span = fill, worst, curve, span
        self._set_floor(n_entities)


#: Smallest believable spread of a channel, as a share of the range in which it was seen.
_RANGE_SHARE = 0.05


class MachineView:
    """All channels of one machine: the single entity of recordings (run, step, 1, channel), whatever was recorded.

    A missing value takes the channel's median. A channel is at its limit where it leaves the range it was seen in;
    one that never moved has no range, and takes its own size, at least 1, as the unit.
    """

    def __init__(self) -> None:
        self.floor: Floats = np.zeros((1, 0))
        self._fill: Singles = np.zeros(0, np.float32)
        self._low: Floats = np.zeros(0)
        self._high: Floats = np.zeros(0)

    def learn(self, metrics: Floats, topology: Topology) -> None:
        """Learn medians and ranges from recordings (run, step, 1, channel)."""
        if metrics.ndim != 4 or metrics.size == 0 or metrics.shape[2] != 1:
            raise InputError(f"a fit needs (run, step, 1, channel) recordings, got shape {metrics.shape}")
        rows = metrics.reshape(-1, metrics.shape[-1])
        with np.errstate(all="ignore"):
            empty = np.isnan(rows).all(0)
            filled = np.where(empty, 0.0, rows)
            self._low, self._high = np.nanmin(filled, 0), np.nanmax(filled, 0)
            self._fill = np.nanmedian(filled, 0).astype(np.float32)
        self._set_floor()

    def _set_floor(self) -> None:
        span = self._high - self._low
        still = np.maximum(np.abs(self._high), 1.0)
        self.floor = (_RANGE_SHARE * np.where(span > 0, span, still))[None]

    def begin(self, topology: Topology) -> None:
        """Nothing to do: all limits were learned."""

    def features(self, metrics: Floats) -> tuple[Singles, Bools]:
        """Return (row, 1, channel) of (row, 1, channel), gaps filled, and (row, 1) whether anything was there."""
        missing = np.isnan(metrics)
        known: Bools = np.logical_not(missing.all(axis=-1))
        return np.where(missing, self._fill, metrics).astype(np.float32), known

    def strain(self, metrics: Floats) -> Floats:
        """Return (row, 1, channel) how far outside the range seen, in shares of ``_RANGE_SHARE`` of it; 0 inside."""
        beyond: Floats = np.maximum(np.maximum(metrics - self._high, self._low - metrics), 0.0) / self.floor[0]
        return beyond

    def bad(self, metrics: Floats) -> Floats:
        """Return (row, 1) the share of the channels that are outside the range seen, in percent."""
        known = ~np.isnan(metrics)
        with np.errstate(invalid="ignore"):
            outside = (metrics > self._high + self.floor[0]) | (metrics < self._low - self.floor[0])
            share: Floats = 100.0 * outside.sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)
        return share

    def state(self) -> dict[str, Any]:
        """Return medians and ranges, JSON-able."""
        return {"fill": self._fill.tolist(), "low": self._low.tolist(), "high": self._high.tolist()}

    def load(self, state: dict[str, Any], n_entities: int) -> None:
        """Restore what ``state`` returned."""
        fill = np.array(state["fill"], np.float32)
        low, high = np.array(state["low"], np.float64), np.array(state["high"], np.float64)
        if n_entities != 1 or not fill.shape == low.shape == high.shape or fill.ndim != 1 or not (low <= high).all():
            raise InputError("detector state: medians or ranges do not fit the channels")
        self._fill, self._low, self._high = fill, low, high
        self._set_floor()
