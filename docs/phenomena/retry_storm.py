"""A retry storm outlives its trigger, if the trigger was long enough.

The db loses seven tenths of its capacity for a moment. Whoever waits too long gives up and asks again, and the db
works on for those who have left. Past some length of the dip it never catches up.
"""

__all__ = ["DIPS_S", "SIZES", "fluid_threshold_s", "measure"]

from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, goodput, pair, picture, play, table
from simcore.codes import Param, Place
from simcore.engines.api import Modulation

DIPS_S = (0.2, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2, 1.4)
#: Cores of the db; each serves 100 requests/s. The larger system is the smoother one.
SIZES = (4, 16)
LOAD, LEFT, TIMEOUT_S = 0.8, 0.3, 0.5


def fluid_threshold_s() -> float:
    """Return the dip at which the first caller gives up, if arrivals and service were a smooth flow.

    Who arrives a seconds into a dip of length D finds (load - left) * a of work and is done when the dip ends if
    that is left * (D - a): a = D * left / load. Nobody waits longer than that one, D - a.
    """
    return TIMEOUT_S / (1.0 - LEFT / LOAD)


def measure(n_runs: int, dips_s: tuple[float, ...] = DIPS_S) -> npt.NDArray[np.float64]:
    """Return the share of runs that have collapsed 8 s after the dip, (size, dip)."""
    slow = Modulation(Param.SPEED, Place.OUTSIDE, service=1)
    dips = [Variant(slow, ((4.0, LEFT), (4.0 + dip_s, 1.0))) for dip_s in dips_s]
    scenarios = [pair(load=LOAD, cores=cores, timeout_s=TIMEOUT_S, steps=16) for cores in SIZES]
    return np.array([(goodput(play(scenario, dips, n_runs), last=4) < 0.5).mean(axis=1) for scenario in scenarios])


def show(collapsed: npt.NDArray[np.float64]) -> None:
    """Print the share of collapsed runs."""
    table(["dip [s]", *[f"{100 * n} req/s" for n in SIZES]], [[d, *map(float, collapsed[:, i])] for i, d in enumerate(DIPS_S)])
    print(f"first timeout of a smooth flow at a dip of {fluid_threshold_s():.2f} s")


def draw(collapsed: npt.NDArray[np.float64]) -> Any:
    """Draw the chance of collapse against the length of the dip."""
    figure, (axes,) = picture()
    for cores, shares, mark in zip(SIZES, collapsed, "os", strict=True):
        axes.plot(DIPS_S, shares, marker=mark, markersize=4, label=f"{100 * cores} req/s")
    axes.axvline(fluid_threshold_s(), color="0.4", linestyle=":", label="smooth flow")
    axes.set(xlabel="length of the capacity dip [s]", ylabel="share of runs that never recover", ylim=(-0.03, 1.03))
    axes.legend(loc="upper left", fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=100)
