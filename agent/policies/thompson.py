"""Thompson sampling over kinds of action, with experience kept by incident signature (Thompson, 1933).

An arm's mean has a normal posterior around the expected reward, its standard deviation ``scale / sqrt(pulls)`` (as
Agrawal and Goyal, 2013, with a scale of its own: rewards lie in [0, 1]). The chance that an arm's draw is the largest
is estimated from ``DRAWS`` fixed standard normal vectors, and is the arm's share: the same choice as drawing once for
each run, with a propensity that is known.
"""

__all__ = ["DRAWS", "ThompsonPolicy"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.policies.arms import ARMS
from agent.policies.experience import SignatureBandit
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]

#: Draws from the posterior.
DRAWS = 512
_NORMAL = np.random.default_rng(np.random.SeedSequence(0x6D656E64, spawn_key=(1,))).standard_normal((DRAWS, len(ARMS)))


class ThompsonPolicy(SignatureBandit):
    """Takes every arm as often as it is likely to be the best."""

    name: ClassVar[str] = "thompson"
    option: ClassVar[str] = "scale"

    def __init__(self, *, scale: float = 0.15) -> None:
        """Start without experience.

        Parameters
        ----------
        scale
            Standard deviation of the mean of one pull, >= 0.

        Raises
        ------
        InputError
            If it is negative.
        """
        if not scale >= 0:
            raise InputError(f"thompson: scale must be >= 0, got {scale}")
        super().__init__(scale)

    def share(self, mean: Floats, weight: Floats, open_: npt.NDArray[np.bool_]) -> Floats:
        """Return (arm,) how often each arm has the largest draw."""
        drawn = np.where(open_, mean + self.value / np.sqrt(weight) * _NORMAL, -np.inf)
        return np.bincount(np.argmax(drawn, axis=1), minlength=mean.size) / DRAWS
