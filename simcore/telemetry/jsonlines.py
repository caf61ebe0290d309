"""JSON lines: one object per line, null where there is no value."""

__all__ = ["lines", "plain"]

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return a dataclass, or what is in one, as JSON has it; floats that are nan or infinite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def lines(values: Iterable[Any]) -> Iterator[str]:
    """Yield a line for each dataclass."""
    for value in values:
        yield json.dumps(plain(value), separators=(",", ":"), allow_nan=False) + "\n"
