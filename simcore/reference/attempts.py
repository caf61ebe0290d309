"""Attempts and their ends: a reply arrives, the caller gives up, or a side dies."""

__all__ = ["NOBODY", "Attempts", "Route", "Span", "amount", "chance"]

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import BORDER, Event, Kind, Param, Purpose, Status
from simcore.codes import Dist as DistCode
from simcore.model.programs import Call, Topic
from simcore.model.spec import Demand, Latency
from simcore.reference.breakers import Breaker
from simcore.reference.calendar import Entry
from simcore.reference.edges import Edges
from simcore.reference.flights import Flight
from simcore.reference.locks import Lock
from simcore.reference.pools import Pool
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.samplers import draw
from simcore.streams import draw_index, uniform
from simcore.windows import Tally

_DIST = {"constant": int(DistCode.CONSTANT), "exponential": int(DistCode.EXPONENTIAL),
         "lognormal": int(DistCode.LOGNORMAL), "gamma": int(DistCode.GAMMA)}  # fmt: skip
#: Numbers that Numba need not ask for their class.
_PURPOSE = {purpose: int(purpose) for purpose in Purpose}


def amount(spec: Demand, key: np.uint64, step: int, purpose: Purpose) -> float:
    """Return the value that a span's step draws from a distribution of the scenario."""
    if spec.dist == "constant":
        return spec.mean_s
    shape = spec.sigma if spec.dist == "lognormal" else spec.shape
    value: float = draw(_DIST[spec.dist], spec.mean_s, shape, key, step, _PURPOSE[purpose])
    return value


def chance(key: np.uint64, purpose: Purpose, step: int = BORDER, sub: int = 0) -> float:
    """Return the uniform that decides something about a span, by default outside the steps of its operation."""
    u: float = uniform(key, _index_of(step, purpose, sub))
    return u


@functools.cache
def _index_of(step: int, purpose: Purpose, sub: int) -> int:
    return int(draw_index(step, int(purpose))) + sub


#: The calling service of a message's deliveries: there is none, hence no edge.
NOBODY = -2


@dataclass(frozen=True, slots=True)
class Route:
    """What the attempts of one call site have in common, or those of the clients at one operation."""

    site: int  #: call site, -1: the clients
    caller: int  #: service, -1: the clients, or ``NOBODY``
    call: Call | None  #: None: the clients, or a topic
    service: ServiceState  #: the callee
    operation: int
    network: Latency
    cancellable: bool  #: whether attempts stop when nobody waits for them
    topic: Topic | None = None  #: from which messages are delivered


class _Cancellable(Protocol):
    def cancel(self) -> None:
        """Have it never happen."""


class Span:
    """One attempt: what its caller knows of it, and what the replica it is at knows."""

    __slots__ = (
        "answered", "arrived_s", "at_work", "breaker", "caller", "connected", "deadline_s", "epoch", "given_up",
        "hedge", "hit", "key", "leads", "lock", "lookup", "number", "order", "partition", "pill", "poisoned", "pool",
        "priority", "replica", "reply", "request", "route", "sent", "service", "stop", "timers", "waits",
    )  # fmt: skip

    def __init__(
        self,
        request: int,
        key: np.uint64,
        number: int,
        route: Route,
        deadline_s: float,
        priority: int,
        answered: SimpyEvent,
    ) -> None:
        self.request = request
        self.key = key
        self.order = int(key)  #: the key as a Python number, for the calendar and the log
        self.number = number  #: attempt number
        self.route = route
        self.service = route.service  #: the callee
        self.deadline_s = deadline_s  #: of the request
        self.priority = priority  #: of the request, 0 is the most important
        self.answered = answered  #: happens when the attempt ends for its caller; the value is a Status
        self.lookup = -1  #: cache key, of a cache lookup
        self.hit = False
        self.poisoned = False
        self.partition = -1  #: of its topic, of a message's delivery
        self.pill = False  #: it delivers a message that fails whoever consumes it
        # the caller's side
        self.caller: Replica | None = None  #: None: a client
        self.breaker: Breaker | None = None  #: that has let it through ...
        self.epoch = 0  #: ... in this epoch
        self.pool: Pool | None = None  #: in whose line it stands, or of which it has a slot
        self.connected: Callable[[SimpyEvent], None] | None = None  #: what happens when a slot is reserved for it
        self.hedge: Callable[[SimpyEvent], None] | None = None  #: makes a further attempt beside it
        self.timers: list[Entry] = []  #: what will happen unless it ends before
        self.sent = False
        self.given_up = False
        self.reply: Entry | None = None
        # the callee's side
        self.replica: Replica | None = None
        self.at_work = False  #: it is on its way or at its replica
        self.arrived_s = 0.0
        self.stop: Callable[[SimpyEvent], None] | None = None  #: ends its work; None if it is not cancellable
        self.waits: _Cancellable | None = None  #: what it waits for
        self.lock: Lock | None = None  #: that it holds
        self.leads: list[Flight] = []  #: reads that others wait for, the innermost last

    def drop_timers(self) -> None:
        """Cancel what would have happened without an end."""
        for timer in self.timers:
            timer.cancelled = True
        self.timers.clear()

    def unlock(self) -> None:
        """Release the lock that it holds, if any."""
        if self.lock is not None:
            lock, self.lock = self.lock, None
            lock.release()

    def halt(self) -> None:
        """End its work where it is: what it waits for will not happen, so its process never goes on."""
        self.at_work = False
        if self.waits is not None:
            self.waits.cancel()
        self.unlock()
        while self.leads:
            self.leads.pop().land(succeeded=False)


class Attempts:
    """The caller's side of all attempts of a run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._edges = Edges(world.influences)

    def arm(self, span: Span, timeout_s: float) -> None:
        """Let the caller wait for an answer until its timeout or the deadline; have it hedge meanwhile."""
        calendar = self._world.calendar
        now = calendar.now
        until_s = min(now + timeout_s, max(now, span.deadline_s))
        if span.timers:
            span.drop_timers()
        span.timers.append(calendar.at(until_s, Kind.TIMEOUT, span.order, span.number, partial(self._timed_out, span)))
        call = span.route.call
        if span.hedge is not None and call is not None and call.hedge is not None:
            span.timers.append(calendar.at(now + call.hedge.after_s, Kind.HEDGE, span.order, span.number, span.hedge))

    def latency(self, span: Span, purpose: Purpose) -> float:
        """Return the network latency of an attempt to or from its replica, as the network is now."""
        assert span.replica is not None
        latency_s = amount(span.route.network, span.key, BORDER, purpose) * span.replica.effects.network
        if self._edges.faulty:
            latency_s = latency_s * self._edges.delay(span.route.caller, span.service)
        return latency_s

    def loses(self, span: Span, param: Param, purpose: Purpose) -> bool:
        """Return whether the message of an attempt to or from its replica is lost, and log it."""
        call = span.route.call
        p = 0.0 if call is None else call.loss
        if self._edges.faulty:
            p = self._edges.loss(param, span.route.caller, span.service, p)
        if p <= 0.0 or chance(span.key, purpose) >= p:
            return False
        self._world.ledger.log(span.request, span.order, Event.LOST, int(param is Param.LOSS_BACK))
        return True

    def answer(self, span: Span, status: Status) -> None:
        """End the work of an attempt; send a reply over the network, if the caller still waits."""
        span.at_work = False
        if not span.given_up and not self.loses(span, Param.LOSS_BACK, Purpose.LOSS_BACK):
            self.answer_at(span, status, self._world.calendar.now + self.latency(span, Purpose.LATENCY_BACK))

    def answer_at(self, span: Span, status: Status, time_s: float) -> None:
        """Let a reply reach the caller at an instant."""
        then = partial(self._replied, span, status)
        span.reply = self._world.calendar.at(time_s, Kind.REPLY, span.order, span.number, then)

    def abandon(self, span: Span) -> None:
        """Let the caller no longer wait, for whatever reason; the attempt's work goes on unless it is cancellable."""
        calendar = self._world.calendar
        span.given_up = True
        if span.reply is not None:
            span.reply.cancel()
        self._end(span)
        if span.at_work and span.stop is not None:
            calendar.at(calendar.now, Kind.CANCEL, span.order, span.number, span.stop)

    def _replied(self, span: Span, status: Status, _: SimpyEvent) -> None:
        self._world.ledger.log(span.request, span.order, Event.REPLIED, status)
        self._tell_breaker(span, failed=status is not Status.OK)
        self._end(span)
        span.answered.succeed(status)

    def _timed_out(self, span: Span, _: SimpyEvent) -> None:
        ledger = self._world.ledger
        ledger.log(span.request, span.order, Event.TIMED_OUT, span.number)
        ledger.count(span.service.index, Tally.TIMEOUTS)
        self._tell_breaker(span, failed=True)
        self.abandon(span)
        span.answered.succeed(Status.TIMEOUT)

    @staticmethod
    def _tell_breaker(span: Span, *, failed: bool) -> None:
        """Report the outcome of an attempt; one that was never sent has none."""
        if span.breaker is not None and span.sent:
            span.breaker.outcome(span.epoch, failed)
            span.breaker = None

    def _end(self, span: Span) -> None:
        """Give back whatever an attempt holds at its caller."""
        span.drop_timers()
        self._settled(span)
        if span.breaker is not None:
            span.breaker.give_back(span.epoch)
        if span.pool is not None:
            span.pool.leave(span)

    @staticmethod
    def _settled(span: Span) -> None:
        if span.replica is not None:
            span.replica.outstanding -= 1
