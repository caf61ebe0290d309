"""Keeps the books of the excess: what every service adds to the trouble beyond what its callees hand up to it."""

__all__ = ["PARTS", "OwnExcess", "evidence", "own_share"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.view import Usual, View, ratio
from agent.history import WIRE_S
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Pieces of evidence, the last axis of what ``evidence`` returns, in words.
PARTS = (
    "adds most of the excess itself",
    "slow by itself",
    "the way to it is slow",
    "busier than its requests explain",
    "gives up before it calls on",
    "replicas missing",
    "hit ratio fell",
)
#: Weight of a service's share of the excess where time is counted, and where it is only estimated from quantiles.
#: Time in flight adds up along a call, so its books balance; quantiles do not.
_COUNTED, _ESTIMATED = 10.0, 1.0
#: Below this score nothing is accused.
_LEAST = 1.0
#: Relative spread of a call ratio that is nothing unusual, beside its counting error.
_RATIO_SPREAD = 0.1


def _excess(view: View) -> tuple[Floats, Floats, Bools]:
    """Return (row, service) excess requests waiting, excess errors per second, and (row,) whether time is counted.

    By Little's law the time average of requests in flight is the time spent per second; what exceeds the usual time
    per request at today's rate is the excess. Without it the rise of p95 times the rate stands in. The time
    between a caller and the service counts as the service's.
    """
    now = view.now[:, :-1]
    rate = np.where(np.isnan(now[..., Metric.REQUEST_RATE_RPS]), 0.0, now[..., Metric.REQUEST_RATE_RPS])
    flight = now[..., Metric.IN_FLIGHT]
    counted = ~np.isnan(flight).all(1)
    late = np.where(counted[:, None], flight - rate * view.per_request_s[:, :-1], rate * view.rise(Metric.P95_S)[:, :-1])
    late = np.where(np.isnan(late), 0.0, late) + rate * view.rise(WIRE_S)[:, :-1]
    bad = rate * view.rise(Metric.ERROR_RATE)[:, :-1]
    return np.maximum(late, 0.0), np.maximum(bad, 0.0), counted


def own_share(view: View) -> tuple[Floats, Bools]:
    """Return (row, service) each service's share of the excess that callees do not hand up, and (row,) if counted.

    Lateness and errors are kept in separate books, and weigh as they do in the system's trouble.
    """
    calls = view.topology.calls
    late, bad, counted = _excess(view)
    weight = view.symptom()
    share = np.zeros_like(late)
    for kind, excess in enumerate((late, bad)):
        own = np.maximum(0.0, excess - (calls[None] * excess[:, None, :]).sum(2))
        total = own.sum(1, keepdims=True)
        share += weight[:, kind : kind + 1] * np.where(total > 0, own / np.where(total > 0, total, 1.0), 0.0)
    return share, counted


def _given_up(view: View) -> Floats:
    """Return (row, service) by how many standard errors too few calls reach the callees that only it calls.

    A service that fails early still takes its requests, but stops calling on. Counts as evidence of errors only.
    """
    calls, steps = view.topology.calls, np.maximum(view.since[:, -4:].sum(1), 1)[:, None, None]
    only = calls & (calls.sum(0) == 1)[None, :]
    rate = view.now[:, :-1, Metric.REQUEST_RATE_RPS]
    usual = view.centre[:, :-1, Metric.REQUEST_RATE_RPS]
    expected = usual[:, None, :] * ratio(rate, usual, 0.0)[:, :, None] * steps * view.topology.step_s
    got = rate[:, None, :] * steps * view.topology.step_s
    error = np.sqrt(np.maximum(expected, 1.0) + (_RATIO_SPREAD * expected) ** 2)
    missing = np.where(only[None] & (expected > 0), (expected - got) / error, 0.0)
    return np.where(np.isnan(missing), 0.0, missing).max(2) * view.symptom()[:, 1:]


def evidence(view: View, caches: Bools) -> Floats:
    """Return (row, service, part) evidence of at least 0, parts as in ``PARTS``; they add up to a service's score."""
    share, counted = own_share(view)
    now, centre = view.now[:, :-1], view.centre[:, :-1]
    rate = ratio(now[..., Metric.REQUEST_RATE_RPS], centre[..., Metric.REQUEST_RATE_RPS], 1.0)
    expected = centre[..., Metric.CPU_UTIL] * np.maximum(rate, 1.0)
    busy = (now[..., Metric.CPU_UTIL] - expected) / view.scale[:, :-1, Metric.CPU_UTIL]
    quantiles = np.where(counted[:, None], 0.0, view.above(Metric.P95_S)[:, :-1])
    missing = centre[..., Metric.REPLICAS_UP] - now[..., Metric.REPLICAS_UP]
    cold = np.where(caches, centre[..., Metric.HIT_RATIO] - now[..., Metric.HIT_RATIO], 0.0)
    strange = np.stack(
        [quantiles, view.above(WIRE_S)[:, :-1], busy, _given_up(view), 20.0 * missing, 50.0 * cold], 2
    )
    strange = np.log1p(np.where(np.isnan(strange), 0.0, np.maximum(strange, 0.0)))
    weight = np.where(counted, _COUNTED, _ESTIMATED)[:, None]
    return np.concatenate([(weight * share)[..., None], strange], 2)


class OwnExcess:
    """Score = share of the excess that is its own + the logarithms of what else speaks against a service.

    The excess (time or errors beyond the usual at today's rate) of a service includes that of its callees; taking
    theirs away leaves what it adds itself. Beside that count, per service and in units of its normal spread: the time
    between a caller and it, work beyond its requests, calls that it no longer makes, missing replicas and a cold cache.
    """

    name: ClassVar[str] = "own_excess"

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._usual = Usual(topology, keys.size)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        view = View(self._topology, history, self._usual, runs)
        parts = evidence(view, self._topology.caches)
        score = parts.sum(2)
        ranked = np.argsort(-score, axis=1, kind="stable").astype(np.int64)
        top = ranked[:, 0].copy()
        strongest = score.max(1)
        suspect = np.where(strongest >= _LEAST, top, -1)
        confidence = strongest / (score.sum(1) + 1.0)

        def explain(row: int) -> str:
            if suspect[row] < 0:
                return "no service stands out"
            found = parts[row, top[row]]
            reasons = [PARTS[part] for part in np.argsort(-found, kind="stable")[:2] if found[part] >= 0.5]
            return f"{self._topology.services[top[row]]}: {' and '.join(reasons) or 'a little of everything'}"

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain, score)
