"""Recorded machines: channels over time, what they look like in healthy times, and when something was wrong.

Two layouts. ``.npz`` with the arrays ``train`` (n, channel), ``test`` (m, channel) and, optionally, ``label`` (m,), as
the Server Machine Dataset and ASD come from InterFusion. A table (``.csv`` or ``.parquet``) with a column ``time``, a
column per channel and, optionally, a column ``label``; its first rows are the healthy times.
"""

__all__ = ["SUFFIXES", "Series", "find_files", "load_series"]

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SUFFIXES = (".csv", ".npz", ".parquet")
#: Fewest healthy rows that a detector can be fitted and calibrated on.
_FEWEST = 50


@dataclass(frozen=True, slots=True)
class Series:
    """A recorded machine. A value that is missing is nan."""

    name: str
    channels: tuple[str, ...]
    train: Floats  #: (n, channel) healthy times
    test: Floats  #: (m, channel) what follows
    label: Bools | None  #: (m,) whether something was wrong; None where nobody has said
    step_s: float  #: time between two rows, seconds


def find_files(paths: Sequence[str]) -> list[Path]:
    """Return the files among the paths, and those in the folders among them, by name.

    Raises
    ------
    InputError
        Listing every path that is neither a file that can be read nor a folder with one.
    """
    found: list[Path] = []
    mistakes: list[str] = []
    for text in paths:
        path = Path(text)
        inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
        if not path.exists():
            mistakes.append(f"--data: there is no {text}")
        elif not inside:
            mistakes.append(f"--data: the folder {text} holds no {', '.join(SUFFIXES)} file")
        elif inside[0].suffix not in SUFFIXES:
            mistakes.append(f"--data: {text} must end in {', '.join(SUFFIXES)}")
        found += inside
    twice = {path.stem for path in found if [other.stem for other in found].count(path.stem) > 1}
    mistakes += [f"--data: more than one file is called {name}" for name in sorted(twice)]
    if mistakes:
        raise InputError("\n".join(mistakes))
    return found


def load_series(path: Path, *, train_share: float, step_s: float) -> Series:
    """Read a recorded machine.

    Parameters
    ----------
    path
        An ``.npz``, ``.csv`` or ``.parquet`` file.
    train_share
        Share of a table's rows that are its healthy times; an ``.npz`` says itself.
    step_s
        Time between two rows where the file does not tell, seconds.

    Raises
    ------
    InputError
        Naming the file, and every rule that it breaks.
    """
    try:
        made = _from_arrays(path, step_s) if path.suffix == ".npz" else _from_table(path, train_share, step_s)
    except (OSError, ValueError, KeyError, EOFError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0] if str(error) else error!r}") from None
    mistakes = _mistakes(made)
    if mistakes:
        raise InputError("\n".join(f"{path}: {line}" for line in mistakes))
    return made


def _from_arrays(path: Path, step_s: float) -> Series:
    with np.load(path, allow_pickle=False) as stored:
        missing = [name for name in ("train", "test") if name not in stored]
        if missing:
            raise InputError(f"{path}: needs the arrays train and test, {' and '.join(missing)} missing")
        arrays = {name: stored[name] for name in ("train", "test", "label") if name in stored}
    for name, array in arrays.items():
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
            raise InputError(f"{path}: {name} must hold numbers, got {array.dtype}")
        if array.ndim != (1 if name == "label" else 2):
            raise InputError(f"{path}: {name} must be {'(row,)' if name == 'label' else '(row, channel)'}, "
                             f"got shape {array.shape}")  # fmt: skip
    train, test = arrays["train"].astype(np.float64), arrays["test"].astype(np.float64)
    channels = tuple(f"channel_{i}" for i in range(train.shape[1]))
    return Series(path.stem, channels, train, test, _labels(path, arrays.get("label")), step_s)


def _from_table(path: Path, train_share: float, step_s: float) -> Series:
    table = pl.read_csv(path, try_parse_dates=True) if path.suffix == ".csv" else pl.read_parquet(path)
    if "time" not in table.columns:
        raise InputError(f"{path}: needs a column time, got {', '.join(table.columns)}")
    channels = [name for name in table.columns if name not in ("time", "label")]
    words = [name for name in channels if not (table[name].dtype.is_numeric() or table[name].dtype == pl.Boolean)]
    mistakes = [f"channel {name} must hold numbers, got {table[name].dtype}" for name in words]
    if not channels:
        mistakes.append("needs at least one channel besides time and label")
    if table["time"].null_count() or not table["time"].is_sorted():
        mistakes.append("time must be there in every row and never go back")
    if mistakes:
        raise InputError("\n".join(f"{path}: {line}" for line in mistakes))
    values = table.select(pl.col(channels).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    first = round(train_share * table.height)
    label = _labels(path, table["label"].to_numpy()) if "label" in table.columns else None
    apart = _spacing(table["time"]) or step_s
    return Series(path.stem, tuple(channels), values[:first], values[first:], None if label is None else label[first:],
                  apart)  # fmt: skip


def _spacing(time: pl.Series) -> float | None:
    """Return the usual time between two rows, seconds; None if the column does not tell."""
    if time.dtype.is_numeric():
        apart: Any = time.cast(pl.Float64).diff().median()
    elif isinstance(time.dtype, pl.Datetime):
        apart = time.diff().median()
        apart = apart.total_seconds() if isinstance(apart, datetime.timedelta) else None
    else:
        return None
    return float(apart) if apart else None


def _labels(path: Path, label: npt.NDArray[Any] | None) -> Bools | None:
    if label is None:
        return None
    strange = [value for value in np.unique(label).tolist() if value not in (0, 1)]
    if strange:
        raise InputError(f"{path}: label must be 0 or 1, got {strange[0]!r}")
    return label.astype(np.bool_)


def _mistakes(series: Series) -> list[str]:
    train, test = series.train, series.test
    lines = []
    if train.shape[1] != test.shape[1]:
        lines.append(f"train and test must have the same channels, got {train.shape[1]} and {test.shape[1]}")
    if train.shape[0] < _FEWEST:
        lines.append(f"at least {_FEWEST} healthy rows are needed, got {train.shape[0]}")
    if not test.shape[0]:
        lines.append("at least one row to judge is needed, got 0")
    if series.label is not None and series.label.size != test.shape[0]:
        lines.append(f"label must have a value for each of {test.shape[0]} rows of test, got {series.label.size}")
    if np.isinf(train).any() or np.isinf(test).any():
        lines.append("values must be finite or missing, got inf")
    return lines
