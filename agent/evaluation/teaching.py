"""From lessons to a policy: boosted trees, and the gain from which acting is worth it."""

__all__ = ["MARGINS", "THRESHOLDS", "Report", "teach"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.lessons import Lessons
from agent.policies.learned import LearnedPolicy, Trees
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Predicted gains over waiting, in units of J, from which acting might be worth it; one of them is chosen.
THRESHOLDS = (-0.02, -0.01, -0.005, 0.0, 0.002, 0.004, 0.008, 0.016)
#: Margins over the playbook's choice, likewise.
MARGINS = (0.0, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
#: A loss by acting counts so many times: who waits can act later, who has done harm cannot take it back.
_AVERSION = 1.5
#: Settings of the trees.
_TREES, _DEPTH, _RATE, _LEAF, _SHARE, _COLUMNS = 300, 5, 0.04, 12, 0.5, 0.3
#: Fewest decisions to learn from.
_FEWEST = 20
#: Parts into which the runs are divided to predict each from the others.
_FOLDS = 4


@dataclass(frozen=True, slots=True)
class Report:
    """How well lessons can be predicted from the lessons of other runs. Gains are over waiting, a decision, of J."""

    decisions: int
    candidates: int
    threshold: float  #: chosen
    margin: float  #: chosen
    best: float  #: if the best candidate of every decision were known
    gained: float  #: by what the policy chooses
    playbook: float  #: by what the playbook chooses
    harmed: float  #: share of the decisions in which the choice lost more than 0.01 of J
    waited: float  #: share of the decisions in which the policy waits
    departed: float  #: share of the decisions in which it does something else than the playbook


def teach(lessons: Lessons, *, seed: int, scenarios: list[str]) -> tuple[LearnedPolicy, Report]:
    """Return a policy that has learned the lessons, and how well it can be expected to do.

    Parameters
    ----------
    lessons
        Of one or several scenarios.
    seed
        Of the randomness in fitting the trees.
    scenarios
        Digests of the scenarios that they come from, for the record.

    Raises
    ------
    InputError
        If there is no arm with enough lessons.
    """
    decisions = int(lessons.group.max(initial=-1)) + 1
    if decisions < _FEWEST:
        raise InputError(f"at least {_FEWEST} decisions are needed to learn from, got {decisions}: play more episodes")
    fold = _folds(lessons, seed)
    guessed = np.full(lessons.gain.size, np.nan)
    for part in range(_FOLDS):
        held = fold == part
        guessed[held] = _fit(lessons, ~held, seed).predict(lessons.inputs[held])
    report = _judge(lessons, guessed)
    policy = LearnedPolicy(threshold=report.threshold, margin=report.margin)
    policy.trees = _fit(lessons, np.ones(fold.size, np.bool_), seed)
    policy.taught = {"scenarios": scenarios, "decisions": report.decisions, "candidates": report.candidates}
    return policy, report


def _folds(lessons: Lessons, seed: int) -> Ints:
    """Return (candidate,) a part for every run, drawn."""
    runs = np.unique(lessons.run)
    drawn = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).permutation(runs.size) % _FOLDS
    return drawn[np.searchsorted(runs, lessons.run)]


def _fit(lessons: Lessons, rows: npt.NDArray[np.bool_], seed: int) -> Trees:
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        n_estimators=_TREES, max_depth=_DEPTH, learning_rate=_RATE, min_samples_leaf=_LEAF, subsample=_SHARE,
        max_features=_COLUMNS, random_state=seed % 2**32,
    ).fit(lessons.inputs[rows].astype(np.float32), lessons.gain[rows])  # fmt: skip
    return _exported(model, float(lessons.gain[rows].mean()))


def _exported(model: Any, base: float) -> Trees:
    """Return a fitted model of scikit-learn as complete trees."""
    trees = [estimator.tree_ for estimator in model.estimators_[:, 0]]
    n_inner = 2**_DEPTH - 1
    feature, threshold = np.zeros((len(trees), n_inner), np.int64), np.zeros((len(trees), n_inner))
    value = np.zeros((len(trees), n_inner + 1))
    for number, tree in enumerate(trees):
        at = {0: 0}  # our node -> theirs; below a leaf of theirs all of ours are that leaf
        for node in range(n_inner):
            own = at[node]
            leaf = tree.children_left[own] < 0
            if not leaf:
                feature[number, node], threshold[number, node] = tree.feature[own], tree.threshold[own]
            at[2 * node + 1] = own if leaf else int(tree.children_left[own])
            at[2 * node + 2] = own if leaf else int(tree.children_right[own])
        value[number] = [_RATE * float(tree.value[at[n_inner + leaf], 0, 0]) for leaf in range(n_inner + 1)]
    return Trees(base, feature, threshold, value)


def _judge(lessons: Lessons, guessed: Floats) -> Report:
    """Choose threshold and margin, and say what the choices by these guesses gained."""
    groups = int(lessons.group.max()) + 1
    chosen, worth = {}, {}
    acting = np.zeros(groups, np.bool_)  # whether the playbook does anything
    acting[lessons.group[lessons.usual]] = True
    for margin in MARGINS:
        order = np.lexsort((guessed + margin * lessons.usual, lessons.group))
        best = order[np.append(np.flatnonzero(np.diff(lessons.group[order])), order.size - 1)]
        for threshold in THRESHOLDS:
            acts = guessed[best] > threshold
            gain = np.where(acts, lessons.gain[best], 0.0)
            worth[margin, threshold] = float((np.where(gain < 0, _AVERSION, 1.0) * gain).mean())
            chosen[margin, threshold] = gain, ~acts, (acts != acting) | (acts & ~lessons.usual[best])
    # of settings that are as good, the one that departs least from the playbook and waits most
    margin, threshold = max(worth, key=lambda setting: (round(worth[setting], 5), setting))
    gain, waited, departed = chosen[margin, threshold]
    best_gain = np.zeros(groups)
    np.maximum.at(best_gain, lessons.group, lessons.gain)
    return Report(
        decisions=groups,
        candidates=lessons.gain.size,
        threshold=threshold,
        margin=margin,
        best=float(best_gain.mean()),
        gained=float(gain.mean()),
        playbook=float(lessons.gain[lessons.usual].sum() / groups),
        harmed=float((gain < -0.01).mean()),
        waited=float(waited.mean()),
        departed=float(departed.mean()),
    )
