"""Edges of the network: what faults do to the messages from one service to another."""

__all__ = ["Edges"]

from collections.abc import Iterator

from simcore.codes import Param, Place, ReplicaState
from simcore.reference.replica import ServiceState
from simcore.reference.world import Influence


class Edges:
    """All pairs of caller and callee; the clients are caller -1. Values are computed when they are used."""

    def __init__(self, influences: list[Influence]) -> None:
        self._by_param = {
            param: [influence for influence in influences if influence.modulation.param is param]
            for param in (Param.EDGE_DELAY, Param.LOSS_OUT, Param.LOSS_BACK)
        }
        self.faulty = any(self._by_param.values())  #: whether there is any fault of an edge in the run

    def delay(self, caller: int, callee: ServiceState) -> float:
        """Return the factor of the latency between two services."""
        factor = 1.0
        for influence in self._active(Param.EDGE_DELAY, caller, callee):
            factor = factor * influence.value
        return factor

    def loss(self, param: Param, caller: int, callee: ServiceState, base: float) -> float:
        """Return the probability that a message is lost, out or back, of a call that loses ``base`` by itself."""
        faults = 0.0
        for influence in self._active(param, caller, callee):
            faults = faults + influence.value
        return min(1.0, base + faults)

    def _active(self, param: Param, caller: int, callee: ServiceState) -> Iterator[Influence]:
        for influence in self._by_param[param]:
            target = influence.modulation
            if (target.service, target.peer) == (caller, callee.index) and _applies(influence, callee):
                yield influence


def _applies(influence: Influence, callee: ServiceState) -> bool:
    """Return whether the place at which a fault of an edge lives is still there."""
    if not influence.begun or influence.over:
        return False
    place = influence.modulation.place
    if place is Place.PROCESS:
        there = (replica for replica in callee.replicas if replica.state is not ReplicaState.GONE)
        return any(replica.born_s <= influence.since_s for replica in there)
    if place is Place.VERSION:
        return influence.bad_from <= callee.version and (influence.bad_to < 0 or callee.version <= influence.bad_to)
    return True
