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
        of = [i for i, service in enumerate(scenario.services.values()) for _ in range(service.replicas.initial)]
        of += log["aux"][log["event"] == int(Event.REPLICA_ADDED)].tolist()
        counts = [0] * len(scenario.services)
        self.service: list[int] = of  #: (replica,) number of its service
        self.ordinal: list[int] = []  #: (replica,) within the service
        for service in of:
            self.ordinal.append(counts[service])
            counts[service] += 1
        names = scenario.service_names
        #: (replica,) such as ``db-0``
        self.names = [f"{names[service]}-{n}" for service, n in zip(of, self.ordinal, strict=True)]

    def name(self, replica: int) -> str:
        """Return the name of a replica; empty for -1, which is none."""
        return self.names[replica] if replica >= 0 else ""
