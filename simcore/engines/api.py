"""The one interface of both engines."""

__all__ = ["LOG", "EngineAction", "RunInputs", "Session", "Change", "Modulation"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode
from simcore.eventlog import LOG
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.windows import Windows


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What makes one run different from another, before anybody acts."""

    run: int  #: index of the run, for messages
    key: np.uint64  #: key of the engine's stream
    phase: float  #: phase of the load wave, turns
    modulations: tuple[Modulation, ...] = ()
    changes: tuple[Change, ...] = ()  #: sorted by (time_s, modulation)


@dataclass(frozen=True, slots=True)
class EngineAction:
    """An action that takes effect; delays, costs and failures are the episode's business."""

    run: int  #: position of the run in the session
    code: ActionCode
    at_s: float  #: when it takes effect, not before the present edge
    service: int = -1
    replica: int = -1  #: ordinal within the service
    amount: float = 0.0


class Session(Protocol):
    """A batch of runs that move in lockstep from edge to edge."""

    scenario: Scenario
    n_runs: int
    now_s: float  #: the present edge; starts at 0, after the burn-in

    def advance(self, until_s: float) -> None:
        """Run to the edge ``until_s`` (a multiple of the control step, not before now).

        Raises
        ------
        InputError
            If ``until_s`` is no edge.
        CapacityError
            If a run needs more state than the stated limit.
        """

    def observe(self) -> Windows:
        """Return the windows closed by the last ``advance``; looking changes nothing."""

    def apply(self, actions: Sequence[EngineAction]) -> None:
        """Enter actions; those with ``at_s`` at the present edge run before other events there."""

    def fork(self, runs: Sequence[int]) -> "Session":
        """Return an independent continuation of the given runs from the present edge (repeats allowed)."""

    def events(self, run: int) -> npt.NDArray[np.void]:
        """Return the event log of a run so far, dtype ``LOG``, burn-in included.

        Raises
        ------
        InputError
            If the session was opened without ``log``.
        """
