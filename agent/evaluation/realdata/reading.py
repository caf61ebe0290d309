"""Reading files that others wrote: numbers that may be missing, and errors that say where."""

__all__ = ["number", "read_json", "rows_of", "utc_s"]

import csv
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simcore.errors import InputError


def rows_of(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file.

    Raises
    ------
    InputError
        If it cannot be read or is empty.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not rows:
        raise InputError(f"{path} must hold a header and rows, it is empty")
    return rows


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    InputError
        If it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} must be JSON: {error}") from None


def number(text: str) -> float:
    """Return a cell as a number; nan if it is empty, no number, or infinite."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def utc_s(text: str) -> float:
    """Return the seconds since 1970 of a time such as ``2022-08-22 03:51:19.6 +0000 UTC``; nan if it is none.

    What follows the seconds is not read: these times are in UTC.
    """
    try:
        return datetime.strptime(text[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return math.nan
