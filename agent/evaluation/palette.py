"""Colours that everybody can tell apart, on a light and on a dark ground."""

__all__ = ["DARK", "DASHES", "DIVERGING", "LIGHT", "SEQUENTIAL", "Palette", "contrast", "dash", "ink_on", "shade"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a picture, ``#RRGGBB``; every tone has a contrast of at least 3 to the ground (WCAG 2.2, 1.4.11).

    Tones stay apart for readers with protanopia, deuteranopia and tritanopia too; lines have dashes besides
    (``DASHES``), so that no picture speaks by colour alone.
    """

    ground: str  #: of the picture
    ink: str  #: text, and the system as a whole
    faint: str  #: axes and notes; contrast of at least 4.5
    rule: str  #: grid lines
    tones: tuple[str, ...]  #: of what is compared, by number
    fault: str
    incident: str
    alarm: str
    action: str
    better: str
    worse: str

    def tone(self, look: int) -> str:
        """Return the colour of a look; -1 is ink."""
        return self.ink if look < 0 else self.tones[look % len(self.tones)]


LIGHT = Palette(
    ground="#FFFFFF",
    ink="#1C2127",
    faint="#5B6570",
    rule="#E4E7EB",
    tones=("#0A4C8A", "#A8320A", "#1B8A6B", "#CC5A9C", "#A98200", "#3E98DC"),
    fault="#A8320A",
    incident="#6B7480",
    alarm="#A98200",
    action="#0A4C8A",
    better="#0A4C8A",
    worse="#A8320A",
)

DARK = Palette(
    ground="#15181C",
    ink="#E8EBEF",
    faint="#A3ADB8",
    rule="#2C323A",
    tones=("#4F8FF0", "#EE8850", "#A9E6D2", "#D75AA0", "#F5CF4A", "#38C0F0"),
    fault="#EE8850",
    incident="#97A1AD",
    alarm="#F5CF4A",
    action="#4F8FF0",
    better="#38C0F0",
    worse="#EE8850",
)

#: Lengths of strokes and gaps, by number; none: a line drawn through.
DASHES: tuple[tuple[float, ...], ...] = ((), (6.0, 3.0), (2.0, 2.5), (8.0, 3.0, 2.0, 3.0))


def dash(look: int) -> tuple[float, ...]:
    """Return the strokes of a look: those that share a colour have others."""
    return DASHES[max(look, 0) // len(LIGHT.tones) % len(DASHES)]


#: From little to much: cividis, which looks the same to readers with and without red-green blindness
#: (Nunez, Anderton and Renslow 2018).
SEQUENTIAL = ("#00224E", "#2A3F6D", "#575D6D", "#7D7C78", "#A59C74", "#D2C060", "#FDE737")
#: From below to above a middle that is nothing: blue and orange of equal weight.
DIVERGING = ("#0A4C8A", "#4F8CC4", "#A9CBE6", "#F2F2EF", "#F2C1A0", "#D97F4B", "#A8320A")


def shade(colours: tuple[str, ...], share: float) -> str:
    """Return the colour at a share in [0, 1] of a scale, between its two neighbours."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    first, second = _channels(colours[low]), _channels(colours[low + 1])
    mixed = [a + (b - a) * (place - low) for a, b in zip(first, second, strict=True)]
    return "#" + "".join(f"{round(channel):02X}" for channel in mixed)


def ink_on(colour: str) -> str:
    """Return black or white, whichever can be read better on a colour."""
    return max(("#000000", "#FFFFFF"), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in _channels(colour))]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
