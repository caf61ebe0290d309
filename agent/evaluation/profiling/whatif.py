"""What would make a scenario faster: changes that are tried, each against the scenario as it is."""

__all__ = ["Trial", "try_changes"]

from collections.abc import Callable
from dataclasses import dataclass

from agent.evaluation.profiling.clocks import timed_rounds
from agent.evaluation.profiling.simulation import Simulation, constant_times, loaded, longer_steps, without
from agent.evaluation.study import with_steps
from simcore.errors import InputError
from simcore.model.scenario import Scenario, Workload

_PIECE_S = 0.04
_RUNS = 2

#: Optional parts of services and calls: name of the key -> what leaving it out means.
_PARTS = {
    "gc": "no garbage collection",
    "health": "no health checks",
    "breaker": "no circuit breakers",
    "pools": "no connection pools",
    "retry_budget": "no retry budgets",
    "hedge": "no hedged calls",
    "autoscaler": "no autoscalers",
    "warmup": "no warm-up",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A change that was timed in turn with the scenario as it is."""

    change: str
    saves: float  #: share of the simulation's CPU time; negative if it costs
    noise: float  #: relative, of both times together
    another_model: bool  #: whether the results are those of another system

    @property
    def shown(self) -> bool:
        """Whether it saves more than noise explains."""
        return self.saves > max(0.01, 2.0 * self.noise)


def try_changes(scenario: Scenario, *, seed: int, rounds: int = 9) -> list[Trial]:
    """Time what a scenario would cost with one thing changed; those that save most first.

    Parameters
    ----------
    scenario
        Simulated without faults and without an agent; cut to fewer steps if a run takes long.
    seed
        Of the runs.
    rounds
        Of each change, in turn with all the others; the best one counts.
    """
    whole = Simulation.of(scenario, seed=seed)
    best = min(timed_rounds({"one": whole}, rounds=2)["one"])
    steps = min(scenario.timing.steps, max(6, round(scenario.timing.steps * _PIECE_S / _RUNS / best)))
    base = loaded(with_steps(scenario, steps), 1.0)
    # short episodes are timed in larger rounds
    runs = max(_RUNS, min(64, round(_PIECE_S * scenario.timing.steps / (best * steps))))
    pieces = {"": Simulation.of(base, seed=seed, runs=runs)}
    for name, change in _changes(base).items():
        try:
            pieces[name] = Simulation.of(change(base), seed=seed, runs=runs)
        except InputError:  # the scenario does not allow it
            continue
    times = {name: sorted(found)[:2] for name, found in timed_rounds(pieces, rounds=rounds).items()}
    noise = {name: found[1] / found[0] - 1.0 for name, found in times.items()}
    trials = [
        Trial(name, 1.0 - found[0] / times[""][0], noise[name] + noise[""], True)
        for name, found in times.items()
        if name
    ]
    return sorted(trials, key=lambda trial: -trial.saves)


def _changes(scenario: Scenario) -> dict[str, Callable[[Scenario], Scenario]]:
    """Return those changes that change anything in this scenario."""
    changes: dict[str, Callable[[Scenario], Scenario]] = {
        "all times constant instead of drawn": constant_times,
        f"control steps of {2 * scenario.timing.step_s:g} s": lambda s: longer_steps(s, 2),
    }
    used = _keys(scenario.model_dump(mode="json", exclude_unset=True)["services"])
    for part, what in _PARTS.items():
        if part in used:
            changes[what] = lambda s, part=part: without(s, part)  # type: ignore[misc]
    if scenario.network.mean_s > 0.0:
        changes["no network latency (scenario's network)"] = _no_network
    if scenario.workload.shape != "constant":
        changes["constant load instead of " + scenario.workload.shape] = _constant_load
    return changes


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return {key for key, inner in value.items() if inner}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def _no_network(scenario: Scenario) -> Scenario:
    latency = type(scenario.network)()
    return Scenario.model_validate(scenario.model_dump() | {"network": latency.model_dump()})


def _constant_load(scenario: Scenario) -> Scenario:
    work = scenario.workload
    plain = Workload(
        rate_rps=work.rate_rps, entries=work.entries, timeout_s=work.timeout_s, deadline_s=work.deadline_s,
        arrivals=work.arrivals, closed=work.closed,
    )  # fmt: skip
    return Scenario.model_validate(scenario.model_dump() | {"workload": plain.model_dump()})
