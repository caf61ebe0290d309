"""Judges registered detectors on recorded machines: the classes of the simulator, looking at all channels."""

__all__ = [
    "CALIBRATION_SHARE",
    "FALSE_ALARMS_PER_DAY",
    "Judged",
    "Mean",
    "flat",
    "judge",
    "machine_topology",
    "means",
    "recorded_detector",
]

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.api import Topology
from agent.detectors.alarms import open_alarms
from agent.detectors.base import ScoringDetector
from agent.detectors.views import MachineView
from agent.evaluation.detection import Events, Points, average_precision, block_counts, events, points
from agent.evaluation.realdata.series import Series
from agent.registry import make_detector
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Share of the healthy rows that the threshold is set on, by a detector that is fitted on those before.
CALIBRATION_SHARE = 0.2
#: Accepted false alarms per day when the threshold is set.
FALSE_ALARMS_PER_DAY = 1.0
#: Resamples of an interval.
BOOTSTRAPS = 200

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Judged:
    """What a detector made of a recorded machine; None where the recording has no labels."""

    machine: str
    detector: str
    rows: int
    wrong_share: float | None  #: share of the rows that are labelled: the area of a random score
    auc_pr: float | None
    low: float | None  #: ends of its 95 % interval over blocks of time
    high: float | None
    points: Points | None  #: the level is above the threshold, which was set on healthy rows
    events: Events | None  #: alarms with the persistence that they have in the simulator
    alarms: int
    days: float
    cpu_s: float  #: to fit, calibrate and score
    resampled: Floats  #: (resample,) areas, nan where nothing was wrong


def machine_topology(series: Series) -> Topology:
    """Return a recorded machine as a system of one service; there is no SLO, and nobody calls anybody."""
    alone = np.zeros((1, 1), np.bool_)
    nan = float("nan")
    return Topology((series.name,), alone, alone, alone, 0, np.zeros(1, np.bool_), nan, nan, series.step_s, nan)


def recorded_detector(name: str) -> ScoringDetector:
    """Return a new detector that looks at all channels of a recorded machine.

    Raises
    ------
    InputError
        If there is none of that name, or it cannot look at recordings.
    """
    if not isinstance(make_detector(name), ScoringDetector):
        raise InputError(f"--detector: {name} works in the simulator only")
    made = make_detector(name, view=MachineView())
    assert isinstance(made, ScoringDetector)
    return made


def judge(name: str, series: Series, *, seed: int, per_day: float = FALSE_ALARMS_PER_DAY) -> Judged:
    """Fit a detector on a machine's healthy rows, calibrate it there too, and judge it on what follows.

    The threshold is set on the last healthy rows by a detector that has not seen them. It counts in units of the
    healthy scores' spread, so it stays when the detector is then fitted on all of them.

    Parameters
    ----------
    name
        As registered.
    series
        The recorded machine. Labels are used to judge, never to fit.
    seed
        Of the fit and the resampling.
    per_day
        Accepted false alarms per day on healthy rows.

    Raises
    ------
    InputError
        If the detector is unknown, or cannot be fitted on this machine.
    """
    started, topology, detector = time.process_time(), machine_topology(series), recorded_detector(name)
    cut = round((1.0 - CALIBRATION_SHARE) * series.train.shape[0])
    healthy, tested = (np.expand_dims(rows, (0, 2)) for rows in (series.train, series.test))
    detector.fit(healthy[:, :cut], topology, seed=seed)
    detector.calibrate(healthy[:, cut:], topology, rate_per_hour=per_day / 24.0, seed=seed)
    detector.fit(healthy, topology, seed=seed)
    scores = detector.replay(tested, topology, seed=seed)
    level = detector.level(scores)
    rule, alarm = detector.rule, np.zeros(level.shape, np.bool_)
    open_alarms(level, detector.threshold, rule.needed, rule.window, rule.calm, rule.clear, alarm)
    cpu_s = time.process_time() - started
    opened: Bools = alarm.ravel()
    found = events(opened, np.zeros_like(opened) if series.label is None else series.label, grace=rule.window - 1)
    days = series.test.shape[0] * series.step_s / 86_400.0
    own = (series.name, name, level.size)
    if series.label is None:
        nothing = np.full(BOOTSTRAPS, np.nan)
        return Judged(*own, None, None, None, None, None, None, found.alarms, days, cpu_s, nothing)
    score: Floats = scores.ravel()
    counts = block_counts(score.size, BOOTSTRAPS, _generator(seed, series))
    resampled = average_precision(score, series.label, counts)
    with np.errstate(invalid="ignore"):
        flagged: Bools = level.ravel() > detector.threshold
    return Judged(
        machine=series.name,
        detector=name,
        rows=score.size,
        wrong_share=float(series.label.mean()),
        auc_pr=_number(average_precision(score, series.label).item()),
        low=_end(resampled, 0.5 * (1.0 - _LEVEL)),
        high=_end(resampled, 1.0 - 0.5 * (1.0 - _LEVEL)),
        points=points(flagged, series.label),
        events=found,
        alarms=found.alarms,
        days=days,
        cpu_s=cpu_s,
        resampled=resampled,
    )


def _generator(seed: int, series: Series) -> np.random.Generator:
    """Return a generator of the machine's own, the same for all detectors: their intervals are paired."""
    own = int.from_bytes(hashlib.sha256(series.name.encode()).digest()[:4], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x64657465, own))))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _end(resampled: Floats, share: float) -> float | None:
    known = resampled[~np.isnan(resampled)]
    return float(np.quantile(known, share)) if known.size else None


_OWN = ("machine", "detector", "rows", "days", "wrong_share", "auc_pr", "low", "high", "alarms", "cpu_s")
_RATES = ("precision", "recall", "f1")
_COUNTS = ("false_alarms", "events", "found", "delay_steps")
_AVERAGED = ("auc_pr", *_RATES, *(f"event_{name}" for name in _RATES), "delay_steps", "false_alarms_per_day")


@dataclass(frozen=True, slots=True)
class Mean:
    """A detector over all machines; None where no machine has labels."""

    detector: str
    machines: int
    auc_pr: float | None
    low: float | None  #: ends of its 95 % interval over machines, and over blocks of time within each
    high: float | None
    precision: float | None  #: mean over the machines where it is defined
    recall: float | None
    f1: float | None
    event_precision: float | None
    event_recall: float | None
    event_f1: float | None
    delay_steps: float | None
    false_alarms_per_day: float | None
    cpu_s: float


def means(judged: Sequence[Judged], *, seed: int) -> list[Mean]:
    """Return the mean over the machines of every detector, in order of their first appearance."""
    made = []
    for name in dict.fromkeys(row.detector for row in judged):
        rows = [row for row in judged if row.detector == name]
        labelled = [row for row in rows if row.auc_pr is not None]
        plain = [flat(row) for row in labelled]
        low, high = _spread_of_mean(labelled, seed)
        over = {column: _mean([row[column] for row in plain]) for column in _AVERAGED}
        made.append(
            Mean(detector=name, machines=len(rows), low=low, high=high, cpu_s=sum(r.cpu_s for r in rows), **over)
        )
    return made


def flat(row: Judged) -> dict[str, Any]:
    """Return a judgement as one table row; None where there is nothing to say."""
    points, events = row.points, row.events
    plain: dict[str, Any] = {name: getattr(row, name) for name in _OWN}
    plain |= {name: None if points is None else getattr(points, name) for name in _RATES}
    plain |= {f"event_{name}": None if events is None else getattr(events, name) for name in _RATES}
    plain |= {name: None if events is None else getattr(events, name) for name in _COUNTS}
    plain["false_alarms_per_day"] = None if events is None else events.false_alarms / row.days
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in plain.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread_of_mean(rows: Sequence[Judged], seed: int) -> tuple[float | None, float | None]:
    if not rows:
        return None, None
    areas = np.stack([np.where(np.isnan(row.resampled), row.auc_pr or 0.0, row.resampled) for row in rows])
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0x6D65616E,))))
    shape = (2_000, len(rows))
    drawn = areas[generator.integers(0, len(rows), shape), generator.integers(0, areas.shape[1], shape)].mean(axis=1)
    low, high = np.quantile(drawn, [0.5 * (1.0 - _LEVEL), 1.0 - 0.5 * (1.0 - _LEVEL)])
    return float(low), float(high)
