"""The SLO of every step, and incidents: when they open, close, and what they are (FIELD: measures of an episode)."""

__all__ = [
    "OPEN_AT", "RECOVERY_S", "Incident", "IncidentTracker", "fault_step", "incidents", "recovery_steps", "violates",
]  # fmt: skip

import copy
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simcore.model.scenario import Slo

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: An incident opens at this many violating steps out of the last three.
OPEN_AT = 2
#: Length of the healthy stretch that ends an incident, seconds (FIELD: W).
RECOVERY_S = 60.0


def recovery_steps(step_s: float) -> int:
    """Return the number of whole control steps that cover the healthy stretch W."""
    return max(1, math.ceil(RECOVERY_S / step_s - 1e-9))


def fault_step(onset_s: float, step_s: float) -> int:
    """Return the step in which a fault begins: the largest k with ``k * step_s <= onset_s``."""
    k = int(onset_s / step_s) + 1
    while k * step_s > onset_s:
        k -= 1
    return k


def violates(p95_s: Floats, offered: Ints, good: Ints, bad: Ints, slo: Slo) -> Bools:
    """Return which steps break the SLO; all arrays have one shape.

    A step breaks it if the p95 at the client is above the objective (nan, too few answers, is not), if more than
    the allowed fraction of the offered requests is bad, or if there was traffic and no good answer. Bad requests
    without any offered ones (they arrived earlier) break it too.
    """
    broken: Bools = (p95_s > slo.p95_s) | (bad > slo.bad_frac * offered) | ((offered > 0) & (good == 0))
    return broken


class IncidentTracker:
    """Opens and closes incidents, step by step, for all runs at once.

    An incident opens at a violating step that is the second of the last three. It closes when a healthy stretch of
    W is complete: no step of it violates the SLO and admission was fully restored throughout. At the step in which
    the fault begins the state starts anew: an incident still open there is a false one, and the fault gets its own.
    """

    def __init__(self, fault_steps: Ints, step_s: float) -> None:
        """Start with healthy runs.

        Parameters
        ----------
        fault_steps
            (run,) step in which the run's fault begins, -1 without a fault.
        step_s
            Control step, seconds.
        """
        n_runs = fault_steps.size
        self._fault_steps = fault_steps
        self._needed = recovery_steps(step_s)
        self._last = np.zeros(n_runs, np.bool_)
        self._last_but_one = np.zeros(n_runs, np.bool_)
        self._stretch = np.zeros(n_runs, np.int64)
        self._open = np.zeros(n_runs, np.bool_)

    def fork(self, rows: Ints, fault_steps: Ints) -> "IncidentTracker":
        """Return a continuation of the runs ``rows`` (row,), whose faults begin at ``fault_steps`` (row,)."""
        twin = copy.copy(self)
        twin._fault_steps = fault_steps
        for name in ("_last", "_last_but_one", "_stretch", "_open"):
            setattr(twin, name, getattr(self, name)[rows])
        return twin

    def close(self, step: int, violating: Bools, restored: Bools) -> tuple[Bools, Bools]:
        """Take in one closed step and return (run,) whether an incident is open, and whether the run is unhealthy.

        Parameters
        ----------
        step
            Number of the step; steps come in order.
        violating
            (run,) whether the step breaks the SLO.
        restored
            (run,) whether all traffic was admitted throughout the step.

        Returns
        -------
        Open incidents, and runs that are unhealthy at the step's end: at least two of the last three steps
        violated the SLO, or traffic was turned away in it.
        """
        begins = self._fault_steps == step
        if begins.any():
            for state in (self._last, self._last_but_one, self._open):
                state[begins] = False
            self._stretch[begins] = 0
        broken = violating.astype(np.int64) + self._last + self._last_but_one >= OPEN_AT
        self._stretch = np.where(self._open & ~violating & restored, self._stretch + 1, 0)
        closes = self._stretch >= self._needed
        opens = ~self._open & violating & broken
        self._open = (self._open & ~closes) | opens
        self._last_but_one, self._last = self._last, violating.copy()
        return self._open.copy(), broken | ~restored


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident of a run."""

    kind: Literal["false", "incident", "relapse"]
    opened: int  #: step whose end opened it
    recovered: int  #: first step of the healthy stretch that ended it, -1 if that never came in time


def incidents(open_: Bools, fault: int, end: int, step_s: float) -> list[Incident]:
    """Return the incidents of one run up to the end of its follow-up, in order of time.

    Parameters
    ----------
    open_
        (step,) whether an incident was open when the step closed, from ``IncidentTracker``.
    fault
        Step in which the fault begins, -1 without a fault.
    end
        Steps of follow-up, counted from the beginning of the run; later ones are not looked at.
    step_s
        Control step, seconds.
    """
    seen = np.concatenate([[False], open_[:end], [False]]).astype(np.int8)
    change = np.diff(seen)
    needed = recovery_steps(step_s)
    found: list[Incident] = []
    own = 0
    for opened, closed in zip(np.flatnonzero(change > 0).tolist(), np.flatnonzero(change < 0).tolist(), strict=True):
        false = fault < 0 or opened < fault
        cut = closed >= end or (false and closed == fault)
        kind: Literal["false", "incident", "relapse"] = "false" if false else "relapse" if own else "incident"
        own += not false
        found.append(Incident(kind, opened, -1 if cut else closed + 1 - needed))
    return found
