"""Keeps the books of the excess: what every service adds to the trouble beyond what its callees hand up to it."""

__all__ = ["PARTS", "OwnExcess", "evidence", "own_share", "surge"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.diagnosers.ranking import ScoreRank
from agent.diagnosers.view import View, ratio
from agent.history import WIRE_S
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Pieces of evidence, the last axis of what ``evidence`` returns, in words.
PARTS = (
    "adds most of the excess itself",
    "slow by itself",
    "the way to it is slow",
    "errors of its own",
    "busier than its requests explain",
    "memory above what it was",
    "gives up before it calls on",
    "replicas missing",
    "hit ratio fell",
)
#: Weight of a service's share of the excess where time is counted, and where it is only estimated from quantiles.
#: Time in flight adds up along a call, so its books balance; quantiles do not.
_COUNTED, _ESTIMATED = 10.0, 1.0
#: From here on a callee is strange, in spreads of its latency.
_STRANGE = 3.0
#: What a caller's own excess may owe to the way to its strange callees, where nobody measures that way.
_ON_THE_WAY = 0.4
#: Growth of the system's requests from which on the workload is accused, and at which it is certain.
_SURGE = (1.3, 1.7)
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
    counted: Bools = np.any(~np.isnan(flight), axis=1)
    estimated = rate * view.rise(Metric.P95_S)[:, :-1]
    late = np.where(counted[:, None], flight - rate * view.per_request_s[:, :-1], estimated)
    late = np.where(np.isnan(late), 0.0, late) + rate * view.rise(WIRE_S)[:, :-1]
    given_up = view.rise(Metric.TIMEOUTS)[:, :-1] / view.topology.step_s  # callers that wait no longer fail themselves
    bad = np.maximum(rate * view.rise(Metric.ERROR_RATE)[:, :-1], given_up)
    return np.maximum(late, 0.0), np.maximum(bad, 0.0), counted


def own_share(view: View) -> tuple[Floats, Floats, Bools]:
    """Return two shares of each service, (row, service), and (row,) whether time is counted.

    The first is its share of the excess that callees do not hand up; lateness and errors are kept in separate books,
    and weigh as they do in the system's trouble. The second is the share of its own errors in those it answers with,
    0 where the errors of a callee are unknown.
    """
    calls, weight = view.topology.calls, view.symptom()
    late, bad, counted = _excess(view)
    own_late, own_bad = (np.maximum(0.0, part - (calls * part[:, None, :]).sum(2)) for part in (late, bad))
    waited = _handed_down(view, late, ratio(own_late, own_late.sum(1, keepdims=True), 0.0))
    failed = ratio(own_bad, own_bad.sum(1, keepdims=True), 0.0)
    unknown = (calls & np.isnan(view.now[:, None, :-1, Metric.ERROR_RATE])).any(2)
    share: Floats = weight[:, :1] * waited + weight[:, 1:] * failed
    return share, np.where(unknown, 0.0, ratio(own_bad, bad, 0.0)), counted


def _handed_down(view: View, late: Floats, share: Floats) -> Floats:
    """Return (row, service) shares of which strange callees have been given their part of the callers'.

    The time between a caller and its callee counts with the caller unless it is measured; a callee that is itself
    slower than usual is a reason to look for it there.
    """
    slow = np.maximum(view.above(Metric.P95_S), view.above(Metric.P50_S))[:, :-1] >= _STRANGE
    part = view.topology.calls * (late * slow)[:, None, :]
    part = ratio(part, part.sum(2, keepdims=True), 0.0)
    measured = (view.above(WIRE_S) != 0).any(1, keepdims=True)
    given = np.where(measured, 0.0, _ON_THE_WAY * share) * (part.sum(2) > 0)
    handed: Floats = share - given + (given[:, :, None] * part).sum(1)
    return handed


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
    few: Floats = np.where(np.isnan(missing), 0.0, missing).max(2) * view.symptom()[:, 1:]
    return few


def surge(view: View) -> Floats:
    """Return (row,) how sure it is, in [0, 1], that the workload grew."""
    rate, usual = (part[:, -1, Metric.REQUEST_RATE_RPS] for part in (view.now, view.centre))
    sure: Floats = np.clip((ratio(rate, usual, 1.0) - _SURGE[0]) / (_SURGE[1] - _SURGE[0]), 0.0, 1.0)
    return sure


def _news(view: View, metric: int) -> Floats:
    """Return (row, service) how far a slow metric lies above normal and above what it was before the onset."""
    before = np.where(view.since[:, :, None], np.nan, view.series[:, :, :-1, metric])
    known = ~np.isnan(before)
    mean = ratio(np.where(known, before, 0.0).sum(1), known.sum(1).astype(np.float64), np.nan)
    risen = (view.now[:, :-1, metric] - mean) / view.scale[:, :-1, metric]
    return np.fmin(view.above(metric)[:, :-1], risen)


def evidence(view: View) -> Floats:
    """Return (row, service, part) evidence of at least 0, parts as in ``PARTS``; they add up to a service's score."""
    share, fails, counted = own_share(view)
    now, centre = view.now[:, :-1], view.centre[:, :-1]
    rate = ratio(now[..., Metric.REQUEST_RATE_RPS], centre[..., Metric.REQUEST_RATE_RPS], 1.0)
    expected = centre[..., Metric.CPU_UTIL] * np.maximum(rate, 1.0)
    busy = (now[..., Metric.CPU_UTIL] - expected) / view.scale[:, :-1, Metric.CPU_UTIL]
    quantiles = np.where(counted[:, None], 0.0, view.above(Metric.P95_S)[:, :-1])
    missing = centre[..., Metric.REPLICAS_UP] - now[..., Metric.REPLICAS_UP]
    cold = np.where(view.topology.caches, centre[..., Metric.HIT_RATIO] - now[..., Metric.HIT_RATIO], 0.0)
    strange = np.stack(
        [
            quantiles, view.above(WIRE_S)[:, :-1], fails * view.above(Metric.ERROR_RATE)[:, :-1], busy,
            _news(view, Metric.MEMORY_FRAC), _given_up(view), 20.0 * missing, 50.0 * cold,
        ],
        2,
    )  # fmt: skip
    strange = np.log1p(np.where(np.isnan(strange), 0.0, np.maximum(strange, 0.0)))
    weight = np.where(counted, _COUNTED, _ESTIMATED)[:, None]
    return np.concatenate([(weight * share)[..., None], strange], 2)


class OwnExcess(ScoreRank):
    """Score = share of the excess that is its own + the logarithms of what else speaks against a service.

    The excess (time or errors beyond the usual at today's rate) of a service includes that of its callees; taking
    theirs away leaves what it adds itself. Beside that count, per service and in units of its normal spread: the time
    between a caller and it, work beyond its requests, calls that it no longer makes, missing replicas and a cold cache.
    """

    name: ClassVar[str] = "own_excess"
    parts: ClassVar[tuple[str, ...]] = PARTS
    least: ClassVar[float] = 1.0

    def weigh(self, view: View) -> Floats:
        """Return (row, service, part) the evidence."""
        return evidence(view)

    def workload(self, view: View) -> Floats:
        """Return (row,) the score of the workload, from 0 to what a service's share of the excess can reach."""
        return _COUNTED * surge(view)
