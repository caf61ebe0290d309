"""Studies on a page: heat maps of what varies, and the table of cells."""

__all__ = ["study_sections"]

import itertools
from collections.abc import Sequence

import polars as pl

from agent.evaluation.figures import Axis, Curve, Curves, Figure
from agent.evaluation.figures_of import heat_map_of, measure_words, slug
from agent.evaluation.report_page.content import Head, Listing, Row, Section
from agent.evaluation.report_page.shapes import shape_of
from agent.evaluation.report_page.sources import Source

#: Measure -> unit, whether it is a share; in the order in which they are shown.
_MEASURES = {
    "error_budget_spent": ("", False),
    "follow_up_budget_spent": ("", False),
    "ttm_s": ("s", False),
    "recovered": ("", True),
    "j": ("", False),
    "harmed": ("", True),
}
#: Most slices (other keys held fixed) of which there is a picture each.
SLICES = 12
#: Most cells in the table.
CELLS = 2000
#: Most different values of a key for a heat map: a sample that never repeats a value has none.
PLACES = 40


def study_sections(source: Source) -> list[Section]:
    """Return the pictures of a study, and its cells."""
    assert source.cells is not None
    keys = [axis["key"] for axis in source.axes]
    units = {axis["key"]: axis.get("unit") or "" for axis in source.axes}
    units |= {measure: unit for measure, (unit, _) in _MEASURES.items()}
    cells = source.cells
    measures = [
        name for name in _MEASURES if f"{name}_mean" in cells.columns and cells[f"{name}_mean"].is_not_null().any()
    ]
    lead = (
        f"{source.episodes.height} runs in {cells.height} cells vary {', '.join(keys)}. Every cell meets the same"
        " random draws.",
    )
    figures = _maps(cells, keys, measures, units) or _lines(cells, keys, measures, units)
    shapes = tuple(shape_of(figure) for figure in figures)
    return [
        Section(
            "study",
            "What varies, and what comes of it",
            lead,
            shapes=shapes,
            listings=(_table(cells, keys, measures, units),),
        )
    ]


def _maps(cells: pl.DataFrame, keys: Sequence[str], measures: Sequence[str], units: dict[str, str]) -> list[Figure]:
    """Return heat maps over the two numeric keys with most values, a picture per setting of the others."""
    counts = {key: cells[key].n_unique() for key in keys}
    numeric = [key for key in keys if cells[key].dtype.is_numeric() and 2 <= counts[key] <= PLACES]
    usable = sorted(numeric, key=lambda key: -counts[key]) or []
    usable += [key for key in keys if key not in numeric and 2 <= counts[key] <= PLACES]
    if len(usable) < 2 or cells.height < 4:
        return []
    x, y = usable[:2]
    others = [key for key in keys if key not in (x, y)]
    settings = cells.select(others).unique(maintain_order=True).rows() if others else [()]
    found: list[Figure] = []
    for measure, setting in itertools.product(measures[:3], settings[:SLICES]):
        part = cells
        for key, value in zip(others, setting, strict=True):
            part = part.filter(pl.col(key) == value)
        where = ", ".join(f"{key} {value}" for key, value in zip(others, setting, strict=True))
        scale = _scale(cells, measure)
        picture = heat_map_of(part, x, y, measure, units=units, where=where, percent=_MEASURES[measure][1], ends=scale)
        if picture is not None:
            found.append(picture)
    return found


def _scale(cells: pl.DataFrame, measure: str) -> tuple[float, float]:
    """Return the ends of a measure over all cells, so that the slices of a study have one scale of colours."""
    if _MEASURES[measure][1]:
        return 0.0, 1.0
    values = cells[f"{measure}_mean"].drop_nulls().to_list()
    return min(0.0, *values), max(0.0, *values)


def _lines(cells: pl.DataFrame, keys: Sequence[str], measures: Sequence[str], units: dict[str, str]) -> list[Figure]:
    """Return the measures over the only numeric key, a line per setting of the others."""
    numeric = [key for key in keys if cells[key].dtype.is_numeric() and cells[key].n_unique() > 1]
    if len(numeric) != 1:
        return []
    x, others = numeric[0], [key for key in keys if key != numeric[0]]
    found: list[Figure] = []
    for measure in measures[:3]:
        curves = []
        known = cells.filter(pl.col(f"{measure}_mean").is_not_null()).sort(x)
        groups = known.partition_by(others, maintain_order=True) if others else [known]
        for number, part in enumerate(groups):
            name = ", ".join(str(part[key][0]) for key in others) or measure_words(measure)
            ends = {end: tuple(part[f"{measure}_{end}"].fill_null(float("nan")).to_list()) for end in ("low", "high")}
            curves.append(Curve(name, tuple(map(float, part[x])), tuple(part[f"{measure}_mean"]), look=number, **ends))
        low, high = _scale(known, measure)
        found.append(
            Curves(
                key=slug(f"{measure}-over-{x}"),
                title=f"{measure_words(measure)} over {x}",
                about=f"Mean {measure_words(measure)} with 95 % intervals.",
                x=Axis(x, float(known[x].min()), float(known[x].max()), units.get(x, "")),  # type: ignore[arg-type]
                y=Axis(measure_words(measure), low, 1.05 * high or 1.0, units.get(measure, ""), _MEASURES[measure][1]),
                curves=tuple(curves),
            )
        )
    return found


def _table(cells: pl.DataFrame, keys: Sequence[str], measures: Sequence[str], units: dict[str, str]) -> Listing:
    shown = cells.head(CELLS)
    rows = tuple(
        Row(
            (
                str(row["cell"]),
                *(_text(row[key]) for key in keys),
                str(row["n"]),
                *(_measure(row, name) for name in measures),
            ),
            policy=str(row["policy"]) if "policy" in keys else "",
        )
        for row in shown.iter_rows(named=True)
    )
    heads = [
        Head("cell"),
        *(Head(f"{key}, {units[key]}" if units[key] else key, cells[key].dtype.is_numeric()) for key in keys),
    ]
    heads += [Head("runs"), *(Head(measure_words(name)) for name in measures)]
    more = f" The first {CELLS} of {cells.height}." if cells.height > CELLS else ""
    return Listing("Cells", f"Means with 95 % intervals.{more}", tuple(heads), rows, "cells")


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _measure(row: dict[str, float | None], name: str) -> str:
    value, low, high = (row.get(f"{name}_{end}") for end in ("mean", "low", "high"))
    scale, unit = (100.0, " %") if _MEASURES[name][1] else (1.0, "")
    if value is None:
        return "-"
    ends = "" if low is None or high is None else f"\n{scale * low:.3g} to {scale * high:.3g}"
    return f"{scale * value:.3g}{unit}{ends}".replace("-", "\u2212")
