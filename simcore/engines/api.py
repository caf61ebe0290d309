"""The one interface of both engines."""

__all__ = [
    "LOG", "Change", "EngineAction", "Modulation", "RunInputs", "Session",
    "check_actions", "check_fork", "check_inputs",
]  # fmt: skip


import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simcore.codes import EDGE, ActionCode, Param
from simcore.errors import InputError
from simcore.eventlog import LOG
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.windows import Windows

#: Actions of no service.
_NOWHERE = (ActionCode.NOOP, ActionCode.LIMIT_TRAFFIC, ActionCode.ESCALATE, ActionCode.REMOVE)


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
    replica: int = -1  #: ordinal within the service; REMOVE: number of the modulation
    amount: float = 0.0


def check_inputs(scenario: Scenario, inputs: Sequence[RunInputs]) -> None:
    """Check what a session is opened with, since the kernels index by it.

    Raises
    ------
    InputError
        If a modulation names no service, or a change no modulation, or a change lies before the start or out of order.
    """
    start_s = -scenario.timing.burn_in_steps * scenario.timing.step_s
    n_services = len(scenario.services)
    for given in inputs:
        for i, mod in enumerate(given.modulations):
            at = f"run {given.run}: modulations[{i}]"
            least = -1 if mod.param == Param.SURGE or mod.param in EDGE else 0
            if not least <= mod.service < n_services:
                raise InputError(f"{at}.service must be in {least} .. {n_services - 1}, got {mod.service}")
            if mod.param in EDGE and not 0 <= mod.peer < n_services:
                raise InputError(f"{at}.peer must be in 0 .. {n_services - 1}, got {mod.peer}")
        before = (start_s, -1)
        for i, change in enumerate(given.changes):
            at = f"run {given.run}: changes[{i}]"
            if not 0 <= change.modulation < len(given.modulations):
                raise InputError(
                    f"{at}.modulation must be in 0 .. {len(given.modulations) - 1}, got {change.modulation}"
                )
            if not before <= (change.time_s, change.modulation) < (math.inf, 0):
                raise InputError(
                    f"{at} must not lie before {start_s} s or out of order (time_s, modulation), got {change.time_s} s"
                )
            before = (change.time_s, change.modulation)


def check_actions(actions: Sequence[EngineAction], n_runs: int, n_services: int, now_s: float) -> None:
    """Check actions before any of them is entered.

    Raises
    ------
    InputError
        If an action names no run or service of the session, or an instant before the present edge.
    """
    for action in actions:
        if not 0 <= action.run < n_runs:
            raise InputError(f"an action's run must be in 0 .. {n_runs - 1}, got {action.run}")
        if not now_s <= action.at_s < math.inf:
            raise InputError(f"an action's at_s must not lie before {now_s} s, got {action.at_s}")
        if action.code not in _NOWHERE and not 0 <= action.service < n_services:
            raise InputError(f"an action's service must be in 0 .. {n_services - 1}, got {action.service}")


def check_fork(runs: Sequence[int], rekey: Sequence[int] | None, n_runs: int) -> list[int]:
    """Return the rekey numbers of a fork, -1 for runs that keep their own future.

    Raises
    ------
    InputError
        If there is no such run, or not one number >= -1 per run.
    """
    for run in runs:
        if not 0 <= run < n_runs:
            raise InputError(f"runs to fork must be in 0 .. {n_runs - 1}, got {run}")
    numbers = [-1] * len(runs) if rekey is None else [int(number) for number in rekey]
    if len(numbers) != len(runs) or any(number < -1 for number in numbers):
        raise InputError(f"rekey must hold one number >= -1 for each of {len(runs)} runs, got {numbers}")
    return numbers


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

    def fork(self, runs: Sequence[int], rekey: Sequence[int] | None = None) -> "Session":
        """Return an independent continuation of the given runs from the present edge (repeats allowed).

        Parameters
        ----------
        runs
            Positions of the runs.
        rekey
            One number per run: everything drawn from now on has another key, a function of the run's key and of the
            number (model.md: *Re-keying*); -1: the run keeps its own future, which is also what None means.

        Raises
        ------
        InputError
            If there is no such run, or not one number >= -1 per run.
        """

    def events(self, run: int, first: int = 0) -> npt.NDArray[np.void]:
        """Return the event log of a run so far from row ``first`` on, dtype ``LOG``, burn-in included.

        Raises
        ------
        InputError
            If the session was opened without ``log``.
        """
