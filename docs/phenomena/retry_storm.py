"""A retry storm outlives its trigger, if the trigger was long enough.

The db loses seven tenths of its capacity for a moment. Whoever waits too long gives up and asks again, and the db
works on for those who have left. Past some length of the dip it never catches up.
"""

__all__ = ["DIPS_S", "REMEDIES", "SIZES", "Found", "fluid_threshold_s", "measure"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, goodput, pair, picture, play, table
from simcore.codes import Param, Place
from simcore.engines.api import Modulation
from simcore.model.scenario import Scenario

DIPS_S = (0.2, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2, 1.4)
#: Cores of the db; each serves 100 requests/s. The larger system is the smoother one.
SIZES = (4, 16)
LOAD, LEFT, TIMEOUT_S = 0.8, 0.3, 0.5
#: What is said to prevent it, tried on a dip of 5 s.
REMEDIES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no retries": {"retries": 0},
    "cancellation": {"cancellable": True},
    "newest first": {"discipline": "lifo"},
    "CoDel": {"discipline": "codel"},
}
SLOW = Modulation(Param.SPEED, Place.OUTSIDE, service=1)


@dataclass(frozen=True, slots=True)
class Found:
    """Share of the runs that have collapsed."""

    by_dip: npt.NDArray[np.float64]  #: (size, dip) 8 s after it
    by_remedy: npt.NDArray[np.float64]  #: (remedy,) 21 s after it


def fluid_threshold_s() -> float:
    """Return the dip at which the first caller gives up, if arrivals and service were a smooth flow.

    Who arrives a seconds into a dip of length D finds (load - left) * a of work and is done when the dip ends if
    that is left * (D - a): a = D * left / load. Nobody waits longer than that one, D - a.
    """
    return TIMEOUT_S / (1.0 - LEFT / LOAD)


def measure(n_runs: int, dips_s: tuple[float, ...] = DIPS_S) -> Found:
    """Return how often the system collapses, by the length of the dip and with remedies."""

    def collapsed(scenario: Scenario, dips_s: tuple[float, ...]) -> npt.NDArray[np.float64]:
        dips = [Variant(SLOW, ((4.0, LEFT), (4.0 + dip_s, 1.0))) for dip_s in dips_s]
        return np.asarray((goodput(play(scenario, dips, n_runs), last=4) < 0.5).mean(axis=1))

    by_dip = [collapsed(pair(load=LOAD, cores=cores, timeout_s=TIMEOUT_S, steps=16), dips_s) for cores in SIZES]
    by_remedy = [collapsed(pair(load=LOAD, steps=34, **remedy), (5.0,))[0] for remedy in REMEDIES.values()]
    return Found(np.array(by_dip), np.array(by_remedy))


def show(found: Found) -> None:
    """Print the shares of collapsed runs."""
    rows = [[dip_s, *map(float, shares)] for dip_s, shares in zip(DIPS_S, found.by_dip.T, strict=True)]
    table(["dip [s]", *[f"{100 * cores} req/s" for cores in SIZES]], rows)
    print(f"first timeout of a smooth flow at a dip of {fluid_threshold_s():.2f} s\n")
    table(["dip of 5 s", "collapsed"], [[name, float(x)] for name, x in zip(REMEDIES, found.by_remedy, strict=True)])


def draw(found: Found) -> Any:
    """Draw the chance of collapse against the length of the dip."""
    figure, (axes,) = picture()
    for cores, shares, mark in zip(SIZES, found.by_dip, "os", strict=True):
        axes.plot(DIPS_S, shares, marker=mark, markersize=4, label=f"{100 * cores} req/s")
    axes.axvline(fluid_threshold_s(), color="0.4", linestyle=":", label="smooth flow")
    axes.set(xlabel="length of the capacity dip [s]", ylabel="share of runs that never recover", ylim=(-0.03, 1.03))
    axes.legend(loc="upper left", fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=60)
