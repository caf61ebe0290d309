"""Pictures of studies: what an outcome depends on."""

__all__ = ["draw_sensitivity"]

from typing import Any

from agent.evaluation.palette import LIGHT
from agent.evaluation.pictures import canvas
from agent.evaluation.sweep.sensitivity import Sensitivity

_COLUMNS = {"sobol": (("alone", "alone"), ("total", "with others")), "morris": (("size", "effect"),)}
_UNITS = {"sobol": "share of the variance", "morris": "effect over the whole range"}


def draw_sensitivity(found: Sensitivity, title: str) -> Any:
    """Return a figure: a panel per outcome, a dot with its interval per parameter, largest on top."""
    outcomes = list(dict.fromkeys(row["outcome"] for row in found.rows))
    columns = _COLUMNS[found.method]
    parameters = max(sum(row["outcome"] == name for row in found.rows) for name in outcomes)
    figure, axes = canvas(1, len(outcomes), size=(4.6 * len(outcomes) + 0.6, 1.4 + 0.36 * parameters))
    figure.suptitle(title, fontsize=10)
    for panel, name in zip(axes[0], outcomes, strict=True):
        rows = [row for row in found.rows if row["outcome"] == name]
        rows.sort(key=lambda row: -(row[columns[-1][0]] or 0.0))
        for number, (column, label) in enumerate(columns):
            shift = 0.16 * (number - 0.5 * (len(columns) - 1))
            for at, row in enumerate(rows):
                if row[column] is None:
                    continue
                colour = LIGHT.tone(number)
                ends = [row[f"{column}_low"], row[f"{column}_high"]]
                panel.plot(ends, [at + shift] * 2, color=colour, linewidth=1.8)
                panel.plot(row[column], at + shift, "os"[number], color=colour, label=label if at == 0 else None)
        panel.axvline(0.0, color="0.4", linewidth=0.8)
        panel.set_yticks(range(len(rows)), [row["parameter"] for row in rows], fontsize=8)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.grid(axis="y", visible=False)
        panel.set_title(name.replace("_", " "), fontsize=9)
        panel.set_xlabel(f"{_UNITS[found.method]}, 95 % interval")
    if len(columns) > 1:
        axes[0][-1].legend(fontsize=8)
    return figure
