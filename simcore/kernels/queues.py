"""Queues for a thread that are more than first come first served."""

import numpy as np

from simcore.codes import DisciplineCode
from simcore.jit import njit
from simcore.kernels.replica import next_in_queue, set_queued
from simcore.layout import PRIORITIES, replica_at, rules_at, shed_at, span_at

_LIFO, _CODEL = np.int64(DisciplineCode.LIFO), np.int64(DisciplineCode.CODEL)


@njit(internal=True)
def sheds(plan, lane, s, at):  # type: ignore[no-untyped-def]
    """Return whether a span finds the queue of its replica too long for its priority."""
    r = replica_at(lane, at)
    above = shed_at(plan, r.service * PRIORITIES + span_at(lane, s).priority).above
    return above >= 0 and r.queued > above


@njit(internal=True)
def take_off(plan, lane, at, now):  # type: ignore[no-untyped-def]
    """Take the span off the queue whose turn it is and return it."""
    r = replica_at(lane, at)
    rules = rules_at(plan, r.service)
    if r.q_head == r.q_tail or rules.discipline != _LIFO or r.queued <= rules.lifo_above:
        return next_in_queue(lane, at, now)
    last = r.q_tail
    r.q_tail = span_at(lane, last).q_prev
    span_at(lane, r.q_tail).q_next = -1
    set_queued(r, r.queued - 1, now)
    return last


@njit(internal=True)
def too_late(plan, lane, s, at, now):  # type: ignore[no-untyped-def]
    """Return whether a span just taken off has queued for longer than controlled delay allows."""
    r = replica_at(lane, at)
    rules = rules_at(plan, r.service)
    if rules.discipline != _CODEL:
        return False
    limit_s = rules.target_s if now - r.last_empty > rules.interval_s else rules.interval_s
    return now - span_at(lane, s).arrived > limit_s
