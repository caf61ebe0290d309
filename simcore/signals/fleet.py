"""The replicas of a run by name, from its event log."""

__all__ = ["Fleet"]

import numpy as np
import numpy.typing as npt

from simcore.codes import Event
from simcore.model.scenario import Scenario

Log = npt.NDArray[np.void]


class Fleet:
    """All replicas that a run has had so far.

    Parameters
    ----------
    scenario
        What was simulated.
    log
        Dtype ``LOG``; rows of requests are not looked at.
    """

    def __init__(self, scenario: Scenario, log: Log) -> None:
        self.scenario = scenario
        self.service: list[int] = []  #: (replica,) number of its service
        self.ordinal: list[int] = []  #: (replica,) within the service
        self.names: list[str] = []  #: (replica,) such as ``db-0``
        self._add([i for i, service in enumerate(scenario.services.values()) for _ in range(service.replicas.initial)])
        self._add(log["aux"][log["event"] == int(Event.REPLICA_ADDED)].tolist())

    def _add(self, services: list[int]) -> None:
        for service in services:
            ordinal = self.service.count(service)
            self.service.append(service)
            self.ordinal.append(ordinal)
            self.names.append(f"{self.scenario.service_names[service]}-{ordinal}")

    def name(self, replica: int) -> str:
        """Return the name of a replica; empty for -1, which is none."""
        return self.names[replica] if replica >= 0 else ""

    def grown(self, log: Log) -> "Fleet":
        """Return the fleet with the replicas that further rows of the log add."""
        twin = Fleet.__new__(Fleet)
        twin.scenario, twin.service = self.scenario, list(self.service)
        twin.ordinal, twin.names = list(self.ordinal), list(self.names)
        twin._add(log["aux"][log["event"] == int(Event.REPLICA_ADDED)].tolist())
        return twin
