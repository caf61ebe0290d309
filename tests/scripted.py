"""A session whose windows are written down by the test, and a small scenario to go with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import Place, ReplicaState
from simcore.engines.api import EngineAction, RunInputs
from simcore.model.fault_types import NO_CALLER
from simcore.model.faults import FOREVER, Fault
from simcore.model.inputs import Run, make_run
from simcore.model.scenario import Scenario
from simcore.windows import N_METRICS, N_STATS, N_TOTALS, Metric, ReplicaStat, Total, Windows

STEPS = 60
STEP_S = 5.0
OFFERED = 100


def small_scenario(**parts: Any) -> Scenario:
    """Return two services, every action, 60 steps of 5 s, 20 requests/s (100 a step), 5 % may be bad."""
    operation = {"read": {"steps": [{"cpu": {"mean_s": 0.01}}]}}
    serve = {"steps": [{"cached": {"to": "cache.read", "keys": {"count": 9}, "steps": []}}]}
    base: dict[str, Any] = {
        "name": "small",
        "timing": {"step_s": STEP_S, "steps": STEPS, "burn_in_steps": 0, "follow_up_steps": 40},
        "services": {
            "api": {"replicas": {"initial": 2, "min": 1, "max": 3}, "operations": {"serve": serve}},
            "cache": {"replicas": {"initial": 1, "min": 1, "max": 1}, "cache": {"slots": 9}, "operations": operation},
        },
        "workload": {"rate_rps": OFFERED / STEP_S, "entries": [{"operation": "api.serve"}]},
        "observation": {"lag_steps": 0},
        "actions": {
            kind: {"delay_s": 5.0, "settle_s": 10.0, "cost": 0.01, "cooldown_s": 30.0}
            for kind in ("restart", "scale", "clear_cache", "limit_traffic", "quarantine", "release", "rollback")
        },
    }
    return Scenario.model_validate(base | parts)


def fault(onset_s: float, *, type: str = "latency_spike", service: int = 1, caller: int = NO_CALLER) -> Fault:
    return Fault(type, service, -1, onset_s, FOREVER, 0.5, "step", Place.NODE, caller)


def runs_of(scenario: Scenario, *faults: Sequence[Fault]) -> list[Run]:
    """Return one run per list of faults."""
    return [make_run(scenario, seed=7, split="test", run=i, faults=list(own)) for i, own in enumerate(faults)]


class ScriptedSession:
    """Plays back totals and metrics that stand in its arrays; healthy unless a test changes them."""

    def __init__(self, scenario: Scenario, inputs: Sequence[RunInputs]) -> None:
        self.scenario, self.n_runs, self.now_s = scenario, len(inputs), 0.0
        services, steps = list(scenario.services.values()), scenario.timing.steps
        slots = max(service.replicas.max for service in services)
        self.metrics = np.zeros((self.n_runs, steps, len(services) + 1, N_METRICS))
        self.metrics[..., Metric.P95_S] = 0.1
        self.totals = np.zeros((self.n_runs, steps, N_TOTALS), np.int64)
        self.totals[..., Total.OFFERED] = self.totals[..., Total.GOOD] = OFFERED
        self.totals[..., Total.ATTEMPTS] = 2 * OFFERED
        self.replicas = np.full((self.n_runs, steps, len(services), slots, N_STATS), np.nan)
        self.replicas[..., ReplicaStat.ORDINAL] = -1
        for i, service in enumerate(services):
            here = self.replicas[:, :, i, : service.replicas.initial]
            here[..., ReplicaStat.ORDINAL] = np.arange(service.replicas.initial)
            here[..., ReplicaStat.STATE] = ReplicaState.UP
            here[..., ReplicaStat.QUARANTINED] = 0
        self.markers = np.zeros((self.n_runs, steps, len(services)), np.int64)
        self.applied: list[EngineAction] = []
        self._from = 0

    def bad(self, run: int, steps: Sequence[int], count: int = 50) -> None:
        """Make so many requests bad in these steps."""
        self.totals[run, list(steps), Total.BAD] = count
        self.totals[run, list(steps), Total.GOOD] = OFFERED - count

    def advance(self, until_s: float) -> None:
        self._from, self.now_s = round(self.now_s / self.scenario.timing.step_s), until_s

    def observe(self) -> Windows:
        here = slice(self._from, round(self.now_s / self.scenario.timing.step_s))
        arrays = (self.metrics, self.totals, self.replicas, self.markers)
        return Windows(self._from, *(array[:, here] for array in arrays))  # type: ignore[arg-type]

    def apply(self, actions: Sequence[EngineAction]) -> None:
        self.applied += actions

    def fork(self, runs: Sequence[int], rekey: Sequence[int] | None = None) -> "ScriptedSession":
        raise NotImplementedError

    def events(self, run: int) -> npt.NDArray[np.void]:
        raise NotImplementedError
