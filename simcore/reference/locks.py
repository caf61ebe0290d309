"""Locks: serial sections of a service."""

__all__ = ["Lock"]

from collections import deque
from typing import TYPE_CHECKING

from simcore.codes import Kind
from simcore.reference.calendar import Calendar, Entry

if TYPE_CHECKING:
    from simcore.reference.attempts import Span


class Lock:
    """One span at a time holds it, whatever its replica; the others wait in line."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._taken = False
        self._line: deque[tuple[Span, Entry]] = deque()

    def take(self, span: "Span") -> bool:
        """Take the lock, if it is free."""
        if self._taken:
            return False
        self._taken = True
        span.lock = self
        return True

    def join(self, span: "Span") -> Entry:
        """Join the end of the line; the entry is the span's turn. Who cancels it has left the line."""
        turn = Entry(self._calendar)
        self._line.append((span, turn))
        return turn

    def release(self) -> None:
        """Free the lock, or hand it to the head of the line."""
        while self._line:
            span, turn = self._line.popleft()
            if not turn.cancelled:
                span.lock = self
                self._calendar.enter(turn, self._calendar.now, Kind.LOCK, span.order, span.number)
                return
        self._taken = False
