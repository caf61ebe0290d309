"""The folder of a study: runs, cells, metadata; finished batches are kept, so that an interrupted study can go on.

``study.json`` says what the study is, ``runs.parquet`` has a row per run, ``cells.parquet`` a row per cell,
``differences.parquet`` (where policies vary) a row per policy and setting, ``how.json`` what it took. While a study
runs, batches lie in ``parts``. What a folder holds in the end depends on the study alone, but for ``how.json``.
"""

__all__ = ["StudyFolder", "crew_of", "is_study", "read_study", "tables_of"]

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from agent.evaluation.sources import sources_digest
from agent.evaluation.study import pack, state_id, unpack
from agent.evaluation.sweep.cells import cells_table, differences_table, until_of
from agent.evaluation.sweep.crew import Crew
from agent.evaluation.sweep.playing import runs_schema
from agent.evaluation.sweep.refining import bounds_of, weighted
from agent.evaluation.sweep.sweep import Sweep
from simcore.errors import ResultsError
from simcore.telemetry.files import replace_file, why
from simcore.telemetry.writers import ROW_GROUP_ROWS, describe

_STUDY, _RUNS, _CELLS, _DIFFERENCES, _HOW = (
    "study.json", "runs.parquet", "cells.parquet", "differences.parquet", "how.json",
)  # fmt: skip
_KIND = "study"
#: Sources that the runs of a study depend on.
_SOURCES = (
    "simcore", "agent/detectors", "agent/diagnosers", "agent/policies", "agent/evaluation/scoring.py",
    "agent/evaluation/training.py", "agent/evaluation/sweep", "agent/forking.py", "agent/history.py", "agent/keys.py",
    "agent/loop.py", "agent/play.py", "agent/rollouts.py", "agent/symptoms.py",
)  # fmt: skip
#: What must be the same for a study to go on, with what it is called.
_IDENTITY = {
    "scenario_hash": "the scenario",
    "axes": "what varies",
    "arguments": "the arguments",
    "policies": "what the policies have learned",
    "diagnoser_states": "what the diagnosers have learned",
    "versions": "the versions of mendsim and its libraries",
    "sources": "the program's sources",
}


def is_study(target: str | Path) -> bool:
    """Return whether a folder is that of a study."""
    return (Path(target) / _STUDY).is_file()


class StudyFolder:
    """Writes the results of a study into a folder."""

    def __init__(self, target: str | Path) -> None:
        self.target = Path(target)
        self.metadata: dict[str, Any] = {}  #: of ``study.json``
        self._parts = 0

    def check(self, *, resume: bool, force: bool) -> dict[str, Any] | None:
        """Return the metadata of the study to go on with, None to begin a new one; nothing is touched.

        Raises
        ------
        ResultsError
            If the folder cannot be used.
        """
        target = self.target
        if target.suffix.lower() in (".csv", ".parquet", ".json"):
            raise ResultsError(f"cannot write {target}: a study goes into a folder, not into a file")
        if not target.resolve().parent.is_dir():
            raise ResultsError(f"cannot write {target}: there is no folder {target.resolve().parent}")
        if target.exists() and not target.is_dir():
            raise ResultsError(f"cannot write {target}: it is a file; a study goes into a folder")
        try:
            taken = target.exists() and any(target.iterdir())
        except OSError as error:
            raise ResultsError(f"cannot read {target}: {why(error)}") from error
        if not taken:
            return None
        if not is_study(target):
            raise ResultsError(f"cannot write {target}: it is not empty and holds no study; choose another folder")
        if force:
            return None
        found = read_metadata(target)
        if not resume:
            raise ResultsError(
                f"cannot write {target}: it holds a study ({found.get('runs', 0)} of {found.get('planned', 0)} runs); "
                "--resume goes on with it, --force replaces it"
            )
        return found

    def claim(self) -> None:
        """Make the folder and see that it can be written, before anything long begins; what is in it stays.

        Raises
        ------
        ResultsError
            If it cannot.
        """
        with _told(self.target):
            self.target.mkdir(exist_ok=True)
            probe = self.target / ".probe"
            probe.write_bytes(b"")
            probe.unlink()

    def begin(self, crew: Crew, *, planned: int, more: Mapping[str, Any]) -> None:
        """Lay claim to the folder for a new study, whatever an earlier one left.

        Parameters
        ----------
        crew
            The agents of the study, with what they have learned.
        planned
            Runs to come.
        more
            Further metadata, such as the command.

        Raises
        ------
        ResultsError
            If the folder cannot be written.
        """
        self.metadata = metadata_of(crew) | dict(more) | {"planned": planned, "runs": 0, "complete": False}
        self.claim()
        with _told(self.target):
            _clear(self.target)
        self._write_metadata()

    def resume(self, found: Mapping[str, Any], crew: Crew) -> pl.DataFrame:
        """Go on with a study that was interrupted; return the runs that are there already.

        Parameters
        ----------
        found
            What ``check`` returned.
        crew
            The agents of what the user asks for, which must be the same study.

        Raises
        ------
        ResultsError
            If it is another study, naming what differs, or what is there cannot be read.
        """
        mine = json.loads(json.dumps(metadata_of(crew)))
        wrong = [about for key, about in _IDENTITY.items() if found.get(key) != mine[key]]
        if wrong:
            raise ResultsError(
                f"cannot go on in {self.target}: it holds another study, which differs in {', '.join(wrong)}; "
                "choose another folder, or --force to replace it"
            )
        self.metadata = dict(found)
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._part_files()]
        self._parts = max(numbers, default=-1) + 1
        return self._table(crew.sweep)

    def add(self, runs: pl.DataFrame) -> None:
        """Keep the runs of a finished batch.

        Raises
        ------
        ResultsError
            If the disk is full or the folder cannot be written; what was kept before stays.
        """
        with _told(self.target):
            (self.target / "parts").mkdir(exist_ok=True)
        replace_file(self.target / "parts" / f"part-{self._parts:05d}.parquet", _parquet(runs))
        self._parts += 1

    def finish(self, sweep: Sweep, *, how: Mapping[str, Any], complete: bool) -> dict[str, pl.DataFrame]:
        """Write the tables of everything that is there, and return them: runs, cells and differences.

        One that is not complete can be gone on with.

        Raises
        ------
        ResultsError
            If the disk is full or the folder cannot be written; finished batches stay.
        """
        tables = tables_of(self._table(sweep), sweep)
        runs = tables["runs"]
        until_s = until_of(runs)
        replace_file(self.target / _RUNS, _parquet(runs))
        replace_file(self.target / _CELLS, _parquet(tables["cells"]))
        if "policy" in sweep.keys:
            replace_file(self.target / _DIFFERENCES, _parquet(tables["differences"]))
        self.metadata |= {
            "runs": runs.height,
            "cells": tables["cells"].height,
            "ttm_until_s": until_s if until_s == until_s else None,
            "complete": complete or runs.height == self.metadata["planned"],
        }
        self._write_metadata()
        self._write_how(how)
        with _told(self.target):
            for path in self._part_files():
                path.unlink()
            if (self.target / "parts").is_dir():
                (self.target / "parts").rmdir()
        return tables

    def _table(self, sweep: Sweep) -> pl.DataFrame:
        """Return all runs that are there, by row."""
        schema = runs_schema(sweep.axes)
        paths = [path for path in (self.target / _RUNS, *self._part_files()) if path.exists()]
        frames = [pl.DataFrame(schema=schema), *(_read(path, schema) for path in paths)]
        # a run is there twice if the program was killed after the table was written and before its parts were gone
        return pl.concat(frames).unique("row", keep="first").sort("row")

    def _part_files(self) -> list[Path]:
        return sorted((self.target / "parts").glob("part-*.parquet"))

    def _write_metadata(self) -> None:
        # keys stay in their order: services and operations are numbered by it
        text = json.dumps(self.metadata, indent=2, allow_nan=False)
        replace_file(self.target / _STUDY, text.encode() + b"\n")

    def _write_how(self, how: Mapping[str, Any]) -> None:
        """Add what a session took to those before it."""
        path = self.target / _HOW
        sessions: list[Any] = []
        with contextlib.suppress(OSError, ValueError):
            sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
        text = json.dumps({"sessions": [*sessions, dict(how)]}, indent=2, allow_nan=False)
        replace_file(path, text.encode() + b"\n")


def tables_of(runs: pl.DataFrame, sweep: Sweep) -> dict[str, pl.DataFrame]:
    """Return the tables of a study: runs, cells and differences; in a refined one runs have weights."""
    until_s, bounds = until_of(runs), None
    if sweep.refine is not None:
        runs = weighted(runs, sweep.axes, sweep.refine.depth)
        bounds = bounds_of(sweep.scenario, sweep.axes, until_s)
    return {
        "runs": runs,
        "cells": cells_table(runs, sweep.axes, until_s=until_s, bounds=bounds),
        "differences": differences_table(runs, sweep.axes, until_s=until_s, bounds=bounds),
    }


def metadata_of(crew: Crew) -> dict[str, Any]:
    """Return what ``study.json`` says of a study before it has run."""
    sweep = crew.sweep
    described = describe(sweep.scenario, seed=sweep.seed, arguments=sweep.arguments())
    return {
        "kind": _KIND,
        **described,
        "sources": sources_digest(*_SOURCES),
        "design": sweep.design if sweep.refine is None else "refined",
        "axes": [axis.plain() for axis in sweep.axes],
        "replications": sweep.replications,
        "policies": {name: state_id(state) for name, state in crew.states.items()},
        "policy_states": {state_id(state): pack(state) for state in crew.states.values()},
        "diagnoser_states": {name: pack(state) for name, state in crew.diagnosers.items()},
    }


def read_metadata(target: str | Path) -> dict[str, Any]:
    """Return the metadata of a study.

    Raises
    ------
    ResultsError
        If they are missing or damaged.
    """
    path = Path(target) / _STUDY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {path}: {why(error)}") from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise ResultsError(f"cannot read {path}: it describes no study")
    return found


def crew_of(sweep: Sweep, metadata: Mapping[str, Any], threads: int | None = None) -> Crew:
    """Return the agents of a study, with what they had learned.

    Raises
    ------
    ResultsError
        If a state is missing or damaged.
    """
    packed = metadata.get("policy_states", {})
    missing = [name for name, number in metadata.get("policies", {}).items() if number not in packed]
    if missing:
        raise ResultsError(f"study.json lacks what {', '.join(missing)} had learned")
    states = {name: unpack(packed[number]) for name, number in metadata.get("policies", {}).items()}
    diagnosers = {name: unpack(state) for name, state in metadata.get("diagnoser_states", {}).items()}
    return Crew(sweep, states, threads, diagnosers)


def read_study(target: str | Path) -> tuple[Sweep, dict[str, Any], pl.DataFrame]:
    """Return a study, its metadata, and its table of runs.

    Raises
    ------
    ResultsError
        If the folder is not that of a study, or cannot be read.
    """
    metadata = read_metadata(target)
    sweep = Sweep.from_metadata(metadata)
    folder = StudyFolder(target)
    return sweep, metadata, folder._table(sweep)


def _read(path: Path, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    try:
        found = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ResultsError(f"cannot read {path}: {why(error)}") from error
    if missing := [name for name, kind in schema.items() if found.schema.get(name) != kind]:
        raise ResultsError(f"cannot read {path}: it is not of this version, it lacks {', '.join(missing)}")
    return found.select(list(schema))


def _parquet(table: pl.DataFrame) -> bytes:
    # bytes depend on how a frame is chunked unless it is one chunk and the row groups are given
    data = io.BytesIO()
    table.rechunk().write_parquet(data, row_group_size=ROW_GROUP_ROWS)
    return data.getvalue()


def _clear(folder: Path) -> None:
    """Remove an earlier study, and nothing else."""
    files: Iterable[Path] = [folder / name for name in (_STUDY, _RUNS, _CELLS, _DIFFERENCES, _HOW)]
    for path in [*files, *(folder / "parts").glob("part-*.parquet")]:
        path.unlink(missing_ok=True)
    if (folder / "parts").is_dir():
        (folder / "parts").rmdir()


@contextlib.contextmanager
def _told(target: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"cannot write {target}: {why(error)}") from error
