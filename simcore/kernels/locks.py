"""Serial sections: one span at a time in each, the others wait in line with their threads."""

import numpy as np

from simcore.codes import Event, Kind
from simcore.jit import njit
from simcore.kernels.calendar import enter
from simcore.kernels.spans import BLOCKED, ENTERING, into_line, note, out_of_line
from simcore.layout import lock_at, span_at, step_at

_BLOCKED_EV, _LOCKED_EV = np.int64(Event.BLOCKED), np.int64(Event.LOCKED)
_LOCK = np.int64(Kind.LOCK)


@njit(internal=True)
def enter_section(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Let a span into the serial section of its step, or into the line; returns whether it is in."""
    span = span_at(lane, s)
    step = step_at(plan, span.pc)
    lock = lock_at(lane, step.lock)
    span.lock = step.lock
    if lock.holder < 0:
        lock.holder = s
        note(lane, now, span.request, span.key, _LOCKED_EV, step.number)
        span.pc += 1
        return True
    note(lane, now, span.request, span.key, _BLOCKED_EV, step.number)
    span.state = BLOCKED
    lock.head, lock.tail = into_line(lane, s, lock.head, lock.tail)
    return False


@njit(internal=True)
def leave_section(lane, s, now):  # type: ignore[no-untyped-def]
    """Let a span out of its serial section, which goes to the head of the line, or out of the line."""
    lock = lock_at(lane, span_at(lane, s).lock)
    span_at(lane, s).lock = -1
    if lock.holder != s:
        lock.head, lock.tail = out_of_line(lane, s, lock.head, lock.tail)
        return
    following = lock.head
    lock.holder = following
    if following >= 0:
        lock.head, lock.tail = out_of_line(lane, following, lock.head, lock.tail)
        span_at(lane, following).state = ENTERING
        enter(lane, now, _LOCK, span_at(lane, following).key, following)


@njit(internal=True)
def on_lock(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """A span enters the serial section that it was handed."""
    span = span_at(lane, s)
    note(lane, now, span.request, span.key, _LOCKED_EV, step_at(plan, span.pc).number)
    span.pc += 1
