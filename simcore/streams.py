"""Keyed randomness: every draw is a pure function of a key, so order, threads and policies cannot change it.

The mixer is SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014): ``mix(key, index)`` is output number ``index`` of the generator seeded with ``key``.

Keys form a tree: run key -> stream key -> root span key -> span keys. Index ranges keep a span's draws
(``draw_index``) and its children's keys (``child_index``) apart.
"""

__all__ = [
    "SPLITS",
    "child_index",
    "draw_index",
    "mix",
    "mix_all",
    "keyed",
    "rekey_all",
    "rekeyed",
    "run_key",
    "uniform",
]

import numpy as np
import numpy.typing as npt

from simcore.jit import njit

#: Splits of the seed space, so that training and test runs cannot overlap.
SPLITS = ("train", "calibrate", "tune", "test")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_ONE = np.uint64(1)
_CHILD = np.uint64(1 << 62)
_UNIT = 2.0**-53
#: Index range of a stream key for its other futures, above all others that model.md names.
_FUTURES = 2**43


@njit
def mix(key, index):  # type: ignore[no-untyped-def]
    """Return output ``index`` (uint64) of SplitMix64 seeded with ``key`` (uint64)."""
    z = np.uint64(key) + (np.uint64(index) + _ONE) * _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit
def uniform(key, index):  # type: ignore[no-untyped-def]
    """Return a float64 in [0, 1) with 53 random bits."""
    return np.float64(mix(key, index) >> _S11) * _UNIT


@njit
def draw_index(step, purpose):  # type: ignore[no-untyped-def]
    """Return the index of a draw: step number within the operation, purpose code, 2**20 sub-draws each."""
    return np.uint64(step * 16 + purpose) << np.uint64(20)


@njit
def child_index(site, attempt):  # type: ignore[no-untyped-def]
    """Return the index of a child span's key: call site of the scenario and attempt number (< 256)."""
    return _CHILD + np.uint64(site * 256 + attempt)


def keyed(key: np.uint64, index: int) -> np.uint64:
    """Return ``mix(key, index)`` for Python callers (a compiled function hands back a plain int)."""
    return np.uint64(mix(key, index))


def mix_all(keys: npt.NDArray[np.uint64], indices: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """Return ``mix`` of arrays, broadcast against each other."""
    z: npt.NDArray[np.uint64] = keys + (np.atleast_1d(indices) + _ONE) * _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


def rekeyed(key: np.uint64, number: int) -> np.uint64:
    """Return the key that takes the place of a stream's key in re-keyed future ``number`` (>= 0)."""
    return keyed(key, _FUTURES + number)


def rekey_all(keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return (key,) the keys of these futures, one number per key; -1 leaves a key as it is."""
    pairs = zip(keys, numbers.tolist(), strict=True)
    return np.array([rekeyed(key, number) if number >= 0 else key for key, number in pairs], np.uint64)


def run_key(seed: int, split: str, run: int, stream: int) -> np.uint64:
    """Return the key of one stream of one run, from ``SeedSequence(seed, spawn_key=(split, run, stream))``.

    Parameters
    ----------
    seed
        The user's seed, >= 0.
    split
        One of ``SPLITS``.
    run
        Index of the run, >= 0.
    stream
        0 engine, 1 faults and their timing, 2 noise events, 3 telemetry, 4 actions, 5 policy.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), run, stream))
    return np.uint64(sequence.generate_state(1, np.uint64)[0])
