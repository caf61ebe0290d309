"""The fault catalogue: one row per type. What a fault does is a set of parameters; what follows is the model's affair.

The names, mechanisms and fixes are those of the field (docs/explanation/model.md, "Faults"). A fault heals when the
place it lives in is replaced, or when its time is over; ``fixes`` only says so in words.
"""

__all__ = ["CATALOGUE", "NEUTRAL", "ONE_SHOT", "Aim", "Effects", "FaultType", "targets_of"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from simcore.codes import Param, Place
from simcore.model.scenario import DelayStep, Scenario
from simcore.model.visits import visits

#: (strength, scenario, service) -> parameters and the values they take. Strength = severity * level, in (0, 1].
Effects = Callable[[float, Scenario, int], tuple[tuple[Param, float], ...]]

#: Value of a parameter that does nothing.
NEUTRAL = {
    param: 1.0 if param <= Param.TIMEOUT or param in (Param.HOLD, Param.POOL, Param.EDGE_DELAY) else 0.0
    for param in Param
}

#: Parameters that act once, at the instant of a change.
ONE_SHOT = frozenset({Param.FLUSH, Param.POISON, Param.DEPLOY, Param.CONFIG})


class Aim(Enum):
    """What a fault type may be aimed at."""

    SERVICE = "a service or one replica of it"
    WHOLE_SERVICE = "a service"
    REPLICA = "one replica of a service"
    CACHE = "a cache or one replica of it"
    WORKLOAD = "the workload"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class FaultType:
    """A row of the catalogue."""

    mechanism: str
    signature: str
    fixes: str
    aim: Aim
    effects: Effects
    places: Mapping[Place, float]  #: where it lives, with default weights
    also: frozenset[Place] = field(default_factory=frozenset)  #: where else it may live
    profiles: tuple[str, ...] = ("step", "ramp", "pulses")  #: the first is the default

    def may_live_in(self, place: Place) -> bool:
        """Return whether the place makes sense for the type."""
        return place in self.places or place in self.also


_ANYWHERE = frozenset({Place.PROCESS, Place.NODE, Place.VERSION, Place.CONFIG, Place.OUTSIDE})
#: Not PROCESS: each crash would heal what causes it.
_SURVIVES = _ANYWHERE - {Place.PROCESS}


def _nothing(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ()


def _latency_spike(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    name = scenario.service_names[service]
    delays = any(
        isinstance(step.spec, DelayStep) and scenario.operations[step.operation][0] == name for step in scenario.walk()
    )
    network = (Param.NETWORK, 1.0 + 99.0 * strength)
    # A service that waits for nothing has only its work to get slower.
    return (network, (Param.DELAY, 1.0 + 49.0 * strength) if delays else (Param.DEMAND, 1.0 + 1.0 * strength))


def _error_burst(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.OK, 1.0 - 0.7 * strength),)


def _cpu_saturation(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CORES, 1.0 - 0.85 * strength),)


def _slow_replica(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.SPEED, 1.0 - 0.9 * strength),)


def _memory_leak(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    spec = scenario.services[scenario.service_names[service]]
    span_rate = scenario.workload.rate_rps * visits(scenario)[service] / spec.replicas.initial
    free = spec.memory.limit_bytes - spec.memory.base_bytes
    # Full after one minute at strength 1 and the base rate, after four at 0.25.
    leak = free / (60.0 / strength * max(span_rate, 1e-3))
    # Two digits, since the sums behind the rate may differ in the last bits between platforms.
    unit = 10.0 ** (math.floor(math.log10(leak)) - 1) if leak >= 100.0 else 1.0
    # Collecting ever more garbage costs CPU before the memory is gone.
    return ((Param.LEAK, float(max(1, round(leak / unit) * round(unit)))), (Param.DEMAND, 1.0 + 0.4 * strength))


def _crash_loop(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CRASH, 15.0 / strength),)


def _bad_deploy(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.DEPLOY, 1.0), (Param.DEMAND, 1.0 + 1.2 * strength), (Param.OK, 1.0 - 0.15 * strength))


def _traffic_surge(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.SURGE, 0.9 * strength),)


def _cache_flush(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.FLUSH, 1.0),)


def _cache_poison(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.POISON, strength),)


#: Every fault type by name. The mix in which a scenario draws them is the scenario's.
CATALOGUE: Mapping[str, FaultType] = {
    "none": FaultType(
        mechanism="nothing happens: a control run",
        signature="none",
        fixes="noop",
        aim=Aim.NOTHING,
        effects=_nothing,
        places={Place.OUTSIDE: 1.0},
        profiles=("step",),
    ),
    "latency_spike": FaultType(
        mechanism="network and waiting times of a service grow (its work, where it waits for nothing)",
        signature="its p95 up, errors flat, CPU flat; callers' threads held longer",
        fixes="restart if it lives in the process, rollback if in the configuration or version, else wait",
        aim=Aim.SERVICE,
        effects=_latency_spike,
        places={Place.PROCESS: 0.7, Place.CONFIG: 0.2, Place.NODE: 0.1},
        also=_ANYWHERE,
    ),
    "error_burst": FaultType(
        mechanism="spans of a service fail with a probability",
        signature="its error rate up, latency flat or down",
        fixes="restart if it lives in the process, rollback if in the version",
        aim=Aim.SERVICE,
        effects=_error_burst,
        places={Place.PROCESS: 0.5, Place.VERSION: 0.5},
        also=_ANYWHERE,
    ),
    "cpu_saturation": FaultType(
        mechanism="background load in a service's processes takes cores",
        signature="CPU at its limit, p95 up",
        fixes="restart, scale",
        aim=Aim.SERVICE,
        effects=_cpu_saturation,
        places={Place.PROCESS: 1.0},
        also=_ANYWHERE,
    ),
    "slow_replica": FaultType(
        mechanism="one replica works slowly, while its health check passes",
        signature="p99 up, p50 flat, skew between replicas",
        fixes="quarantine",
        aim=Aim.REPLICA,
        effects=_slow_replica,
        places={Place.NODE: 1.0},
        also=_ANYWHERE,
    ),
    "memory_leak": FaultType(
        mechanism="every finished span leaves memory behind and collecting it costs CPU, until the replica is killed",
        signature="memory ramps up and falls in a saw-tooth, CPU up, errors at each kill",
        fixes="restart (for a while), rollback (for good)",
        aim=Aim.SERVICE,
        effects=_memory_leak,
        places={Place.VERSION: 1.0},
        also=_ANYWHERE,
    ),
    "crash_loop": FaultType(
        mechanism="replicas die some seconds after their start, with a growing back-off",
        signature="restarts, capacity in a saw-tooth, resets at the callers",
        fixes="rollback",
        aim=Aim.SERVICE,
        effects=_crash_loop,
        places={Place.VERSION: 1.0},
        also=_SURVIVES,
    ),
    "bad_deploy": FaultType(
        mechanism="a new version is rolled out that needs more CPU and fails more often",
        signature="latency and errors step up at a deploy event",
        fixes="rollback",
        aim=Aim.WHOLE_SERVICE,
        effects=_bad_deploy,
        places={Place.VERSION: 1.0},
    ),
    "traffic_surge": FaultType(
        mechanism="additional requests arrive",
        signature="rate, queues and CPU up together",
        fixes="scale; limit_traffic when saturated",
        aim=Aim.WORKLOAD,
        effects=_traffic_surge,
        places={Place.WORKLOAD: 1.0},
    ),
    "cache_flush": FaultType(
        mechanism="all entries of a cache are gone; the misses hit what lies behind it",
        signature="hit rate falls before the rate behind it rises",
        fixes="limit_traffic until it is warm; not clear_cache",
        aim=Aim.CACHE,
        effects=_cache_flush,
        places={Place.CONTENT: 1.0},
        profiles=("once", "pulses"),
    ),
    "cache_poison": FaultType(
        mechanism="a share of a cache's entries turns wrong and never expires",
        signature="errors at a high hit rate",
        fixes="clear_cache, restart",
        aim=Aim.CACHE,
        effects=_cache_poison,
        places={Place.CONTENT: 1.0},
        profiles=("once", "pulses"),
    ),
}


def targets_of(kind: FaultType, scenario: Scenario) -> tuple[int, ...]:
    """Return the services a type may hit by number, (-1,) for the workload or nothing."""
    if kind.aim in (Aim.WORKLOAD, Aim.NOTHING):
        return (-1,)
    return tuple(
        i for i, service in enumerate(scenario.services.values()) if kind.aim is not Aim.CACHE or service.cache
    )
