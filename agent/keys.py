"""Keyed randomness for arrays of runs: an agent draws nothing that depends on the batch it works in."""

__all__ = ["subkeys", "uniforms"]

import numpy as np

from simcore.jit import njit
from simcore.streams import mix, uniform


@njit
def subkeys(keys, index):  # type: ignore[no-untyped-def]
    """Return (key,) uint64: every key mixed with its own index (both (key,) uint64)."""
    out = np.empty(keys.size, np.uint64)
    for i in range(keys.size):
        out[i] = mix(keys[i], index[i])
    return out


@njit
def uniforms(keys):  # type: ignore[no-untyped-def]
    """Return (key,) float64 in [0, 1), draw 0 of every key."""
    out = np.empty(keys.size, np.float64)
    for i in range(keys.size):
        out[i] = uniform(keys[i], np.uint64(0))
    return out
