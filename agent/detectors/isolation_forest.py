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
    MAX_FEATURES,
    MAX_NODES,
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
from agent.detectors.views import ServiceView, View
from agent.keys import subkeys, uniforms
from simcore.errors import InputError
from simcore.streams import run_key
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

_ERRORS = FEATURES.index(Metric.ERROR_RATE)
#: Width over which an error rate is spread when a forest is fitted. Almost all healthy windows have none at all, and
#: a feature that is constant in a node is never cut there: the forest would not look at errors.
_SPREAD = 0.03
_POLICY_STREAM = 5


def _jitter(n: int, key: np.uint64) -> npt.NDArray[np.float32]:
    """Return (n,) keyed shifts of an error rate, uniform and 0 on average."""
    draws = uniforms(subkeys(np.full(n, key), np.arange(n, dtype=np.uint64)))
    shifts: npt.NDArray[np.float32] = ((draws - 0.5) * _SPREAD).astype(np.float32)
    return shifts


class IsolationForestDetector(ScoringDetector):
    """Scores every service (or machine) in a forest of its own.

    ``mode="pooled"`` fits with scikit-learn on all fault-free runs. ``mode="own"`` fits a forest per run and service on
    the run's first ``warmup_steps`` scrapes within the SLO, and has no score until then; ``fit`` then only learns the
    view and the scale of the scores. Everything learned is saved, pooled forests included.
    """

    name: ClassVar[str] = "isolation_forest"
    #: Forests of a constant service would make any change an alarm otherwise.
    _min_spread: ClassVar[float] = 0.03

    def __init__(
        self,
        *,
        mode: str = "pooled",
        n_trees: int = 100,
        max_samples: int = 512,
        warmup_steps: int = 48,
        rule: AlarmRule | None = None,
        view: View | None = None,
    ) -> None:
        """Choose the forests.

        Parameters
        ----------
        mode
            ``pooled`` or ``own``, which needs services.
        n_trees
            Trees of a forest.
        max_samples
            Sub-sample of a tree; never more than there are samples.
        warmup_steps
            Own mode: scrapes that a run's forests are fitted on.
        rule
            When scores become an alarm.
        view
            What is looked at; by default services.

        Raises
        ------
        InputError
            If an option is out of range.
        """
        super().__init__(rule=rule, view=view)
        self._choose(mode, n_trees, max_samples, warmup_steps)
        self._forest: Forest | None = None

    def _choose(self, mode: str, n_trees: int, max_samples: int, warmup_steps: int) -> None:
        if mode not in ("pooled", "own") or (mode == "own" and not isinstance(self.view, ServiceView)):
            raise InputError(f"isolation_forest: mode must be pooled, or own for services, got {mode!r}")
        for label, value, low, high in (
            ("n_trees", n_trees, 1, 10_000),
            ("max_samples", max_samples, 2, MAX_SAMPLES),
            ("warmup_steps", warmup_steps, 2, 10_000),
            ("n_trees * (2 * max_samples - 1)", n_trees * (2 * max_samples - 1), 1, MAX_NODES),
        ):
            if not low <= value <= high:
                raise InputError(f"isolation_forest: {label} must be in [{low}, {high}], got {value}")
        self.mode, self.n_trees, self.max_samples, self.warmup_steps = mode, n_trees, max_samples, warmup_steps

    def _learn(self, metrics: Floats, topology: Topology, seed: int) -> None:
        x, known = self.view.features(metrics.reshape(-1, *metrics.shape[2:]))
        if x.shape[-1] > MAX_FEATURES:
            raise InputError(f"isolation_forest: at most {MAX_FEATURES} features or channels, got {x.shape[-1]}")
        if self.mode == "own":
            return
        from sklearn.ensemble import IsolationForest  # 1.5 s that only a fit pays

        n_services, models = topology.n_services, []
        for s in range(n_services):
            samples = x[known[:, s], s]
            key = run_key(seed, "train", n_services + s, _POLICY_STREAM)
            if isinstance(self.view, ServiceView):
                samples[:, _ERRORS] += _jitter(samples.shape[0], key)
            if samples.shape[0] < 2:
                raise InputError(
                    f"isolation_forest: service {topology.services[s]} was never seen in the fault-free runs"
                )
            state = int(run_key(seed, "train", s, _POLICY_STREAM) >> np.uint64(33))
            size = min(self.max_samples, samples.shape[0])
            models.append(IsolationForest(n_estimators=self.n_trees, max_samples=size, random_state=state).fit(samples))
        self._forest = from_sklearn(models)

    def _begin(self, topology: Topology, keys: Keys) -> None:
        n_runs, n_services = keys.size, topology.n_services
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
        for name in (*self.PER_RUN, *(("_samples", "_taken", "_keys") if self.mode == "own" else ())):
            setattr(twin, name, getattr(self, name)[rows])
        if self.mode == "pooled":
            twin._which = self._which[rows]
            return twin
        n_runs, n_services = self._which.shape
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
        x, known = self.view.features(metrics)
        score = self._walk(x, np.where(known, self._which, -1))
        if self.mode == "own":
            self._collect(metrics, x, known, fresh)
        return score

    def _walk(self, x: Singles, which: npt.NDArray[np.int64]) -> Floats:
        """Return (row, service) scores in the forests ``which``, nan where that is -1."""
        score, forest = np.empty(which.shape), self._live
        score_forests(
            forest.nodes, forest.base, forest.n_trees, forest.depth, self._values, self._denominator, x, which, score
        )
        return score

    def _score_all(self, metrics: Floats) -> Floats:
        if self.mode == "own":
            return super()._score_all(metrics)
        x, known = self.view.features(metrics.reshape(-1, *metrics.shape[2:]))
        score = self._walk(x, np.where(known, np.arange(known.shape[1]), -1))
        return score.reshape(*metrics.shape[:2], -1)

    def _collect(self, metrics: Floats, x: Singles, known: Bools, fresh: Bools) -> None:
        """Take healthy scrapes of runs that still warm up, after they were scored; fit the runs that are complete."""
        wanted = fresh & (self._taken < self.warmup_steps)
        if not wanted.any():
            return
        system = metrics[:, -1]
        broken = (system[:, Metric.P95_S] > self._slo[0]) | (system[:, Metric.ERROR_RATE] > self._slo[1])
        runs = np.flatnonzero(wanted & ~broken & known.any(-1))
        self._samples[runs, :, self._taken[runs]] = x[runs]
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

    def _learned(self) -> dict[str, Any]:
        """Return the options, and the pooled forests (zlib, base64)."""
        learned: dict[str, Any] = {
            "options": {
                "mode": self.mode,
                "n_trees": self.n_trees,
                "max_samples": self.max_samples,
                "warmup_steps": self.warmup_steps,
            }
        }
        if self._forest is not None:
            forest = self._forest
            learned["forest"] = {
                "base": forest.base.tolist(),
                "depth": forest.depth,
                "n_samples": forest.n_samples,
                "nodes": base64.b64encode(zlib.compress(forest.nodes.tobytes())).decode("ascii"),
            }
        return learned

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        self._choose(**learned["options"])
        self._forest = None
        if self.mode == "own":
            return
        saved = learned["forest"]
        try:
            nodes = np.frombuffer(zlib.decompress(base64.b64decode(saved["nodes"])), NODE).copy()
        except (binascii.Error, zlib.error) as error:
            raise ValueError(error) from None
        base = np.array(saved["base"], np.int64)
        if base.shape != (n_services,):
            raise InputError("detector state: the forests do not fit the services")
        self._forest = Forest(nodes, base, self.n_trees, int(saved["depth"]), int(saved["n_samples"]))
        check_nodes(self._forest, MAX_FEATURES)
