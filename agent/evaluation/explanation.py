"""Why a run came out as it did: beside its noop twin, its fault-free twin, and the best first action."""

__all__ = ["BestAction", "Divergence", "Explanation", "explain", "first_divergence"]

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.counterfactual import MARGIN, Regret, fair_regret
from agent.evaluation.played import Labels
from agent.evaluation.replay import Played, Replay, play_replay
from agent.evaluation.scoring import score
from agent.evaluation.study import play_round
from agent.evaluation.timeline import clock, describe
from agent.rollouts import Release, all_cases, roll_out
from simcore.codes import Event, Status
from simcore.env import Episodes
from simcore.model.inputs import make_run

Log = npt.NDArray[np.void]

#: Re-keyed futures on which the actions at the first decision are compared.
FUTURES = 8

_NUMBER = (1 << 40) - 1
#: Events whose detail is a replica.
_AT_REPLICA = (Event.SENT, Event.ARRIVED, Event.STARTED, Event.REJECTED, Event.REFUSED, Event.KILLED)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first thing that happens to a request in one run and not in the other."""

    time_s: float
    request: int  #: number of the request within its stream
    stream: int  #: of arrivals; 0 are the base arrivals
    here: str  #: what happens to it in the run, in words
    there: str  #: in the twin
    fate_here: str  #: what becomes of it in the end
    fate_there: str


@dataclass(frozen=True, slots=True)
class BestAction:
    """What would have been best at the first decision, judged by the mean J over re-keyed futures."""

    step: int
    taken: str
    best: str
    gain: float  #: of J over noop, mean over the futures
    regret: Regret  #: of what was done
    episodes: Episodes = field(repr=False)  #: the run as it would have gone on, its own future


@dataclass(frozen=True, slots=True)
class Explanation:
    """A run and what it is held against; the twins' rows are those of the episodes table."""

    played: Played
    noop: Episodes
    noop_row: dict[str, Any]
    clear: Episodes  #: without the fault, and without actions
    clear_row: dict[str, Any]
    from_noop: Divergence | None  #: where the agent first changed what a request met
    from_clear: Divergence | None  #: where the fault did, nobody acting
    best: BestAction | None  #: None: nothing was decided

    def sentences(self) -> list[str]:
        """Return it in a few sentences."""
        row, noop = self.played.row, self.noop_row
        return [
            *self._fault(row, noop),
            *self._agent(row, noop),
            *_told(self.from_clear, "The first request to feel the fault", "without it"),
            *_told(self.from_noop, "The first request to feel the agent", "in the noop twin"),
            *self._best(),
        ]

    def _fault(self, row: dict[str, Any], noop: dict[str, Any]) -> list[str]:
        episodes = self.played.episodes
        faults = [f"{describe(fault, episodes)}, from {clock(fault.onset_s)}" for fault in episodes.runs[0].faults]
        clear = f"{self.clear_row['bad']} of {self.clear_row['offered']} requests are bad"
        if not faults:
            return [f"There is no fault. With nobody acting, {clear}."]
        came = f"an incident opens at {clock(noop['t_v_s'])}" if noop["incident"] else "no incident opens"
        healed = f", over at {clock(noop['t_r_s'])} by itself" if noop["t_r_s"] is not None else ""
        return [
            f"The fault is {'; '.join(faults)}. Without it {clear}.",
            f"With it and nobody acting {came}{healed}: {noop['bad']} are bad, {_budget(noop)}, J {noop['j']:.4f}.",
        ]

    def _agent(self, row: dict[str, Any], noop: dict[str, Any]) -> list[str]:
        if row["policy"] is None:
            return []
        episodes = self.played.episodes
        names, step_s = episodes.actions.names, episodes.scenario.timing.step_s
        done = [f"{names[record.action]} at {clock(record.step * step_s)}" for record in episodes.records]
        text = f"The agent ({row['policy']}) takes " + (", ".join(done) if done else "no action")
        alarm = "" if row["t_alarm_s"] is None else f" after an alarm at {clock(row['t_alarm_s'])}"
        text += f"{alarm}: {row['bad']} are bad, {_budget(row)}, J {row['j']:.4f}, {_outcome(row, noop)}."
        gap = row["j"] - noop["j"]
        if gap == 0.0:
            verdict = "It made no difference."
        elif gap < -MARGIN:
            verdict = f"It did harm: J is {-gap:.4f} below that of the noop twin."
        else:
            verdict = f"J is {abs(gap):.4f} {'above' if gap > 0 else 'below'} that of the noop twin."
        return [text, verdict]

    def _best(self) -> list[str]:
        best = self.best
        if best is None:
            return []
        at = clock(best.step * self.played.episodes.scenario.timing.step_s)
        if best.best == best.taken:
            return [f"At the first decision, {at}, {best.taken} was the best that could be done."]
        gain = "waiting is best" if best.best == "noop" else f"{best.best} is best, {best.gain:+.4f} of J over waiting"
        return [
            f"At the first decision, {at}, the agent took {best.taken}; over {FUTURES} futures that nobody knew,"
            f" {gain}. Regret {_regret(best.regret)}."
        ]


def explain(replay: Replay, *, engine: str = "batch", threads: int | None = None, best: bool = True) -> Explanation:
    """Play a run again, with its twins, and find where they part.

    Parameters
    ----------
    replay
        The run.
    engine, threads
        As ``Episodes`` takes them.
    best
        Whether to look for the best action at the first decision.

    Raises
    ------
    InputError
        If the study names something that there is not.
    """
    how: dict[str, Any] = {"engine": engine, "threads": threads}
    study = replay.study
    played = play_replay(replay, log=True, **how)
    runs = study.runs(replay.run, 1)
    noop, _ = play_round(study, runs, None, None, log=True, **how)
    clear_run = make_run(study.scenario, seed=study.seed, split=study.split, run=replay.run, faults=())
    clear, _ = play_round(study, [clear_run], None, None, log=True, **how)
    own, still, calm = (episodes.session.events(0) for episodes in (played.episodes, noop, clear))
    return Explanation(
        played, noop, _row(noop), clear, _row(clear), first_divergence(own, still), first_divergence(still, calm),
        _best_action(played, **how) if best else None,
    )  # fmt: skip


def _row(episodes: Episodes) -> dict[str, Any]:
    return score(episodes, None, Labels(), tables=("episodes",))["episodes"].row(0, named=True)


def first_divergence(log: Log, twin: Log) -> Divergence | None:
    """Return where two event logs first tell something else of a request; None if they never do.

    Parameters
    ----------
    log, twin
        Dtype ``simcore.eventlog.LOG``; what belongs to no request (faults, actions, replicas) is passed over.
    """
    own, other = log[log["request"] >= 0], twin[twin["request"] >= 0]
    shared = min(own.size, other.size)
    differs = np.flatnonzero(own[:shared] != other[:shared])
    at = int(differs[0]) if differs.size else shared
    rows = [part[at] if at < part.size else None for part in (own, other)]
    present = [row for row in rows if row is not None]
    if not present:
        return None
    first = min(present, key=lambda row: float(row["time_s"]))
    request = int(first["request"])
    # both logs may go on with other requests: what counts is what comes next for this one
    here, there = (_next(part[at:], request) for part in (own, other))
    return Divergence(
        float(first["time_s"]), request & _NUMBER, request >> 40, here, there,
        *(_fate(part[part["request"] == request]) for part in (own, other)),
    )  # fmt: skip


def _next(log: Log, request: int) -> str:
    rows = log[log["request"] == request]
    if not rows.size:
        return "nothing more happens to it"
    event, replica = Event(rows[0]["event"]), int(rows[0]["aux"])
    where = f" ({'no replica' if replica < 0 else f'replica {replica}'})" if event in _AT_REPLICA else ""
    return f"{event.name.lower().replace('_', ' ')}{where} at {float(rows[0]['time_s']):.3f} s"


def _fate(rows: Log) -> str:
    """Return what became of a request in the end, as its client sees it."""
    if not rows.size:
        return "never sent"
    begun = rows[rows["event"] == int(Event.OFFERED)]
    shed = rows[rows["event"] == int(Event.SHED)]
    if shed.size or not begun.size:
        return "turned away"
    start, span = float(begun[0]["time_s"]), begun[0]["span"]
    ends = np.isin(rows["event"], (int(Event.REPLIED), int(Event.TIMED_OUT))) & (rows["span"] == span)
    if not ends.any():
        return "unanswered"
    end = rows[ends][0]
    took = f"after {float(end['time_s']) - start:.3f} s"
    if end["event"] == int(Event.TIMED_OUT):
        return f"given up {took}"
    return f"answered {took}" if end["aux"] == int(Status.OK) else f"failed {took} ({Status(end['aux']).name.lower()})"


def _best_action(played: Played, *, engine: str, threads: int | None) -> BestAction | None:
    """Return the best action at the first decision at or after the onset, else at the first one."""
    episodes, trace = played.episodes, played.trace
    if trace is None or not trace.decisions:
        return None
    begin = max(int(episodes.fault_steps[0]), 0)
    decision = next((one for one in trace.decisions if one.opened >= begin), trace.decisions[0])
    again = Episodes(episodes.scenario, episodes.runs, engine=engine, threads=threads)
    for record in episodes.records:
        if record.step < decision.opened:
            again.advance_to(record.step)
            again.act(np.array([record.action]))
    again.advance_to(decision.opened)
    row, action = all_cases(again.observation.legal)
    j = roll_out(again, row, action, futures=tuple(range(FUTURES))).j
    means = j.mean(axis=1)
    best, taken = int(means.argmax()), int(np.flatnonzero(action == decision.action)[0])
    fork = again.fork([0])
    Release().carry_on(fork, np.array([0]), action[best : best + 1], fork.n_steps)
    names = episodes.actions.names
    return BestAction(
        decision.opened, names[decision.action], names[int(action[best])],
        float(means[best] - means[int(np.flatnonzero(action == 0)[0])]), fair_regret(j, taken), fork,
    )  # fmt: skip


def _told(found: Divergence | None, who: str, elsewhere: str) -> list[str]:
    if found is None:
        return []
    return [
        f"{who} is number {found.request} at {clock(found.time_s)}: {found.here}, {elsewhere} {found.there};"
        f" it is {found.fate_here}, {elsewhere} {found.fate_there}."
    ]


def _outcome(row: dict[str, Any], noop: dict[str, Any]) -> str:
    if not row["incident"]:
        return "the incident prevented" if noop["incident"] else "no incident"
    if row["recovered"]:
        return f"recovered at {clock(row['t_r_s'])} (TTM {row['ttm_s']:.0f} s)"
    return "not recovered within the follow-up"


def _budget(row: dict[str, Any]) -> str:
    spent = row["error_budget_spent"]
    return "no error budget" if spent is None else f"{spent:.2f} x the error budget"


def _regret(of: Regret) -> str:
    return f"{of.mean:.4f}" if np.isnan(of.low) else f"{of.mean:.4f} [{of.low:.4f}, {of.high:.4f}]"
