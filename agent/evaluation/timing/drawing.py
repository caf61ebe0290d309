"""A picture of a finding: the differences of its arms."""

__all__ = ["draw"]

from typing import Any

from agent.evaluation.palette import LIGHT
from agent.evaluation.pictures import canvas
from agent.evaluation.timing.arms import NOT_SHOWN, Finding


def draw(found: Finding) -> Any:
    """Return a figure of the differences of the arms, with their intervals; filled where a difference is shown."""
    rows = [row for row in found.rows if row["difference"] is not None]
    figure, axes = canvas(1, 1, size=(8.0, 1.6 + 0.24 * len(rows)))
    panel = axes[0][0]
    panel.axvline(0.0, color="0.4", linewidth=0.8)
    groups = list(dict.fromkeys(row.get("policy") for row in rows))
    for at, row in enumerate(rows):
        colour = LIGHT.tone(groups.index(row.get("policy")))
        shown = row["verdict"] != NOT_SHOWN
        panel.plot([row["difference_low"], row["difference_high"]], [at, at], color=colour, linewidth=1.8)
        panel.plot(row["difference"], at, "o", color=colour, markersize=5, fillstyle="full" if shown else "none")
    panel.set_yticks(range(len(rows)), [_arm(found, row) for row in rows], fontsize=8)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("paired difference in error budgets, 95 % interval; filled: shown (Holm)")
    panel.set_title(found.question, fontsize=9)
    return figure


def _arm(found: Finding, row: dict[str, Any]) -> str:
    """Return what tells an arm from the others: its labels, as the table heads them."""
    labels = [
        f"{head} {row[column]:g}" if places >= 0 else str(row[column])
        for column, head, places in found.shown[: _first_number(found)]
        if row[column] is not None
    ]
    return ", ".join(labels)


def _first_number(found: Finding) -> int:
    """Return how many columns come before the first outcome."""
    outcomes = ("budget", "both", "load", "missed", "taken")
    return next(i for i, (column, _, _) in enumerate(found.shown) if column in outcomes)
