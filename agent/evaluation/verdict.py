"""The oracle's verdict on a finished episode: beside its twins, and what each decision cost against the best one."""

__all__ = ["FUTURES", "Judged", "Twin", "judge", "points_of", "sentences", "twins_of"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.evaluation.counterfactual import MARGIN, Case
from agent.evaluation.played import Labels
from agent.evaluation.render import grid
from agent.evaluation.replay import Live, play_replay
from agent.evaluation.scoring import score
from agent.evaluation.timeline import clock
from agent.rollouts import HORIZON, all_cases, roll_out
from simcore.env import Episodes

#: Re-keyed futures in which the most promising actions of a decision are compared.
FUTURES = 8
#: Futures, others than those, that say which actions are promising; and how many of them are.
_SCREENS, _PROMISING = 2, 8
#: Decisions that are judged at most: each takes some seconds.
_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Twin:
    """The same run as somebody else would have handled it."""

    name: str
    row: dict[str, Any]  #: of the episodes table


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision beside everything else that was legal then."""

    who: str  #: whose doing it was
    case: Case

    def words(self) -> str:
        """Return the verdict in a sentence."""
        case = self.case
        taken, best = case.names[case.taken], case.names[int(case.outcomes.action[case.best()])]
        head = f"{clock(case.step * case.step_s)} {taken} ({self.who})"
        found = case.regret()
        assert found is not None
        regret = found[0]
        held = f"regret {regret.mean:.4f} of J [{regret.low:.4f}, {regret.high:.4f}]"
        if taken == best:
            text = f"{head}: the best that could be done"
        elif regret.low > 0:
            text = f"{head}: {best} was better; {held}"
        else:
            text = f"{head}: {best} looks best, but no difference is shown; {held}"
        hurt = int(case.harmed()[case.position_of(case.taken)].sum())
        if 2 * hurt > FUTURES:
            text += f"; it did harm in {hurt} of {FUTURES} futures"
        return text


def points_of(live: Live) -> tuple[list[tuple[int, int]], int]:
    """Return (edge, action) of the decisions to judge, in order of time, and how many are left out.

    Those are the decisions that did something, and the first one at or after the onset of the fault. Where nobody
    decided anything, it is the edge at which the incident opened.
    """
    episodes, trace = live.episodes, live.trace
    decided = {} if trace is None else {decision.opened: decision.action for decision in trace.decisions}
    decided |= dict(live.interventions)
    onset = max(int(episodes.fault_steps[0]), 0)
    first = next((step for step in sorted(decided) if step >= onset), None)
    points = [(step, action) for step, action in sorted(decided.items()) if action > 0 or step == first]
    if not points and episodes.incident_open[0, onset:].any():
        edge = onset + int(np.argmax(episodes.incident_open[0, onset:])) + 1
        points = [(edge, 0)] if edge < episodes.n_steps else []
    return points[:_LIMIT], max(0, len(points) - _LIMIT)


def judge(
    live: Live,
    points: list[tuple[int, int]],
    *,
    threads: int | None = None,
    on_share: Callable[[float], None] = lambda share: None,
) -> Iterator[Judged]:
    """Yield the verdict on decisions of a finished episode: everything legal is tried in futures that nobody knew.

    Two futures say which actions are promising; those, noop and what was done are compared in ``FUTURES`` others, so
    that the choice does not flatter them. What follows an action is nothing but that limits on the traffic are lifted.

    Parameters
    ----------
    live
        The episode.
    points
        (edge, action) of its decisions, as ``points_of`` gives them.
    threads
        As ``Episodes`` takes it; always the batch engine, which forks by copying and gives the same.
    on_share
        Called with the share that is done; what it raises ends the work.
    """
    played = live.episodes
    again = Episodes(played.scenario, played.runs, threads=threads)
    records = sorted(played.records, key=lambda record: record.step)
    for number, (edge, action) in enumerate(points):
        while records and records[0].step < edge:
            record = records.pop(0)
            again.advance_to(record.step)
            again.act(np.array([record.action]))
        again.advance_to(edge)

        def tell(share: float, before: int = number) -> None:
            on_share((before + share) / len(points))

        yield Judged(_who(live, edge, action), _case(again, action, tell))


def _who(live: Live, edge: int, action: int) -> str:
    if (edge, action) in live.interventions:
        return "you"
    if edge in live.by_hand:
        return "you, as advised"
    return "nobody acted" if live.playing is None else "the agent"


def _case(episodes: Episodes, action: int, tell: Callable[[float], None]) -> Case:
    """Return what the promising actions lead to at the present edge of one run."""
    rows, actions = all_cases(episodes.observation.legal[:1])
    screens = actions.size * _SCREENS
    forks = screens + (_PROMISING + 2) * (FUTURES + 1)
    found = roll_out(
        episodes, rows, actions, futures=range(FUTURES, FUTURES + _SCREENS), on_done=lambda done: tell(done / forks)
    )
    promising = np.argsort(-found.mean_j(), kind="stable")[:_PROMISING]
    actions = np.unique([0, action, *actions[promising]])
    outcomes = roll_out(
        episodes, np.zeros(actions.size, np.int64), actions, futures=(-1, *range(FUTURES)),
        on_done=lambda done: tell(min(1.0, (screens + done) / forks)),
    )  # fmt: skip
    scenario = episodes.scenario
    return Case(
        run=episodes.runs[0],
        names=episodes.actions.names,
        step=episodes.step,
        horizon=min(HORIZON, episodes.n_steps - episodes.step),
        step_s=scenario.timing.step_s,
        taken=action,
        margin=MARGIN,
        objective=scenario.slo.objective,
        outcomes=outcomes,
    )


def twins_of(live: Live, *, threads: int | None = None) -> Iterator[Twin]:
    """Yield the same run with nobody acting and, if somebody went against the agent, with the agent alone."""
    still = Episodes(live.episodes.scenario, live.episodes.runs, threads=threads)
    still.advance_to_end()
    yield Twin("nobody acts", score(still, None, Labels(), tables=("episodes",))["episodes"].row(0, named=True))
    if live.interventions and live.playing is not None:
        alone = play_replay(live.replay, threads=threads)
        yield Twin(f"the agent alone ({live.replay.policy})", alone.row)


def sentences(row: dict[str, Any], twins: list[Twin]) -> list[str]:
    """Return how an episode came out beside its twins, as the lines of a table.

    Parameters
    ----------
    row
        Of the episodes table.
    twins
        What it is held against.
    """
    rows = [[name, *_outcome(of)] for name, of in [("this episode", row), *((twin.name, twin.row) for twin in twins)]]
    return grid(["", "bad", "error budget", "J", "recovered after"], rows).splitlines()


def _outcome(row: dict[str, Any]) -> list[str]:
    spent = row["error_budget_spent"]
    came = "no incident"
    if row["incident"]:
        came = f"{row['ttm_s']:.0f} s" if row["recovered"] else "not recovered"
    return [str(row["bad"]), "-" if spent is None else f"{spent:.2f} x", f"{row['j']:+.4f}", came]
