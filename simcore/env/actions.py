"""What a scenario lets an agent know and do: the topology and the numbered table of actions."""

__all__ = ["build_actions", "build_topology", "n_slots"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simcore.codes import ActionCode
from simcore.errors import ActionError, suggest
from simcore.model.action_types import ACTIONS, NEUTRAL_SETTING, ActionAim, ActionType, services_for
from simcore.model.programs import PublishStep
from simcore.model.scenario import ActionSpec, Scenario
from simcore.observation import ActionTable, Topology


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    spec: ActionSpec
    service: int = -1
    slot: int = -1
    amount: float = 0.0


def n_slots(scenario: Scenario) -> int:
    """Return the largest number of replicas that any service may have: the slot axis of observations."""
    return max(service.replicas.max for service in scenario.services.values())


def build_topology(scenario: Scenario) -> Topology:
    """Return what an agent may know of a scenario beforehand."""
    names = scenario.service_names
    number = {name: i for i, name in enumerate(names)}
    calls = np.zeros((len(names), len(names)), np.bool_)
    #: (whether required, caller, callee) of the calls that wait for an answer
    waits = np.zeros((2, len(names), len(names)), np.bool_)
    for step in scenario.sites:
        edge = number[scenario.operations[step.operation][0]], number[scenario.callee_of(step.site).partition(".")[0]]
        calls[edge] = True
        if not isinstance(step.spec, PublishStep):
            waits[(int(scenario.call_of(step.site).required), *edge)] = True
    weights = np.zeros(len(names))
    for entry in scenario.workload.entries:
        weights[number[entry.operation.split(".")[0]]] += entry.weight
    return Topology(
        services=names,
        calls=calls,
        optional=waits[0],
        required=waits[1],
        entry=int(np.argmax(weights)),
        caches=np.array([service.cache is not None for service in scenario.services.values()]),
        p95_slo_s=scenario.slo.p95_s,
        bad_frac_slo=scenario.slo.bad_frac,
        step_s=scenario.timing.step_s,
        rate_rps=scenario.workload.rate_rps,
    )


def build_actions(scenario: Scenario) -> ActionTable:
    """Return the actions of a scenario: noop first, then by kind, service and value.

    What was set can always be put back: ``limit_traffic(1)``, ``set_retry_budget(api,1)``. A quarantine
    names the replica by its rank among those STARTING or UP, up to the service's largest number of replicas.

    Raises
    ------
    ActionError
        If the scenario names an action or a target that there is not.
    """
    for name in scenario.actions:
        if name not in ACTIONS:
            raise ActionError(f"actions.{name}: there is no such action{suggest(name, ACTIONS)}")
    rows = [_Row("noop", "noop", scenario.actions.get("noop", ActionSpec(cooldown_s=0.0)))]
    for name, kind in ACTIONS.items():
        if name in scenario.actions and name != "noop":
            rows += _rows(scenario, name, kind, scenario.actions[name])
    specs = [row.spec for row in rows]
    return ActionTable(
        names=tuple(row.name for row in rows),
        kinds=tuple(row.kind for row in rows),
        code=np.array([int(ACTIONS[row.kind].code) for row in rows], np.int64),
        service=np.array([row.service for row in rows], np.int64),
        slot=np.array([row.slot for row in rows], np.int64),
        amount=np.array([row.amount for row in rows], np.float64),
        delay_s=np.array([spec.delay_s for spec in specs], np.float64),
        delay_sigma=np.array([spec.delay_sigma for spec in specs], np.float64),
        settle_s=np.array([spec.settle_s for spec in specs], np.float64),
        cost=np.array([spec.cost for spec in specs], np.float64),
        cooldown_s=np.array([spec.cooldown_s for spec in specs], np.float64),
        failure_probability=np.array([spec.failure_probability for spec in specs], np.float64),
        disruptive=np.array([ACTIONS[row.kind].is_disruptive(row.amount) for row in rows], np.bool_),
    )


def _rows(scenario: Scenario, name: str, kind: ActionType, spec: ActionSpec) -> Iterator[_Row]:
    amounts = _amounts(kind, spec)
    if kind.aim is ActionAim.SYSTEM:
        for amount in amounts:
            yield _Row(f"{name}({amount:g})" if kind.values else name, name, spec, amount=amount)
        return
    for service, target in _targets(scenario, name, kind, spec):
        if kind.aim is ActionAim.REPLICA:
            for slot in range(scenario.services[target].replicas.max):
                yield _Row(f"{name}({target}/{slot})", name, spec, service, slot)
            continue
        for amount in amounts:
            value = f",{amount:+g}" if kind.code == ActionCode.SCALE else f",{amount:g}"
            yield _Row(f"{name}({target}{value if kind.values else ''})", name, spec, service, amount=amount)


def _amounts(kind: ActionType, spec: ActionSpec) -> list[float]:
    """Return the amounts offered; what a setting changes can always be put back."""
    if kind.values is None:
        return [kind.amount]
    back = {ActionCode.LIMIT_TRAFFIC: [1.0]}.get(kind.code, [NEUTRAL_SETTING[kind.setting]] if kind.setting else [])
    return list(dict.fromkeys([*(spec.values or kind.values.usual), *back]))


def _targets(scenario: Scenario, name: str, kind: ActionType, spec: ActionSpec) -> Iterator[tuple[int, str]]:
    fitting = services_for(kind.aim, scenario)
    for target in spec.targets or ():
        if target not in scenario.services:
            raise ActionError(
                f"actions.{name}.targets: there is no service '{target}'{suggest(target, scenario.services)}"
            )
        if target not in fitting:
            raise ActionError(f"actions.{name}.targets: {name} is aimed at {kind.aim.value}, '{target}' is none")
    for number, target in enumerate(scenario.services):
        if target in (fitting if spec.targets is None else spec.targets):
            yield number, target
