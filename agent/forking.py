"""How the state of an agent's parts is taken over by a fork of some of its runs."""

__all__ = ["forked"]

import copy
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
PartT = TypeVar("PartT")


def forked(part: PartT, rows: Ints) -> PartT:
    """Return a copy of a part that goes on with the runs ``rows`` (row,), repeats allowed; the part is not touched.

    A part with a method ``fork`` does it by itself. Of any other, the attributes that its class names in ``PER_RUN``
    are taken over run by run: arrays whose first axis is the run, and parts (or lists of them) that have such arrays.
    Everything else is what was learned or configured, and is shared.
    """
    own = getattr(part, "fork", None)
    if own is not None:
        twin: PartT = own(rows)
        return twin
    twin = copy.copy(part)
    for name in getattr(part, "PER_RUN", ()):
        setattr(twin, name, _taken(getattr(part, name), rows))
    return twin


def _taken(value: Any, rows: Ints) -> Any:
    if isinstance(value, np.ndarray):
        return value[rows]
    if isinstance(value, (list, tuple)):
        return type(value)(_taken(each, rows) for each in value)
    return forked(value, rows)
