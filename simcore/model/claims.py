"""What the catalogue claims of a fault type, in a form that can be tried: its signs, what mends it, what does not.

No engine and no agent reads this; ``mendsim validate --faults`` and the tests try it.
"""

__all__ = ["Claim", "Remedy", "Sign", "Where"]

from dataclasses import dataclass
from enum import Enum

from simcore.windows import Metric


class Where(Enum):
    """A place, seen from the fault's target (of an edge: the callee)."""

    TARGET = "target"
    CALLERS = "callers"  #: the services that call the target; the first of them, for an action
    ENTRY = "entry"  #: the service that receives the clients' requests
    BEHIND = "what lies behind it"  #: the services that the callers ask when the target, a cache, has no answer
    SYSTEM = "system"  #: what the clients see


@dataclass(frozen=True, slots=True)
class Sign:
    """A metric that moves while the fault is there."""

    metric: Metric
    where: Where = Where.TARGET
    up: bool = True

    def __str__(self) -> str:
        return f"{self.metric.name.lower()} of {self.where.value} {'up' if self.up else 'down'}"


@dataclass(frozen=True, slots=True)
class Remedy:
    """An action of a kind of ``simcore.model.action_types``."""

    kind: str
    where: Where = Where.TARGET
    amount: float | None = None  #: None: the kind's usual one

    def __str__(self) -> str:
        amount = "" if self.amount is None else f" {self.amount:g}"
        return f"{self.kind}{amount}" + ("" if self.where is Where.SYSTEM else f" at {self.where.value}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a fault type, tried in scenario ``clinic``.

    The first sign is the one by which mending is judged.
    """

    signs: tuple[Sign, ...]
    fix: Remedy
    wrong: Remedy  #: plausible, and of no use
    target: str | None = None  #: as people write it; None: the first that fits
    load: float = 1.0  #: multiple of the scenario's rate
    act_after_s: float = 60.0  #: from the onset to the action
    judged_s: tuple[float, float] = (180.0, 240.0)  #: after the onset
