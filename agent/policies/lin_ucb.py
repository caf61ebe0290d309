"""LinUCB with disjoint linear models: one ridge regression per arm (Li, Chu, Langford and Schapire, 2010).

The context is numeric and names no service. Each arm's model predicts how far the reward lies from what the playbook
leads one to expect, so that it starts as the playbook and not from nothing. Models change between rounds only.
"""

__all__ = ["FEATURES", "LinUcbPolicy"]

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Decision, Situation
from agent.policies.arms import ARMS, Arms
from agent.policies.base import check_owner
from agent.policies.context import CONTEXT, context
from agent.policies.experience import prior
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology

Floats = npt.NDArray[np.float64]

#: Features that the models see besides a constant.
FEATURES = (
    "system_lateness", "system_errors", "system_load", "system_amplification", "system_admitted", "system_worsening",
    "cpu", "memory", "errors_now", "is_cache", "is_spared", "is_workload", "changed", "skew", "busy_skew",
    "attempts_lost", "hits_falling", "own_p95_s", "own_error_rate", "own_cpu_util", "own_memory_frac",
    "own_request_rate_rps", "own_timeouts", "own_retries", "own_hit_ratio", "own_replicas_up", "callers_pool_waiting",
)  # fmt: skip
_COLUMNS = [CONTEXT.index(name) for name in FEATURES]
_WIDTH = 1 + len(FEATURES)
_UPPER = np.triu_indices(_WIDTH)


class LinUcbPolicy:
    """Learns, from numbers that describe an incident, what each kind of action would pay."""

    name: ClassVar[str] = "lin_ucb"

    def __init__(self, *, alpha: float = 0.1, ridge: float = 3.0) -> None:
        """Start without experience.

        Parameters
        ----------
        alpha
            Factor of the confidence radius, >= 0.
        ridge
            Pulls that the playbook's expectation is worth, > 0.

        Raises
        ------
        InputError
            If one of them is out of range.
        """
        if not (alpha >= 0 and 0 < ridge < math.inf):
            raise InputError(f"lin_ucb: alpha >= 0 and ridge > 0 must hold, got {alpha} and {ridge}")
        self.alpha, self.ridge, self.explores = alpha, ridge, True
        #: (arm, feature, feature) sums of outer products and (arm, feature) of contexts times surplus rewards
        self._squares = np.zeros((len(ARMS), _WIDTH, _WIDTH))
        self._surplus = np.zeros((len(ARMS), _WIDTH))
        self._invert()

    def _invert(self) -> None:
        self._inverse = np.linalg.inv(self._squares + self.ridge * np.eye(_WIDTH))
        self._theta = np.einsum("aij,aj->ai", self._inverse, self._surplus)

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""
        self._topology = topology
        self._arms = Arms(topology, actions)

    def freeze(self) -> None:
        """Stop exploring: take the arm with the largest expectation."""
        self.explores = False

    def decide(self, situation: Situation) -> Choices:
        """Choose for every row, with the experience of earlier rounds only."""
        bound = self._arms.bind(situation)
        signature, rows = situation.signature, np.arange(situation.runs.size)
        seen = context(
            self._topology, situation.observation, situation.history, situation.runs, signature.target
        )  # fmt: skip
        x = np.column_stack([np.ones(rows.size), seen[:, _COLUMNS]])
        expected = np.array([prior(signature.key(row, self._topology.services)) for row in range(rows.size)])
        expected = expected.reshape(rows.size, len(ARMS))
        # a sum per row, not one product of matrices, whose rounding may depend on the number of rows
        mean = expected + np.array([(self._theta * row).sum(axis=1) for row in x]).reshape(expected.shape)
        bonus = np.array([np.sqrt(((self._inverse * row).sum(axis=2) * row).sum(axis=1)) for row in x])
        best = mean + self.alpha * bonus.reshape(mean.shape) if self.explores else mean
        arm = np.argmax(np.where(bound >= 0, best, -np.inf), axis=1)
        score = mean[rows, arm]
        return Choices(
            bound[rows, arm], np.ones(rows.size), score,
            lambda row: f"{ARMS[arm[row]]} expects {score[row]:.2f}, the playbook alone {expected[row, arm[row]]:.2f}",
            context=np.column_stack([x, expected[rows, arm], arm]),
        )  # fmt: skip

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn from the judged decisions of a round, in order of runs."""
        for decision in decisions:
            if math.isnan(decision.reward) or len(decision.context) != _WIDTH + 2:
                continue
            x, expected, arm = np.array(decision.context[:_WIDTH]), decision.context[-2], int(decision.context[-1])
            self._squares[arm] += np.outer(x, x)
            self._surplus[arm] += (decision.reward - expected) * x
        self._invert()

    def state(self) -> dict[str, Any]:
        """Return all sums, JSON-able; of the symmetric ones the upper half."""
        pulled = [arm for arm in range(len(ARMS)) if self._squares[arm].any()]
        return {
            "version": 1,
            "name": self.name,
            "alpha": self.alpha,
            "ridge": self.ridge,
            "arms": list(ARMS),
            "features": list(FEATURES),
            "squares": {ARMS[arm]: self._squares[arm][_UPPER].tolist() for arm in pulled},
            "surplus": {ARMS[arm]: self._surplus[arm].tolist() for arm in pulled},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this policy's, or damaged.
        """
        check_owner(state, self.name)
        for key, known in (("arms", list(ARMS)), ("features", list(FEATURES))):
            if state.get(key) != known:
                raise InputError(f"policy state: {key} must be {', '.join(known)}, got {state.get(key)}")
        try:
            made = LinUcbPolicy(alpha=float(state["alpha"]), ridge=float(state["ridge"]))
            for name, upper in state["squares"].items():
                arm = ARMS.index(name)
                made._squares[arm][_UPPER] = np.array(upper, np.float64)
                made._squares[arm] = np.triu(made._squares[arm]) + np.triu(made._squares[arm], 1).T
                made._surplus[arm] = np.array(state["surplus"][name], np.float64)
            sound = bool(np.isfinite(made._squares).all() and np.isfinite(made._surplus).all())
            made._invert()
        except (KeyError, TypeError, ValueError, AttributeError, np.linalg.LinAlgError) as error:
            raise InputError(f"policy state: missing or wrong entry ({error})") from None
        if not sound:
            raise InputError("policy state: all sums must be finite")
        self.alpha, self.ridge = made.alpha, made.ridge
        self._squares, self._surplus = made._squares, made._surplus
        self._invert()
