"""A batch of runs, as threads take them one by one."""

__all__ = ["BATCH", "LARGE_PARTS", "advance_one"]

import numpy as np
from numba import carray, float64, from_dtype, int64, uint64

from simcore.jit import njit, pointer, record_of, rows_of
from simcore.kernels.advance import advance_run, close
from simcore.kernels.cancel import on_cancel
from simcore.kernels.members import replied, timed_out
from simcore.kernels.programs import walk
from simcore.kernels.requests import failed, finish, send
from simcore.layout import LANE, PLAN
from simcore.windows import N_AREAS, N_METRICS, N_STATS, N_TOTALS

#: Addresses of what the runs of a batch work on, and its sizes.
BATCH = np.dtype(
    [
        ("plans", "i8"),  #: (1,) PLAN
        ("lanes", "i8"),  #: (run,) LANE
        ("runs", "i8"),  #: (task,) which run to advance
        ("cores", "i8"),  #: (service,) base cores of a replica
        ("area", "i8"),  #: (run, service, area) working memory
        ("metrics", "i8"),  #: this and the next three as in ``simcore.windows.Windows``, overwritten
        ("totals", "i8"),
        ("replicas", "i8"),
        ("markers", "i8"),
        ("windows", "i8"),  #: control step at whose edge to stop
        ("n_windows", "i8"),  #: windows to keep, the last ones
        ("n_services", "i8"),
        ("slots", "i8"),  #: replicas of a service that windows tell of
    ],
    align=True,
)
RUN = np.dtype([("run", "i8")], align=True)

batch_of = record_of(BATCH)
plan_at = rows_of(PLAN, "plans")
lane_at = rows_of(LANE, "lanes")
run_at = rows_of(RUN, "runs")


@njit(task=True)
def advance_one(batch_address, i):  # type: ignore[no-untyped-def]
    """Advance run ``runs[i]`` of a ``BATCH``; returns a ``Need`` code, after which to call it again with more room."""
    batch = batch_of(batch_address)
    run = run_at(batch, i).run
    n, services, slots = batch.n_windows, batch.n_services, batch.slots
    cores = carray(pointer(batch.cores), services, np.float64)
    area = carray(pointer(batch.area + 8 * run * services * N_AREAS), (services, N_AREAS), np.float64)
    n_metrics, n_stats = (services + 1) * N_METRICS, services * slots * N_STATS
    metrics = carray(pointer(batch.metrics + 8 * run * n * n_metrics), (n, services + 1, N_METRICS), np.float64)
    totals = carray(pointer(batch.totals + 8 * run * n * N_TOTALS), (n, N_TOTALS), np.int64)
    replicas = carray(pointer(batch.replicas + 8 * run * n * n_stats), (n, services, slots, N_STATS), np.float64)
    markers = carray(pointer(batch.markers + 8 * run * n * services), (n, services), np.int64)
    plan, lane = plan_at(batch, 0), lane_at(batch, run)
    return np.int64(advance_run(plan, lane, batch.windows, cores, area, metrics, totals, replicas, markers))


_RUN = (from_dtype(PLAN), from_dtype(LANE))
_WINDOW = (float64[::1], float64[:, ::1], float64[:, ::1], int64[::1], float64[:, :, ::1], int64[::1])
#: Kernel and types of its arguments: parts of the loop that a second process can compile beside the first one.
LARGE_PARTS = (
    (close, (*_RUN, float64, *_WINDOW)),
    (replied, (*_RUN, int64, int64, float64)),
    (timed_out, (*_RUN, int64, float64)),
    (send, (*_RUN, int64, float64)),
    (walk, (*_RUN, int64, float64)),
    (finish, (*_RUN, int64, int64, float64)),
    (failed, (*_RUN, int64, float64)),
    (on_cancel, (*_RUN, int64, uint64, float64)),
)
