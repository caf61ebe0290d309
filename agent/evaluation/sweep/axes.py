"""What varies: the axes of a study, the cells of a grid or a Latin hypercube, and how people write values."""

__all__ = ["MAX_CELLS", "MAX_VALUES", "Axis", "Cell", "Value", "parse_axis"]

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simcore.errors import InputError

#: A value of an axis; ``None`` is the absence of an optional value of the scenario.
Value = float | int | str | bool | None

#: Values of one axis, and cells of a study, at most: what is larger is a slip of the pen.
MAX_VALUES, MAX_CELLS = 10_000, 1_000_000

_RANGE = re.compile(r"^(?P<low>.+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?$")


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that varies: values that are listed, or a range from which they are drawn."""

    key: str  #: as the user wrote it; also the column of the tables
    values: tuple[Value, ...] = ()  #: none: there is a range
    low: float = float("nan")
    high: float = float("nan")
    log: bool = False  #: a range is even in the logarithm
    whole: bool = False  #: a range holds whole numbers, both ends included
    unit: str = ""

    @property
    def ranged(self) -> bool:
        """Whether values are drawn from a range."""
        return not self.values

    def at(self, share: float) -> Value:
        """Return the value of a range at a share in [0, 1) of its length."""
        if self.whole:
            return int(min(self.low + int(share * (self.high - self.low + 1)), self.high))
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return float(self.low + share * (self.high - self.low))

    def plain(self) -> dict[str, Any]:
        """Return the axis, JSON-able; ``Axis.of`` is the way back."""
        if self.ranged:
            return {
                "key": self.key, "range": [self.low, self.high], "log": self.log, "whole": self.whole,
                "unit": self.unit,
            }  # fmt: skip
        return {"key": self.key, "values": list(self.values), "unit": self.unit}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Axis":
        """Return the axis that ``plain`` gave."""
        if "values" in plain:
            return cls(plain["key"], tuple(plain["values"]), unit=plain["unit"])
        low, high = plain["range"]
        return cls(plain["key"], (), low, high, plain["log"], plain["whole"], plain["unit"])


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of a study: a value for each of its axes."""

    number: int
    values: tuple[Value, ...]  #: (axis,)


def parse_axis(
    key: str,
    text: str,
    *,
    parse: Callable[[str], Value],
    numeric: bool,
    whole: bool = False,
    unit: str = "",
) -> Axis:
    """Return the axis that people write as ``a:b:c`` (start:stop:step), ``x,y,z``, ``a..b`` or ``a..b:log``.

    Parameters
    ----------
    key
        What varies.
    text
        The values.
    parse
        From the text of one value to the value; raises ``InputError``.
    numeric, whole
        Whether values are numbers, so that there can be steps and ranges; whether they are whole.
    unit
        Of the values.

    Raises
    ------
    InputError
        Listing every mistake, one a line.
    """
    text = text.strip()
    if numeric and (found := _RANGE.match(text)):
        low, high = _numbers([found["low"], found["high"]], parse)
        return _ranged(key, low, high, found["log"] is not None, whole, unit)
    if numeric and text.count(":") == 2:
        values = _stepped(text, _numbers(text.split(":"), parse), whole)
    else:
        values = _listed(text, parse)
    if len(values) > MAX_VALUES:
        raise InputError(f"must have at most {MAX_VALUES} values, got {len(values)} from '{text}'")
    return Axis(key, values, unit=unit)


def _numbers(texts: list[str], parse: Callable[[str], Value]) -> list[float]:
    return [float(value) for value in _listed(",".join(texts), parse, unique=False) if value is not None]


def _listed(text: str, parse: Callable[[str], Value], *, unique: bool = True) -> tuple[Value, ...]:
    values: list[Value] = []
    mistakes: list[str] = []
    for part in text.split(","):
        if not part.strip():
            mistakes.append(f"has an empty value in '{text}'")
            continue
        try:
            values.append(parse(part.strip()))
        except InputError as error:
            mistakes += str(error).splitlines()
    if unique and len(set(values)) < len(values):
        mistakes.append(f"has a value twice: '{text}'")
    if mistakes:
        raise InputError("\n".join(dict.fromkeys(mistakes)))
    return tuple(values)


def _stepped(text: str, ends: list[float], whole: bool) -> tuple[Value, ...]:
    start, stop, step = (Decimal(repr(end)) for end in ends)
    if not (step > 0 and stop >= start):
        raise InputError(f"must be start:stop:step with stop >= start and step > 0, got '{text}'")
    count = int((stop - start) / step) + 1
    if count > MAX_VALUES:
        raise InputError(f"must have at most {MAX_VALUES} values, got {count} from '{text}'")
    found = [start + i * step for i in range(count)]
    return tuple(int(value) if whole else float(value) for value in found)


def _ranged(key: str, low: float, high: float, log: bool, whole: bool, unit: str) -> Axis:
    mistakes = []
    if not low < high:
        mistakes.append(f"must be a range a..b with a < b, got {low:g}..{high:g}")
    if log and not low > 0:
        mistakes.append(f"must begin above 0 to be even in the logarithm, got {low:g}..{high:g}")
    if log and whole:
        mistakes.append("holds whole numbers, which are drawn evenly: leave :log out")
    if mistakes:
        raise InputError("\n".join(mistakes))
    return Axis(key, (), low, high, log, whole, unit)
