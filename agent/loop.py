"""The control loop: observe -> detect -> diagnose -> decide -> act, for a batch of runs in lockstep."""

__all__ = ["Agent", "AgentStep"]

import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.api import (
    Choices,
    ConsultsRollouts,
    Decision,
    Detection,
    Detector,
    Diagnoser,
    Diagnosis,
    Keys,
    Policy,
    Situation,
)
from agent.forking import forked
from agent.history import History
from agent.keys import subkeys
from agent.policies.guardrails import Guardrails, Limits
from agent.policies.signature import signatures
from agent.symptoms import severity_of
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.observation import ActionTable, Observation, Topology

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: How long a decision to do nothing is given before it is judged, seconds.
WAIT_S = 30.0
#: A diagnosis is renewed after this many steps of a lasting alarm, and at every decision.
RENEW_STEPS = 3
#: Quiet time after which an incident is over for the agent, seconds; FIELD's healthy stretch.
OVER_S = 60.0
#: The action helped if the symptoms are now below this share of what they were.
HELPED = 0.6
#: Excess anomaly score from which another service may be acted on in the suspect's place.
STRANGE = 0.5

#: Arrays of an ``Agent`` whose first axis is the run.
_OF_RUNS = (
    "_keys", "_calm", "_well", "_due", "_before", "_count", "_diagnosed", "_suspect", "_confidence", "_ranked",
)  # fmt: skip

_DECISION = 3 << 20


@dataclass(frozen=True, slots=True)
class AgentStep:
    """What an agent made of one step; arrays are the agent's own and valid until the next step."""

    detection: Detection
    triggered: Bools  #: (run,) whether an alarm is open or the SLO is broken as the agent sees it
    choice: Ints  #: (run,) action numbers
    suspect: Ints  #: (run,) of the diagnosis in force, -1 for none
    confidence: Floats  #: (run,) nan without a diagnosis
    ranked: Ints  #: (run, service) -1 without a diagnosis
    explain: Callable[[int], str]  #: rationale of the diagnosis in force of a run, in words; "" without one
    opened: dict[int, Decision] = field(default_factory=dict)  #: decisions taken at this step, by position of the run


class Agent:
    """A detector, a diagnoser and a policy, and what they need to work together on a batch of runs.

    A decision opens when an alarm is open, or the SLO was broken in two of the last three scrapes, and no decision is
    under way. It is judged after the action's delay and settle time (``WAIT_S`` for noop, or when the SLO breaks
    meanwhile); if the run is still triggered then, the next decision opens at that step. When the SLO has held for a
    while (shed requests apart) the guardrails undo one of the things that were set and must not stay, without a
    decision. After ``OVER_S`` of quiet the incident is over and what did not help is forgotten.
    """

    def __init__(
        self, detector: Detector, diagnoser: Diagnoser, policy: Policy, *, limits: Limits | None = None
    ) -> None:
        self.detector, self.diagnoser, self.policy = detector, diagnoser, policy
        self.limits = limits or Limits()

    def start(self, topology: Topology, actions: ActionTable, keys: Keys, numbers: Ints | None = None) -> None:
        """Begin a batch.

        Parameters
        ----------
        topology, actions
            Of the scenario.
        keys
            (run,) the runs' own keys; everything drawn derives from them.
        numbers
            (run,) index of each run, for the decision records; by default the position.
        """
        n, n_services = keys.size, topology.n_services
        self._topology, self._actions, self._keys = topology, actions, keys
        self._numbers = np.arange(n) if numbers is None else numbers
        self.detector.start(topology, keys)
        self.diagnoser.start(topology, keys)
        self.policy.start(topology, actions)
        self._history = History(topology, n)
        self._guard = Guardrails(actions, n_services, n, topology.step_s, self.limits)
        self._over = max(1, math.ceil(OVER_S / topology.step_s - 1e-9))
        taken = np.where(
            np.arange(len(actions)) == 0, np.maximum(WAIT_S, actions.settle_s), actions.delay_s + actions.settle_s
        )
        self._duration = np.maximum(1, np.ceil(taken / topology.step_s - 1e-9)).astype(np.int64)
        self._broken = np.zeros((3, n), np.bool_)
        self._calm = np.zeros(n, np.int64)
        self._well = np.zeros(n, np.int64)
        self._due = np.full(n, -1, np.int64)
        self._before = np.zeros(n)
        self._count = np.zeros(n, np.uint64)
        self._current: dict[int, Decision] = {}
        self._diagnosed = np.full(n, -RENEW_STEPS, np.int64)
        self._suspect = np.full(n, -1, np.int64)
        self._confidence = np.full(n, np.nan)
        self._ranked = np.full((n, n_services), -1, np.int64)
        self._explain: dict[int, Callable[[], str]] = {}
        self.decisions: list[Decision] = []

    @property
    def n_runs(self) -> int:
        """How many runs the batch has."""
        return int(self._keys.size)

    def fork(self, rows: Ints, policy: Policy | None = None) -> "Agent":
        """Return an independent agent that goes on with the runs ``rows`` (row,), repeats allowed.

        What was learned is shared. The runs of the fork are numbered by their positions.

        Parameters
        ----------
        rows
            Positions of the runs.
        policy
            Decides from now on; by default the one that did so far.
        """
        twin = copy.copy(self)
        for name in ("detector", "diagnoser", "policy", "_history", "_guard"):
            setattr(twin, name, forked(getattr(self, name), rows))
        for name in _OF_RUNS:
            setattr(twin, name, getattr(self, name)[rows])
        if policy is not None:
            twin.policy = copy.copy(policy)
            twin.policy.start(self._topology, self._actions)
        twin._broken = self._broken[:, rows]
        twin._numbers = np.arange(rows.size)
        twin._explain = {i: self._explain[row] for i, row in enumerate(rows.tolist()) if row in self._explain}
        twin._current, twin.decisions = {}, []
        taken: dict[int, list[Decision]] = {}
        for decision in self.decisions:
            taken.setdefault(decision.run, []).append(decision)
        for i, row in enumerate(rows.tolist()):
            for decision in taken.get(int(self._numbers[row]), ()):
                own = dataclasses.replace(decision, run=i)
                twin.decisions.append(own)
                if self._current.get(row) is decision:
                    twin._current[i] = own
        return twin

    def step(self, observation: Observation, forced: Ints | None = None) -> AgentStep:
        """Take in an observation and choose an action for every run.

        Parameters
        ----------
        observation
            Of the batch, steps in order; not modified.
        forced
            (run,) legal actions to take whatever the policy says, -1: the agent's own choice. One that the agent
            would not have thought of now opens a decision that takes the place of the one under way.
        """
        if forced is None:
            forced = np.full(observation.fresh.size, -1, np.int64)
        detection = self.detector.update(observation)
        severity = severity_of(observation.metrics[:, -1], self._topology)
        fresh = observation.fresh
        self._broken = np.where(fresh, np.stack([severity > 1.0, self._broken[0], self._broken[1]]), self._broken)
        triggered = detection.alarm | (self._broken.sum(0) >= 2)
        self._history.push(observation, ~triggered)
        self._calm = np.where(triggered, 0, self._calm + 1)
        self._well = np.where(severity > 1.0, 0, self._well + 1)
        self._cut_waiting_short(observation.step)
        self._judge(observation.step, triggered, severity)
        wanting = triggered & (self._due < 0)
        lifts = self._lifts(observation)
        lifting = (lifts > 0) & (forced == lifts)
        forced = np.where(lifting, 0, forced)
        meddled = (forced > 0) & ~wanting
        for run in np.flatnonzero(meddled & (self._due >= 0)):
            del self._current[int(run)]
        wanting |= meddled
        renewing = wanting | (triggered & (observation.step - self._diagnosed >= RENEW_STEPS))
        choice = np.zeros(triggered.size, np.int64)
        opened: dict[int, Decision] = {}
        if renewing.any():
            opened = self._diagnose_and_decide(observation, detection, renewing, wanting, severity, forced, choice)
        self._lift(observation.step, np.where((choice == 0) & ((forced < 0) | lifting), lifts, 0), choice)
        return AgentStep(
            detection, triggered, choice, self._suspect, self._confidence, self._ranked, self._say, opened
        )  # fmt: skip

    def _cut_waiting_short(self, step: int) -> None:
        """End decisions to wait that were taken while the SLO held, where it is broken now: things have changed."""
        for run in np.flatnonzero((self._due > step) & (self._before <= 1.0) & (self._broken.sum(0) >= 2)).tolist():
            if self._current[run].action == 0:
                self._due[run] = step

    def _judge(self, step: int, triggered: Bools, severity: Floats) -> None:
        """Close the decisions that are due, forget incidents that are over, and drop stale diagnoses."""
        for run in np.flatnonzero(self._due == step):
            decision = self._current.pop(int(run))
            decision.closed = step
            helped = not triggered[run] or severity[run] < HELPED * self._before[run]
            self._guard.judged(step, int(run), decision.action, decision.target, bool(helped))
            self._due[run] = -1
        over = np.flatnonzero(self._calm == self._over)
        if over.size:
            self._guard.forget(over)
        stale = np.flatnonzero((self._calm == 1) & ~np.isnan(self._confidence))
        if stale.size:
            self._suspect[stale], self._confidence[stale], self._ranked[stale] = -1, np.nan, -1
            self._diagnosed[stale] = step - RENEW_STEPS
            for run in stale:
                self._explain.pop(int(run), None)

    def carry_on(self, fork: Episodes, rows: Ints, action: Ints, until: int) -> None:
        """Take actions in a fork of the batch at the edge that this agent has not seen yet, and go on by itself.

        What ``agent.rollouts.Then`` is: the agent forks itself, so it may be asked again and again.

        Raises
        ------
        InputError
            If its policy consults rollouts: they would have to be rolled out in their turn.
        """
        if isinstance(self.policy, ConsultsRollouts):
            raise InputError(f"policy {self.policy.name} consults rollouts, so it cannot be what follows in a rollout")
        twin, forced = self.fork(rows), action
        while fork.step < until:
            fork.act(twin.step(fork.observation, forced).choice)
            fork.advance()
            forced = np.full(rows.size, -1, np.int64)

    def finish(self, step: int) -> None:
        """Close the decisions that fall due exactly at the end; later ones stay open."""
        for run, decision in self._current.items():
            if self._due[run] == step:
                decision.closed = step

    def _diagnose_and_decide(
        self,
        observation: Observation,
        detection: Detection,
        renewing: Bools,
        wanting: Bools,
        severity: Floats,
        forced: Ints,
        choice: Ints,
    ) -> dict[int, Decision]:
        """Diagnose the runs that need it; take the decisions that are open, into ``choice``."""
        step, runs = observation.step, np.flatnonzero(renewing)
        diagnosis = self.diagnoser.diagnose(observation, detection, self._history, runs)
        self._diagnosed[runs] = step
        self._suspect[runs], self._confidence[runs] = diagnosis.suspect, diagnosis.confidence
        self._ranked[runs] = diagnosis.ranked
        for row, run in enumerate(runs):
            self._explain[int(run)] = lambda row=row: diagnosis.explain(row)  # type: ignore[misc]
        rows = np.flatnonzero(wanting[runs])
        if not rows.size:
            return {}
        runs = runs[rows]
        diagnosis = type(diagnosis)(
            runs, diagnosis.suspect[rows], diagnosis.confidence[rows], diagnosis.ranked[rows],
            lambda row, full=diagnosis: full.explain(int(rows[row])),  # type: ignore[misc]
        )  # fmt: skip
        strange = detection.excess > STRANGE
        target = self._guard.target(runs, diagnosis.suspect, diagnosis.ranked, strange)
        in_vain = self._guard.in_vain(runs)
        situation = Situation(
            runs=runs,
            keys=subkeys(self._keys[runs], self._count[runs] + np.uint64(_DECISION)),
            observation=observation,
            history=self._history,
            diagnosis=diagnosis,
            signature=signatures(self._topology, observation, self._history, runs, target, in_vain > 0),
            allowed=self._guard.allowed(observation, runs),
            in_vain=in_vain,
        )
        return self._decide(situation, severity, forced, choice)

    def _decide(self, situation: Situation, severity: Floats, forced: Ints, choice: Ints) -> dict[int, Decision]:
        """Ask the policy and book what it chose, or what it is made to do."""
        runs, step = situation.runs, situation.observation.step
        choices = self.policy.decide(situation)
        if (forced[runs] >= 0).any():
            choices = dataclasses.replace(choices, action=np.where(forced[runs] >= 0, forced[runs], choices.action))
        choice[runs] = choices.action
        self._count[runs] += np.uint64(1)
        self._due[runs] = step + self._duration[choices.action]
        self._before[runs] = severity[runs]
        self._guard.took(step, runs, choices.action)
        opened: dict[int, Decision] = {}
        for row, run in enumerate(runs):
            action = int(choices.action[row])
            decision = Decision(
                run=int(self._numbers[run]),
                opened=step,
                action=action,
                code=int(self._actions.code[action]),
                legal=tuple(np.flatnonzero(situation.allowed[row]).tolist()),
                propensity=float(choices.propensity[row]),
                score=float(choices.score[row]),
                signature=situation.signature.key(row, self._topology.services),
                target=int(situation.signature.target[row]),
                explain=functools.partial(_rationale, choices, situation.diagnosis, row),
                context=() if choices.context is None else tuple(choices.context[row].tolist()),
            )
            opened[int(run)] = self._current[int(run)] = decision
            self.decisions.append(decision)
        return opened

    def _lifts(self, observation: Observation) -> Ints:
        """Return (run,) the action that undoes something, in runs that keep the SLO; else 0."""
        lifts, alarmed = np.zeros(observation.fresh.size, np.int64), self._calm == 0
        self._guard.troubled(observation.step, np.flatnonzero(alarmed))
        runs = np.flatnonzero(self._well)
        well_s = self._well[runs].astype(np.float64) * self._topology.step_s
        lifts[runs] = self._guard.may_lift(observation, runs, well_s, alarmed[runs])
        return lifts

    def _lift(self, step: int, lifts: Ints, choice: Ints) -> None:
        """Book what undoes something (run,), 0 for nothing, into ``choice``."""
        runs = np.flatnonzero(lifts)
        if runs.size:
            choice[runs] = lifts[runs]
            self._well[runs] = 0
            self._guard.took(step, runs, lifts[runs])

    def _say(self, run: int) -> str:
        return self._explain[run]() if run in self._explain else ""


def _rationale(choices: Choices, diagnosis: Diagnosis, row: int) -> str:
    return f"{choices.explain(row)}; {diagnosis.explain(row)}"
