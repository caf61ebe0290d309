"""What a fault is to an engine: parameters that change over time. Nothing here knows a fault by name."""

__all__ = ["Change", "Modulation"]

from dataclasses import dataclass

from simcore.codes import Param, Place


@dataclass(frozen=True, slots=True)
class Modulation:
    """One parameter of one target under one fault."""

    param: Param
    place: Place
    service: int = -1  #: -1: the workload; of an edge, the caller (-1: the clients)
    replica: int = -1  #: ordinal within the service; -1: all
    peer: int = -1  #: of an edge, the callee


@dataclass(frozen=True, slots=True)
class Change:
    """A modulation takes a value at an instant known in advance."""

    time_s: float
    modulation: int  #: index into the run's modulations
    value: float
