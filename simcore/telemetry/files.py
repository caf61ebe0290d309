"""Whole files, written under a temporary name and renamed: after an error there is neither half a file nor a rest."""

__all__ = ["replace_file", "stream_file", "temporary_of", "why", "write_json", "write_table"]

import contextlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from simcore.errors import ResultsError


def temporary_of(path: Path) -> Path:
    """Return the name under which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file.

    Raises
    ------
    ResultsError
        If that is not possible.
    """
    temporary = temporary_of(path)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ResultsError(f"cannot write {path}: {why(error)}") from error


def stream_file(path: Path, parts: Iterable[str]) -> None:
    """Write a file piece by piece, so that memory holds one piece at a time; errors as ``replace_file``.

    If the pieces end in an error, or are interrupted, nothing is left behind.
    """
    temporary = temporary_of(path)
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {why(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes; errors as ``replace_file``."""
    replace_file(path, (json.dumps(content, sort_keys=True, allow_nan=False) + "\n").encode())


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as CSV if the name ends in .csv, else as Parquet; errors as ``replace_file``."""
    data = io.BytesIO()
    if path.suffix.lower() == ".csv":
        table.write_csv(data)
    else:
        table.write_parquet(data)
    replace_file(path, data.getvalue())


def why(error: BaseException) -> str:
    """Return the reason of an error in words."""
    named = error.strerror if isinstance(error, OSError) else None
    return named or str(error).splitlines()[0]
