"""What a model's JSON Schema says of a path: the keys that a mapping may have there, or what a value may be."""

__all__ = ["keys_at", "kinds_at"]

from typing import Any

from pydantic import BaseModel

from simcore.model.documents import Path

Node = dict[str, Any]


def keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys that a mapping at a path may have."""
    whole = model.model_json_schema()
    return [key for node in _at(whole, path) for key in _resolved(node, whole).get("properties", {})]


def kinds_at(model: type[BaseModel], path: Path) -> frozenset[str]:
    """Return what a value at a path may be, as JSON Schema calls it: integer, number, string, boolean, null."""
    whole = model.model_json_schema()
    return frozenset(choice.get("type", "string") for node in _at(whole, path) for choice in _choices(node, whole))


def _at(whole: Node, path: Path) -> list[Node]:
    here = [whole]
    for part in path:
        here = [below for node in here for below in _below(node, part, whole)]
    return here


def _resolved(node: Node, whole: Node) -> Node:
    while "$ref" in node:
        node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _choices(node: Node, whole: Node) -> list[Node]:
    """Return the shapes that a node may have, such as those of a step."""
    node = _resolved(node, whole)
    options = [option for key in ("anyOf", "oneOf") for option in node.get(key, [])]
    return [found for option in options for found in _choices(option, whole)] or [node]


def _below(node: Node, part: str | int, whole: Node) -> list[Node]:
    found: list[Node] = []
    for choice in _choices(node, whole):
        if isinstance(part, int) and "items" in choice:
            found.append(choice["items"])
        elif str(part) in choice.get("properties", {}):
            found.append(choice["properties"][str(part)])
        elif not isinstance(part, int):
            more = [choice.get("additionalProperties"), *choice.get("patternProperties", {}).values()]
            found += [below for below in more if isinstance(below, dict)]
    return found
