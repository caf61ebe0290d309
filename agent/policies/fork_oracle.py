"""The fork oracle: knows what every allowed action would lead to, because it has tried them all on forks.

It decides when the agent has a decision to take (an alarm is open or the SLO is broken), at most once in ``SPACING``
steps; in between it waits. The clairvoyant one looks at the run's own future: a reference, not a bound, since it looks
one decision ahead. The fair one knows the state of the run and no future: it averages over re-keyed ones, which it
spends by sequential halving (Karnin, Koren and Somekh 2013): few on all actions, more on those that look good.
"""

__all__ = ["SPACING", "STAGES", "ClairvoyantOracle", "FairOracle", "fair_values"]

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Rollouts, Situation
from agent.policies.base import FixedPolicy
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Steps from one look ahead to the next.
SPACING = 12
#: Futures of the fair oracle: (how many, share of the actions that is still tried).
STAGES: tuple[tuple[int, float], ...] = ((2, 1.0), (2, 0.35), (4, 0.15))
#: An action has to be worth this much more than waiting, in units of J.
_WORTHWHILE = 1e-6


class _Oracle(FixedPolicy):
    """Takes the allowed action of the largest value; subclasses say what the value is."""

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._names = actions.names
        self._looked: dict[int, int] = {}
        self._rollouts: Rollouts | None = None

    def consult(self, rollouts: Rollouts) -> None:
        """Use these for the batch that has just begun."""
        self._rollouts = rollouts

    def _values(self, rollouts: Rollouts, runs: Ints, allowed: Bools) -> Floats:
        """Return (row, action) the value of every action, -inf for what is out of the question."""
        raise NotImplementedError

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row; rows whose last look ahead is less than ``SPACING`` steps ago wait.

        Raises
        ------
        InputError
            If nobody has handed over the means to look ahead.
        """
        if self._rollouts is None:
            raise InputError(f"policy {self.name} looks ahead, which needs the episodes: play it, or hand it rollouts")
        step, n = situation.observation.step, situation.runs.size
        last = np.array([self._looked.get(run, -SPACING) for run in situation.runs.tolist()], np.int64)
        rows = np.flatnonzero(~((last < step) & (step < last + SPACING)))
        action, score = np.zeros(n, np.int64), np.full(n, np.nan)
        if rows.size:
            self._looked |= dict.fromkeys(situation.runs[rows].tolist(), step)
            values = self._values(self._rollouts, situation.runs[rows], situation.allowed[rows])
            gain = values - values[:, :1]
            best = gain.argmax(axis=1)
            action[rows] = np.where(gain.max(axis=1) > _WORTHWHILE, best, 0)
            score[rows] = gain[np.arange(rows.size), action[rows]]
        return Choices(action, np.ones(n), score, lambda row: self._explain(int(action[row]), float(score[row])))

    def _explain(self, action: int, gain: float) -> str:
        if np.isnan(gain):
            return "has looked ahead a moment ago and waits"
        return f"{self._names[action]} is worth {gain:.4f} of J more than noop on forks"


class ClairvoyantOracle(_Oracle):
    """Tries everything in the run's own future."""

    name: ClassVar[str] = "oracle_clairvoyant"

    def _values(self, rollouts: Rollouts, runs: Ints, allowed: Bools) -> Floats:
        return np.nan_to_num(rollouts.values(runs, allowed, (-1,))[..., 0], nan=-np.inf)


class FairOracle(_Oracle):
    """Tries everything in futures that nobody knows, and takes what is best on average.

    Parameters
    ----------
    stages
        (futures, share of the actions) one after the other; noop is in all of them.

    Raises
    ------
    InputError
        If there is no stage, or the first does not try everything, or one has no future.
    """

    name: ClassVar[str] = "oracle_fair"

    def __init__(self, stages: Sequence[tuple[int, float]] = STAGES) -> None:
        if not stages or stages[0][1] != 1.0 or any(n < 1 or not 0 < share <= 1 for n, share in stages):
            raise InputError(f"oracle_fair: stages must begin with a share of 1 and have futures, got {list(stages)}")
        self.stages = tuple(stages)

    def _values(self, rollouts: Rollouts, runs: Ints, allowed: Bools) -> Floats:
        return fair_values(rollouts, runs, allowed, self.stages)


def fair_values(rollouts: Rollouts, runs: Ints, allowed: Bools, stages: Sequence[tuple[int, float]] = STAGES) -> Floats:
    """Return (row, action) the mean value of every action in re-keyed futures, -inf for what dropped out.

    The futures are numbered from 0, over the stages.

    Parameters
    ----------
    rollouts
        The means to look ahead.
    runs
        (row,) positions of the runs.
    allowed
        (row, action) what is tried; waiting is always.
    stages
        As ``FairOracle`` takes them.
    """
    total = np.zeros(allowed.shape)
    left, mean, first = allowed.copy(), np.where(allowed, 0.0, -np.inf), 0
    for futures, share in stages:
        keep = np.ceil(allowed.sum(axis=1) * share).astype(np.int64)
        rank = np.empty_like(allowed, dtype=np.int64)
        np.put_along_axis(rank, np.argsort(-mean, axis=1, kind="stable"), np.arange(allowed.shape[1])[None], axis=1)
        left &= rank < keep[:, None]
        left[:, 0] = True
        values = rollouts.values(runs, left, range(first, first + futures))
        first += futures
        total = np.where(left, total + values.sum(axis=2), total)
        mean = np.where(left, total / first, -np.inf)
    return mean
