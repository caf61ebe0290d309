"""Connection pools: what a replica holds to call another service, and the line for it."""

__all__ = ["Pool"]

import math
from collections import deque
from typing import TYPE_CHECKING

from simcore.codes import Kind
from simcore.model.services import Pool as PoolSpec
from simcore.reference.calendar import Calendar

if TYPE_CHECKING:
    from simcore.reference.attempts import Span
    from simcore.reference.replica import Replica


class Pool:
    """The connections of one replica to one other service.

    An attempt has a slot (held, or reserved until its POOL entry runs) or stands in the line.
    """

    def __init__(self, spec: PoolSpec, replica: "Replica", calendar: Calendar) -> None:
        self.spec = spec
        self.line: deque[Span] = deque()
        self._n_taken = 0  #: slots held and reserved
        self._replica = replica
        self._calendar = calendar

    def _has_room(self) -> bool:
        replica = self._replica
        return self._n_taken < math.floor(self.spec.size * replica.effects.pool * replica.service.pool_amount)

    def take(self, span: "Span") -> bool:
        """Take a slot, if one is free and nobody waits."""
        if self.line or not self._has_room():
            return False
        self._n_taken += 1
        span.pool = self
        return True

    def join(self, span: "Span") -> bool:
        """Join the end of the line, unless it is full."""
        if len(self.line) >= self.spec.queue:
            return False
        self.line.append(span)
        span.pool = self
        self._replica.refresh_waiting()
        return True

    def leave(self, span: "Span") -> None:
        """Leave the line, or give the slot back."""
        span.pool = None
        if span in self.line:
            self.line.remove(span)
            self._replica.refresh_waiting()
        else:
            self._n_taken -= 1
            self.hand_on()

    def hand_on(self) -> None:
        """Reserve free slots for those who wait, the first come first."""
        while self.line and self._has_room():
            head = self.line.popleft()
            self._replica.refresh_waiting()
            head.drop_timers()
            self._n_taken += 1
            then = head.connected
            assert then is not None
            head.timers.append(self._calendar.at(self._calendar.now, Kind.POOL, head.order, head.number, then))
