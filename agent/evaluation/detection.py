"""How good scores and alarms are: point by point and event by event (FIELD: detection; never point-adjusted)."""

__all__ = ["Events", "Points", "average_precision", "block_counts", "events", "intervals", "points"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def average_precision(score: Floats, label: Bools, counts: Ints | None = None) -> Floats:
    """Return (resample,) the area under the precision-recall curve: the sum of precision x step of recall.

    Parameters
    ----------
    score
        (point,) larger is stranger; nan counts as least strange. Equal scores are one threshold.
    label
        (point,) whether something was wrong.
    counts
        (resample, point) how often each point counts; by default once.

    Returns
    -------
    nan for a resample without anything wrong in it.
    """
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-score, kind="stable")
    weight = (np.ones((1, score.size), np.int64) if counts is None else counts)[:, order]
    ends = np.append(np.flatnonzero(np.diff(score[order]) != 0), score.size - 1)
    hits = np.cumsum(weight * label[order], axis=1)[:, ends]
    flagged = np.cumsum(weight, axis=1)[:, ends]
    total = hits[:, -1]
    steps = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = (np.where(flagged > 0, hits / flagged, 0.0) * steps).sum(axis=1) / total
    return area


def block_counts(n_points: int, resamples: int, generator: np.random.Generator) -> Ints:
    """Return (resample, point) how often each point counts in a bootstrap of blocks.

    The circular block bootstrap (Politis and Romano 1992) keeps neighbours together: points of one event are not
    independent. Blocks are a fiftieth of the series.
    """
    length = max(1, n_points // 50)
    n_blocks = -(-n_points // length)
    starts = generator.integers(0, n_points, (resamples, n_blocks))
    marks = np.zeros((resamples, 2 * n_points + 1), np.int64)
    rows = np.arange(resamples)[:, None]
    np.add.at(marks, (rows, starts), 1)
    np.add.at(marks, (rows, starts + length), -1)
    covered = np.cumsum(marks, axis=1)
    counts: Ints = covered[:, :n_points] + covered[:, n_points : 2 * n_points]
    return counts


@dataclass(frozen=True, slots=True)
class Points:
    """Point by point; nan where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float


def points(flagged: Bools, label: Bools) -> Points:
    """Return precision, recall and F1 of flagged points (point,)."""
    hits, named, true = int((flagged & label).sum()), int(flagged.sum()), int(label.sum())
    precision = hits / named if named else float("nan")
    recall = hits / true if true else float("nan")
    return Points(precision, recall, _f1(precision, recall))


def intervals(on: Bools) -> Ints:
    """Return (interval, 2) first point, and the one after the last, of each stretch of true ones."""
    padded = np.concatenate([[False], on, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    stretches: Ints = edges.reshape(-1, 2).astype(np.int64)
    return stretches


@dataclass(frozen=True, slots=True)
class Events:
    """Event by event: what counts of an alarm is when it is raised. nan where there is nothing to divide by."""

    precision: float  #: share of the alarms that were raised in an event
    recall: float  #: share of the events in which one was raised
    f1: float
    alarms: int
    false_alarms: int
    events: int
    found: int
    delay_steps: float  #: median from an event's first point to the first alarm raised in it; nan if none was


def events(alarm: Bools, label: Bools, *, grace: int) -> Events:
    """Return how alarms meet labelled events.

    An alarm that is open already when an event begins is a false one and does not find it: otherwise an alarm that
    never closes would find everything.

    Parameters
    ----------
    alarm
        (point,) whether an alarm is open.
    label
        (point,) whether something was wrong.
    grace
        An event lasts so many points longer: an alarm that needs persistence comes that late.
    """
    raised, real = intervals(alarm)[:, 0], intervals(label)
    inside = [raised[(raised >= first) & (raised < last + grace)] for first, last in real]
    right = np.unique(np.concatenate([np.zeros(0, np.int64), *inside])).size
    delays = [int(hits[0] - first) for hits, (first, _) in zip(inside, real, strict=True) if hits.size]
    precision = right / raised.size if raised.size else float("nan")
    recall = len(delays) / len(real) if len(real) else float("nan")
    delay = float(np.median(delays)) if delays else float("nan")
    return Events(
        precision, recall, _f1(precision, recall), raised.size, raised.size - right, len(real), len(delays), delay
    )


def _f1(precision: float, recall: float) -> float:
    """Return the harmonic mean; 0 where nothing was named although something was there, nan where nothing was."""
    if np.isnan(recall):
        return float("nan")
    both = precision + recall
    return 2.0 * precision * recall / both if both > 0 else 0.0
