"""``mendsim explain``: why a run came out as it did."""

__all__ = ["explain"]

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    from agent.evaluation.explanation import Explanation


@click.command(cls=Command, short_help="Why a run came out as it did, beside its twins.")
@option("--from", "source", metavar="RESULTS", required=True, help="What eval or compare wrote.")
@option("--row", type=click.IntRange(0), metavar="N", required=True, help="Which row, counted from 0.")
@option("--png", metavar="FILE", help="The run beside its twins (.png or .svg).")
@option("--force", is_flag=True, show_default=False, help="Replace the file of --png.")
@option("--no-best", is_flag=True, show_default=False, help="Leave out what the best action would have been.")
@option("--engine", type=click.Choice(["batch", "simpy"]), default="batch", help="Both give the same results.")
@option("--threads", type=click.IntRange(1, 100_000), metavar="N", help="Else one per core; no matter to the results.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def explain(
    source: str,
    row: int,
    png: str | None,
    force: bool,
    no_best: bool,
    engine: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Say why a run came out as it did.

    The run is played again beside its noop twin (the same, nobody acts), its fault-free twin, and the best action at
    its first decision. The event logs say which request was the first to fare differently.
    """
    from agent.commands.progress import Compiling
    from agent.commands.setup import Mistakes
    from agent.evaluation.explanation import explain as explained
    from agent.evaluation.pictures import draw_explanation, save
    from agent.evaluation.replay import replay_of

    mistakes = Mistakes()
    replay = None
    with mistakes.collect():
        replay = replay_of(source, row)
    check_picture("--png", png, force, mistakes)
    mistakes.report()
    assert replay is not None
    with Compiling(quiet=quiet):
        told = explained(replay, engine=engine, threads=threads, best=not no_best)
    if png is not None:
        save(draw_explanation(told), png)
    if as_json:
        click.echo(json.dumps(_object(told), indent=2, allow_nan=False))
        return 0
    run = told.played.episodes.runs[0]
    click.echo(f"{replay.study.scenario.name}, seed {run.seed}, split {run.split}, run {run.run}")
    click.echo("\n".join(told.sentences()))
    if png is not None:
        click.echo(f"picture in {png}")
    return 0


def _object(told: "Explanation") -> dict[str, Any]:
    best = None
    if told.best is not None:
        of = told.best
        regret = {name: None if value != value else value for name, value in asdict(of.regret).items()}
        best = {"step": of.step, "taken": of.taken, "best": of.best, "gain": of.gain, "regret": regret}
    return {
        "run": told.played.row,
        "noop_twin": told.noop_row,
        "fault_free_twin": told.clear_row,
        "first_request_to_feel_the_fault": told.from_clear and asdict(told.from_clear),
        "first_request_to_feel_the_agent": told.from_noop and asdict(told.from_noop),
        "best_action": best,
        "sentences": told.sentences(),
    }
