"""What a fault type is: what it changes, what it may be aimed at, and where it may live."""

__all__ = ["CLIENTS", "NEUTRAL", "NO_CALLER", "ONE_SHOT", "Aim", "Effects", "FaultType", "Target", "targets_of"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from simcore.codes import Param, Place
from simcore.model.claims import Claim
from simcore.model.programs import LockStep
from simcore.model.scenario import Scenario

#: (strength, scenario, service) -> parameters and the values they take. Strength = severity * level, in (0, 1].
#: The service is the callee of an edge.
Effects = Callable[[float, Scenario, int], tuple[tuple[Param, float], ...]]

#: Value of a parameter that does nothing.
NEUTRAL = {
    param: 1.0 if param <= Param.TIMEOUT or param in (Param.HOLD, Param.POOL, Param.EDGE_DELAY) else 0.0
    for param in Param
}

#: Parameters that act once, at the instant of a change.
ONE_SHOT = frozenset({Param.FLUSH, Param.POISON, Param.DEPLOY, Param.CONFIG, Param.PILL})

#: Callers of an edge that are no service; a target that is no edge.
CLIENTS, NO_CALLER = -1, -2


class Aim(Enum):
    """What a fault type may be aimed at."""

    SERVICE = "a service or one replica of it"
    WHOLE_SERVICE = "a service"
    REPLICA = "one replica of a service"
    CACHE = "a cache or one replica of it"
    CALLER = "a service that calls others"
    POOLED = "a service that others reach through a connection pool"
    LOCKING = "a service with a lock"
    COLLECTING = "a service with garbage collection"
    CONSUMER = "a service that consumes a topic"
    EDGE = "an edge between two services"
    WORKLOAD = "the workload"
    NOTHING = "nothing"


class Target(NamedTuple):
    """What a fault hits."""

    service: int  #: number; of an edge, the callee; -1: the workload, or nothing
    caller: int = NO_CALLER  #: of an edge: the calling service, or ``CLIENTS``

    def written(self, scenario: Scenario) -> str:
        """Return the target as people write it: ``db``, ``api:db``, ``clients:api`` or ``workload``."""
        names = scenario.service_names
        if self.service < 0:
            return "workload"
        if self.caller == NO_CALLER:
            return names[self.service]
        return f"{names[self.caller] if self.caller >= 0 else 'clients'}:{names[self.service]}"


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
    claim: Claim | None = None  #: what of this has been tried; every fault but ``none`` has one
    duration_s: float | None = None  #: where neither the scenario nor the user says; None: until fixed

    def may_live_in(self, place: Place) -> bool:
        """Return whether the place makes sense for the type."""
        return place in self.places or place in self.also


def targets_of(kind: FaultType, scenario: Scenario) -> tuple[Target, ...]:
    """Return what a type may hit in a scenario, in the order of the services; empty if there is nothing."""
    if kind.aim in (Aim.WORKLOAD, Aim.NOTHING):
        return (Target(-1),)
    if kind.aim is Aim.EDGE:
        return tuple(dict.fromkeys(_edges(scenario)))
    fitting = _fitting(kind.aim, scenario)
    return tuple(Target(i) for i, name in enumerate(scenario.service_names) if name in fitting)


def _edges(scenario: Scenario) -> Iterator[Target]:
    number = {name: i for i, name in enumerate(scenario.service_names)}
    for step in scenario.calls:
        caller = scenario.operations[step.operation][0]
        yield Target(number[scenario.call_of(step.site).to.partition(".")[0]], number[caller])
    for entry in scenario.workload.entries:
        yield Target(number[entry.operation.partition(".")[0]], CLIENTS)


def _fitting(aim: Aim, scenario: Scenario) -> set[str]:
    """Return the names of the services that an aim allows."""
    services = scenario.services.items()
    if aim is Aim.CACHE:
        return {name for name, service in services if service.cache}
    if aim is Aim.COLLECTING:
        return {name for name, service in services if service.gc}
    if aim is Aim.POOLED:
        return {callee for _, service in services for callee in service.pools}
    if aim is Aim.LOCKING:
        return {scenario.operations[step.operation][0] for step in scenario.walk() if isinstance(step.spec, LockStep)}
    if aim is Aim.CALLER:
        return {scenario.operations[step.operation][0] for step in scenario.calls}
    if aim is Aim.CONSUMER:
        return set(scenario.consumers)
    return set(scenario.service_names)
