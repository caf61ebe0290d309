"""A short queue cannot be made metastable: what it holds is still worth serving.

If the queue holds less than the db serves within a timeout, whoever is served has not given up yet. The same dip
that collapses the db with a long queue does nothing lasting to it.
"""

__all__ = ["BOUND", "QUEUES", "measure"]

from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import COLOURS, Variant, cli, goodput, pair, picture, play, table
from simcore.codes import Param, Place
from simcore.engines.api import Modulation

QUEUES = (10, 25, 50, 100, 150, 175, 190, 200, 210, 225, 250, 300, 400, 800, 2000)
#: Requests that the db serves within a timeout: service rate x cores x timeout.
BOUND = 100 * 4 * 0.5
DIP_S = 3.0


def measure(n_runs: int, queues: tuple[int, ...] = QUEUES) -> npt.NDArray[np.float64]:
    """Return the goodput in the last 10 s, 17 s after a dip of 3 s to a third of the capacity, (queue, run)."""
    slow = Modulation(Param.SPEED, Place.OUTSIDE, service=1)
    dip = Variant(slow, ((4.0, 0.3), (4.0 + DIP_S, 1.0)))
    return np.array(
        [goodput(play(pair(load=0.8, queue=queue, steps=34), [dip], n_runs), last=10)[0] for queue in queues]
    )


def show(found: npt.NDArray[np.float64]) -> None:
    """Print the goodput long after the dip."""
    rows = [[q, float((x < 0.5).mean()), float(x.min()), float(x.mean())] for q, x in zip(QUEUES, found, strict=True)]
    table(["queue", "collapsed", "worst goodput", "mean goodput"], rows)
    print(f"service rate x cores x timeout = {BOUND:.0f}")


def draw(found: npt.NDArray[np.float64]) -> Any:
    """Draw every run's goodput against the length of the queue."""
    figure, (axes,) = picture()
    for queue, shares in zip(QUEUES, found, strict=True):
        axes.plot([queue] * len(shares), shares, "o", color=COLOURS[0], alpha=0.25, markersize=4)
    axes.plot(QUEUES, found.mean(axis=1), color=COLOURS[1], label="mean of the runs")
    axes.axvline(BOUND, color="0.4", linestyle=":", label="rate x cores x timeout")
    axes.set(
        xscale="log", xlabel="requests that may queue", ylabel="goodput, 17 to 27 s after the dip", ylim=(-0.03, 1.08)
    )
    axes.legend(loc="lower left", fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=40)
