"""What a scenario lets an agent know and do: the topology and the numbered table of actions."""

__all__ = ["build_actions", "build_topology", "n_slots"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simcore.codes import ActionCode
from simcore.errors import ActionError, suggest
from simcore.model.scenario import ActionSpec, Scenario
from simcore.observation import ActionTable, Topology

_NAMES = {code.name.lower(): code for code in ActionCode}


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    code: ActionCode
    spec: ActionSpec
    service: int = -1
    slot: int = -1
    amount: float = 0.0

    @property
    def disruptive(self) -> bool:
        """Whether it can hurt users by itself (FIELD: disruptive)."""
        if self.code == ActionCode.LIMIT_TRAFFIC:
            return self.amount < 1.0
        if self.code == ActionCode.SCALE:
            return self.amount < 0.0
        return self.code not in (ActionCode.NOOP, ActionCode.RELEASE)


def n_slots(scenario: Scenario) -> int:
    """Return the largest number of replicas that any service may have: the slot axis of observations."""
    return max(service.replicas.max for service in scenario.services.values())


def build_topology(scenario: Scenario) -> Topology:
    """Return what an agent may know of a scenario beforehand."""
    names = scenario.service_names
    number = {name: i for i, name in enumerate(names)}
    calls = np.zeros((len(names), len(names)), np.bool_)
    for step in scenario.walk():
        if step.site >= 0:
            caller = scenario.operations[step.operation][0]
            calls[number[caller], number[scenario.call_of(step.site).to.split(".")[0]]] = True
    weights = np.zeros(len(names))
    for entry in scenario.workload.entries:
        weights[number[entry.operation.split(".")[0]]] += entry.weight
    return Topology(
        services=names,
        calls=calls,
        entry=int(np.argmax(weights)),
        caches=np.array([service.cache is not None for service in scenario.services.values()]),
        p95_slo_s=scenario.slo.p95_s,
        bad_frac_slo=scenario.slo.bad_frac,
        step_s=scenario.timing.step_s,
        rate_rps=scenario.workload.rate_rps,
    )


def build_actions(scenario: Scenario) -> ActionTable:
    """Return the actions of a scenario: noop first, then by ``ActionCode``, service and value.

    ``limit_traffic`` always contains its lifting, ``limit_traffic(1)``. A quarantine names the replica by its rank
    among those STARTING or UP, up to the service's largest number of replicas.

    Raises
    ------
    ActionError
        If the scenario names an action or a target that there is not.
    """
    for kind in scenario.actions:
        if kind not in _NAMES:
            raise ActionError(f"actions.{kind}: there is no such action{suggest(kind, _NAMES)}")
    rows = [_Row("noop", ActionCode.NOOP, scenario.actions.get("noop", ActionSpec(cooldown_s=0.0)))]
    for kind, code in _NAMES.items():
        if kind in scenario.actions and code != ActionCode.NOOP:
            rows += _rows(scenario, kind, code, scenario.actions[kind])
    specs = [row.spec for row in rows]
    return ActionTable(
        names=tuple(row.name for row in rows),
        code=np.array([int(row.code) for row in rows], np.int64),
        service=np.array([row.service for row in rows], np.int64),
        slot=np.array([row.slot for row in rows], np.int64),
        amount=np.array([row.amount for row in rows], np.float64),
        delay_s=np.array([spec.delay_s for spec in specs], np.float64),
        settle_s=np.array([spec.settle_s for spec in specs], np.float64),
        cost=np.array([spec.cost for spec in specs], np.float64),
        cooldown_s=np.array([spec.cooldown_s for spec in specs], np.float64),
        failure_probability=np.array([spec.failure_probability for spec in specs], np.float64),
        disruptive=np.array([row.disruptive for row in rows], np.bool_),
    )


def _rows(scenario: Scenario, kind: str, code: ActionCode, spec: ActionSpec) -> Iterator[_Row]:
    if code == ActionCode.LIMIT_TRAFFIC:
        for amount in dict.fromkeys([*(spec.values or [0.7]), 1.0]):
            yield _Row(f"limit_traffic({amount:g})", code, spec, amount=amount)
        return
    for service, name in _targets(scenario, kind, code, spec):
        if code == ActionCode.SCALE:
            for amount in spec.values or [1.0, -1.0]:
                yield _Row(f"scale({name},{amount:+g})", code, spec, service, amount=amount)
        elif code in (ActionCode.QUARANTINE, ActionCode.RELEASE):
            for slot in range(scenario.services[name].replicas.max):
                yield _Row(f"{kind}({name}/{slot})", code, spec, service, slot)
        else:
            yield _Row(f"{kind}({name})", code, spec, service)


def _targets(scenario: Scenario, kind: str, code: ActionCode, spec: ActionSpec) -> Iterator[tuple[int, str]]:
    services = scenario.services
    for name in spec.targets or ():
        if name not in services:
            raise ActionError(f"actions.{kind}.targets: there is no service '{name}'{suggest(name, services)}")
        if code == ActionCode.CLEAR_CACHE and services[name].cache is None:
            raise ActionError(f"actions.{kind}.targets: service '{name}' is no cache")
    for number, (name, service) in enumerate(services.items()):
        sensible = service.cache is not None or code != ActionCode.CLEAR_CACHE
        if sensible if spec.targets is None else name in spec.targets:
            yield number, name
