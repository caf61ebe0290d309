"""From results to pictures: comparisons and studies as figures that anybody can draw."""

__all__ = [
    "faults_map_of", "forest_of", "heat_map_of", "incident_survival_of", "learning_of", "measure_words", "slug",
    "survival_of",
]  # fmt: skip

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.evaluation.compare import PRIMARY, Comparison
from agent.evaluation.figures import Axis, Cell, Curve, Curves, Forest, ForestRow, HeatMap
from agent.evaluation.render import learning_curve
from agent.evaluation.statistics import kaplan_meier

Floats = npt.NDArray[np.float64]

_NAN = float("nan")
#: Measures whose name is not what they are called.
_WORDS = {"ttm_s": "time to mitigation", "ttm_restricted_s": "time to mitigation", "j": "J", "ac1": "AC@1"}


def measure_words(measure: str) -> str:
    """Return what a measure is called in a sentence."""
    return _WORDS.get(measure, measure.replace("_", " "))


def slug(text: str) -> str:
    """Return a text as part of a file name or of an identifier: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def survival_of(runs: Comparison) -> Curves | None:
    """Return to what share the runs at risk have not recovered yet; None if no run is at risk."""
    at_risk = int((runs.at_risk & runs.faulty).sum())
    if not at_risk:
        return None
    curves = []
    for number, policy in enumerate(runs.policies):
        found = runs.survival(policy)
        inside = found.times < runs.until_s
        x = (0.0, *found.times[inside].tolist(), runs.until_s)
        y, low, high = (
            _held(of[inside], first) for of, first in ((found.share, 1.0), (found.low, _NAN), (found.high, _NAN))
        )
        curves.append(Curve(policy, x, y, look=number, low=low, high=high))
    return Curves(
        key="survival",
        title="Not recovered yet",
        about=(
            f"Share of the {at_risk} runs at risk that have not recovered, by time since the fault's onset (Kaplan and"
            " Meier). Lower is better; bands are 95 % intervals, point by point."
        ),
        x=Axis("time since the onset", 0.0, runs.until_s, "s"),
        y=Axis("not recovered yet", 0.0, 1.0, percent=True),
        curves=tuple(curves),
        steps=True,
    )


def _held(values: Floats, first: float) -> tuple[float, ...]:
    """Return values with one before them, and their last once more for the end of the axis."""
    return (first, *values.tolist(), float(values[-1]) if values.size else first)


def forest_of(compared: pl.DataFrame, measure: str = PRIMARY, *, better: int = -1, unit: str = "") -> Forest | None:
    """Return the paired differences of a measure from the reference; None if there is nothing to compare.

    Parameters
    ----------
    compared
        What ``compare`` returned.
    measure
        Which.
    better
        1 if more is better, -1 if less is.
    unit
        Of the measure.
    """
    table = compared.filter(pl.col("measure") == measure)
    names = table["policy"].to_list()
    rows = [row for row in table.iter_rows(named=True) if row["difference"] is not None and row["p"] is not None]
    if not rows:
        return None
    found = tuple(
        ForestRow(
            row["policy"], row["difference"], _known(row["difference_low"]), _known(row["difference_high"]),
            row["verdict"] or "", look=names.index(row["policy"]),
        )
        for row in rows
    )  # fmt: skip
    against, word = rows[0]["against"], measure_words(measure)
    ends = [0.0, *(end for row in found for end in (row.value, row.low, row.high) if end == end)]
    return Forest(
        key=f"differences-{slug(measure)}",
        title=f"Difference from {against}: {word}",
        about=(
            f"Mean paired difference of {word} from {against} on the same {rows[0]['runs']} runs, with 95 % intervals."
            f" {'Left' if better < 0 else 'Right'} of the line is better."
        ),
        axis=Axis(f"{word} less that of {against}", *_padded(min(ends), max(ends)), unit),
        rows=found,
        better=better,
    )


def _signed(value: float) -> str:
    if abs(value) < 0.005:
        return "0"
    return f"{value:+.{1 if abs(value) >= 10 else 2}f}".replace("-", "\N{MINUS SIGN}")


def _known(value: float | None) -> float:
    return _NAN if value is None else float(value)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def faults_map_of(faults: pl.DataFrame) -> HeatMap | None:
    """Return the differences of the primary measure by type of fault and policy; None if there is nothing to compare.

    Parameters
    ----------
    faults
        What ``report.by_fault`` returned.
    """
    table = faults.filter(pl.col("policy") != pl.col("against"))
    if not table.height:
        return None
    policies = table["policy"].unique(maintain_order=True).to_list()
    types = sorted(table["fault_type"].unique().to_list(), reverse=True)
    cells = tuple(
        Cell(
            policies.index(row["policy"]), types.index(row["fault_type"]), row["difference"],
            _known(row["difference_low"]), _known(row["difference_high"]), row["runs"],
            label=_signed(row["difference"]), note=f"{row['runs']} runs, {row['at_risk']} at risk",
        )
        for row in table.iter_rows(named=True) if row["difference"] is not None
    )  # fmt: skip
    if not cells:
        return None
    reach = max(abs(cell.value) for cell in cells) or 1.0
    against, word = table["against"][0], PRIMARY.replace("_", " ")
    return HeatMap(
        key="by-fault",
        title="By type of fault",
        about=(
            f"Mean paired difference of {word} from {against}: blue is better, orange is worse. To be looked at: the"
            " intervals are not corrected for their number."
        ),
        x="policy",
        y="fault",
        columns=tuple(policies),
        rows=tuple(types),
        scale=Axis(f"{word} less that of {against}", -reach, reach),
        cells=cells,
        diverging=True,
    )


def learning_of(episodes: pl.DataFrame) -> Curves | None:
    """Return the primary measure by learning round; None if there are fewer than two rounds."""
    points = [point for point in learning_curve(episodes) if point[PRIMARY] is not None]
    last = max((point["round"] for point in points), default=0)
    if last < 1:
        return None
    names = episodes["policy"].unique(maintain_order=True).to_list()
    curves = []
    for number, name in enumerate(names):
        mine = [point for point in points if point["policy"] == name]
        x, y = (tuple(float(point[of]) for point in mine) for of in ("round", PRIMARY))
        curves.append(Curve(name, x, y, look=number))
    high = max(point[PRIMARY] for point in points)
    return Curves(
        key="rounds",
        title="Round by round",
        about="Mean error budget spent in each round of runs; a policy that learns does so between rounds.",
        x=Axis("round", 0.0, float(last)),
        y=Axis("error budget spent", 0.0, 1.05 * high or 1.0),
        curves=tuple(curves),
    )


def heat_map_of(
    cells: pl.DataFrame,
    x: str,
    y: str,
    measure: str,
    *,
    units: dict[str, str],
    ends: tuple[float, float],
    where: str = "",
    percent: bool = False,
) -> HeatMap | None:
    """Return a measure over two varied keys; None where nothing is known.

    Parameters
    ----------
    cells
        A row per cell: the two keys, ``n``, ``MEASURE_mean``, ``MEASURE_low``, ``MEASURE_high``.
    x, y
        The keys.
    measure
        Which.
    units
        Key or measure -> unit.
    ends
        Of the scale of colours: the same for all slices of a study.
    where
        What the other keys are in these cells, in words.
    percent
        Whether the measure is a share.
    """
    known = cells.filter(pl.col(f"{measure}_mean").is_not_null())
    if not known.height:
        return None
    columns, rows = (_sorted(cells[key].unique().to_list()) for key in (x, y))
    word = measure_words(measure)
    scale = Axis(word, *ends, units.get(measure, ""), percent)
    return HeatMap(
        key=slug(f"{measure}-{y}-over-{x}-{where}"),
        title=f"{word}{': ' + where if where else ''}",
        about=f"Mean {word} by {x} and {y}{', ' + where if where else ''}; darker is less.",
        x=_with_unit(x, units),
        y=_with_unit(y, units),
        columns=tuple(_short(value) for value in columns),
        rows=tuple(_short(value) for value in rows),
        scale=scale,
        cells=tuple(
            Cell(
                columns.index(row[x]), rows.index(row[y]), row[f"{measure}_mean"], _known(row.get(f"{measure}_low")),
                _known(row.get(f"{measure}_high")), int(row["n"]), note=f"{int(row['n'])} runs",
            )
            for row in known.iter_rows(named=True)
        ),
    )  # fmt: skip


def _sorted(values: Sequence[float | str]) -> list[float | str]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _with_unit(key: str, units: dict[str, str]) -> str:
    return f"{key}, {units[key]}" if units.get(key) else key


def incident_survival_of(episodes: pl.DataFrame) -> Curves | None:
    """Return to what share the runs of one policy that had an incident have not recovered yet; None without any."""
    table = episodes.filter(pl.col("incident").fill_null(False) & pl.col("fault_onset_s").is_not_null())
    if not table.height:
        return None
    until = table["censored_s"] - table["fault_onset_s"]
    came = table["ttm_s"].is_not_null().to_numpy()
    found = kaplan_meier(table["ttm_s"].fill_null(until).to_numpy(), came)
    until_s = float(np.min(until.to_numpy()))
    inside = found.times < until_s
    name = table["policy"][0] or "no agent"
    return Curves(
        key="survival",
        title="Not recovered yet",
        about=(
            f"Share of the {table.height} runs with an incident that have not recovered, by time since the fault's"
            " onset (Kaplan and Meier), with a 95 % band."
        ),
        x=Axis("time since the onset", 0.0, until_s, "s"),
        y=Axis("not recovered yet", 0.0, 1.0, percent=True),
        curves=(
            Curve(
                name,
                (0.0, *found.times[inside].tolist(), until_s),
                _held(found.share[inside], 1.0),
                low=_held(found.low[inside], _NAN),
                high=_held(found.high[inside], _NAN),
            ),
        ),
        steps=True,
    )
