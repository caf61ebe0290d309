"""What an incident looks like, in a few words that come back: the key under which experience is kept."""

__all__ = ["admitted_errors", "signatures"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.api import AMPLIFICATION_BANDS, LOAD_BANDS, PATTERNS, History, Observation, Signature, Topology
from agent.policies.arms import worst_slot
from agent.policies.context import admitted_errors, deviations
from simcore.codes import ReplicaState
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Deviations, in spreads above normal, that count.
STRANGE = 5.0
#: A change (deploy, configuration) is recent for this long, seconds.
RECENT_S = 180.0
#: Mean latency of the worst replica over that of the others.
SKEW = 2.0
#: Offered requests over the usual that are a surge.
SURGE = 1.3
#: CPU utilisation of a service without reserves.
BUSY = 0.85
#: Share of its limit beyond which memory is a matter of its own, whatever is in flight.
FULL = 0.85
#: Fall of a cache's hit ratio that counts.
COLDER = 0.05
#: Attempts on a service that are retries, as a share, from which they are a load of their own.
STORM = 0.3
#: Attempts on a service that callers give up, as a share, from which its answers do not arrive.
CUT = 0.05


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the patterns are made of, (row, service) unless said otherwise."""

    metrics: Floats  #: (row, service + 1, metric)
    normal: Floats  #: (row, service + 1, metric)
    high: Bools  #: (row, service + 1, metric) strangely far above normal
    cut: Bools  #: callers wait in vain for it, while it looks well itself
    changed: Bools  #: it was deployed or configured a short while ago


def signatures(
    topology: Topology, observation: Observation, history: History, runs: Ints, target: Ints, again: Bools
) -> Signature:
    """Describe the incidents of some runs.

    If one callee's answers do not arrive at the target, and nothing else is wrong there, the callee is the target of
    the signature: what can be done about the way between them is done there.

    Parameters
    ----------
    topology, observation, history
        Of the batch.
    runs
        (row,) runs to describe.
    target
        (row,) service to act on, -1 for the workload.
    again
        (row,) whether something was tried in this incident before.
    """
    system = observation.metrics[runs, -1]
    late = system[:, Metric.P95_S] > topology.p95_slo_s
    bad = admitted_errors(system) > topology.bad_frac_slo
    rate = system[:, Metric.REQUEST_RATE_RPS] / topology.rate_rps
    sent = np.nansum(observation.metrics[runs, :-1, Metric.REQUEST_RATE_RPS], axis=1) * topology.step_s
    retries = np.nansum(observation.metrics[runs, :-1, Metric.RETRIES], axis=1)
    seen = _look(topology, observation, history, runs)
    target = _far_end(topology, seen, target)
    return Signature(
        target=target,
        broken=late + 2 * bad.astype(np.int64),
        load=np.digitize(np.where(np.isnan(rate), 0.0, rate), LOAD_BANDS),
        amplification=np.digitize(sent / np.maximum(sent - retries, 1.0), AMPLIFICATION_BANDS),
        pattern=_patterns(topology, seen, observation.replicas[runs], target),
        again=again,
    )


def _look(topology: Topology, observation: Observation, history: History, runs: Ints) -> _Seen:
    metrics, normal = observation.metrics[runs], history.centre[runs]
    with np.errstate(invalid="ignore"):
        high = deviations(observation, history, runs) > STRANGE
        attempts = np.maximum(metrics[:, :-1, Metric.REQUEST_RATE_RPS] * topology.step_s, 1.0)
        lost = np.where(
            np.isnan(metrics[:, :-1, Metric.REQUEST_RATE_RPS]), 0.0, metrics[:, :-1, Metric.TIMEOUTS] / attempts
        )
        busy = metrics[:, :-1, Metric.CPU_UTIL] > BUSY
        changed = observation.change_age_s[runs] <= RECENT_S
    well = ~(high[:, :-1, Metric.P95_S] | high[:, :-1, Metric.ERROR_RATE] | busy)
    return _Seen(metrics, normal, high, (lost > CUT) & high[:, :-1, Metric.TIMEOUTS] & well, changed)


def _far_end(topology: Topology, seen: _Seen, target: Ints) -> Ints:
    """Return (row,) the target, or its callee if the way there is what is wrong."""
    rows, service = np.arange(target.size), np.maximum(target, 0)
    cut = seen.cut & topology.calls[service]
    alone = (target >= 0) & (cut.sum(1) == 1) & ~seen.changed[rows, service]
    alone &= ~(seen.metrics[rows, service, Metric.CPU_UTIL] > BUSY)
    return np.where(alone, np.argmax(cut, axis=1), target)


def _patterns(topology: Topology, seen: _Seen, replicas: Floats, target: Ints) -> Ints:
    """Return (row,) pattern codes of the targets; ``replicas`` is (row, service, slot, stat)."""
    rows, service = np.arange(target.size), np.maximum(target, 0)
    metrics, normal, high = seen.metrics[rows, service], seen.normal[rows, service], seen.high[rows, service]
    skewed, crowded, short = _replicas(replicas[rows, service], normal[:, Metric.P95_S])
    is_cache, changed = topology.caches[service], seen.changed[rows, service]
    errors, waiting = high[:, Metric.ERROR_RATE], _waiting(topology, seen, service)
    leaves = (seen.cut & topology.calls[service]).sum(1) > 1
    with np.errstate(invalid="ignore"):
        busy = metrics[:, Metric.CPU_UTIL] > BUSY
        surge = seen.metrics[:, -1, Metric.REQUEST_RATE_RPS] > SURGE * seen.normal[:, -1, Metric.REQUEST_RATE_RPS]
        bad = seen.metrics[:, -1, Metric.ERROR_RATE] > topology.bad_frac_slo
        cold = is_cache & (normal[:, Metric.HIT_RATIO] - metrics[:, Metric.HIT_RATIO] > COLDER)
        attempts = np.maximum(metrics[:, Metric.REQUEST_RATE_RPS] * topology.step_s, 1.0)
        storm = (metrics[:, Metric.RETRIES] > STORM * attempts) & high[:, Metric.TIMEOUTS]
        flapping = metrics[:, Metric.REPLICAS_UP] < normal[:, Metric.REPLICAS_UP] - 0.5
        # requests in flight hold memory too; a leak holds it without them
        leaking = high[:, Metric.MEMORY_FRAC] & ~high[:, Metric.IN_FLIGHT]
        full = metrics[:, Metric.MEMORY_FRAC] > FULL
    behind = high[:, Metric.LAG]
    cut, slow = seen.cut[rows, service], high[:, Metric.P95_S]
    troubled = errors | slow | cut | high[:, Metric.TIMEOUTS]
    order = {
        "cold": cold,
        "poison": is_cache & bad & ~errors & ~high[:, Metric.TIMEOUTS],
        "hot": is_cache & crowded,
        "spared": topology.spared[service] & troubled,
        "change": changed,
        # shards of a cache are unequal by nature
        "skew": ~is_cache & skewed,
        "short": short,
        "flapping": flapping,
        "memory": full | leaking,
        "backlog": behind & busy,
        "stuck": behind,
        "storm": busy & storm,
        "overload": busy & surge,
        "cpu": busy,
        "pool": waiting & ~errors,
        "cut": cut | leaves,
        "errors": errors,
        "latency": slow,
    }
    within = np.select(list(order.values()), [PATTERNS.index(name) for name in order], PATTERNS.index("nothing"))
    outside = np.where(surge, PATTERNS.index("surge"), PATTERNS.index("nothing"))
    found: Ints = np.where(target >= 0, within, outside).astype(np.int64)
    return found


def _waiting(topology: Topology, seen: _Seen, service: Ints) -> Bools:
    """Return (row,) whether attempts on the service wait for connections at a caller of it."""
    waits = seen.high[:, :-1, Metric.POOL_WAITING]
    found: Bools = np.any(waits & topology.calls.T[service], axis=1)
    return found


def _replicas(replicas: Floats, usual_s: Floats) -> tuple[Bools, Bools, Bools]:
    """Return three (row,) of (row, slot, stat): one is slower, one busier than the others, one is quarantined."""
    ratio = np.array([worst_slot(stats, limit)[1] for stats, limit in zip(replicas, usual_s, strict=True)])
    with np.errstate(invalid="ignore"):
        shut = replicas[..., ReplicaStat.QUARANTINED] > 0
        up = (replicas[..., ReplicaStat.STATE] == ReplicaState.UP) & ~shut
    busy = np.where(up, np.nan_to_num(replicas[..., ReplicaStat.BUSY], nan=0.0), 0.0)
    most = busy.max(axis=1)
    others = (busy.sum(1) - most) / np.maximum(up.sum(1) - 1, 1)
    crowded: Bools = (up.sum(1) > 1) & (most > BUSY) & (most > SKEW * others)
    short: Bools = np.any(shut, axis=1)
    return ratio > SKEW, crowded, short
