"""Observations as a space: a dictionary in natural units, every number with a name and a unit."""

__all__ = ["TOP", "Layout", "Natural", "Part", "parts_of"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces

from simcore.codes import ReplicaState
from simcore.env.actions import n_slots
from simcore.model.scenario import Scenario
from simcore.observation import Observation
from simcore.signals.collector import N_SIGNALS, Signal
from simcore.windows import N_METRICS, N_STATS, Metric, ReplicaStat

Floats = npt.NDArray[np.float64]

#: More than any count, level or rate can come to.
_MANY = 1e9
#: Above the logarithm of one more than that: the largest number of a scaled observation.
TOP = 21.0

_TIME, _SHARE, _RATE, _COUNT, _LEVEL = "s", "share", "1/s", "per step", "number"
_UNITS: Mapping[Metric, str] = {
    Metric.P50_S: _TIME, Metric.P95_S: _TIME, Metric.P99_S: _TIME, Metric.P95_FAILED_S: _TIME,
    Metric.OK: _COUNT, Metric.ERROR_RATE: _SHARE, Metric.CPU_UTIL: _SHARE, Metric.MEMORY_FRAC: _SHARE,
    Metric.REQUEST_RATE_RPS: _RATE, Metric.IN_FLIGHT: _LEVEL, Metric.QUEUE_LENGTH: _LEVEL,
    Metric.REJECTED: _COUNT, Metric.TIMEOUTS: _COUNT, Metric.RETRIES: _COUNT, Metric.HIT_RATIO: _SHARE,
    Metric.REPLICAS_UP: _LEVEL, Metric.POOL_WAITING: _LEVEL, Metric.DENIED: _COUNT, Metric.LAG: _LEVEL,
}  # fmt: skip
_STAT_UNITS: Mapping[ReplicaStat, str] = {
    ReplicaStat.ORDINAL: "number", ReplicaStat.STATE: "ReplicaState", ReplicaStat.QUARANTINED: "0 or 1",
    ReplicaStat.FINISHED: _COUNT, ReplicaStat.MEAN_LATENCY_S: _TIME, ReplicaStat.BUSY: _SHARE,
}  # fmt: skip


class Layout(Protocol):
    """How an observation of a batch becomes arrays of a space."""

    @property
    def space(self) -> Space[Any]:
        """What an observation of one run is an element of."""

    @property
    def names(self) -> Any:
        """What the numbers are called, in the order of the raveled array; by key where there are keys."""

    @property
    def units(self) -> Any:
        """Their units, likewise."""

    def encode(self, observation: Observation) -> Any:
        """Return fresh arrays with a first axis of runs; of the observation of a batch alone, never of its truth."""

    def row(self, encoded: Any, run: int) -> Any:
        """Return an element of ``space``: what was encoded of one run."""


@dataclass(frozen=True, slots=True)
class Part:
    """A key of the dictionary."""

    space: spaces.Box | spaces.MultiBinary
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Callable[[Observation], npt.NDArray[Any]]  #: (run, ...) may hold nan, which becomes ``missing``
    missing: float = 0.0


class Natural:
    """A dictionary in natural units; what is not known is 0, and a mask says so.

    ``metrics`` (service + 1, metric) and ``known``, the same shape: whether the number was measured; ``replicas``
    (service, slot, stat), ordinal -1 in an empty slot; ``change_age_s`` (service,), the length of the episode where no
    change was seen; ``age_s`` (1,) since the end of the window that all this is of; ``admitted`` (1,); ``pending``
    (service,); ``signals`` (service, signal) and ``signals_known`` if the scenario has traces or logs.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._parts = parts_of(scenario)
        self.space = spaces.Dict({key: part.space for key, part in self._parts.items()})
        self.names = {key: part.names for key, part in self._parts.items()}
        self.units = {key: part.units for key, part in self._parts.items()}

    def encode(self, observation: Observation) -> dict[str, npt.NDArray[Any]]:
        """Return key -> (run, ...)."""
        return {key: _encoded(part, observation) for key, part in self._parts.items()}

    def row(self, encoded: dict[str, npt.NDArray[Any]], run: int) -> dict[str, npt.NDArray[Any]]:
        """Return one run's dictionary."""
        return {key: values[run] for key, values in encoded.items()}


def _encoded(part: Part, observation: Observation) -> npt.NDArray[Any]:
    values = part.values(observation)
    if isinstance(part.space, spaces.MultiBinary):
        return values.astype(np.int8)
    filled = np.where(np.isnan(values), part.missing, values)
    return np.clip(filled, part.space.low, part.space.high).astype(np.float32)


def parts_of(scenario: Scenario) -> dict[str, Part]:
    """Return the keys of the dictionary in their order."""
    services, slots, timing = scenario.service_names, n_slots(scenario), scenario.timing
    rows = (*services, "system")
    episode_s = timing.steps * timing.step_s
    longest = {_TIME: (timing.burn_in_steps + timing.steps) * timing.step_s, _SHARE: 1.0}
    metrics = tuple(metric.name.lower() for metric in Metric)
    names = tuple(f"{row}.{metric}" for row in rows for metric in metrics)
    units = tuple(_UNITS[metric] for metric in Metric)
    shape = (len(rows), N_METRICS)
    high = np.broadcast_to([longest.get(unit, _MANY) for unit in units], shape)
    stat_high = {_TIME: longest[_TIME], _SHARE: 1.0, "0 or 1": 1.0, "ReplicaState": float(max(ReplicaState))}
    stats_high = [stat_high.get(unit, _MANY) for unit in _STAT_UNITS.values()]
    stats_low = [-1.0 if stat == ReplicaStat.ORDINAL else 0.0 for stat in ReplicaStat]
    in_slots = (len(services), slots, N_STATS)
    parts = {
        "metrics": Part(_box(0.0, high), names, units * len(rows), lambda seen: seen.metrics),
        "known": Part(spaces.MultiBinary(shape), names, ("0 or 1",) * len(names), lambda seen: ~np.isnan(seen.metrics)),
        "replicas": Part(
            _box(np.broadcast_to(stats_low, in_slots), np.broadcast_to(stats_high, in_slots)),
            tuple(f"{s}/{slot}.{stat.name.lower()}" for s in services for slot in range(slots) for stat in ReplicaStat),
            tuple(_STAT_UNITS.values()) * (len(services) * slots),
            _replicas,
        ),
        "change_age_s": Part(
            _box(0.0, np.full(len(services), episode_s)), services, ("s",) * len(services),
            lambda seen: seen.change_age_s, missing=episode_s,
        ),
        "age_s": Part(
            _box(0.0, np.full(1, episode_s)), ("age_s",), ("s",), lambda seen: _age_s(seen, timing.step_s, episode_s)
        ),
        "admitted": Part(_box(0.0, np.ones(1)), ("admitted",), (_SHARE,), lambda seen: seen.admitted[:, None]),
        "pending": Part(
            spaces.MultiBinary(len(services)), services, ("0 or 1",) * len(services), lambda seen: seen.pending
        ),
    }  # fmt: skip
    if scenario.observation.traces > 0.0 or scenario.observation.logs:
        parts |= _signal_parts(services, longest[_TIME])
    return parts


def _signal_parts(services: tuple[str, ...], longest_s: float) -> dict[str, Part]:
    shape = (len(services), N_SIGNALS)
    names = tuple(f"{service}.{signal.name.lower()}" for service in services for signal in Signal)
    units = tuple(_TIME if signal.name.endswith("_S") else "number" for signal in Signal)
    high = np.broadcast_to([longest_s if unit == _TIME else _MANY for unit in units], shape)
    return {
        "signals": Part(_box(0.0, high), names, units * len(services), lambda seen: _signals(seen, shape)),
        "signals_known": Part(
            spaces.MultiBinary(shape), names, ("0 or 1",) * len(names), lambda seen: ~np.isnan(_signals(seen, shape))
        ),
    }


def _box(low: float | Floats, high: Floats) -> spaces.Box:
    return spaces.Box(
        np.broadcast_to(low, high.shape).astype(np.float32), high.astype(np.float32), dtype=np.float32
    )  # fmt: skip


def _replicas(seen: Observation) -> Floats:
    """Return (run, service, slot, stat) with ordinal -1 where a slot is empty or nothing was seen yet."""
    values = seen.replicas.copy()
    ordinal = values[..., ReplicaStat.ORDINAL]
    values[..., ReplicaStat.ORDINAL] = np.where(np.isnan(ordinal), -1.0, ordinal)
    return values


def _age_s(seen: Observation, step_s: float, episode_s: float) -> Floats:
    """Return (run, 1) how old the end of the window is that was scraped last."""
    age: Floats = np.where(seen.window >= 0, (seen.step - 1 - seen.window) * step_s, episode_s)
    return age[:, None]


def _signals(seen: Observation, shape: tuple[int, int]) -> Floats:
    return np.full((seen.fresh.size, *shape), np.nan) if seen.signals is None else seen.signals
