"""Retries without jitter come back together.

A db with hundreds of requests in flight restarts. All of them fail at the same instant, and back off by the same
rule; with full jitter (a wait drawn between nothing and the rule's) they spread.
"""

__all__ = ["JITTERS", "Found", "measure"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, picture, play, table
from simcore.codes import ActionCode
from simcore.engines.api import EngineAction
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric

JITTERS = (0.0, 0.5, 1.0)
STEP_S, STEPS, RESTART_S = 0.05, 120, 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the callee saw."""

    arrivals_rps: npt.NDArray[np.float64]  #: (jitter, window) mean of the runs
    peak_rps: npt.NDArray[np.float64]  #: (jitter, run) in the fullest window after the restart
    rejected: npt.NDArray[np.float64]  #: (jitter,) by the db, mean of the runs
    retries: npt.NDArray[np.float64]  #: (jitter,) in all, mean of the runs


def chain(jitter: float) -> Scenario:
    """Return front -> db with 500 requests in flight and room for 700; the db takes half a second to restart."""
    call = {"to": "db.query", "timeout_s": 3, "retries": 6, "backoff_s": 0.1, "backoff_limit_s": 3.2, "jitter": jitter}
    roomy = {"threads": 10_000, "cores": 1000, "memory": {"limit_bytes": 2**40}}
    db = {**roomy, "threads": 700, "queue": 0, "startup_s": 0.5}
    return build_scenario(
        {
            "name": "chain",
            "timing": {"step_s": STEP_S, "steps": STEPS, "burn_in_steps": 60},
            "slo": {"latency_s": 5, "p95_s": 4},
            "services": {
                "front": {**roomy, "operations": {"view": {"steps": [{"call": call}]}}},
                "db": {**db, "operations": {"query": {"steps": [{"delay": {"mean_s": 1.0}}]}}},
            },
            "workload": {"rate_rps": 500, "entries": [{"operation": "front.view"}], "timeout_s": 10},
        }
    )


def measure(n_runs: int) -> Found:
    """Return what arrives at the db around a restart, with no, half and full jitter."""
    restart = Variant(actions=(EngineAction(0, ActionCode.RESTART, RESTART_S, service=1),))
    played = [play(chain(jitter), [restart], n_runs) for jitter in JITTERS]
    arrivals = np.array([p.metrics[0, :, :, 1, Metric.REQUEST_RATE_RPS] for p in played])
    rejected, retries = (
        np.array([p.metrics[0, :, :, 1, metric].sum(axis=1).mean() for p in played])
        for metric in (Metric.REJECTED, Metric.RETRIES)
    )
    after = round(RESTART_S / STEP_S)
    return Found(arrivals.mean(axis=1), arrivals[:, :, after:].max(axis=2), rejected, retries)


def show(found: Found) -> None:
    """Print the peaks."""
    peaks = found.peak_rps.mean(axis=1) * STEP_S
    rows = [list(map(float, row)) for row in zip(JITTERS, peaks, found.rejected, found.retries, strict=True)]
    table(["jitter", "most arrivals in 50 ms", "rejected", "retries in all"], rows)


def draw(found: Found) -> Any:
    """Draw the arrivals at the db."""
    figure, (axes,) = picture()
    time_s = (np.arange(STEPS) + 0.5) * STEP_S - RESTART_S
    for jitter, rate, name in zip(JITTERS, found.arrivals_rps, ("no jitter", "half", "full jitter"), strict=True):
        if jitter != 0.5:
            axes.plot(time_s, rate, label=name)
    axes.set(xlabel="time since the db's restart [s]", ylabel="arrivals at the db [1/s]", xlim=(-0.5, 4))
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=20)
