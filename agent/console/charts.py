"""Charts of characters: areas in braille dots, two values and four heights to a character."""

__all__ = ["area", "bar", "ceiling"]

import math

import numpy as np
import numpy.typing as npt
from rich.text import Text

Floats = npt.NDArray[np.float64]

#: Dots of a braille character (Unicode, block 2800): bits of the left and right column, lowest dot first.
_LEFT, _RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
_BLANK = 0x2800
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def ceiling(values: Floats, at_least: float) -> float:
    """Return a round number that no value exceeds, and not less than ``at_least``."""
    known = values[np.isfinite(values)]
    top = max(float(known.max()) if known.size else 0.0, at_least, 1e-9)
    power = 10.0 ** math.floor(math.log10(top))
    return next(
        step * power for step in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * power >= top * (1 - 1e-9)
    )


def area(
    values: Floats, width: int, height: int, *, top: float, limit: float | None, plain: str, over: str, faint: str
) -> list[Text]:
    """Return the lines of an area chart, the latest value on the right.

    Parameters
    ----------
    values
        In order of time; nan leaves a gap. Two go to a character, the last ``2 * width`` are shown.
    width, height
        Characters.
    top
        Value at the upper edge.
    limit
        Value at which a line is drawn, and above which the other colour begins; None: no such line.
    plain, over, faint
        Styles below and above the limit, and of the line.
    """
    shown = np.full(2 * width, np.nan)
    latest = values[-2 * width :]
    shown[shown.size - latest.size :] = latest
    dots = np.clip(np.ceil(shown / top * 4 * height - 1e-9), 1, 4 * height)
    dots = np.where(np.isnan(shown), 0, dots).astype(np.int64).reshape(width, 2)
    line = None if limit is None or limit > top else max(0, math.ceil(limit / top * 4 * height - 1e-9) - 1) // 4
    rows = []
    for row in reversed(range(height)):
        text = Text(no_wrap=True, end="")
        above = line is not None and row > line
        for left, right in np.clip(dots - 4 * row, 0, 4).tolist():
            if left or right:
                code = _BLANK + sum(_LEFT[:left]) + sum(_RIGHT[:right])
                text.append(chr(code), over if above else plain)
            else:
                text.append("╌" if row == line else " ", faint)
        rows.append(text)
    return rows


def bar(share: float, width: int) -> str:
    """Return a bar that fills a share of so many characters."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
