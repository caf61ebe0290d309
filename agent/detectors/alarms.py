"""When scores become an alarm: persistence, hysteresis, and the one way in which all thresholds are calibrated."""

__all__ = ["ALARM", "AlarmRule", "calibrate_threshold", "count_alarms", "judge", "open_alarms"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.errors import InputError
from simcore.jit import njit

Floats = npt.NDArray[np.float64]

#: State of one run's alarm.
ALARM = np.dtype([("recent", np.int64), ("calm", np.int64), ("open", np.int64)])


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """An alarm opens when the level was above the threshold in ``needed`` of the last ``window`` scrapes.

    It closes after ``calm`` scrapes in a row with the level at or below ``clear`` times the threshold. Steps without
    a new scrape, or without a score, change nothing.
    """

    needed: int = 3
    window: int = 4
    calm: int = 4
    clear: float = 0.8

    def __post_init__(self) -> None:
        if not (1 <= self.needed <= self.window <= 15 and self.calm >= 1 and 0 < self.clear <= 1):
            raise InputError(
                f"alarm rule: 1 <= needed <= window <= 15, calm >= 1 and 0 < clear <= 1 must hold, got {self}"
            )


@njit(internal=True)
def _advance(alarm, level, threshold, needed, window, calm, clear):  # type: ignore[no-untyped-def]
    """Take one scrape into a run's alarm state, in place; return whether an alarm was raised."""
    if np.isnan(level):
        return False
    above = np.int64(1) if level > threshold else np.int64(0)
    alarm.recent = ((alarm.recent << 1) | above) & ((1 << window) - 1)
    bits = 0
    for i in range(window):
        bits += (alarm.recent >> i) & 1
    if alarm.open == 0:
        if bits >= needed:
            alarm.open = 1
            alarm.calm = 0
            return True
        return False
    alarm.calm = alarm.calm + 1 if level <= clear * threshold else 0
    if alarm.calm >= calm:
        alarm.open = 0
        alarm.recent = 0
    return False


@njit
def judge(score, fresh, centre, spread, threshold, needed, window, calm, clear, alarms, overall, excess, opened):  # type: ignore[no-untyped-def]
    """Turn the scores of one step into overall scores, excesses and alarms, for all runs.

    Parameters
    ----------
    score
        (run, service) scores, nan where there is none.
    fresh
        (run,) whether they come from a new scrape.
    centre, spread
        (service + 1,) normal value and scale of each service's score and, last, of the overall one.
    threshold
        Alarm threshold of the level: the largest (score - centre) / spread of any service or of the system.
    needed, window, calm, clear
        The ``AlarmRule``.
    alarms
        (run,) ``ALARM``, modified in place.
    overall, excess, opened
        (run,), (run, service) and (run,), overwritten.
    """
    n_services = score.shape[1]
    for run in range(score.shape[0]):
        total, n = 0.0, 0
        level = np.nan
        for s in range(n_services):
            x = score[run, s]
            if np.isnan(x):
                excess[run, s] = np.nan
                continue
            total += x
            n += 1
            z = (x - centre[s]) / spread[s]
            excess[run, s] = z / threshold
            if not level >= z:
                level = z
        overall[run] = total / n if n > 0 else np.nan
        if n > 0:
            z = (overall[run] - centre[n_services]) / spread[n_services]
            if z > level:
                level = z
        if fresh[run]:
            _advance(alarms[run], level, threshold, needed, window, calm, clear)
        opened[run] = alarms[run].open != 0


@njit
def open_alarms(level, threshold, needed, window, calm, clear, opened):  # type: ignore[no-untyped-def]
    """Fill opened (run, step): whether the alarm of levels (run, step) is open."""
    state = np.zeros(1, ALARM)
    for run in range(level.shape[0]):
        state[0].recent = 0
        state[0].calm = 0
        state[0].open = 0
        for step in range(level.shape[1]):
            _advance(state[0], level[run, step], threshold, needed, window, calm, clear)
            opened[run, step] = state[0].open != 0


@njit
def count_alarms(level, threshold, needed, window, calm, clear):  # type: ignore[no-untyped-def]
    """Return the number of alarms that a threshold raises on levels (run, step)."""
    state = np.zeros(1, ALARM)
    raised = 0
    for run in range(level.shape[0]):
        state[0].recent = 0
        state[0].calm = 0
        state[0].open = 0
        for step in range(level.shape[1]):
            raised += _advance(state[0], level[run, step], threshold, needed, window, calm, clear)
    return raised


@njit
def _lowest(level, candidates, allowed, needed, window, calm, clear):  # type: ignore[no-untyped-def]
    """Return the index of the last candidate (descending) before the first that raises more alarms than allowed."""
    for i in range(candidates.size):
        if count_alarms(level, candidates[i], needed, window, calm, clear) > allowed:
            return i - 1
    return candidates.size - 1


def calibrate_threshold(level: Floats, step_s: float, rate_per_hour: float, rule: AlarmRule) -> tuple[float, float]:
    """Return the lowest threshold that keeps false alarms at or below a rate, and the rate it reaches.

    Thresholds are tried from the largest level downwards, and the search stops at the first that raises too many:
    the number of alarms is not quite monotone, since alarms merge.

    Parameters
    ----------
    level
        (run, step) levels on fault-free runs; nan where there is none (such steps count as observed time).
    step_s
        Length of a step, seconds.
    rate_per_hour
        Accepted false alarms per system-hour.
    rule
        Persistence and hysteresis.

    Raises
    ------
    InputError
        If the rate is negative, or no level is finite.
    """
    if not rate_per_hour >= 0:
        raise InputError(f"false alarms per system-hour must be >= 0, got {rate_per_hour}")
    finite = level[np.isfinite(level)]
    if finite.size == 0:
        raise InputError("calibration needs fault-free runs with at least one score, got none")
    hours = level.size * step_s / 3600.0
    candidates = np.unique(finite)[::-1].copy()
    setting = (rule.needed, rule.window, rule.calm, rule.clear)
    best = max(0, _lowest(level, candidates, rate_per_hour * hours, *setting))
    threshold = max(float(candidates[best]), 1e-9)
    return threshold, count_alarms(level, threshold, *setting) / hours
