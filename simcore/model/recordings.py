"""Recorded rates of arrivals: a CSV file beside a scenario file -> the points of its ``series``."""

__all__ = ["RATE_COLUMNS", "read_rates"]

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from simcore.model.scenario import MAX_FACTOR, MAX_POINTS

RATE_COLUMNS = ("time_s", "rate_rps")

#: Mistakes that are worth showing: a file that is wrong throughout is shown to be so by a few.
_SHOWN = 10


def read_rates(file: Path, base_rps: float) -> tuple[list[dict[str, float]], list[str]]:
    """Return the points of a recording, and what is wrong with it.

    Parameters
    ----------
    file
        A CSV file with the columns ``time_s`` and ``rate_rps``, in any order; times increase.
    base_rps
        The rate of which the points are multiples, > 0.

    Returns
    -------
    points
        ``time_s`` and ``factor`` of each row; of no use if anything is wrong.
    mistakes
        Rules that are broken, each with the file's name and, where there is one, its line; at most some of them.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return [], [f"{file.name}: no such file beside the scenario"]
    except OSError as error:
        return [], [f"{file.name}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return [], [f"{file.name}: is not UTF-8 text (byte {error.start})"]
    wide = [i for i, line in enumerate(text.splitlines(), 1) if line.count(",") != 1]
    if wide:
        return [], [f"{file.name}:{wide[0]}: must hold {' and '.join(RATE_COLUMNS)}, separated by one comma"]
    if not text:
        return [], [f"{file.name}: must have the columns {', '.join(RATE_COLUMNS)}, got nothing"]
    # no quotes: they could hide the end of a line, and numbers need none
    table = pl.read_csv(text.encode(), infer_schema=False, quote_char=None)
    if sorted(table.columns) != sorted(RATE_COLUMNS):
        header = text.splitlines()[0]
        return [], [f"{file.name}:1: must have the columns {', '.join(RATE_COLUMNS)}, got {header}"]
    points: list[dict[str, float]] = []
    mistakes = [f"{file.name}:{rule}" for rule in _rules(table, base_rps, points)]
    hidden = len(mistakes) - _SHOWN
    more = [f"{file.name}: and {hidden} more mistakes"] if hidden > 0 else []
    return points, mistakes[:_SHOWN] + more


def _rules(table: pl.DataFrame, base_rps: float, points: list[dict[str, float]]) -> Iterator[str]:
    """Yield the rules that rows break, each after its line; add the points of the others."""
    given = table.select(RATE_COLUMNS)
    numbers = given.select(pl.all().cast(pl.Float64, strict=False))
    before = -math.inf
    for line, texts, (time_s, rate_rps) in zip(
        range(2, table.height + 2), given.iter_rows(), numbers.iter_rows(), strict=True
    ):
        wrong = [
            f"{line}: {name} must be a finite number, got {_shown(text)}"
            for name, text, value in zip(RATE_COLUMNS, texts, (time_s, rate_rps), strict=True)
            if value is None or not math.isfinite(value)
        ]
        if not wrong and not time_s > before:
            wrong.append(f"{line}: time_s must be > {before:g}, that of the line before, got {time_s:g}")
        if not wrong and not 0.0 <= rate_rps <= MAX_FACTOR * base_rps:
            most = f"{MAX_FACTOR:g} times workload.rate_rps = {base_rps:g}"
            wrong.append(f"{line}: rate_rps must lie between 0 and {most}, got {rate_rps:g}")
        yield from wrong
        if not wrong:
            before = time_s
            points.append({"time_s": time_s, "factor": rate_rps / base_rps})
    if table.height > MAX_POINTS:
        yield f" must have at most {MAX_POINTS} rows, got {table.height}"
    elif not any(point["factor"] > 0.0 for point in points) and len(points) == table.height:
        yield " must have a row with a rate_rps > 0"


def _shown(text: Any) -> str:
    return "nothing" if text is None else repr(text)[:40]
