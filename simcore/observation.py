"""What an agent gets to see and may do: plain arrays over runs, the same for one run or for thousands."""

__all__ = ["ActionTable", "Observation", "Topology"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Topology:
    """The parts of a scenario that an agent may know beforehand."""

    services: tuple[str, ...]
    calls: Bools  #: (service, service) whether row calls column, or publishes to a topic that column consumes
    optional: Bools  #: (service, service) whether row has calls of column that it can do without
    required: Bools  #: (service, service) whether row has calls of column that it cannot do without
    entry: int  #: the service that receives most of the clients' requests
    caches: Bools  #: (service,) whether it is a cache
    p95_slo_s: float
    bad_frac_slo: float
    step_s: float
    rate_rps: float  #: the base rate

    @property
    def spared(self) -> Bools:
        """(service,) whether others call it, and all of them can do without."""
        spared: Bools = np.any(self.optional, axis=0) & ~np.any(self.required, axis=0)
        return spared

    @property
    def n_services(self) -> int:
        """Number of services; metrics have one row more, the system as its clients see it."""
        return len(self.services)


@dataclass(frozen=True, slots=True)
class ActionTable:
    """The actions of a scenario, numbered; number 0 is noop. All arrays are (action,)."""

    names: tuple[str, ...]  #: such as ``restart(db)``, ``scale(api,+1)``, ``quarantine(db/0)``, ``limit_traffic(0.7)``
    kinds: tuple[str, ...]  #: rows of ``simcore.model.action_types.ACTIONS``
    code: Ints  #: ``ActionCode``
    service: Ints  #: -1 where there is none
    slot: Ints  #: rank of the replica among those STARTING or UP, -1 where there is none
    amount: Floats
    delay_s: Floats
    delay_sigma: Floats  #: of the logarithm of the delay; 0: always ``delay_s``
    settle_s: Floats
    cost: Floats
    cooldown_s: Floats
    failure_probability: Floats
    disruptive: Bools  #: whether it can hurt users by itself (``simcore.model.action_types``)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Observation:
    """The last complete scrape of every run at one edge, and what is under way."""

    step: int  #: edges passed: the edge is at step * step_s
    window: Ints  #: (run,) the window the metrics belong to; -1: none has arrived yet
    fresh: Bools  #: (run,) whether it arrived at this edge
    metrics: Floats  #: (run, service + 1, metric), columns ``simcore.windows.Metric``; nan before the first scrape
    replicas: Floats  #: (run, service, slot, stat), columns ``simcore.windows.ReplicaStat``, of the same scrape
    change_age_s: Floats  #: (run, service) since the last deploy or configuration change, nan if none was seen
    admitted: Floats  #: (run,) admitted fraction of the traffic
    pending: Bools  #: (run, service) an action on the service waits for its effect or settles
    #: (run, action) what may be chosen now: targets, limits, cooldowns, nothing pending on the service; noop always
    legal: Bools
    #: (run, service, signal) what traces and logs say, columns ``simcore.signals.collector.Signal``, of the same
    #: scrape; None: the scenario has neither
    signals: Floats | None = None
