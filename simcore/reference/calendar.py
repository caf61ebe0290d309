"""SimPy's environment with the model's total order: entries run by (time, kind, key, attempt)."""

__all__ = ["Calendar", "Entry", "Signal", "Walk"]

from collections import deque
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any

import simpy
from simpy.events import NORMAL, Event, Process

from simcore.codes import Kind
from simcore.errors import EngineError


class Entry(Event):
    """An event with a place in the calendar; processes may wait for it, and it may be cancelled."""

    _ok = True  #: nothing can fail on the way to an instant

    def __init__(self, calendar: "Calendar", then: Callable[[Event], None] | None = None) -> None:
        self.env = calendar
        self.callbacks = [] if then is None else [then]
        self.cancelled = False

    def cancel(self) -> None:
        """Take the entry off the calendar; nobody who waits for it will hear of it again."""
        self.cancelled = True


class Signal(Event):
    """An event that happens where it succeeds: whoever waits for it goes on at once."""

    def succeed(self, value: Any = None) -> "Signal":
        """Let it happen; the last thing that a callback does.

        Raises
        ------
        RuntimeError
            If it has happened already.
        """
        if self.callbacks is None:
            raise RuntimeError(f"{self} has already happened")
        self._ok, self._value = True, value
        _fire(self)
        return self


class Walk(Process):
    """A process that takes its first steps where it is made, instead of in an event of its own a little later."""

    def __init__(self, calendar: "Calendar", generator: Generator[Event, Any, Any]) -> None:
        self.env = calendar
        self.callbacks = []
        self._generator = generator
        self._resume(calendar.begun)


class Calendar(simpy.Environment):
    """An environment whose events at one instant run in the order that the model states, not in that of their making.

    SimPy's own events (a process starts or ends, an event succeeds) belong to the entry that caused them: they run
    before any other entry, first in, first out.
    """

    now: float = 0.0  #: the present instant, seconds; an attribute, where SimPy has a property

    def __init__(self, start_s: float) -> None:
        super().__init__(start_s)
        self.now = start_s
        self.begun = Event(self)  #: has happened, without a value
        self.begun._ok, self.begun._value = True, None
        self._entries: list[tuple[float, int, int, int, int, Entry]] = []
        self._soon: deque[Event] = deque()
        self._serial = count()

    def at(
        self, time_s: float, kind: Kind, key: int, attempt: int, then: Callable[[Event], None] | None = None
    ) -> Entry:
        """Enter an event at an instant, not before now.

        Parameters
        ----------
        time_s
            When it happens, seconds.
        kind, key, attempt
            Its place among the entries of the same instant, smallest first.
        then
            Called with the event when it happens; processes may yield it instead.

        Raises
        ------
        EngineError
            If the instant lies in the past.
        """
        entry = Entry(self, then)
        self.enter(entry, time_s, kind, key, attempt)
        return entry

    def enter(self, entry: Entry, time_s: float, kind: Kind, key: int, attempt: int) -> None:
        """Give an entry made beforehand its place; see ``at``."""
        if not time_s >= self.now:
            raise EngineError(f"calendar entries must not lie in the past: {time_s} at {self.now}")
        entry._value = None
        # the serial number only keeps a cancelled entry from being compared with its successor
        heappush(self._entries, (time_s, kind, key, attempt, next(self._serial), entry))

    def schedule(self, event: Event, priority: Any = NORMAL, delay: float = 0) -> None:
        """Queue one of SimPy's own events behind the present entry.

        Raises
        ------
        EngineError
            If it asks for a delay: such an event would have no place in the total order.
        """
        if delay:
            raise EngineError(f"events need a place in the calendar: use at(), not a delay of {delay}")
        self._soon.append(event)

    def run_before(self, edge_s: float) -> None:
        """Run every entry with a time below the edge; the clock stays at the last one."""
        entries, soon = self._entries, self._soon
        while soon:
            _fire(soon.popleft())
        while entries and entries[0][0] < edge_s:
            time_s, *_, entry = heappop(entries)
            if entry.cancelled:
                continue
            self.now = self._now = time_s
            callbacks, entry.callbacks = entry.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(entry)
            while soon:
                _fire(soon.popleft())


def _fire(event: Event) -> None:
    """Call an event's callbacks, as ``simpy.Environment.step`` does."""
    callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
    for callback in callbacks:
        callback(event)
    if not event._ok and not event.defused:
        raise event._value
