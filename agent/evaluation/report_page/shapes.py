"""Figures as what their templates need: every shape with its place, and words for whoever points at it."""

__all__ = ["Shape", "shape_of"]

import math
from dataclasses import dataclass
from typing import Any

from agent.evaluation.figures import (
    Axis,
    Bars,
    CallTree,
    Curves,
    Figure,
    Forest,
    HeatMap,
    Timeline,
)
from agent.evaluation.palette import DIVERGING, SEQUENTIAL, ink_on, shade
from agent.evaluation.report_page.geometry import look, percent, plot_of, tick_text, ticks

#: More columns than this leave no room for numbers within the fields of a heat map on a narrow screen.
DENSE = 6
#: Heat maps with at most so many rows stand beside one another.
SMALL = 12
#: Lanes of a timeline, in order, with what they are called.
_LANES = (("fault", "fault"), ("incident", "incident"), ("alarm", "alarm"), ("suspect", "suspect"))


@dataclass(frozen=True, slots=True)
class Shape:
    """A figure ready for its template."""

    kind: str  #: name of the macro that draws it
    figure: Figure
    parts: dict[str, Any]  #: what the macro draws

    @property
    def table(self) -> Any:
        """The numbers behind it."""
        return self.figure.table()


def shape_of(figure: Figure) -> Shape:
    """Return a figure ready for its template."""
    match figure:
        case Curves():
            plot = plot_of(figure.curves, figure.x, figure.y, steps=figure.steps, limit=figure.limit)
            return Shape("curves", figure, {"plot": plot})
        case Forest():
            return Shape("forest", figure, _forest(figure))
        case Bars():
            return Shape("bars", figure, _bars(figure))
        case HeatMap():
            return Shape("heat", figure, _heat(figure))
        case Timeline():
            return Shape("timeline", figure, _timeline(figure))
        case CallTree():
            return Shape("tree", figure, _tree(figure))


def _reach(low: float, high: float, axis: Axis) -> dict[str, float] | None:
    if math.isnan(low) or math.isnan(high):
        return None
    start, end = percent(low, axis.low, axis.high), percent(high, axis.low, axis.high)
    return {"left": start, "width": round(end - start, 3)}


def _forest(figure: Forest) -> dict[str, Any]:
    axis = figure.axis
    rows = [
        {
            "name": row.name,
            "note": row.note,
            "look": look(row.look),
            "at": percent(row.value, axis.low, axis.high),
            "reach": _reach(row.low, row.high, axis),
            "value": axis.tell(row.value),
            "between": _between(row.low, row.high, axis),
        }
        for row in figure.rows
    ]
    return {"rows": rows, "ticks": ticks(axis), "zero": percent(figure.zero, axis.low, axis.high)}


def _between(low: float, high: float, axis: Axis) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{axis.tell(low)} to {axis.tell(high)}"


def _bars(figure: Bars) -> dict[str, Any]:
    axis = figure.axis
    bars = [
        {
            "name": bar.name,
            "look": look(bar.look),
            "width": percent(bar.value, axis.low, axis.high),
            "reach": _reach(bar.low, bar.high, axis),
            "value": axis.tell(bar.value),
            "between": _between(bar.low, bar.high, axis),
        }
        for bar in figure.bars
    ]
    return {"bars": bars, "ticks": ticks(axis)}


def _heat(figure: HeatMap) -> dict[str, Any]:
    colours = DIVERGING if figure.diverging else SEQUENTIAL
    of = {(cell.column, cell.row): cell for cell in figure.cells}
    rows = []
    for row in reversed(range(len(figure.rows))):
        fields: list[dict[str, str] | None] = []
        for column, name in enumerate(figure.columns):
            cell = of.get((column, row))
            if cell is None:
                fields.append(None)
                continue
            ground = shade(colours, figure.share(cell.value))
            tip = f"{figure.y} {figure.rows[row]}, {figure.x} {name}: {figure.told(cell)}"
            fields.append(
                {
                    "ground": ground,
                    "ink": ink_on(ground),
                    "text": cell.label or _brief(cell.value, figure.scale),
                    "tip": f"{tip} ({cell.note})" if cell.note else tip,
                }
            )
        rows.append({"name": figure.rows[row], "fields": fields})
    scale = figure.scale
    stops = ", ".join(colours)
    ends = [tick_text(scale, _round(value)) for value in (scale.low, (scale.low + scale.high) / 2, scale.high)]
    return {
        "rows": rows,
        "stops": stops,
        "ends": ends,
        "dense": len(figure.columns) > DENSE,
        "small": len(figure.rows) <= SMALL,
    }


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _brief(value: float, axis: Axis) -> str:
    return f"{100 * value:.0f}" if axis.percent else f"{value:.3g}"


def _timeline(figure: Timeline) -> dict[str, Any]:
    time = Axis("time", 0.0, figure.end_s, "min:s")
    lanes = []
    for kind, name in _LANES:
        bands = [band for band in figure.bands if band.kind == kind]
        if bands:
            lanes.append({"kind": kind, "name": name, "bands": [_band(band, figure.end_s) for band in bands]})
    actions = sorted((mark for mark in figure.marks if mark.kind == "action"), key=lambda mark: mark.time_s)
    noise = [mark for mark in figure.marks if mark.kind == "noise"]
    return {
        "lanes": lanes,
        "actions": [
            {"number": i + 1, "at": percent(mark.time_s, 0.0, figure.end_s), "tip": _told(mark), "name": mark.name}
            for i, mark in enumerate(actions)
        ],
        "noise": [{"at": percent(mark.time_s, 0.0, figure.end_s), "tip": _told(mark)} for mark in noise],
        "panels": [
            {"panel": panel, "plot": plot_of(panel.curves, time, panel.y, limit=panel.limit, rows=3)}
            for panel in figure.panels
        ],
        "ticks": ticks(time, 8),
        "legend": [{"name": curve.name, "look": look(curve.look)} for curve in figure.panels[0].curves],
    }


def _band(band: Any, end_s: float) -> dict[str, Any]:
    start, end = percent(band.start_s, 0.0, end_s), percent(band.end_s, 0.0, end_s)
    until = tick_text(Axis("", 0.0, 1.0, "min:s"), band.end_s)
    since = tick_text(Axis("", 0.0, 1.0, "min:s"), band.start_s)
    return {
        "left": start,
        "width": round(end - start, 3),
        "name": band.name,
        "tip": f"{band.kind} {band.name if band.name != band.kind else ''} {since} to {until}".replace("  ", " "),
    }


def _told(mark: Any) -> str:
    at = tick_text(Axis("", 0.0, 1.0, "min:s"), mark.time_s)
    return f"{at} {mark.name}" + (f", {mark.note}" if mark.note else "")


def _tree(figure: CallTree) -> dict[str, Any]:
    end = figure.length_s or 1.0
    axis = Axis("", 0.0, 1000.0 * end, "ms")
    spans = [
        {
            "name": span.name,
            "depth": span.depth,
            "look": look(span.look),
            "failed": span.failed,
            "left": percent(span.start_s, 0.0, end),
            "width": max(0.3, round(percent(span.end_s, 0.0, end) - percent(span.start_s, 0.0, end), 3)),
            "waited": round(100.0 * min(1.0, span.waited_s / max(span.end_s - span.start_s, 1e-12)), 1),
            "ms": f"{1000 * (span.end_s - span.start_s):.1f} ms",
            "note": span.note,
        }
        for span in figure.spans
    ]
    return {"spans": spans, "ticks": ticks(axis, 5)}
