"""Two classics that follow the call graph from the system's entry to where the trouble is."""

__all__ = ["RandomWalk", "Traversal"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.diagnosers.ranking import ScoreRank
from agent.diagnosers.view import View

Floats = npt.NDArray[np.float64]

#: The walker starts anew at the entry with this probability at every step.
_RESTART = 0.15
#: Weight of a step back to a caller, as a share of a step forth.
_BACK = 0.2
#: Steps after which the walk is taken to have settled (``(1 - _RESTART) ** 40`` is below 0.2 %).
_ROUNDS = 40
#: A service is strange from so many spreads above normal on.
_STRANGE = 3.0


class RandomWalk(ScoreRank):
    """PageRank on the call graph, drawn to where the symptom's metrics are strange.

    The walk of MonitorRank (Kim et al., SIGMETRICS 2013): forth to a callee by the callee's harm, back to a caller by
    a share of the caller's, and staying where the harm is larger than that of all callees; it starts at the entry.
    """

    name: ClassVar[str] = "random_walk"
    parts: ClassVar[tuple[str, ...]] = ("share of a random walk from the entry",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1) the share of time that the walk spends at each service."""
        calls, entry = view.topology.calls, view.topology.entry
        harm = np.minimum(view.harm(), 50.0) + 0.01
        n = harm.shape[1]
        forth = calls[None] * harm[:, None, :]
        back = _BACK * calls.T[None] * harm[:, None, :]
        step = forth + back
        step[:, range(n), range(n)] = np.maximum(0.0, harm - forth.max(2))
        total = step.sum(2, keepdims=True)
        step = np.where(total > 0, step / np.where(total > 0, total, 1.0), 0.0)
        start = np.zeros(n)
        start[entry] = 1.0
        at = np.broadcast_to(start, harm.shape)
        for _ in range(_ROUNDS):
            moved = (at[:, :, None] * step).sum(1)
            at = moved + (1.0 - moved.sum(1, keepdims=True)) * start  # a dead end leads back to the entry
            at = (1.0 - _RESTART) * at + _RESTART * start
        return np.where((view.harm() > 0).any(1, keepdims=True), at, 0.0)[..., None]


class Traversal(ScoreRank):
    """The deepest strange services that an unbroken chain of strange callers leads to.

    Anomaly traversal as in PyRCA and CauseInfer (Chen et al., INFOCOM 2014): from the entry along the calls, as long
    as the callee is strange; those without a strange callee are the suspects, ordered by their harm.
    """

    name: ClassVar[str] = "traversal"
    parts: ClassVar[tuple[str, ...]] = ("the end of a chain of strange services",)

    def weigh(self, view: View) -> Floats:
        """Return (row, service, 1): 2 to 3 for the ends of chains, 1 to 2 for services on chains, else below 1."""
        calls = view.topology.calls
        harm = view.harm()
        strange = harm >= _STRANGE
        reached = np.zeros_like(strange)
        reached[:, view.topology.entry] = True
        for _ in range(harm.shape[1]):
            further = reached | ((reached[:, :, None] & calls).any(1) & strange)
            if (further == reached).all():
                break
            reached = further
        end = reached & ~(calls & strange[:, None, :]).any(2)
        score: Floats = harm / (harm + _STRANGE) + np.where(end, 2.0, np.where(reached, 1.0, 0.0))
        return np.where((harm > 0).any(1, keepdims=True), score, 0.0)[..., None]
