"""The objects of one run, without behaviour: its clock, books, services and modulations."""

__all__ = ["Influence", "World"]

from dataclasses import dataclass

from simcore.codes import EDGE, Place
from simcore.engines.api import RunInputs
from simcore.eventlog import sample_key
from simcore.model.modulation import Modulation
from simcore.model.scenario import Scenario
from simcore.reference.cache import KeySpace
from simcore.reference.calendar import Calendar
from simcore.reference.ledger import Ledger
from simcore.reference.replica import Replica, ServiceState


@dataclass(slots=True)
class Influence:
    """A modulation at work."""

    index: int
    modulation: Modulation
    value: float = 0.0
    begun: bool = False
    started: bool = False  #: a surge's stream has begun
    since_s: float = 0.0  #: of its first change
    bad_from: int = 0  #: version of the service at the first change
    bad_to: int = -1  #: version at the rollback that ended it, -1 while there was none
    over: bool = False  #: an action has ended it for good

    @property
    def home(self) -> int:
        """The service whose actions end what lives in its places: of an edge the callee."""
        target = self.modulation
        return target.peer if target.param in EDGE else target.service

    def fits(self, replica: Replica) -> bool:
        """Return whether a replica is among the modulation's targets."""
        target = self.modulation
        return target.service == replica.service.index and target.replica in (-1, replica.ordinal)

    def applies(self, replica: Replica) -> bool:
        """Return whether the place at which it lives is (still) part of the replica."""
        if not self.begun or self.over or not self.fits(replica):
            return False
        place = self.modulation.place
        if place is Place.PROCESS:
            return replica.born_s <= self.since_s
        if place is Place.VERSION:
            return self.bad_from <= replica.version and (self.bad_to < 0 or replica.version <= self.bad_to)
        return True


class World:
    """The state of one run that every part of the engine works on."""

    def __init__(self, scenario: Scenario, inputs: RunInputs, keys: KeySpace, log: bool, share: float) -> None:
        self.scenario = scenario
        self.inputs = inputs
        self.key = inputs.key  #: of what is drawn from now on
        self.keys = keys
        self.t0 = -scenario.timing.burn_in_steps * scenario.timing.step_s
        self.calendar = Calendar(self.t0)
        self.ledger = Ledger(self.calendar, len(scenario.services), log, share, sample_key(inputs.key))
        self.services = [ServiceState(i, name, spec) for i, (name, spec) in enumerate(scenario.services.items())]
        self.influences = [Influence(i, modulation) for i, modulation in enumerate(inputs.modulations)]
        self.admitted = 1.0  #: fraction of the requests let in
        self.n_replicas = 0  #: ever made

    def new_replica(self, service: ServiceState) -> Replica:
        """Return a further replica of a service, STARTING."""
        replica = Replica(self.calendar, service, self.n_replicas)
        self.n_replicas += 1
        service.replicas.append(replica)
        return replica
