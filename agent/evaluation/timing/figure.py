"""What a finding looks like: the differences of its arms."""

__all__ = ["forest_of"]

from typing import Any

from agent.evaluation.figures import Axis, Forest, ForestRow
from agent.evaluation.timing.arms import Finding


def forest_of(found: Finding) -> Forest | None:
    """Return the paired differences of the arms with their intervals and verdicts; None without any."""
    rows = [row for row in found.rows if row["difference"] is not None]
    if not rows:
        return None
    policies = list(dict.fromkeys(row.get("policy") for row in rows))
    low = min(0.0, *(row["difference_low"] for row in rows))
    high = max(0.0, *(row["difference_high"] for row in rows))
    room = 0.05 * ((high - low) or 1.0)
    return Forest(
        key=f"timing_{found.name}",
        title=found.question,
        about=" ".join(found.sentences),
        axis=Axis("difference in error budgets", low - room, high + room),
        rows=tuple(
            ForestRow(
                _arm(found, row), row["difference"], row["difference_low"], row["difference_high"], row["verdict"],
                policies.index(row.get("policy")),
            )
            for row in rows
        ),
        better=-1,
    )  # fmt: skip


def _arm(found: Finding, row: dict[str, Any]) -> str:
    """Return what tells an arm from the others: its labels, as the table heads them."""
    outcomes = ("budget", "both", "load", "missed", "taken")
    labels = []
    for column, head, places in found.shown:
        if column in outcomes:
            break
        if row[column] is not None:
            labels.append(f"{head} {row[column]:g}" if places >= 0 else str(row[column]))
    return ", ".join(labels)
