"""Attempts and their ends: a reply arrives, the caller gives up, or a side dies."""

__all__ = ["Attempts", "Span", "amount", "chance"]

import functools
from functools import partial

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.codes import Dist as DistCode
from simcore.model.scenario import Demand, Latency
from simcore.reference.calendar import Entry
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.samplers import draw
from simcore.streams import draw_index, uniform
from simcore.windows import Tally

_DIST = {"constant": int(DistCode.CONSTANT), "exponential": int(DistCode.EXPONENTIAL),
         "lognormal": int(DistCode.LOGNORMAL), "gamma": int(DistCode.GAMMA)}  # fmt: skip


def amount(spec: Demand, key: np.uint64, step: int, purpose: Purpose) -> float:
    """Return the value that a span's step draws from a distribution of the scenario."""
    if spec.dist == "constant":
        return spec.mean_s
    shape = spec.sigma if spec.dist == "lognormal" else spec.shape
    return float(draw(_DIST[spec.dist], spec.mean_s, shape, key, step, int(purpose)))


def chance(key: np.uint64, purpose: Purpose, step: int = BORDER) -> float:
    """Return the uniform that decides something about a span, by default outside the steps of its operation."""
    return float(uniform(key, _index_of(step, purpose)))


@functools.cache
def _index_of(step: int, purpose: Purpose) -> np.uint64:
    return np.uint64(draw_index(step, int(purpose)))


class Span:
    """One attempt: what its caller knows of it, and what the replica it is at knows."""

    __slots__ = (
        "answered", "arrived_s", "given_up", "hit", "key", "lookup", "network", "number", "operation", "order",
        "poisoned", "priority", "replica", "reply", "request", "service", "timer", "waits",
    )  # fmt: skip

    def __init__(
        self, request: int, key: np.uint64, number: int, service: ServiceState, operation: int, network: Latency
    ) -> None:
        self.request = request
        self.key = key
        self.order = int(key)  #: the key as a Python number, for the calendar and the log
        self.number = number  #: attempt number
        self.service = service  #: the callee
        self.operation = operation
        self.network = network
        self.priority = 0  #: of its request, 0 is the most important
        self.lookup = -1  #: cache key, of a cache lookup
        self.hit = False
        self.poisoned = False
        self.replica: Replica | None = None
        self.arrived_s = 0.0
        self.given_up = False
        self.answered: SimpyEvent  #: its caller waits for it; the value is a Status
        self.timer: Entry
        self.reply: Entry | None = None
        self.waits: Entry | Span | None = None  #: what has to be dropped if the span is killed


class Attempts:
    """The caller's side of all attempts of a run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def arm(self, span: Span, timeout_s: float) -> None:
        """Let the caller wait for an answer, but no longer than its timeout."""
        calendar = self._world.calendar
        span.answered = calendar.event()
        then = partial(self._timed_out, span)
        span.timer = calendar.at(calendar.now + timeout_s, Kind.TIMEOUT, span.order, span.number, then)

    def latency(self, span: Span, purpose: Purpose) -> float:
        """Return the network latency of an attempt to or from its replica, as the network is now."""
        assert span.replica is not None
        return amount(span.network, span.key, BORDER, purpose) * span.replica.effects.network

    def answer(self, span: Span, status: Status) -> None:
        """Send a reply over the network, if the caller still waits."""
        if not span.given_up:
            self.answer_at(span, status, self._world.calendar.now + self.latency(span, Purpose.LATENCY_BACK))

    def answer_at(self, span: Span, status: Status, time_s: float) -> None:
        """Let a reply reach the caller at an instant."""
        then = partial(self._replied, span, status)
        span.reply = self._world.calendar.at(time_s, Kind.REPLY, span.order, span.number, then)

    def abandon(self, span: Span) -> None:
        """The caller no longer waits, for whatever reason; the attempt's work goes on."""
        span.given_up = True
        span.timer.cancel()
        if span.reply is not None:
            span.reply.cancel()
        self._settled(span)

    def _replied(self, span: Span, status: Status, _: SimpyEvent) -> None:
        self._world.ledger.log(span.request, span.order, Event.REPLIED, status)
        span.timer.cancel()
        self._settled(span)
        span.answered.succeed(status)

    def _timed_out(self, span: Span, _: SimpyEvent) -> None:
        ledger = self._world.ledger
        ledger.log(span.request, span.order, Event.TIMED_OUT, span.number)
        ledger.count(span.service.index, Tally.TIMEOUTS)
        self.abandon(span)
        span.answered.succeed(Status.TIMEOUT)

    @staticmethod
    def _settled(span: Span) -> None:
        if span.replica is not None:
            span.replica.outstanding -= 1
