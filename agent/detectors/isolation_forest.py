"""One isolation forest per service, fitted on pooled fault-free runs or on the run's own healthy beginning."""

__all__ = ["IsolationForestDetector"]

import base64
import binascii
import copy
import math
import zlib
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import FEATURES, Keys, Topology
from agent.detectors.alarms import AlarmRule
from agent.detectors.base import ScoringDetector
from agent.detectors.forest import (
    MAX_SAMPLES,
    NODE,
    Forest,
    average_path,
    check_nodes,
    fit_forests,
    from_sklearn,
    leaf_values,
    score_forests,
)
from agent.keys import subkeys, uniforms
from simcore.errors import InputError
from simcore.jit import njit
from simcore.samplers import log
from simcore.streams import run_key
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_COLUMNS = np.array(FEATURES, np.int64)
_P95, _RATE = FEATURES.index(Metric.P95_S), int(Metric.REQUEST_RATE_RPS)
#: Features that follow the load; an error rate does not.
_LOADED = tuple(f for f, metric in enumerate(FEATURES) if metric != Metric.ERROR_RATE)
#: p95 enters as a logarithm, since a forest cuts uniformly between extremes; below this it is all the same, seconds.
_MIN_P95_S = 1e-4
_ERRORS = FEATURES.index(Metric.ERROR_RATE)
#: Width over which an error rate is spread when a forest is fitted. Almost all healthy windows have none at all, and
#: a feature that is constant in a node is never cut there: the forest would not look at errors.
_SPREAD = 0.03
#: Error rate above which a missing p95 means that hardly anybody was answered.
_OUTAGE = 0.5
_POLICY_STREAM = 5
#: Smallest spread of scores: forests of a constant service would make any change an alarm otherwise.
_MIN_SPREAD = 0.03


@njit
def _features(metrics, columns, rate, curve, span, fill, worst, x, known):  # type: ignore[no-untyped-def]
    """Fill x (run, service, feature) float32 and known (run, service): whether any feature was there."""
    for run in range(x.shape[0]):
        for s in range(x.shape[1]):
            load = metrics[run, s, rate]
            load = span[s, 0] if np.isnan(load) else min(max(load, span[s, 0]), span[s, 1])
            known[run, s] = False
            for f in range(x.shape[2]):
                value = metrics[run, s, columns[f]]
                if np.isnan(value):
                    outage = f == _P95 and metrics[run, s, columns[_ERRORS]] > _OUTAGE
                    x[run, s, f] = worst[s] if outage else fill[s, f]
                    continue
                if f == _P95:
                    value = log(max(value, _MIN_P95_S))
                x[run, s, f] = value - (curve[s, f, 0] + (curve[s, f, 1] + curve[s, f, 2] * load) * load)
                known[run, s] = True


def _jitter(n: int, key: np.uint64) -> npt.NDArray[np.float32]:
    """Return (n,) keyed shifts of an error rate, uniform and 0 on average."""
    draws = uniforms(subkeys(np.full(n, key), np.arange(n, dtype=np.uint64)))
    shifts: npt.NDArray[np.float32] = ((draws - 0.5) * _SPREAD).astype(np.float32)
    return shifts


class IsolationForestDetector(ScoringDetector):
    """Scores p95 latency, error rate, CPU and memory of every service in the service's own forest.

    Latency (its logarithm), CPU and memory are taken relative to what is normal at the service's request rate, a
    parabola through the fault-free runs: otherwise the strangest scrapes of a healthy system are those at its peak
    load, where all three are at their extremes together. Beyond the rates seen, the nearest one counts.

    A missing feature (a quantile of too few answers, a rate of no requests) takes the median of the fault-free runs: it
    speaks neither for nor against an anomaly, and the features that are there decide. But a p95 that is missing while
    most requests fail is the worst that was seen. A service without any feature has no score (nan).

    ``mode="pooled"`` fits with scikit-learn on all fault-free runs. ``mode="own"`` fits a forest per run and service on
    the run's first ``warmup_steps`` scrapes within the SLO, and has no score until then; ``fit`` then only learns
    medians, load curves and the scale of the scores. Everything learned is saved, pooled forests included.
    """

    name: ClassVar[str] = "isolation_forest"

    def __init__(
        self,
        *,
        mode: str = "pooled",
        n_trees: int = 100,
        max_samples: int = 512,
        warmup_steps: int = 48,
        rule: AlarmRule | None = None,
    ) -> None:
        """Choose the forests.

        Parameters
        ----------
        mode
            ``pooled`` or ``own``.
        n_trees
            Trees of a forest.
        max_samples
            Sub-sample of a tree; never more than there are samples.
        warmup_steps
            Own mode: scrapes that a run's forests are fitted on.
        rule
            When scores become an alarm.

        Raises
        ------
        InputError
            If an option is out of range.
        """
        super().__init__(rule)
        if mode not in ("pooled", "own"):
            raise InputError(f"isolation_forest: mode must be pooled or own, got {mode!r}")
        for label, value, low, high in (
            ("n_trees", n_trees, 1, 10_000),
            ("max_samples", max_samples, 2, MAX_SAMPLES),
            ("warmup_steps", warmup_steps, 2, 10_000),
        ):
            if not low <= value <= high:
                raise InputError(f"isolation_forest: {label} must be in [{low}, {high}], got {value}")
        self.mode, self.n_trees, self.max_samples, self.warmup_steps = mode, n_trees, max_samples, warmup_steps
        self._fill = np.zeros((0, len(FEATURES)), np.float32)
        self._worst = np.zeros(0, np.float32)
        self._curve: Floats = np.zeros((0, len(FEATURES), 3))
        self._span: Floats = np.zeros((0, 2))
        self._forest: Forest | None = None

    def _learn(self, metrics: Floats, topology: Topology, seed: int) -> None:
        n_services = topology.n_services
        windows = np.ascontiguousarray(metrics.reshape(-1, *metrics.shape[2:]))
        self._fill, self._worst = np.zeros((n_services, len(FEATURES)), np.float32), np.zeros(n_services, np.float32)
        self._learn_load(windows)
        pooled = np.zeros((windows.shape[0], n_services, len(FEATURES)), np.float32)
        self._x, self._known = pooled, np.zeros(pooled.shape[:2], np.bool_)
        self._take(windows)
        missing = np.isnan(windows[:, :-1, _COLUMNS])
        for s in range(n_services):
            for f in range(len(FEATURES)):
                values = pooled[~missing[:, s, f], s, f]
                # a feature that never was there (no quantile at low load) is constant and never splits
                self._fill[s, f] = np.median(values) if values.size else 0.0
                if f == _P95 and values.size:
                    self._worst[s] = values.max()
        self._take(windows)
        if self.mode == "own":
            return
        from sklearn.ensemble import IsolationForest  # 1.5 s that only a fit pays

        models = []
        for s in range(topology.n_services):
            x = pooled[self._known[:, s], s]
            key = run_key(seed, "train", n_services + s, _POLICY_STREAM)
            x[:, _ERRORS] += _jitter(x.shape[0], key)
            if x.shape[0] < 2:
                raise InputError(
                    f"isolation_forest: service {topology.services[s]} was never seen in the fault-free runs"
                )
            state = int(run_key(seed, "train", s, _POLICY_STREAM) >> np.uint64(33))
            size = min(self.max_samples, x.shape[0])
            models.append(IsolationForest(n_estimators=self.n_trees, max_samples=size, random_state=state).fit(x))
        self._forest = from_sklearn(models)

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

    def _take(self, metrics: Floats) -> None:
        """Bring the features of (run, service + 1, metric) into ``_x``, and whether there were any into ``_known``."""
        _features(
            np.ascontiguousarray(metrics), _COLUMNS, _RATE,
            self._curve, self._span, self._fill, self._worst, self._x, self._known,
        )  # fmt: skip

    def _normal(self, scores: Floats, overall: Floats) -> tuple[Floats, Floats]:
        columns = [scores[..., s] for s in range(scores.shape[-1])] + [overall]
        centre, spread = np.zeros(len(columns)), np.ones(len(columns))
        for i, column in enumerate(columns):
            values = column[~np.isnan(column)]
            if values.size:
                centre[i], high = np.quantile(values, [0.5, 0.95])
                spread[i] = max(_MIN_SPREAD, high - centre[i])
        return centre, spread

    def _begin(self, topology: Topology, keys: Keys) -> None:
        n_runs, n_services = keys.size, topology.n_services
        self._x = np.zeros((n_runs, n_services, len(FEATURES)), np.float32)
        self._known = np.zeros((n_runs, n_services), np.bool_)
        if self.mode == "own":
            self._begin_own(topology, keys)
            return
        assert self._forest is not None
        self._use(self._forest, np.broadcast_to(np.arange(n_services), (n_runs, n_services)).copy())

    def _begin_own(self, topology: Topology, keys: Keys) -> None:
        n_runs, n_services = keys.size, topology.n_services
        self._slo = (topology.p95_slo_s, topology.bad_frac_slo)
        self._keys = keys
        self._samples = np.zeros((n_runs, n_services, self.warmup_steps, len(FEATURES)), np.float32)
        self._taken = np.zeros(n_runs, np.int64)
        size = min(self.max_samples, self.warmup_steps)
        per_forest = self.n_trees * (2 * size - 1)
        nodes = np.zeros(n_runs * n_services * per_forest, NODE)
        depth = math.ceil(math.log2(max(size, 2)))
        base = np.arange(n_runs * n_services, dtype=np.int64) * per_forest
        self._use(Forest(nodes, base, self.n_trees, depth, size), np.full((n_runs, n_services), -1, np.int64))

    def fork(self, rows: npt.NDArray[np.int64]) -> "IsolationForestDetector":
        """Return a detector that goes on with some runs; see ``agent.forking``."""
        twin = copy.copy(self)
        names = ["_alarms", "_x", "_known"] + (["_samples", "_taken", "_keys"] if self.mode == "own" else [])
        for name in names:
            setattr(twin, name, getattr(self, name)[rows])
        if self.mode == "pooled":
            twin._which = self._which[rows]
            return twin
        n_runs, n_services = self._known.shape
        forest = self._live
        nodes = forest.nodes.reshape(n_runs, -1)[rows].reshape(-1)
        base = np.arange(rows.size * n_services, dtype=np.int64) * (nodes.size // max(1, rows.size * n_services))
        number = np.arange(rows.size * n_services, dtype=np.int64).reshape(rows.size, n_services)
        which = np.where(self._which[rows] >= 0, number, -1)
        twin._use(Forest(nodes, base, forest.n_trees, forest.depth, forest.n_samples), which)
        return twin

    def _use(self, forest: Forest, which: npt.NDArray[np.int64]) -> None:
        self._live, self._which = forest, which
        self._values = leaf_values(forest.depth, forest.n_samples)
        self._denominator = float(forest.n_trees * average_path(np.array([forest.n_samples]))[0])

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        self._take(metrics)
        score = np.empty(self._known.shape)
        forest = self._live
        score_forests(
            forest.nodes, forest.base, forest.n_trees, forest.depth, self._values, self._denominator,
            self._x, np.where(self._known, self._which, -1), score,
        )  # fmt: skip
        if self.mode == "own":
            self._collect(metrics, fresh)
        return score

    def _collect(self, metrics: Floats, fresh: Bools) -> None:
        """Take healthy scrapes of runs that still warm up, after they were scored; fit the runs that are complete."""
        wanted = fresh & (self._taken < self.warmup_steps)
        if not wanted.any():
            return
        system = metrics[:, -1]
        broken = (system[:, Metric.P95_S] > self._slo[0]) | (system[:, Metric.ERROR_RATE] > self._slo[1])
        runs = np.flatnonzero(wanted & ~broken & self._known.any(-1))
        self._samples[runs, :, self._taken[runs]] = self._x[runs]
        self._taken[runs] += 1
        ready = runs[self._taken[runs] == self.warmup_steps]
        if ready.size:
            self._fit_own(ready)

    def _fit_own(self, runs: npt.NDArray[np.int64]) -> None:
        n_services = self._which.shape[1]
        forest = self._live
        services = np.tile(np.arange(n_services, dtype=np.uint64), runs.size)
        run_keys = subkeys(self._keys[runs], np.full(runs.size, 1 << 20, np.uint64))
        keys = subkeys(np.repeat(run_keys, n_services), services)
        samples = self._samples[runs].reshape(runs.size * n_services, self.warmup_steps, len(FEATURES))
        for forest_samples, key in zip(samples, keys, strict=True):
            forest_samples[:, _ERRORS] += _jitter(self.warmup_steps, key)
        which = runs[:, None] * n_services + np.arange(n_services)
        nodes = np.zeros((samples.shape[0], self.n_trees * (2 * forest.n_samples - 1)), NODE)
        fit_forests(samples, keys, forest.n_trees, forest.n_samples, forest.depth, nodes)
        forest.nodes.reshape(-1, nodes.shape[1])[which.ravel()] = nodes
        self._which[runs] = which

    def state(self) -> dict[str, Any]:
        """Return everything learned, JSON-able: scales, threshold, medians, and the pooled forests (zlib, base64)."""
        state = super().state()
        state["options"] = {
            "mode": self.mode,
            "n_trees": self.n_trees,
            "max_samples": self.max_samples,
            "warmup_steps": self.warmup_steps,
        }
        state["fill"] = self._fill.tolist()
        state["worst"] = self._worst.tolist()
        state["curve"] = self._curve.tolist()
        state["span"] = self._span.tolist()
        if self._forest is not None:
            forest = self._forest
            state["forest"] = {
                "base": forest.base.tolist(),
                "depth": forest.depth,
                "n_samples": forest.n_samples,
                "nodes": base64.b64encode(zlib.compress(forest.nodes.tobytes())).decode("ascii"),
            }
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this detector's, or damaged.
        """
        self._check_name(state)
        try:
            fresh = IsolationForestDetector(rule=self.rule, **state["options"])
            ScoringDetector.load(fresh, state)
            fresh._fill = np.array(state["fill"], np.float32)
            fresh._worst = np.array(state["worst"], np.float32)
            fresh._curve, fresh._span = np.array(state["curve"], np.float64), np.array(state["span"], np.float64)
            parts = (fresh._fill, fresh._worst, fresh._curve, fresh._span)
            n_services, n_features = len(fresh._services), len(FEATURES)
            shapes = [(n_services, n_features), (n_services,), (n_services, n_features, 3), (n_services, 2)]
            fits = [part.shape for part in parts] == shapes and all(bool(np.isfinite(part).all()) for part in parts)
            if fresh.mode == "pooled":
                saved = state["forest"]
                nodes = np.frombuffer(zlib.decompress(base64.b64decode(saved["nodes"])), NODE).copy()
                base = np.array(saved["base"], np.int64)
                fresh._forest = Forest(nodes, base, fresh.n_trees, int(saved["depth"]), int(saved["n_samples"]))
                fits = fits and base.shape == (len(fresh._services),)
        except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
            raise InputError(f"detector state: missing or wrong entry ({error})") from None
        if not fits:
            raise InputError("detector state: medians, load curves or forests do not fit the services")
        if fresh._forest is not None:
            check_nodes(fresh._forest, len(FEATURES))
        self.__dict__.update(fresh.__dict__)
