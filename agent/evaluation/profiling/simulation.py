"""A simulation without an agent, as the piece of work that is timed, and variants that cost more or less."""

__all__ = ["Simulation", "constant_times", "copied", "loaded", "longer_steps", "without"]

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simcore.engines.api import RunInputs, Session
from simcore.engines.registry import open_session
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.windows import Total

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Simulation:
    """Some runs of a scenario, without faults, from the burn-in to the end; called, it does the work."""

    scenario: Scenario
    inputs: tuple[RunInputs, ...]
    engine: str = "batch"
    threads: int = 1

    @classmethod
    def of(
        cls, scenario: Scenario, *, seed: int = 1, runs: int = 1, engine: str = "batch", threads: int = 1
    ) -> "Simulation":
        """Return the first runs of a seed."""
        made = [make_run(scenario, seed=seed, split="test", run=run, faults=()) for run in range(runs)]
        return cls(scenario, tuple(run.inputs for run in made), engine, threads)

    @property
    def windows(self) -> int:
        """Windows that are closed, burn-in included, all runs."""
        return len(self.inputs) * (self.scenario.timing.steps + self.scenario.timing.burn_in_steps)

    def __call__(self, *, log: bool = False) -> Session:
        """Do the work and return the session at its end."""
        session = open_session(self.engine, self.scenario, self.inputs, log=log, threads=self.threads)
        session.advance(self.scenario.timing.steps * self.scenario.timing.step_s)
        return session

    def counts(self, session: Session) -> tuple[int, int]:
        """Return requests and attempts of all runs, without the burn-in."""
        totals = session.observe().totals
        return int(totals[..., Total.OFFERED].sum()), int(totals[..., Total.ATTEMPTS].sum())


def _changed(scenario: Scenario, change: Callable[[Plain], None]) -> Scenario:
    """Return a scenario with its plain form changed in place, without faults and actions, which nobody needs here."""
    plain = copy.deepcopy(scenario.model_dump(mode="json", exclude_unset=True))
    plain["faults"], plain["actions"] = {}, {}
    change(plain)
    return build_scenario(plain)


def _dicts(value: Any, name: str) -> list[Plain]:
    """Return all dicts that stand under a key of this name, anywhere inside."""
    found: list[Plain] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name and isinstance(inner, dict):
                found.append(inner)
            found += _dicts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            found += _dicts(inner, name)
    return found


def loaded(scenario: Scenario, factor: float) -> Scenario:
    """Return a scenario with so many times the arrivals, or users."""

    def change(plain: Plain) -> None:
        work = plain["workload"]
        work["rate_rps"] *= factor
        if work.get("closed"):
            work["closed"]["users"] = max(1, round(work["closed"]["users"] * factor))

    return _changed(scenario, change)


def copied(scenario: Scenario, n: int) -> Scenario:
    """Return ``n`` copies of a system side by side that share its load: more services, the same work.

    Every copy has as many replicas as the original; its capacity is not shared out.
    """

    def change(plain: Plain) -> None:
        names = set(plain["services"]) | set(plain.get("topics", {}))
        services: Plain = {}
        topics: Plain = {}
        entries: list[Plain] = []
        for number in range(n):
            services |= _renamed(plain["services"], names, number)
            topics |= _renamed(plain.get("topics", {}), names, number)
            entries += _renamed(plain["workload"]["entries"], names, number)
        plain["services"], plain["workload"]["entries"] = services, entries
        if topics:
            plain["topics"] = topics
        plain.get("noise", {}).pop("targets", None)

    return _changed(scenario, change)


def _renamed(value: Any, names: set[str], number: int) -> Any:
    """Return services, topics or entries with other names; the first copy keeps its own."""

    def called(text: str) -> str:
        head, dot, tail = text.partition(".")
        return f"{head}_{number + 1}{dot}{tail}" if number and head in names else text

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {called(name) if key == "pools" else name: walk(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, key) for inner in value]
        return called(value) if key in ("to", "topic", "operation") else value

    if isinstance(value, dict):
        return {called(name): walk(inner, name) for name, inner in value.items()}
    return walk(value, "")


def constant_times(scenario: Scenario) -> Scenario:
    """Return a scenario whose times are all constant, at the same means."""

    def change(plain: Plain) -> None:
        for name in ("cpu", "delay", "network"):
            for demand in _dicts(plain, name):
                for key in ("sigma", "shape", "alpha"):
                    demand.pop(key, None)
                demand["dist"] = "constant"

    return _changed(scenario, change)


def longer_steps(scenario: Scenario, factor: int) -> Scenario:
    """Return a scenario with control steps so many times as long, and as many fewer of them."""

    def change(plain: Plain) -> None:
        timing = plain.setdefault("timing", {})
        for name in ("steps", "burn_in_steps", "follow_up_steps"):
            timing[name] = -(-getattr(scenario.timing, name) // factor)
        timing["step_s"] = scenario.timing.step_s * factor

    return _changed(scenario, change)


def without(scenario: Scenario, *names: str) -> Scenario:
    """Return a scenario whose services and calls lack an optional part of that name, such as ``gc`` or ``breaker``."""

    def strip(value: Any) -> None:
        if isinstance(value, dict):
            for name in names:
                value.pop(name, None)
            for inner in value.values():
                strip(inner)
        elif isinstance(value, list):
            for inner in value:
                strip(inner)

    def change(plain: Plain) -> None:
        strip(plain["services"])
        strip(plain.get("topics", {}))

    return _changed(scenario, change)
