"""Clearing the queue helps after the trigger, and not before its end.

While the db is still slow, a cleared queue fills again within seconds. Once it has its capacity back, the same
action is all that it needs.
"""

__all__ = ["CLEARINGS_S", "DIP_S", "measure"]

from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import COLOURS, Variant, cli, goodput, pair, picture, play, table
from simcore.codes import ActionCode, Param, Place
from simcore.engines.api import EngineAction, Modulation

FROM_S, DIP_S, LOAD = 5.0, 10.0, 0.45
#: Seconds after the trigger began; it ends after ``DIP_S``.
CLEARINGS_S = (2.0, 4.0, 6.0, 8.0, 9.0, 9.5, 10.5, 11.0, 12.0, 14.0, 16.0, 18.0)


def measure(n_runs: int, clearings_s: tuple[float, ...] = CLEARINGS_S) -> npt.NDArray[np.float64]:
    """Return the goodput in the last 10 s, (instant of the clearing, run)."""
    slow, dip = Modulation(Param.SPEED, Place.OUTSIDE, service=1), ((FROM_S, 0.3), (FROM_S + DIP_S, 1.0))
    cases = [
        Variant(slow, dip, (EngineAction(0, ActionCode.CLEAR_QUEUE, FROM_S + clear_s, service=1),))
        for clear_s in clearings_s
    ]
    return goodput(play(pair(load=LOAD), cases, n_runs), last=10)


def show(found: npt.NDArray[np.float64]) -> None:
    """Print the goodput by the instant of the clearing."""
    rows = [[s, float(x.min()), float(x.mean())] for s, x in zip(CLEARINGS_S, found, strict=True)]
    table(["cleared [s after the trigger]", "worst goodput", "mean goodput"], rows)
    print(f"the trigger ends after {DIP_S:.0f} s")


def draw(found: npt.NDArray[np.float64]) -> Any:
    """Draw the goodput against the instant of the clearing."""
    figure, (axes,) = picture()
    axes.axvspan(0, DIP_S, color="0.9")
    axes.text(DIP_S / 2, 0.5, "the db is slow", ha="center")
    for clear_s, shares in zip(CLEARINGS_S, found, strict=True):
        axes.plot(
            [clear_s] * len(shares),
            shares,
            "o",
            color=COLOURS[0],
            alpha=0.25,
            markersize=4,
            label="runs" if clear_s == CLEARINGS_S[0] else None,
        )
    axes.plot(CLEARINGS_S, found.mean(axis=1), color=COLOURS[1], label="mean")
    axes.set(xlabel="queue cleared, seconds after the trigger began", ylabel="goodput at the end")
    axes.set(xlim=(0, CLEARINGS_S[-1] + 0.5), xticks=range(0, 19, 2), ylim=(-0.03, 1.08))
    axes.legend(loc="center right", fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=20)
