"""The pieces that a page is made of, before they are put into HTML."""

__all__ = ["Browsed", "Card", "Head", "Listing", "Part", "Row", "Section"]

from dataclasses import dataclass, field

from agent.evaluation.report_page.shapes import Shape


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """Head of a column."""

    text: str
    numeric: bool = True
    about: str = ""
    wide: bool = False  #: holds sentences


@dataclass(frozen=True, slots=True)
class Row:
    """Row of a listing; what it is about lets it be filtered."""

    cells: tuple[str, ...]  #: what follows a line feed is small print
    policy: str = ""
    fault: str = ""
    link: str = ""  #: id of the place that the first cell leads to


@dataclass(frozen=True, slots=True)
class Listing:
    """A table to be sorted and filtered."""

    title: str
    about: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Browsed:
    """An episode that was played again, to be looked at."""

    key: str  #: id
    row: int
    title: str
    why: str  #: it was chosen
    policy: str
    fault: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    timeline: Shape
    decisions: Listing | None
    logs: Listing | None
    trees: tuple[Shape, ...]
    command: str
    same: bool  #: the replay gave the stored row again


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it."""

    key: str
    title: str
    lead: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    shapes: tuple[Shape, ...] = ()
    listings: tuple[Listing, ...] = ()
    browsed: tuple[Browsed, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()  #: what it gives, and the command


@dataclass(frozen=True, slots=True)
class Part:
    """What a page says of one source."""

    key: str
    title: str
    subtitle: str
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    policies: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    figures: tuple[Shape, ...] = field(default=(), repr=False)  #: all of them, for whoever wants files
    stopped: bool = False  #: by Ctrl-C, before all episodes were played
