"""What a report is made of: the files and folders that eval, compare and sweep write."""

__all__ = ["Source", "read_source"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from simcore.errors import ResultsError
from simcore.telemetry.files import why
from simcore.telemetry.writers import read_metadata, read_table

#: What stands for the policy where there is no agent.
NO_AGENT = "no agent"
_STUDY = "study.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Results as they were read."""

    path: str  #: as the user named it
    kind: str  #: episodes or study
    metadata: dict[str, Any]
    episodes: pl.DataFrame  #: the episodes table; ``row`` is the number that ``run --from`` takes
    cells: pl.DataFrame | None = None  #: of a study

    @property
    def policies(self) -> list[str]:
        """Those that acted, in the order of the table."""
        return self.episodes["policy"].unique(maintain_order=True).to_list()

    @property
    def scenario(self) -> str:
        """Name of the scenario."""
        return str(self.metadata.get("scenario", {}).get("name", "unknown"))

    @property
    def axes(self) -> list[dict[str, Any]]:
        """What a study varies: ``key``, ``unit``, ``values`` or ends of a range."""
        return list(self.metadata.get("axes", []))

    @property
    def complete(self) -> bool:
        """Whether the command came to its end."""
        return bool(self.metadata.get("complete", True))


def read_source(path: str) -> Source:
    """Return the results in a file or folder.

    Raises
    ------
    ResultsError
        If there are none, they are damaged, or hold no runs.
    """
    target = Path(path)
    source = _study(path) if (target / _STUDY).is_file() else _episodes(path)
    if not source.episodes.height:
        raise ResultsError(f"cannot report {path}: it holds no runs")
    return source


def _episodes(path: str) -> Source:
    table = read_table(path)
    return Source(path, "episodes", read_metadata(path), _named(table.with_row_index("row")))


def _study(path: str) -> Source:
    import json

    folder = Path(path)
    try:
        metadata = json.loads((folder / _STUDY).read_text(encoding="utf-8"))
        runs, cells = (pl.read_parquet(folder / name) for name in ("runs.parquet", "cells.parquet"))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ResultsError(f"cannot read the study {path}: {why(error)}") from error
    if not isinstance(metadata, dict):
        raise ResultsError(f"cannot read the study {path}: {_STUDY} is no JSON object")
    return Source(path, "study", metadata, _named(runs), cells)


def _named(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col("row").cast(pl.Int64), pl.col("policy").fill_null(NO_AGENT))
