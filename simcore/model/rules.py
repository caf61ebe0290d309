"""From what pydantic finds wrong to rules in plain words, each with path and value; and the list that people read."""

__all__ = ["clean", "listing", "shown", "translate"]

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from simcore.errors import suggest
from simcore.model.documents import Document, Mistake, Path, show
from simcore.model.programs import STEP_KINDS
from simcore.model.shapes import keys_at

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


def listing(mistakes: list[Mistake], document: Document, source: str, whole: str = "the scenario") -> str:
    """Return mistakes as text, one a line, by line of the document: ``SOURCE:LINE: PATH RULE, got VALUE``."""
    rows: dict[tuple[int, str], None] = {}
    for mistake in mistakes:
        line = mistake.line or document.line_of(mistake.path)
        where = f"{source}:{line}" if line else source
        subject = show(mistake.path) or whole
        joint = "" if mistake.text.startswith(":") else " "
        rows[line, f"{where}: {subject}{joint}{mistake.text}"] = None
    return "\n".join(text for _, text in sorted(rows, key=lambda row: row[0]))


def clean(loc: tuple[str | int, ...]) -> Path:
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


def translate(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return the rules that data break, which ``model`` was asked to hold."""
    mistakes = []
    for item in error.errors(include_url=False):
        path = clean(item["loc"])
        if item["loc"] and item["loc"][-1] == "[key]":
            path = path[:-1]
            mistakes.append(Mistake((*path, str(item["input"])), f": the name {_rule(item)}"))
        elif item["type"] == "extra_forbidden":
            close = suggest(str(path[-1]), keys_at(model, path[:-1]))
            mistakes.append(Mistake(path, f"is not a known key{close}"))
        else:
            mistakes.append(Mistake(path, _rule(item)))
    return mistakes


def _rule(item: Any) -> str:
    """Return a pydantic error as a plain rule with the value, to follow the path."""
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    got = f", got {shown(given)}"
    if kind == "missing":
        return "is missing"
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
    return f"is not valid: {item['msg']}{got}"


def shown(given: Any) -> str:
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
