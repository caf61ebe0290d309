"""The golden signals of services (Google SRE book, ch. 6), as pictures and the terminal show them."""

__all__ = ["SIGNALS", "Signal", "golden"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.windows import Metric

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the signals, and how its numbers are written."""

    name: str
    unit: str
    text: Callable[[float], str]


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1.0 else f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %"


def _count(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


#: In the order of the first axis of ``golden``. Saturation is shown by the CPU and by the work that waits: a service
#: may be stuck for want of a thread, a connection or a lock while its cores idle.
SIGNALS = (
    Signal("traffic", "requests/s", _count),
    Signal("errors", "of replies", _percent),
    Signal("latency", "p95", _seconds),
    Signal("cpu", "busy cores", _percent),
    Signal("waiting", "requests", _count),
)


def golden(metrics: Floats) -> Floats:
    """Return (signal, step, service + 1) traffic, errors, latency, CPU and waiting.

    What waits is the queue, the attempts without a connection and the messages not yet consumed, as averages over the
    step. The system, the last row, has the CPU of its busiest service and the waiting work of all; its errors are
    all ends that were bad, its latency is the clients'.

    Parameters
    ----------
    metrics
        (step, service + 1, metric), columns ``simcore.windows.Metric``; nan where nothing is known.
    """
    cpu = metrics[..., Metric.CPU_UTIL].copy()
    waiting = np.nansum(metrics[..., [Metric.QUEUE_LENGTH, Metric.POOL_WAITING, Metric.LAG]], axis=-1)
    unknown = np.isnan(metrics[:, :-1, Metric.REQUEST_RATE_RPS])
    waiting[:, :-1][unknown] = np.nan
    cpu[:, -1] = np.fmax.reduce(cpu[:, :-1], axis=1)
    waiting[:, -1] = np.where(unknown.all(axis=1), np.nan, np.nansum(waiting[:, :-1], axis=1))
    shown = [metrics[..., m] for m in (Metric.REQUEST_RATE_RPS, Metric.ERROR_RATE, Metric.P95_S)]
    return np.stack([*shown, cpu, waiting])
