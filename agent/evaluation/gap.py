"""How much of what an oracle could save an agent does save."""

__all__ = ["ORACLES", "gap_closed", "gaps"]

from typing import Any

import numpy as np

from agent.evaluation.compare import PRIMARY, Comparison
from agent.evaluation.statistics import Interval, percentile

#: Whose saving over noop is all that there is to save, the first that takes part.
ORACLES = ("oracle_fair", "oracle_clairvoyant")


def gap_closed(runs: Comparison, policy: str, oracle: str, *, start: str = "noop") -> Interval:
    """Return the share of the gap from ``start`` to an oracle that a policy closes, in error budget spent.

    ``(start - policy) / (start - oracle)``, means over the same runs; 1 is as good as the oracle, which is itself an
    estimate and may be beaten. The interval is the percentile bootstrap's over trainings and runs, numerator and
    denominator drawn together; nan where fewer than two runs, or no gap, leave nothing to divide by.

    Parameters
    ----------
    runs
        The runs, lined up.
    policy, oracle, start
        Policies that take part.
    """
    spent = [runs.column(name, PRIMARY) for name in (start, policy, oracle)]
    first, mine, best = (runs.resampler.mean(values).value for values in spent)
    if runs.runs < 2 or not first > best:
        return Interval(np.nan, np.nan, np.nan)
    drawn = [runs.resampler.means(values, role=role) for role, values in enumerate(spent)]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (drawn[0] - drawn[1]) / (drawn[0] - drawn[2])
    there = drawn[0] > drawn[2]  # a resample without a gap says nothing of its share
    if not there.any():
        return Interval((first - mine) / (first - best), np.nan, np.nan)
    return percentile((first - mine) / (first - best), shares[there])


def gaps(runs: Comparison) -> list[dict[str, Any]]:
    """Return the share closed by every policy, ``policy, oracle, share, low, high``; none if no oracle takes part."""
    oracle = next((name for name in ORACLES if name in runs.policies), None)
    if oracle is None or "noop" not in runs.policies:
        return []
    rows = []
    for policy in runs.policies:
        if policy not in ("noop", oracle):
            found = gap_closed(runs, policy, oracle)
            ends = {"share": found.value, "low": found.low, "high": found.high}
            rows.append({"policy": policy, "oracle": oracle} | {k: None if np.isnan(v) else v for k, v in ends.items()})
    return rows
