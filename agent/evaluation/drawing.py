"""Draws figures with matplotlib, so that a file shows what a page shows."""

__all__ = ["draw"]

import math
from collections.abc import Sequence
from typing import Any

from agent.evaluation.figures import (
    Axis,
    Bar,
    Bars,
    CallTree,
    Curve,
    Curves,
    Figure,
    Forest,
    ForestRow,
    HeatMap,
    Timeline,
)
from agent.evaluation.palette import DIVERGING, LIGHT, SEQUENTIAL, dash, ink_on, shade
from agent.evaluation.pictures import canvas

_KINDS = {"fault": LIGHT.fault, "incident": LIGHT.incident, "alarm": LIGHT.alarm, "suspect": LIGHT.faint,
          "action": LIGHT.action, "noise": LIGHT.faint}  # fmt: skip
#: Width of a picture and height of a row of text, inches.
_WIDTH, _ROW = 8.0, 0.32


def draw(figure: Figure) -> Any:
    """Return a figure of matplotlib, to be passed to ``pictures.save``."""
    match figure:
        case Curves():
            drawn, axes = canvas(1, 1, size=(_WIDTH, 4.0))
            _curves(axes[0][0], figure)
        case Forest() | Bars():
            rows = len(figure.rows) if isinstance(figure, Forest) else len(figure.bars)
            drawn, axes = canvas(1, 1, size=(_WIDTH, 1.5 + _ROW * rows))
            _rows(axes[0][0], figure)
        case HeatMap():
            size = (max(4.0, 2.0 + 0.75 * len(figure.columns)), 1.9 + 0.36 * len(figure.rows))
            drawn, axes = canvas(1, 1, size=size)
            _heat(axes[0][0], figure)
        case Timeline():
            drawn = _timeline(figure)
        case CallTree():
            drawn, axes = canvas(1, 1, size=(_WIDTH, 1.3 + 0.24 * len(figure.spans)))
            _tree(axes[0][0], figure)
    drawn.suptitle(figure.title, fontsize=11)
    return drawn


def _line(panel: Any, curve: Curve, *, steps: bool) -> None:
    style: dict[str, Any] = {"color": LIGHT.tone(curve.look), "linewidth": 2.0 if curve.look < 0 else 1.4}
    if dash(curve.look):
        style["linestyle"] = (0, tuple(length / 2 for length in dash(curve.look)))
    panel.plot(curve.x, curve.y, label=curve.name, drawstyle="steps-post" if steps else "default", **style)
    if curve.low:
        fill = {"color": style["color"], "alpha": 0.13, "linewidth": 0}
        panel.fill_between(curve.x, curve.low, curve.high, step="post" if steps else None, **fill)


def _scale(panel: Any, which: str, axis: Axis) -> None:
    getattr(panel, f"set_{which}lim")(axis.low, axis.high)
    getattr(panel, f"set_{which}label")(axis.title)
    if axis.percent:
        from matplotlib.ticker import PercentFormatter

        getattr(panel, f"{which}axis").set_major_formatter(PercentFormatter(1.0, decimals=0))


def _curves(panel: Any, figure: Curves) -> None:
    for curve in figure.curves:
        _line(panel, curve, steps=figure.steps)
    _scale(panel, "x", figure.x)
    _scale(panel, "y", figure.y)
    if not math.isnan(figure.limit):
        panel.axhline(figure.limit, color=LIGHT.faint, linewidth=1.0, linestyle="--")
    panel.figure.legend(loc="outside lower center", ncols=min(5, len(figure.curves)), fontsize=8)


def _rows(panel: Any, figure: Forest | Bars) -> None:
    names = []
    rows: Sequence[ForestRow | Bar] = figure.rows if isinstance(figure, Forest) else figure.bars
    for at, row in enumerate(rows):
        names.append(row.name)
        tone = LIGHT.tone(row.look)
        if isinstance(figure, Bars):
            panel.barh(at, row.value, color=tone, height=0.6)
        else:
            panel.plot(row.value, at, "o", color=tone, markersize=6)
        if not (math.isnan(row.low) or math.isnan(row.high)):
            panel.plot(
                [row.low, row.high], [at, at], color=LIGHT.ink if isinstance(figure, Bars) else tone, linewidth=2
            )
    if isinstance(figure, Forest):
        panel.axvline(figure.zero, color=LIGHT.faint, linewidth=1.0)
        for at, row in enumerate(figure.rows):
            panel.annotate(row.note, (row.value, at), xytext=(0, 7), textcoords="offset points", ha="center",
                           fontsize=7, color=LIGHT.faint)  # fmt: skip
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.7)
    panel.grid(axis="y", visible=False)
    _scale(panel, "x", figure.axis)


def _heat(panel: Any, figure: HeatMap) -> None:
    from matplotlib.patches import Rectangle

    colours = DIVERGING if figure.diverging else SEQUENTIAL
    for cell in figure.cells:
        ground = shade(colours, figure.share(cell.value))
        corner = (cell.column - 0.48, cell.row - 0.46)
        panel.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=ground, linewidth=0))
        text = cell.label or (f"{100 * cell.value:.0f}" if figure.scale.percent else f"{cell.value:.3g}")
        panel.text(cell.column, cell.row, text, ha="center", va="center", fontsize=7, color=ink_on(ground))
    panel.set(xlim=(-0.5, len(figure.columns) - 0.5), ylim=(-0.5, len(figure.rows) - 0.5))
    panel.set_xticks(range(len(figure.columns)), figure.columns)
    panel.set_yticks(range(len(figure.rows)), figure.rows)
    panel.set(xlabel=figure.x, ylabel=figure.y)
    panel.grid(visible=False)
    panel.set_title(f"{figure.scale.title}{' (%)' if figure.scale.percent else ''}", fontsize=8, color=LIGHT.faint)


def _timeline(figure: Timeline) -> Any:
    kinds = [kind for kind in _KINDS if any(band.kind == kind for band in figure.bands)]
    kinds += [kind for kind in ("action", "noise") if any(mark.kind == kind for mark in figure.marks)]
    heights = [0.3 + 0.3 * len(kinds), *(1.3 for _ in figure.panels)]
    drawn, axes = canvas(len(heights), 1, size=(9.0, 1.0 + sum(heights)), heights=heights)
    lanes, panels = axes[0][0], axes[1:, 0]
    for band in figure.bands:
        at = kinds.index(band.kind)
        start, width = band.start_s / 60.0, (band.end_s - band.start_s) / 60.0
        lanes.barh(at, width, left=start, height=0.8, color=_KINDS[band.kind], alpha=0.9, edgecolor=LIGHT.ground)
        if band.name != band.kind and width > 0.04 * figure.end_s / 60.0:
            lanes.annotate(band.name, (start, at), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center",
                           color=LIGHT.ground, clip_on=True)  # fmt: skip
        if band.kind == "fault":
            for panel in panels:
                panel.axvspan(start, start + width, color=LIGHT.fault, alpha=0.07, linewidth=0)
    for mark in figure.marks:
        lanes.plot(mark.time_s / 60.0, kinds.index(mark.kind), "v", color=_KINDS[mark.kind], markersize=6)
        for panel in panels if mark.kind == "action" else ():
            panel.axvline(mark.time_s / 60.0, color=LIGHT.action, linewidth=0.7, linestyle=":")
    lanes.set_yticks(range(len(kinds)), [f"{kind}s" if kind == "action" else kind for kind in kinds])
    lanes.set_ylim(len(kinds) - 0.5, -0.5)
    lanes.grid(axis="y", visible=False)
    for panel, shown in zip(panels, figure.panels, strict=True):
        for curve in shown.curves:
            minutes = Curve(curve.name, tuple(x / 60.0 for x in curve.x), curve.y, curve.look)
            _line(panel, minutes, steps=False)
        _scale(panel, "y", shown.y)
        if not math.isnan(shown.limit):
            panel.axhline(shown.limit, color=LIGHT.faint, linewidth=1.0, linestyle="--")
    for panel in (lanes, *panels):
        panel.set_xlim(0.0, figure.end_s / 60.0)
    panels[-1].set_xlabel("time, min")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    return drawn


def _tree(panel: Any, figure: CallTree) -> None:
    names = []
    for at, span in enumerate(figure.spans):
        start, length, waited = (1000.0 * value for value in (span.start_s, span.end_s - span.start_s, span.waited_s))
        edge = {"edgecolor": LIGHT.fault, "linewidth": 1.2} if span.failed else {}
        panel.barh(at, length, left=start, height=0.7, color=LIGHT.tone(span.look), **edge)
        panel.barh(
            at,
            min(waited, length),
            left=start,
            height=0.7,
            facecolor="none",
            edgecolor="white",
            hatch="////",
            linewidth=0,
        )
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        panel.annotate(span.note, (start + length, at), fontsize=7, color=LIGHT.faint, **beside)
        names.append("  " * span.depth + span.name)
    panel.set_yticks(range(len(names)), names, fontsize=7, ha="left")
    longest = max(map(len, names), default=1)
    panel.tick_params(axis="y", pad=5.0 * longest)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(0.0, 1250.0 * figure.length_s or 1.0)
    panel.set_xlabel("ms since the request began")
    panel.grid(axis="y", visible=False)
