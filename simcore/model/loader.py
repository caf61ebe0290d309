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
from simcore.model.documents import Document, Mistake, Path, read_document, show
from simcore.model.programs import STEP_KINDS
from simcore.model.recordings import read_rates
from simcore.model.scenario import Scenario

_FOLDER = FilePath(__file__).resolve().parent / "scenarios"

_PATTERNS = {
    r"^[a-z][a-z0-9_]*$": "be lower-case letters, digits and _, beginning with a letter",
    r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$": "have the form service.operation",
}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


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
        what = "nothing" if document.data is None else _value(document.data)
        raise ScenarioError(f"{source}: a scenario must be a mapping of keys to values, got {what}")
    document = _with_recording(document, folder)
    found: list[Mistake] = []
    scenario: Scenario | None = None
    try:
        scenario = Scenario.model_validate(document.data, strict=True)
        found = [*check_references(scenario), *check_values(scenario)]
    except ValidationError as error:
        found = [*_translate(error), *_references_of_the_rest(error, document.data)]
    # What the reader left out or made up is wrong once, not twice.
    touched = [mistake.path for mistake in document.mistakes]
    found = [m for m in found if not any(_related(m.path, path) for path in touched)]
    mistakes = [*document.mistakes, *found]
    if mistakes:
        raise ScenarioError(_listing(mistakes, document, source))
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


def _listing(mistakes: list[Mistake], document: Document, source: str) -> str:
    rows: dict[tuple[int, str], None] = {}
    for mistake in mistakes:
        line = mistake.line or document.line_of(mistake.path)
        where = f"{source}:{line}" if line else source
        subject = show(mistake.path) or "the scenario"
        joint = "" if mistake.text.startswith(":") else " "
        rows[line, f"{where}: {subject}{joint}{mistake.text}"] = None
    return "\n".join(text for _, text in sorted(rows, key=lambda row: row[0]))


def _references_of_the_rest(error: ValidationError, data: dict[str, Any]) -> list[Mistake]:
    """Return the dangling names of a scenario whose other mistakes are left out, if what remains is one.

    So that a wrong number does not hide a wrong name; values are not compared, since defaults stand in for some.
    """
    rest = _copy(data)
    for item in error.errors(include_url=False):
        path = _clean(item["loc"])
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


def _clean(loc: tuple[str | int, ...]) -> Path:
    """Return pydantic's location without the tag that it puts between a step and its keys."""
    path: list[str | int] = []
    skip = False
    for part in loc:
        if skip:
            skip = False
            continue
        if part == "[key]":
            continue
        skip = isinstance(part, int) and bool(path) and path[-1] == "steps"
        path.append(part)
    return tuple(path)


def _translate(error: ValidationError) -> list[Mistake]:
    mistakes = []
    for item in error.errors(include_url=False):
        path = _clean(item["loc"])
        if item["loc"] and item["loc"][-1] == "[key]":
            path = path[:-1]
            mistakes.append(Mistake((*path, str(item["input"])), f": {_name_rule(item)}"))
        else:
            mistakes.append(Mistake(path, _rule(item["type"], item.get("ctx", {}), item["input"], item["msg"], path)))
    return mistakes


def _name_rule(item: Any) -> str:
    rule = _rule(item["type"], item.get("ctx", {}), item["input"], item["msg"], ())
    return f"the name {rule}"


def _rule(kind: str, context: dict[str, Any], given: Any, message: str, path: Path) -> str:
    """Return a pydantic error as a plain rule with the value, to follow the path."""
    got = f", got {_value(given)}"
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"is not a known key{suggest(str(path[-1]), _known_keys(path[:-1]))}"
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        return f"must be {sign} {context[key]:.15g}{got}"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}{got}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"must be one of {', '.join(choices)}{got}{suggest(str(given), choices)}"
    if kind == "string_pattern_mismatch":
        return f"must {_PATTERNS.get(str(context['pattern']), 'match ' + str(context['pattern']))}{got}"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters{got}"
    if kind == "too_short":
        return f"must have at least {context['min_length']} item{'s' if context['min_length'] > 1 else ''}, got none"
    if kind == "too_long":
        return f"must have at most {context['max_length']} items, got {len(given)}"
    if kind == "value_error":
        return f": {context['error']}"
    if kind == "invalid_key":
        return ": keys must be text"
    if kind == "step_kind":
        return f"must have exactly one of the keys {', '.join(STEP_KINDS)}{got}"
    return f"is not valid: {message}{got}"


def _value(given: Any) -> str:
    """Return a value as the file would show it, shortened."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if given is None:
        return "nothing"
    if isinstance(given, (dict, list)):
        what, keys = ("a mapping", list(given)) if isinstance(given, dict) else ("a list", [])
        return f"{what} with {', '.join(map(str, keys[:5]))}" if keys else what
    try:
        text = repr(given)
    except ValueError:
        return "a number with too many digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _known_keys(path: Path) -> list[str]:
    """Return the keys that a mapping at a path may have, from the JSON Schema."""
    whole = Scenario.model_json_schema()
    here = [whole]
    for part in path:
        here = [below for node in here for below in _below(node, part, whole)]
    return [key for node in here for key in _resolved(node, whole).get("properties", {})]


def _resolved(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _below(node: dict[str, Any], part: str | int, whole: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolved(node, whole)
    options = [option for key in ("anyOf", "oneOf") for option in node.get(key, [])]
    if options:
        # One of several shapes, such as a step: the key tells which.
        return [below for option in options for below in _below(option, part, whole)]
    if isinstance(part, int):
        return [node["items"]] if "items" in node else []
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    more = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), None)
    return [more] if isinstance(more, dict) else []
