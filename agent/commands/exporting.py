"""What the commands of ``mendsim export`` share: which run, and how its file is written."""

__all__ = ["FORMATS", "check_out", "format_of", "one_run_options", "played_with_log"]

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.commands.base import agent_options, common_options, fault_options, option
from agent.commands.files import check_file
from agent.commands.run import check_source, replay_from

if TYPE_CHECKING:
    from agent.evaluation.replay import Played

F = TypeVar("F", bound=Callable[..., Any])

#: Formats by the ending of a file.
FORMATS = {".json": "otlp", ".jsonl": "jsonl"}


def one_run_options(out_help: str) -> Callable[[F], F]:
    """Options that say which run is meant, and where its file goes."""
    stack = (
        common_options(),
        option("--run", "number", type=click.IntRange(0), metavar="N", default=0, help="Which run of the seed."),
        agent_options("What to do."),
        fault_options(),
        option("--from", "source", metavar="RESULTS", help="A row of these results instead, played again."),
        option("--row", type=click.IntRange(0), metavar="N", help="Which row, counted from 0."),
        option("--out", metavar="FILE", help=out_help),
        option("--format", "kind", type=click.Choice(sorted(FORMATS.values())), help="Else by the ending of FILE."),
        option("--force", is_flag=True, show_default=False, help="Replace a file that is there already."),
    )

    def wrap(function: F) -> F:
        for decorate in reversed(stack):
            function = decorate(function)
        return function

    return wrap


def check_out(options: dict[str, Any], mistakes: Any) -> None:
    """Note what keeps the file from being written."""
    check_source(options, mistakes)
    endings = () if options["kind"] else tuple(FORMATS)
    check_file("--out", options["out"], options["force"], mistakes, endings)
    if options["kind"] and options["out"] is None:
        mistakes.lines.append("--format says how --out FILE is written, but there is none")


def format_of(options: dict[str, Any]) -> str:
    """Return the format of the file."""
    kind: str = options["kind"] or FORMATS[Path(options["out"]).suffix.lower()]
    return kind


def played_with_log(options: dict[str, Any], mistakes: Any) -> "Played":
    """Play the run with its event log, after the mistakes are reported."""
    replay = replay_from(options, mistakes)
    mistakes.report()
    assert replay is not None
    from agent.commands.progress import Compiling
    from agent.commands.warm import helper_for
    from agent.evaluation.replay import play_replay

    with Compiling(quiet=options["quiet"], helper=helper_for(replay.study, options["engine"])):
        return play_replay(replay, engine=options["engine"], threads=options["threads"], log=True)
