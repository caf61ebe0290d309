"""How much of an outcome each parameter is answerable for: Sobol's shares of variance, Morris' elementary effects.

A design is a table of points in the unit cube, one coordinate for each parameter, with the number of the run played at
each: the same number meets the same randomness, so chance is a factor like the others and can be varied or held. The
design of Sobol varies it and tells its share, which no parameter explains; that of Morris holds it along a trajectory.
"""

__all__ = ["CHANCE", "Design", "Effects", "Shares", "morris_design", "morris_effects", "sobol_design", "sobol_shares"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.evaluation.statistics import LEVEL, Interval
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Name of the factor that is the number of the run.
CHANCE = "chance"
#: Resamples of an interval.
BOOTSTRAPS = 2_000
#: Morris' grid has so many values of each parameter; a step goes over half of them.
_LEVELS = 4
_STEP = _LEVELS / 2 / (_LEVELS - 1)

_STREAM = 0x73656E73


@dataclass(frozen=True, slots=True)
class Design:
    """Points to be played."""

    unit: Floats  #: (point, parameter) in [0, 1]
    run: Ints  #: (point,) number of the run, which says how chance falls


@dataclass(frozen=True, slots=True)
class Shares:
    """What part of the variance of an outcome goes back to each factor: parameters in order, then chance."""

    first: list[Interval]  #: (factor,) to it alone
    total: list[Interval]  #: (factor,) to it, alone or together with others


@dataclass(frozen=True, slots=True)
class Effects:
    """What a parameter does to an outcome when it moves through its whole range, in units of the outcome."""

    size: list[Interval]  #: (parameter,) mean of the absolute effects
    mean: list[Interval]  #: (parameter,) with sign: the direction
    spread: list[Interval]  #: (parameter,) standard deviation: it depends on the others, or is not straight


def _generator(seed: int, what: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_STREAM, what))))


def sobol_design(parameters: int, samples: int, *, seed: int) -> Design:
    """Return the points of two samples, A and B, and of A with one factor after the other from B (Saltelli 2010).

    Parameters
    ----------
    parameters
        How many.
    samples
        Points of A, a power of 2; the design has ``samples * (parameters + 3)``.
    seed
        Of the scrambled Sobol points (Owen 1998).

    Raises
    ------
    InputError
        If the number of samples is no power of 2, or there is no parameter.
    """
    from scipy.stats import qmc

    if parameters < 1:
        raise InputError("a sensitivity analysis needs at least one parameter to vary, got 0")
    if samples < 4 or samples & (samples - 1):
        raise InputError(f"samples must be a power of 2, at least 4 (balanced Sobol points), got {samples}")
    points = qmc.Sobol(2 * parameters, rng=_generator(seed, 0)).random(samples)
    a, b = points[:, :parameters], points[:, parameters:]
    unit, run = [a, b], [np.arange(samples), np.arange(samples, 2 * samples)]
    for i in range(parameters):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        unit.append(mixed)
        run.append(run[0])
    unit.append(a)
    run.append(run[1])
    return Design(np.concatenate(unit), np.concatenate(run))


def sobol_shares(outcome: Floats, parameters: int, *, seed: int) -> Shares:
    """Return the shares of variance with intervals of a bootstrap of the samples; nan where nothing varies.

    The first-order estimator is that of Saltelli et al. (2010, Comput. Phys. Commun. 181, 259, table 2b), the total one
    Jansen's (1999). The intervals treat the points as independent, which is on the safe side for Sobol points.

    Parameters
    ----------
    outcome
        (point,) of ``sobol_design``.
    parameters
        How many.
    seed
        Of the resampling.
    """
    samples = outcome.size // (parameters + 3)
    blocks = outcome.reshape(parameters + 3, samples)
    drawn = _generator(seed, 1).integers(0, samples, (BOOTSTRAPS, samples))
    a, b = blocks[0], blocks[1]
    first, total = [], []
    for mixed in blocks[2:]:
        values = _shares(a, b, mixed, np.arange(samples)[None])
        resampled = _shares(a, b, mixed, drawn)
        first.append(_interval(values[0], resampled[0]))
        total.append(_interval(values[1], resampled[1]))
    return Shares(first, total)


def _shares(a: Floats, b: Floats, mixed: Floats, rows: Ints) -> tuple[Floats, Floats]:
    """Return (resample,) first and total share of the factor that ``mixed`` has from B."""
    a, b, mixed = a[rows], b[rows], mixed[rows]
    both = np.concatenate([a, b], axis=1)
    centre, variance = both.mean(axis=1, keepdims=True), both.var(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        first = ((b - centre) * (mixed - a)).mean(axis=1) / variance
        total = 0.5 * ((a - mixed) ** 2).mean(axis=1) / variance
    known = variance > 0.0
    return np.where(known, first, np.nan), np.where(known, total, np.nan)


def _interval(value: Floats, drawn: Floats) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value[0]) or not drawn.size:
        return Interval(np.nan, np.nan, np.nan)
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(float(value[0]), float(low), float(high))


def morris_design(parameters: int, trajectories: int, *, seed: int) -> Design:
    """Return trajectories along which one parameter after the other moves, all with the same run (Morris 1991).

    Parameters
    ----------
    parameters, trajectories
        How many; the design has ``trajectories * (parameters + 1)`` points.
    seed
        Of the trajectories.

    Raises
    ------
    InputError
        If there is no parameter, or fewer than 2 trajectories.
    """
    if parameters < 1:
        raise InputError("a sensitivity analysis needs at least one parameter to vary, got 0")
    if trajectories < 2:
        raise InputError(f"trajectories must be >= 2 for an interval, got {trajectories}")
    generator = _generator(seed, 2)
    unit = np.empty((trajectories, parameters + 1, parameters))
    for trajectory in unit:
        low = generator.integers(0, _LEVELS // 2, parameters) / (_LEVELS - 1)
        falls = generator.integers(0, 2, parameters).astype(np.bool_)
        order = generator.permutation(parameters)
        trajectory[:] = np.where(falls, low + _STEP, low)
        for number, i in enumerate(order.tolist(), start=1):
            trajectory[number:, i] = low[i] if falls[i] else low[i] + _STEP
    run = np.repeat(np.arange(trajectories), parameters + 1)
    return Design(unit.reshape(-1, parameters), run)


def morris_effects(design: Design, outcome: Floats, *, seed: int) -> Effects:
    """Return the effects with intervals of a bootstrap of the trajectories.

    The size is the mean of the absolute effects (Campolongo, Cariboni and Saltelli 2007).

    Parameters
    ----------
    design
        What was played.
    outcome
        (point,) what came out.
    seed
        Of the resampling.
    """
    parameters = design.unit.shape[1]
    unit = design.unit.reshape(-1, parameters + 1, parameters)
    moved = np.diff(unit, axis=1)
    change = np.diff(outcome.reshape(-1, parameters + 1), axis=1)
    trajectories = unit.shape[0]
    effect = np.empty((trajectories, parameters))
    for number in range(parameters):
        which = np.abs(moved[:, number]).argmax(axis=1)
        rows = np.arange(trajectories)
        effect[rows, which] = change[:, number] / moved[rows, number, which]
    drawn = _generator(seed, 3).integers(0, trajectories, (BOOTSTRAPS, trajectories))
    size, mean, spread = [], [], []
    for values in effect.T:
        resampled = values[drawn]
        size.append(_interval(np.abs(values)[None].mean(axis=1), np.abs(resampled).mean(axis=1)))
        mean.append(_interval(values[None].mean(axis=1), resampled.mean(axis=1)))
        spread.append(_interval(values[None].std(axis=1, ddof=1), resampled.std(axis=1, ddof=1)))
    return Effects(size, mean, spread)
