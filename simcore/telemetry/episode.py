"""Traces and logs of one run of an episode."""

__all__ = ["applied_actions", "episode_logs", "sampled", "traces_in_batches"]

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simcore.env import Episodes
from simcore.telemetry.logs import LogRecord, system_logs
from simcore.telemetry.sampling import head_sample, roots_of, tail_sample
from simcore.telemetry.traces import Trace, request_trees

#: Traces that are made at once: some thousand spans.
_BATCH = 1000


def applied_actions(episodes: Episodes, row: int) -> list[tuple[str, int]]:
    """Return (name, service or -1) of the actions applied to a run, in order; failed ones have no effect."""
    table = episodes.actions
    return [
        (table.names[record.action], int(table.service[record.action]))
        for record in episodes.records
        if record.run == row and record.succeeds
    ]


def episode_logs(episodes: Episodes, row: int, *, truth: bool = False) -> list[LogRecord]:
    """Return what the system of a run has logged; see ``system_logs``.

    Parameters
    ----------
    episodes
        Opened with ``log``.
    row
        Position of the run.
    truth
        Whether to log faults too.
    """
    log, inputs = episodes.session.events(row), episodes.runs[row].inputs
    return system_logs(episodes.scenario, log, inputs, applied_actions(episodes, row), truth=truth)


def sampled(episodes: Episodes, row: int, log: npt.NDArray[np.void], head: float, tail: int) -> npt.NDArray[np.int64]:
    """Return the requests of a run that are traced, by number, in order of arrival.

    Parameters
    ----------
    episodes
        Whose step is the window of tail sampling.
    row
        Position of the run.
    log
        Its event log.
    head
        Share of all requests, in [0, 1].
    tail
        So many of the slowest of each window, and of the slowest that failed.
    """
    roots = roots_of(log)
    own = episodes.runs[row].inputs.key
    chosen = np.union1d(head_sample(roots, head, own), tail_sample(roots, tail, episodes.scenario.timing.step_s))
    return roots.requests[np.isin(roots.requests, chosen)]


def traces_in_batches(
    episodes: Episodes, row: int, log: npt.NDArray[np.void], requests: npt.NDArray[np.int64]
) -> Iterator[list[Trace]]:
    """Yield the traces of some requests, a batch at a time, so that memory does not grow with their number.

    Parameters
    ----------
    episodes
        Whose run it is.
    row
        Position of the run.
    log
        Its event log.
    requests
        Their numbers, in order of arrival.
    """
    rare = log[log["request"] < 0]
    own = log[np.isin(log["request"], requests)]
    order = np.argsort(own["request"], kind="stable")
    numbers = own["request"][order]
    for first in range(0, requests.size, _BATCH):
        batch = np.sort(requests[first : first + _BATCH])
        parts = [
            order[a:b]
            for a, b in zip(np.searchsorted(numbers, batch), np.searchsorted(numbers, batch, "right"), strict=True)
        ]
        rows = np.concatenate([rare, own[np.sort(np.concatenate(parts))]])
        yield request_trees(episodes.scenario, rows, episodes.runs[row].inputs.key)
