"""What would happen: legal actions tried on forks of runs, in their own future or in others."""

__all__ = [
    "HORIZON",
    "Nothing",
    "Outcomes",
    "Release",
    "Then",
    "Tryouts",
    "all_cases",
    "best_of",
    "recovery_of",
    "roll_out",
]

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.policies.guardrails import HOLD_S, lifting
from agent.symptoms import severity_of
from simcore.env import Episodes
from simcore.env.slo import recovery_steps
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Steps over which an action is judged, unless said otherwise; fewer if the episode ends before.
HORIZON = 60
#: Forks under way at a time: enough for both cores, few enough that memory does not matter.
_CHUNK = 128


class Then(Protocol):
    """What follows the action that is tried."""

    def carry_on(self, fork: Episodes, rows: Ints, action: Ints, until: int) -> None:
        """Take the actions at the present edge of a fork and go on to an edge.

        Parameters
        ----------
        fork
            Continuation of the runs ``rows`` (fork,) of the original; nobody has acted at its edge.
        rows
            (fork,) positions in the original.
        action
            (fork,) legal action numbers.
        until
            Edge at which to stop.
        """


class Nothing:
    """Nothing more is done: a limit on the traffic stays."""

    def carry_on(self, fork: Episodes, rows: Ints, action: Ints, until: int) -> None:
        """See ``Then``."""
        fork.act(action)
        fork.advance_to(until)


class Release:
    """Nothing more is done, but that a limit on the traffic is lifted step by step once the SLO holds."""

    def carry_on(self, fork: Episodes, rows: Ints, action: Ints, until: int) -> None:
        """See ``Then``."""
        needed = max(1, math.ceil(HOLD_S["limit_traffic"] / fork.topology.step_s - 1e-9))
        well = np.zeros(fork.n_runs, np.int64)
        fork.act(action)
        while fork.step < until:
            if not fork.limits_traffic():
                fork.advance_to(until)
                return
            observation = fork.advance()
            well = np.where(severity_of(observation.metrics[:, -1], fork.topology) > 1.0, 0, well + 1)
            runs = np.flatnonzero((observation.admitted < 1.0) & (well >= needed))
            if runs.size and fork.step < until:
                choice = np.zeros(fork.n_runs, np.int64)
                choice[runs] = lifting(fork.actions, observation, runs)
                well[runs] = 0
                fork.act(choice)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What actions led to over a horizon, one row a case (a run and an action), one column a future."""

    row: Ints  #: (case,) position of the run
    action: Ints  #: (case,)
    futures: Ints  #: (future,) number of the re-keyed future, -1: the run's own
    step: int  #: edge of the action
    until: int  #: edge at which it is judged
    bad: Ints  #: (case, future) requests that turned bad
    offered: Ints  #: (case, future)
    recovery: Floats  #: (case, future) steps to the first healthy stretch of W; 0: never ill, nan: not by the end
    cost: Floats  #: (case, future) of all actions taken, in units of J
    unhealthy: Bools  #: (case, future) at the end
    j: Floats  #: (case, future) change of J over the horizon

    def part(self, cases: Ints) -> "Outcomes":
        """Return some of the cases."""
        of_cases = ("row", "action", "bad", "offered", "recovery", "cost", "unhealthy", "j")
        return dataclasses.replace(self, **{name: getattr(self, name)[cases] for name in of_cases})

    def mean_j(self) -> Floats:
        """Return (case,) J averaged over the futures."""
        mean: Floats = self.j.mean(axis=1)
        return mean


def all_cases(allowed: Bools, rows: Ints | None = None) -> tuple[Ints, Ints]:
    """Return (case,) rows and actions of everything allowed, by row, then action.

    Parameters
    ----------
    allowed
        (row, action).
    rows
        (row,) positions of the runs; by default 0, 1, ...
    """
    at, action = np.nonzero(allowed)
    return at if rows is None else rows[at], action


def roll_out(
    episodes: Episodes,
    rows: Ints,
    actions: Ints,
    *,
    futures: Sequence[int] = (-1,),
    horizon: int = HORIZON,
    then: Then | None = None,
    chunk: int = _CHUNK,
    on_done: Callable[[int], None] | None = None,
) -> Outcomes:
    """Try actions on forks of runs at the present edge, each in every future; the originals are not touched.

    The same future number is the same re-keying for every action, so that differences between actions of a run are
    paired. Results do not depend on the chunk.

    Parameters
    ----------
    episodes
        At an edge at which nobody has acted.
    rows, actions
        (case,) positions of runs and legal action numbers.
    futures
        Numbers of re-keyed futures; -1 is the run's own.
    horizon
        Steps, cut off at the end of the episode.
    then
        What follows; by default nothing but that limits are lifted (``Release``).
    chunk
        Forks under way at a time.
    on_done
        Called with the number of forks that are done.

    Raises
    ------
    InputError
        If the horizon is below one step, there is no future, or the episode is over.
    ActionError
        If an action is not legal.
    """
    if horizon < 1 or not len(futures):
        raise InputError(f"rollouts need a horizon >= 1 and a future, got {horizon} and {len(futures)}")
    if episodes.finished:
        raise InputError(f"the episode is over after {episodes.n_steps} steps: nothing can be tried")
    then = then or Release()
    until = min(episodes.step + horizon, episodes.n_steps)
    number = np.asarray(futures, np.int64)
    # alike actions together: those that limit the traffic need looking after, the others run through
    order = np.argsort(np.repeat(actions, number.size), kind="stable")
    task_row, task_action = np.repeat(rows, number.size)[order], np.repeat(actions, number.size)[order]
    task_future = np.tile(number, rows.size)[order]
    parts = []
    for first in range(0, task_row.size, chunk):
        part = slice(first, first + chunk)
        fork = episodes.fork(task_row[part], rekey=task_future[part])
        then.carry_on(fork, task_row[part], task_action[part], until)
        parts.append(_judged(fork, episodes.step, until))
        if on_done is not None:
            on_done(min(first + chunk, task_row.size))
    back = np.argsort(order, kind="stable")

    def gathered(i: int) -> Any:
        values = np.concatenate([part[i] for part in parts])[back] if parts else np.zeros(0)
        return values.reshape(rows.size, number.size)

    bad, offered, recovery, cost, unhealthy, j = (gathered(i) for i in range(6))
    return Outcomes(rows, actions, number, episodes.step, until, bad, offered, recovery, cost, unhealthy, j)


def _judged(fork: Episodes, step: int, until: int) -> tuple[Ints, Ints, Floats, Floats, Bools, Floats]:
    """Return (fork,) bad, offered, recovery, cost, unhealthy and J over the steps [step, until)."""
    over = slice(step, until)
    first = np.full(fork.n_runs, step)
    return (
        fork.bad[:, over].sum(axis=1),
        fork.offered[:, over].sum(axis=1),
        recovery_of(fork, step, until),
        fork.cost[:, over].sum(axis=1),
        fork.unhealthy[:, until - 1],
        fork.j_between(first, first + (until - step)),
    )


def recovery_of(episodes: Episodes, step: int, until: int) -> Floats:
    """Return (run,) steps from an edge to the first healthy stretch of W after which no incident reopens by ``until``.

    0 if no incident is open at the edge and none opens before ``until``; nan if one is open at the end.
    """
    open_ = episodes.incident_open[:, max(step - 1, 0) : until]
    if step == 0:
        open_ = np.concatenate([np.zeros((episodes.n_runs, 1), np.bool_), open_], axis=1)
    length = open_.shape[1]
    last = length - 1 - np.argmax(open_[:, ::-1], axis=1)  # the last step at whose end an incident is open
    start = last + 1 - recovery_steps(episodes.scenario.timing.step_s)
    steps = np.where(open_[:, -1], np.nan, np.maximum(start, 0).astype(np.float64))
    recovery: Floats = np.where(open_.any(axis=1), steps, 0.0)
    return recovery


class Tryouts:
    """``agent.api.Rollouts`` of a batch of episodes: actions, then ``Release``, over ``HORIZON``.

    Parameters
    ----------
    episodes
        The batch; asked at edges at which nobody has acted yet.
    """

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes

    def values(self, runs: Ints, allowed: Bools, futures: Sequence[int]) -> Floats:
        """See ``agent.api.Rollouts``."""
        rows, actions = all_cases(allowed, runs)
        outcomes = roll_out(self._episodes, rows, actions, futures=futures)
        values = np.full((*allowed.shape, len(futures)), np.nan)
        values[np.nonzero(allowed)] = outcomes.j
        return values


def best_of(outcomes: Outcomes, n_rows: int) -> tuple[Ints, Floats]:
    """Return (row,) the action of the largest mean J of every run, ties to the lowest number, and (row,) that J.

    Parameters
    ----------
    outcomes
        Cases ordered by row.
    n_rows
        Runs of the batch; those without a case get -1 and nan.
    """
    action, value = np.full(n_rows, -1, np.int64), np.full(n_rows, np.nan)
    mean = outcomes.mean_j()
    for case in np.lexsort((outcomes.action, -mean)):
        row = int(outcomes.row[case])
        if action[row] < 0:
            action[row], value[row] = outcomes.action[case], mean[case]
    return action, value
