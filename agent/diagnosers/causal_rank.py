"""Ranks services by anomaly score, lagged correlation with the symptoms, and the call graph."""

__all__ = ["CausalRank"]

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.evidence import N_PARTS, PARTS, weigh
from agent.history import FLOORS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Below this blame nothing is accused.
_MIN_BLAME = 0.02
_WORDS = {
    "latency": "slow by itself",
    "errors": "errors of its own",
    "cpu": "busier than its requests explain",
    "memory": "memory above normal",
    "replicas": "replicas missing",
    "hits": "hit ratio fell",
    "skew": "one replica slower than the others",
    "poison": "its callers fail after asking it",
}


class CausalRank:
    """Blame = own evidence x anomaly score x correlation with the API's symptoms.

    Own evidence is what callees, extra requests and the workload do not explain (``agent.diagnosers.evidence``). The
    correlation is the best of p95, error rate, CPU, memory and in-flight at leads of 0 to 3 steps over the recent
    window. Confidence is the suspect's share of all blame (plus a constant, so that weak evidence stays weak).
    The workload is a candidate too: then no service is the suspect.
    """

    name: ClassVar[str] = "causal_rank"

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._slo = (topology.p95_slo_s, topology.bad_frac_slo, topology.step_s)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs."""
        topology = self._topology
        n, n_services = runs.size, topology.n_services
        parts = np.zeros((n, n_services, N_PARTS))
        r, lags = np.zeros((n, n_services)), np.zeros((n, n_services), np.int64)
        blame = np.zeros((n, n_services + 1))
        weigh(
            history.ring, history.step, history.centre, history.spread, FLOORS, detection.excess,
            observation.replicas, observation.change_age_s, runs, topology.calls, topology.caches, self._slo,
            parts, r, lags, blame,
        )  # fmt: skip
        top = np.argmax(blame, 1)
        strongest = blame[np.arange(n), top]
        suspect = np.where((top < n_services) & (strongest >= _MIN_BLAME), top, -1)
        confidence = np.where(strongest >= _MIN_BLAME, strongest / (blame.sum(1) + 0.1), 0.0)
        ranked = np.argsort(-blame[:, :n_services], axis=1, kind="stable").astype(np.int64)
        score = detection.score[runs]
        age = observation.change_age_s[runs]

        def explain(row: int) -> str:
            return self._explain(blame[row], parts[row], r[row], lags[row], score[row], age[row])

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain)

    def _explain(self, blame: Floats, parts: Floats, r: Floats, lags: Ints, score: Floats, age: Floats) -> str:
        topology = self._topology
        top = int(np.argmax(blame))
        if blame[top] < _MIN_BLAME:
            return "no service stands out"
        if top == topology.n_services:
            return "the workload: requests rose far above normal, and the services slow down with them"
        reasons = [_WORDS[PARTS[part]] for part in np.argsort(-parts[top], kind="stable") if parts[top, part] >= 0.1]
        text = f"{topology.services[top]}: score {score[top]:.2f}, " + (
            ", ".join(reasons[:3]) or "an unusual mix of metrics"
        )
        if r[top] >= 0.3:
            lead = f", {lags[top]} step{'s' if lags[top] > 1 else ''} ahead" if lags[top] else ""
            text += f"; follows the symptoms (r {r[top]:.2f}{lead})"
        if not np.isnan(age[top]) and age[top] <= 24 * topology.step_s:
            text += f"; changed {age[top]:.0f} s ago"
        explained = [
            topology.services[s]
            for s in np.flatnonzero(topology.calls[:, top])
            if s != top and score[s] > 0 and blame[s] < blame[top]
        ]
        return text + (f"; explains {', '.join(explained)}" if explained else "")
