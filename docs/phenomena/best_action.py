"""Which action is best depends on the load.

The db loses capacity for four seconds; when they are long over, an operator does one thing. What heals a lightly
loaded system relapses in a busy one: the retries of those whom the action threw out are overload enough.
"""

__all__ = ["ACTIONS", "LOADS", "Found", "measure"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, pair, picture, play, table
from simcore.codes import ActionCode, Param, Place
from simcore.engines.api import EngineAction, Modulation
from simcore.windows import Total

LOADS = (0.30, 0.45, 0.60, 0.80)
FRONT, DB = 0, 1
ACT_S, LIFT_S, END_S = 20, 50, 100
#: Retries that are still to come when a restart is over, and a db that is cold then, make restarts fail.
SLOW_START = {"backoff_s": 0.2, "warmup": {"duration_s": 10, "factor": 1.5}}

#: Traffic is let in again after half a minute, in steps of a tenth.
_LIMIT = [EngineAction(0, ActionCode.LIMIT_TRAFFIC, float(ACT_S), amount=0.5)] + [
    EngineAction(0, ActionCode.LIMIT_TRAFFIC, LIFT_S + 2.0 * i, amount=0.6 + 0.1 * i) for i in range(5)
]
ACTIONS: dict[str, tuple[EngineAction, ...]] = {
    "noop": (),
    "restart the db": (EngineAction(0, ActionCode.RESTART, float(ACT_S), DB),),
    "admit half": tuple(_LIMIT),
    "clear the queue": (EngineAction(0, ActionCode.CLEAR_QUEUE, float(ACT_S), DB),),
    "no retries": (EngineAction(0, ActionCode.RETRY_BUDGET, float(ACT_S), FRONT, amount=0.0),),
    "double the db": (EngineAction(0, ActionCode.SCALE, float(ACT_S), DB, amount=1.0),),
}


@dataclass(frozen=True, slots=True)
class Found:
    """Good answers per offered request, means of the runs, (load, action)."""

    late: npt.NDArray[np.float64]  #: in the last 30 s: has it healed
    whole: npt.NDArray[np.float64]  #: from the action to the end: at what price


def measure(n_runs: int, loads: tuple[float, ...] = LOADS) -> Found:
    """Return the goodput of every action at every load."""
    dip = (Modulation(Param.SPEED, Place.OUTSIDE, service=DB), ((5.0, 0.3), (9.0, 1.0)))
    variants = [Variant(*dip, actions) for actions in ACTIONS.values()]
    totals = np.array([play(pair(load=load, steps=END_S, **SLOW_START), variants, n_runs).totals for load in loads])

    def share(first: int) -> npt.NDArray[np.float64]:
        sums = totals[:, :, :, first:].sum(axis=(2, 3))
        return np.asarray(sums[..., Total.GOOD] / sums[..., Total.OFFERED])

    return Found(share(END_S - 30), share(ACT_S))


def show(found: Found) -> None:
    """Print both, the price in brackets."""
    rows = []
    for i, action in enumerate(ACTIONS):
        cells = [f"{late:.2f} ({whole:.3f})" for late, whole in zip(found.late[:, i], found.whole[:, i], strict=True)]
        rows.append([action, *cells])
    table(["goodput at the end (since the action)", *[f"load {load:.2f}" for load in LOADS]], rows)


def draw(found: Found) -> Any:
    """Draw the table as a map of shades with its numbers."""
    figure, panels = picture(2)
    titles = ("last 30 s", "since the action")
    for axes, title, values in zip(panels, titles, (found.late, found.whole), strict=True):
        axes.imshow(values.T, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (column, row), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.5 else "white")
        axes.set(title=f"goodput, {title}", xlabel="utilisation of the db before", xticks=range(len(LOADS)))
        axes.set_xticklabels([f"{load:.2f}" for load in LOADS])
        axes.set_yticks(range(len(ACTIONS)), list(ACTIONS) if axes is panels[0] else [])
        axes.grid(visible=False)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=10)
