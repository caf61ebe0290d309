"""Coalesced reads: of the spans at one replica that miss the same cache key at one call site, one does the work."""

__all__ = ["Flight"]

from collections import deque
from typing import TYPE_CHECKING

from simcore.codes import Kind
from simcore.reference.calendar import Calendar, Entry

if TYPE_CHECKING:
    from simcore.reference.attempts import Span


class Flight:
    """The work of one span, the leader, and those who wait for it."""

    def __init__(self, calendar: Calendar, under_way: dict[tuple[int, int], "Flight"], what: tuple[int, int]) -> None:
        self.succeeded = False
        self._calendar = calendar
        self._line: deque[tuple[Span, Entry]] = deque()
        self._under_way = under_way
        self._what = what
        under_way[what] = self

    def join(self, span: "Span") -> Entry:
        """Wait for the leader; the entry is its end. Who cancels it waits no longer."""
        end = Entry(self._calendar)
        self._line.append((span, end))
        return end

    def land(self, succeeded: bool) -> None:
        """Tell all who wait that the leader's work has ended."""
        self.succeeded = succeeded
        del self._under_way[self._what]
        for span, end in self._line:
            if not end.cancelled:
                self._calendar.enter(end, self._calendar.now, Kind.FLIGHT, span.order, span.number)
