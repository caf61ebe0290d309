"""From the options of ``mendsim sweep``, or the study file that they name, to a study; all mistakes at once."""

__all__ = ["asked"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.files import check_file

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes
    from agent.evaluation.sweep.crew import Crew
    from agent.evaluation.sweep.spec import RefineEntry, StudySpec
    from simcore.model.documents import Document, Mistake

States = dict[str, dict[str, Any]]

#: Options that a study file answers under the same name.
_IN_FILE = (
    "scenario", "steps", "seed", "vary", "design", "samples", "replications", "split", "detector", "detector_seed",
    "detector_from", "diagnoser", "diagnoser_in", "policy", "policy_in", "train_episodes", "no_agent", "shadow",
    "twins", "mix",
)  # fmt: skip
_OF_REFINE = ("refine", "width", "level", "budget", "depth")
_OF_FAULTS = ("fault", "onset", "duration", "severity", "profile", "place")


def asked(options: dict[str, Any], mistakes: "Mistakes") -> tuple["StudySpec", "Crew | None"]:
    """Return what is asked for: the specification, and the study with its agents; what is wrong is noted.

    Parameters
    ----------
    options
        Of the command.
    mistakes
        Where mistakes are noted.
    """
    from agent.evaluation.sweep.crew import Crew
    from agent.evaluation.sweep.spec import StudySpec, build, read_spec
    from simcore.errors import InputError

    document = None
    spec = StudySpec.model_construct(vary={})
    check_file("--save-study", options["save_study"], options["force"], mistakes, (".yaml", ".yml"))
    if options["study"] is None:
        spec = _spec_of(options, mistakes)
    else:
        _leaves_no_room(options, mistakes)
        try:
            spec, document = read_spec(Path(options["study"]))
        except InputError as error:
            mistakes.lines += str(error).splitlines()
            return spec, None
    found, wrong = build(spec, None if document is None else Path(options["study"]).parent)
    mistakes.lines += _told(wrong, document, options["study"])
    states, diagnosers = _states(spec, options["study"], mistakes)
    return spec, None if found is None else Crew(found, states, options["threads"], diagnosers)


def _spec_of(options: dict[str, Any], mistakes: "Mistakes") -> "StudySpec":
    """Return the specification that the options come to."""
    from agent.evaluation.sweep.spec import FaultEntry, StudySpec

    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given: dict[str, Any] = {name: options[name] for name in _IN_FILE if context.get_parameter_source(name) != default}
    given["vary"] = {}
    for text in options["vary"]:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            mistakes.lines.append(f"--vary must be KEY=SPEC such as load=0.8,1,1.2, got '{text}'")
        elif key.strip() in given["vary"]:
            mistakes.lines.append(f"--vary {key.strip()} is given twice")
        else:
            given["vary"][key.strip()] = values.strip()
    faults = []
    texts = options["fault"]
    details: dict[str, list[Any]] = {}
    for name in _OF_FAULTS[1:]:
        values = list(options[name])
        if values and not texts:
            mistakes.lines.append(
                f"--{name} says how a fault is, but no --fault is given; --vary fault.{name} varies it"
            )
        elif len(values) not in (0, 1, len(texts)):
            mistakes.lines.append(f"--{name} must be given once, or once for each of {len(texts)} faults")
            values = []
        details[name] = values * len(texts) if len(values) == 1 else values or [None] * len(texts)
    if len(set(map(len, details.values()))) == 1:
        faults = [
            FaultEntry(fault=text, **{name: details[name][i] for name in _OF_FAULTS[1:]})
            for i, text in enumerate(texts)
        ]
    return StudySpec(**given, faults=faults, refine=_refine_of(options, mistakes))


def _refine_of(options: dict[str, Any], mistakes: "Mistakes") -> "RefineEntry | None":
    from agent.evaluation.sweep.spec import RefineEntry

    given = {name: options[name] for name in _OF_REFINE[1:] if options[name] is not None}
    if options["refine"] is None:
        mistakes.lines += [f"--{name} says how a study is refined, but there is no --refine MEASURE" for name in given]
        return None
    return RefineEntry(measure=options["refine"], **{"width": 0.1} | given)


def _leaves_no_room(options: dict[str, Any], mistakes: "Mistakes") -> None:
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    names = [name for name in (*_IN_FILE, *_OF_REFINE, *_OF_FAULTS) if context.get_parameter_source(name) != default]
    if names:
        given = ", ".join("--" + name.replace("_", "-") for name in names)
        mistakes.lines.append(f"--study says what is run; it leaves no room for {given}")
    if options["save_study"] is not None:
        mistakes.lines.append("--save-study writes the file of a command; with --study there is one already")


def _told(wrong: list["Mistake"], document: "Document | None", source: str | None) -> list[str]:
    """Return mistakes as lines: by the lines of the study file, or by option."""
    from simcore.model.rules import listing

    if not wrong:
        return []
    if document is not None:
        return listing(wrong, document, str(source), "the study").splitlines()
    return [_of_option(mistake) for mistake in wrong]


def _of_option(mistake: "Mistake") -> str:
    """Return a mistake with the option that it is in."""
    top = str(mistake.path[0])
    if top == "scenario" or (top == "faults" and len(mistake.path) < 3):
        return mistake.text.removeprefix(": ")  # names what is wrong by itself
    name = str(mistake.path[2]) if top == "faults" else top.replace("_", "-")
    if top == "vary" and len(mistake.path) > 1:
        name += f" {mistake.path[1]}"
    return f"--{name}{'' if mistake.text.startswith(':') else ' '}{mistake.text}"


def _states(spec: "StudySpec", study: str | None, mistakes: "Mistakes") -> tuple[States, States]:
    """Return what policies and diagnosers have learned, from the files that the specification names."""
    from agent.commands.setup import check_taught, learned_diagnoser, learned_states
    from agent.registry import POLICIES

    policies = [name for name in _listed(spec, "policy") if name in POLICIES]
    paths = {}
    for name in ("policy_in", "diagnoser_in"):
        path = getattr(spec, name)
        paths[name] = path if path is None or study is None else str(Path(study).parent / path)
    states: States = {}
    diagnosers: States = {}
    with mistakes.collect():
        states = learned_states(paths["policy_in"], tuple(policies))
    with mistakes.collect():
        diagnosers = learned_diagnoser(paths["diagnoser_in"], _listed(spec, "diagnoser"))
    check_taught(policies, states, mistakes)
    return states, diagnosers


def _listed(spec: "StudySpec", part: str) -> list[str]:
    """Return the names of all policies or diagnosers of a study."""
    given = "" if spec.no_agent else spec.vary.get(part, getattr(spec, part))
    listed = given if isinstance(given, list) else str(given).split(",")
    return [name for name in (str(one).strip() for one in listed) if name]
