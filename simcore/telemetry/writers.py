"""Streams tables to a CSV file, a Parquet file or a folder of Parquet files, and finds rows again.

Data files depend on nothing but the rows: parts and row groups are cut at fixed numbers of runs, whatever the size
of the chunks that come in. Every file is complete when it appears: it is written under a temporary name and renamed.
"""

__all__ = [
    "PART_RUNS",
    "ROW_GROUP_ROWS",
    "ResultsWriter",
    "describe",
    "read_metadata",
    "read_row",
    "read_table",
    "versions",
]

import contextlib
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import polars as pl

from simcore.errors import ResultsError
from simcore.model.scenario import Scenario
from simcore.telemetry.files import replace_file, temporary_of, why
from simcore.telemetry.tables import KEY, SCHEMAS, empty

#: Runs in one part of a folder.
PART_RUNS = 100
#: Rows of a row group; a part of a small table has one.
ROW_GROUP_ROWS = 100_000
_EPISODES_GROUP_ROWS = 1_000
_METADATA = "metadata.json"
_PACKAGES = ("simpy", "numpy", "numba", "scikit-learn", "polars", "pydantic")


def describe(scenario: Scenario, *, seed: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that let a row be replayed: scenario with its digest, seed, arguments, versions."""
    return {
        "scenario": scenario.model_dump(mode="json"),
        "scenario_hash": scenario.digest,
        "seed": seed,
        "arguments": dict(arguments),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of those that results or speed may depend on."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, "mendsim"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class ResultsWriter:
    """Writes the tables of run after run to one target, by its name: ``.csv``, ``.parquet``, else a folder.

    Single files hold the episodes table; a folder holds all tables, as ``TABLE/part-00000.parquet``, each part made
    of ``PART_RUNS`` runs. Metadata stand beside the data, in ``NAME.meta.json`` or in the folder's
    ``metadata.json``, with ``complete`` false until ``close`` has been called without an error. As a context
    manager it closes at the end; after Ctrl-C or an error too, keeping what was finished (a single file is left as
    it was if nothing was).
    """

    def __init__(
        self, target: str | Path, *, metadata: Mapping[str, Any], force: bool = False, table: str = "episodes"
    ) -> None:
        """Check the target and lay claim to it; nothing that exists is touched without ``force``.

        Parameters
        ----------
        target
            File or folder; the folder it lies in must exist.
        metadata
            JSON-able, see ``describe``.
        force
            Whether an existing file is replaced, and an earlier result in the folder removed.
        table
            What a single file holds; any other than ``episodes`` goes into no folder.

        Raises
        ------
        ResultsError
            If the target exists, its folder is missing, its name is that of another format, or it cannot be written.
        """
        self.target = Path(target)
        self.kind = _kind_of(self.target)
        self._table = table
        self._unit = "runs" if table == "episodes" else "rows"
        self.n_runs = 0  #: runs (of another table: rows) received
        self.n_kept = 0  #: those that are safely in finished files
        self._metadata = dict(metadata)
        self._pending: dict[str, list[pl.DataFrame]] = {}
        self._part = 0
        self._csv: BinaryIO | None = None
        self._csv_end = 0
        self._closed = False
        self._check(force)
        with _told(self.target):
            if self.kind == "folder":
                self.target.mkdir(exist_ok=True)
                _clear(self.target)
            else:
                # an unwritable folder shows now, not after an hour of simulation
                temporary_of(self.target).write_bytes(b"")
            if self.kind == "csv":
                self._csv = temporary_of(self.target).open("wb")
        if self.kind == "folder":
            self._write_metadata({"complete": False})

    def _check(self, force: bool) -> None:
        target = self.target
        if self.kind == "folder" and self._table != "episodes":
            raise ResultsError(f"cannot write {target}: name a file that ends in .csv or .parquet")
        if not target.parent.is_dir():
            raise ResultsError(f"cannot write {target}: there is no folder {target.parent}")
        if not target.exists():
            return
        if self.kind == "folder" and not target.is_dir():
            raise ResultsError(f"cannot write {target}: it is a file; name it .csv or .parquet, or choose a folder")
        if self.kind != "folder" and target.is_dir():
            raise ResultsError(f"cannot write {target}: it is a folder")
        try:
            taken = self.kind != "folder" or any(target.iterdir())
        except OSError as error:
            raise ResultsError(f"cannot read {target}: {why(error)}") from error
        if taken and not force:
            state = "is not empty" if self.kind == "folder" else "exists"
            raise ResultsError(f"cannot write {target}: it {state}; use --force to replace it")

    def write(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Take the tables of some runs; what makes up whole parts goes to disk.

        Parameters
        ----------
        tables
            Must hold the writer's table: ``episodes``, one row per run; the rows of the others belong to these runs,
            in the same order.
            Tables that a single file does not hold are left aside.

        Raises
        ------
        ResultsError
            If the disk is full or the target cannot be written; finished files stay.
        """
        assert not self._closed, "write after close"
        if self.kind == "csv":
            self._append(tables[self._table])
        elif self.kind == "parquet":
            self._pending.setdefault(self._table, []).append(tables[self._table])
            self.n_runs += tables[self._table].height
        else:
            self._buffer(tables)
            try:
                self._flush(PART_RUNS)
            except ResultsError as error:
                self._closed = True
                with contextlib.suppress(ResultsError):
                    self._write_metadata({"complete": False, "stopped_by": "ResultsError"})
                raise ResultsError(f"{error}; {self.n_kept} runs were kept") from error

    def close(self, more: Mapping[str, Any] | None = None) -> None:
        """Write what remains and the final metadata.

        Parameters
        ----------
        more
            Further metadata, known only now: wall times, threads.

        Raises
        ------
        ResultsError
            If the disk is full or the target cannot be written.
        """
        self._finish({"complete": True} | dict(more or {}))

    def __enter__(self) -> "ResultsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        if error is None:
            self.close()
            return
        # the error under way is the one to tell; keeping what was finished is a best effort
        with contextlib.suppress(ResultsError):
            self._finish({"complete": False, "stopped_by": kind.__name__ if kind else ""})

    def _finish(self, more: Mapping[str, Any]) -> None:
        if self._closed:
            return
        self._closed = True
        if self.kind != "folder" and not more["complete"] and not self._csv_end and not self._pending:
            self._discard()
            return
        if self.kind == "csv":
            self._close_csv()
        elif self.kind == "parquet":
            self._write_parquet()
        else:
            self._flush(1)
        self._write_metadata(more)

    def _discard(self) -> None:
        if self._csv is not None:
            with contextlib.suppress(OSError):
                self._csv.close()
        with contextlib.suppress(OSError):
            temporary_of(self.target).unlink(missing_ok=True)

    def _append(self, table: pl.DataFrame) -> None:
        text = io.BytesIO()
        table.write_csv(text, include_header=self._csv_end == 0)
        assert self._csv is not None
        try:
            self._csv.write(text.getvalue())
            self._csv.flush()
        except OSError as error:
            self._finish({"complete": False, "stopped_by": "ResultsError"})
            raise ResultsError(
                f"cannot write {self.target}: {why(error)}; {self.n_kept} {self._unit} were kept"
            ) from error
        self._csv_end += text.tell()
        self.n_kept += table.height
        self.n_runs += table.height

    def _close_csv(self) -> None:
        assert self._csv is not None
        with _told(self.target):
            if self._csv_end == 0:
                self._csv_end = self._csv.write(empty(self._table).write_csv().encode())
            with contextlib.suppress(OSError):
                self._csv.close()
            os.truncate(temporary_of(self.target), self._csv_end)
            os.replace(temporary_of(self.target), self.target)

    def _write_parquet(self) -> None:
        frames = self._pending.pop(self._table, [])
        table = pl.concat([empty(self._table), *frames])
        # the file is made in memory: half a kilobyte per run
        replace_file(self.target, _parquet(table, _EPISODES_GROUP_ROWS))
        self.n_kept = self.n_runs

    def _buffer(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Number the runs and sort every table's rows into parts."""
        episodes = tables["episodes"]
        end = self.n_runs + episodes.height
        numbers = episodes.select(*KEY, pl.int_range(self.n_runs, end, dtype=pl.Int64).alias("_number"))
        numbered = {}
        for name, table in tables.items():
            joined = table.join(numbers, on=list(KEY), how="left", nulls_equal=True, maintain_order="left")
            if joined["_number"].null_count():
                raise ValueError(f"table {name} has rows of runs that are not among the episodes")
            numbered[name] = joined
        # all tables or none, should Ctrl-C come in between
        self._pending |= {name: [*self._pending.get(name, []), table] for name, table in numbered.items()}
        self.n_runs = end

    def _flush(self, at_least: int) -> None:
        """Write parts while at least so many runs wait; a part appears with all its tables or not at all."""
        while self.n_runs - self._part * PART_RUNS >= at_least:
            end = (self._part + 1) * PART_RUNS
            whole = {name: pl.concat(frames) for name, frames in self._pending.items()}
            done: list[Path] = []
            try:
                for name, table in whole.items():
                    path = self.target / name / f"part-{self._part:05d}.parquet"
                    with _told(path):
                        path.parent.mkdir(exist_ok=True)
                    rows = table.filter(pl.col("_number") < end).drop("_number")
                    replace_file(path, _parquet(rows, ROW_GROUP_ROWS))
                    done.append(path)
            except ResultsError:
                for path in done:
                    path.unlink(missing_ok=True)
                raise
            self._pending = {name: [table.filter(pl.col("_number") >= end)] for name, table in whole.items()}
            self._part += 1
            self.n_kept = min(end, self.n_runs)

    def _write_metadata(self, more: Mapping[str, Any]) -> None:
        self._metadata |= more
        self._metadata[self._unit] = self.n_kept
        # keys stay in their order: services and operations are numbered by it
        text = json.dumps(self._metadata, indent=2, allow_nan=False)
        replace_file(_metadata_of(self.target), text.encode() + b"\n")


def read_table(target: str | Path, table: str = "episodes") -> pl.DataFrame:
    """Return a table of a file or folder that ``ResultsWriter`` wrote, rows in the order written.

    Raises
    ------
    ResultsError
        If there is no such file or table, or it is no result of ours.
    """
    path = Path(target)
    if not path.exists():
        raise ResultsError(f"cannot read {path}: there is no such file or folder")
    schema = SCHEMAS[table]
    try:
        if path.is_dir():
            parts = sorted((path / table).glob("part-*.parquet"))
            if not parts and not (path / _METADATA).exists():
                raise ResultsError(f"cannot read {path}: the folder holds no results")
            found = pl.concat([empty(table), *(pl.read_parquet(part) for part in parts)])
        elif table != "episodes":
            raise ResultsError(f"cannot read {table} from {path}: a single file holds only episodes")
        elif path.suffix.lower() == ".csv":
            found = pl.read_csv(path, schema_overrides=dict(schema))
        else:
            found = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ResultsError(f"cannot read {path}: {why(error)}") from error
    if missing := set(schema) - set(found.columns):
        raise ResultsError(f"cannot read {path}: it is no {table} table, it lacks {', '.join(sorted(missing))}")
    return found


def read_metadata(target: str | Path) -> dict[str, Any]:
    """Return the metadata beside a result.

    Raises
    ------
    ResultsError
        If they are missing or damaged.
    """
    path = _metadata_of(Path(target))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read the metadata {path}: {why(error)}") from error
    if not isinstance(found, dict):
        raise ResultsError(f"cannot read the metadata {path}: they are no JSON object")
    return found


def read_row(target: str | Path, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a row of an episodes table, counted from 0, and the metadata beside it.

    Raises
    ------
    ResultsError
        If there is no such result, row or metadata.
    """
    table = read_table(target)
    if not 0 <= row < table.height:
        raise ResultsError(f"row {row} is not in {target}: rows are 0 to {table.height - 1}")
    return table.row(row, named=True), read_metadata(target)


def _kind_of(target: Path) -> str:
    suffix = target.suffix.lower()
    if suffix in (".json", ".xlsx", ".tsv", ".txt", ".gz", ".zip"):
        raise ResultsError(f"cannot write {target}: the name must end in .csv or .parquet, or be that of a folder")
    return {".csv": "csv", ".parquet": "parquet"}.get(suffix, "folder")


def _metadata_of(target: Path) -> Path:
    if target.suffix.lower() in (".csv", ".parquet"):
        return target.with_name(f"{target.name}.meta.json")
    return target / _METADATA


def _parquet(table: pl.DataFrame, row_group_rows: int) -> bytes:
    # bytes depend on how a frame is chunked unless it is one chunk and the row groups are given
    data = io.BytesIO()
    table.rechunk().write_parquet(data, row_group_size=row_group_rows)
    return data.getvalue()


def _clear(folder: Path) -> None:
    """Remove an earlier result of ours, and nothing else."""
    for table in SCHEMAS:
        for part in (folder / table).glob("part-*.parquet"):
            part.unlink()
    (folder / _METADATA).unlink(missing_ok=True)


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"cannot write {target}: {why(error)}") from error
