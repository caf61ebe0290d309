"""Health checks: which replicas the balancer believes in."""

import numpy as np

from simcore.codes import Event, Kind
from simcore.jit import njit
from simcore.kernels.calendar import enter_control
from simcore.kernels.replica import STARTING, UP
from simcore.kernels.spans import note
from simcore.layout import fleet_at, replica_at, rules_at

_PROBE, _NONE, _ROTATION = np.int64(Kind.PROBE), np.int64(0), np.int64(Event.ROTATION)


@njit(internal=True)
def enter_probe(plan, lane, service, n):  # type: ignore[no-untyped-def]
    """Enter the n-th probe of a service; the caller has checked the room."""
    time = plan.start_s + np.float64(n) * rules_at(plan, service).probe_s
    enter_control(lane, time, _PROBE, np.uint64(service), _NONE, n, service, _NONE)


@njit(internal=True)
def on_probe(plan, lane, service, n, now):  # type: ignore[no-untyped-def]
    """Look at every replica of a service, and enter the next probe."""
    rules = rules_at(plan, service)
    at = fleet_at(lane, service).first
    while at >= 0:
        r = replica_at(lane, at)
        if r.state == UP:
            r.passed += 1
            r.missed = 0
            if r.passed == rules.healthy_after and r.rotates == 0:
                r.rotates = 1
                note(lane, now, -1, at, _ROTATION, 1)
        elif r.state == STARTING:
            r.missed += 1
            r.passed = 0
            if r.missed == rules.unhealthy_after and r.rotates == 1:
                r.rotates = 0
                note(lane, now, -1, at, _ROTATION, 0)
        else:
            r.rotates = 0
        at = r.next
    enter_probe(plan, lane, service, n + 1)
