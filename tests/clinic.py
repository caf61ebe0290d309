"""A small system that has every mechanic a fault or an action may need, so that each can be tried on it."""

__all__ = ["CLINIC", "clinic"]

from typing import Any

from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario


def clinic(rate_rps: float = 30.0, **changes: Any) -> Scenario:
    """Return front -> cache, stock, db; ``changes`` replace top-level keys."""
    query = {"to": "db.query", "timeout_s": 0.5, "retries": 2, "backoff_s": 0.05}
    data: dict[str, Any] = {
        "name": "clinic",
        "timing": {"step_s": 5, "steps": 60, "burn_in_steps": 6, "follow_up_steps": 30},
        "slo": {"latency_s": 1.0, "p95_s": 0.6},
        "network": {"mean_s": 0.001},
        "services": {
            "front": {
                "replicas": {"initial": 3, "min": 1, "max": 6},
                "threads": 32,
                "cores": 0.5,
                "queue": 100,
                "startup_s": 2,
                "pools": {"db": {"size": 8, "queue": 50, "wait_s": 0.5}},
                "operations": {
                    "view": {
                        "steps": [
                            {"cpu": {"mean_s": 0.012}},
                            {
                                "cached": {
                                    "to": "cache.get",
                                    "keys": {"count": 500, "zipf": 1.0},
                                    "timeout_s": 0.25,
                                    "steps": [{"call": query}],
                                }
                            },
                            {"call": {"to": "stock.reserve", "timeout_s": 0.8, "retries": 1, "probability": 0.5}},
                            {"call": {"to": "advice.get", "timeout_s": 0.3, "required": False, "probability": 0.3}},
                        ]
                    }
                },
            },
            "cache": {
                "replicas": {"initial": 2, "min": 1, "max": 4},
                "threads": 16,
                "cores": 0.25,
                "startup_s": 2,
                "cache": {"slots": 200, "ttl_s": 60},
                "operations": {"get": {"steps": [{"cpu": {"mean_s": 0.002}}]}},
            },
            "stock": {
                "replicas": {"initial": 2, "min": 1, "max": 6},
                "threads": 32,
                "cores": 0.5,
                "startup_s": 2,
                "operations": {
                    "reserve": {
                        "steps": [
                            {"cpu": {"mean_s": 0.004}},
                            {"lock": {"name": "row", "steps": [{"delay": {"mean_s": 0.008}}]}},
                        ]
                    }
                },
            },
            "db": {
                "replicas": {"initial": 2, "min": 1, "max": 6},
                "threads": 16,
                "cores": 0.5,
                "queue": 60,
                "startup_s": 2,
                "memory": {"base_bytes": 200_000_000, "per_span_bytes": 5_000_000, "limit_bytes": 1_000_000_000},
                "gc": {"garbage_bytes": 2_000_000, "share": 0.5, "least_bytes": 20_000_000, "pause_s": 0.01,
                       "pause_s_per_gb": 0.4},
                "operations": {
                    "query": {"steps": [{"cpu": {"mean_s": 0.010}}, {"delay": {"mean_s": 0.005}}]},
                },
            },
            # somebody else's: we can do nothing to it, and do without it if need be
            "advice": {
                "threads": 32,
                "operations": {"get": {"steps": [{"delay": {"mean_s": 0.02}}]}},
            },
        },
        "workload": {"rate_rps": rate_rps, "entries": [{"operation": "front.view"}], "timeout_s": 3},
    }  # fmt: skip
    return build_scenario(data | changes)


CLINIC = clinic()
