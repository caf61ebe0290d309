"""Health checks: which replicas the balancer believes in."""

import numpy as np

from simcore.codes import Kind
from simcore.jit import njit
from simcore.kernels.calendar import enter_control
from simcore.kernels.replica import STARTING, UP
from simcore.layout import fleet_at, replica_at, rules_at

_PROBE = np.int64(Kind.PROBE)


@njit(internal=True)
def enter_probe(plan, lane, service, n):  # type: ignore[no-untyped-def]
    """Enter the n-th probe of a service; the caller has checked the room."""
    time = plan.start_s + np.float64(n) * rules_at(plan, service).probe_s
    enter_control(lane, time, _PROBE, service, 0, n, service, 0)


@njit(internal=True)
def on_probe(plan, lane, service, n):  # type: ignore[no-untyped-def]
    """Look at every replica of a service, and enter the next probe."""
    rules = rules_at(plan, service)
    at = fleet_at(lane, service).first
    while at >= 0:
        r = replica_at(lane, at)
        if r.state == UP:
            r.passed += 1
            r.missed = 0
            if r.passed == rules.healthy_after:
                r.rotates = 1
        elif r.state == STARTING:
            r.missed += 1
            r.passed = 0
            if r.missed == rules.unhealthy_after:
                r.rotates = 0
        else:
            r.rotates = 0
        at = r.next
    enter_probe(plan, lane, service, n + 1)
