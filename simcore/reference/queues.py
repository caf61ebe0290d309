"""Queue disciplines: who of those that wait for a thread of a replica is next, and who has waited too long."""

__all__ = ["AdaptiveLifo", "ControlledDelay", "Fifo", "queue_of"]

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from simcore.model.services import Service

if TYPE_CHECKING:
    from simcore.reference.attempts import Span


class Fifo:
    """First come, first served.

    Parameters
    ----------
    spec
        The service.
    now
        When the replica was made, seconds.
    """

    def __init__(self, spec: Service, now: float) -> None:
        self.spec = spec
        self.empty_s = now  #: when it was last seen empty: a span joined it then, or left it so
        self._spans: deque[Span] = deque()

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> "Iterator[Span]":
        return iter(self._spans)

    def join(self, span: "Span", now: float) -> None:
        """Add a span at the end."""
        if not self._spans:
            self.empty_s = now
        self._spans.append(span)

    def take(self, now: float) -> "Span":
        """Take off the span whose turn it is; there is one."""
        return self.take_head(now)

    def take_head(self, now: float) -> "Span":
        """Take off the span that came first, whatever the discipline; there is one."""
        return self._took(self._spans.popleft(), now)

    def stale(self, span: "Span", now: float) -> bool:
        """Return whether a span that has just been taken off has waited too long."""
        del span, now
        return False

    def leave(self, span: "Span") -> None:
        """Let a span go that waits no longer; this says nothing about how fast the queue moves."""
        self._spans.remove(span)

    def clear(self) -> None:
        """Forget everybody."""
        self._spans.clear()

    def _took(self, span: "Span", now: float) -> "Span":
        if not self._spans:
            self.empty_s = now
        return span


class AdaptiveLifo(Fifo):
    """Last come, first served while the queue is long: those that came first have probably been given up."""

    def take(self, now: float) -> "Span":
        """Take off the newest span of a long queue, the oldest of a short one."""
        if len(self._spans) > self.spec.lifo_above:
            return self._took(self._spans.pop(), now)
        return self.take_head(now)


class ControlledDelay(Fifo):
    """First come, first served, but who waited too long in a standing queue is dropped.

    The rule is that of Maurer, "Fail at scale" (ACM Queue 13(8), 2015), after CoDel (Nichols and Jacobson, 2012):
    the limit is short once the queue has not been empty for an interval, and the interval itself before.
    """

    def stale(self, span: "Span", now: float) -> bool:
        """Return whether a span that has just been taken off has waited longer than the present limit."""
        codel = self.spec.codel
        standing = now - self.empty_s > codel.interval_s
        return now - span.arrived_s > (codel.target_s if standing else codel.interval_s)


_DISCIPLINES: dict[str, type[Fifo]] = {"fifo": Fifo, "lifo": AdaptiveLifo, "codel": ControlledDelay}


def queue_of(spec: Service, now: float) -> Fifo:
    """Return an empty queue of a service's discipline."""
    return _DISCIPLINES[spec.discipline](spec, now)
