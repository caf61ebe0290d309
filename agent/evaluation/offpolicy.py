"""What a policy is worth, from the log of another: estimators, and how wrong they are (Dudik, Langford and Li 2011)."""

__all__ = ["ESTIMATORS", "Log", "Overlap", "audit", "estimate", "first_decisions", "merged", "model"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace
from agent.evaluation.statistics import LEVEL, Interval, Resampler
from simcore.env import Episodes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Name -> in words.
ESTIMATORS = {
    "model": "the reward that a model of the log expects of the target's choices",
    "ips": "inverse propensity: rewards of the same choice, over the chance that it was made",
    "snips": "the same, divided by the sum of the weights instead of their number",
    "dr": "doubly robust: the model, corrected by the weighted errors that it makes in the log",
}

#: Parts into which the log is cut: the model that judges a run has not seen it.
_FOLDS = 5
#: Decisions that a coarser level of the model is worth.
_PRIOR = 3.0


@dataclass(frozen=True, slots=True)
class Log:
    """The first decision of every run that had one early enough to be judged; arrays are (row,)."""

    run: Ints
    action: Ints
    propensity: Floats
    reward: Floats
    context: tuple[str, ...]  #: what the incident looked like, coarse
    kinds: tuple[str, ...]  #: (action,) of the action table, and the service

    def keep(self, rows: npt.NDArray[np.bool_]) -> "Log":
        """Return some rows."""
        context = tuple(text for text, kept in zip(self.context, rows.tolist(), strict=True) if kept)
        return Log(self.run[rows], self.action[rows], self.propensity[rows], self.reward[rows], context, self.kinds)


def first_decisions(episodes: Episodes, trace: AgentTrace) -> Log:
    """Return the log of a finished round.

    Up to its first decision a run is the same whoever decides, so this is where one policy can be asked what it would
    have done in the place of another. Runs whose first decision comes so late that some action could not be judged
    before the end are left out, whatever was chosen.
    """
    table, step_s = episodes.actions, episodes.scenario.timing.step_s
    longest = int(np.ceil((table.delay_s + table.settle_s).max() / step_s)) + 1
    seen: set[int] = set()
    rows = []
    for decision in trace.decisions:
        if decision.run not in seen:
            seen.add(decision.run)
            if decision.opened + longest <= episodes.n_steps and not np.isnan(decision.reward):
                rows.append(decision)
    return Log(
        np.array([row.run for row in rows], np.int64),
        np.array([row.action for row in rows], np.int64),
        np.array([row.propensity for row in rows], np.float64),
        np.array([row.reward for row in rows], np.float64),
        tuple(_context(row.signature) for row in rows),
        tuple(f"{kind}@{service}" for kind, service in zip(table.kinds, table.service.tolist(), strict=True)),
    )


def _context(signature: str) -> str:
    """Return the suspect, whether the SLO is broken, and the pattern."""
    target, broken, _, _, pattern, _ = signature.split("|")
    return f"{target}|{'holds' if broken == 'none' else 'broken'}|{pattern}"


def model(log: Log, choice: Ints) -> Floats:
    """Return (row,) the reward expected of a choice in each row's context, from the other parts of the log.

    Means by action, shrunk towards those of its kind, and by action and context, shrunk towards the former.
    """
    expected = np.empty(log.run.size)
    for fold in range(_FOLDS):
        mine = log.run % _FOLDS == fold
        others = log.keep(~mine)
        base = float(others.reward.mean()) if others.run.size else 0.5
        levels: list[dict[Any, tuple[float, int]]] = [{}, {}, {}]
        for action, context, reward in zip(others.action.tolist(), others.context, others.reward.tolist(), strict=True):
            for level, key in zip(levels, _keys(log, action, context), strict=True):
                total, number = level.get(key, (0.0, 0))
                level[key] = total + reward, number + 1
        for row in np.flatnonzero(mine).tolist():
            value = base
            for level, key in zip(levels, _keys(log, int(choice[row]), log.context[row]), strict=True):
                total, number = level.get(key, (0.0, 0))
                value = (total + _PRIOR * value) / (number + _PRIOR)
            expected[row] = value
    return expected


def _keys(log: Log, action: int, context: str) -> tuple[Any, Any, Any]:
    return log.kinds[action].partition("@")[0], action, (action, context)


class Overlap(NamedTuple):
    """How much of a log speaks of a policy."""

    ess: float  #: effective sample size, (sum of the weights)^2 / sum of their squares
    weight: float  #: mean weight; 1 but for chance, if the log holds what the policy does wherever it does it


def estimate(log: Log, choice: Ints, *, seed: int) -> tuple[dict[str, Interval], Overlap]:
    """Return what a policy is estimated to be worth by each estimator, and how far the log speaks of it.

    Parameters
    ----------
    log
        Of the policy that acted, with its propensities.
    choice
        (row,) what the policy in question would have chosen, with certainty.
    seed
        Of the bootstrap over runs.
    """
    weight = np.where(log.action == choice, 1.0 / log.propensity, 0.0)
    expected, made = model(log, choice), model(log, log.action)
    sample = Resampler(log.run.size, seed=seed)
    terms = {"model": expected, "ips": weight * log.reward, "dr": expected + weight * (log.reward - made)}
    found = {name: sample.mean(values[None]) for name, values in terms.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sample.means((weight * log.reward)[None]) / sample.means(weight[None])
        value = float((weight * log.reward).sum() / weight.sum())
        size = float(weight.sum() ** 2 / (weight**2).sum())
    tail = 0.5 * (1.0 - LEVEL)
    known = shares[np.isfinite(shares)]
    low, high = np.quantile(known, [tail, 1.0 - tail]) if known.size else (np.nan, np.nan)
    found["snips"] = Interval(value, float(low), float(high))
    overlap = Overlap(0.0 if np.isnan(size) else size, float(weight.mean()))
    return {name: found[name] for name in ESTIMATORS}, overlap


def audit(log: Log, targets: dict[str, Log], *, seed: int) -> list[dict[str, Any]]:
    """Return one row per policy and estimator: what is estimated from the log, and what the policy really got.

    Parameters
    ----------
    log
        Of the policy that left decisions to chance.
    targets
        Policy -> its own first decisions on the same runs, with the rewards that it got.
    seed
        Of the bootstrap.

    Returns
    -------
    list
        ``policy, estimator, runs, ess, weight, truth, estimate, low, high, error, covered``.
    """
    rows: list[dict[str, Any]] = []
    for policy, own in targets.items():
        shared = np.intersect1d(log.run, own.run)
        logged, real = (part.keep(np.isin(part.run, shared)) for part in (log, own))
        logged, real = _sorted(logged), _sorted(real)
        if not shared.size:
            continue
        found, overlap = estimate(logged, real.action, seed=seed)
        truth = float(real.reward.mean())
        for name, interval in found.items():
            row = {"policy": policy, "estimator": name, "runs": int(shared.size), **overlap._asdict(), "truth": truth}
            row |= {"estimate": interval.value, "low": interval.low, "high": interval.high}
            row |= {"error": interval.value - truth, "covered": bool(interval.low <= truth <= interval.high)}
            rows.append({key: None if value != value else value for key, value in row.items()})
    return rows


def _sorted(log: Log) -> Log:
    order = np.argsort(log.run, kind="stable")
    context = tuple(log.context[i] for i in order.tolist())
    return Log(log.run[order], log.action[order], log.propensity[order], log.reward[order], context, log.kinds)


def merged(logs: Sequence[Log]) -> Log:
    """Return the logs of several rounds as one."""
    return Log(
        np.concatenate([log.run for log in logs]),
        np.concatenate([log.action for log in logs]),
        np.concatenate([log.propensity for log in logs]),
        np.concatenate([log.reward for log in logs]),
        tuple(text for log in logs for text in log.context),
        logs[0].kinds,
    )
