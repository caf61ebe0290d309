"""Pictures described but not drawn: what is to be seen, its numbers, and its text for those who cannot see it.

Whoever draws (a page, a file, a terminal) takes one of these; nothing here knows of pixels. Numbers are plain floats
in the unit named; nan is a gap.
"""

__all__ = [
    "KINDS", "Axis", "Band", "Bar", "Bars", "CallTree", "Cell", "Curve", "Curves", "Figure", "Forest", "ForestRow",
    "HeatMap", "Mark", "Panel", "SpanBar", "Table", "Timeline",
]  # fmt: skip

import math
from dataclasses import dataclass
from typing import TypeAlias

#: What a band or a mark of a timeline tells.
KINDS = ("fault", "incident", "alarm", "suspect", "action", "noise")


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a picture; the first column names the row."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: what is measured, its unit (may be empty), and its ends."""

    label: str
    low: float
    high: float
    unit: str = ""
    percent: bool = False  #: values in [0, 1] that are told in per cent

    def tell(self, value: float) -> str:
        """Return a value of this axis as text; a dash for nan."""
        if math.isnan(value):
            return "-"
        text = f"{100 * value:.3g} %" if self.percent else f"{value:.3g}{' ' + self.unit if self.unit else ''}"
        return text.replace("-", "\N{MINUS SIGN}")

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True, slots=True)
class Curve:
    """One line; x does not fall, and all tuples are of one length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    look: int = 0  #: number of its look (``palette.Palette.tone``, ``palette.dash``), -1: ink
    low: tuple[float, ...] = ()  #: of its band, if it has one
    high: tuple[float, ...] = ()

    def at(self, x: float) -> float:
        """Return the value in force at x: that of the last point not beyond it."""
        found = math.nan
        for place, value in zip(self.x, self.y, strict=True):
            if place > x:
                break
            found = value
        return found


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines over one axis, such as survival curves or learning curves."""

    key: str  #: names the picture among the others: a file name without ending
    title: str
    about: str  #: what it shows, in a sentence or two: caption and text alternative
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    steps: bool = False  #: values hold until the next point (survival), instead of straight lines between
    limit: float = math.nan  #: a value of y to be marked

    def table(self) -> Table:
        """Return the values at eleven places along the axis."""
        places = [self.x.low + (self.x.high - self.x.low) * i / 10 for i in range(11)]
        rows = tuple(
            (f"{place:.4g}", *(self.y.tell(curve.at(place)) for curve in self.curves)) for place in places
        )  # fmt: skip
        return Table((self.x.title, *(curve.name for curve in self.curves)), rows)


@dataclass(frozen=True, slots=True)
class ForestRow:
    """An estimate with its interval; nan: there is none."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""  #: such as its verdict
    look: int = 0  #: as that of a curve


@dataclass(frozen=True, slots=True)
class Forest:
    """Estimates with intervals one below the other, beside a line where there is no difference."""

    key: str
    title: str
    about: str
    axis: Axis
    rows: tuple[ForestRow, ...]
    zero: float = 0.0  #: where the line stands
    better: int = 0  #: -1: values to the left are better, 1: to the right, 0: neither

    def table(self) -> Table:
        """Return value, interval and note of every row."""
        tell = self.axis.tell
        return Table(
            ("", self.axis.title, "low", "high", "note"),
            tuple((row.name, tell(row.value), tell(row.low), tell(row.high), row.note) for row in self.rows),
        )


@dataclass(frozen=True, slots=True)
class Bar:
    """A quantity, with an interval if it has one."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    look: int = 0  #: as that of a curve


@dataclass(frozen=True, slots=True)
class Bars:
    """Quantities side by side, from a common 0."""

    key: str
    title: str
    about: str
    axis: Axis
    bars: tuple[Bar, ...]

    def table(self) -> Table:
        """Return value and interval of every bar."""
        tell = self.axis.tell
        rows = tuple((bar.name, tell(bar.value), tell(bar.low), tell(bar.high)) for bar in self.bars)
        return Table(("", self.axis.title, "low", "high"), rows)


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a heat map."""

    column: int
    row: int
    value: float
    low: float = math.nan  #: of its interval
    high: float = math.nan
    n: int = 0  #: runs behind it
    label: str = ""  #: written into the field; empty: the value
    note: str = ""  #: further words for whoever points at it


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Values over two lists of places; the first row is drawn at the bottom."""

    key: str
    title: str
    about: str
    x: str  #: what the columns are, with the unit
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    scale: Axis  #: of the values
    cells: tuple[Cell, ...]  #: a place without a cell stays empty
    diverging: bool = False  #: around the middle of the scale, instead of from little to much

    def table(self) -> Table:
        """Return one row per row of the picture, from the top."""
        of = {(cell.column, cell.row): cell for cell in self.cells}
        rows = []
        for row in reversed(range(len(self.rows))):
            found = [of.get((column, row)) for column in range(len(self.columns))]
            rows.append((self.rows[row], *("-" if cell is None else self.told(cell) for cell in found)))
        return Table((f"{self.y} \\ {self.x}", *self.columns), tuple(rows))

    def told(self, cell: Cell) -> str:
        """Return a cell's value with its interval."""
        text = cell.label or self.scale.tell(cell.value)
        known = not (math.isnan(cell.low) or math.isnan(cell.high))
        return f"{text} [{self.scale.tell(cell.low)}, {self.scale.tell(cell.high)}]" if known else text

    def share(self, value: float) -> float:
        """Return where on the scale of colours a value lies, in [0, 1]."""
        width = self.scale.high - self.scale.low
        return min(max((value - self.scale.low) / width, 0.0), 1.0) if width > 0 else 0.5


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the graphs of a timeline that lie one below the other."""

    name: str
    y: Axis
    curves: tuple[Curve, ...]
    limit: float = math.nan  #: what was promised


@dataclass(frozen=True, slots=True)
class Band:
    """Something that lasts."""

    kind: str  #: one of ``KINDS``
    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens at once."""

    kind: str  #: one of ``KINDS``
    name: str
    time_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """An episode: graphs over a common time, what lasted, and what happened."""

    key: str
    title: str
    about: str
    end_s: float
    panels: tuple[Panel, ...]
    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]

    def table(self) -> Table:
        """Return what lasted and what happened, in order of time."""
        events = [(band.start_s, band.kind, band.name, f"until {_clock(band.end_s)}") for band in self.bands]
        events += [(mark.time_s, mark.kind, mark.name, mark.note) for mark in self.marks]
        rows = tuple((_clock(time_s), kind, name, note) for time_s, kind, name, note in sorted(events))
        return Table(("time", "what", "which", "note"), rows)


@dataclass(frozen=True, slots=True)
class SpanBar:
    """One piece of the work on a request."""

    name: str  #: service and operation
    depth: int  #: 0: the request as its client sees it
    start_s: float  #: since the request began
    end_s: float
    waited_s: float = 0.0  #: of it in queues and for connections
    look: int = 0  #: of the service, as that of a curve
    failed: bool = False
    note: str = ""  #: replica, attempt, cache hit, status


@dataclass(frozen=True, slots=True)
class CallTree:
    """What a request went through: spans in the order of their calls, each below the one that called it."""

    key: str
    title: str
    about: str
    spans: tuple[SpanBar, ...]

    @property
    def length_s(self) -> float:
        """From the beginning of the request to the end of its last span."""
        return max((span.end_s for span in self.spans), default=0.0)

    def table(self) -> Table:
        """Return one row per span."""
        rows = tuple(
            (
                " ".join([">" * span.depth, span.name]).strip(),
                f"{1000 * span.start_s:.1f}",
                f"{1000 * (span.end_s - span.start_s):.1f}",
                f"{1000 * span.waited_s:.1f}",
                span.note,
            )
            for span in self.spans
        )
        return Table(("span", "begins, ms", "takes, ms", "of it waiting, ms", "note"), rows)


#: Whatever can be drawn.
Figure: TypeAlias = Curves | Forest | Bars | HeatMap | Timeline | CallTree


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}"
