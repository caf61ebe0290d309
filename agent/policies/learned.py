"""A policy that was taught what actions are worth, by trying them on forks of simulated runs.

Boosted trees (Friedman, 2001) predict how much J an action gains over waiting, from what the service and its
surroundings look like and from what the playbook says of it; nothing in that names a service or a system. Candidates
are all arms at the service at fault and at the next in rank. The policy departs from the playbook only for a
candidate that is predicted to be better by a margin, and it waits unless the gain is above a threshold: it abstains
when it is unsure. Training is ``agent.evaluation.lessons``; nothing is learned online.
"""

__all__ = ["BELIEF", "INPUTS", "RANKS", "Candidates", "LearnedPolicy", "Trees", "candidates"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import PATTERNS, Choices, Decision, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import check_owner
from agent.policies.context import CONTEXT, context
from agent.policies.playbook import PLAYBOOK, Playbook
from agent.policies.signature import signatures
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Services that are looked at: the one to act on, and the next ones in the diagnosis' ranking.
RANKS = 3
#: What is left of a predicted gain with every action of the incident that did not help.
BELIEF = 0.7
_MORE = ("rank", "confidence", "again", "late", "failing", "cost", "delay_s")
#: Names of the inputs of the trees.
INPUTS = (
    *CONTEXT,
    *(f"pattern_{name}" for name in PATTERNS),
    *(f"blocked_{name}" for name in ARMS),
    *_MORE,
    *(f"arm_{name}" for name in ARMS),
    "page",
    "playbook",
)
#: Where the playbook's page for a pattern has an arm, (pattern, arm); the number of arms where it has not.
_PAGES = np.array([
    [PLAYBOOK[pattern].index(arm) if arm in PLAYBOOK[pattern] else len(ARMS) for arm in ARMS] for pattern in PATTERNS
], np.float64)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidates:
    """What might be done in the decisions of a situation, one row a candidate; noop is none of them."""

    row: Ints  #: (candidate,) row of the situation
    arm: Ints  #: (candidate,)
    action: Ints  #: (candidate,) number
    rank: Ints  #: (candidate,) 0: at the service to act on, 1, ..: at one further down
    inputs: Floats  #: (candidate, input), columns ``INPUTS``
    usual: npt.NDArray[np.bool_]  #: (candidate,) whether it is what the playbook would do


def candidates(situation: Situation, topology: Topology, actions: ActionTable, arms: Arms) -> Candidates:
    """Return the candidates of a situation, by row, rank and arm; an action is named once a row, at its first rank."""
    services = _services(situation, topology)
    ranks = services.shape[1]
    # every service looked at is a row of its own, so that all are described at once
    place = np.flatnonzero(services.ravel() >= 0)
    row_of, rank_of, at = place // ranks, place % ranks, services.ravel()[place]
    usual = Playbook.with_arms(arms).decide(situation).action[row_of]
    looked = situation.part(row_of)
    bound = arms.bind_to(looked, at)
    anything = arms.bind_to(replace(looked, allowed=np.ones_like(looked.allowed)), at)
    seen, pattern = _inputs(looked, topology, at, (bound < 0) & (anything >= 0), rank_of)
    look, arm = np.nonzero(bound > 0)
    action = bound[look, arm]
    is_usual = action == usual[look]
    inputs = np.column_stack([
        seen[look], actions.cost[action], actions.delay_s[action], arm[:, None] == np.arange(len(ARMS)),
        _PAGES[pattern[look], arm], is_usual,
    ]).astype(np.float64)  # fmt: skip
    columns: tuple[npt.NDArray[Any], ...] = (row_of[look], arm, action, rank_of[look], inputs, is_usual)
    first = np.sort(np.unique(row_of[look] * len(actions) + action, return_index=True)[1])
    return Candidates(*(column[first] for column in columns))


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


def _inputs(
    situation: Situation, topology: Topology, at: Ints, blocked: npt.NDArray[np.bool_], rank: Ints
) -> tuple[Floats, Ints]:
    """Return (row, input) of what is looked at, all but the columns of the action itself, and (row,) its pattern."""
    observation, history, runs = situation.observation, situation.history, situation.runs
    pattern = signatures(topology, observation, history, runs, at, situation.signature.again).pattern
    broken = situation.signature.broken
    inputs = np.column_stack([
        context(topology, observation, history, runs, at), pattern[:, None] == np.arange(len(PATTERNS)), blocked,
        rank, situation.diagnosis.confidence, situation.signature.again, broken & 1,
        broken >> 1,
    ]).astype(np.float64)  # fmt: skip
    return inputs, pattern


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
        inputs = inputs.astype(np.float32)  # as the trees were grown
        rows, tree = np.arange(inputs.shape[0])[:, None], np.arange(self.feature.shape[0])[None, :]
        node = np.zeros((inputs.shape[0], self.feature.shape[0]), np.int64)
        for _ in range((n_inner + 1).bit_length() - 1):
            right = inputs[rows, self.feature[tree, node]] > self.threshold[tree, node]
            node = 2 * node + 1 + right
        # one after the other: the rounding of a sum over a matrix may depend on the number of rows
        added: Floats = np.cumsum(self.value[tree, node - n_inner], axis=1)[:, -1]
        return self.base + added

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
    """Takes the action whose predicted gain over waiting is largest, if it is above the threshold.

    Every action of an incident that did not help takes from what is believed of the next one (``BELIEF``): some faults
    nobody can mend, and trees that see one moment do not know what was tried in vain.

    While the SLO holds it waits, as the playbook does: it is taught on decisions of incidents that users notice.
    """

    name: ClassVar[str] = "learned"
    from_forks: ClassVar[bool] = True  #: without its state it knows nothing, and playing teaches it nothing

    def __init__(self, *, threshold: float = 0.0, margin: float = 0.0) -> None:
        """Start untaught: it waits until a state is loaded.

        Parameters
        ----------
        threshold
            Predicted gain over waiting from which it acts, in units of J.
        margin
            By how much another action must be predicted to be better than the playbook's, >= 0.

        Raises
        ------
        InputError
            If one is not finite, or the margin negative.
        """
        if not (np.isfinite(threshold) and 0 <= margin < np.inf):
            raise InputError(f"learned: a finite threshold and margin >= 0 are needed, got {threshold} and {margin}")
        self.threshold, self.margin = threshold, margin
        self.trees: Trees | None = None
        self.taught: dict[str, Any] = {}  #: where its lessons come from, for the record

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology, self._actions, self._arms = topology, actions, Arms(topology, actions)

    def freeze(self) -> None:
        """Change nothing: there is no exploration."""

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn nothing: what it knows comes from forks."""

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row."""
        n, noticed = situation.runs.size, situation.signature.noticed
        action, score = np.zeros(n, np.int64), np.zeros(n)
        if self.trees is None:
            return Choices(action, np.ones(n), score, lambda row: "has learned nothing yet and waits")
        rows = np.flatnonzero(noticed)  # of the others nothing is asked
        found = candidates(situation.part(rows), self._topology, self._actions, self._arms)
        row_of = rows[found.row]
        gain = self.trees.predict(found.inputs) * (BELIEF ** situation.in_vain[row_of])
        best = [-1] * n
        for place in np.argsort(-(gain + self.margin * found.usual), kind="stable")[::-1].tolist():
            best[int(row_of[place])] = place
        for row, place in enumerate(best):
            if place >= 0 and gain[place] > self.threshold:
                action[row], score[row] = found.action[place], gain[place]

        def explain(row: int) -> str:
            if not noticed[row]:
                return "waits until users notice"
            place = best[row]
            if place < 0:
                return "waits: nothing else is possible"
            name = self._actions.names[found.action[place]] + (" (as the playbook)" if found.usual[place] else "")
            said = f"{name} is predicted to gain {gain[place]:+.4f} of J over waiting"
            return said if action[row] > 0 else f"waits: {said}"

        return Choices(action, np.ones(n), score, explain)

    def state(self) -> dict[str, Any]:
        """Return what it was taught, JSON-able."""
        return {
            "version": 1,
            "name": self.name,
            "threshold": self.threshold,
            "margin": self.margin,
            "inputs": list(INPUTS),
            "taught": self.taught,
            "trees": None if self.trees is None else self.trees.plain(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this policy's, or damaged.
        """
        check_owner(state, self.name)
        if state.get("inputs") != list(INPUTS):
            raise InputError("policy state: inputs are not those of this version; train the policy anew")
        try:
            made = LearnedPolicy(threshold=float(state["threshold"]), margin=float(state["margin"]))
            made.trees = None if state["trees"] is None else Trees.read(state["trees"])
            made.taught = dict(state["taught"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        self.threshold, self.margin = made.threshold, made.margin
        self.trees, self.taught = made.trees, made.taught
