"""How bad a run is for its users, as the agent sees it."""

__all__ = ["severity_of"]

import numpy as np
import numpy.typing as npt

from agent.policies.signature import admitted_errors
from simcore.observation import Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]


def severity_of(system: Floats, topology: Topology) -> Floats:
    """Return (run,) the system's worst symptom in (run, metric) as a multiple of its limit; 1 breaks the SLO.

    Traffic without any good answer has no quantile; it counts as all requests bad.
    """
    late = system[:, Metric.P95_S] / topology.p95_slo_s
    bad = admitted_errors(system) / topology.bad_frac_slo
    worst = np.fmax(late, bad)
    silent = (system[:, Metric.REQUEST_RATE_RPS] > 0) & ~(system[:, Metric.OK] > 0)
    return np.where(silent, np.fmax(worst, 1.0 / topology.bad_frac_slo), np.where(np.isnan(worst), 0.0, worst))
