"""Key paths into the plain data of a scenario: ``services.db.threads``, ``workload.entries[api.buy].weight``."""

__all__ = ["locate", "value_at", "with_value"]

import re
from collections.abc import Sequence
from typing import Any

from simcore.errors import ScenarioError, suggest
from simcore.model.documents import Path, show

_PART = re.compile(r"\.?([A-Za-z0-9_]+)|\[([^\[\]]+)\]")
#: What the members of a list of mappings are called by, the first of them that they have.
_NAMED_BY = ("name", "type", "operation")


def locate(data: dict[str, Any], text: str) -> Path:
    """Return the path that a text names in a scenario's plain data.

    Members of a list are named by position or by name: ``faults.mix[0]``, ``faults.mix[bad_deploy]`` or
    ``faults.mix.bad_deploy``; a name that holds a dot needs the brackets.

    Parameters
    ----------
    data
        What ``Scenario.model_dump`` gives, so that keys with a default are there.
    text
        What a user wrote.

    Raises
    ------
    ScenarioError
        If there is nothing of that name, or what is there is no single value.
    """
    here: Any = data
    path: list[str | int] = []
    for part in _parts(text):
        where = show(tuple(path)) or "the scenario"
        if here is None:
            raise ScenarioError(f"{text}: {where} is absent in this scenario, so there is no {part}")
        key = _member(here, part)
        if key is None:
            known = _members(here)
            what = f" (known: {', '.join(known)})" if known else ", which is a single value"
            raise ScenarioError(f"{text}: there is no '{part}' in {where}{suggest(part, known)}{what}")
        here = here[key]
        path.append(key)
    if isinstance(here, (dict, list)):
        known = _members(here)
        raise ScenarioError(
            f"{text}: is not a single value; name one of its members: {', '.join(known) or 'it has none'}"
        )
    return tuple(path)


def _parts(text: str) -> list[str]:
    parts, at = [], 0
    while at < len(text):
        found = _PART.match(text, at)
        if not found or (at == 0 and text.startswith(".")):
            raise ScenarioError(f"{text}: a key path must look like services.db.threads or faults.mix[1].weight")
        parts.append(found[1] or found[2])
        at = found.end()
    if not parts:
        raise ScenarioError("a key path must not be empty")
    return parts


def _members(here: Any) -> list[str]:
    if isinstance(here, dict):
        return [str(key) for key in here]
    return [_name_of(item) or str(i) for i, item in enumerate(here)] if isinstance(here, list) else []


def _name_of(item: Any) -> str:
    return next((str(item[key]) for key in _NAMED_BY if key in item), "") if isinstance(item, dict) else ""


def _member(here: Any, part: str) -> Any:
    """Return the key or position of a member, None if there is none."""
    if isinstance(here, dict):
        return next((key for key in here if str(key) == part), None)
    if not isinstance(here, list):
        return None
    if part.isdigit():
        return int(part) if int(part) < len(here) else None
    named = [i for i, item in enumerate(here) if _name_of(item) == part]
    return named[0] if len(named) == 1 else None


def value_at(data: dict[str, Any], path: Path) -> Any:
    """Return the value at a path that ``locate`` found."""
    here: Any = data
    for key in path:
        here = here[key]
    return here


def with_value(data: Any, path: Sequence[str | int], value: Any) -> Any:
    """Return plain data with another value at a path that ``locate`` found; what is not on the path is shared."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    made = dict(data) if isinstance(data, dict) else list(data)
    made[key] = with_value(data[key], rest, value)  # type: ignore[index]
    return made
