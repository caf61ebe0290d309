"""A policy that was taught what actions are worth, by trying them on forks of simulated runs.

For every kind of action there is a model of gradient-boosted trees (Friedman, 2001). It predicts how much J the action
gains over waiting, from what the service and its surroundings look like; nothing in that names a service or a system.
Candidates are all arms at the service at fault and at the next in rank. The best one is taken if its predicted gain
is above a threshold, otherwise the policy waits: it abstains when it is unsure. Training is
``agent.evaluation.lessons``; nothing is learned online.
"""

__all__ = ["INPUTS", "RANKS", "Candidates", "LearnedPolicy", "Trees", "candidates"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import PATTERNS, Choices, Decision, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.context import CONTEXT, context
from agent.policies.signature import signatures
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Services that are looked at: the one to act on, and the next ones in the diagnosis' ranking.
RANKS = 3
_MORE = ("rank", "confidence", "again", "late", "failing", "cost", "delay_s")
#: Names of the inputs of a model.
INPUTS = (*CONTEXT, *(f"pattern_{name}" for name in PATTERNS), *(f"blocked_{name}" for name in ARMS), *_MORE)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What might be done in the decisions of a situation, one row a candidate; noop is none of them."""

    row: Ints  #: (candidate,) row of the situation
    arm: Ints  #: (candidate,)
    action: Ints  #: (candidate,) number
    rank: Ints  #: (candidate,) 0: at the service to act on, 1, ..: at one further down
    inputs: Floats  #: (candidate, input), columns ``INPUTS``


def candidates(situation: Situation, topology: Topology, actions: ActionTable, arms: Arms) -> Candidates:
    """Return the candidates of a situation, by row, rank and arm; an action is named once a row, at its first rank."""
    services = _services(situation, topology)
    parts: list[tuple[Ints, Ints, Ints, Ints, Floats]] = []
    for rank in range(services.shape[1]):
        at = services[:, rank]
        bound = arms.bind_to(situation, np.maximum(at, 0))
        anything = arms.bind_to(replace(situation, allowed=np.ones_like(situation.allowed)), np.maximum(at, 0))
        seen = _inputs(situation, topology, at, (bound < 0) & (anything >= 0), rank)
        row, arm = np.nonzero((bound > 0) & (at >= 0)[:, None])
        action = bound[row, arm]
        more = np.column_stack([actions.cost[action], actions.delay_s[action]])
        parts.append((row, arm, action, np.full(row.size, rank), np.column_stack([seen[row], more])))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    row, arm, action, rank_of = columns[:4]
    order = np.lexsort((arm, rank_of, row))
    first = np.sort(np.unique(row[order] * len(actions) + action[order], return_index=True)[1])
    return Candidates(*(column[order][first] for column in columns))


def _services(situation: Situation, topology: Topology) -> Ints:
    """Return (row, rank) the services to look at; the busiest stands in for the workload, -1 for there is none."""
    n = situation.runs.size
    utilisation = np.nan_to_num(situation.observation.metrics[situation.runs, :-1, Metric.CPU_UTIL], nan=-1.0)
    first = np.where(situation.signature.target >= 0, situation.signature.target, np.argmax(utilisation, axis=1))
    found = np.full((n, min(RANKS, topology.n_services)), -1, np.int64)
    for row in range(n):
        others = [s for s in situation.diagnosis.ranked[row].tolist() if s >= 0 and s != first[row]]
        listed = [int(first[row]), *others][: found.shape[1]]
        found[row, : len(listed)] = listed
    return found


def _inputs(situation: Situation, topology: Topology, at: Ints, blocked: npt.NDArray[np.bool_], rank: int) -> Floats:
    """Return (row, input) of what is looked at, all but the columns of the action itself."""
    observation, history, runs = situation.observation, situation.history, situation.runs
    seen = signatures(topology, observation, history, runs, at, situation.signature.again)
    patterns = seen.pattern[:, None] == np.arange(len(PATTERNS))
    broken = situation.signature.broken
    return np.column_stack([
        context(topology, observation, history, runs, at), patterns, blocked, np.full(at.size, float(rank)),
        situation.diagnosis.confidence, situation.signature.again, broken & 1, broken >> 1,
    ]).astype(np.float64)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees of one depth, complete: a node that was never split sends everything to its left."""

    base: float  #: before the first tree
    feature: Ints  #: (tree, inner node) column of the inputs, nodes level by level
    threshold: Floats  #: (tree, inner node) left if the input is <= this
    value: Floats  #: (tree, leaf) what a tree adds

    def predict(self, inputs: Floats) -> Floats:
        """Return (row,) of (row, input)."""
        n_inner = self.feature.shape[1]
        rows, tree = np.arange(inputs.shape[0])[:, None], np.arange(self.feature.shape[0])[None, :]
        node = np.zeros((inputs.shape[0], self.feature.shape[0]), np.int64)
        for _ in range((n_inner + 1).bit_length() - 1):
            right = inputs[rows, self.feature[tree, node]] > self.threshold[tree, node]
            node = 2 * node + 1 + right
        # a sum per row: the rounding of one over a matrix may depend on the number of rows
        added = np.array([row.sum() for row in self.value[tree, node - n_inner]])
        return self.base + added.reshape(inputs.shape[0])

    def plain(self) -> dict[str, Any]:
        """Return it JSON-able."""
        arrays = {name: getattr(self, name).tolist() for name in ("feature", "threshold", "value")}
        return {"base": self.base, **arrays}

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "Trees":
        """Return what ``plain`` returned.

        Raises
        ------
        InputError
            If it is damaged.
        """
        try:
            made = cls(
                float(plain["base"]),
                np.array(plain["feature"], np.int64),
                np.array(plain["threshold"], np.float64),
                np.array(plain["value"], np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        n_inner = made.feature.shape[1] if made.feature.ndim == 2 else 0
        fits = made.feature.shape == made.threshold.shape and made.value.shape == (len(made.feature), n_inner + 1)
        if not fits or n_inner == 0 or n_inner & (n_inner + 1):
            raise InputError("policy state: trees must be complete, with one leaf more than inner nodes")
        sound = np.isfinite(made.base) and np.isfinite(made.threshold).all() and np.isfinite(made.value).all()
        if not sound or made.feature.min() < 0 or made.feature.max() >= len(INPUTS):
            raise InputError(f"policy state: trees need finite numbers and inputs from 0 to {len(INPUTS) - 1}")
        return made


class LearnedPolicy:
    """Takes the action whose predicted gain over waiting is largest, if it is above the threshold."""

    name: ClassVar[str] = "learned"
    from_forks: ClassVar[bool] = True  #: without its state it knows nothing, and playing teaches it nothing

    def __init__(self, *, threshold: float = 0.0) -> None:
        """Start untaught: it waits until a state is loaded.

        Parameters
        ----------
        threshold
            Smallest predicted gain that is worth acting for, in units of J, >= 0.

        Raises
        ------
        InputError
            If it is negative.
        """
        if not threshold >= 0:
            raise InputError(f"learned: threshold must be >= 0, got {threshold}")
        self.threshold = threshold
        self.models: dict[str, Trees] = {}
        self.taught: dict[str, Any] = {}  #: where its lessons come from, for the record

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology, self._actions, self._arms = topology, actions, Arms(topology, actions)

    def freeze(self) -> None:
        """Change nothing: there is no exploration."""

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn nothing: what it knows comes from forks."""

    def gains(self, found: Candidates) -> Floats:
        """Return (candidate,) the predicted gain over waiting; -inf for arms that there was no lesson on."""
        gain = np.full(found.arm.size, -np.inf)
        for arm in np.unique(found.arm).tolist():
            model = self.models.get(ARMS[arm])
            if model is not None:
                gain[found.arm == arm] = model.predict(found.inputs[found.arm == arm])
        return gain

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        n = situation.runs.size
        found = candidates(situation, self._topology, self._actions, self._arms)
        gain = self.gains(found)
        action, score = np.zeros(n, np.int64), np.zeros(n)
        best = [("nothing is worth trying", 0.0)] * n
        for place in np.argsort(-gain, kind="stable")[::-1].tolist():
            row = int(found.row[place])
            best[row] = (self._actions.names[found.action[place]], float(gain[place]))
            if gain[place] > self.threshold:
                action[row], score[row] = found.action[place], gain[place]

        def explain(row: int) -> str:
            name, worth = best[row]
            if action[row] > 0:
                return f"{name} is predicted to gain {worth:.4f} of J over waiting"
            return f"waits: at best {name}, predicted to gain {max(worth, 0.0):.4f} of J"

        return Choices(action, np.ones(n), score, explain)

    def state(self) -> dict[str, Any]:
        """Return the models, JSON-able."""
        return {
            "version": 1,
            "name": self.name,
            "threshold": self.threshold,
            "inputs": list(INPUTS),
            "taught": self.taught,
            "models": {arm: self.models[arm].plain() for arm in sorted(self.models)},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this policy's, or damaged.
        """
        if state.get("name") != self.name or state.get("version") != 1:
            raise InputError(
                f"policy state: expected {self.name} version 1, got {state.get('name')} {state.get('version')}"
            )
        if state.get("inputs") != list(INPUTS):
            raise InputError("policy state: inputs are not those of this version; train the policy anew")
        try:
            made = LearnedPolicy(threshold=float(state["threshold"]))
            made.models = {str(arm): Trees.read(plain) for arm, plain in state["models"].items()}
            made.taught = dict(state["taught"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        if unknown := set(made.models) - set(ARMS):
            raise InputError(f"policy state: models of unknown arms: {', '.join(sorted(unknown))}")
        self.threshold, self.models, self.taught = made.threshold, made.models, made.taught
