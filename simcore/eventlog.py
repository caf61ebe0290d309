"""The event log: one row per thing that happens to a request, a replica, a fault or an action."""

__all__ = ["LOG", "sample_key", "taken"]

import numpy as np
import numpy.typing as npt

from simcore.streams import keyed, mix_all

#: One row of the event log.
LOG = np.dtype(
    [
        ("time_s", np.float64),
        ("request", np.int64),  #: stream << 40 | number; -1 for events of no request
        ("span", np.uint64),  #: span key; replica number, modulation or action number for their events
        ("event", np.int32),  #: an ``Event`` code
        ("aux", np.int32),
    ]
)

#: Index of a run's key for the draws that say which requests are sampled, above all that model.md names.
_SAMPLE_INDEX = 2**61

_UNIT = 2.0**-53


def sample_key(run_key: np.uint64) -> np.uint64:
    """Return the key of the draws that say which requests of a run are sampled; a re-keyed future keeps it."""
    return keyed(run_key, _SAMPLE_INDEX)


def taken(run_key: np.uint64, requests: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Return (request,) whether head sampling takes a request: ``uniform(sample_key, its number) < share``.

    A request that is taken at some share is taken at every larger one.
    """
    keys = np.full(1, sample_key(run_key))
    u = (mix_all(keys, requests.astype(np.uint64)) >> np.uint64(11)).astype(np.float64) * _UNIT
    return u < share
