"""What a service of a run looks like, in numbers that mean the same in every system: the features of learners.

Nothing here names a service, a step or a scenario, so that what was learned in one topology can be tried in another.
"""

__all__ = ["CONTEXT", "admitted_errors", "context", "deviations"]

import numpy as np
import numpy.typing as npt

from agent.api import History, Observation, Topology
from agent.history import FLOORS, WINDOW
from agent.policies.arms import worst_slot
from simcore.codes import ReplicaState
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Metrics of the service whose deviation from normal is a feature.
_OWN = (
    Metric.P50_S, Metric.P95_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC, Metric.REQUEST_RATE_RPS,
    Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.REJECTED, Metric.TIMEOUTS, Metric.RETRIES, Metric.HIT_RATIO,
    Metric.REPLICAS_UP, Metric.POOL_WAITING, Metric.DENIED, Metric.LAG,
)  # fmt: skip
#: Those looked at in its callers and callees too, the worst of them each.
_NEAR = (
    Metric.P95_S,
    Metric.ERROR_RATE,
    Metric.CPU_UTIL,
    Metric.TIMEOUTS,
    Metric.POOL_WAITING,
    Metric.REQUEST_RATE_RPS,
)
_SYSTEM = ("lateness", "errors", "load", "amplification", "admitted", "worsening")
_FACTS = (
    "cpu", "memory", "errors_now", "is_cache", "is_entry", "is_spared", "is_workload", "changed", "caller_changed",
    "callee_changed", "skew", "busy_skew", "quarantined", "pending", "attempts_lost", "p95_rising", "errors_rising",
    "cpu_rising", "hits_falling",
)  # fmt: skip
#: Names of the features, in the order of the feature axis.
CONTEXT = (
    *(f"system_{name}" for name in _SYSTEM),
    *_FACTS,
    *(f"own_{metric.name.lower()}" for metric in _OWN),
    *(f"{where}_{metric.name.lower()}" for where in ("callers", "callees") for metric in _NEAR),
)

#: Steps over which a trend is looked at.
_TREND = 4
#: A change is forgotten at this rate, seconds.
_CHANGE_S = 120.0


def admitted_errors(system: Floats) -> Floats:
    """Return (run,) the share of the admitted requests that failed, from the system's (run, metric); nan if unknown.

    The system's error rate counts what ``limit_traffic`` sheds. Who limits the traffic must look at the others, or it
    would take its own shedding for the incident and never end it.
    """
    rate, ok, shed = (system[:, m] for m in (Metric.ERROR_RATE, Metric.OK, Metric.REJECTED))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = ok / (1.0 - rate)
        share = (ends * rate - shed) / (ends - shed)
    errors: Floats = np.where((shed > 0) & (rate < 1.0), np.clip(share, 0.0, 1.0), rate)
    return errors


def deviations(observation: Observation, history: History, runs: Ints) -> Floats:
    """Return (row, service + 1, metric) how many spreads the last scrape lies above normal; nan where unknown."""
    centre, floors = history.centre[runs], FLOORS[: len(Metric)]
    scale = np.maximum(history.spread[runs], np.maximum(floors[:, 0] * np.abs(centre), floors[:, 1]))
    found: Floats = (observation.metrics[runs] - centre) / scale
    return found


def _squash(deviation: Floats) -> Floats:
    """Return deviations in (-1, 1): about a third at two spreads, 0 where unknown."""
    known = np.nan_to_num(deviation, nan=0.0, posinf=1e9, neginf=-1e9)
    squashed: Floats = known / (np.abs(known) + 4.0)
    return squashed


def _trend(history: History, runs: Ints) -> Floats:
    """Return (row, service + 1, metric) the last scrape less the one some steps before; 0 where unknown."""
    last = history.ring[runs, history.step % WINDOW]
    before = history.ring[runs, max(history.step - _TREND, 0) % WINDOW]
    trend: Floats = np.nan_to_num(last - before, nan=0.0)
    return trend


def _worst(values: Floats, adjacent: npt.NDArray[np.bool_]) -> Floats:
    """Return (row, metric) the largest of (row, service, metric) over the adjacent services (row, service), else 0."""
    worst: Floats = np.max(np.where(adjacent[:, :, None], values, 0.0), axis=1, initial=0.0)
    return worst


def context(topology: Topology, observation: Observation, history: History, runs: Ints, target: Ints) -> Floats:
    """Describe some services of some runs.

    Parameters
    ----------
    topology, observation, history
        Of the batch.
    runs
        (row,) runs.
    target
        (row,) services of these runs, -1 for the workload.

    Returns
    -------
    (row, feature), columns ``CONTEXT``; finite.
    """
    rows, at = np.arange(runs.size), np.where(target >= 0, target, topology.n_services)
    inside, service = target >= 0, np.maximum(target, 0)
    deviation, trend = _squash(deviations(observation, history, runs)), _trend(history, runs)
    metrics = np.nan_to_num(observation.metrics[runs], nan=0.0)
    system = _system(topology, observation, history, runs, trend[:, -1])
    own = deviation[rows, at]
    rising = trend[rows, at]
    facts = [
        metrics[rows, at, Metric.CPU_UTIL],
        metrics[rows, at, Metric.MEMORY_FRAC],
        metrics[rows, at, Metric.ERROR_RATE],
        inside & topology.caches[service],
        inside & (target == topology.entry),
        inside & topology.spared[service],
        ~inside,
        *_changes(topology, observation.change_age_s[runs], service, inside),
        *_replicas(observation.replicas[runs, service], history.centre[runs, service, Metric.P95_S], inside),
        inside & observation.pending[runs, service],
        metrics[rows, at, Metric.TIMEOUTS]
        / np.maximum(metrics[rows, at, Metric.REQUEST_RATE_RPS] * topology.step_s, 1.0),
        np.clip(rising[:, Metric.P95_S] / topology.p95_slo_s, -1.0, 1.0),
        rising[:, Metric.ERROR_RATE],
        rising[:, Metric.CPU_UTIL],
        -rising[:, Metric.HIT_RATIO],
    ]
    callers, callees = topology.calls.T[service] & inside[:, None], topology.calls[service] & inside[:, None]
    near = [_worst(deviation[:, :-1][:, :, list(_NEAR)], adjacent) for adjacent in (callers, callees)]
    return np.column_stack([system, *(np.asarray(fact, np.float64) for fact in facts), own[:, list(_OWN)], *near])


def _system(topology: Topology, observation: Observation, history: History, runs: Ints, trend: Floats) -> Floats:
    """Return (row, feature) what the clients and the border see."""
    metrics = observation.metrics[runs]
    late = np.nan_to_num(metrics[:, -1, Metric.P95_S] / topology.p95_slo_s, nan=0.0)
    errors = np.nan_to_num(admitted_errors(metrics[:, -1]), nan=0.0)
    load = np.nan_to_num(metrics[:, -1, Metric.REQUEST_RATE_RPS] / topology.rate_rps, nan=1.0)
    sent = np.nansum(metrics[:, :-1, Metric.REQUEST_RATE_RPS], axis=1) * topology.step_s
    retries = np.nansum(metrics[:, :-1, Metric.RETRIES], axis=1)
    return np.column_stack([
        np.log1p(late),
        errors,
        load,
        np.log(sent / np.maximum(sent - retries, 1.0) + 1e-9).clip(0.0, 3.0),
        observation.admitted[runs],
        np.clip(trend[:, Metric.P95_S] / topology.p95_slo_s, -2.0, 2.0) + trend[:, Metric.ERROR_RATE],
    ])  # fmt: skip


def _changes(topology: Topology, age_s: Floats, service: Ints, inside: npt.NDArray[np.bool_]) -> list[Floats]:
    """Return three (row,): how recently the service, a caller and a callee of it were changed, 1 just now, 0 never."""
    fresh = np.where(np.isnan(age_s), 0.0, np.exp(-np.nan_to_num(age_s, nan=0.0) / _CHANGE_S))
    own = fresh[np.arange(service.size), service]
    near = [np.max(np.where(adjacent[service], fresh, 0.0), axis=1) for adjacent in (topology.calls.T, topology.calls)]
    return [np.where(inside, values, 0.0) for values in (own, *near)]


def _replicas(replicas: Floats, usual_s: Floats, inside: npt.NDArray[np.bool_]) -> list[Floats]:
    """Return three (row,) of (row, slot, stat): skew of latency, skew of load, share of replicas quarantined."""
    known = np.nan_to_num(replicas[..., ReplicaStat.ORDINAL], nan=-1.0) >= 0
    shut = known & (np.nan_to_num(replicas[..., ReplicaStat.QUARANTINED], nan=0.0) > 0)
    up = known & (replicas[..., ReplicaStat.STATE] == ReplicaState.UP) & ~shut
    busy = np.where(up, np.nan_to_num(replicas[..., ReplicaStat.BUSY], nan=0.0), 0.0)
    mean_busy = busy.sum(1) / np.maximum(up.sum(1), 1)
    usual = np.nan_to_num(usual_s, nan=0.0)
    skew = np.array([np.log(worst_slot(stats, limit)[1]) for stats, limit in zip(replicas, usual, strict=True)])
    parts = skew.clip(0.0, 3.0), busy.max(1) - mean_busy, shut.sum(1) / np.maximum(known.sum(1), 1)
    return [np.where(inside, part, 0.0) for part in parts]
