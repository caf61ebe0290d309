"""Faults of a run: which one, where, when, how bad; how people write them; what they become for an engine."""

__all__ = ["CATALOGUE", "FOREVER", "PULSE_S", "Fault", "expand", "label", "parse_fault", "parse_time"]

import math
import re
from dataclasses import dataclass

from simcore.codes import Place
from simcore.errors import FaultError, suggest
from simcore.model.catalogue import CATALOGUE
from simcore.model.fault_types import NEUTRAL, NO_CALLER, ONE_SHOT, Aim, FaultType, Target, targets_of
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import FaultDraw, Scenario
from simcore.model.spec import Range

#: Duration of a fault that only a fix ends.
FOREVER = -1.0

#: A pulse train: one pulse in so many seconds, on for half of it; at most so many in a run.
PULSE_S = 60.0
_MAX_PULSES = 200

_RAMP_LEVELS = 8
#: Rise of a ramp that ends only by a fix, seconds.
_RAMP_S = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one run."""

    type: str
    service: int  #: number; of an edge, the callee; -1: the workload
    replica: int  #: ordinal within the service; -1: all
    onset_s: float
    duration_s: float  #: ``FOREVER`` (-1): until fixed
    severity: float  #: in (0, 1]
    profile: str
    place: Place
    caller: int = NO_CALLER  #: of an edge: the calling service, ``CLIENTS`` (-1), or ``NO_CALLER`` (-2)

    @property
    def target(self) -> Target:
        """What it hits."""
        return Target(self.service, self.caller)


def label(fault: Fault, scenario: Scenario) -> str:
    """Return the fault as people write it: ``TYPE@TARGET``."""
    if CATALOGUE[fault.type].aim is Aim.NOTHING:
        return fault.type
    return f"{fault.type}@{fault.target.written(scenario)}" + (f"/{fault.replica}" if fault.replica >= 0 else "")


def expand(fault: Fault, scenario: Scenario, first: int = 0) -> tuple[tuple[Modulation, ...], tuple[Change, ...]]:
    """Return what the fault does to the model.

    Parameters
    ----------
    fault, scenario
        The fault and the scenario that its numbers refer to.
    first
        Index of the first of its modulations among the run's.

    Returns
    -------
    tuple
        Modulations, in the order in which their changes run at an instant, and changes sorted by (time, modulation).
    """
    kind = CATALOGUE[fault.type]
    params = [param for param, _ in kind.effects(fault.severity, scenario, fault.service)]
    if kind.aim is Aim.EDGE:
        modulations = tuple(Modulation(param, fault.place, fault.caller, peer=fault.service) for param in params)
    else:
        modulations = tuple(Modulation(param, fault.place, fault.service, fault.replica) for param in params)
    train = all(param in ONE_SHOT for param in params)
    changes = []
    for number, (time_s, level) in enumerate(_levels(fault, scenario)):
        active = dict(kind.effects(fault.severity * level, scenario, fault.service)) if level > 0.0 else NEUTRAL
        for i, param in enumerate(params):
            # What acts once says nothing when it ends, and is repeated only if that is all the fault does.
            if param not in ONE_SHOT or number == 0 or (train and level > 0.0):
                changes.append(Change(time_s, first + i, active[param]))
    return modulations, tuple(changes)


def _levels(fault: Fault, scenario: Scenario) -> list[tuple[float, float]]:
    """Return (time, level in [0, 1]) of each change of a profile, times increasing."""
    onset, timed = fault.onset_s, fault.duration_s > 0.0
    horizon = scenario.timing.steps * scenario.timing.step_s
    end = onset + fault.duration_s if timed else max(horizon, onset)
    if fault.profile == "once":
        return [(onset, 1.0)]
    if fault.profile == "pulses":
        period = max(PULSE_S, (end - onset) / _MAX_PULSES)
        starts = [onset + i * period for i in range(max(1, math.ceil((end - onset) / period)))]
        pulses = [((start, 1.0), (min(start + 0.5 * period, end), 0.0)) for start in starts if start < end]
        return [change for pulse in pulses for change in pulse] or [(onset, 1.0)]
    levels = [(onset, 1.0)]
    if fault.profile == "ramp":
        rise = fault.duration_s / 3.0 if timed else _RAMP_S
        levels = [(onset + i * (rise / _RAMP_LEVELS), (i + 1) / _RAMP_LEVELS) for i in range(_RAMP_LEVELS)]
    return [*levels, (end, 0.0)] if timed else levels


def parse_time(text: str, step_s: float) -> float:
    """Return a time in seconds: a plain number is in seconds, ``90s``, ``5min`` and ``12steps`` carry their unit.

    Raises
    ------
    FaultError
        If the text is no such time, or is negative.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    units = {"": 1.0, "s": 1.0, "min": 60.0, "step": step_s, "steps": step_s}
    if not found:
        raise FaultError(f"a time must be a number >= 0 such as 90, 90s, 5min or 12steps, got {text!r}")
    if found[2] not in units:
        raise FaultError(f"a time's unit must be s, min or steps, got {text!r}")
    value = float(found[1]) * units[found[2]]
    if not value <= 1e9:
        raise FaultError(f"a time must be at most 1e9 seconds, got {text!r}")
    return value


def parse_fault(
    text: str,
    scenario: Scenario,
    *,
    onset_s: float | None = None,
    duration_s: float | None = None,
    severity: float | None = None,
    profile: str | None = None,
    place: str | None = None,
) -> Fault:
    """Return the fault that people write as ``TYPE[@TARGET]``.

    What is left out comes from the scenario's mix (the middle of each range, the first target, the heaviest place)
    or, where the mix does not hold the type, from the catalogue.

    Parameters
    ----------
    text
        ``latency_spike@db``, ``slow_replica@db/2``, ``traffic_surge@workload``, ``cache_flush`` or ``none``.
    scenario
        The system it hits.
    onset_s, duration_s
        Seconds from time 0; a duration of -1 is "until fixed".
    severity
        In (0, 1].
    profile
        ``step``, ``ramp``, ``pulses`` or ``once``.
    place
        Name of a ``Place`` in lower case.

    Raises
    ------
    FaultError
        Listing every mistake, one a line.
    """
    name, at, target = text.strip().partition("@")
    mistakes: list[str] = []
    kind = CATALOGUE.get(name)
    if kind is None:
        mistakes.append(f"there is no fault type '{name}'{suggest(name, CATALOGUE)} (types: {', '.join(CATALOGUE)})")
    row = next((row for row in scenario.faults.mix if row.type == name), FaultDraw(type=name))
    onset = _onset(onset_s, scenario, mistakes)
    duration = _duration(duration_s, row, kind, mistakes)
    strength = _middle(row.severity) if severity is None else severity
    if not 0.0 < strength <= 1.0:
        mistakes.append(f"severity must be > 0 and <= 1, got {strength:g}")
    if kind is not None:
        aimed, replica = _aim(kind, name, target if at else None, row, scenario, mistakes)
        shape = profile or row.profile or kind.profiles[0]
        if shape not in kind.profiles:
            mistakes.append(f"profile of {name} must be {_either(kind.profiles)}, got '{shape}'")
        lives = _place(kind, name, place, row, mistakes)
    if mistakes:
        raise FaultError("\n".join(f"fault {text}: {mistake}" for mistake in mistakes))
    return Fault(name, aimed.service, replica, onset, duration, strength, shape, lives, aimed.caller)


def _middle(of: Range) -> float:
    return 0.5 * (of.min + of.max)


def _onset(given: float | None, scenario: Scenario, mistakes: list[str]) -> float:
    horizon = scenario.timing.steps * scenario.timing.step_s
    if given is None:
        return min(_middle(scenario.faults.onset_s), 0.5 * horizon)
    if not 0.0 <= given < horizon:
        mistakes.append(f"onset must be >= 0 and before the episode's end at {horizon:g} s, got {given:g}")
    return given


def _either(names: tuple[str, ...] | list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def _duration(given: float | None, row: FaultDraw, kind: FaultType | None, mistakes: list[str]) -> float:
    if given is None:
        usual = FOREVER if kind is None or kind.duration_s is None else kind.duration_s
        return usual if row.duration_s is None else _middle(row.duration_s)
    if given != FOREVER and not 0.0 < given <= 1e9:
        mistakes.append(f"duration must be > 0 (or -1: until fixed), got {given:g}")
    return given


def _place(kind: FaultType, name: str, place: str | None, row: FaultDraw, mistakes: list[str]) -> Place:
    if place is None:
        weights = row.places or {p.name.lower(): w for p, w in kind.places.items()}
        return Place[max(weights, key=lambda p: weights[p]).upper()]
    known = [p.name.lower() for p in Place if kind.may_live_in(p)]
    if place not in known:
        mistakes.append(f"place of {name} must be {_either(known)}, got '{place}'{suggest(place, known)}")
        return Place.OUTSIDE
    return Place[place.upper()]


def _aim(
    kind: FaultType, name: str, target: str | None, row: FaultDraw, scenario: Scenario, mistakes: list[str]
) -> tuple[Target, int]:
    """Return the target as written (None: left out) and the replica's ordinal, noting what is wrong."""
    nowhere = Target(-1), -1
    legal = {found.written(scenario): found for found in targets_of(kind, scenario)}
    if kind.aim is Aim.NOTHING:
        if target is not None:
            mistakes.append(f"{name} is aimed at nothing, got '{target}'")
        return nowhere
    if not legal:
        mistakes.append(f"{name} is aimed at {kind.aim.value}, and scenario {scenario.name} has none")
        return nowhere
    if target is None:
        target = row.targets[0] if row.targets else next(iter(legal))
    if ":" in target and kind.aim is not Aim.EDGE:
        mistakes.append(f"'{target}' is an edge between two services; {name} is aimed at {kind.aim.value}")
        return nowhere
    place, slash, ordinal = target.partition("/")
    if place not in legal:
        known = "the target must be " + _either(list(legal))
        mistakes.append(f"{name} is aimed at {kind.aim.value}: {known}, got '{place}'{suggest(place, legal)}")
        return nowhere
    if kind.aim in (Aim.WORKLOAD, Aim.EDGE):
        if slash:
            mistakes.append(f"{kind.aim.value} has no replicas, got '{target}'")
        return legal[place], -1
    return legal[place], _ordinal(kind, name, place, ordinal if slash else None, scenario, mistakes)


def _ordinal(
    kind: FaultType, name: str, service: str, text: str | None, scenario: Scenario, mistakes: list[str]
) -> int:
    if text is None:
        return 0 if kind.aim is Aim.REPLICA else -1
    count = scenario.services[service].replicas.initial
    if kind.aim in (Aim.WHOLE_SERVICE, Aim.CALLER):
        mistakes.append(f"{name} is aimed at {kind.aim.value}, not at one replica, got '{service}/{text}'")
    elif not re.fullmatch(r"[0-9]{1,6}", text) or int(text) >= count:
        mistakes.append(f"the replica of {service} must be a number from 0 to {count - 1}, got '{text}'")
    else:
        return int(text)
    return -1
