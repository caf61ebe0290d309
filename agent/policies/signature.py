"""What an incident looks like, in a few words that come back: the key under which experience is kept."""

__all__ = ["admitted_errors", "signatures"]

import numpy as np
import numpy.typing as npt

from agent.api import AMPLIFICATION_BANDS, LOAD_BANDS, PATTERNS, History, Observation, Signature, Topology
from agent.policies.arms import worst_slot
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_CODE = {name: i for i, name in enumerate(PATTERNS)}

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
    rate = np.nan_to_num(system[:, Metric.REQUEST_RATE_RPS]) / topology.rate_rps
    services = observation.metrics[runs, :-1]
    sent = np.nan_to_num(services[..., Metric.REQUEST_RATE_RPS]).sum(1) * topology.step_s
    retries = np.nan_to_num(services[..., Metric.RETRIES]).sum(1)
    amplification = sent / np.maximum(sent - retries, 1.0)
    pattern = [_pattern(topology, observation, history, int(run), int(t)) for run, t in zip(runs, target, strict=True)]
    return Signature(
        target=target,
        broken=late + 2 * bad.astype(np.int64),
        load=np.digitize(rate, LOAD_BANDS),
        amplification=np.digitize(amplification, AMPLIFICATION_BANDS),
        pattern=np.array(pattern, np.int64).reshape(-1),
        again=again,
    )


def _pattern(topology: Topology, observation: Observation, history: History, run: int, target: int) -> int:
    """Return the code of the most telling thing about the target of one run."""
    metrics = observation.metrics[run]
    if target < 0:
        rate, usual = metrics[-1, Metric.REQUEST_RATE_RPS], history.centre[run, -1, Metric.REQUEST_RATE_RPS]
        return _CODE["surge" if rate > SURGE * usual else "nothing"]
    row, normal = metrics[target], history.centre[run, target]
    strange = history.deviation(run, metrics)[target] > STRANGE
    system_errors = metrics[-1, Metric.ERROR_RATE] > topology.bad_frac_slo
    if topology.caches[target]:
        lost = normal[Metric.HIT_RATIO] - row[Metric.HIT_RATIO]
        if lost > 0.05:
            return _CODE["cold"]
        if system_errors and not strange[Metric.ERROR_RATE]:
            return _CODE["poison"]
    if observation.change_age_s[run, target] <= RECENT_S:
        return _CODE["change"]
    # shards of a cache are unequal by nature
    if not topology.caches[target] and worst_slot(observation.replicas[run, target], normal[Metric.P95_S])[1] > SKEW:
        return _CODE["skew"]
    if (observation.replicas[run, target, :, ReplicaStat.QUARANTINED] > 0).any():
        return _CODE["short"]
    if row[Metric.REPLICAS_UP] < normal[Metric.REPLICAS_UP] - 0.5:
        return _CODE["flapping"]
    # requests in flight hold memory too; a leak holds it without them
    if row[Metric.MEMORY_FRAC] > FULL or (strange[Metric.MEMORY_FRAC] and not strange[Metric.IN_FLIGHT]):
        return _CODE["memory"]
    if row[Metric.CPU_UTIL] > BUSY:
        return _CODE["cpu"]
    if strange[Metric.ERROR_RATE]:
        return _CODE["errors"]
    return _CODE["latency" if strange[Metric.P95_S] else "nothing"]
