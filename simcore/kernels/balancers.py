"""Load balancers that draw: random, and the better of two."""

import numpy as np

from simcore.codes import BORDER, BalancerCode, Purpose
from simcore.jit import njit
from simcore.layout import fleet_at, replica_at, service_at
from simcore.streams import draw_index, uniform

_RANDOM, _BALANCER = np.int64(BalancerCode.RANDOM), np.int64(Purpose.BALANCER)


@njit(internal=True)
def eligible(lane, service, rank):  # type: ignore[no-untyped-def]
    """Return the eligible replica of that rank in number order; for rank -1 how many there are."""
    n = 0
    at = fleet_at(lane, service).first
    while at >= 0:
        replica = replica_at(lane, at)
        if replica.rotates == 1 and replica.quarantined == 0:
            if n == rank:
                return at
            n += 1
        at = replica.next
    return n


@njit(internal=True)
def count_eligible(lane, service):  # type: ignore[no-untyped-def]
    """Return how many replicas of a service are eligible."""
    return eligible(lane, service, np.int64(-1))


@njit(internal=True)
def drawn(plan, lane, service, key):  # type: ignore[no-untyped-def]
    """Return the replica that an attempt's draws choose, -1 if none is eligible."""
    n = count_eligible(lane, service)
    if n == 0:
        return -1
    index = draw_index(BORDER, _BALANCER)
    u = uniform(key, index)
    i = min(n - 1, np.int64(u * np.float64(n)))
    one = eligible(lane, service, i)
    if n == 1 or service_at(plan, service).balancer == _RANDOM:
        return one
    j = min(n - 2, np.int64(uniform(key, index + np.uint64(1)) * np.float64(n - 1)))
    other = eligible(lane, service, j + np.int64(j >= i))
    a, b = replica_at(lane, one).outstanding, replica_at(lane, other).outstanding
    return other if b < a or (b == a and other < one) else one
