"""From options to a study: names are looked up, values checked, and every mistake is reported at once."""

__all__ = ["DEFAULTS", "Mistakes", "build_study", "check_taught", "learned_diagnoser", "learned_states", "states_of"]

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcore.errors import FaultError, InputError, RegistryError, suggest

if TYPE_CHECKING:
    from agent.evaluation.study import Study
    from simcore.model.faults import Fault
    from simcore.model.scenario import Scenario

#: What acts if nothing else is named.
DEFAULTS = {"detector": "isolation_forest", "diagnoser": "causal_rank", "policy": "bandit"}


class Mistakes:
    """Collects what is wrong, to be reported at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Keep the message of an ``InputError`` and go on."""
        try:
            yield
        except InputError as error:
            self.lines += str(error).splitlines()

    def report(self) -> None:
        """Raise what was collected.

        Raises
        ------
        InputError
            If there is anything; one mistake a line.
        """
        if self.lines:
            raise InputError("\n".join(dict.fromkeys(self.lines)))


def build_study(options: dict[str, Any], mistakes: Mistakes, *, policy_option: str = "--policy") -> "Study | None":
    """Return the study that the options describe; None if the mistakes noted make that impossible.

    Parameters
    ----------
    options
        Of the command line: ``scenario``, ``steps``, ``seed``, the parts of the agent, the faults, and those of
        ``eval``.
    mistakes
        Where mistakes are noted.
    policy_option
        What the option is called that names the policies.
    """
    from agent.evaluation.study import Study, with_steps
    from agent.registry import DIAGNOSERS
    from simcore.model.loader import load_scenario

    scenario = None
    with mistakes.collect():
        scenario = load_scenario(options["scenario"])
        scenario = with_steps(scenario, options["steps"] or scenario.timing.steps)
    names = _agent_names(options, mistakes, policy_option)
    diagnoser = names["diagnoser"][0] if names else ""
    taught: dict[str, dict[str, Any]] = {}
    if diagnoser in DIAGNOSERS:
        with mistakes.collect():
            taught = learned_diagnoser(options.get("diagnoser_in"), [diagnoser])
    faults = None if scenario is None else _faults(options, scenario, mistakes)
    if scenario is None or mistakes.lines:
        return None
    return Study(
        scenario=scenario,
        seed=options["seed"],
        episodes=options.get("episodes", 1),
        split=options.get("split", "test"),
        round_size=options.get("round_size", 50),
        detector=names["detector"][0] if names else "",
        detector_seed=options["detector_seed"],
        diagnoser=diagnoser,
        diagnoser_state=taught.get(diagnoser),
        policies=tuple(names["policy"]) if names else (),
        shadow=options["shadow"],
        frozen=options.get("freeze", False),
        twins=options.get("twins", False),
        faults=faults,
        mix=options["mix"],
    )


def _agent_names(options: dict[str, Any], mistakes: Mistakes, policy_option: str) -> dict[str, list[str]]:
    """Return the names of the parts of the agent, checked; empty without an agent."""
    given = {part: options[part] for part in DEFAULTS if options[part]}
    if options["no_agent"]:
        others = ("shadow", "diagnoser_in", "policy_in", "policy_out", "freeze")
        named = [*given, *(name for name in others if options.get(name))]
        mistakes.lines += [f"--no-agent leaves no room for --{name.replace('_', '-')}" for name in named]
        return {}
    from agent.registry import DETECTORS, DIAGNOSERS, POLICIES

    names = {}
    for part, known in (("detector", DETECTORS), ("diagnoser", DIAGNOSERS), ("policy", POLICIES)):
        listed = [name.strip() for name in given.get(part, DEFAULTS[part]).split(",")]
        names[part] = listed
        called = policy_option if part == "policy" else f"--{part}"
        for name in listed:
            if name not in known:
                mistakes.lines.append(f"{called} must be one of {', '.join(known)}, got '{name}'{suggest(name, known)}")
        if len(set(listed)) < len(listed):
            mistakes.lines.append(f"{called} names something twice: {', '.join(listed)}")
        if part != "policy" and len(listed) > 1:
            mistakes.lines.append(f"--{part} takes one name, got {', '.join(listed)}; only policies are compared")
    return names


def _faults(options: dict[str, Any], scenario: "Scenario", mistakes: Mistakes) -> "tuple[Fault, ...] | None":
    """Return the faults given by options; None if there are none, so that they are drawn."""
    from simcore.model.faults import parse_fault, parse_time

    texts = options["fault"]
    if texts and options["mix"] not in (None, "default"):
        mistakes.lines.append(f"--mix {options['mix']} says how faults are drawn, but --fault sets them")
    details: dict[str, list[Any]] = {}
    for name in ("onset", "duration", "severity", "profile", "place"):
        given = options[name]
        if given and not texts:
            mistakes.lines.append(f"--{name} says how a fault is, but no --fault is given")
        elif len(given) not in (0, 1, len(texts)):
            mistakes.lines.append(f"--{name} must be given once, or once for each of {len(texts)} faults")
        details[name] = list(given) * len(texts) if len(given) == 1 else list(given) or [None] * len(texts)
    if not texts or any(len(values) != len(texts) for values in details.values()):
        return None
    found = []
    for i, text in enumerate(texts):
        times: dict[str, float | None] = {}
        for name in ("onset", "duration"):
            value = details[name][i]
            with mistakes.collect():
                try:
                    times[name] = None if value is None else parse_time(value, scenario.timing.step_s)
                except FaultError as error:
                    raise FaultError(f"--{name}: {error}") from None
        with mistakes.collect():
            fault = parse_fault(
                text,
                scenario,
                onset_s=times.get("onset"),
                duration_s=times.get("duration"),
                severity=details["severity"][i],
                profile=details["profile"][i],
                place=details["place"][i],
            )
            found.append(fault)
    return tuple(found)


def learned_diagnoser(path: str | None, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return diagnoser -> what it learned, checked, from a file of ``mendsim train diagnoser``; empty without one.

    Raises
    ------
    InputError
        If the file cannot be read, or does not hold the state of one of these diagnosers.
    """
    from agent.evaluation.realdata.reading import read_json
    from agent.registry import make_diagnoser

    if path is None:
        return {}
    state = read_json(Path(path))
    name = str(state.get("name")) if isinstance(state, dict) else ""
    if name not in names:
        raise InputError(f"--diagnoser-in: {path} must hold the state of one of {', '.join(names)}, got {name!r}")
    try:
        make_diagnoser(name, state)
    except InputError as error:
        raise InputError(f"--diagnoser-in: {path}: {error}") from None
    return {name: state}


def states_of(paths: tuple[str, ...], policies: tuple[str, ...], mistakes: Mistakes) -> dict[str, list[dict[str, Any]]]:
    """Return policy -> its learned states, one from each of the files that holds one; what is wrong is noted."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        with mistakes.collect():
            for name, state in learned_states(path, policies).items():
                found.setdefault(name, []).append(state)
    check_taught(policies, found, mistakes)
    return found


def check_taught(policies: Sequence[str], states: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Note which policies are of no use without a state, and have none; not beside a state that cannot be read."""
    from agent.evaluation.taught import needs_state

    for name in policies:
        if needs_state(name) and name not in states and not any("--policy-in" in line for line in mistakes.lines):
            mistakes.lines.append(f"policy {name} learns from forks: train it (mendsim train policy), give --policy-in")


def learned_states(path: str | None, policies: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return policy -> learned state from a file that ``--policy-out`` wrote, for the policies named.

    Raises
    ------
    InputError
        If the file cannot be read, is no such file, or holds none of these policies.
    """
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--policy-in: cannot read {path}: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("policies"), dict):
        raise InputError(f"--policy-in: {path} holds no learned policies")
    states = {name: state for name, state in found["policies"].items() if name in policies}
    if not states:
        known = ", ".join(found["policies"]) or "none"
        raise RegistryError(f"--policy-in: {path} holds the policies {known}, none of {', '.join(policies)}")
    return states
