"""The one parallel loop: a task per thread, reached by its address.

Numba optimises the body of a ``prange`` with everything that it calls once for each of the wrappers that it puts around
it: five times in all. Through an address it sees a call only, and one loop serves all tasks.
"""

__all__ = ["address_of", "on_threads", "task_address"]

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import types

from simcore.jit import call_at, njit, prange

Ints = npt.NDArray[np.int64]

_TASK = (types.int64, types.int64)


@njit(parallel=True)
def _each(task, job, results):  # type: ignore[no-untyped-def]
    """Fill results (i,) with what the task at an address returns for (job, i)."""
    for i in prange(results.size):
        results[i] = call_at(task, job, i)


def address_of(array: npt.NDArray[Any]) -> int:
    """Return the address of an array's first element.

    Raises
    ------
    AssertionError
        If its elements are not one after the other.
    """
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


@functools.cache
def task_address(task: Any) -> int:
    """Return the address of a kernel made with ``njit(task=True)``, compiling it if need be."""
    task.compile(_TASK)
    made = task.overloads[_TASK]
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_cfunc_wrapper_name))


def on_threads(task: Any, job: npt.NDArray[Any], n: int) -> Ints:
    """Run a task n times on Numba's threads and return (i,) what it returned.

    Parameters
    ----------
    task
        Kernel ``task(address, i)`` of two int64 that returns one, made with ``njit(task=True)``.
    job
        What it works on, a record with the addresses of arrays; the caller keeps those alive.
    n
        How many times.
    """
    results = np.zeros(n, np.int64)
    _each(task_address(task), address_of(job), results)
    return results
