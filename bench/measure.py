"""How times are taken: CPU time, minima of interleaved rounds, and a loop that tells how fast the machine is now."""

__all__ = ["SPINS", "TASKS", "best_of", "bounded", "busiest_thread_s", "calibration", "cpu_s", "two_cores", "wall_s"]

import gc
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from simcore.jit import njit
from simcore.streams import mix

Piece = Callable[[], object]

#: Rounds of the calibration loop: some tens of milliseconds.
SPINS = 1_500_000
#: Entries that it works on: 256 KB, about the state of a run.
_CELLS = 1 << 15

#: Where Linux tells what each thread of this process has used.
TASKS = Path("/proc/self/task")


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


def cpu_s(piece: Piece) -> float:
    """Return the CPU time that a piece of work takes, all threads, seconds."""
    started = time.process_time()
    piece()
    return time.process_time() - started


def wall_s(piece: Piece) -> float:
    """Return the wall-clock time that a piece of work takes, seconds."""
    started = time.perf_counter()
    piece()
    return time.perf_counter() - started


def busiest_thread_s(piece: Piece) -> float:
    """Return the CPU time of the thread that works longest on a piece, seconds; Linux only.

    It is what the wall clock would show if every thread had a core of its own.
    """
    before = _threads_s()
    piece()
    return max(used - before.get(thread, 0.0) for thread, used in _threads_s().items())


def _threads_s() -> dict[str, float]:
    """Return thread -> CPU time used so far, seconds."""
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in TASKS.iterdir()}


def best_of(
    pieces: Mapping[str, Piece],
    *,
    rounds: int,
    enough: Callable[[Mapping[str, float]], bool] = lambda best: True,
    clock: Callable[[Piece], float] = cpu_s,
) -> dict[str, float]:
    """Return the smallest time of every piece over interleaved rounds, after one round that does not count.

    Noise only ever adds time, so minima come closer to the truth with every round; a ratio that does not hold is
    given up to three times the rounds before it is believed. Pieces of some tens of milliseconds find the quiet
    moments of a busy machine, pieces of a second do not; and medians flatter a kernel, which loses less to
    neighbours than an interpreter does.

    Parameters
    ----------
    pieces
        What is compared; run in turn, so that a slow spell of the machine hits them all.
    rounds
        At least so many.
    enough
        Of the minima so far; the rounds go on until it is true.
    clock
        Times a piece.
    """
    for piece in pieces.values():
        piece()
    best = dict.fromkeys(pieces, float("inf"))
    # What other tests have left on the heap must not burden the garbage collections of a piece written in Python.
    gc.collect()
    gc.freeze()
    try:
        for done in range(1, 3 * rounds + 1):
            for name, piece in pieces.items():
                best[name] = min(best[name], clock(piece))
            if done >= rounds and enough(best):
                break
    finally:
        gc.unfreeze()
    return best


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
