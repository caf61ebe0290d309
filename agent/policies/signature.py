"""What an incident looks like, in a few words that come back: the key under which experience is kept."""

__all__ = ["admitted_errors", "signatures"]

import numpy as np
import numpy.typing as npt

from agent.api import AMPLIFICATION_BANDS, LOAD_BANDS, PATTERNS, History, Observation, Signature, Topology
from agent.history import FLOORS
from agent.policies.arms import worst_slot
from simcore.jit import njit
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_POISON, _CHANGE, _SKEW, _SHORT, _FLAPPING, _MEMORY, _CPU, _ERRORS, _COLD, _SURGE, _LATENCY, _NOTHING = (
    PATTERNS.index(name)
    for name in (
        "poison", "change", "skew", "short", "flapping", "memory",
        "cpu", "errors", "cold", "surge", "latency", "nothing",
    )
)  # fmt: skip
_M_P95, _M_ERRORS, _M_CPU, _M_MEMORY = (
    np.int64(m) for m in (Metric.P95_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC)
)
_M_RATE, _M_FLIGHT, _M_HIT, _M_UP = (
    np.int64(m) for m in (Metric.REQUEST_RATE_RPS, Metric.IN_FLIGHT, Metric.HIT_RATIO, Metric.REPLICAS_UP)
)
_QUARANTINED = int(ReplicaStat.QUARANTINED)

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


@njit(internal=True)
def _strange(row, normal, spread, floors, metric):  # type: ignore[no-untyped-def]
    """Return whether a metric of a service lies far above normal; nan does not."""
    scale = max(spread[metric], max(floors[metric, 0] * abs(normal[metric]), floors[metric, 1]))
    return row[metric] - normal[metric] > STRANGE * scale


@njit(internal=True)
def _pattern(row, normal, spread, floors, replicas, age_s, is_cache, system_errors, bad_slo):  # type: ignore[no-untyped-def]
    """Return the code of the most telling thing about one service: its metrics, normal values and replicas."""
    errors = _strange(row, normal, spread, floors, _M_ERRORS)
    if is_cache:
        if normal[_M_HIT] - row[_M_HIT] > 0.05:
            return _COLD
        if system_errors > bad_slo and not errors:
            return _POISON
    if age_s <= RECENT_S:
        return _CHANGE
    # shards of a cache are unequal by nature
    if not is_cache and worst_slot(replicas, normal[_M_P95])[1] > SKEW:
        return _SKEW
    for slot in range(replicas.shape[0]):
        if replicas[slot, _QUARANTINED] > 0:
            return _SHORT
    if row[_M_UP] < normal[_M_UP] - 0.5:
        return _FLAPPING
    # requests in flight hold memory too; a leak holds it without them
    leaking = _strange(row, normal, spread, floors, _M_MEMORY) and not _strange(row, normal, spread, floors, _M_FLIGHT)
    if row[_M_MEMORY] > FULL or leaking:
        return _MEMORY
    if row[_M_CPU] > BUSY:
        return _CPU
    if errors:
        return _ERRORS
    return _LATENCY if _strange(row, normal, spread, floors, _M_P95) else _NOTHING


@njit
def _patterns(metrics, centre, spread, floors, replicas, age_s, caches, bad_slo, runs, target):  # type: ignore[no-untyped-def]
    """Return (row,) pattern codes of the targets of some runs; arrays of the whole batch."""
    codes = np.empty(runs.size, np.int64)
    for i in range(runs.size):
        run, t = runs[i], target[i]
        system = metrics.shape[1] - 1
        if t < 0:
            risen = metrics[run, system, _M_RATE] > SURGE * centre[run, system, _M_RATE]
            codes[i] = _SURGE if risen else _NOTHING
            continue
        codes[i] = _pattern(
            metrics[run, t], centre[run, t], spread[run, t], floors, replicas[run, t], age_s[run, t], caches[t],
            metrics[run, system, _M_ERRORS], bad_slo,
        )  # fmt: skip
    return codes


def signatures(
    topology: Topology, observation: Observation, history: History, runs: Ints, target: Ints, again: Bools
) -> Signature:
    """Describe the incidents of some runs.

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
    amplification = sent / np.maximum(sent - retries, 1.0)
    pattern = _patterns(
        np.ascontiguousarray(observation.metrics), history.centre, history.spread, FLOORS, observation.replicas,
        observation.change_age_s, topology.caches, topology.bad_frac_slo, runs, target,
    )  # fmt: skip
    return Signature(
        target=target,
        broken=late + 2 * bad.astype(np.int64),
        load=np.digitize(np.where(np.isnan(rate), 0.0, rate), LOAD_BANDS),
        amplification=np.digitize(amplification, AMPLIFICATION_BANDS),
        pattern=pattern,
        again=again,
    )
