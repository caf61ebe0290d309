"""A loop that tells how fast the machine is now, and what a ratio that must hold is checked by."""

__all__ = ["SPINS", "bounded", "calibration", "two_cores"]

import threading

import numpy as np

from agent.evaluation.profiling.clocks import wall_s
from simcore.jit import njit
from simcore.streams import mix

#: Rounds of the calibration loop: some tens of milliseconds.
SPINS = 1_500_000
#: Entries that it works on: 256 KB, about the state of a run.
_CELLS = 1 << 15


@njit
def _spin(cells, key, n):  # type: ignore[no-untyped-def]
    """Mix four keys n times side by side, and let them pick entries to compare, exchange and change."""
    mask, one = np.uint64(cells.size - 1), np.uint64(1)
    a, b, c, d = key, key + one, key + np.uint64(2), key + np.uint64(3)
    for _ in range(n):
        a, b, c, d = mix(a, one), mix(b, one), mix(c, one), mix(d, one)
        i, j = a & mask, b & mask
        if cells[i] > cells[j]:
            cells[i], cells[j] = cells[j], cells[i]
        cells[c & mask] += d
    return a ^ b ^ c ^ d


def calibration(n: int = SPINS) -> int:
    """Do a fixed amount of work without holding the GIL.

    A chain of arithmetic alone would not do: it runs as fast on a core that shares its units and its cache with a busy
    neighbour, where engine and script lose a third. This loop loses with them.
    """
    return int(_spin(np.arange(_CELLS, dtype=np.uint64), np.uint64(7), n))


def bounded(
    what: str, ratio: float, *, at_least: float | None = None, at_most: float | None = None
) -> tuple[bool, str]:
    """Return whether a ratio lies within its bounds, and a line that says so."""
    bounds = [f"at least {at_least:g}"] if at_least is not None else []
    bounds += [f"at most {at_most:g}"] if at_most is not None else []
    held = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    return held, f"{what}: {ratio:.3g}, must be {' and '.join(bounds)}"


def two_cores() -> float:
    """Return how much faster two threads do the calibration loop than one does, now: 2.0 on two idle cores."""
    one = wall_s(calibration)

    def both() -> None:
        other = threading.Thread(target=calibration)
        other.start()
        calibration()
        other.join()

    return 2.0 * one / wall_s(both)
