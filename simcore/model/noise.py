"""Harmless events in all runs: benign deploys, changes of configuration, short bursts (FIELD: traps)."""

__all__ = ["draw_noise", "draw_phase"]

from collections.abc import Callable
from enum import IntEnum

import numpy as np

from simcore.codes import Param, Place
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.model.spec import Range
from simcore.samplers import log
from simcore.streams import uniform

#: Half-width of a benign deploy's change of CPU demand, and of a benign change of timeouts.
_DEPLOY_WIDTH, _CONFIG_WIDTH = 0.03, 0.1


class _Kind(IntEnum):
    DEPLOY = 0
    CONFIG = 1
    BURST = 2
    PHASE = 3


#: Draws of one event; index of a draw = (kind << 32) + 8 * event + draw.
class _Draw(IntEnum):
    GAP = 0
    SERVICE = 1
    AMOUNT = 2
    LENGTH = 3


class _Events:
    """The events of one kind: their times and draws."""

    def __init__(self, key: np.uint64, kind: _Kind) -> None:
        self.key = key
        self.base = int(kind) << 32

    def draw(self, event: int, what: _Draw) -> float:
        """Return a uniform of an event."""
        return float(uniform(self.key, np.uint64(self.base + 8 * event + what)))

    def times(self, rate_per_hour: float, horizon_s: float) -> list[float]:
        """Return the arrival times of a Poisson process over [0, horizon)."""
        if rate_per_hour <= 0.0:
            return []
        times: list[float] = []
        gap, time_s = 3600.0 / rate_per_hour, 0.0
        while True:
            time_s = time_s + gap * -float(log(1.0 - self.draw(len(times), _Draw.GAP)))
            if not time_s < horizon_s:
                return times
            times.append(time_s)


def draw_phase(scenario: Scenario, key: np.uint64) -> float:
    """Return the phase of a run's load wave, turns: the scenario's, or drawn; 0 unless it is sinusoidal.

    Parameters
    ----------
    scenario
        The scenario.
    key
        Key of the run's noise stream (2).
    """
    workload = scenario.workload
    if workload.phase is not None:
        return workload.phase
    if workload.shape != "sinusoidal" or not workload.random_phase:
        return 0.0
    return _Events(key, _Kind.PHASE).draw(0, _Draw.AMOUNT)


def draw_noise(scenario: Scenario, key: np.uint64) -> tuple[list[Modulation], list[Change]]:
    """Return the benign modulations of a run and their changes, unsorted.

    Parameters
    ----------
    scenario
        Gives the rates; events come over the whole episode, none in the burn-in.
    key
        Key of the run's noise stream (2).
    """
    noise, timing = scenario.noise, scenario.timing
    horizon = timing.steps * timing.step_s
    modulations: list[Modulation] = []
    changes: list[Change] = []

    def add(modulation: Modulation, *values: tuple[float, float]) -> None:
        changes.extend(Change(time_s, len(modulations), value) for time_s, value in values)
        modulations.append(modulation)

    plan: list[tuple[_Kind, float, Callable[[_Events, int, float], None]]] = [
        (_Kind.DEPLOY, noise.deploys_per_hour, lambda e, i, t: _deploy(scenario, e, i, t, add)),
        (_Kind.CONFIG, noise.config_changes_per_hour, lambda e, i, t: _config(scenario, e, i, t, add)),
        (_Kind.BURST, noise.bursts_per_hour, lambda e, i, t: _burst(scenario, e, i, t, add)),
    ]
    for kind, rate, enter in plan:
        events = _Events(key, kind)
        for i, time_s in enumerate(events.times(rate, horizon)):
            enter(events, i, time_s)
    return modulations, changes


def _service(scenario: Scenario, events: _Events, event: int) -> int:
    names = scenario.service_names
    targets = scenario.noise.targets or names
    return names.index(targets[min(int(events.draw(event, _Draw.SERVICE) * len(targets)), len(targets) - 1)])


def _within(of: Range, u: float) -> float:
    return of.min + u * (of.max - of.min)


def _factor(width: float, u: float) -> float:
    return 1.0 + width * (2.0 * u - 1.0)


def _deploy(scenario: Scenario, events: _Events, event: int, time_s: float, add: Callable[..., None]) -> None:
    service = _service(scenario, events, event)
    # The version must change before what lives in it begins.
    add(Modulation(Param.DEPLOY, Place.VERSION, service), (time_s, 1.0))
    factor = _factor(_DEPLOY_WIDTH, events.draw(event, _Draw.AMOUNT))
    add(Modulation(Param.DEMAND, Place.VERSION, service), (time_s, factor))


def _config(scenario: Scenario, events: _Events, event: int, time_s: float, add: Callable[..., None]) -> None:
    service = _service(scenario, events, event)
    add(Modulation(Param.CONFIG, Place.CONFIG, service), (time_s, 1.0))
    factor = _factor(_CONFIG_WIDTH, events.draw(event, _Draw.AMOUNT))
    add(Modulation(Param.TIMEOUT, Place.CONFIG, service), (time_s, factor))


def _burst(scenario: Scenario, events: _Events, event: int, time_s: float, add: Callable[..., None]) -> None:
    extra = _within(scenario.noise.burst_factor, events.draw(event, _Draw.AMOUNT)) - 1.0
    length = _within(scenario.noise.burst_s, events.draw(event, _Draw.LENGTH))
    add(Modulation(Param.SURGE, Place.WORKLOAD), (time_s, extra), (time_s + length, 0.0))
