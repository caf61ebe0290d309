"""How often a request visits each service when all is well: what sizes a fault to the system it hits."""

__all__ = ["visits"]

from simcore.model.programs import CachedStep, Numbered, PublishStep
from simcore.model.scenario import Scenario

_known: dict[str, tuple[float, ...]] = {}


def visits(scenario: Scenario) -> tuple[float, ...]:
    """Return the expected spans per request by service number.

    Without retries; a ``cached`` step misses with the popularity of the keys that find no slot. The call graph must
    be free of cycles. Remembered by the scenario's digest.
    """
    if scenario.digest not in _known:
        _known[scenario.digest] = _Count(scenario).per_request()
    return _known[scenario.digest]


class _Count:
    """Walks the call graph, every operation once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.numbers = {pair: i for i, pair in enumerate(scenario.operations)}
        self.known: dict[int, list[float]] = {}

    def per_request(self) -> tuple[float, ...]:
        """Return the spans per request by service number."""
        entries = self.scenario.workload.entries
        weight = sum(entry.weight for entry in entries)
        total = [0.0] * len(self.scenario.services)
        for entry in entries:
            self._add(entry.operation, entry.weight / weight, total)
        return tuple(total)

    def _add(self, name: str, share: float, total: list[float]) -> None:
        service, _, operation = name.partition(".")
        number = self.numbers[service, operation]
        if number not in self.known:
            inside = [0.0] * len(total)
            inside[self.scenario.service_names.index(service)] = 1.0
            self._walk(self.scenario.programs[number], 1.0, inside)
            self.known[number] = inside
        for i, count in enumerate(self.known[number]):
            total[i] += share * count

    def _walk(self, steps: tuple[Numbered, ...], share: float, total: list[float]) -> None:
        for step in steps:
            if isinstance(step.spec, PublishStep):
                self._add(self.scenario.callee_of(step.site), share * step.spec.publish.probability, total)
            elif step.site >= 0:
                call = self.scenario.call_of(step.site)
                self._add(call.to, share * call.probability, total)
                if isinstance(step.spec, CachedStep):
                    self._walk(step.inner, share * call.probability * self._miss_share(step.spec), total)
            else:
                # a lock's steps, the branches of a parallel step
                self._walk(step.inner, share, total)

    def _miss_share(self, spec: CachedStep) -> float:
        name = spec.cached.to.partition(".")[0]
        service = self.scenario.services[name]
        sharers = sum(
            isinstance(other.spec, CachedStep) and other.spec.cached.to.startswith(name + ".")
            for other in self.scenario.sites
        )
        slots = service.cache.slots * service.replicas.initial // sharers if service.cache else 0
        keys = spec.cached.keys
        weights: list[float] = [(rank + 1.0) ** -keys.zipf for rank in range(keys.count)]
        missed = sum(weights[slots:]) / sum(weights)
        if service.cache is None or service.cache.negative_ttl_s is None:
            # what does not exist is looked up in vain each time
            missed = keys.absent + (1.0 - keys.absent) * missed
        return missed
