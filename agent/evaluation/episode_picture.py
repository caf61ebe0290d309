"""One episode as a picture: what happened in lanes on top, below them the golden signals of every service."""

__all__ = ["draw_episode"]

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.mended import over_s
from agent.evaluation.palette import LIGHT
from agent.evaluation.pictures import canvas, pen
from agent.evaluation.replay import Played
from agent.evaluation.signals import SIGNALS, golden
from agent.evaluation.timeline import describe
from simcore.env import Episodes

Bools = npt.NDArray[np.bool_]

#: Tones of the suspects, and of what is behind the lines of a signal.
_SUSPECT, _PASSIVE = LIGHT.tone(3), LIGHT.incident


def draw_episode(played: Played) -> Any:
    """Return a figure of a finished episode: lanes of fault, SLO, alarm, suspects and actions; then five signals."""
    episodes = played.episodes
    lanes = _lanes(played)
    height = 0.26 * len(lanes) + 0.34
    figure, axes = canvas(1 + len(SIGNALS), 1, size=(11.0, height + 8.4), heights=[height, *[1.55] * len(SIGNALS)])
    run = episodes.runs[0]
    agent = f"agent: {played.row['policy']}" if played.row["policy"] else "no agent"
    faults = "; ".join(describe(fault, episodes) for fault in run.faults) or "no fault"
    figure.suptitle(
        f"{episodes.scenario.name}, seed {run.seed}, {run.split} run {run.run}, {agent}\n{faults}", fontsize=10
    )
    end_min = episodes.n_steps * episodes.scenario.timing.step_s / 60.0
    for panel in axes[:, 0]:
        panel.set_xlim(0.0, end_min)
    _draw_lanes(axes[0][0], lanes, end_min)
    _draw_signals(axes[1:, 0], episodes)
    _shade(axes[1:, 0], episodes)
    axes[-1][0].set_xlabel("time, minutes")
    handles, labels = axes[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels)), fontsize=8, frameon=False)
    return figure


#: A lane: its name, bars (begin, end, text) in minutes, colour.
_Lane = tuple[str, list[tuple[float, float, str]], str]


def _lanes(played: Played) -> list[_Lane]:
    episodes, trace = played.episodes, played.trace
    step_min = episodes.scenario.timing.step_s / 60.0
    lanes: list[_Lane] = [("fault", list(_faults(episodes)), _PASSIVE)]
    lanes.append(("SLO broken", _spans(episodes.violating[0], step_min), LIGHT.worse))
    if trace is not None:
        names = episodes.topology.services
        lanes.append(("alarm", _spans(trace.alarm[0], step_min), LIGHT.alarm))
        known = np.where(trace.ranked[0, :, 0] >= 0, trace.suspect[0], -2)
        lanes.append(
            ("suspect", [
                (begin, end, names[int(value)] if value >= 0 else "none")
                for value in np.unique(known[known > -2])
                for begin, end, _ in _spans(known == value, step_min)
            ], _SUSPECT),
        )  # fmt: skip
    lanes.append(("actions", [(r.step * step_min, r.effect_s / 60.0, episodes.actions.names[r.action])
                              for r in episodes.records], LIGHT.action))  # fmt: skip
    return lanes


def _faults(episodes: Episodes) -> Iterator[tuple[float, float, str]]:
    for fault in episodes.runs[0].faults:
        yield fault.onset_s / 60.0, over_s(fault, episodes) / 60.0, fault.type


def _spans(flags: Bools, step_min: float) -> list[tuple[float, float, str]]:
    """Return where flags (step,) are set without a break, in minutes."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(begin * step_min, end * step_min, "") for begin, end in edges.reshape(-1, 2).tolist()]


def _draw_lanes(panel: Any, lanes: list[_Lane], end_min: float) -> None:
    for at, (_, bars, colour) in enumerate(lanes):
        panel.axhline(at, color="0.93", linewidth=7, zorder=0)
        for begin, end, _ in bars:
            panel.barh(at, max(end - begin, 0.004 * end_min), left=begin, height=0.62, color=colour)
        free = -1.0
        for begin, end, text in sorted(bars):
            long = 0.0088 * end_min * len(text)
            inside = text and end - begin > long
            if text and (inside or begin > free):
                x = begin if inside else max(begin, end) + 0.004 * end_min
                panel.annotate(text, (x, at), xytext=(2, 0), textcoords="offset points", va="center", fontsize=7,
                               color="white" if inside else "0.2", annotation_clip=False)  # fmt: skip
                free = end if inside else x + long
    panel.set_ylim(len(lanes) - 0.5, -0.5)
    panel.set_yticks(range(len(lanes)), [name for name, *_ in lanes], fontsize=8)
    panel.tick_params(length=0, labelbottom=False)
    panel.grid(visible=False)
    for side in panel.spines.values():
        side.set_visible(False)


def _draw_signals(panels: Any, episodes: Episodes) -> None:
    step_s, slo = episodes.scenario.timing.step_s, episodes.scenario.slo
    names = episodes.topology.services
    time_min = (np.arange(episodes.n_steps) + 1) * step_s / 60.0
    signals = golden(episodes.metrics[0])
    for panel, what, values in zip(panels, SIGNALS, signals, strict=True):
        for service, name in enumerate(names):
            panel.plot(time_min, values[:, service], label=name, **pen(service, linewidth=1.1))
        # beneath the others, since one of them is often the same
        panel.plot(
            time_min, values[:, -1], linewidth=2.4, color=LIGHT.ink, zorder=1.5, label="the system, to its users"
        )
        panel.set_ylabel(f"{what.name}\n{what.unit}", fontsize=8)
        if what.unit != "p95":
            panel.set_ylim(bottom=0.0)
        panel.tick_params(labelbottom=panel is panels[-1])
    _promise(panels[1], slo.bad_frac)
    _promise(panels[2], slo.p95_s)
    panels[1].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    panels[3].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    panels[3].set_ylim(0.0, 1.05)
    panels[2].set_yscale("log")
    panels[2].yaxis.set_major_formatter(lambda value, _: f"{value:g} s")


def _promise(panel: Any, limit: float) -> None:
    panel.axhline(limit, color=LIGHT.worse, linewidth=0.9, linestyle=(0, (6, 3)))
    panel.annotate("SLO", (1.0, limit), xycoords=("axes fraction", "data"), xytext=(3, 0), fontsize=7,
                   textcoords="offset points", va="center", color=LIGHT.worse, annotation_clip=False)  # fmt: skip


def _shade(panels: Any, episodes: Episodes) -> None:
    """Draw when the fault was there, and when actions were taken, through all panels."""
    for begin, end, _ in _faults(episodes):
        for panel in panels:
            panel.axvspan(begin, end, color=_PASSIVE, alpha=0.15, linewidth=0)
    for record in episodes.records:
        for panel in panels:
            panel.axvline(record.step * episodes.scenario.timing.step_s / 60.0, color=LIGHT.action, linewidth=0.9)
