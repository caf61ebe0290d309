"""What traces and logs add to what a learned diagnoser knows of every service."""

__all__ = ["ALL_SERVICE_FEATURES", "ALL_SYSTEM_FEATURES", "SOURCES", "AllFeatures", "keep", "source_of", "words_of"]

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from agent.api import Detection, History, Observation, Topology
from agent.diagnosers.features import SERVICE_FEATURES, SYSTEM_FEATURES, Features
from agent.diagnosers.view import NOW_STEPS
from agent.history import WINDOW
from simcore.signals.collector import LOGS, TRACES, Signal

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Where evidence comes from; metrics are always there.
SOURCES = ("metrics", "traces", "logs")

_TIMES = (Signal.WORK_S, Signal.QUEUE_S, Signal.LOCK_S, Signal.WIRE_S, Signal.POOL_S)
_FAILURES = (Signal.ERRORS, Signal.POISON, Signal.SILENT, Signal.GONE, Signal.TURNED_AWAY, Signal.UNSENT)

#: (signal,) smallest believable spread, absolute: times in seconds, failures per request, log records per window; so
#: that a quiet signal does not turn noise into evidence. A share of the centre comes on top.
_FLOOR = np.array([0.003] * len(_TIMES) + [0.01] * len(_FAILURES) + [0.25] * len(LOGS))
_FLOOR_SHARE = 0.15
#: So many spreads become a half.
_HALF = 4.0

_OF_TRACES = (*(f"trace_{Signal(i).name.lower()}" for i in TRACES), "trace_time_share", "trace_failure_share",
              "trace_failures")  # fmt: skip
_OF_LOGS = tuple(f"log_{Signal(i).name.lower()}" for i in LOGS)

ALL_SERVICE_FEATURES = (*SERVICE_FEATURES, *_OF_TRACES, *_OF_LOGS)
ALL_SYSTEM_FEATURES = (*SYSTEM_FEATURES, "trace_time", "trace_failures", "log_events")

_WORDS = {
    "trace_work_s": "more time on the path is its own work", "trace_queue_s": "requests queue at it",
    "trace_lock_s": "requests wait for its locks", "trace_wire_s": "the way to it takes longer, or it is silent",
    "trace_pool_s": "callers wait for connections to it", "trace_errors": "failures begin here",
    "trace_poison": "callers fail on its cached answers", "trace_silent": "it leaves callers without an answer",
    "trace_gone": "calls to it are refused or reset", "trace_turned_away": "it turns calls away",
    "trace_unsent": "its own calls get no connection", "trace_time_share": "it adds most of the lateness",
    "trace_failure_share": "most failures begin here", "trace_failures": "failures begin here",
    "log_oom": "replicas killed for their memory", "log_crash": "replicas crash", "log_restart": "replicas restart",
    "log_out": "health checks fail", "log_breaker": "breakers open against it", "log_gc": "collects garbage more often",
}  # fmt: skip


def source_of(feature: str) -> str:
    """Return the source that a feature comes from, one of ``SOURCES``."""
    kind = feature.partition("_")[0]
    return {"trace": "traces", "log": "logs"}.get(kind, "metrics")


def words_of(feature: str) -> str:
    """Return a feature in words."""
    return _WORDS.get(feature, feature.removeprefix("z_").replace("_", " "))


def keep(service: Floats, system: Floats, sources: Collection[str]) -> tuple[Floats, Floats]:
    """Return features with those of other sources at 0, which is no evidence."""
    masks = (
        np.array([source_of(name) in sources for name in names])
        for names in (ALL_SERVICE_FEATURES, ALL_SYSTEM_FEATURES)
    )
    of_service, of_system = masks
    # a service that is not there keeps its nan
    return np.where(of_service | np.isnan(service), service, 0.0), np.where(of_system, system, 0.0)


class AllFeatures:
    """Works out the features of a batch from metrics, traces and logs; of a source that is not there they are 0.

    Parameters
    ----------
    topology
        Of the batch.
    n_runs
        How many runs.
    """

    PER_RUN = ("_metrics",)

    def __init__(self, topology: Topology, n_runs: int) -> None:
        self._topology = topology
        self._metrics = Features(topology, n_runs)

    def of(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> tuple[Floats, Floats]:
        """Return (row, service, ``ALL_SERVICE_FEATURES``) and (row, ``ALL_SYSTEM_FEATURES``), without nan."""
        service, system = self._metrics.of(observation, detection, history, runs)
        if history.signals is None:
            shape = (*service.shape[:2], len(ALL_SERVICE_FEATURES) - len(SERVICE_FEATURES))
            return np.concatenate([service, np.zeros(shape)], 2), np.concatenate([system, np.zeros((runs.size, 3))], 1)
        own, whole = _signals(history.signals, runs)
        return np.concatenate([service, own], 2), np.concatenate([system, whole], 1)


def _signals(signals: History, runs: Ints) -> tuple[Floats, Floats]:
    now, centre = _now(signals, runs), signals.centre[runs]
    scale = np.maximum(signals.spread[runs], np.maximum(_FLOOR_SHARE * np.abs(centre), _FLOOR))
    rise = now - centre
    z = np.nan_to_num(rise / scale)
    rise = np.nan_to_num(rise)
    squashed = z / (np.abs(z) + _HALF)
    late, failing = (np.maximum(rise[..., columns], 0.0).sum(2) for columns in (_TIMES, _FAILURES))
    single = np.stack([_share(late, 0.01), _share(failing, 0.01), np.minimum(failing, 1.0)], 2)
    own = np.concatenate([squashed[..., TRACES], single, squashed[..., LOGS]], 2)
    logged = np.maximum(rise[..., LOGS], 0.0).sum((1, 2))
    whole = np.stack(
        [late.sum(1) / (late.sum(1) + 0.1), np.minimum(failing.sum(1), 1.0), logged / (logged + 2.0)], 1
    )  # fmt: skip
    return own, whole


def _now(signals: History, runs: Ints) -> Floats:
    """Return (row, service, signal) the mean since the onset, over so many scrapes at most; nan where unknown."""
    back = np.arange(NOW_STEPS)
    latest = signals.ring[runs][:, (signals.step - back) % WINDOW]
    onset = np.where(signals.onset[runs] < 0, signals.step, signals.onset[runs])
    known = ~np.isnan(latest) & (back <= (signals.step - onset)[:, None])[:, :, None, None]
    count = known.sum(1)
    total = np.where(known, latest, 0.0).sum(1)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _share(values: Floats, floor: float) -> Floats:
    """Return (row, service) each one's share of the sum over the services, which counts as no less than the floor."""
    share: Floats = values / np.maximum(values.sum(1, keepdims=True), floor)
    return share
