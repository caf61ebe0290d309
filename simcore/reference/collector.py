"""Stop-the-world garbage collection."""

__all__ = ["Collector"]

from collections.abc import Callable

from simcore.codes import Event
from simcore.reference.ledger import NO_REQUEST
from simcore.reference.replica import Replica
from simcore.reference.world import World

#: Bytes per unit of ``pause_s_per_gb``.
GB = 1e9


class Collector:
    """The garbage collection of all replicas of a run.

    Parameters
    ----------
    world
        The run.
    enter
        Makes an entry of a replica at an instant, called with the replica and the incarnation that made it.
    """

    def __init__(self, world: World, enter: Callable[[Replica, float, Callable[[Replica, int], None]], None]) -> None:
        self._world = world
        self._enter = enter

    def span_finished(self, replica: Replica) -> None:
        """Add the garbage of a span that has ended; collect if there is too much of it for the room that is left."""
        spec, gc = replica.service.spec, replica.service.spec.gc
        if gc is None:
            return
        replica.garbage_bytes += gc.garbage_bytes
        room = spec.memory.limit_bytes - replica.memory_bytes
        if replica.collecting or replica.garbage_bytes < max(gc.least_bytes, int(gc.share * room)):
            return
        self._world.ledger.log(NO_REQUEST, replica.number, Event.COLLECTION, replica.garbage_bytes)
        replica.garbage_bytes = 0
        replica.collecting = True
        replica.retune()
        live = replica.memory_bytes - spec.memory.base_bytes
        end_s = self._world.calendar.now + gc.pause_s + gc.pause_s_per_gb * (live / GB)
        self._enter(replica, end_s, self._end)

    @staticmethod
    def _end(replica: Replica, incarnation: int) -> None:
        if incarnation == replica.incarnation and replica.collecting:
            replica.collecting = False
            replica.retune()
