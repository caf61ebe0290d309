"""One request tree as text: a line per attempt, with a bar that shows when it waited and when it worked."""

__all__ = ["LEGEND", "waterfall"]

import math
from collections.abc import Iterator

from simcore.telemetry.traces import Span, Trace

#: What the characters of the bars mean.
LEGEND = (
    "- on the way or waiting for an answer   p connection pool   q queue   # work   ~ work nobody waits for   t topic"
)

_LEAST_BAR = 16


def waterfall(trace: Trace, width: int = 80) -> str:
    """Return a request tree as text.

    Parameters
    ----------
    trace
        What to show.
    width
        Of the text, characters.
    """
    spans = trace.spans
    start = trace.root.start_s
    end = max(max(_times(span), default=start) for span in spans)
    labels = ["  " * span.depth + _label(span) for span in spans]
    told = [_told(span) for span in spans]
    room, words = max(map(len, labels)), max(map(len, told))
    bar = max(_LEAST_BAR, width - room - words - 5)
    scale = bar / max(end - start, 1e-9)
    head = [
        f"request {trace.request}, trace {trace.trace_id}",
        f"offered at {start:.3f} s, {_outcome(trace)}; {len(spans)} attempts, the last ends at +{_ms(end - start)}",
        "",
    ]
    lines = [
        f"{label:<{room}}  |{_bar(span, start, scale, bar)}| {words_}".rstrip()
        for label, span, words_ in zip(labels, spans, told, strict=True)
    ]
    used = {mark for span in spans for mark in _bar(span, start, scale, bar)}
    return "\n".join([*head, *lines, "", *_legend(used, width)])


def _legend(used: set[str], width: int) -> list[str]:
    """Return what the marks used mean, as many as fit a line."""
    lines = [""]
    for part in LEGEND.split("   "):
        if part[0] in used:
            longer = f"{lines[-1]}   {part}".strip()
            lines = [*lines[:-1], longer] if len(longer) <= width else [*lines, part]
    return lines


def _outcome(trace: Trace) -> str:
    took = "" if math.isnan(trace.duration_s) else f" after {_ms(trace.duration_s)}"
    return f"{trace.root.status}{took}"


def _times(span: Span) -> Iterator[float]:
    return (t for t in (span.start_s, span.end_s, span.finished_s) if not math.isnan(t))


def _label(span: Span) -> str:
    again = f" retry {span.attempt}" if span.attempt else ""
    again += f" hedge {span.hedge}" if span.hedge else ""
    return f"{span.service}.{span.operation}{again}"


def _told(span: Span) -> str:
    """Return what is worth saying of a span."""
    took = "..." if math.isnan(span.end_s) else _ms(span.end_s - span.start_s)
    words = [took, span.status if span.status != "ok" else ""]
    words += [span.cache or "", span.instance]
    if span.work_status not in ("", "ok", span.status):
        words.append(f"({span.work_status})")
    return " ".join(word for word in words if word)


def _ms(time_s: float) -> str:
    return f"{time_s * 1e3:.1f} ms" if time_s < 1.0 else f"{time_s:.3f} s"


def _bar(span: Span, start: float, scale: float, width: int) -> str:
    """Return when a span did what, as a row of characters."""
    cells = [" "] * width

    def paint(since: float, until: float, mark: str) -> None:
        if math.isnan(since) or math.isnan(until):
            return
        first = min(width - 1, int((since - start) * scale))
        for at in range(first, min(width, max(first + 1, math.ceil((until - start) * scale)))):
            cells[at] = mark

    end = span.end_s if not math.isnan(span.end_s) else start + width / scale
    finished = span.finished_s if not math.isnan(span.finished_s) else start + width / scale
    begun = span.sent_s if not math.isnan(span.sent_s) else end
    paint(begun, end, "-")
    if span.lag_s > 0.0:
        paint(span.start_s, begun, "t")
    if span.pool_s > 0.0:
        paint(span.start_s, begun, "p")
    if not math.isnan(span.started_s):
        paint(span.started_s, finished, "#")
    if not math.isnan(span.arrived_s) and span.queue_s > 0.0:
        paint(span.arrived_s, span.arrived_s + span.queue_s, "q")
    if not math.isnan(span.started_s) and span.zombie_s > 0.0:
        paint(max(span.started_s, end), finished, "~")
    return "".join(cells)
