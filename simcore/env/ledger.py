"""The books of what was done: which actions are legal, when they take effect, whether they fail, and what they cost."""

__all__ = ["ActionRecord", "Books", "Ledger", "find_legal"]

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode, Dist, Purpose, ReplicaState
from simcore.engines.api import EngineAction
from simcore.jit import njit
from simcore.model.action_types import ACTIONS, NEUTRAL_SETTING
from simcore.model.scenario import Scenario
from simcore.observation import ActionTable
from simcore.samplers import draw
from simcore.streams import keyed, rekey_all, uniform
from simcore.windows import ReplicaStat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


_NOOP, _SCALE, _LIMIT = int(ActionCode.NOOP), int(ActionCode.SCALE), int(ActionCode.LIMIT_TRAFFIC)
_QUARANTINE, _RELEASE = int(ActionCode.QUARANTINE), int(ActionCode.RELEASE)
_ORDINAL, _STATE, _UP = int(ReplicaStat.ORDINAL), int(ReplicaStat.STATE), int(ReplicaState.UP)

#: Index range of the action stream's keys for delays that are drawn; failures are drawn by the ordinals themselves.
_DELAYS = 2**32

#: What the legality of an action depends on; place: the service, or n_services for the border.
RULE = np.dtype(
    [
        ("code", np.int64),
        ("service", np.int64),
        ("slot", np.int64),
        ("place", np.int64),
        ("group", np.int64),  #: shares a cooldown: the same kind at the same place
        ("setting", np.int64),  #: what it sets to its amount, -1: nothing
        ("amount", np.float64),
        ("neutral", np.float64),  #: amount of the setting before anybody changed it
    ]
)


class Books(NamedTuple):
    """What was ordered so far."""

    free_at: Ints  #: (run, place) first edge at which nothing is pending
    ready_at: Ints  #: (run, group) first edge after the cooldown
    ordered: Ints  #: (run, service) replicas
    quarantined: Bools  #: (run, service, ordinal)
    target: Floats  #: (run,) admitted fraction
    settings: Floats  #: (run, setting) what was set last


@njit
def find_legal(rules, bounds, books, step, replicas, legal):  # type: ignore[no-untyped-def]
    """Fill in what may be chosen.

    Parameters
    ----------
    rules
        (action,) ``RULE`` records.
    bounds
        (service, 2) smallest and largest number of replicas.
    books
        ``Books``.
    step
        Edges passed.
    replicas
        (run, service, slot, stat) as last seen.
    legal
        (run, action), overwritten.
    """
    n_services, n_slots = replicas.shape[1], replicas.shape[2]
    seen = np.empty(n_services, np.int64)  # replicas seen
    up = np.empty(n_services, np.int64)  # of them up and not quarantined
    lowest = np.empty(n_services, np.int64)  # the lowest slot that is not quarantined
    shut = np.empty((n_services, n_slots), np.bool_)
    for run in range(legal.shape[0]):
        for service in range(n_services):
            seen[service], up[service], lowest[service] = 0, 0, n_slots
            for slot in range(n_slots):
                ordinal = replicas[run, service, slot, _ORDINAL]
                shut[service, slot] = False
                if not ordinal >= 0.0:
                    continue
                seen[service] += 1
                number = np.int64(ordinal)
                known = number < books.quarantined.shape[2]
                shut[service, slot] = known and books.quarantined[run, service, number]
                if not shut[service, slot]:
                    lowest[service] = min(lowest[service], slot)
                    up[service] += replicas[run, service, slot, _STATE] == _UP
        for action in range(rules.size):
            rule = rules[action]
            ready = books.ready_at[run, rule.group] <= step
            if rule.code == _LIMIT:
                # raising the admitted fraction undoes something: it waits for no cooldown
                ready = (ready or rule.amount > books.target[run]) and rule.amount != books.target[run]
            elif rule.setting >= 0:
                ready = ready or rule.amount == rule.neutral
                ready = ready and rule.amount != books.settings[run, rule.setting]
            ok = ready and books.free_at[run, rule.place] <= step
            if ok and rule.code == _SCALE:
                wanted = books.ordered[run, rule.service] + rule.amount
                ok = bounds[rule.service, 0] <= wanted <= bounds[rule.service, 1]
                # a scale down takes the highest slots: the lowest one in use has to stay
                if rule.amount < 0.0:
                    ok = ok and lowest[rule.service] < seen[rule.service] + rule.amount
            elif ok and (rule.code == _QUARANTINE or rule.code == _RELEASE):
                ok = replicas[run, rule.service, rule.slot, _ORDINAL] >= 0.0
                ok = ok and shut[rule.service, rule.slot] == (rule.code == _RELEASE)
                if ok and rule.code == _QUARANTINE:
                    is_up = replicas[run, rule.service, rule.slot, _STATE] == _UP
                    ok = up[rule.service] - is_up >= 1
            legal[run, action] = ok or rule.code == _NOOP


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """One action that was taken."""

    run: int  #: position of the run
    ordinal: int  #: number of the action within the run
    step: int  #: edge at which it was decided
    action: int  #: number in the action table
    replica: int  #: ordinal of the replica within the service, -1 where there is none
    effect_s: float  #: when it takes effect, seconds
    succeeds: bool  #: a failed action costs and cools down, but has no effect


class Ledger:
    """Books actions for all runs and says what is legal.

    An action occupies its service (``limit_traffic``: the border) from the decision until delay + settle are over;
    the same kind on the same service is legal again after its cooldown, counted from the decision. Raising the
    admitted fraction and putting a setting back undo something and wait for no cooldown. The operator knows how many
    replicas were ordered and which are quarantined; which replicas are up is known from the last scrape.
    """

    def __init__(self, scenario: Scenario, table: ActionTable, keys: npt.NDArray[np.uint64], n_slots: int) -> None:
        """Start with empty books.

        Parameters
        ----------
        scenario
            Replica limits and the control step.
        table
            Its actions.
        keys
            (run,) key of the action stream.
        n_slots
            Length of the slot axis of observed replicas.
        """
        services = list(scenario.services.values())
        n_runs, n_services = keys.size, len(services)
        self._table, self._keys, self._step_s = table, keys, scenario.timing.step_s
        self._cooldown_steps = np.array([self._steps(s) for s in table.cooldown_s.tolist()])
        self._rules = np.zeros(len(table), RULE)
        for name in ("code", "service", "slot", "amount"):
            self._rules[name] = getattr(table, name)
        self._rules["place"] = np.where(table.service >= 0, table.service, n_services)
        kinds = self._rules["code"] * (n_services + 1) + self._rules["place"]
        self._rules["group"] = np.unique(kinds, return_inverse=True)[1]
        kinds_of = [ACTIONS[kind] for kind in table.kinds]
        settings = {
            (kind.setting, service): NEUTRAL_SETTING[kind.setting]
            for kind, service in zip(kinds_of, table.service.tolist(), strict=True)
            if kind.setting
        }
        for rule, kind in zip(self._rules, kinds_of, strict=True):
            at = (kind.setting, int(rule["service"]))
            rule["setting"] = list(settings).index(at) if at in settings else -1
            rule["neutral"] = settings.get(at, 0.0)
        self._bounds = np.array([(s.replicas.min, s.replicas.max) for s in services], np.int64)
        self._books = Books(
            free_at=np.zeros((n_runs, n_services + 1), np.int64),
            ready_at=np.zeros((n_runs, int(self._rules["group"].max()) + 1), np.int64),
            ordered=np.tile(np.array([s.replicas.initial for s in services], np.int64), (n_runs, 1)),
            quarantined=np.zeros((n_runs, n_services, n_slots), np.bool_),
            target=np.ones(n_runs),
            settings=np.tile(np.array(list(settings.values()), np.float64), (n_runs, 1)),
        )
        self._effect_s = np.full(n_runs, np.inf)
        self._n_actions = np.zeros(n_runs, np.int64)
        self.admitted = np.ones(n_runs)  #: (run,) admitted fraction at the present edge

    def fork(self, rows: Ints, rekey: Ints) -> "Ledger":
        """Return the books of the runs ``rows`` (row,) as they are; ``rekey`` (row,) as in ``Episodes.fork``."""
        twin = copy.copy(self)
        twin._keys = rekey_all(self._keys[rows], rekey)
        twin._books = Books._make(book[rows] for book in self._books)
        for name in ("_effect_s", "_n_actions", "admitted"):
            setattr(twin, name, getattr(self, name)[rows])
        return twin

    def _steps(self, seconds: float) -> int:
        return math.ceil(seconds / self._step_s - 1e-9)

    def pending(self, step: int) -> Bools:
        """Return (run, service) whether an action on the service waits for its effect or settles at edge ``step``."""
        return self._books.free_at[:, :-1] > step

    def limits(self) -> bool:
        """Return whether traffic is turned away in any run, or will be once an action takes effect."""
        return bool((self._books.target < 1.0).any() or (self.admitted < 1.0).any())

    def legal(self, step: int, replicas: Floats) -> Bools:
        """Return (run, action) what may be chosen at edge ``step``.

        Parameters
        ----------
        step
            Edges passed.
        replicas
            (run, service, slot, stat) as last seen by the agent.
        """
        legal = np.empty((len(self._keys), len(self._rules)), np.bool_)
        find_legal(self._rules, self._bounds, self._books, step, replicas, legal)
        return legal

    def book(self, step: int, run: int, action: int, replicas: Floats) -> tuple[ActionRecord, EngineAction | None]:
        """Book a legal action of one run at edge ``step``.

        Parameters
        ----------
        step, run, action
            Edges passed, position of the run, number of the action (not noop).
        replicas
            (run, service, slot, stat) as last seen by the agent.

        Returns
        -------
        The record, and what the engine has to do: nothing if the action fails.
        """
        table, books = self._table, self._books
        code, service, slot = ActionCode(int(table.code[action])), int(table.service[action]), int(table.slot[action])
        amount = float(table.amount[action])
        books.ready_at[run, self._rules["group"][action]] = step + self._cooldown_steps[action]
        ordinal = int(self._n_actions[run])
        self._n_actions[run] += 1
        succeeds = bool(uniform(self._keys[run], np.uint64(ordinal)) >= table.failure_probability[action])
        delay_s = self._delay_s(run, ordinal, action)
        books.free_at[run, self._rules["place"][action]] = step + self._steps(delay_s + float(table.settle_s[action]))
        effect_s = step * self._step_s + delay_s
        replica = int(replicas[run, service, slot, ReplicaStat.ORDINAL]) if slot >= 0 else -1
        record = ActionRecord(run, ordinal, step, action, replica, effect_s, succeeds)
        if not succeeds:
            return record, None
        if code == ActionCode.SCALE:
            books.ordered[run, service] += int(amount)
        elif code == ActionCode.LIMIT_TRAFFIC:
            books.target[run], self._effect_s[run] = amount, effect_s
        elif self._rules["setting"][action] >= 0:
            books.settings[run, self._rules["setting"][action]] = amount
        elif code in (ActionCode.QUARANTINE, ActionCode.RELEASE):
            self._shut(run, service, replica, code == ActionCode.QUARANTINE)
        return record, EngineAction(run, code, effect_s, service, replica, amount)

    def _delay_s(self, run: int, ordinal: int, action: int) -> float:
        """Return the time from the decision to the effect."""
        mean_s, sigma = float(self._table.delay_s[action]), float(self._table.delay_sigma[action])
        if sigma == 0.0:
            return mean_s
        key = keyed(self._keys[run], _DELAYS + ordinal)
        return float(draw(int(Dist.LOGNORMAL), mean_s, sigma, key, 0, int(Purpose.WORK)))

    def _shut(self, run: int, service: int, replica: int, shut: bool) -> None:
        missing = replica + 1 - self._books.quarantined.shape[2]
        if missing > 0:
            grown = np.pad(self._books.quarantined, ((0, 0), (0, 0), (0, missing)))
            self._books = self._books._replace(quarantined=grown)
        self._books.quarantined[run, service, replica] = shut

    def close(self, step: int) -> Bools:
        """Pass step ``step`` and return (run,) whether all traffic was admitted throughout."""
        restored, target = self.admitted >= 1.0, self._books.target
        due = self._effect_s < (step + 1) * self._step_s
        if due.any():
            from_the_start = due & (self._effect_s <= step * self._step_s)
            restored = np.where(from_the_start, target >= 1.0, restored & (~due | (target >= 1.0)))
            self.admitted = np.where(due, target, self.admitted)
            self._effect_s[due] = np.inf
        return restored
