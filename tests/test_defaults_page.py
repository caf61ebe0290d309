"""Every default of a scenario stands on the page of the defaults with its present value; nothing else does."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from simcore.model import programs, scenario, services, spec
from simcore.model.catalogue import CATALOGUE

PAGE = (Path(__file__).parent.parent / "docs" / "explanation" / "defaults.md").read_text(encoding="utf-8")
_KEY = r"`[A-Z]\w+\.\w+`"


def parts() -> Iterator[type[spec.Spec]]:
    for module in (spec, programs, services, scenario):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, spec.Spec) and value.__module__ == module.__name__:
                yield value


def defaults() -> dict[str, object]:
    """Return the default of every key that has one; the parts of a part speak for themselves, as do inherited keys."""
    found: dict[str, object] = {}
    for part in parts():
        for key in part.__annotations__:
            field = part.model_fields.get(key)
            if field is None or field.is_required():
                continue
            value = field.get_default(call_default_factory=True)
            if isinstance(value, BaseModel):
                if not value.model_fields_set:
                    continue
                value = value.model_dump()
            found[f"{part.__name__}.{key}"] = value if value or value in (0, False) else None
    return found


def listed(page: str) -> dict[str, object]:
    rows = re.findall(rf"^\| ({_KEY}(?:, {_KEY})*) \| `([^`]*)` \| \S.* \|$", page, re.MULTILINE)
    yaml = YAML(typ="safe", pure=True)
    found = {}
    for keys, text in rows:
        for key in re.findall(_KEY, keys):
            assert key not in found, f"{key} is listed twice"
            found[key.strip("`")] = None if text == "none" else yaml.load(text)
    return found


def test_every_default_is_listed_with_its_value_and_a_reason() -> None:
    assert listed(PAGE) == defaults()
    assert len(defaults()) > 100


@pytest.mark.parametrize(
    ("old", "new"), [("| `Pool.size` | `10` |", "| `Pool.size` | `11` |"), ("| `Pool.size` |", "| Pool size |")]
)
def test_a_default_that_is_missing_or_has_another_value_is_found(old: str, new: str) -> None:
    assert old in PAGE
    assert listed(PAGE.replace(old, new)) != defaults()


def test_every_type_of_fault_has_its_reason() -> None:
    section = PAGE.split("## What a fault does at full strength")[1].split("\n## ")[0]
    named = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert sorted(named) == sorted(CATALOGUE)
