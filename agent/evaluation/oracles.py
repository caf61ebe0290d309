"""Detection and diagnosis by someone who knows the truth: what the real stages are held against."""

__all__ = ["OracleDetector", "OracleDiagnoser"]

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Detector, Diagnoser, Diagnosis, History, Keys, Observation
from agent.forking import forked
from agent.policies.expert import own_incidents
from simcore.env import Episodes
from simcore.env.slo import recovery_steps
from simcore.errors import InputError
from simcore.observation import Topology

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class OracleDetector:
    """Raises no false alarm, misses no incident, and is never later than the first step that breaks the SLO.

    Which faults lead to an incident is known from the noop twin, when it breaks the SLO from the run itself. Where the
    real detector sees such a fault earlier, so does this one: an alarm at the very onset would be no help to stages
    that have nothing to look at yet. It ends with the incident or, where that has been prevented, a healthy stretch
    after the twin's would have opened. The scores are those of the real detector.
    """

    name: ClassVar[str] = "oracle"

    def __init__(self, inner: Detector) -> None:
        self._inner = inner

    def inform(self, episodes: Episodes) -> None:
        """Learn what becomes of the runs of a batch without actions."""
        self._episodes = episodes
        step_s, n = episodes.scenario.timing.step_s, episodes.n_runs
        #: (run,) edges between which an alarm is due unless the incident has been and gone
        self._first, self._last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
        for i, opened in enumerate(own_incidents(episodes).tolist()):
            if opened >= 0:
                onset = min(fault.onset_s for fault in episodes.runs[i].faults)
                self._first[i] = math.ceil(onset / step_s - 1e-9)
                self._last[i] = opened + 1 + recovery_steps(step_s)

    def fork(self, rows: Ints) -> "OracleDetector":
        """Refuse: whether an incident is open is known of the batch itself, not of its forks.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("oracle detection knows what happens in the run itself, it cannot go on in a fork")

    def fit(self, metrics: Floats, topology: Topology, *, seed: int) -> None:
        """Let the real detector learn."""
        self._inner.fit(metrics, topology, seed=seed)

    def calibrate(self, metrics: Floats, topology: Topology, *, rate_per_hour: float, seed: int) -> float:
        """Let the real detector set its threshold."""
        return self._inner.calibrate(metrics, topology, rate_per_hour=rate_per_hour, seed=seed)

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._inner.start(topology, keys)

    def update(self, observation: Observation) -> Detection:
        """Take in one step of the batch."""
        step, episodes, said = observation.step, self._episodes, self._inner.update(observation)
        after = np.maximum(episodes.fault_steps, 0)[:, None] <= np.arange(episodes.n_steps)
        been, broken = ((of & after)[:, :step].any(1) for of in (episodes.incident_open, episodes.violating))
        open_ = episodes.incident_open[:, step - 1] if step else np.zeros(episodes.n_runs, np.bool_)
        due = (self._first <= step) & (step <= self._last) & ~been
        return replace(said, alarm=open_ | (due & (broken | said.alarm)))

    def state(self) -> dict[str, Any]:
        """Return what the real detector learned."""
        return self._inner.state()

    def load(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self._inner.load(state)


class OracleDiagnoser:
    """Names the service at fault, -1 for the workload or nothing; the others in the order of the real diagnoser."""

    name: ClassVar[str] = "oracle"

    def __init__(self, inner: Diagnoser) -> None:
        self._inner = inner

    def inform(self, episodes: Episodes) -> None:
        """Learn the faults of a batch."""
        self._faults = [run.faults for run in episodes.runs]

    def fork(self, rows: Ints) -> "OracleDiagnoser":
        """Return one that goes on with some runs, (row,) positions."""
        twin = OracleDiagnoser(forked(self._inner, rows))
        twin._faults, twin._step_s = [self._faults[row] for row in rows.tolist()], self._step_s
        return twin

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._step_s = topology.step_s
        self._inner.start(topology, keys)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Name the service of the first fault that has begun; of an edge, the callee."""
        said = self._inner.diagnose(observation, detection, history, runs)
        now = observation.step * self._step_s
        suspect, ranked = np.full(runs.size, -1, np.int64), said.ranked.copy()
        for row, run in enumerate(runs):
            begun = [fault.service for fault in self._faults[int(run)] if fault.onset_s <= now]
            if begun:
                suspect[row] = begun[0]
                first = [service for service in dict.fromkeys(begun) if service >= 0]
                ranked[row] = [*first, *(s for s in said.ranked[row].tolist() if s not in first)]
        return replace(
            said, suspect=suspect, confidence=np.ones(runs.size), ranked=ranked, explain=lambda row: "it is known"
        )
