"""What can be varied by name: the faults, the load, the delay of actions, the agent, and every scenario parameter."""

__all__ = ["DERIVED", "FAULT_FIELDS", "PARTS", "Derived", "Key", "key_of", "known_keys"]

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from agent.evaluation.sweep.axes import Value
from agent.registry import DETECTORS, DIAGNOSERS, POLICIES
from simcore.errors import FaultError, InputError, ScenarioError, suggest
from simcore.model.faults import FOREVER, parse_time
from simcore.model.keypath import locate, with_value
from simcore.model.scenario import Scenario
from simcore.model.shapes import kinds_at

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """Something that can vary."""

    name: str
    role: Literal["scenario", "fault", "agent"]
    unit: str
    numeric: bool
    whole: bool
    parse: Callable[[str], Value]  #: from text to a value; raises ``InputError``
    change: Callable[[Plain, Value], Plain] | None = None  #: of the scenario's plain data, which stay as they are
    field: str = ""  #: of a fault or of the agent
    fault: int = -1  #: number of the fault, -1: the only one


@dataclass(frozen=True, slots=True)
class Derived:
    """A number that changes several parameters of a scenario together."""

    about: str
    unit: str
    change: Callable[[Plain, Value], Plain]
    clashes: tuple[str, ...] = ()  #: key paths that cannot be varied beside it
    first: bool = False  #: changes the scenario before all other keys do


def _with_load(plain: Plain, value: Value) -> Plain:
    rate_rps = plain["workload"]["rate_rps"]
    return with_value(plain, ("workload", "rate_rps"), rate_rps * value)  # type: ignore[no-any-return]


def _with_action_delay(plain: Plain, value: Value) -> Plain:
    later = {
        name: spec if name == "noop" else spec | {"delay_s": spec["delay_s"] + value}
        for name, spec in plain["actions"].items()
    }
    return plain | {"actions": later}


def _with_control_step(plain: Plain, value: Value) -> Plain:
    """Return the scenario with another step, and with the seconds of all that is counted in steps but the lag."""
    timing = dict(plain["timing"])
    if not float(value) > 0.0:  # type: ignore[arg-type]
        raise ScenarioError(f"control_step_s: must be > 0, got {value}")
    for name in ("steps", "burn_in_steps", "follow_up_steps"):
        length_s = timing[name] * timing["step_s"]
        timing[name] = _whole("control_step_s", length_s, value, f"timing.{name} last {length_s:g} s and")
    return plain | {"timing": timing | {"step_s": value}}


def _with_scrape_lag(plain: Plain, value: Value) -> Plain:
    step_s = plain["timing"]["step_s"]
    lag = _whole("scrape_lag_s", value, step_s, "a scrape is late by whole steps:")
    return with_value(plain, ("observation", "lag_steps"), lag)  # type: ignore[no-any-return]


def _whole(key: str, length_s: Any, step_s: Any, why: str) -> int:
    """Return how many steps a length of time is."""
    count = float(length_s / step_s)
    if abs(count - round(count)) > 1e-9 * max(count, 1.0):
        raise ScenarioError(f"{key}: {why} must be a multiple of the step of {step_s:g} s, got {length_s:g} s")
    return round(count)


#: Keys that stand for several parameters of the scenario.
DERIVED: dict[str, Derived] = {
    "load": Derived("multiple of the scenario's request rate", "x", _with_load, ("workload.rate_rps",)),
    "action_delay_s": Derived(
        "how much later than the scenario says every action takes effect: approval, queues, a slow pipeline",
        "s", _with_action_delay,
    ),
    "control_step_s": Derived(
        "length of a control step; the episode, its burn-in and its follow-up stay as long as they are",
        "s", _with_control_step, ("timing.step_s", "timing.steps", "timing.burn_in_steps", "timing.follow_up_steps"),
        first=True,
    ),
    "scrape_lag_s": Derived(
        "how late a scrape arrives, a multiple of the step", "s", _with_scrape_lag, ("observation.lag_steps",)
    ),
}  # fmt: skip

#: Fields of a fault, with what they are.
FAULT_FIELDS: dict[str, str] = {
    "onset_s": "when it begins: 90, 5min or 60steps",
    "duration_s": "how long it lasts, or forever: until fixed",
    "severity": "above 0, up to 1",
    "type": "as mendsim faults lists them",
    "target": "what it hits",
    "profile": "step, ramp, pulses or once",
    "place": "where it lives",
}

#: Parts of the agent, with what is registered.
PARTS = {"detector": DETECTORS, "diagnoser": DIAGNOSERS, "policy": POLICIES}

_FAULT = re.compile(r"^fault(?:\[(\d+)\])?(?:\.(\w+))?$")
_UNITS = {"_s": "s", "_ms": "ms", "_rps": "requests/s", "_bytes": "bytes", "_frac": "", "_steps": "steps"}


def known_keys(plain: Plain) -> dict[str, str]:
    """Return the keys that are no key paths, and the sections of the scenario, with what they are."""
    known = {"fault": "TYPE@TARGET"} | {f"fault.{name}": about for name, about in FAULT_FIELDS.items()}
    known |= {name: derived.about for name, derived in DERIVED.items()}
    known |= {part: f"name of a {part}" for part in PARTS}
    return known | {name: "of the scenario" for name, value in plain.items() if isinstance(value, dict)}


def key_of(text: str, plain: Plain, *, step_s: float) -> Key:
    """Return the key that a user names.

    Parameters
    ----------
    text
        Such as ``fault.onset_s``, ``load``, ``policy`` or ``services.db.threads``.
    plain
        The scenario's plain data, from ``Scenario.model_dump``.
    step_s
        Length of a step, for times in steps.

    Raises
    ------
    InputError
        If there is no such key.
    """
    if text in DERIVED:
        derived = DERIVED[text]
        parse = (lambda given: _time(given, step_s)) if derived.unit == "s" else _number
        return Key(text, "scenario", derived.unit, True, False, parse, derived.change)
    if text in PARTS:
        return Key(text, "agent", "", False, False, lambda given: _name(given, text), field=text)
    if found := _FAULT.match(text):
        return _fault_key(text, found[2] or "fault", -1 if found[1] is None else int(found[1]), step_s)
    try:
        path = locate(plain, text)
    except ScenarioError as error:
        top = re.split(r"[.\[]", text)[0]
        if top in plain:
            raise
        raise InputError(f"{text}: there is no such key{suggest(text, known_keys(plain))}") from error
    kinds = kinds_at(Scenario, path)
    numeric = bool(kinds & {"integer", "number"})
    unit = next((unit for suffix, unit in _UNITS.items() if text.endswith(suffix)), "")
    return Key(
        text, "scenario", unit, numeric, "integer" in kinds, lambda given: _typed(given, kinds),
        lambda data, value: with_value(data, path, value),
    )  # fmt: skip


def _fault_key(text: str, field: str, number: int, step_s: float) -> Key:
    if field != "fault" and field not in FAULT_FIELDS:
        known = ", ".join(FAULT_FIELDS)
        raise InputError(f"{text}: a fault has no '{field}'{suggest(field, FAULT_FIELDS)} (known: {known})")
    numeric = field in ("onset_s", "duration_s", "severity")
    parse: Callable[[str], Value] = str
    if field == "severity":
        parse = _number
    elif field == "duration_s":
        parse = lambda given: FOREVER if given in ("forever", "-1") else _time(given, step_s)  # noqa: E731
    elif numeric:
        parse = lambda given: _time(given, step_s)  # noqa: E731
    return Key(text, "fault", "s" if field.endswith("_s") else "", numeric, False, parse, field=field, fault=number)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"must be a number, got '{text}'") from None
    if not math.isfinite(value):
        raise InputError(f"must be a finite number, got '{text}'")
    return value


def _time(text: str, step_s: float) -> float:
    try:
        return parse_time(text, step_s)
    except FaultError as error:
        raise InputError(str(error)) from None


def _name(text: str, part: str) -> str:
    known = PARTS[part]
    if text not in known:
        raise InputError(f"must be one of {', '.join(known)}, got '{text}'{suggest(text, known)}")
    return text


def _typed(text: str, kinds: frozenset[str]) -> Value:
    """Return a scenario's value as the schema types it."""
    if "null" in kinds and text == "none":
        return None
    if "boolean" in kinds:
        if text not in ("true", "false"):
            raise InputError(f"must be true or false, got '{text}'")
        return text == "true"
    if "number" in kinds:
        return _number(text)
    if "integer" in kinds:
        value = _number(text)
        if value != int(value):
            raise InputError(f"must be a whole number, got '{text}'")
        return int(value)
    return text
