"""From a name or a file to a scenario, or to a list of every mistake in it, each with path, rule, value and line."""

__all__ = ["build_scenario", "load_scenario", "schema", "shipped"]

import math
import re
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from simcore.errors import ScenarioError, suggest
from simcore.model.checks import check_references, check_values
from simcore.model.documents import Document, Mistake, Path, read_document
from simcore.model.recordings import read_rates
from simcore.model.rules import clean, listing, shown, translate
from simcore.model.scenario import Scenario

_FOLDER = FilePath(__file__).resolve().parent / "scenarios"


def shipped() -> dict[str, FilePath]:
    """Return the shipped scenarios: file by name, ``three_tier`` (the default) first."""
    files = {file.stem: file for file in _FOLDER.glob("*.yaml")}
    return {name: files[name] for name in sorted(files, key=lambda name: (name != "three_tier", name))}


def load_scenario(name_or_path: str) -> Scenario:
    """Return a shipped scenario by name, or the one in a file (a path holds a dot or a slash).

    Raises
    ------
    ScenarioError
        Listing every mistake, one a line: ``FILE:LINE: services.db.threads must be >= 1, got 0``.
    """
    known = shipped()
    if "\0" in name_or_path:
        raise ScenarioError("the name of a scenario must not hold a zero byte")
    if name_or_path in known:
        file = known[name_or_path]
    elif re.search(r"[./\\]", name_or_path):
        file = FilePath(name_or_path)
    else:
        names = ", ".join(known)
        raise ScenarioError(
            f"there is no scenario '{name_or_path}'{suggest(name_or_path, known)} Shipped are {names}; "
            "a path must hold a dot or a slash"
        )
    return _build(read_document(file), file.name if name_or_path in known else name_or_path, file.parent)


def build_scenario(data: Any, source: str = "scenario") -> Scenario:
    """Return the scenario that plain data describe, checked by every rule.

    Parameters
    ----------
    data
        What a file would hold: mappings, lists, texts, numbers.
    source
        Where it comes from, for messages.

    Raises
    ------
    ScenarioError
        Listing every mistake, one a line.
    """
    return _build(Document(data), source, None)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    _close(whole)
    return whole


def _close(node: Any) -> None:
    """Refuse names outside the pattern, which pydantic checks but leaves out of its schema; modified in place."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _close(child)


def _build(document: Document, source: str, folder: FilePath | None) -> Scenario:
    if not isinstance(document.data, dict):
        what = "nothing" if document.data is None else shown(document.data)
        raise ScenarioError(f"{source}: a scenario must be a mapping of keys to values, got {what}")
    document = _with_recording(document, folder)
    found: list[Mistake] = []
    scenario: Scenario | None = None
    try:
        scenario = Scenario.model_validate(document.data, strict=True)
        found = [*check_references(scenario), *check_values(scenario)]
    except ValidationError as error:
        found = [*translate(error, Scenario), *_references_of_the_rest(error, document.data)]
    # What the reader left out or made up is wrong once, not twice.
    touched = [mistake.path for mistake in document.mistakes]
    found = [m for m in found if not any(_related(m.path, path) for path in touched)]
    mistakes = [*document.mistakes, *found]
    if mistakes:
        raise ScenarioError(listing(mistakes, document, source))
    assert scenario is not None
    return scenario


def _with_recording(document: Document, folder: FilePath | None) -> Document:
    """Return a document with the recorded rates in place of the file that holds them; a wrong file is a mistake."""
    path: Path = ("workload", "series_csv")
    workload = document.data.get("workload")
    if not isinstance(workload, dict) or workload.get("shape") != "series" or "series" in workload:
        return document
    name, base_rps = workload.get("series_csv"), workload.get("rate_rps")
    if not isinstance(name, str) or isinstance(base_rps, bool) or not isinstance(base_rps, (int, float)):
        return document
    if not 0.0 < base_rps < math.inf:
        return document
    if folder is None:
        rule = "must be absent in a scenario that is read from no file; give series instead"
        return replace(document, mistakes=(*document.mistakes, Mistake(path, rule)))
    points, rules = read_rates(folder / name, float(base_rps))
    if rules:
        return replace(document, mistakes=(*document.mistakes, *(Mistake(path, f": {rule}") for rule in rules)))
    rest = {key: value for key, value in workload.items() if key != "series_csv"}
    return replace(document, data=document.data | {"workload": rest | {"series": points}})


def _related(one: Path, other: Path) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _references_of_the_rest(error: ValidationError, data: dict[str, Any]) -> list[Mistake]:
    """Return the dangling names of a scenario whose other mistakes are left out, if what remains is one.

    So that a wrong number does not hide a wrong name; values are not compared, since defaults stand in for some.
    """
    rest = _copy(data)
    for item in error.errors(include_url=False):
        path = clean(item["loc"])
        holder: Any = rest
        for part in path[:-1]:
            holder = holder[part] if _has(holder, part) else None
        if path and isinstance(holder, dict):
            holder.pop(path[-1], None)
    try:
        return check_references(Scenario.model_validate(rest, strict=True))
    except ValidationError:
        return []


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, list) else data


def _has(holder: Any, part: str | int) -> bool:
    if isinstance(holder, dict):
        return part in holder
    return isinstance(holder, list) and isinstance(part, int) and part < len(holder)
