"""Alias tables for the popularity of cache keys; built once per call site, read by both engines."""

__all__ = ["alias_table"]

import numpy as np
import numpy.typing as npt

from simcore.jit import njit
from simcore.samplers import exp, log


@njit
def _fill(accept, alias, work, zipf):  # type: ignore[no-untyped-def]
    """Fill a Walker alias table by Vose's method; all arrays are modified in place."""
    n = accept.size
    total = 0.0
    for k in range(n):
        accept[k] = exp(-zipf * log(np.float64(k + 1)))
        total += accept[k]
    n_small, n_large = 0, 0
    for k in range(n):
        accept[k] = accept[k] * n / total
        alias[k] = k
        # one array holds both stacks: columns below 1 from the left, the others from the right
        if accept[k] < 1.0:
            work[n_small] = k
            n_small += 1
        else:
            n_large += 1
            work[n - n_large] = k
    while n_small > 0 and n_large > 0:
        n_small -= 1
        small = work[n_small]
        large = work[n - n_large]
        alias[small] = large
        accept[large] = (accept[large] + accept[small]) - 1.0
        if accept[large] < 1.0:
            n_large -= 1
            work[n_small] = large
            n_small += 1
    # what is left is 1 up to rounding
    for i in range(n_small):
        accept[work[i]] = 1.0
    for i in range(n_large):
        accept[work[n - 1 - i]] = 1.0


def alias_table(count: int, zipf: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the Walker alias table of a Zipf distribution over ``count`` keys, the same on every platform.

    Parameters
    ----------
    count
        Number of keys, >= 1; key k has weight ``(k + 1) ** -zipf``.
    zipf
        Exponent, >= 0; 0 is uniform.

    Returns
    -------
    accept
        (key,) probability of staying in the column.
    alias
        (key,) the other key of the column.

    Notes
    -----
    M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE TSE 17(9), 1991.
    ``simcore.samplers.popularity`` reads the table.
    """
    accept = np.empty(count, np.float64)
    alias = np.empty(count, np.int64)
    _fill(accept, alias, np.empty(count, np.int64), float(zipf))
    return accept, alias
