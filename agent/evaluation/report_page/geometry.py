"""Where things stand in a picture: ticks, paths and places in per cent, so that pictures fit any width.

Lines are SVG paths in a square of ``SIDE`` units that is stretched to its place; text and marks are placed around it in
per cent, so that they keep their size on a phone, on a screen and on paper.
"""

__all__ = ["SIDE", "Line", "Plot", "Tick", "number", "percent", "plot_of", "ticks"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.evaluation.figures import Axis, Curve
from agent.evaluation.palette import DASHES, LIGHT

#: Sides of the square that paths are drawn in.
SIDE = 1000

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
#: Steps between ticks of a time axis, seconds: whole minutes and parts of them.
_TIMES_S = (1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark at an axis."""

    at: float  #: per cent from the low end
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A curve as a path."""

    name: str
    look: str  #: classes of its colour and its dash
    path: str
    band: str  #: path of its band, empty without one


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over two axes."""

    x: Axis
    y: Axis
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    limit: float | None  #: per cent from the bottom
    steps: bool


def number(value: float) -> str:
    """Return a coordinate in as few letters as its tenth allows."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def percent(value: float, low: float, high: float) -> float:
    """Return where a value lies between two ends, in per cent and within them, to a thousandth."""
    share = (value - low) / (high - low) if high > low else 0.0
    return round(100.0 * min(max(share, 0.0), 1.0), 3)


def ticks(axis: Axis, most: int = 6) -> tuple[Tick, ...]:
    """Return at most so many ticks (and at least one step's worth) at round values of an axis."""
    step = _step(axis, most)
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    values = [step * i for i in range(first, last + 1)]
    return tuple(Tick(percent(value, axis.low, axis.high), tick_text(axis, value)) for value in values)


def tick_text(axis: Axis, value: float) -> str:
    """Return the text at a tick: minutes and seconds on a time axis, else the number."""
    if axis.unit == "min:s":
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes}:{seconds:02d}"
    if axis.percent:
        return f"{100 * value:g} %"
    return f"{0.0 if abs(value) < 1e-12 else value:.10g}".replace("-", "\u2212")


def _step(axis: Axis, most: int) -> float:
    width = (axis.high - axis.low) or 1.0
    if axis.unit == "min:s":
        return float(next((step for step in _TIMES_S if width / step <= most), _TIMES_S[-1]))
    power = 10.0 ** math.floor(math.log10(width / most))
    return power * next(step for step in _STEPS if width / (power * step) <= most + 1e-9)


def plot_of(
    curves: Sequence[Curve], x: Axis, y: Axis, *, steps: bool = False, limit: float = math.nan, rows: int = 4
) -> Plot:
    """Return curves as paths, with the ticks of their axes."""
    lines = tuple(
        Line(curve.name, look(curve.look), _path(curve.x, curve.y, x, y, steps), _band(curve, x, y, steps))
        for curve in curves
    )
    known = not math.isnan(limit) and y.low <= limit <= y.high
    return Plot(x, y, ticks(x), ticks(y, rows), lines, percent(limit, y.low, y.high) if known else None, steps)


def look(of: int) -> str:
    """Return the classes of a look: its colour, and its dash where it is not drawn through."""
    if of < 0:
        return "ink"
    stroke = of // len(LIGHT.tones) % len(DASHES)
    return f"t{of % len(LIGHT.tones)}" + (f" d{stroke}" if stroke else "")


def _path(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis, steps: bool) -> str:
    """Return a path that stops where a value is unknown."""
    return "".join(
        "M" + " ".join(f"{number(a)} {number(b)}" for a, b in _points(part, x, y, steps)) for part in _known(xs, ys)
    )


def _known(xs: Sequence[float], ys: Sequence[float]) -> Iterator[list[tuple[float, float]]]:
    part: list[tuple[float, float]] = []
    for place, value in zip(xs, ys, strict=True):
        if math.isfinite(value):
            part.append((place, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _points(part: list[tuple[float, float]], x: Axis, y: Axis, steps: bool) -> Iterator[tuple[float, float]]:
    before = math.nan
    for place, value in part:
        across = SIDE * (place - x.low) / ((x.high - x.low) or 1.0)
        down = SIDE * (1.0 - (value - y.low) / ((y.high - y.low) or 1.0))
        if steps and not math.isnan(before):
            yield across, before
        yield across, down
        before = down


def _band(curve: Curve, x: Axis, y: Axis, steps: bool) -> str:
    """Return the outline of a band; where its ends are unknown there is none."""
    if not curve.low:
        return ""
    # both ends are unknown at the same places
    pairs = zip(_known(curve.x, curve.low), _known(curve.x, curve.high), strict=True)
    return "".join(_outline([*_points(low, x, y, steps)], [*_points(high, x, y, steps)]) for low, high in pairs)


def _outline(low: list[tuple[float, float]], high: list[tuple[float, float]]) -> str:
    return "M" + " ".join(f"{number(a)} {number(b)}" for a, b in [*low, *reversed(high)]) + "Z"
