"""What stands between the decision to make an attempt and its sending: deadline, breaker, pool."""

__all__ = ["Gates"]

from collections.abc import Callable
from functools import partial

from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Status
from simcore.reference.attempts import Attempts, Span
from simcore.reference.breakers import Breaker
from simcore.reference.pools import Pool
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.windows import Tally


class Gates:
    """The gates of all callers of a run.

    Parameters
    ----------
    world, attempts
        The run.
    send
        Called with an attempt that has passed them all.
    """

    def __init__(self, world: World, attempts: Attempts, send: Callable[[Span], None]) -> None:
        self._world = world
        self._attempts = attempts
        self._send = send

    def enter(self, span: Span, caller: Replica) -> None:
        """Let an attempt pass the gates, the first that is shut denies it."""
        if self._world.calendar.now >= span.deadline_s:
            self._deny(span, Status.DEADLINE)
        elif span.service.shut_off or not self._breaker_lets_through(span, caller):
            self._deny(span, Status.OPEN)
        else:
            self._connect(span, caller)

    def _deny(self, span: Span, status: Status) -> None:
        """Answer an attempt in place of the callee, at once."""
        self._log_denied(span, status)
        self._attempts.answer_at(span, status, self._world.calendar.now)

    def _log_denied(self, span: Span, status: Status) -> None:
        self._world.ledger.log(span.request, span.order, Event.DENIED, status)
        self._world.ledger.count(span.route.caller, Tally.DENIED)

    def _breaker_lets_through(self, span: Span, caller: Replica) -> bool:
        call, site = span.route.call, span.route.site
        if call is None or call.breaker is None:
            return True
        if site not in caller.breakers:
            world = self._world
            caller.breakers[site] = Breaker(call.breaker, caller.number, site, world.calendar, world.ledger)
        breaker = caller.breakers[site]
        if not breaker.lets_through():
            return False
        span.breaker, span.epoch = breaker, breaker.epoch
        return True

    def _connect(self, span: Span, caller: Replica) -> None:
        """Send an attempt over a connection of its own, or let it wait for one."""
        pool = self._pool(caller, span.service)
        if pool is None or pool.take(span):
            self._send(span)
        elif pool.join(span):
            calendar = self._world.calendar
            self._world.ledger.log(span.request, span.order, Event.POOLED, span.service.index)
            span.connected = partial(self._connected, span)
            patience_s = calendar.now + pool.spec.wait_s
            then = partial(self._waited_too_long, span)
            span.timers.append(calendar.at(patience_s, Kind.POOL_TIMEOUT, span.order, span.number, then))
        else:
            self._deny(span, Status.POOL)

    def _pool(self, caller: Replica, callee: ServiceState) -> Pool | None:
        spec = caller.service.spec.pools.get(callee.name)
        if spec is None:
            return None
        if callee.index not in caller.pools:
            caller.pools[callee.index] = Pool(spec, caller, self._world.calendar)
        return caller.pools[callee.index]

    def _connected(self, span: Span, _: SimpyEvent) -> None:
        """A connection was reserved for an attempt that had waited."""
        if self._world.calendar.now >= span.deadline_s:
            assert span.pool is not None
            span.pool.leave(span)
            self._deny(span, Status.DEADLINE)
        else:
            self._send(span)

    def _waited_too_long(self, span: Span, _: SimpyEvent) -> None:
        """The line for a connection did not move in time."""
        self._attempts.abandon(span)
        self._log_denied(span, Status.POOL)
        span.answered.succeed(Status.POOL)
