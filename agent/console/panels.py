"""The panels of the terminal as text: head, tape, charts, services, the agent, the log. Pure functions of a view."""

__all__ = ["agent_text", "chart_lines", "head_text", "log_text", "services_text", "tape_text"]

import numpy as np
import numpy.typing as npt
from rich.text import Text

from agent.console.charts import area, bar, ceiling
from agent.console.palette import Palette
from agent.console.view import View
from agent.evaluation.signals import SIGNALS
from agent.evaluation.timeline import TRUTH, clock

Floats = npt.NDArray[np.float64]

#: Columns left of a chart.
_GUTTER = 13
#: Least upper edge of a chart, by signal.
_LEAST = (1.0, 0.1, 0.01, 1.0, 5.0)


def head_text(view: View, title: str, state: str, mode: str, width: int, palette: Palette) -> Text:
    """Return the line on top: what is watched, the clock, and who acts.

    Parameters
    ----------
    view
        The episode.
    title
        What is watched.
    state
        Such as ``paused``.
    mode
        Who acts.
    width
        Characters.
    palette
        Colours.
    """
    end = clock(view.n_steps * view.step_s)
    left = Text.assemble((f" {title}", "bold"), no_wrap=True)
    right = Text.assemble(
        (f"{view.clock} / {end}", "bold"), f"  {state}  ", (f" {mode} ", f"reverse {palette.act}"), " "
    )
    left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
    return Text.assemble(left, " " * max(1, width - left.cell_len - right.cell_len), right, no_wrap=True)


def tape_text(view: View, width: int, palette: Palette) -> Text:
    """Return the whole episode on two lines: broken promises and alarms, then what was done."""
    cells = max(10, width - 9)
    edge = np.minimum((np.arange(view.n_steps) * cells) // view.n_steps, cells - 1)
    level = np.zeros(cells, np.int64)
    for edges, mark in ((view.alarm, 1), (view.broken, 2), (view.alarm & view.broken, 3)):
        np.maximum.at(level, edge[: edges.size], np.where(edges, mark, 0))
    now = int(edge[min(view.step, view.n_steps - 1)])
    states = Text(no_wrap=True).append(" health ", palette.faint)
    for i, mark in enumerate(level.tolist()):
        if i > now or not view.step:
            states.append("·", palette.faint)
        else:
            states.append("▁▅▅█"[mark], (palette.plain, palette.alarm, palette.over, palette.over)[mark])
    deeds = Text(no_wrap=True).append("\n acts   ", palette.faint)
    marks = {int(edge[step]): by_hand for step, by_hand in view.acted}
    lasting = {i for begin, end in view.faults for i in range(cells) if begin <= (i + 0.5) * view.n_steps / cells < end}
    for i in range(cells):
        if i in marks:
            deeds.append("◆" if marks[i] else "▲", palette.hand if marks[i] else palette.act)
        else:
            deeds.append("░" if i in lasting else " ", palette.truth)
    return Text.assemble(states, deeds, no_wrap=True)


def chart_lines(
    view: View, signal: int, row: int, limit: float | None, width: int, height: int, palette: Palette
) -> list[Text]:
    """Return a chart of a signal of one service (or the system), with its name and numbers on the left.

    Parameters
    ----------
    view
        The episode.
    signal
        Row of ``agent.evaluation.signals.SIGNALS``.
    row
        The service; the system is the last.
    limit
        What was promised, None: nothing.
    width, height
        Characters.
    palette
        Colours.
    """
    what, values = SIGNALS[signal], view.signals[signal, :, row]
    graph = max(4, width - _GUTTER)
    least = _LEAST[signal] if limit is None else 1.25 * limit
    shown = values[-2 * graph :]
    top = (
        ceiling(shown, least) if limit is None else max(least, ceiling(shown, least) if (shown > least).any() else 0.0)
    )
    latest = float(values[-1]) if values.size else np.nan
    over = limit is not None and latest > limit
    notes = [
        Text(what.name, "bold"),
        Text("no data" if np.isnan(latest) else what.text(latest), palette.over if over else palette.plain),
        Text(f"up to {what.text(top)}" if limit is None else f"≤ {what.text(limit)}", palette.faint),
        Text(what.unit, palette.faint),
    ]
    if height == 2:
        notes = [Text.assemble(notes[0], " ", notes[1]), notes[2]]
    rows = area(
        values, graph, height, top=top, limit=limit, plain=palette.plain, over=palette.over, faint=palette.faint
    )
    lines = []
    for i, graph_row in enumerate(rows):
        note = notes[i] if i < len(notes) else Text()
        note.truncate(_GUTTER - 1, overflow="ellipsis", pad=True)
        lines.append(Text.assemble(note, " ", graph_row, no_wrap=True))
    return lines


def services_text(view: View, selected: int, width: int, height: int, palette: Palette) -> Text:
    """Return the table of services: traffic, p95, errors, CPU and anomaly score, the system first.

    Where there is no room for all, those with the highest scores are there, the one selected, and the suspect.
    """
    room = max(6, width - 30)
    text = Text(no_wrap=True, overflow="crop").append(
        f"  {'service':<{room}} req/s   p95  err  cpu score\n", palette.faint
    )
    n = len(view.names)
    rows = _rows(view, selected, max(3, height - 1))
    for row in rows:
        name = "system" if row == n else view.names[row]
        suspected = view.thought is not None and view.thought.diagnosed and view.thought.suspect == row
        line = Text(no_wrap=True)
        line.append("▸" if row == selected else " ", "bold")
        line.append(
            "?" if suspected else "*" if name in view.pending else " ", palette.suspect if suspected else palette.act
        )
        line.append(f"{name[:room]:<{room}}", "bold" if row == n else "")
        line.append_text(_numbers(view, row, palette))
        if row == selected:
            line.stylize(f"on {palette.ground}")
        text.append_text(line).append("\n")
    if len(rows) <= n:
        return text.append(f"  and {n + 1 - len(rows)} quieter ones", palette.faint)
    text.right_crop(1)
    return text


def _rows(view: View, selected: int, room: int) -> list[int]:
    """Return the rows to show: the system, then services in their order."""
    n, thought = len(view.names), view.thought
    if n + 1 <= room:
        return [n, *range(n)]
    score = np.full(n, np.nan) if thought is None else thought.score
    loudest = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable").tolist()
    wanted = [s for s in (selected, thought.suspect if thought is not None and thought.diagnosed else -1) if 0 <= s < n]
    return [n, *sorted(list(dict.fromkeys([*wanted, *loudest]))[: room - 2])]


def _numbers(view: View, row: int, palette: Palette) -> Text:
    text = Text()
    values = view.signals[:, -1, row] if view.step else np.full(len(SIGNALS), np.nan)
    traffic, errors, late, cpu, _ = (float(value) for value in values)
    text.append("     –" if np.isnan(traffic) else f"{traffic:6.0f}")
    text.append("     –" if np.isnan(late) else f"{late:5.1f}s" if late >= 1 else f"{1000 * late:5.0f}m")
    broken = errors > 0.05
    text.append("    –" if np.isnan(errors) else f"{100 * errors:4.0f}%", palette.over if broken else "")
    text.append("    –" if np.isnan(cpu) else f"{100 * cpu:4.0f}%", palette.over if cpu > 0.9 else "")
    thought = view.thought
    score = np.nan if thought is None else thought.overall if row == len(view.names) else float(thought.score[row])
    hot = thought is not None and thought.alarm and thought.diagnosed and thought.suspect == row
    text.append("     –" if np.isnan(score) else f"{score:6.2f}", palette.suspect if hot else "")
    return text


def agent_text(view: View, has_agent: bool, width: int, palette: Palette) -> Text:
    """Return what the agent thinks: alarm, suspect, the last decision with its reasons, and what is under way."""
    text = Text(no_wrap=False)
    thought = view.thought
    if not has_agent:
        text.append("no agent: nobody looks, nobody acts", palette.faint)
    elif thought is None:
        text.append("the agent has seen nothing yet", palette.faint)
    else:
        text.append(
            "ALARM " if thought.alarm else "no alarm ", f"bold {palette.alarm}" if thought.alarm else palette.faint
        )
        text.append("\n" if np.isnan(thought.overall) else f"anomaly score {thought.overall:.2f}\n")
        if thought.diagnosed:
            name = view.names[thought.suspect] if thought.suspect >= 0 else "no service"
            text.append("suspect ", palette.faint).append(name, f"bold {palette.suspect}")
            text.append(f" {thought.confidence:.2f} ").append(bar(thought.confidence, 6).rstrip(), palette.suspect)
            others = [view.names[s] for s in thought.ranked if s != thought.suspect][:2]
            then = f", then {', '.join(others)}" if others else ""
            left = width - len(f"suspect {name} 0.00 ") - 6
            text.append(then if len(then) <= left else "", palette.faint).append("\n")
    if view.admitted < 1.0:
        text.append(f"{view.admitted:.0%} of the traffic is admitted\n", palette.over)
    if view.pending:
        text.append(f"under way at {', '.join(view.pending)}\n", palette.act)
    if view.decision is not None:
        _say_decision(text, view, palette)
    return text


def _say_decision(text: Text, view: View, palette: Palette) -> None:
    decision = view.decision
    assert decision is not None
    at = clock(decision.opened * view.step_s)
    advised = decision.opened == view.step and not view.finished
    text.append(f"{at} {'would ' if advised else ''}", palette.faint)
    text.append(view.actions[decision.action], f"bold {palette.act}")
    text.append(f" reward {decision.reward:.2f}\n" if decision.closed >= 0 else "\n", palette.faint)
    for reason in dict.fromkeys(part.strip() for part in decision.rationale.split("; ") if part.strip()):
        text.append(f"· {reason}\n", palette.faint)


def log_text(view: View, count: int, back: int, palette: Palette) -> Text:
    """Return the last lines of the timeline, ``back`` lines before its end."""
    colours = {"!": palette.alarm, "?": palette.suspect, ">": palette.act, "=": palette.plain, TRUTH: palette.truth}
    end = max(min(count, len(view.lines)), len(view.lines) - back)
    lines = []
    for k, _, mark, words in view.lines[max(0, end - count) : end]:
        colour = colours.get(mark, palette.faint)
        line = Text.assemble((f" {clock(k * view.step_s):>5} ", palette.faint), (f"{mark} ", colour), (words, colour))
        lines.append(line)
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
