"""A flushed look-aside cache stays cold: misses overload the db, and an answer that comes too late fills nothing.

The cache hides from the db most of a load that it could never bear alone. Above some load it stays empty for good
after a flush, though the same system runs well when the cache is warm.
"""

__all__ = ["DB_RPS", "LOADS_RPS", "Found", "measure", "shop"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, goodput, picture, play, table
from simcore.codes import Param, Place
from simcore.engines.api import Modulation
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric

#: What the db can serve.
DB_RPS = 400
LOADS_RPS = (200, 300, 400, 500, 600, 650, 700, 800, 1000, 1400, 1800, 2200)
CASES = ("no flush", "flush", "flush, db queue of 150")
FLUSH_S, STEPS = 5.0, 40


@dataclass(frozen=True, slots=True)
class Found:
    """Per case and load; the loads run from the smallest to the largest."""

    goodput: npt.NDArray[np.float64]  #: (case, load, run) in the last 10 s
    hits: npt.NDArray[np.float64]  #: (case, load, window) hit ratio, mean of the runs


def shop(rate_rps: float, db_queue: int) -> Scenario:
    """Return app -> cache, and on a miss app -> db, which fills the cache if the app has not given up."""
    ask = {"call": {"to": "db.query", "timeout_s": 0.5}}
    look = {"to": "cache.get", "timeout_s": 0.5, "keys": {"count": 20_000, "zipf": 0.8}, "steps": [ask]}
    roomy = {"threads": 10_000, "cores": 64, "memory": {"limit_bytes": 2**40}}
    services = {
        "app": {**roomy, "operations": {"view": {"steps": [{"cached": look}]}}},
        "cache": {**roomy, "cache": {"slots": 12_000, "ttl_s": 600}, "operations": {"get": {}}},
        "db": {**roomy, "cores": 4, "threads": 4, "queue": db_queue,
               "operations": {"query": {"steps": [{"cpu": {"mean_s": 4 / DB_RPS}}]}}},
    }  # fmt: skip
    return build_scenario(
        {
            "name": "shop",
            "timing": {"step_s": 1, "steps": STEPS, "burn_in_steps": 5},
            "slo": {"latency_s": 0.6, "p95_s": 0.4},
            "services": services,
            "workload": {"rate_rps": rate_rps, "entries": [{"operation": "app.view"}], "timeout_s": 5},
        }
    )


def measure(n_runs: int, loads_rps: tuple[int, ...] = LOADS_RPS) -> Found:
    """Return goodput and hit ratio with and without a flush of the cache."""
    flush = Variant(Modulation(Param.FLUSH, Place.CONTENT, service=1), ((FLUSH_S, 1.0),))
    share = np.zeros((len(CASES), len(loads_rps), n_runs))
    hits = np.zeros((len(CASES), len(loads_rps), STEPS))
    for i, (variant, db_queue) in enumerate([(Variant(), 4000), (flush, 4000), (flush, 150)]):
        for k, load_rps in enumerate(loads_rps):
            played = play(shop(load_rps, db_queue), [variant], n_runs)
            share[i, k] = goodput(played, last=10)[0]
            hits[i, k] = played.metrics[0, :, :, 1, Metric.HIT_RATIO].mean(axis=0)
    return Found(share, hits)


def show(found: Found) -> None:
    """Print goodput and hit ratio at the end."""
    rows = []
    for k, load_rps in enumerate(LOADS_RPS):
        rows.append(
            [load_rps, *map(float, found.goodput[:, k].mean(axis=1)), *map(float, found.hits[:, k, -10:].mean(axis=1))]
        )
    table(["requests/s", *[f"goodput: {case}" for case in CASES], *[f"hits: {case}" for case in CASES]], rows)


def draw(found: Found) -> Any:
    """Draw goodput against load, and the hit ratio over time on both sides of the threshold."""
    figure, (left, right) = picture(2)
    for i, (case, style) in enumerate(zip(CASES, ("s-", "o-", "x--"), strict=True)):
        left.plot(LOADS_RPS, found.goodput[i].mean(axis=1), style, markersize=7 - 1.5 * i, label=case)
    left.axvline(DB_RPS, color="0.4", linestyle=":", label="the db alone")
    left.set(title="goodput", xlabel="load [requests/s]", ylabel="good share, 25 to 35 s later", ylim=(-0.03, 1.08))
    left.legend(fontsize=8)
    for load_rps in (400, 600, 700, 1400):
        right.plot(
            np.arange(STEPS) + 0.5 - FLUSH_S, found.hits[1, LOADS_RPS.index(load_rps)], label=f"{load_rps} requests/s"
        )
    right.set(title="flush, long db queue", xlabel="time since the flush [s]", ylabel="hit ratio", ylim=(-0.03, 1.2))
    right.legend(fontsize=8, loc="upper center", ncols=2)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=10)
