"""The control loop: observe -> detect -> diagnose -> decide -> act, for a batch of runs in lockstep."""

__all__ = ["Agent", "AgentStep", "play", "reward"]

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace, Choices, Decision, Detection, Detector, Diagnoser, Diagnosis, Keys, Policy, Situation
from agent.history import History
from agent.keys import subkeys
from agent.policies.guardrails import Guardrails, Limits
from agent.policies.signature import admitted_errors, signatures
from simcore.env import Episodes
from simcore.env.episodes import UNHEALTHY_PENALTY
from simcore.observation import ActionTable, Observation, Topology
from simcore.streams import run_key
from simcore.windows import Metric

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

_POLICY_STREAM = 5
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


def _severity(system: Floats, topology: Topology) -> Floats:
    """Return (run,) the system's worst symptom in (run, metric) as a multiple of its limit; 1 breaks the SLO.

    Traffic without any good answer has no quantile; it counts as all requests bad.
    """
    late = system[:, Metric.P95_S] / topology.p95_slo_s
    bad = admitted_errors(system) / topology.bad_frac_slo
    worst = np.fmax(late, bad)
    silent = (system[:, Metric.REQUEST_RATE_RPS] > 0) & ~(system[:, Metric.OK] > 0)
    return np.where(silent, np.fmax(worst, 1.0 / topology.bad_frac_slo), np.where(np.isnan(worst), 0.0, worst))


class Agent:
    """A detector, a diagnoser and a policy, and what they need to work together on a batch of runs.

    A decision opens when an alarm is open, or the SLO was broken in two of the last three scrapes, and no decision is
    under way. It is judged after the action's delay and settle time (``WAIT_S`` for noop); if the run is still
    triggered then, the next decision opens at that step. When the SLO has held for a while (shed requests apart) the
    guardrails undo one of the things that were set and must not stay, without a decision. After ``OVER_S`` of quiet
    the incident is over and what did not help is forgotten.
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

    def step(self, observation: Observation) -> AgentStep:
        """Take in an observation and choose an action for every run.

        Parameters
        ----------
        observation
            Of the batch, steps in order; not modified.
        """
        detection = self.detector.update(observation)
        severity = _severity(observation.metrics[:, -1], self._topology)
        fresh = observation.fresh
        self._broken = np.where(fresh, np.stack([severity > 1.0, self._broken[0], self._broken[1]]), self._broken)
        triggered = detection.alarm | (self._broken.sum(0) >= 2)
        self._history.push(observation, ~triggered)
        self._calm = np.where(triggered, 0, self._calm + 1)
        self._well = np.where(severity > 1.0, 0, self._well + 1)
        self._judge(observation.step, triggered, severity)
        wanting = triggered & (self._due < 0)
        renewing = wanting | (triggered & (observation.step - self._diagnosed >= RENEW_STEPS))
        choice = np.zeros(triggered.size, np.int64)
        opened: dict[int, Decision] = {}
        if renewing.any():
            opened = self._diagnose_and_decide(observation, detection, renewing, wanting, severity, choice)
        self._lift(observation, choice)
        return AgentStep(
            detection, triggered, choice, self._suspect, self._confidence, self._ranked, self._say, opened
        )  # fmt: skip

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
        again = self._guard.tried(runs)
        situation = Situation(
            runs=runs,
            keys=subkeys(self._keys[runs], self._count[runs] + np.uint64(_DECISION)),
            observation=observation,
            history=self._history,
            diagnosis=diagnosis,
            signature=signatures(self._topology, observation, self._history, runs, target, again),
            allowed=self._guard.allowed(observation, runs),
        )
        return self._decide(situation, severity, choice)

    def _decide(self, situation: Situation, severity: Floats, choice: Ints) -> dict[int, Decision]:
        """Ask the policy and book what it chose."""
        runs, step = situation.runs, situation.observation.step
        choices = self.policy.decide(situation)
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

    def _lift(self, observation: Observation, choice: Ints) -> None:
        """Undo something, in runs that keep the SLO and do nothing else at this step."""
        self._guard.troubled(observation.step, np.flatnonzero(self._calm == 0))
        runs = np.flatnonzero((self._well > 0) & (choice == 0))
        well_s = self._well[runs].astype(np.float64) * self._topology.step_s
        choice[runs] = self._guard.may_lift(observation, runs, well_s, self._calm[runs] == 0)
        lifted = runs[choice[runs] > 0]
        self._well[lifted] = 0
        self._guard.took(observation.step, lifted, choice[lifted])

    def _say(self, run: int) -> str:
        return self._explain[run]() if run in self._explain else ""


def _rationale(choices: Choices, diagnosis: Diagnosis, row: int) -> str:
    return f"{choices.explain(row)}; {diagnosis.explain(row)}"


def reward(episodes: Episodes, first: Ints, last: Ints) -> Floats:
    """Return (run,) the reward of a decision that was under way over the steps [first, last), in [0, 1].

    ``reward = (healthy + max(0, 1 - loss)) / 2``. Healthy is 1 if the run is not unhealthy at the end of the last
    step (two of the last three steps violate the SLO, or traffic is turned away). The loss is the fall of J by bad
    requests and action cost, per step, in units of all requests of a step: ``-(change of J + penalty given or taken)
    * steps of the horizon / (last - first)``.

    Parameters
    ----------
    episodes
        With the steps closed.
    first, last
        (run,) edges; rows with ``last <= first`` give nan.
    """
    rows = np.arange(episodes.n_runs)
    length = last - first
    after = episodes.unhealthy[rows, np.maximum(last - 1, 0)]
    before = np.where(first > 0, episodes.unhealthy[rows, np.maximum(first - 1, 0)], False)
    change = episodes.j_between(first, np.maximum(first, last))
    change = change + UNHEALTHY_PENALTY * (after.astype(np.float64) - before)
    loss = np.maximum(0.0, -change * episodes.n_steps / np.maximum(length, 1))
    value: Floats = 0.5 * ~after + 0.5 * np.maximum(0.0, 1.0 - loss)
    return np.where(length > 0, value, np.nan)


def _set_rewards(episodes: Episodes, decisions: list[Decision], position: dict[int, int]) -> None:
    """Fill in the rewards of all judged decisions, one call per ordinal of a decision within its run."""
    waves: list[dict[int, Decision]] = []
    ordinal: dict[int, int] = {}
    for decision in decisions:
        if decision.closed < 0:
            continue
        run = position[decision.run]
        number = ordinal[run] = ordinal.get(run, -1) + 1
        if number == len(waves):
            waves.append({})
        waves[number][run] = decision
    for wave in waves:
        first, last = np.zeros(episodes.n_runs, np.int64), np.zeros(episodes.n_runs, np.int64)
        for run, decision in wave.items():
            first[run], last[run] = decision.opened, decision.closed
        rewards = reward(episodes, first, last)
        for run, decision in wave.items():
            decision.reward = float(rewards[run])


def play(
    episodes: Episodes,
    agent: Agent,
    *,
    shadow: bool = False,
    on_step: Callable[[Episodes], None] | None = None,
) -> AgentTrace:
    """Play a batch of episodes to the end.

    Parameters
    ----------
    episodes
        At edge 0; afterwards finished.
    agent
        Fitted and calibrated.
    shadow
        Let the agent think, but apply and book nothing.
    on_step
        Called with the episodes after every step.

    Returns
    -------
    What the agent did, rewards included.
    """
    keys = np.array([run_key(run.seed, run.split, run.run, _POLICY_STREAM) for run in episodes.runs], np.uint64)
    numbers = np.array([run.run for run in episodes.runs], np.int64)
    agent.start(episodes.topology, episodes.actions, keys, numbers)
    trace = _empty_trace(episodes)
    while not episodes.finished:
        t, observation = episodes.step, episodes.observation
        said = agent.step(observation)
        trace.alarm[:, t], trace.triggered[:, t] = said.detection.alarm, said.triggered
        trace.overall[:, t], trace.score[:, t] = said.detection.overall, said.detection.score
        trace.choice[:, t], trace.suspect[:, t] = said.choice, said.suspect
        trace.confidence[:, t], trace.ranked[:, t] = said.confidence, said.ranked
        episodes.act(said.choice, shadow=shadow)
        episodes.advance()
        if on_step is not None:
            on_step(episodes)
    agent.finish(episodes.n_steps)
    position = {int(number): i for i, number in enumerate(numbers)}
    trace.decisions = sorted(agent.decisions, key=lambda decision: (position[decision.run], decision.opened))
    _set_rewards(episodes, trace.decisions, position)
    return trace


def _empty_trace(episodes: Episodes) -> AgentTrace:
    shape, n_services = (episodes.n_runs, episodes.n_steps), episodes.topology.n_services
    return AgentTrace(
        alarm=np.zeros(shape, np.bool_),
        triggered=np.zeros(shape, np.bool_),
        overall=np.full(shape, np.nan),
        score=np.full((*shape, n_services), np.nan),
        choice=np.zeros(shape, np.int64),
        suspect=np.full(shape, -1, np.int64),
        confidence=np.full(shape, np.nan),
        ranked=np.full((*shape, n_services), -1, np.int64),
    )
