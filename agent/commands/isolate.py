"""``mendsim isolate``: which stage of an agent loses the error budget."""

__all__ = ["isolate"]

import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, contest_options, fault_options, option
from agent.commands.drawn import draw_into, force_option, png_option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    from agent.evaluation.compare import Comparison
    from agent.evaluation.study import Study


@click.command(cls=Command, short_help="Which stage of an agent loses the error budget.")
@common_options()
@option("--policy", metavar="NAME", help="What decides; else the default policy.")
@contest_options()
@fault_options()
@png_option("What each stage loses")
@force_option()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def isolate(**options: Any) -> int:
    """Say which stage of an agent loses the error budget.

    Detection, diagnosis and decision are exchanged for ones that know the truth, alone and together, on the same
    runs. What each loses is its Shapley value, so the stages add up to what the agent loses against one that knows
    everything.
    """
    from agent.commands.setup import Mistakes, build_study, states_of

    mistakes = Mistakes()
    if options["policy"] and "," in options["policy"]:
        mistakes.lines.append(f"--policy takes one name here, got {options['policy']}")
    parts = {"no_agent": False, "shadow": False, "freeze": True, "twins": True}
    study = build_study(options | parts, mistakes)
    states = {} if study is None else states_of(options["policy_in"], study.policies, mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert study is not None

    from agent.commands.training import with_trainings
    from agent.evaluation.contest import Plan, hold
    from agent.evaluation.isolation import variants

    plan = Plan(options["train_seeds"], options["train_episodes"], replays=False)
    with with_trainings(study, plan, states, options, rounds=7) as (detector, tell):
        outcome = hold(
            study, variants(study, detector, states), replays=False, engine=options["engine"],
            threads=options["threads"], on_progress=tell,
        )  # fmt: skip
    if outcome.interrupted and not options["quiet"]:
        click.echo(f"interrupted after {outcome.episodes.height} finished runs", err=True)
    if outcome.episodes.height:
        _tell(study, outcome.episodes, options)
    return int(outcome.interrupted)


def _tell(study: "Study", episodes: Any, options: dict[str, Any]) -> None:
    from agent.evaluation.compare import Comparison, compare
    from agent.evaluation.isolation import attribute

    runs = Comparison(episodes, seed=study.seed)
    rows, levels = attribute(runs), compare(runs, against="agent").to_dicts()
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import stages_of

        draw_into(options["png"], stages_of(rows), quiet=options["quiet"])
    if options["as_json"]:
        what = {"scenario": study.scenario.name, "seed": study.seed, "split": study.split, "runs": runs.runs}
        click.echo(json.dumps(what | {"stages": rows, "levels": levels}, indent=2, allow_nan=False))
        return
    click.echo(_text(study, runs, rows, levels))


def _text(study: "Study", runs: "Comparison", rows: list[dict[str, Any]], levels: list[dict[str, Any]]) -> str:
    from agent.evaluation.render import cell, cell_between, grid

    parts = f"{study.detector}, {study.diagnoser}, {study.policies[0]}"
    stages = [
        [
            row["stage"], cell(row["lost"], 3), cell_between(row["low"], row["high"], 3),
            "-" if row["share"] is None else f"{row['share']:.0%}", cell(row["alone"], 3),
            cell_between(row["alone_low"], row["alone_high"], 3),
        ]
        for row in rows
    ]  # fmt: skip
    spent = [
        [
            row["policy"], cell(row["value"], 3), cell_between(row["low"], row["high"], 3), cell(row["difference"], 3),
            cell_between(row["difference_low"], row["difference_high"], 3),
        ]
        for row in levels
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"{study.scenario.name}: {runs.runs} runs, seed {study.seed}, split {study.split}; {parts}",
            "error budget lost by stage: by Shapley value, and saved if it alone knew the truth\n"
            + grid(["stage", "lost", "95 % interval", "share", "alone", "95 % interval"], stages),
            "error budget spent by who knows what\n"
            + grid(["", "mean", "95 % interval", "less agent", "95 % interval"], spent),
        ]
    )
