"""Reduces the episodes table to one row per type of fault, with censoring (FIELD: measures of an episode)."""

__all__ = ["summarise"]

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.statistics import quantile_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Columns of a summary, in order.
_SCHEMA = {
    "fault_type": pl.String(),
    "runs": pl.Int64(),
    "at_risk": pl.Int64(),
    "incidents": pl.Int64(),
    "prevented": pl.Int64(),
    "recovered": pl.Float64(),
    "ttd_median_s": pl.Float64(),
    "ttm_p50_s": pl.Float64(),
    "ttm_p90_s": pl.Float64(),
    "violation_steps": pl.Float64(),
    "error_budget_spent": pl.Float64(),
    "ac1": pl.Float64(),
    "false_alarms": pl.Int64(),
    "false_alarms_per_h": pl.Float64(),
    "false_incidents": pl.Int64(),
    "actions": pl.Float64(),
    "j": pl.Float64(),
}


def summarise(episodes: pl.DataFrame) -> pl.DataFrame:
    """Return one row per type of fault, by name, and a last row ``all``.

    Parameters
    ----------
    episodes
        The episodes table, of one policy.

    Returns
    -------
    polars.DataFrame
        ``at_risk`` runs would have (known from their noop twin) or did have an incident; ``prevented`` is without
        one although at risk; ``recovered`` is the share of those at risk that recovered or had none. TTD and TTM
        are of the runs with an incident, misses and unrecovered ones censored: null where the quantile is not
        reached. ``false_alarms_per_h`` is per hour without a fault. ``violation_steps``, ``error_budget_spent``,
        ``ac1``, ``actions`` and ``j`` are means over the runs. The order of the rows given does not matter.
    """
    table = episodes.sort("policy", "split", "seed", "run", nulls_last=True)
    types = sorted(set(table["fault_type"].to_list()))
    rows = [_row(name, table.filter(pl.col("fault_type") == name)) for name in types]
    return pl.DataFrame([*rows, _row("all", table)], schema=_SCHEMA, orient="row")


def _row(name: str, table: pl.DataFrame) -> dict[str, Any]:
    incident, recovered = _bools(table, "incident"), _bools(table, "recovered")
    at_risk = np.where(table["noop_incident"].is_null().to_numpy(), incident, _bools(table, "noop_incident"))
    at_risk_or_had = at_risk | incident
    prevented = at_risk & ~incident
    onset, censored = _floats(table, "fault_onset_s"), _floats(table, "censored_s")
    ttm, ttd = _floats(table, "ttm_s"), _floats(table, "ttd_s")
    horizon = _floats(table, "steps") * _floats(table, "step_s")
    clean_h = math.fsum(np.where(np.isnan(onset), horizon, onset).tolist()) / 3600.0
    ttm_all = np.where(recovered, ttm, censored - onset)[incident]
    detected = ~np.isnan(ttd)
    ttd_all = np.where(detected, ttd, censored - onset)[incident]
    false_alarms = int(table["false_alarms"].sum())
    counted = int(at_risk_or_had.sum())
    return {
        "fault_type": name,
        "runs": table.height,
        "at_risk": counted,
        "incidents": int(incident.sum()),
        "prevented": int(prevented.sum()),
        "recovered": float((recovered | prevented).sum() / counted) if counted else None,
        "ttd_median_s": quantile_of(ttd_all, detected[incident], 0.5),
        "ttm_p50_s": quantile_of(ttm_all, recovered[incident], 0.5),
        "ttm_p90_s": quantile_of(ttm_all, recovered[incident], 0.9),
        "false_alarms": false_alarms,
        "false_alarms_per_h": false_alarms / clean_h if clean_h > 0 else None,
        "false_incidents": int(table["false_incidents"].sum()),
    } | {column: _mean(table, column) for column in ("violation_steps", "error_budget_spent", "ac1", "actions", "j")}


def _bools(table: pl.DataFrame, column: str) -> Bools:
    return table[column].fill_null(False).to_numpy().astype(np.bool_)


def _floats(table: pl.DataFrame, column: str) -> Floats:
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def _mean(table: pl.DataFrame, column: str) -> float | None:
    values = _floats(table, column)
    values = values[~np.isnan(values)]
    # fsum rounds once: the same bits in any order and on every machine
    return math.fsum(values.tolist()) / values.size if values.size else None
