"""The event log: one row per thing that happens to a request, a replica, a fault or an action."""

__all__ = ["LOG"]

import numpy as np

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
