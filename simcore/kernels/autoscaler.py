"""Autoscalers: as many replicas as their utilisation in the last window asks for, fewer only after a while."""

import numpy as np

from simcore.codes import Event, Kind
from simcore.jit import njit
from simcore.kernels.calendar import enter_control
from simcore.kernels.lifecycle import scale
from simcore.kernels.replica import STARTING, UP
from simcore.kernels.spans import note
from simcore.layout import fleet_at, replica_at, rules_at, wish_at
from simcore.windows import Metric

_AUTOSCALE, _SCALED = np.int64(Kind.AUTOSCALE), np.int64(Event.SCALED)
_UTIL = np.int64(Metric.CPU_UTIL)


@njit(internal=True)
def call_autoscalers(plan, lane, edge, metrics):  # type: ignore[no-untyped-def]
    """Enter the autoscalers that act on the window just closed, ``lane.window``; the caller has checked the room."""
    step = lane.window + 1
    if step <= 0:
        return
    for service in range(plan.n_services):
        every = rules_at(plan, service).every_steps
        if every > 0 and step % every == 0:
            used = metrics[service, _UTIL]
            fleet_at(lane, service).used = 0.0 if np.isnan(used) else used
            enter_control(lane, edge, _AUTOSCALE, service, 0, step, service, 0)


@njit(internal=True)
def wish(plan, lane, service):  # type: ignore[no-untyped-def]
    """Return how many replicas a service has, and how many its autoscaler wants."""
    rules = rules_at(plan, service)
    n = np.int64(0)
    at = fleet_at(lane, service).first
    while at >= 0:
        state = replica_at(lane, at).state
        n += np.int64(state == UP or state == STARTING)
        at = replica_at(lane, at).next
    ratio = fleet_at(lane, service).used / rules.target
    if n == 0 or abs(ratio - 1.0) <= rules.tolerance:
        return n, n
    return n, max(rules.least, min(rules.most, np.int64(np.ceil(np.float64(n) * ratio))))


@njit(internal=True)
def on_autoscale(plan, lane, service, step, now):  # type: ignore[no-untyped-def]
    """Add the replicas that are missing, or take away those that nobody has wanted for a while."""
    rules = rules_at(plan, service)
    n, wanted = wish(plan, lane, service)
    first = service * plan.wishes_wide
    kept = wish_at(lane, first + step // rules.every_steps % plan.wishes_wide)
    kept.step = step
    kept.replicas = wanted
    change = wanted - n
    if change < 0:
        for i in range(plan.wishes_wide):
            kept = wish_at(lane, first + i)
            if kept.step > step - rules.stabilisation_steps:
                change = max(change, kept.replicas - n)
        change = min(change, 0)
    if change != 0:
        scale(plan, lane, service, change, now)
        note(lane, now, -1, service, _SCALED, change)
