"""``mendsim run``: one episode, or the exact replay of a row of results."""

__all__ = ["check_source", "replay_from", "report_differences", "run"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from agent.evaluation.replay import Replay

#: Options that a stored row answers.
_STORED = (
    "scenario", "steps", "seed", "number", "detector", "detector_seed", "diagnoser", "diagnoser_in", "policy",
    "policy_in", "no_agent", "shadow", "mix", "fault", "onset", "duration", "severity", "profile", "place",
)  # fmt: skip


@click.command(cls=Command, short_help="One episode, or the replay of a row of results.")
@common_options()
@option("--run", "number", type=click.IntRange(0), metavar="N", default=0, help="Which run of the seed.")
@agent_options("What to do.")
@fault_options()
@option("--render", is_flag=True, show_default=False, help="The episode as a timeline, then an incident report.")
@option("--from", "source", metavar="RESULTS", help="Replay a row of these results.")
@option("--row", type=click.IntRange(0), metavar="N", help="Which row, counted from 0.")
@option("--events", metavar="FILE", help="Write the event log, .csv or .parquet.")
@option("--plot", "--png", "plot", metavar="FILE", help="The episode as a picture (.png or .svg).")
@option("--force", is_flag=True, show_default=False, help="Replace the files of --events and --plot.")
@option("--json", "as_json", is_flag=True, show_default=False, help="The row of the episodes table as JSON.")
def run(**options: Any) -> int:
    """Run one episode and show what happened.

    With --from and --row the row's own scenario, seed, faults, agent and learned state are used.
    """
    from agent.commands.progress import Compiling
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    check_source(options, mistakes)
    check_file("--events", options["events"], options["force"], mistakes, (".csv", ".parquet"))
    check_picture("--plot", options["plot"], options["force"], mistakes)
    if options["as_json"] and options["render"]:
        mistakes.lines.append("--json and --render exclude each other")
    replay = replay_from(options, mistakes)
    mistakes.report()
    assert replay is not None

    from agent.commands.warm import helper_for
    from agent.evaluation.replay import play_replay
    from simcore.telemetry.files import write_table
    from simcore.telemetry.tables import events

    with Compiling(quiet=options["quiet"], helper=helper_for(replay.study, options["engine"])):
        played = play_replay(
            replay, engine=options["engine"], threads=options["threads"], log=options["events"] is not None
        )
    if options["events"] is not None:
        write_table(Path(options["events"]), events(replay.run, played.episodes.session.events(0)))
    if options["plot"] is not None:
        from agent.evaluation.episode_picture import draw_episode
        from agent.evaluation.pictures import save

        save(draw_episode(played), options["plot"])
    if options["as_json"]:
        import json

        click.echo(json.dumps(played.row, indent=2, allow_nan=False))
    else:
        click.echo(played.timeline if options["render"] else played.report)
    return report_differences(played.differences, options)


def check_source(options: dict[str, Any], mistakes: Any) -> None:
    """Note what does not go together of the options that say which run is meant."""
    source = click.core.ParameterSource.DEFAULT
    if (options["source"] is None) != (options["row"] is None):
        mistakes.lines.append("--from RESULTS and --row N belong together")
    elif options["source"] is not None:
        context = click.get_current_context()
        given = [name for name in _STORED if context.get_parameter_source(name) != source]
        if given:
            names = ", ".join("--" + {"number": "run"}.get(name, name).replace("_", "-") for name in given)
            mistakes.lines.append(f"--from replays a row as it was; it leaves no room for {names}")
    if options["policy"] and "," in options["policy"]:
        mistakes.lines.append("--policy takes one name here; eval compares several")


def replay_from(options: dict[str, Any], mistakes: Any) -> "Replay | None":
    """Return the episode that the options describe; None if the mistakes noted make that impossible."""
    from agent.commands.setup import build_study, check_taught, learned_states
    from agent.evaluation.replay import Replay, replay_of

    if options["source"] is not None and options["row"] is not None:
        with mistakes.collect():
            return replay_of(options["source"], options["row"])
        return None
    study = build_study(options, mistakes)
    if study is None:
        return None
    with mistakes.collect():
        learned = learned_states(options["policy_in"], study.policies)
        check_taught(study.policies, learned, mistakes)
        name = study.policies[0] if study.policies else None
        return Replay(study=study, run=options["number"], policy=name, state=learned.get(name or ""))
    return None


def report_differences(differences: list[str] | None, options: dict[str, Any]) -> int:
    """Say whether a replay gave the row that was stored, and return the exit code."""
    if differences is None:
        return 0
    if not differences:
        if not options["quiet"]:
            click.echo(f"replayed row {options['row']}: every value is as stored", err=True)
        return 0
    for line in differences:
        click.echo(f"error: the replay differs: {line}", err=True)
    return 1
