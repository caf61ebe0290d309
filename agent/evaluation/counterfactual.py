"""What if: every legal action at one edge of a run, tried on forks; the best one, regret, and who is harmed."""

__all__ = ["MARGIN", "Case", "Question", "Regret", "Truth", "examine", "fair_regret", "table_of"]

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.api import ConsultsRollouts, Detector, Policy
from agent.evaluation.ablation import Departure, Sustaining, Trigger, chains, sustaining_causes, triggers
from agent.evaluation.study import Study
from agent.evaluation.taught import frozen, needs_state
from agent.loop import Agent
from agent.play import begin
from agent.registry import POLICIES, make_policy
from agent.rollouts import HORIZON, Nothing, Outcomes, Release, Then, all_cases, roll_out
from simcore.env import Episodes
from simcore.errors import InputError, suggest
from simcore.model.inputs import Run
from simcore.telemetry.tables import empty, frame

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: An action harms a run if its J lies below that of noop by more than this: one request in a hundred of the episode.
MARGIN = 0.01
#: What may follow the action, besides the policies.
_FOLLOWING = ("release", "noop", "agent")
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Question:
    """What is tried, and how it is judged."""

    at: int | None  #: edge; None: that of the first alarm raised at or after the fault's onset
    horizon: int = HORIZON  #: steps
    futures: int = 8  #: re-keyed ones, besides the run's own
    then: str = "release"  #: release, noop, agent, or the name of a policy
    margin: float = MARGIN  #: of harm, in units of J
    then_state: dict[str, Any] | None = None  #: what the policy that follows has learned
    causes: bool = False  #: also what triggered the incident, what keeps it up, and how it spread

    def check(self, study: Study | None) -> None:
        """Check it against the study it is asked of; None: as far as that goes without one.

        Raises
        ------
        InputError
            Naming every mistake, one a line.
        """
        wrong = []
        if self.horizon < 1:
            wrong.append(f"--horizon must be >= 1 step, got {self.horizon}")
        if self.futures < 0:
            wrong.append(f"--futures must be >= 0, got {self.futures}")
        if not self.margin >= 0 or math.isinf(self.margin):
            wrong.append(f"--margin must be finite and >= 0, got {self.margin}")
        known = (*_FOLLOWING, *POLICIES)
        if self.then not in known:
            wrong.append(f"--then must be one of {', '.join(known)}, got '{self.then}'{suggest(self.then, known)}")
        if study is not None:
            wrong += self._against(study)
        if wrong:
            raise InputError("\n".join(wrong))

    def _against(self, study: Study) -> list[str]:
        """Return what does not go with a study."""
        wrong = []
        steps = study.scenario.timing.steps
        if self.at is not None and not 0 <= self.at < steps:
            wrong.append(f"--at must be an edge in 0 .. {steps - 1}, or alarm, got {self.at}")
        if self.at is None and not study.policies:
            wrong.append("--at alarm needs an agent to raise one; name an edge")
        after = study.policies[0] if self.then == "agent" and study.policies else self.then
        if self.then not in _FOLLOWING[:2] and not study.policies:
            wrong.append(f"--then {self.then} goes on with the agent, and there is none")
        elif after in POLICIES and isinstance(make_policy(after), ConsultsRollouts):
            wrong.append(f"--then {self.then}: {after} looks ahead itself, it cannot be what follows")
        elif self.then in POLICIES and self.then_state is None and needs_state(self.then):
            wrong.append(f"--then {self.then}: it learns from forks; train it (mendsim train policy), give --policy-in")
        return wrong


@dataclass(frozen=True, slots=True)
class Regret:
    """How much better than what was done the best action would have been, in units of J."""

    mean: float
    low: float  #: of the 95 % interval, nan if there is none
    high: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What a diagnosis of a run should find, by ablation."""

    services: tuple[str, ...]
    trigger: Trigger
    sustaining: Sustaining  #: at the edge of the case
    chain: tuple[Departure, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One edge of one run, and what every legal action leads to from there."""

    run: Run
    names: tuple[str, ...]  #: (action,) of the whole action table
    step: int
    horizon: int  #: steps, shorter than asked for at the end of the episode
    step_s: float
    taken: int  #: action that the agent takes, -1: there is no agent
    margin: float
    objective: float  #: of the SLO
    outcomes: Outcomes  #: cases of this run alone, noop first; the own future in column 0, the others behind it
    truth: Truth | None = None  #: None unless asked for

    @property
    def fair(self) -> bool:
        """Whether there are re-keyed futures."""
        return self.outcomes.futures.size > 1

    def judged(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the columns (case, future) by which actions are compared: the re-keyed futures, else the own one."""
        columns: Floats = np.asarray(values[:, 1:] if self.fair else values, np.float64)
        return columns

    def mean_j(self) -> Floats:
        """Return (case,) the mean J over the futures that count."""
        mean: Floats = self.judged(self.outcomes.j).mean(axis=1)
        return mean

    def best(self) -> int:
        """Return the case with the largest mean J; ties to the first, noop before all."""
        return int(self.mean_j().argmax())

    def best_of_own(self) -> int:
        """Return the case that is best in the run's own future."""
        return int(self.outcomes.j[:, 0].argmax())

    def gain(self) -> tuple[Floats, Floats]:
        """Return (case,) the mean gain of J over noop, and the half-width of its 95 % interval (nan without one)."""
        gap = self.judged(self.outcomes.j - self.outcomes.j[:1])
        return gap.mean(axis=1), _half_width(gap)

    def harmed(self) -> Bools:
        """Return (case, future) where J lies below that of noop in the same future by more than the margin."""
        harmed: Bools = self.judged(self.outcomes.j - self.outcomes.j[:1]) < -self.margin
        return harmed

    def position_of(self, action: int) -> int:
        """Return the case of an action; -1 if it was not legal."""
        found = np.flatnonzero(self.outcomes.action == action)
        return int(found[0]) if found.size else -1

    def regret(self) -> tuple[Regret, Regret] | None:
        """Return regret of what the agent did: fair (or clairvoyant without futures), and clairvoyant; else None."""
        taken = self.position_of(self.taken) if self.taken >= 0 else -1
        if taken < 0:
            return None
        own = self.outcomes.j[:, 0]
        clairvoyant = Regret(float(own.max() - own[taken]), math.nan, math.nan)
        return (fair_regret(self.judged(self.outcomes.j), taken) if self.fair else clairvoyant), clairvoyant


def _half_width(gap: Floats) -> Floats:
    """Return (case,) half the 95 % interval of the mean of (case, future), by Student's t; nan for one future."""
    n = gap.shape[1]
    if n < 2:
        return np.full(gap.shape[0], np.nan)
    from scipy.special import stdtrit  # half a second that only this pays

    width: Floats = float(stdtrit(n - 1, 0.5 + 0.5 * _LEVEL)) * gap.std(axis=1, ddof=1) / math.sqrt(n)
    return width


def fair_regret(j: Floats, taken: int) -> Regret:
    """Return the regret of a case over futures that nobody knew.

    The best action is chosen on one half of the futures and valued on the other, both ways: the action that looks best
    on some futures would look too good on the same ones. So the estimate errs downwards, by what a choice on half the
    futures misses; it may come out below zero.

    Parameters
    ----------
    j
        (case, future) J of every action.
    taken
        Case of the action taken.
    """
    n = j.shape[1]
    gap = np.empty(n)
    if n < 2:
        return Regret(float(j.mean(axis=1).max() - j[taken].mean()), math.nan, math.nan)
    half = np.arange(n) % 2
    for fold in (0, 1):
        best = int(j[:, half != fold].mean(axis=1).argmax())
        gap[half == fold] = (j[best] - j[taken])[half == fold]
    mean, width = float(gap.mean()), float(_half_width(gap[None])[0])
    return Regret(mean, mean - width, mean + width)


def examine(
    study: Study,
    question: Question,
    *,
    first: int = 0,
    policy: Policy | None = None,
    detector: Detector | None = None,
    engine: str = "batch",
    threads: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Iterator[Case]:
    """Yield the cases of a study's runs, in order of runs; runs without the alarm asked for give none.

    Parameters
    ----------
    study
        Its runs ``first`` to ``first + episodes - 1``; of its policies the first one plays.
    question
        What to try.
    first
        Index of the first run.
    policy, detector
        The agent's policy as it stands, and a trained detector; None without an agent.
    engine, threads
        As ``Episodes`` takes them.
    on_done
        Called with the number of forks done, whenever some are.

    Raises
    ------
    InputError
        If the question does not fit the study.
    """
    question.check(study)
    done = 0

    def tell(count: int) -> None:
        if on_done is not None:
            on_done(done + count)

    for begin_at in range(0, study.episodes, study.round_size):
        runs = study.runs(first + begin_at, min(study.round_size, study.episodes - begin_at))
        episodes = Episodes(study.scenario, runs, engine=engine, threads=threads)
        agent = None
        if policy is not None and detector is not None:
            agent = Agent(detector, study.new_diagnoser(), policy)
        cases: dict[int, Case] = {}
        for case, position in _of_round(episodes, agent, question, study.shadow, tell):
            cases[position] = case
            done += case.outcomes.j.size
        yield from (cases[position] for position in sorted(cases))


def _of_round(
    episodes: Episodes, agent: Agent | None, question: Question, shadow: bool, tell: Callable[[int], None]
) -> Iterator[tuple[Case, int]]:
    """Yield the cases of a batch at edge 0, and the positions of their runs."""
    if agent is None:
        assert question.at is not None
        episodes.advance_to(question.at)
        yield from _tried(episodes, np.arange(episodes.n_runs), None, _following(question, None), question, tell)
        return
    begin(episodes, agent)
    step_s = episodes.scenario.timing.step_s
    onset = [min((fault.onset_s for fault in run.faults), default=0.0) for run in episodes.runs]
    waiting, before = np.ones(episodes.n_runs, np.bool_), np.zeros(episodes.n_runs, np.bool_)
    while not episodes.finished and waiting.any():
        looking = question.at is None or question.at == episodes.step
        unmoved = agent.fork(np.arange(episodes.n_runs)) if looking else agent
        said = agent.step(episodes.observation)
        alarm = said.detection.alarm
        if looking:
            due = waiting.copy()
            if question.at is None:
                due &= alarm & ~before & (episodes.step * step_s >= np.array(onset))
            rows = np.flatnonzero(due)
            waiting &= ~due
            if rows.size:
                yield from _tried(episodes, rows, said.choice, _following(question, unmoved), question, tell)
        before = alarm.copy()
        episodes.act(said.choice, shadow=shadow)
        episodes.advance()


def _following(question: Question, agent: Agent | None) -> Then:
    """Return what follows the action."""
    if question.then == "noop":
        return Nothing()
    if question.then == "release" or agent is None:
        return Release()
    if question.then == "agent":
        return agent
    return agent.fork(np.arange(agent.n_runs), frozen(question.then, question.then_state))


def _tried(
    episodes: Episodes,
    rows: Ints,
    choice: Ints | None,
    then: Then,
    question: Question,
    tell: Callable[[int], None],
) -> Iterator[tuple[Case, int]]:
    """Try everything legal in some runs; ``choice`` (run,) is what the agent does."""
    row, action = all_cases(episodes.observation.legal[rows], rows)
    futures = (-1, *range(question.futures))
    outcomes = roll_out(
        episodes, row, action, futures=futures, horizon=question.horizon, then=then, on_done=tell
    )  # fmt: skip
    truths = _truths(episodes, rows) if question.causes else [None] * rows.size
    for position, truth in zip(rows.tolist(), truths, strict=True):
        mine = np.flatnonzero(outcomes.row == position)
        yield (
            Case(
                run=episodes.runs[position],
                names=episodes.actions.names,
                step=episodes.step,
                horizon=outcomes.until - outcomes.step,
                step_s=episodes.scenario.timing.step_s,
                taken=-1 if choice is None else int(choice[position]),
                margin=question.margin,
                objective=episodes.scenario.slo.objective,
                outcomes=outcomes.part(mine),
                truth=truth,
            ),
            position,
        )


def _truths(episodes: Episodes, rows: Ints) -> list[Truth]:
    """Return the truth of some runs at the present edge."""
    runs = [episodes.runs[row] for row in rows.tolist()]
    parts = zip(
        triggers(episodes.scenario, runs),
        sustaining_causes(episodes, rows),
        chains(episodes.scenario, runs),
        strict=True,
    )
    return [Truth(episodes.topology.services, *part) for part in parts]


def table_of(cases: Sequence[Case], *, policy: str | None, then: str) -> pl.DataFrame:
    """Return the table ``counterfactuals``: a row per run, action and future."""
    frames = [_rows(case, policy, then) for case in cases]
    return pl.concat([empty("counterfactuals"), *frames])


def _rows(case: Case, policy: str | None, then: str) -> pl.DataFrame:
    out, n = case.outcomes, case.outcomes.futures.size
    gain = out.j - out.j[:1]
    allowed = (1.0 - case.objective) * out.offered
    budget = np.divide(out.bad, allowed, out=np.full(out.bad.shape, np.nan), where=out.offered > 0)
    action = np.repeat(out.action, n)
    return frame(
        "counterfactuals",
        {
            "policy": policy,
            "split": case.run.split,
            "seed": case.run.seed,
            "run": case.run.run,
            "step": case.step,
            "followed_by": then,
            "action": [case.names[number] for number in action.tolist()],
            "future": [None if number < 0 else number for number in np.tile(out.futures, out.action.size).tolist()],
            "taken": None if case.taken < 0 else (action == case.taken),
            "horizon": case.horizon,
            "offered": out.offered.reshape(-1),
            "bad": out.bad.reshape(-1),
            "error_budget_spent": budget.reshape(-1),
            "recovery_s": (out.recovery * case.step_s).reshape(-1),
            "action_cost": out.cost.reshape(-1),
            "j": out.j.reshape(-1),
            "j_gain": gain.reshape(-1),
            "healthy": ~out.unhealthy.reshape(-1),
            "harmed": (gain < -case.margin).reshape(-1),
        },
    )
