"""One slow replica of ten raises p99 and leaves p50 alone.

It answers its health checks, so it keeps its tenth of the traffic. The median does not see it; the skew between
replicas does.
"""

__all__ = ["SPEEDS", "measure"]

from typing import Any

import numpy as np
import numpy.typing as npt

from docs.phenomena.common import Variant, cli, picture, play, table
from simcore.codes import Param, Place
from simcore.engines.api import Modulation
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Metric

SPEEDS = (1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.22)
BALANCERS = ("round_robin", "least_outstanding")
QUANTILES = (Metric.P50_S, Metric.P95_S, Metric.P99_S)


def fleet(balancer: str) -> Scenario:
    """Return ten replicas at a fifth of what they can do."""
    ten = {"replicas": {"initial": 10, "min": 1, "max": 10}, "threads": 64, "queue": 1000, "balancer": balancer}
    return build_scenario(
        {
            "name": "fleet",
            "timing": {"step_s": 20, "steps": 4, "burn_in_steps": 1},
            "network": {"mean_s": 0.001},
            "services": {"api": {**ten, "operations": {"get": {"steps": [{"cpu": {"mean_s": 0.01}}]}}}},
            "workload": {"rate_rps": 200, "entries": [{"operation": "api.get"}]},
        }
    )


def measure(n_runs: int, speeds: tuple[float, ...] = SPEEDS) -> npt.NDArray[np.float64]:
    """Return p50, p95 and p99 at the client from 20 s after replica 3 got slower, (balancer, speed, quantile), s."""
    gray = Modulation(Param.SPEED, Place.NODE, service=0, replica=3)
    cases = [Variant(gray, ((0.0, speed),)) for speed in speeds]
    seen = [play(fleet(balancer), cases, n_runs).metrics[:, :, 1:, 1, QUANTILES] for balancer in BALANCERS]
    return np.array([metrics.mean(axis=(1, 2)) for metrics in seen])


def show(found: npt.NDArray[np.float64]) -> None:
    """Print the quantiles in milliseconds."""
    header = ["speed", *[f"{q} {b} [ms]" for b in BALANCERS for q in ("p50", "p95", "p99")]]
    table(header, [[speed, *map(float, 1e3 * found[:, i].ravel())] for i, speed in enumerate(SPEEDS)])


def draw(found: npt.NDArray[np.float64]) -> Any:
    """Draw the quantiles against the speed of the slow replica."""
    figure, panels = picture(2)
    for axes, balancer, quantiles in zip(panels, BALANCERS, found, strict=True):
        for name, values, mark in zip(("p50", "p95", "p99"), quantiles.T, "os^", strict=True):
            axes.plot(SPEEDS, 1e3 * values, marker=mark, markersize=4, label=name)
        axes.set(xlabel="speed of one replica of ten", ylabel="latency at the client [ms]", yscale="log")
        axes.set(title=balancer.replace("_", " "), xlim=(1.03, 0.19), ylim=(5, 1000))
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.legend(loc="upper left", fontsize=8)
    return figure


if __name__ == "__main__":
    cli(measure, show, draw, n_runs=20)
