"""Guardrails: what no policy may do, kept in one place and applied to all of them.

Beyond what the scenario calls legal: no restart of a service soon after the last one, one disruptive action at a time
per service and one system-wide, no repetition of what did not help in this incident, a budget of actions per hour,
and at most one quarantined replica per service, never the last that works.

They also clean up: what was set and must not stay (``HOLD_S``) is undone, one thing at a time, once the SLO has held
for a while. If trouble follows, the next attempt waits twice as long.
"""

__all__ = ["HOLD_S", "Guardrails", "Limits", "lifting"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode, ReplicaState
from simcore.errors import InputError
from simcore.model.action_types import ACTIONS
from simcore.observation import ActionTable, Observation
from simcore.windows import ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_HOUR_S = 3600.0

#: For how long the SLO must have held before what a kind of action has set is undone, seconds. What undoes it is in
#: ``simcore.model.action_types``. Users pay for a limit at once; a replica set aside was set aside for a reason.
HOLD_S: Mapping[str, float] = {
    "limit_traffic": 20.0,
    "open_breaker": 60.0,
    "degrade": 60.0,
    "set_retry_budget": 60.0,
    "resize_pool": 120.0,
    "quarantine": 600.0,
}
#: The wait is so many times longer while an alarm is open; not for a limit on the traffic, which may be its cause.
_ALARMED = 3.0
#: Trouble so soon after something was undone is put down to that, seconds.
_BLAMED_S = 120.0
#: The wait is doubled at most so often.
_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How far the guardrails go."""

    restart_cooldown_s: float = 120.0  #: between two restarts, rollbacks or failovers of a service
    actions_per_hour: int = 20  #: of any kind but noop, per run, over any hour
    failures_per_service: int = 3  #: actions on a suspect that did not help before the next suspect has its turn
    scalings: int = 3  #: scalings of a service in an incident that did not help by themselves
    repeat_s: float = 300.0  #: this long after, what did not help may be tried again: actions fail at times

    def __post_init__(self) -> None:
        if not (
            self.restart_cooldown_s >= 0
            and self.repeat_s > 0
            and min(self.actions_per_hour, self.failures_per_service, self.scalings) >= 1
        ):
            raise InputError(f"guardrails: cooldown >= 0, repeat > 0 and everything else >= 1 must hold, got {self}")


class Guardrails:
    """Remembers what was done in every run of a batch, and says what may be done now."""

    PER_RUN = ("_restarted", "_times", "_useless", "_failed_at", "_failures", "_lifted_at", "_doubled")

    def __init__(self, actions: ActionTable, n_services: int, n_runs: int, step_s: float, limits: Limits) -> None:
        self._actions, self._limits, self._step_s = actions, limits, step_s
        code = actions.code
        self._restarts = np.isin(code, (ActionCode.RESTART, ActionCode.ROLLBACK, ActionCode.FAILOVER))
        self._limiting = code == ActionCode.LIMIT_TRAFFIC
        self._quarantines = code == ActionCode.QUARANTINE
        self._on_service = actions.service >= 0
        self._service = np.maximum(actions.service, 0)
        self._restarted = np.full((n_runs, n_services), -np.inf)
        self._times = np.full((n_runs, limits.actions_per_hour), -np.inf)
        #: how often an action may fail to help in an incident: capacity adds up, the others do the same again
        self._patience = np.where((code == ActionCode.SCALE) & (actions.amount > 0), limits.scalings, 1)
        self._useless = np.zeros((n_runs, len(actions)), np.int64)
        self._failed_at = np.full((n_runs, len(actions)), -np.inf)
        self._failures = np.zeros((n_runs, n_services), np.int64)
        #: (lift,) actions that undo something, by the time that they wait; a smaller step before a larger one
        self._lifts, self._hold = _lifts(actions)
        self._lifted_at = np.full((n_runs, len(self._lifts)), -np.inf)
        self._doubled = np.zeros((n_runs, len(self._lifts)), np.int64)

    def allowed(self, observation: Observation, runs: Ints) -> Bools:
        """Return (row, action) what the given runs may do now; noop always."""
        now = observation.step * self._step_s
        spent = (self._useless[runs] >= self._patience) & (now - self._failed_at[runs] < self._limits.repeat_s)
        allowed: Bools = observation.legal[runs] & ~spent
        busy = observation.pending[runs][:, self._service] & self._on_service
        allowed &= ~(busy & self._actions.disruptive)
        hot = now - self._restarted[runs] < self._limits.restart_cooldown_s
        allowed &= ~(hot[:, self._service] & self._restarts)
        # a second limit on top of a first would shed what the first has just admitted
        limited = observation.admitted[runs] < 1.0
        allowed &= ~(limited[:, None] & self._limiting & (self._actions.amount < 1.0))
        working, shut = self._working(observation, runs)
        allowed &= ~(((working < 2) | shut)[:, self._service] & self._quarantines)
        allowed[now - self._times[runs].min(1) < _HOUR_S] = False
        allowed[:, 0] = True
        return allowed

    def _working(self, observation: Observation, runs: Ints) -> tuple[Ints, Bools]:
        """Return (row, service) how many replicas are up and in use, and whether one is quarantined."""
        replicas = observation.replicas[runs]
        up = replicas[..., ReplicaStat.STATE] == ReplicaState.UP
        shut = replicas[..., ReplicaStat.QUARANTINED] > 0
        working: Ints = (up & ~shut).sum(-1)
        closed: Bools = np.any(shut, axis=-1)
        return working, closed

    def may_lift(self, observation: Observation, runs: Ints, well_s: Floats, alarmed: Bools) -> Ints:
        """Return (row,) the action that undoes what waits least of what may be undone, 0 if there is nothing.

        Parameters
        ----------
        observation
            Of the batch.
        runs
            (row,) runs.
        well_s
            (row,) how long the SLO has held in them, seconds.
        alarmed
            (row,) whether an alarm is open.
        """
        limits, amount = self._limiting[self._lifts], self._actions.amount[self._lifts]
        slower = np.where(alarmed[:, None] & ~limits, _ALARMED, 1.0)
        due = observation.legal[runs][:, self._lifts]
        due &= well_s[:, None] >= self._hold * 2.0 ** self._doubled[runs] * slower
        due &= ~(limits & (amount <= observation.admitted[runs][:, None]))
        if not due.size:
            return np.zeros(runs.size, np.int64)
        return np.where(due.any(axis=1), self._lifts[np.argmax(due, axis=1)], 0)

    def troubled(self, step: int, runs: Ints) -> None:
        """Put new trouble down to what was undone a short while ago in these runs: it will wait longer next time."""
        blamed = step * self._step_s - self._lifted_at[runs] <= _BLAMED_S
        self._doubled[runs] = np.minimum(self._doubled[runs] + blamed, _DOUBLINGS)
        self._lifted_at[runs] = np.where(blamed, -np.inf, self._lifted_at[runs])

    def took(self, step: int, runs: Ints, action: Ints) -> None:
        """Book the actions taken at a step, (row,) each; noop costs nothing."""
        acted = action > 0
        runs, action = runs[acted], action[acted]
        now = step * self._step_s
        oldest = self._times[runs].argmin(1)
        self._times[runs, oldest] = now
        lifted = action[:, None] == self._lifts
        self._lifted_at[runs] = np.where(lifted, now, self._lifted_at[runs])
        restart = self._restarts[action]
        self._restarted[runs[restart], self._service[action[restart]]] = now

    def judged(self, step: int, run: int, action: int, target: int, helped: bool) -> None:
        """Learn, for the rest of the incident, whether an action helped; waiting may always be tried again."""
        if helped or action == 0:
            return
        self._useless[run, action] += 1
        self._failed_at[run, action] = step * self._step_s
        if target >= 0:
            self._failures[run, target] += 1

    def forget(self, runs: Ints) -> None:
        """The incidents of these runs are over: what did not help may help next time."""
        self._useless[runs] = 0
        self._failures[runs] = 0

    def in_vain(self, runs: Ints) -> Ints:
        """Return (row,) how many actions of this incident did not help."""
        many: Ints = self._useless[runs].sum(axis=1)
        return many

    def target(self, runs: Ints, suspect: Ints, ranked: Ints, strange: Bools) -> Ints:
        """Return (row,) the service to act on: the suspect, or the next in rank once actions on it did not help.

        Only services whose scores are ``strange`` (run, service) come next; when all had their turn, the suspect stays.
        """
        spent = (self._failures[runs] >= self._limits.failures_per_service) | ~strange[runs]
        spent = np.take_along_axis(spent, np.maximum(ranked, 0), 1)
        n_rows = np.arange(runs.size)
        worn = (suspect >= 0) & (self._failures[runs, np.maximum(suspect, 0)] >= self._limits.failures_per_service)
        following = ranked[n_rows, np.argmin(spent, 1)]
        target: Ints = np.where(worn & ~spent.all(1), following, suspect)
        return target


def _lifts(actions: ActionTable) -> tuple[Ints, Floats]:
    """Return (lift,) the actions that undo what ``HOLD_S`` names, and for how long the SLO must hold before each."""
    found: list[tuple[float, float, int]] = []
    for number, name in enumerate(actions.kinds):
        kind, amount = ACTIONS[name], float(actions.amount[number])
        undone = kind.undoes or name
        partly = kind.code == ActionCode.LIMIT_TRAFFIC
        if undone in HOLD_S and (partly or kind.is_undoing(amount)):
            found.append((HOLD_S[undone], amount, number))
    found.sort()
    return np.array([number for *_, number in found], np.int64), np.array([hold for hold, *_ in found], np.float64)


def lifting(actions: ActionTable, observation: Observation, runs: Ints) -> Ints:
    """Return (row,) the action that admits the next larger share of the traffic, 0 if none is legal or needed.

    Parameters
    ----------
    actions
        The action table.
    observation
        Of the whole batch.
    runs
        (row,) positions of the runs.
    """
    choice = np.zeros(runs.size, np.int64)
    lifts = np.flatnonzero(actions.code == ActionCode.LIMIT_TRAFFIC)
    lifts = lifts[np.argsort(actions.amount[lifts], kind="stable")]
    for action in lifts[::-1]:
        fits = observation.legal[runs, action] & (observation.admitted[runs] < actions.amount[action])
        choice[fits] = action
    return choice
