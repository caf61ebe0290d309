"""Health checks of the load balancers."""

__all__ = ["watch"]

from collections.abc import Generator
from itertools import count
from typing import Any

from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, ReplicaState
from simcore.model.services import Health
from simcore.reference.ledger import NO_REQUEST
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World


def watch(world: World) -> None:
    """Start the checks of the services that have them; their initial replicas are in rotation."""
    for service in world.services:
        if service.spec.health is not None:
            for replica in service.replicas:
                replica.in_rotation = True
            world.calendar.process(_checks(world, service, service.spec.health))


def _checks(world: World, service: ServiceState, health: Health) -> Generator[SimpyEvent, Any, None]:
    for k in count(1):
        yield world.calendar.at(world.t0 + k * health.interval_s, Kind.PROBE, service.index, 0)
        for replica in service.present():
            _check(world, replica, health)


def _check(world: World, replica: Replica, health: Health) -> None:
    """Look whether a replica is alive."""
    believed = replica.in_rotation
    if replica.state is ReplicaState.UP:
        replica.passed += 1
        replica.missed = 0
        if replica.passed == health.healthy_after:
            replica.in_rotation = True
    else:
        replica.missed += 1
        replica.passed = 0
        if replica.missed == health.unhealthy_after:
            replica.in_rotation = False
    if replica.in_rotation != believed:
        world.ledger.log(NO_REQUEST, replica.number, Event.ROTATION, int(replica.in_rotation))
