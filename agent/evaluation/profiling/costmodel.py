"""Least squares for CPU times: how much of a cost is fixed, and what each run and each event adds."""

__all__ = ["Fit", "Term", "fit"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

#: Probability with which a term's interval covers it, if the errors are independent and normal.
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Term:
    """A coefficient of the model, seconds per unit."""

    name: str
    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Cost as a sum of terms."""

    terms: tuple[Term, ...]
    points: int
    r_squared: float  #: of the weighted fit: share of the relative variation that it explains
    worst: float  #: largest relative residual

    def predict(self, **amounts: float) -> float:
        """Return the cost of so much of each term, seconds."""
        return sum(term.value * amounts[term.name] for term in self.terms)


def fit(amounts: Mapping[str, Sequence[float]], cost_s: Sequence[float]) -> Fit:
    """Fit ``cost = sum of coefficient * amount``, weighting every point by 1 / cost: errors of times are relative.

    Parameters
    ----------
    amounts
        Name of the term -> (point,) how much of it; ones for what is fixed.
    cost_s
        (point,) measured, seconds, positive.

    Raises
    ------
    ValueError
        If there are not more points than terms, or the terms cannot be told apart.
    """
    y = np.asarray(cost_s, np.float64)
    x = np.stack([np.asarray(amounts[name], np.float64) for name in amounts], axis=1)
    n, k = x.shape
    if n <= k:
        raise ValueError(f"{k} terms need more than {k} points, got {n}")
    weighted = x / y[:, None]
    scale = np.abs(weighted).max(axis=0)
    scaled = weighted / scale
    if np.linalg.matrix_rank(scaled) < k:
        raise ValueError(f"the points do not tell {', '.join(amounts)} apart")
    found, *_ = np.linalg.lstsq(scaled, np.ones(n))
    residual = 1.0 - scaled @ found
    variance = float(residual @ residual) / (n - k)
    spread = np.sqrt(variance * np.diag(np.linalg.inv(scaled.T @ scaled)))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - k)) * spread
    terms = tuple(
        Term(name, float(b / s), float((b - h) / s), float((b + h) / s))
        for name, b, h, s in zip(amounts, found, half, scale, strict=True)
    )
    predicted = x @ (found / scale)
    # against the best constant under the same weights
    mean = float((y / y**2).sum() / (1.0 / y**2).sum())
    unexplained = float((((y - predicted) / y) ** 2).sum())
    around_mean = float((((y - mean) / y) ** 2).sum())
    r_squared = 1.0 - unexplained / around_mean if around_mean > 0.0 else float("nan")
    return Fit(terms, n, r_squared, float(np.abs(predicted / y - 1.0).max()))
