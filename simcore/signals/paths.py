"""Where the time of sampled requests went, and where their failures began: request trees as arrays, many runs at once.

A request's latency is the sum of what every attempt under it adds: an attempt adds the time in which its caller waited
for it and for nothing before it (of calls in parallel, the part by which each extends the wait), less what its own
callees add. So the shares of the services add up to the latency (after the critical path of Qiu et al., "FIRM", OSDI
2020, with waits that overlap counted once, first come first).
"""

__all__ = ["Attempts", "attempts_of", "origins", "path_times"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.codes import Event, Status
from simcore.model.programs import PublishStep
from simcore.model.scenario import Scenario
from simcore.signals.kinship import Kinship, kinship_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Log = npt.NDArray[np.void]

#: The status of an attempt that its caller has no answer to.
_NONE = -1


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of some requests; all arrays are (attempt,), times in seconds, nan where it never came to that."""

    kin: Kinship
    services: Ints  #: that is asked
    callers: Ints  #: service that asks, -1: a client
    message: Bools  #: whether it delivers a message, for which nobody waits
    depth: Ints
    made_s: Floats
    sent_s: Floats
    arrived_s: Floats
    started_s: Floats
    finished_s: Floats
    pooled_s: Floats
    locked_s: Floats  #: how long it waited for locks
    end_s: Floats  #: its caller hears the answer, gives up, or no longer needs it
    status: Ints  #: for its caller, a ``Status``; -1: none
    work: Ints  #: how its work has ended, a ``Status``; -1: not, or not by itself
    hit: Bools  #: whether it is a look-up that a cache answered


def attempts_of(scenario: Scenario, log: Log, runs: Ints, until_s: float) -> Attempts:
    """Return the attempts of some requests, put together from the rows of an event log.

    Parameters
    ----------
    scenario
        What was simulated.
    log
        Dtype ``LOG``; of every request all rows up to ``until_s``.
    runs
        (row,) position of the run that a row belongs to.
    until_s
        What has not ended then ends there.
    """
    kin = kinship_of(scenario, log, runs)
    at = kin.index_of(log["span"], runs)
    event, time_s, aux = log["event"], log["time_s"], log["aux"]

    def when(*events: Event) -> Floats:
        times = np.full(kin.keys.size, np.nan)
        for of in events:
            rows = event == int(of)
            times[at[rows]] = time_s[rows]
        return times

    def said(of: Event) -> Ints:
        values = np.full(kin.keys.size, _NONE, np.int64)
        rows = event == int(of)
        values[at[rows]] = aux[rows]
        return values

    def total(of: Event) -> Floats:
        rows = event == int(of)
        summed: Floats = np.bincount(at[rows], time_s[rows], kin.keys.size).astype(np.float64)
        return summed

    replied, timed_out, denied = when(Event.REPLIED), when(Event.TIMED_OUT), when(Event.DENIED)
    status = np.where(np.isnan(timed_out), said(Event.REPLIED), int(Status.TIMEOUT))
    status = np.where(np.isnan(denied), status, said(Event.DENIED))
    pooled, sent = when(Event.POOLED), when(Event.SENT)
    made = np.fmin(np.fmin(pooled, sent), np.fmin(denied, when(Event.PUBLISHED, Event.OVERFLOW, Event.OFFERED)))
    names = scenario.service_names
    service_of = np.array([names.index(service) for service, _ in scenario.operations], np.int64)
    services = service_of[kin.operations]
    callers = np.where(kin.parents >= 0, services[kin.parents], -1)
    publishes = np.array([isinstance(step.spec, PublishStep) for step in scenario.sites] + [False])
    blocked, locked = total(Event.BLOCKED), total(Event.LOCKED)
    # a lock that was free has no BLOCKED row, one that was never got no LOCKED row
    waited = np.bincount(at[event == int(Event.BLOCKED)], minlength=kin.keys.size)
    got = np.bincount(at[event == int(Event.LOCKED)], minlength=kin.keys.size)
    depth = _depths(kin.parents)
    finished = when(Event.FINISHED, Event.KILLED, Event.CANCELLED, Event.DROPPED, Event.REJECTED)
    end = np.fmin(replied, timed_out)
    end = np.where(np.isnan(end) & ~np.isnan(pooled) & (status == int(Status.POOL)), denied, end)
    message = publishes[kin.sites]
    end = _ended(kin, depth, made, finished, end, status, message, until_s)
    return Attempts(
        kin, services, callers, message, depth, made, sent, when(Event.ARRIVED), when(Event.STARTED), finished, pooled,
        np.where((waited > 0) & (waited == got), locked - blocked, 0.0), end, status, said(Event.FINISHED),
        ~np.isnan(when(Event.HIT)),
    )  # fmt: skip


def _depths(parents: Ints) -> Ints:
    depth = np.zeros(parents.size, np.int64)
    above = parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return depth


def _ended(
    kin: Kinship, depth: Ints, made: Floats, finished: Floats, end: Floats, status: Ints, message: Bools, until_s: float
) -> Floats:
    """Return (attempt,) when it was over for its caller: what the log says, or when another member won or it ended.

    No attempt outlasts the time in which its caller is waited for itself.
    """
    end = end.copy()
    won = np.full(kin.keys.size, np.inf)
    if np.isnan(end).any():
        attempt = (kin.parents << 24) + (kin.sites << 8) + kin.numbers % 32
        member = np.unique(attempt, return_inverse=True)[1]
        first = np.full(kin.keys.size, np.inf)
        ok = status == int(Status.OK)
        np.minimum.at(first, member[ok], end[ok])
        won = first[member]
    for level in range(int(depth.max(initial=0)) + 1):
        of = np.flatnonzero(depth == level)
        above = kin.parents[of]
        over = np.where(above >= 0, np.fmin(finished[above], end[above]), until_s)
        over = np.where(message[of], until_s, over)
        open_ = np.isnan(end[of])
        end[of] = np.where(open_, np.minimum(np.where(message[of], np.inf, won[of]), over), end[of])
        end[of] = np.maximum(np.minimum(end[of], over), made[of])
    return end


def path_times(attempts: Attempts) -> dict[str, Floats]:
    """Return (attempt,) seconds of the request's latency by what was done: work, queue, lock, wire and pool.

    Messages and what they lead to add nothing: nobody waits for them.
    """
    kin, n = attempts.kin, attempts.made_s.size
    wait = attempts.end_s - attempts.made_s
    adds = np.zeros(n)
    order = np.lexsort((kin.numbers, kin.sites, attempts.made_s, kin.parents))
    some = order[(kin.parents[order] >= 0) & ~attempts.message[order]]
    if some.size:
        adds[some] = _extensions(kin.parents[some], attempts.made_s[some], attempts.end_s[some])
    weight = np.where(kin.parents < 0, 1.0, 0.0)
    for level in range(1, int(attempts.depth.max(initial=0)) + 1):
        of = np.flatnonzero((attempts.depth == level) & ~attempts.message)
        share = np.divide(adds[of], wait[of], out=np.zeros(of.size), where=wait[of] > 0)
        weight[of] = weight[kin.parents[of]] * share
    inside = np.bincount(kin.parents[some], adds[some], n) if some.size else np.zeros(n)
    begun = np.fmin(attempts.started_s, attempts.end_s)
    worked = np.fmin(attempts.finished_s, attempts.end_s) - begun
    worked = np.where(np.isnan(attempts.started_s), 0.0, worked)
    queued = np.nan_to_num(np.fmin(begun, np.fmin(attempts.finished_s, attempts.end_s)) - attempts.arrived_s)
    pooled = np.nan_to_num(np.fmin(attempts.sent_s, attempts.end_s) - attempts.pooled_s)
    queued, pooled = np.maximum(queued, 0.0), np.maximum(pooled, 0.0)
    locked = np.minimum(attempts.locked_s, np.maximum(worked - inside, 0.0))
    return {
        "work": np.maximum(worked - inside - locked, 0.0) * weight,
        "queue": queued * weight,
        "lock": locked * weight,
        "wire": np.maximum(wait - pooled - queued - worked, 0.0) * weight,
        "pool": pooled * weight,
    }


def _extensions(parents: Ints, made: Floats, end: Floats) -> Floats:
    """Return by how much each attempt extends its caller's wait; attempts sorted by caller, then by their start."""
    first = np.flatnonzero(np.concatenate([[True], parents[1:] != parents[:-1]]))
    caller = np.repeat(np.arange(first.size), np.diff(np.append(first, parents.size)))
    place = np.arange(parents.size) - first[caller]
    adds, covered = np.empty(parents.size), np.full(first.size, -np.inf)
    for k in range(int(place.max()) + 1):
        of = np.flatnonzero(place == k)
        before = covered[caller[of]]
        adds[of] = np.maximum(end[of] - np.maximum(made[of], before), 0.0)
        covered[caller[of]] = np.maximum(before, end[of])
    return adds


def origins(attempts: Attempts) -> dict[str, tuple[Bools, Ints]]:
    """Return by kind which attempts a failure begins with, and (attempt,) the service that it is put down to.

    A failure begins where nothing below has failed: errors (the span fails by itself), poison (it fails on the very
    answer of a cache: put down to that), silent (no answer in time), gone (refused, reset, or no replica), turned away
    (rejected), unsent (no connection: put down to the caller).
    """
    kin, n = attempts.kin, attempts.made_s.size
    failed = (attempts.status != int(Status.OK)) & (attempts.status != _NONE)
    child = np.flatnonzero((kin.parents >= 0) & ~attempts.message)
    below = np.zeros(n, np.bool_)
    below[kin.parents[child[failed[child]]]] = True
    own = attempts.work == int(Status.ERROR)
    answers = child[attempts.hit[child]]
    last = answers[attempts.end_s[answers] == attempts.finished_s[kin.parents[answers]]]
    cache = np.full(n, -1, np.int64)
    cache[kin.parents[last]] = attempts.services[last]
    poisoned = own & (cache >= 0)
    silent = (attempts.status == int(Status.TIMEOUT)) & ~below & (attempts.work == _NONE)
    gone = (attempts.status == int(Status.REFUSED)) | (attempts.status == int(Status.RESET))
    gone |= attempts.status == int(Status.UNAVAILABLE)
    return {
        "errors": (own & ~poisoned, attempts.services),
        "poison": (poisoned, cache),
        "silent": (silent, attempts.services),
        "gone": (gone, attempts.services),
        "turned_away": (attempts.status == int(Status.REJECTED), attempts.services),
        "unsent": ((attempts.status == int(Status.POOL)) & (attempts.callers >= 0), attempts.callers),
    }
