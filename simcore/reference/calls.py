"""Calls: attempts one after the other, hedges beside them, and several calls at once."""

__all__ = ["Join", "OneCall"]

from collections.abc import Sequence
from functools import partial

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Purpose, Status
from simcore.model.programs import Call
from simcore.reference.attempts import Attempts, Route, Span, chance
from simcore.reference.breakers import Budget
from simcore.reference.calendar import Calendar, Entry, Signal
from simcore.reference.gates import Gates
from simcore.reference.replica import Replica
from simcore.reference.world import World
from simcore.samplers import backoff
from simcore.streams import child_index, keyed

#: Attempt numbers of the hedges of an attempt are so far apart.
HEDGE_STRIDE = 32


class OneCall:
    """A call that a span makes.

    An attempt and the hedges beside it are its members; the first member to succeed ends the call, the last one to
    fail fails the attempt, and the last attempt to fail fails the call.
    """

    def __init__(
        self, world: World, attempts: Attempts, gates: Gates, route: Route, span: Span, lookup: int = -1
    ) -> None:
        assert route.call is not None
        assert span.replica is not None
        self.spec: Call = route.call
        self.done = Signal(world.calendar)  #: the value is the member that succeeded, None if the call has failed
        self._world = world
        self._attempts = attempts
        self._gates = gates
        self._route = route
        self._span = span
        self._lookup = lookup  #: cache key, of a cache lookup
        self._caller: Replica = span.replica
        self._attempt = 0  #: the present one
        self._out: list[Span] = []  #: its members that have not ended
        self._retry: Entry | None = None

    def begin(self, *_: SimpyEvent) -> None:
        """Make the present attempt."""
        self._retry = None
        self._add_member(0)

    def cancel(self) -> None:
        """Give up, whatever is under way."""
        for member in self._out:
            self._attempts.abandon(member)
        self._out.clear()
        if self._retry is not None:
            self._retry.cancel()

    def _key(self, number: int) -> np.uint64:
        return keyed(self._span.key, child_index(self._route.site, number))

    def _add_member(self, hedge: int, *_: SimpyEvent) -> None:
        number = self._attempt + HEDGE_STRIDE * hedge
        answered = Signal(self._world.calendar)
        span = self._span
        member = Span(span.request, self._key(number), number, self._route, span.deadline_s, span.priority, answered)
        member.caller = self._caller
        member.lookup = self._lookup
        if self.spec.hedge is not None and hedge < self.spec.hedge.max:
            member.hedge = partial(self._add_member, hedge + 1)
        answered.callbacks.append(partial(self._ended, member))
        self._out.append(member)
        self._gates.enter(member, self._caller)

    def _ended(self, member: Span, answered: SimpyEvent) -> None:
        self._out.remove(member)
        if answered.value is Status.OK:
            self.cancel()
            self.done.succeed(member)
        elif not self._out:
            self._failed()

    def _failed(self) -> None:
        """Repeat the present attempt after a while, or let the call fail."""
        calendar, ledger, spec, number = self._world.calendar, self._world.ledger, self.spec, self._attempt
        if number < spec.retries:
            key = self._key(number)
            u = chance(key, Purpose.JITTER)
            retry_s = calendar.now + backoff(spec.backoff_s, spec.backoff_limit_s, spec.jitter, number, u)
            if self._may_repeat(key, retry_s):
                ledger.log(self._span.request, int(key), Event.BACKOFF, number)
                self._attempt += 1
                order = int(self._key(self._attempt))
                self._retry = calendar.at(retry_s, Kind.RETRY, order, self._attempt, self.begin)
                return
            ledger.log(self._span.request, int(key), Event.GAVE_UP, number)
        self.done.succeed(None)

    def _may_repeat(self, key: np.uint64, retry_s: float) -> bool:
        """Return whether deadline, retry fraction and retry budget allow a retry, asked in this order."""
        fraction = self._caller.service.retry_fraction
        if retry_s >= self._span.deadline_s or (fraction != 1.0 and chance(key, Purpose.RETRY) >= fraction):
            return False
        budget, now = self.spec.retry_budget, self._world.calendar.now
        if budget is None:
            return True
        return self._caller.budgets.setdefault(self._route.site, Budget(budget, now)).take(now)


class Join:
    """Several calls of a span that go on at once, until all are done or, failing fast, a required one has failed."""

    def __init__(self, calendar: Calendar, calls: Sequence[OneCall], fail_fast: bool) -> None:
        self.done = Signal(calendar)  #: the value is whether all required calls have succeeded
        self._open = list(calls)
        self._fail_fast = fail_fast
        self._succeeded = True
        for call in calls:
            call.done.callbacks.append(partial(self._ended, call))

    def cancel(self) -> None:
        """Drop the calls that are not done."""
        for call in self._open:
            call.cancel()
        self._open.clear()

    def _ended(self, call: OneCall, done: SimpyEvent) -> None:
        self._open.remove(call)
        if done.value is None and call.spec.required:
            self._succeeded = False
            if self._fail_fast:
                self.cancel()
        if not self._open:
            self.done.succeed(self._succeeded)
