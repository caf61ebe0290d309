"""Horizontal autoscaling: replicas follow the utilisation of the processors."""

__all__ = ["Autoscalers"]

import math
from collections import deque
from functools import partial

import numpy as np
import numpy.typing as npt
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind
from simcore.model.services import Autoscaler
from simcore.reference.ledger import NO_REQUEST
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.replica import ServiceState
from simcore.reference.world import World
from simcore.windows import Metric


class Autoscalers:
    """The autoscalers of the services of a run that have one."""

    def __init__(self, world: World, lifecycle: Lifecycle) -> None:
        self._world = world
        self._lifecycle = lifecycle
        self._scaled = [service for service in world.services if service.spec.autoscaler is not None]
        #: by service: (edge, replicas), in the order of time; those that count no longer are forgotten
        self._wishes: dict[int, deque[tuple[int, int]]] = {service.index: deque() for service in self._scaled}

    def window_closed(self, edge: int, edge_s: float, metrics: npt.NDArray[np.float64]) -> None:
        """Let those whose turn it is act on the window before an edge, once the actions of the edge are done."""
        for service in self._scaled:
            spec = service.spec.autoscaler
            assert spec is not None
            if edge > 0 and edge % spec.every_steps == 0:
                utilisation = float(metrics[service.index, Metric.CPU_UTIL])
                x = 0.0 if math.isnan(utilisation) else utilisation
                then = partial(self._scale, service, spec, edge, x)
                self._world.calendar.at(edge_s, Kind.AUTOSCALE, service.index, 0, then)

    def _scale(self, service: ServiceState, spec: Autoscaler, edge: int, utilisation: float, _: SimpyEvent) -> None:
        n = len(service.present())
        wish = _wish(service, spec, n, utilisation)
        wishes = self._wishes[service.index]
        wishes.append((edge, wish))
        while edge - wishes[0][0] >= spec.stabilisation_steps:
            wishes.popleft()
        lasting = max(replicas for _, replicas in wishes)
        change = wish - n if wish > n else min(0, lasting - n)
        for _i in range(abs(change)):
            (self._lifecycle.add if change > 0 else self._lifecycle.remove)(service)
        if change != 0:
            self._world.ledger.log(NO_REQUEST, service.index, Event.SCALED, change)


def _wish(service: ServiceState, spec: Autoscaler, n: int, utilisation: float) -> int:
    """Return how many replicas would bring the utilisation to its target."""
    ratio = utilisation / spec.target
    if n == 0 or abs(ratio - 1.0) <= spec.tolerance:
        return n
    return max(service.spec.replicas.min, min(service.spec.replicas.max, math.ceil(n * ratio)))
