"""Kinds of recorded data that there are loaders for."""

__all__ = ["KINDS", "load_cases"]

import importlib
from pathlib import Path

from agent.evaluation.realdata.case import Case
from simcore.errors import InputError, suggest

#: Kind -> what it is; the module of the same name here has ``load``.
KINDS = {
    "nezha": "folder with fault_list.json and a metric file for each pod",
    "petshop": "folder with graph.csv, noissue and issues with target.json",
    "table": "folder of cases with case.json and a table time, <service>_<metric>",
}


def load_cases(source: str) -> list[Case]:
    """Return the cases of a source given as ``KIND:PATH``.

    Raises
    ------
    InputError
        If the kind is unknown, there is no such folder, or a file in it is not in the format.
    """
    kind, colon, path = source.partition(":")
    if not colon or kind not in KINDS:
        raise InputError(
            f"--data must be KIND:PATH with KIND one of {', '.join(KINDS)}, got '{source}'{suggest(kind, KINDS)}"
        )
    if not Path(path).is_dir():
        raise InputError(f"--data: there is no folder {path}")
    cases: list[Case] = importlib.import_module(f"agent.evaluation.realdata.{kind}").load(Path(path))
    return cases
