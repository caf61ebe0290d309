"""What keeps a caller from calling what fails: circuit breakers, and budgets of retries."""

__all__ = ["Breaker", "Budget"]

import math
from collections import deque

from simcore.codes import BreakerState, Event
from simcore.model.programs import Breaker as BreakerSpec
from simcore.model.programs import RetryBudget
from simcore.reference.calendar import Calendar
from simcore.reference.ledger import NO_REQUEST, Ledger


class Breaker:
    """The circuit breaker of one replica for one of its call sites.

    Every change of state begins a new epoch. An attempt notes the epoch in which it was let through; what becomes of
    it matters only while that epoch lasts, so late replies cannot open or close anything.
    """

    def __init__(self, spec: BreakerSpec, replica: int, site: int, calendar: Calendar, ledger: Ledger) -> None:
        self.state = BreakerState.CLOSED
        self.epoch = 0
        self._spec = spec
        self._replica = replica
        self._site = site
        self._calendar = calendar
        self._ledger = ledger
        self._failed: deque[bool] = deque(maxlen=spec.window)  #: the last outcomes
        self._until_s = -math.inf  #: open so long
        self._let_through = 0  #: in this half-open epoch
        self._succeeded = 0  #: of them

    def lets_through(self) -> bool:
        """Return whether an attempt may pass, and count it in."""
        if self.state is BreakerState.OPEN:
            if self._calendar.now < self._until_s:
                return False
            self._enter(BreakerState.HALF_OPEN)
        if self.state is BreakerState.HALF_OPEN:
            if self._let_through >= self._spec.probes:
                return False
            self._let_through += 1
        return True

    def outcome(self, epoch: int, failed: bool) -> None:
        """Learn what became of an attempt that was sent."""
        if epoch != self.epoch:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._succeeded += not failed
            if failed:
                self._open()
            elif self._succeeded == self._spec.probes:
                self._enter(BreakerState.CLOSED)
            return
        outcomes = self._failed
        outcomes.append(failed)
        if len(outcomes) >= self._spec.min_calls and sum(outcomes) >= self._spec.failure_rate * len(outcomes):
            self._open()

    def give_back(self, epoch: int) -> None:
        """Learn that an attempt ended without an outcome; another one may probe in its place."""
        if epoch == self.epoch and self.state is BreakerState.HALF_OPEN:
            self._let_through -= 1

    def _open(self) -> None:
        self._until_s = self._calendar.now + self._spec.open_s
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self.epoch += 1
        self._failed.clear()
        self._let_through = self._succeeded = 0
        self._ledger.log(NO_REQUEST, self._replica, Event.BREAKER, 4 * self._site + state)


class Budget:
    """The token bucket that the retries of one replica's call site draw on; full at first."""

    def __init__(self, spec: RetryBudget, now: float) -> None:
        self._spec = spec
        self._tokens = spec.burst
        self._since_s = now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._tokens = min(self._spec.burst, self._tokens + (now - self._since_s) * self._spec.rate_per_s)
        self._since_s = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
