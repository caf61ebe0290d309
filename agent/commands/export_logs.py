"""``mendsim export logs``: what the system and the agent have logged in one run."""

__all__ = ["logs"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.exporting import check_out, format_of, one_run_options, played_with_log

if TYPE_CHECKING:
    from simcore.telemetry.logs import LogRecord

_LEVELS = ("debug", "info", "warn", "error")


@click.command(cls=Command, short_help="Logs of system and agent, as text, OTLP JSON or JSON lines.")
@one_run_options("Where the logs go, instead of stdout: .json (OTLP) or .jsonl.")
@option("--level", type=click.Choice(_LEVELS), default="info", help="The least that is shown.")
@option("--truth", is_flag=True, show_default=False, help="Faults too, which no system knows of (debug).")
@option("--json", "as_json", is_flag=True, show_default=False, help="JSON lines on stdout instead of text.")
def logs(**options: Any) -> None:
    """Write what happened: kills, restarts, breakers, deploys, health checks, scaling, bursts of errors and time-outs.

    Beside the system the agent logs its alarms, diagnoses, decisions, and their effects. Bursts name the trace of the
    first request concerned.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    check_out(options, mistakes)
    if options["as_json"] and options["out"]:
        mistakes.lines.append("--json is for stdout; with --out use --format jsonl")
    played = played_with_log(options, mistakes)
    from agent.evaluation.journal import journal
    from simcore.telemetry.episode import episode_logs
    from simcore.telemetry.files import stream_file
    from simcore.telemetry.jsonlines import lines
    from simcore.telemetry.logs import severity_number
    from simcore.telemetry.otlp import log_document

    records = episode_logs(played.episodes, 0, truth=options["truth"])
    records += journal(played.episodes, played.trace, 0).records
    shown = [
        record
        for record in sorted(records, key=lambda record: record.time_s)
        if severity_number(record.severity) >= severity_number(options["level"].upper())
        or (options["truth"] and record.name == "fault.change")
    ]
    if options["out"] is not None:
        otlp = format_of(options) == "otlp"
        stream_file(Path(options["out"]), log_document(shown) if otlp else lines(shown))
        click.echo(f"{len(shown)} records in {options['out']}")
    elif options["as_json"]:
        click.echo("".join(lines(shown)), nl=False)
    elif shown:
        click.echo("\n".join(_line(record) for record in shown))
    else:
        click.echo("nothing was logged", err=True)


def _line(record: "LogRecord") -> str:
    trace = f"  [{record.trace_id[16:]}]" if record.name.startswith("burst.") else ""
    return f"{record.time_s:10.3f}  {record.severity:<5}  {record.service or 'border':<10}  {record.body}{trace}"
