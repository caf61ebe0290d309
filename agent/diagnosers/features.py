"""What a learned diagnoser knows of every service: numbers that mean the same in any system."""

__all__ = ["SERVICE_FEATURES", "SYSTEM_FEATURES", "FeatureMaker", "FeatureSource", "Features"]

from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.api import Detection, History, Observation, Topology
from agent.diagnosers.evidence import N_PARTS, PARTS, weigh
from agent.diagnosers.own_excess import PARTS as OWN_PARTS
from agent.diagnosers.own_excess import evidence, surge
from agent.diagnosers.view import Usual, View, ratio
from agent.history import FLOORS
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Metrics whose deviation counts, each squashed to (-1, 1).
_DEVIATIONS = (
    Metric.P50_S, Metric.P95_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC, Metric.REQUEST_RATE_RPS,
    Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.TIMEOUTS, Metric.RETRIES, Metric.REJECTED, Metric.POOL_WAITING,
    Metric.DENIED, Metric.HIT_RATIO,
)  # fmt: skip
#: Metrics whose level counts as it is; of errors only what is new.
_LEVELS = (Metric.CPU_UTIL, Metric.MEMORY_FRAC)
#: Neighbours hand on these pieces of evidence: to a caller the strongest of its callees, and the other way round.
_SHARED = ("latency", "errors", "replicas")
_CHANGE_S = 60.0

SERVICE_FEATURES = (
    *(f"part_{part}" for part in PARTS),
    "follows",
    *(f"own_{i}" for i in range(len(OWN_PARTS))),
    *(f"z_{metric.name.lower()}" for metric in _DEVIATIONS),
    "new_errors",
    *(f"now_{metric.name.lower()}" for metric in _LEVELS),
    *(f"callees_{part}" for part in _SHARED),
    *(f"callers_{part}" for part in _SHARED),
    "excess", "changed", "skew", "cache", "entry", "callers_fail_unlike_it", "blame",
)  # fmt: skip
SYSTEM_FEATURES = ("surge", "growth", "late", "bad", "errors", "retried", "blame", "excess", "own")


def _squash(z: Floats, half: float = 4.0) -> Floats:
    """Return deviations in (-1, 1); ``half`` spreads become a half; nan becomes 0."""
    squashed: Floats = np.where(np.isnan(z), 0.0, z / (np.abs(z) + half))
    return squashed


def _neighbours(values: Floats, edges: npt.NDArray[np.bool_]) -> Floats:
    """Return (row, service, k) the largest of (row, service, k) over the services that each one has an edge to."""
    spread = np.where(edges[None, :, :, None], values[:, None], 0.0)
    largest: Floats = spread.max(2)
    return largest


class FeatureSource(Protocol):
    """Works out what a learned diagnoser knows."""

    def of(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> tuple[Floats, Floats]:
        """Return (row, service, feature) and (row, feature), without nan."""


class FeatureMaker(Protocol):
    """Begins a batch."""

    def __call__(self, topology: Topology, n_runs: int) -> FeatureSource:
        """Return what works out the features of so many runs."""


class Features:
    """Works out the features of a batch.

    Parameters
    ----------
    topology
        Of the batch.
    n_runs
        How many runs.
    """

    PER_RUN = ("_usual",)

    def __init__(self, topology: Topology, n_runs: int) -> None:
        self._topology = topology
        self._usual = Usual(topology, n_runs)

    def of(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> tuple[Floats, Floats]:
        """Return (row, service, ``SERVICE_FEATURES``) and (row, ``SYSTEM_FEATURES``), without nan."""
        topology, n, s = self._topology, runs.size, self._topology.n_services
        view = View(topology, history, self._usual, runs)
        parts, r, blame = np.zeros((n, s, N_PARTS)), np.zeros((n, s)), np.zeros((n, s + 1))
        weigh(
            history.ring, history.step, history.centre, history.spread, FLOORS, detection.excess,
            observation.replicas, observation.change_age_s, runs, topology.calls, topology.caches,
            (topology.p95_slo_s, topology.bad_frac_slo, topology.step_s), parts, r, np.zeros((n, s), np.int64), blame,
        )  # fmt: skip
        own = evidence(view) / np.array([10.0] + [4.0] * (len(OWN_PARTS) - 1))
        deviations = np.stack([_squash(view.above(metric)[:, :-1]) for metric in _DEVIATIONS], 2)
        levels = np.nan_to_num(view.now[:, :-1, _LEVELS])
        shared = parts[..., [PARTS.index(part) for part in _SHARED]]
        excess = np.clip(np.nan_to_num(detection.excess[runs]), 0.0, 2.0)
        age = observation.change_age_s[runs]
        changed = np.where(np.isnan(age), 0.0, np.exp(-np.nan_to_num(age) / _CHANGE_S))
        errors = np.maximum(0.0, view.rise(Metric.ERROR_RATE)[:, :-1])
        callers_errors = _neighbours(errors[..., None], topology.calls.T)[..., 0]
        single = np.stack(
            [
                excess,
                changed,
                self._skew(observation, runs),
                np.broadcast_to(topology.caches, (n, s)).astype(np.float64),
                np.broadcast_to(np.arange(s) == topology.entry, (n, s)).astype(np.float64),
                np.maximum(0.0, callers_errors - errors),
                blame[:, :-1],
            ],
            2,
        )
        service = np.concatenate(
            [
                parts,
                r[..., None],
                own,
                deviations,
                errors[..., None],
                levels,
                _neighbours(shared, topology.calls),
                _neighbours(shared, topology.calls.T),
                single,
            ],
            2,
        )
        return service, self._system(view, blame, excess, own.sum(2))

    def _system(self, view: View, blame: Floats, excess: Floats, own: Floats) -> Floats:
        """Return (row, ``SYSTEM_FEATURES``)."""
        rate, usual = (part[:, -1, Metric.REQUEST_RATE_RPS] for part in (view.now, view.centre))
        growth = np.clip(np.log(np.maximum(ratio(rate, usual, 1.0), 0.05)), -2.0, 2.0)
        late, bad = (_squash(view.above(metric)[:, -1]) for metric in (Metric.P95_S, Metric.ERROR_RATE))
        sent = np.nan_to_num(view.now[:, :-1, Metric.REQUEST_RATE_RPS]).sum(1) * view.topology.step_s
        retried = ratio(np.nan_to_num(view.now[:, :-1, Metric.RETRIES]).sum(1), sent, 0.0)
        errors = np.nan_to_num(view.now[:, -1, Metric.ERROR_RATE])
        system: Floats = np.stack(
            [surge(view), growth, late, bad, errors, retried, blame.max(1), excess.max(1), own.max(1)], 1
        )
        return system

    def _skew(self, observation: Observation, runs: Ints) -> Floats:
        """Return (row, service) how much longer the slowest replica takes than the mean one, squashed to [0, 1)."""
        took = observation.replicas[runs][..., ReplicaStat.MEAN_LATENCY_S]
        known = ~np.isnan(took)
        count = known.sum(2)
        mean = ratio(np.where(known, took, 0.0).sum(2), count.astype(np.float64), np.nan)
        worst = np.where(known, took, 0.0).max(2)
        over = np.where(count > 1, ratio(worst, mean, 1.0) - 1.0, 0.0)
        return np.maximum(0.0, _squash(over, 1.0))
