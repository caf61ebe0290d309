"""What decisions were worth: each is held against the best action, on forks with futures that nobody knows."""

__all__ = ["JUDGED_ON", "Judge"]

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.played import Labels
from agent.loop import AgentStep
from agent.policies.fork_oracle import SPACING, STAGES, fair_values
from agent.rollouts import Tryouts, roll_out
from simcore.env import Episodes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Futures on which the best action and the one taken are compared; none of them helped to choose the best.
JUDGED_ON = 8


class Judge:
    """Judges the decisions of a round while it is played: ``play(..., on_decided=judge.listen)``.

    At most one decision in ``SPACING`` steps of a run is judged. The best action is the fair fork oracle's: the
    largest mean J over re-keyed futures, spent by sequential halving. It and the action taken then meet ``JUDGED_ON``
    further futures, so that the best is not best by luck: the regret errs downwards and may come out below zero. A
    disruptive decision is harmful if it is worse than waiting by more than the margin there.

    Parameters
    ----------
    episodes
        The round, at edge 0.
    runs
        How many of its runs are judged, the first ones; a run takes about as much time as one of the fair oracle.
    margin
        Of harm, in units of J.
    """

    def __init__(self, episodes: Episodes, runs: int, *, margin: float = MARGIN) -> None:
        self._judged, self._margin = runs, margin
        self._last = np.full(episodes.n_runs, -SPACING, np.int64)
        self._decisions = np.zeros(episodes.n_runs, np.int64)
        self._disruptive = np.zeros(episodes.n_runs, np.int64)
        self._harmful = np.zeros(episodes.n_runs, np.int64)
        self._regret, self._clairvoyant = np.zeros(episodes.n_runs), np.zeros(episodes.n_runs)

    def listen(self, episodes: Episodes, said: AgentStep) -> None:
        """Judge the decisions that the agent has just taken; nobody has acted on them yet."""
        step = episodes.step
        runs = [run for run in sorted(said.opened) if run < self._judged and step >= self._last[run] + SPACING]
        if not runs:
            return
        rows = np.array(runs, np.int64)
        allowed = np.zeros((rows.size, len(episodes.actions)), np.bool_)
        for row, run in enumerate(runs):
            allowed[row, list(said.opened[run].legal)] = True
        taken = said.choice[rows]
        gap, gain, known = _worth(episodes, rows, allowed, taken)
        disruptive = episodes.actions.disruptive[taken]
        self._last[rows] = step
        self._decisions[rows] += 1
        self._regret[rows] += gap
        self._clairvoyant[rows] += known
        self._disruptive[rows] += disruptive
        self._harmful[rows] += disruptive & (gain < -self._margin)

    def labels(self) -> Labels:
        """Return the columns of the episodes table that hold the verdicts; null for runs that were not judged."""
        many = self._decisions
        asked = np.arange(many.size) < self._judged
        known = asked & (many > 0)
        return Labels(
            judged_decisions=_kept(many, asked),
            judged_disruptive=_kept(self._disruptive, asked),
            harmful_decisions=_kept(self._harmful, asked),
            regret=_kept(self._regret / np.maximum(many, 1), known),
            regret_clairvoyant=_kept(self._clairvoyant / np.maximum(many, 1), known),
        )


def _worth(episodes: Episodes, rows: Ints, allowed: Bools, taken: Ints) -> tuple[Floats, Floats, Floats]:
    """Return (row,) the regret, the gain of J over waiting, and the regret of one who knew the run's own future."""
    look, at = Tryouts(episodes), np.arange(rows.size)
    best = fair_values(look, rows, allowed).argmax(axis=1)
    first = sum(futures for futures, _ in STAGES)
    # waiting, the one taken and the best, on the same further futures
    action = np.column_stack([np.zeros(rows.size, np.int64), taken, best]).ravel()
    value = roll_out(episodes, np.repeat(rows, 3), action, futures=range(first, first + JUDGED_ON)).mean_j()
    waiting, mine, other = value.reshape(rows.size, 3).T
    own = look.values(rows, allowed, (-1,))[..., 0]
    return other - mine, mine - waiting, np.nanmax(own, axis=1) - own[at, taken]


def _kept(values: npt.NDArray[Any], where: Bools) -> list[Any]:
    return [value if keep else None for value, keep in zip(values.tolist(), where.tolist(), strict=True)]
