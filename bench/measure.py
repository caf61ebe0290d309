"""How times are taken: CPU time, minima of interleaved repetitions, and a loop that tells how fast the machine is now."""

__all__ = ["best_of", "calibration", "cpu_s", "two_cores", "wall_s"]

import gc
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from simcore.jit import njit
from simcore.streams import mix

Piece = Callable[[], object]

#: Rounds of the calibration loop: some tens of milliseconds.
SPINS = 20_000_000


@njit
def _spin(key, n):  # type: ignore[no-untyped-def]
    """Mix a key n times, each time from the result before."""
    for _ in range(n):
        key = mix(key, np.uint64(1))
    return key


def calibration(n: int = SPINS) -> int:
    """Do a fixed amount of arithmetic that touches no memory, without holding the GIL."""
    return int(_spin(np.uint64(7), n))


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


def best_of(
    pieces: Mapping[str, Piece],
    *,
    rounds: int,
    enough: Callable[[Mapping[str, float]], bool] = lambda best: True,
    clock: Callable[[Piece], float] = cpu_s,
) -> dict[str, float]:
    """Return the smallest time of every piece over interleaved rounds, after one round that does not count.

    Noise only ever adds time, so minima come closer to the truth with every round; a ratio that does not hold is
    given up to three times the rounds before it is believed.

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


def two_cores() -> float:
    """Return how much faster two threads do the calibration loop than one does, now: 2.0 on two idle cores."""
    one = wall_s(calibration)

    def both() -> None:
        other = threading.Thread(target=calibration)
        other.start()
        calibration()
        other.join()

    return 2.0 * one / wall_s(both)
