"""Pictures of a comparison, in colours that do not depend on telling red from green (Okabe and Ito 2008)."""

__all__ = ["COLOURS", "canvas", "check_target", "draw_comparison", "save"]

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from agent.evaluation.compare import PRIMARY, Comparison
from simcore.errors import InputError, ResultsError

#: Told apart by everybody; by line style too where there are more policies than colours.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", ":")


def check_target(path: str) -> None:
    """Check that a picture can be drawn into a file of this name.

    Raises
    ------
    InputError
        If the name does not end in .png or .svg, its folder is missing, or matplotlib is not there.
    """
    target = Path(path)
    mistakes = []
    if target.suffix.lower() not in (".png", ".svg"):
        mistakes.append(f"a picture's name must end in .png or .svg, got {path}")
    if not target.resolve().parent.is_dir():
        mistakes.append(f"there is no folder {target.resolve().parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        mistakes.append("pictures need matplotlib: install the extra 'pictures'")
    if mistakes:
        raise InputError("\n".join(mistakes))


def canvas(rows: int, columns: int, *, size: tuple[float, float]) -> Any:
    """Return a figure and its (rows, columns) axes, drawn without a screen."""
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
        return pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def save(figure: Any, path: str) -> None:
    """Write a figure and forget it.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    """
    from matplotlib import pyplot

    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error
    finally:
        pyplot.close(figure)


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
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": _LINES[number // len(COLOURS) % len(_LINES)]}


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
