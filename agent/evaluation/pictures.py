"""Pictures of comparisons and runs as matplotlib draws them, in the colours of ``palette``."""

__all__ = ["canvas", "draw_comparison", "draw_explanation", "draw_map", "pen", "save"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from agent.evaluation.compare import PRIMARY, Comparison
from agent.evaluation.palette import LIGHT, dash
from simcore.env import Episodes
from simcore.errors import ResultsError
from simcore.windows import Metric

if TYPE_CHECKING:
    from agent.evaluation.explanation import Explanation
    from agent.evaluation.optimal import Cell

#: Fills of areas with black text on them, told apart by everybody (Okabe and Ito 2008).
_FILLS = ("#BBBBBB", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")


def canvas(rows: int, columns: int, *, size: tuple[float, float], heights: Sequence[float] | None = None) -> Any:
    """Return a figure and its (rows, columns) axes, drawn without a screen; ``heights`` (row,) are relative."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.92",
        "legend.frameon": False,
        "font.size": 9,
    }
    with matplotlib.rc_context(style):
        return pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", height_ratios=heights)


def save(figure: Any, path: str) -> None:
    """Write a figure and forget it.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    """
    from matplotlib import pyplot, rc_context

    try:
        # nothing in the file but the picture: equal pictures are equal bytes
        plain = {"Date": None} if path.lower().endswith(".svg") else {"Software": None}
        _settle(figure)
        with rc_context({"svg.hashsalt": "mendsim"}):
            figure.savefig(path, dpi=130, metadata=plain)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error
    finally:
        pyplot.close(figure)


def _settle(figure: Any) -> None:
    """Fix the places of the panels: the solver of the layout leaves them undecided in the last digits."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for panel in figure.axes:
        panel.set_position([round(share, 6) for share in panel.get_position().bounds])


def pen(look: int, **more: Any) -> dict[str, Any]:
    """Return colour and strokes of a line of a look (-1 is ink), as matplotlib takes them, and whatever else."""
    strokes = dash(look)
    return {"color": LIGHT.tone(look), "linestyle": (0, tuple(s / 2 for s in strokes)) if strokes else "-", **more}


def draw_comparison(runs: Comparison, compared: pl.DataFrame, title: str) -> Any:
    """Return a figure: curves of not having recovered yet, and paired differences of the primary measure.

    Parameters
    ----------
    runs, compared
        The runs lined up, and what ``compare`` gave for them.
    title
        What was compared.
    """
    figure, axes = canvas(1, 2, size=(9.5, 4.2))
    figure.suptitle(title, fontsize=10)
    _survival(axes[0][0], runs)
    _forest(axes[0][1], runs, compared)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, max(1, len(labels))), fontsize=8)
    return figure


def _look(runs: Comparison, policy: str) -> dict[str, Any]:
    number = runs.policies.index(policy)
    return pen(number)


def _survival(panel: Any, runs: Comparison) -> None:
    panel.set(xlabel="time since the onset, s", ylabel="share not recovered yet", ylim=(0.0, 1.02))
    panel.set_title(f"time to mitigation, {int((runs.at_risk & runs.faulty).sum())} runs at risk", fontsize=9)
    if not (runs.at_risk & runs.faulty).any():
        return
    for policy in runs.policies:
        curve, look = runs.survival(policy), _look(runs, policy)
        times = np.concatenate([[0.0], curve.times, [runs.until_s]])
        share, low, high = (
            np.concatenate([[1.0], of, of[-1:] if of.size else [1.0]]) for of in (curve.share, curve.low, curve.high)
        )
        panel.step(times, share, where="post", label=policy, linewidth=1.5, **look)
        panel.fill_between(times, low, high, step="post", color=look["color"], alpha=0.13, linewidth=0)
    panel.set_xlim(0.0, runs.until_s)


def _forest(panel: Any, runs: Comparison, compared: pl.DataFrame) -> None:
    rows = [row for row in compared.filter(pl.col("measure") == PRIMARY).iter_rows(named=True) if row["p"] is not None]
    panel.axvline(0.0, color="0.4", linewidth=0.8)
    for at, row in enumerate(rows):
        look = _look(runs, row["policy"])
        panel.plot([row["difference_low"], row["difference_high"]], [at, at], linewidth=1.8, **look)
        panel.plot(row["difference"], at, "o", color=look["color"], markersize=5)
        panel.annotate(row["verdict"], (row["difference"], at), xytext=(0, 7), textcoords="offset points",
                       ha="center", fontsize=7, color="0.3")  # fmt: skip
    panel.set_yticks(range(len(rows)), [row["policy"] for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.8)
    panel.grid(axis="y", visible=False)
    against = compared["against"][0]
    panel.set_xlabel(f"{PRIMARY.replace('_', ' ')} less that of {against}, 95 % interval\n(to the left is better)")
    panel.set_title(f"primary measure, {runs.runs} runs", fontsize=9)


def draw_explanation(told: "Explanation") -> Any:
    """Return a figure of a run beside its twins: bad requests, p95, and the error budget spent so far."""
    played = told.played.episodes
    step_s, slo = played.scenario.timing.step_s, played.scenario.slo
    lines: list[tuple[str, Episodes, dict[str, Any]]] = [
        ("without the fault", told.clear, pen(2, linestyle=":")),
        ("nobody acts", told.noop, pen(1, linestyle="--")),
    ]
    if told.best is not None and told.best.best != told.best.taken:
        lines.append((f"best: {told.best.best}", told.best.episodes, pen(3, linestyle="-.")))
    lines.append((f"as it was ({told.played.row['policy'] or 'no agent'})", played, pen(0)))
    figure, axes = canvas(3, 1, size=(9.0, 7.0))
    time_s = (np.arange(played.n_steps) + 1) * step_s
    for name, episodes, look in lines:
        bad, offered = episodes.bad[0], episodes.offered[0]
        spent = np.cumsum(bad) / np.maximum((1.0 - slo.objective) * offered.sum(), 1e-9)
        share = bad / np.maximum(offered, 1)
        p95_s = episodes.metrics[0, :, -1, Metric.P95_S]
        for panel, values in zip(axes[:, 0], (np.minimum(share, 1.5), p95_s, spent), strict=True):
            panel.plot(time_s, values, label=name, linewidth=1.4, **look)
    for panel, what in zip(axes[:, 0], ("bad / offered", "p95 at the client, s", "error budget spent"), strict=True):
        panel.set(ylabel=what, xlim=(0, played.n_steps * step_s))
        panel.set_ylim(bottom=0.0)
    axes[0][0].axhline(slo.bad_frac, color="0.4", linewidth=0.8)
    axes[1][0].axhline(slo.p95_s, color="0.4", linewidth=0.8)
    axes[2][0].set_xlabel("time, s")
    _mark(axes[:, 0], told)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _mark(panels: Any, told: "Explanation") -> None:
    """Draw when the fault began, the alarm came, and actions were taken."""
    row, episodes = told.played.row, told.played.episodes
    step_s = episodes.scenario.timing.step_s
    marks = [("fault", row["fault_onset_s"], "0.6"), ("alarm", row["t_alarm_s"], LIGHT.alarm)]
    marks += [(episodes.actions.names[r.action], r.step * step_s, LIGHT.action) for r in episodes.records]
    top = panels[0]
    for number, (text, time_s, colour) in enumerate(marks):
        if time_s is None:
            continue
        for panel in panels:
            panel.axvline(time_s, color=colour, linewidth=0.9, alpha=0.8)
        top.annotate(text, (time_s, 1.0), xycoords=("data", "axes fraction"), xytext=(2, 4 + 9 * (number % 3)),
                     textcoords="offset points", fontsize=7, color="0.25")  # fmt: skip


def draw_map(cells: Sequence["Cell"], title: str) -> Any:
    """Return a figure of best actions: a panel per onset and delay, a colour per kind of action, pale where unsure."""
    panels = list(dict.fromkeys((cell.onset_s, cell.delay) for cell in cells))
    kinds = list(dict.fromkeys(cell.names[cell.best].partition("(")[0] for cell in cells))
    width = max(4.0, (1.2 + 1.7 * len({cell.load for cell in cells})) * len(panels))
    figure, axes = canvas(1, len(panels), size=(width, 1.6 + 0.7 * len({cell.severity for cell in cells})))
    for (onset_s, delay), axis in zip(panels, axes[0], strict=True):
        _cells_on(axis, [cell for cell in cells if (cell.onset_s, cell.delay) == (onset_s, delay)], kinds)
        axis.set_title(f"onset {onset_s:g} s, action {delay} steps later", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _cells_on(axis: Any, cells: Sequence["Cell"], kinds: Sequence[str]) -> None:
    loads = sorted({cell.load for cell in cells})
    severities = sorted({cell.severity for cell in cells})
    for cell in cells:
        name, sure = cell.names[cell.best], float(cell.confidence[cell.best])
        x, y = loads.index(cell.load), severities.index(cell.severity)
        colour = _FILLS[kinds.index(name.partition("(")[0]) % len(_FILLS)]
        axis.add_patch(_square(x, y, colour, 0.25 + 0.75 * sure))
        axis.text(x, y, f"{name}\n{sure:.0%}", ha="center", va="center", fontsize=7)
    axis.grid(visible=False)
    axis.set(xlim=(-0.5, len(loads) - 0.5), ylim=(-0.5, len(severities) - 0.5), xlabel="load", ylabel="severity")
    axis.set_xticks(range(len(loads)), [f"{load:g}" for load in loads])
    axis.set_yticks(range(len(severities)), [f"{severity:g}" for severity in severities])


def _square(x: int, y: int, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1.0, 1.0, facecolor=colour, edgecolor="white", alpha=alpha)
