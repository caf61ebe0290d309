"""Effective values: what the modulations make of a service's parameters at one replica."""

__all__ = ["recompute", "warming"]

from simcore.codes import Param
from simcore.reference.replica import Replica
from simcore.reference.world import Influence, World


def _scaled(base: float, param: Param, active: list[Influence]) -> float:
    value = base
    for influence in active:
        if influence.modulation.param is param:
            value = value * influence.value
    return value


def recompute(world: World, replica: Replica) -> None:
    """Compute a replica's effective values anew, from the base, in the order of the modulations."""
    spec = replica.service.spec
    effects = replica.effects
    active = [influence for influence in world.influences if influence.applies(replica)]
    effects.speed = _scaled(spec.speed, Param.SPEED, active)
    effects.cores = _scaled(spec.cores, Param.CORES, active)
    effects.demand = _scaled(1.0, Param.DEMAND, active)
    effects.delay = _scaled(1.0, Param.DELAY, active)
    effects.network = _scaled(1.0, Param.NETWORK, active)
    effects.ok = _scaled(1.0, Param.OK, active)
    effects.timeout = _scaled(1.0, Param.TIMEOUT, active)
    effects.hold = _scaled(1.0, Param.HOLD, active)
    effects.pool = _scaled(1.0, Param.POOL, active)
    leaks = [int(influence.value) for influence in active if influence.modulation.param is Param.LEAK]
    effects.leak = spec.memory.leak_bytes + sum(leaks)
    crashes = [influence.value for influence in active if influence.modulation.param is Param.CRASH]
    effects.crash = min((value for value in crashes if value > 0.0), default=0.0)
    replica.retune()
    replica.refresh_pools()


def warming(replica: Replica, now: float) -> float:
    """Return the multiple of the CPU demand that a replica needs since it came up not long ago."""
    spec = replica.service.spec.warmup
    if spec is None or not now - replica.up_s < spec.duration_s:
        return 1.0
    return 1.0 + (spec.factor - 1.0) * (1.0 - (now - replica.up_s) / spec.duration_s)
