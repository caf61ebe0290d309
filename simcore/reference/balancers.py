"""How a service's load balancer picks a replica for an attempt."""

__all__ = ["BALANCERS", "Balancer"]

from collections.abc import Callable

import numpy as np

from simcore.codes import BORDER, Purpose
from simcore.reference.attempts import Span
from simcore.reference.replica import Replica
from simcore.streams import draw_index, uniform

#: Picks for an attempt among the eligible replicas of its service: at least one, in number order.
Balancer = Callable[[Span, list[Replica]], Replica]

_FIRST = np.uint64(draw_index(BORDER, int(Purpose.BALANCER)))
_SECOND = _FIRST + np.uint64(1)


def round_robin(span: Span, eligible: list[Replica]) -> Replica:
    """Return the next replica after the one chosen last."""
    return next((r for r in eligible if r.number > span.service.last_chosen), eligible[0])


def least_outstanding(span: Span, eligible: list[Replica]) -> Replica:
    """Return the replica with the fewest unanswered attempts, ties to the lowest number."""
    del span
    return min(eligible, key=_load)


def at_random(span: Span, eligible: list[Replica]) -> Replica:
    """Return any replica, all with the same probability."""
    return eligible[_position(span, _FIRST, len(eligible))]


def power_of_two(span: Span, eligible: list[Replica]) -> Replica:
    """Return the less loaded of two different replicas drawn at random (Mitzenmacher, 2001)."""
    if len(eligible) == 1:
        return eligible[0]
    first = _position(span, _FIRST, len(eligible))
    second = _position(span, _SECOND, len(eligible) - 1)
    if second >= first:
        second += 1
    return min(eligible[first], eligible[second], key=_load)


def _load(replica: Replica) -> tuple[int, int]:
    return replica.outstanding, replica.number


def _position(span: Span, index: np.uint64, count: int) -> int:
    return min(count - 1, int(uniform(span.key, index) * count))


BALANCERS: dict[str, Balancer] = {
    "round_robin": round_robin,
    "least_outstanding": least_outstanding,
    "random": at_random,
    "power_of_two": power_of_two,
}
