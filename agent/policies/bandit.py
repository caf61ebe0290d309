"""UCB1 over kinds of action, with experience kept by incident signature (Auer, Cesa-Bianchi and Fischer, 2002).

Departures from the paper, besides those of ``agent.policies.experience``:

- *Spreading.* A frozen UCB1 would pull one arm for a whole round. Instead the next ``SPREAD`` pulls are allotted as
  UCB1 would do them one by one if each returned the mean it expects.
- *Scale.* The confidence radius is ``exploration * sqrt(2 ln N / n)``; the paper has exploration 1, which suits
  rewards of variance 1/4 and many more pulls than a signature gets here.
"""

__all__ = ["SPREAD", "Ucb1Policy"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.policies.experience import SignatureBandit
from simcore.errors import InputError
from simcore.samplers import log

Floats = npt.NDArray[np.float64]

#: Pulls that are allotted in advance.
SPREAD = 24


class Ucb1Policy(SignatureBandit):
    """Learns which kind of action pays for which kind of incident."""

    name: ClassVar[str] = "bandit"
    option: ClassVar[str] = "exploration"

    def __init__(self, *, exploration: float = 0.05) -> None:
        """Start without experience.

        Parameters
        ----------
        exploration
            Factor of the confidence radius, >= 0.

        Raises
        ------
        InputError
            If it is negative.
        """
        if not exploration >= 0:
            raise InputError(f"bandit: exploration must be >= 0, got {exploration}")
        super().__init__(exploration)

    def share(self, mean: Floats, weight: Floats, open_: npt.NDArray[np.bool_]) -> Floats:
        """Return (arm,) the shares of the next pulls, each as if it returned its mean."""
        share, weight = np.zeros(mean.size), weight.copy()
        for _ in range(SPREAD):
            radius = 2.0 * log(1.0 + weight[open_].sum())
            bound = np.where(open_, mean + self.value * np.sqrt(radius / weight), -np.inf)
            best = int(np.argmax(bound))
            weight[best] += 1.0
            share[best] += 1.0 / SPREAD
        return share
