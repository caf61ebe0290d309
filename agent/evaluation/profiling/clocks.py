"""How times are taken: CPU time, minima of interleaved rounds, the time of the busiest thread."""

__all__ = ["TASKS", "Piece", "best_of", "busiest_thread_s", "cpu_s", "timed_rounds", "wall_s"]

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Piece = Callable[[], object]

#: Where Linux tells what each thread of this process has used.
TASKS = Path("/proc/self/task")


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
    with _tidy_heap():
        for done in range(1, 3 * rounds + 1):
            for name, piece in pieces.items():
                best[name] = min(best[name], clock(piece))
            if done >= rounds and enough(best):
                break
    return best


def timed_rounds(
    pieces: Mapping[str, Piece],
    *,
    rounds: int,
    clock: Callable[[Piece], float] = cpu_s,
) -> dict[str, list[float]]:
    """Return (round,) times of every piece, interleaved, after one round that does not count."""
    for piece in pieces.values():
        piece()
    times: dict[str, list[float]] = {name: [] for name in pieces}
    with _tidy_heap():
        for _ in range(rounds):
            for name, piece in pieces.items():
                times[name].append(clock(piece))
    return times


@contextlib.contextmanager
def _tidy_heap() -> Iterator[None]:
    """Keep what others have left on the heap from burdening the garbage collections of a piece written in Python."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
