"""The threads of the replicas: who gets one, who waits, and who is turned away."""

__all__ = ["Threads"]

from simcore.codes import Event, Kind, Status
from simcore.reference.attempts import Attempts, Span
from simcore.reference.calendar import Entry
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.windows import Tally


class Threads:
    """The threads of all replicas of a run, and the queues for them."""

    def __init__(self, world: World, attempts: Attempts) -> None:
        self._world = world
        self._attempts = attempts

    @staticmethod
    def may_queue(span: Span, replica: Replica) -> bool:
        """Return whether a span for which no thread is free may wait for one."""
        spec, queued = replica.service.spec, len(replica.queue)
        return queued < spec.queue and queued <= spec.shed_above.get(span.priority, queued)

    def queue(self, span: Span, replica: Replica) -> Entry:
        """Let a span wait for a thread; the entry happens when it has one."""
        turn = span.waits = Entry(self._world.calendar)
        replica.queue.join(span, self._world.calendar.now)
        replica.refresh_queue()
        return turn

    def pass_on(self, replica: Replica) -> None:
        """Reserve a thread that is no longer used for whoever is next; free it if nobody is."""
        calendar = self._world.calendar
        while replica.queue:
            span = replica.queue.take(calendar.now)
            replica.refresh_queue()
            if replica.queue.stale(span, calendar.now):
                self._drop(span, replica)
                continue
            assert isinstance(span.waits, Entry)
            calendar.enter(span.waits, calendar.now, Kind.GRANT, span.order, span.number)
            return
        replica.threads -= 1

    def clear_queues(self, service: ServiceState) -> None:
        """Turn everybody away who waits for a thread of a service."""
        for replica in service.replicas:
            while replica.queue:
                span = replica.queue.take_head(self._world.calendar.now)
                replica.refresh_queue()
                self._drop(span, replica)

    def reject(self, span: Span, replica: Replica, event: Event) -> None:
        """Turn a span away."""
        self._world.ledger.log(span.request, span.order, event, replica.number)
        self._world.ledger.count(replica.service.index, Tally.REJECTED)
        self._attempts.answer(span, Status.REJECTED)

    def _drop(self, span: Span, replica: Replica) -> None:
        replica.leave(span)
        self.reject(span, replica, Event.DROPPED)
