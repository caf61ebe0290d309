"""Observations as one vector of numbers of about the same size, for a network."""

__all__ = ["Scaled"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agent.environments.spaces import TOP, parts_of
from simcore.codes import ReplicaState
from simcore.env.actions import build_topology
from simcore.model.scenario import Scenario
from simcore.observation import Observation
from simcore.windows import ReplicaStat

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

#: A change is forgotten with this time constant.
_FORGOTTEN_S = 300.0


@dataclass(frozen=True, slots=True)
class _Block:
    """Numbers beside each other in the vector."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Callable[[Observation], npt.NDArray[np.generic]]  #: (run, ...) raveled into the vector; nan becomes 0


class Scaled:
    """One vector of float32 in [0, 21]: logarithms of times, counts and levels; shares and flags as they are.

    Times are ``log1p(time / p95 objective)``; counts and rates ``log1p`` of their share of what the base rate offers
    (in a step); levels ``log1p(level)``; the age of a change ``exp(-age / 300 s)``, 0 where none was seen. Of a
    replica: whether there is one, is up, is quarantined, its latency, and how busy it is. What is not known is 0, and
    the ``.known`` of a metric says so.
    """

    def __init__(self, scenario: Scenario) -> None:
        topology = build_topology(scenario)
        parts = parts_of(scenario)
        step_s = topology.step_s
        divisors = {"s": topology.p95_slo_s, "per step": topology.rate_rps * step_s, "1/s": topology.rate_rps}
        told = {"s": "log1p of p95 objectives", "per step": "log1p of a step's requests",
                "1/s": "log1p of the base rate", "number": "log1p"}  # fmt: skip

        def logarithm(values: Floats, units: tuple[str, ...]) -> Floats:
            shares = np.array([unit == "share" for unit in units]).reshape(values.shape[1:])
            over = np.array([divisors.get(unit, 1.0) for unit in units]).reshape(values.shape[1:])
            return np.where(shares, values, np.log1p(np.maximum(values, 0.0) / over))

        def scaled(key: str) -> _Block:
            part = parts[key]
            units = tuple(told.get(unit, unit) for unit in part.units)
            return _Block(part.names, units, lambda seen: logarithm(np.asarray(part.values(seen)), part.units))

        def flags(key: str, what: str) -> _Block:
            names = tuple(f"{name}.{what}" for name in parts[key].names)
            return _Block(names, ("0 or 1",) * len(names), parts[key].values)

        services = parts["change_age_s"].names
        slots = tuple(dict.fromkeys(name.partition(".")[0] for name in parts["replicas"].names))
        columns = {"present": "0 or 1", "up": "0 or 1", "quarantined": "0 or 1", "mean_latency_s": told["s"],
                   "busy": "share"}  # fmt: skip
        blocks = [
            scaled("metrics"),
            flags("known", "known"),
            _Block(
                tuple(f"{slot}.{column}" for slot in slots for column in columns),
                tuple(columns.values()) * len(slots),
                lambda seen: _replicas(seen, topology.p95_slo_s),
            ),
            _Block(
                tuple(f"{service}.changed" for service in services),
                ("exp(-age / 300 s)",) * len(services),
                lambda seen: np.exp(-seen.change_age_s / _FORGOTTEN_S),
            ),
            _Block(("age",), ("log1p of steps",), lambda seen: np.log1p(parts["age_s"].values(seen) / step_s)),
            scaled("admitted"),
            flags("pending", "pending"),
        ]
        if "signals" in parts:
            blocks += [scaled("signals"), flags("signals_known", "known")]
        self._blocks = tuple(blocks)
        self.names = tuple(name for block in blocks for name in block.names)
        self.units = tuple(unit for block in blocks for unit in block.units)
        self.space = spaces.Box(0.0, TOP, (len(self.names),), np.float32)

    def encode(self, observation: Observation) -> Singles:
        """Return (run, number)."""
        n_runs = observation.fresh.size
        rows = [np.asarray(block.values(observation), np.float64).reshape(n_runs, -1) for block in self._blocks]
        return np.clip(np.nan_to_num(np.concatenate(rows, axis=1), nan=0.0), 0.0, TOP).astype(np.float32)

    def row(self, encoded: Singles, run: int) -> Singles:
        """Return one run's vector."""
        one: Singles = encoded[run]
        return one


def _replicas(seen: Observation, slo_s: float) -> Floats:
    """Return (run, service, slot, column) what counts of the replicas."""
    stats = seen.replicas
    present = stats[..., ReplicaStat.ORDINAL] >= 0.0
    return np.stack(
        [
            present,
            present & (stats[..., ReplicaStat.STATE] == ReplicaState.UP),
            present & (stats[..., ReplicaStat.QUARANTINED] > 0.0),
            np.log1p(stats[..., ReplicaStat.MEAN_LATENCY_S] / slo_s),
            stats[..., ReplicaStat.BUSY],
        ],
        axis=-1,
    )
