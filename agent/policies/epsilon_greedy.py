"""Epsilon-greedy over kinds of action, with experience kept by incident signature."""

__all__ = ["EpsilonGreedyPolicy"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.policies.experience import SignatureBandit
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]


class EpsilonGreedyPolicy(SignatureBandit):
    """Takes the arm with the largest mean, and with a fixed chance any open one."""

    name: ClassVar[str] = "epsilon_greedy"
    option: ClassVar[str] = "epsilon"

    def __init__(self, *, epsilon: float = 0.1) -> None:
        """Start without experience.

        Parameters
        ----------
        epsilon
            Chance of an arm at random, in [0, 1].

        Raises
        ------
        InputError
            If it is no probability.
        """
        if not 0 <= epsilon <= 1:
            raise InputError(f"epsilon_greedy: epsilon must lie in [0, 1], got {epsilon}")
        super().__init__(epsilon)

    def share(self, mean: Floats, weight: Floats, open_: npt.NDArray[np.bool_]) -> Floats:
        """Return (arm,) epsilon over all open arms, the rest for the best."""
        share = np.where(open_, self.value / np.count_nonzero(open_), 0.0)
        share[int(np.argmax(np.where(open_, mean, -np.inf)))] += 1.0 - self.value
        return share
