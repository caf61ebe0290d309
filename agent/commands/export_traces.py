"""``mendsim export traces``: request trees of one run, sampled."""

__all__ = ["traces"]

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.exporting import check_out, format_of, one_run_options, played_with_log

if TYPE_CHECKING:
    from agent.evaluation.replay import Played
    from simcore.telemetry.traces import Trace

_NUMBER = re.compile(r"(?:(\d+):)?(\d+)")
_SHOWN = ("slowest", "failed")


@click.command(cls=Command, short_help="Request trees, as OTLP JSON or JSON lines, or one as text.")
@one_run_options("Where the traces go: .json (OTLP) or .jsonl.")
@option("--head", type=click.FloatRange(0, 1), metavar="SHARE", default=0.01, help="Of all requests, drawn by key.")
@option("--tail", type=click.IntRange(0), metavar="N", default=1, help="Slowest, and slowest failed ones, per step.")
@option("--show", metavar="REQUEST", help="One tree as text: slowest, failed, N, or STREAM:N.")
@option("--width", type=click.IntRange(60), metavar="N", default=80, help="Of the text of --show, characters.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def traces(**options: Any) -> None:
    """Write request trees: attempts, waits for connections, queues and locks, cache answers, errors, retries, messages.

    Requests are chosen by head sampling (a share of all) and tail sampling (the slowest of every control step). The
    agent's incidents, alarms, decisions and actions are a trace of their own, linked to requests that show the trouble.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    check_out(options, mistakes)
    wanted = _wanted(options, mistakes)
    played = played_with_log(options, mistakes)
    told: dict[str, Any] = {}
    if wanted is not None:
        trace = _find(played, wanted, mistakes)
        mistakes.report()
        assert trace is not None
        told["trace"] = _object(trace)
        if not options["as_json"]:
            from simcore.telemetry.waterfall import waterfall

            click.echo(waterfall(trace, options["width"]))
    if options["out"] is not None:
        written = _write(played, options)
        told |= written
        if not options["as_json"]:
            click.echo(
                f"{written['traces']} traces of {written['requests']} requests, {written['spans']} spans, "
                f"in {options['out']}"
            )
    if options["as_json"]:
        import json

        click.echo(json.dumps(told, indent=2, allow_nan=False))


def _wanted(options: dict[str, Any], mistakes: Any) -> str | None:
    """Return what --show asks for, and note if that is nothing that there can be."""
    show: str | None = options["show"]
    if show is None:
        if options["out"] is None:
            mistakes.lines.append("give --out FILE, --show REQUEST, or both")
    elif show not in _SHOWN and not _NUMBER.fullmatch(show):
        mistakes.lines.append(f"--show must be {' or '.join(_SHOWN)}, N or STREAM:N, got '{show}'")
    return show


def _find(played: "Played", show: str, mistakes: Any) -> "Trace | None":
    """Return the tree of the request that is asked for."""
    import numpy as np

    from simcore.telemetry.sampling import roots_of
    from simcore.telemetry.traces import request_trees

    episodes = played.episodes
    log = episodes.session.events(0)
    roots = roots_of(log)
    number = -1
    if show in _SHOWN:
        some = ~np.isnan(roots.latency_s) & (roots.failed if show == "failed" else True)
        some &= roots.offered_s >= 0.0
        if some.any():
            of = np.flatnonzero(some)
            number = int(roots.requests[of[roots.latency_s[of].argmax()]])
        else:
            mistakes.lines.append(f"--show {show}: there is no such request in this run")
    else:
        found = _NUMBER.fullmatch(show)
        assert found is not None
        number = int(found[1] or 0) << 40 | int(found[2])
        if number not in set(roots.requests.tolist()):
            last = int(roots.requests[roots.requests < 1 << 40].max(initial=-1))
            mistakes.lines.append(f"--show {show}: there is no such request; the base arrivals are 0 to {last}")
            number = -1
    if number < 0:
        return None
    return request_trees(episodes.scenario, log, episodes.runs[0].inputs.key, [number])[0]


def _object(trace: "Trace") -> dict[str, Any]:
    from simcore.telemetry.jsonlines import plain

    return {"trace_id": trace.trace_id, "request": trace.request, "spans": [plain(span) for span in trace.spans]}


def _write(played: "Played", options: dict[str, Any]) -> dict[str, Any]:
    """Write the file and return how much is in it."""
    from agent.evaluation.journal import journal
    from simcore.telemetry.episode import sampled, traces_in_batches
    from simcore.telemetry.files import stream_file
    from simcore.telemetry.jsonlines import lines
    from simcore.telemetry.otlp import trace_document
    from simcore.telemetry.wire import end_of, wire_spans

    episodes = played.episodes
    log = episodes.session.events(0)
    requests = sampled(episodes, 0, log, options["head"], options["tail"])
    count = {"requests": int((log["event"] == 1).sum()), "traces": 0, "spans": 0}
    until_s = end_of(log)
    otlp = format_of(options) == "otlp"

    def batches() -> Any:
        for batch in traces_in_batches(episodes, 0, log, requests):
            count["traces"] += len(batch)
            if otlp:
                spans = [span for trace in batch for span in wire_spans(trace, until_s)]
            else:
                spans = [span for trace in batch for span in trace.spans]  # type: ignore[misc]
            count["spans"] += len(spans)
            yield spans
        own = journal(episodes, played.trace, 0).spans
        if otlp and played.trace is not None:
            count["traces"] += 1
            count["spans"] += len(own)
            yield own

    parts = trace_document(batches()) if otlp else lines(span for spans in batches() for span in spans)
    stream_file(Path(options["out"]), parts)
    return count | {"out": options["out"], "format": format_of(options)}
