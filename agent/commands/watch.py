"""``mendsim watch``: an episode live in the terminal, with somebody on call if wanted."""

__all__ = ["at_terminal", "watch"]

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, option
from agent.commands.run import check_source, replay_from, report_differences

if TYPE_CHECKING:
    from agent.console.app import Console

_SPEEDS = ("1", "2", "4", "8", "16", "32", "64")


@click.command(cls=Command, short_help="An episode live in the terminal; take over, and be judged.")
@common_options()
@option("--run", "number", type=click.IntRange(0), metavar="N", default=0, help="Which run of the seed.")
@agent_options("What to do.")
@fault_options()
@option("--from", "source", metavar="RESULTS", help="Watch a row of these results again.")
@option("--row", type=click.IntRange(0), metavar="N", help="Which row, counted from 0.")
@option("--on-call", is_flag=True, show_default=False, help="You act, and are paged when the agent would.")
@option("--speed", type=click.Choice(_SPEEDS), default="8", help="Control steps a second, to begin with.")
@option("--paused", is_flag=True, show_default=False, help="Begin with the clock stopped.")
@option("--reveal", is_flag=True, show_default=False, help="Show what the agent cannot see, such as the fault.")
@option("--json", "as_json", is_flag=True, show_default=False, help="At the end, the row of the table as JSON.")
def watch(**options: Any) -> int:
    """Watch an episode as it goes: the golden signals, what the agent thinks, and what it does.

    Pause, step, choose actions yourself, or take over. At the end an oracle says what each decision cost. Left alone,
    it is the episode that mendsim run plays with the same options.
    """
    from agent.commands.progress import Compiling
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    check_source(options, mistakes)
    if importlib.util.find_spec("textual") is None:
        mistakes.lines.append("watch needs textual: install mendsim[watch]")
    if not at_terminal():
        mistakes.lines.append("watch needs a terminal; mendsim run --render prints an episode as text")
    replay = replay_from(options, mistakes)
    mistakes.report()
    assert replay is not None

    from agent.api import ConsultsRollouts
    from agent.commands.warm import helper_for
    from agent.console.app import Console
    from agent.evaluation.replay import Live, play_replay
    from agent.registry import make_policy

    how = {"engine": options["engine"], "threads": options["threads"]}
    with Compiling(quiet=options["quiet"], helper=helper_for(replay.study, options["engine"])):
        if replay.policy is None or not isinstance(make_policy(replay.policy), ConsultsRollouts):
            play_replay(replay, **how)  # so that nothing has to be compiled while it is watched
        live = Live(replay, **how)
    console = Console(
        live, speed=int(options["speed"]), on_call=options["on_call"], paused=options["paused"],
        reveal=options["reveal"], threads=options["threads"],
    )  # fmt: skip
    console.run()
    return _tell(console, options)


def at_terminal() -> bool:
    """Return whether there is a terminal to draw on and to type at."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _tell(console: "Console", options: dict[str, Any]) -> int:
    """Say what became of it."""
    live = console.live
    if not live.finished:
        from agent.evaluation.timeline import clock

        time_s = live.episodes.step * live.episodes.topology.step_s
        if not options["quiet"]:
            click.echo(
                f"left at {clock(time_s)} of {clock(live.episodes.n_steps * live.episodes.topology.step_s)}", err=True
            )
        return int(console.interrupted)
    played = live.played()
    if options["as_json"]:
        import json

        click.echo(json.dumps(played.row, indent=2, allow_nan=False))
    else:
        click.echo(played.report)
        if console.verdict is not None:
            click.echo("\nThe oracle's verdict")
            click.echo("\n".join(f"  {line}" if line else "" for line in console.verdict.lines()))
    return max(int(console.interrupted), report_differences(played.differences, options))
