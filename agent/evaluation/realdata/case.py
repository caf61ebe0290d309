"""One recorded incident, and the same in the shape that a diagnoser is asked about."""

__all__ = ["N_SIGNALS", "Case", "Incident", "incident_of"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.api import Detection, History, Observation, Topology
from agent.diagnosers.view import COMPARED
from agent.history import FLOORS, WINDOW
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Columns of recorded scrapes: those of ``Metric``, and ``agent.history.WIRE_S``.
N_SIGNALS = len(FLOORS)
#: A deviation of so many spreads counts as one alarm threshold.
_ALARM = 6.0
#: The limit on p95 is so many times the normal p95 where the data have none.
_SLO_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """A recorded incident: scrapes up to the diagnosis, what was normal, and who was to blame."""

    name: str
    services: tuple[str, ...]
    calls: Bools  #: (service, service) whether row calls column; all False where no graph is known
    entry: int  #: the service that shows the symptom
    step_s: float  #: time between scrapes
    normal: Floats  #: (sample, service + 1, signal) scrapes of quiet times in their order; last row the symptom
    series: Floats  #: (time, service + 1, signal) scrapes up to the diagnosis, likewise
    onset: int  #: row of ``series`` from which on the trouble may show
    truth: frozenset[int]  #: the services at fault


@dataclass(frozen=True, slots=True)
class Incident:
    """What a diagnoser is handed: a batch of one run."""

    topology: Topology
    observation: Observation
    detection: Detection
    history: History


def incident_of(case: Case) -> Incident:
    """Return a case as a batch of one run, as the control loop would hand it to a diagnoser."""
    n = len(case.services)
    system = case.normal[:, -1]
    p95, rate = (_middle(system[:, m]) for m in (Metric.P95_S, Metric.REQUEST_RATE_RPS))
    topology = Topology(
        services=case.services,
        calls=case.calls,
        optional=np.zeros_like(case.calls),
        required=case.calls,
        entry=case.entry,
        caches=np.zeros(n, np.bool_),
        p95_slo_s=_SLO_FACTOR * p95 if p95 > 0 else 1.0,
        bad_frac_slo=0.05,
        step_s=case.step_s,
        rate_rps=rate if rate > 0 else 1.0,
    )
    kept = case.series[-WINDOW:]
    series = np.full((1, WINDOW, n + 1, N_SIGNALS), np.nan)
    series[0, WINDOW - len(kept) :] = kept
    onset = case.onset - len(case.series) + WINDOW
    history = History.recorded(topology, case.normal[None], series, np.array([max(onset, 0)]))
    observation = Observation(
        step=history.step,
        window=np.array([history.step]),
        fresh=np.ones(1, np.bool_),
        metrics=series[:, -1],
        replicas=np.full((1, n, 1, len(ReplicaStat)), np.nan),
        change_age_s=np.full((1, n), np.nan),
        admitted=np.ones(1),
        pending=np.zeros((1, n), np.bool_),
        legal=np.ones((1, 1), np.bool_),
    )
    return Incident(topology, observation, _detection(history), history)


def _middle(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else np.nan


def _detection(history: History) -> Detection:
    """Return an open alarm; a service's score is its farthest metric at the last scrape, in alarm thresholds."""
    far = np.abs(history.deviation(0, history.ring[0, -1]))[:-1, COMPARED] / _ALARM
    known = ~np.isnan(far)
    score = np.where(known.any(1), np.where(known, far, 0.0).max(1), np.nan)[None]
    overall = np.array([score[~np.isnan(score)].mean() if (~np.isnan(score)).any() else np.nan])
    return Detection(np.ones(1, np.bool_), overall, score, score.copy())
