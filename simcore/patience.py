"""Python's garbage collector, for work that makes very many objects of which few are garbage."""

__all__ = ["patient_collector"]

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects between two collections; by default Python waits for 700.
_PATIENCE = 100_000


@contextmanager
def patient_collector() -> Iterator[None]:
    """Collect garbage rarely within the block: looking at everything that lives, again and again, takes its time."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _PATIENCE) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
