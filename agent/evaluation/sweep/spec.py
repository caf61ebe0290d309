"""What people write: a study file in YAML, or the options of a command that say the same; and the way to a study."""

__all__ = ["FaultEntry", "RefineEntry", "StudySpec", "build", "read_spec", "write_spec"]

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from agent.evaluation.study import with_steps
from agent.evaluation.sweep.axes import MAX_CELLS, Axis, Cell, parse_axis
from agent.evaluation.sweep.design import count_cells
from agent.evaluation.sweep.keys import FAULT_FIELDS, PARTS, key_of
from agent.evaluation.sweep.refining import mistakes_of
from agent.evaluation.sweep.sweep import FaultSpec, Refinement, Sweep
from agent.evaluation.sweep.worlds import Worlds
from simcore.errors import FaultError, InputError, suggest
from simcore.model.documents import Document, Mistake, read_document
from simcore.model.faults import FOREVER, parse_fault, parse_time
from simcore.model.loader import load_scenario
from simcore.model.rules import listing, shown, translate
from simcore.model.scenario import Scenario
from simcore.model.spec import Spec
from simcore.telemetry.files import replace_file

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class FaultEntry(Spec):
    """A fault of every run."""

    fault: str
    """TYPE@TARGET, such as ``bad_deploy@api``."""
    onset: str | None = None
    duration: str | None = None
    severity: float | None = None
    profile: str | None = None
    place: str | None = None


class RefineEntry(Spec):
    """Runs go where the outcome flips, until every cell is known well enough."""

    measure: str
    """Whose mean is looked at: a share, such as ``lost``, or a budget."""
    width: float
    """Half of the interval of a cell that is narrow enough, in units of the measure."""
    level: float | None = None
    """Cells whose interval lies on one side of it are done; absent: 0.5 for a share, else all cells get narrow."""
    budget: Count | None = None
    """Runs at most."""
    depth: Annotated[int, Field(ge=0, le=8)] = 0
    """How often the distance between neighbours may be halved where the outcome flips."""


class StudySpec(Spec):
    """A study, as its file says it."""

    name: str = ""
    description: str = ""
    scenario: str = "three_tier"
    """Name of a shipped scenario, or a file; a relative path starts at the study file."""
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Control steps; absent: the scenario's."""
    vary: dict[str, Any]
    """Key -> ``start:stop:step``, ``x,y,z`` or a list, ``a..b`` or ``a..b:log``."""
    design: Literal["grid", "lhs"] = "grid"
    samples: Count | None = None
    """Of the ranges, design lhs only."""
    replications: Count = 10
    """Runs of each cell, the same in every cell."""
    seed: Annotated[int, Field(ge=0)] = 1
    split: Literal["train", "calibrate", "tune", "test"] = "test"
    faults: list[FaultEntry] = []
    """Of every run; absent: drawn from the scenario."""
    mix: Literal["default", "uniform"] = "default"
    detector: str = "isolation_forest"
    detector_seed: Annotated[int, Field(ge=0)] = 0
    detector_from: Literal["cell", "base"] = "cell"
    """Trained on each system that differs, or only on the scenario before anything varies."""
    diagnoser: str = "causal_rank"
    diagnoser_in: str | None = None
    """File with what the diagnoser has learned."""
    policy: str = "bandit"
    policy_in: str | None = None
    """File with what policies have learned."""
    train_episodes: Annotated[int, Field(ge=0, le=1_000_000)] = 200
    """Runs that a policy which learns is trained on beforehand; 0: it plays as it comes."""
    no_agent: bool = False
    shadow: bool = False
    twins: bool = False
    """Every run is also run without actions."""
    refine: RefineEntry | None = None
    """Instead of ``replications``."""


def read_spec(file: Path) -> tuple[StudySpec, Document]:
    """Return the study that a file describes, and the file with its lines.

    Raises
    ------
    InputError
        Listing every mistake, one a line: ``FILE:LINE: replications must be >= 1, got 0``.
    """
    document = read_document(file, "study")
    if not isinstance(document.data, dict):
        raise InputError(f"{file}: a study must be a mapping of keys to values, got {shown(document.data)}")
    mistakes = list(document.mistakes)
    try:
        spec = StudySpec.model_validate(document.data, strict=True)
    except ValidationError as error:
        mistakes += translate(error, StudySpec)
    if mistakes:
        raise InputError(listing(mistakes, document, str(file), "the study"))
    return spec, document


def write_spec(file: Path, spec: StudySpec) -> None:
    """Write a study file that says what ``spec`` says, which was read from no file.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    """
    plain = spec.model_dump(exclude_defaults=True)
    plain["faults"] = [{k: v for k, v in fault.items() if v is not None} for fault in plain.get("faults", [])]
    for name in ("scenario", "policy_in", "diagnoser_in"):
        if _is_path(plain.get(name)):
            plain[name] = os.path.relpath(plain[name], file.resolve().parent)
            plain[name] = plain[name] if os.sep in plain[name] else os.path.join(".", plain[name])
    text = io.StringIO()
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    yaml.dump({name: value for name, value in plain.items() if value != []}, text)
    replace_file(file, text.getvalue().encode())


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and bool(re.search(r"[./\\]", name))


def build(spec: StudySpec, folder: Path | None = None) -> tuple[Sweep | None, list[Mistake]]:
    """Return the study that a specification comes to, or everything that is wrong with it.

    Parameters
    ----------
    spec
        What a user wrote.
    folder
        Where relative paths start; by default the working directory.
    """
    mistakes: list[Mistake] = []
    scenario = _scenario(spec, folder, mistakes)
    names = _names(spec, mistakes)
    if scenario is None:
        return None, mistakes
    faults = _faults(spec, scenario, mistakes)
    axes = _axes(spec, scenario, mistakes)
    mistakes += _of_design(spec, axes)
    refine = _refinement(spec, scenario, axes, mistakes)
    mistakes += _of_values(scenario, axes)
    if mistakes:
        return None, mistakes
    sweep = Sweep(
        scenario=scenario, axes=tuple(axes), replications=spec.replications, design=spec.design,
        samples=spec.samples or 0, seed=spec.seed, split=spec.split, faults=tuple(faults), mix=spec.mix,
        detector_seed=spec.detector_seed, detector_from=spec.detector_from, shadow=spec.shadow, twins=spec.twins,
        refine=refine, **names,
    )  # fmt: skip
    mistakes += _of_cells(sweep)
    return (None if mistakes else sweep), mistakes


def _collect(path: tuple[str | int, ...], error: InputError) -> Iterator[Mistake]:
    """Yield the lines of an error as mistakes at a path."""
    for line in str(error).splitlines():
        yield Mistake(path, line if line.startswith(("must", "has", "holds")) else f": {line}")


def _scenario(spec: StudySpec, folder: Path | None, mistakes: list[Mistake]) -> Scenario | None:
    name = spec.scenario
    if folder is not None and _is_path(name):
        name = str(folder / name)
    try:
        scenario = load_scenario(name)
    except InputError as error:
        mistakes += _collect(("scenario",), error)
        return None
    return with_steps(scenario, spec.steps or scenario.timing.steps)


def _names(spec: StudySpec, mistakes: list[Mistake]) -> dict[str, str]:
    """Return the parts of the agent, checked; empty names without one."""
    if spec.no_agent:
        given = [name for name in (*PARTS, "policy_in", "diagnoser_in", "shadow") if name in spec.model_fields_set]
        mistakes += [Mistake((name,), "must be absent where there is no agent") for name in given]
        return dict.fromkeys(PARTS, "")
    for part, known in PARTS.items():
        name = getattr(spec, part)
        if "," in name:
            mistakes.append(Mistake((part,), f"must be one name, got '{name}'; compare several by varying {part}"))
        elif name not in known:
            rule = f"must be one of {', '.join(known)}, got '{name}'{suggest(name, known)}"
            mistakes.append(Mistake((part,), rule))
    return {part: getattr(spec, part) for part in PARTS}


def _faults(spec: StudySpec, scenario: Scenario, mistakes: list[Mistake]) -> list[FaultSpec]:
    if spec.faults and spec.mix != "default":
        mistakes.append(Mistake(("mix",), f"must be absent beside faults that are given, got '{spec.mix}'"))
    found = []
    aimed_anew = any(re.fullmatch(r"fault(\[\d+\])?(\.(type|target))?", key) for key in spec.vary)
    for i, entry in enumerate(spec.faults):
        times: dict[str, float | None] = {}
        for name in ("onset", "duration"):
            text = getattr(entry, name)
            try:
                forever = name == "duration" and text in ("forever", "-1")
                times[name] = FOREVER if forever else None if text is None else parse_time(text, scenario.timing.step_s)
            except FaultError as error:
                mistakes += [Mistake(("faults", i, name), f": {error}")]
        numbers = {"onset_s": times.get("onset"), "duration_s": times.get("duration")}
        numbers |= {name: getattr(entry, name) for name in ("severity", "profile", "place")}
        made = FaultSpec(entry.fault, **numbers)  # type: ignore[arg-type]
        found.append(made)
        if not aimed_anew:
            try:
                parse_fault(entry.fault, scenario, **numbers)  # type: ignore[arg-type]
            except FaultError as error:
                mistakes += _collect(("faults", i), error)
    return found


def _axes(spec: StudySpec, scenario: Scenario, mistakes: list[Mistake]) -> list[Axis]:
    plain = scenario.model_dump()
    if not spec.vary:
        mistakes.append(Mistake(("vary",), "must name at least one key that varies, such as load"))
    axes = []
    for name, given in spec.vary.items():
        try:
            key = key_of(name, plain, step_s=scenario.timing.step_s)
            text = _spec_text(given)
            axes.append(parse_axis(name, text, parse=key.parse, numeric=key.numeric, whole=key.whole, unit=key.unit))
        except InputError as error:
            lines = [line.removeprefix(f"{name}: ") for line in str(error).splitlines()]
            mistakes += _collect(("vary", name), InputError("\n".join(lines)))
    return axes


def _spec_text(given: Any) -> str:
    """Return the values of an axis as one writes them in a command."""
    if isinstance(given, list) and given:
        return ",".join(_spec_text(item) for item in given)
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, (int, float, str)):
        return str(given)
    raise InputError(f"must be a list, or text such as 60:600:20, got {shown(given)}")


def _of_design(spec: StudySpec, axes: list[Axis]) -> Iterator[Mistake]:
    ranges = [axis.key for axis in axes if axis.ranged]
    if spec.design == "grid":
        for key in ranges:
            yield Mistake(("vary", key), "is a range, which a grid cannot walk: list values, or take design lhs")
        if spec.samples is not None:
            yield Mistake(("samples",), f"goes with design lhs, got {spec.samples}")
    else:
        if spec.samples is None:
            yield Mistake(("samples",), "is missing: how many points of the ranges does design lhs take?")
        if axes and not ranges:
            yield Mistake(("design",), "is lhs, but nothing varies over a range a..b")
    cells = count_cells(axes, spec.samples or 1)
    if cells > MAX_CELLS:
        yield Mistake(("vary",), f"makes {cells:,} cells; there must be at most {MAX_CELLS:,}")


def _of_values(scenario: Scenario, axes: list[Axis]) -> Iterator[Mistake]:
    """Yield the rules that single values of scenario parameters break, each by itself; of ranges, the ends."""
    plain = scenario.model_dump()
    for axis in axes:
        if key_of(axis.key, plain, step_s=scenario.timing.step_s).role != "scenario":
            continue
        worlds = Worlds(Sweep(scenario=scenario, axes=(axis,), faults=(FaultSpec("none"),)))
        ends = (axis.at(0.0), axis.at(1.0 - 1e-12)) if axis.ranged else axis.values
        for line in worlds.mistakes([Cell(number, (value,)) for number, value in enumerate(ends)]):
            yield Mistake(("vary", axis.key), f": {line}")


def _refinement(spec: StudySpec, scenario: Scenario, axes: list[Axis], mistakes: list[Mistake]) -> Refinement | None:
    asked = spec.refine
    if asked is None:
        return None
    found = Refinement(asked.measure, asked.width, asked.level, asked.budget, asked.depth)
    for line in mistakes_of(found, scenario, axes):
        mistakes += _collect(("refine",), InputError(line))
    if "replications" in spec.model_fields_set:
        mistakes.append(Mistake(("replications",), "must be absent beside refine, which finds out how many there are"))
    return found


def _of_cells(sweep: Sweep) -> Iterator[Mistake]:
    """Yield what is wrong with the keys together, and then with the cells."""
    try:
        worlds = Worlds(sweep)
    except InputError as error:
        for line in str(error).splitlines():
            key, _, rule = line.partition(": ")
            yield Mistake(("vary", key), f": {rule}")
        return
    for line in worlds.mistakes(sweep.cells()):
        yield Mistake(_blamed(sweep, line), f": {line}")


def _blamed(sweep: Sweep, line: str) -> tuple[str, ...]:
    """Return the path of the axis that a fault's rule speaks of."""
    for axis in sweep.axes:
        field = axis.key.rpartition(".")[2]
        word = "fault type" if field == "type" else field.removesuffix("_s")
        if axis.key.startswith("fault") and field in FAULT_FIELDS and f"{word} " in line:
            return ("vary", axis.key)
    return ("vary",)
