"""Scaling up makes lock contention worse.

Every request holds one lock for a moment. Replicas add places to wait for it, and do not make it turn faster: with
enough of them everybody waits for longer than their callers do, and the lock is held for those who have left.
"""

__all__ = ["HOLD_S", "LOADS_RPS", "REPLICAS", "Found", "measure"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, goodput, picture, play, table
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric

REPLICAS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
HOLD_S, PLACES, TIMEOUT_S = 0.01, 16, 0.8
#: Below and above what the lock can do, 100 requests/s.
LOADS_RPS = (80, 130)


@dataclass(frozen=True, slots=True)
class Found:
    """Means of the runs, from the tenth second on, (load, replicas)."""

    good_rps: npt.NDArray[np.float64]  #: answers in time
    wait_s: npt.NDArray[np.float64]  #: time of a span at the service, by Little's law
    utilisation: npt.NDArray[np.float64]  #: of its CPU


def stock(rate_rps: float, replicas: int) -> Scenario:
    """Return front -> stock, where every reservation updates the same row."""
    call = {"to": "stock.reserve", "timeout_s": TIMEOUT_S, "retries": 1}
    section = {"lock": {"name": "row", "steps": [{"delay": {"mean_s": HOLD_S}}]}}
    steps = [{"cpu": {"mean_s": 0.004}}, section]
    roomy = {"threads": 10_000, "cores": 64, "memory": {"limit_bytes": 2**40}}
    many = {"replicas": {"initial": replicas, "min": 1, "max": 16}, "threads": PLACES // 2, "queue": PLACES // 2}
    return build_scenario(
        {
            "name": "stock",
            "timing": {"step_s": 1, "steps": 40, "burn_in_steps": 5},
            "slo": {"latency_s": 2, "p95_s": 2},
            "services": {
                "front": {**roomy, "operations": {"buy": {"steps": [{"call": call}]}}},
                "stock": {**many, "operations": {"reserve": {"steps": steps}}},
            },
            "workload": {"rate_rps": rate_rps, "entries": [{"operation": "front.buy"}], "timeout_s": 5},
        }
    )


def measure(n_runs: int, replicas: tuple[int, ...] = REPLICAS) -> Found:
    """Return goodput, wait and utilisation by the number of replicas, at both loads."""
    shape = (len(LOADS_RPS), len(replicas))
    good, wait, busy = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, load_rps in enumerate(LOADS_RPS):
        for k, count in enumerate(replicas):
            played = play(stock(load_rps, count), [Variant()], n_runs)
            service = played.metrics[0, :, 10:, 1]
            good[i, k] = load_rps * goodput(played, last=30).mean()
            wait[i, k] = service[..., Metric.IN_FLIGHT].mean() / (service[..., Metric.OK].mean())
            busy[i, k] = service[..., Metric.CPU_UTIL].mean()
    return Found(good, wait, busy)


def show(found: Found) -> None:
    """Print both loads."""
    for i, load_rps in enumerate(LOADS_RPS):
        print(f"{load_rps} requests/s, lock for {1 / HOLD_S:.0f}")
        rows = [
            [n, float(found.good_rps[i, k]), float(found.wait_s[i, k]), float(found.utilisation[i, k])]
            for k, n in enumerate(REPLICAS)
        ]
        table(["replicas", "good answers/s", "time at the service [s]", "CPU"], rows)


def draw(found: Found) -> Any:
    """Draw goodput and wait against the number of replicas."""
    figure, (left, right) = picture(2)
    for load_rps, good, wait, mark in zip(LOADS_RPS, found.good_rps, found.wait_s, "os", strict=True):
        left.plot(REPLICAS, good, marker=mark, markersize=4, label=f"{load_rps} requests/s")
        right.plot(REPLICAS, wait, marker=mark, markersize=4, label=f"{load_rps} requests/s")
    left.axhline(1 / HOLD_S, color="0.4", linestyle=":", label="what the lock can do")
    left.set(xlabel="replicas", ylabel="good answers [1/s]", ylim=(-3, 145), xticks=range(0, 17, 4))
    right.axhline(TIMEOUT_S, color="0.4", linestyle=":", label="the caller's timeout")
    right.set(xlabel="replicas", ylabel="time at the service [s]", xticks=range(0, 17, 4))
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=10)
