"""``mendsim ope``: what a log says of policies that did not act, and how wrong that is."""

__all__ = ["ope"]

import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, contest_options, fault_options, option
from agent.commands.drawn import draw_into, force_option, png_option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    from agent.api import AgentTrace
    from agent.evaluation.offpolicy import Log
    from agent.evaluation.study import Study
    from simcore.env import Episodes

_LOGGED = "softened"


@click.command(cls=Command, short_help="What a log says of policies that did not act, and how wrong that is.")
@common_options()
@option("--policies", metavar="A,B", default="noop,threshold_rules,playbook", help="Those that are to be judged.")
@option("--behaviour", metavar="NAME", default="playbook", help="Who acted while the log was written.")
@option("--chance", type=click.FloatRange(0.01, 1.0), metavar="X", default=0.5, help="Share it left to chance.")
@contest_options()
@fault_options()
@png_option("Estimates less the truth")
@force_option()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def ope(**options: Any) -> int:
    """Estimate from the log of one policy what others are worth, and hold it against what they really get.

    The log holds the first decision of every run: up to there, all policies meet the same. The policy that wrote it
    leaves a share of its decisions to chance, so that every propensity is known and above 0. What is judged is the
    reward of that decision; the truth comes from letting the others decide on the same runs.
    """
    from agent.commands.setup import Mistakes, build_study, states_of

    mistakes = Mistakes()
    names = list(dict.fromkeys([*options["policies"].split(","), options["behaviour"]]))
    if "random" in names:
        mistakes.lines.append("--policies and --behaviour must be certain of their choices, which random is not")
    parts = {"policy": ",".join(names), "no_agent": False, "shadow": False, "freeze": True}
    study = build_study(options | parts, mistakes, policy_option="--policies or --behaviour")
    states = {} if study is None else states_of(options["policy_in"], study.policies, mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert study is not None

    logs, interrupted = _played(study, states, options)
    if interrupted:
        click.echo("interrupted: an audit needs all of its runs", err=True)
        return 1
    _tell(study, logs, options)
    return 0


def _played(
    study: "Study", states: dict[str, list[dict[str, Any]]], options: dict[str, Any]
) -> "tuple[dict[str, Log], bool]":
    """Return every policy's first decisions, the log's under a name of its own, and whether Ctrl-C came."""
    from agent.commands.training import with_trainings
    from agent.evaluation.contest import Contestant, Plan, contestants, hold
    from agent.evaluation.offpolicy import first_decisions, merged
    from agent.evaluation.wrapped import Softened
    from agent.loop import Agent

    found: dict[str, list[Log]] = {}

    def note(label: str, episodes: "Episodes", trace: "AgentTrace") -> None:
        found.setdefault(label, []).append(first_decisions(episodes, trace))

    # one training each: what is in question is the estimate, not the policy
    plan = Plan(1, options["train_episodes"], replays=False)
    with with_trainings(study, plan, states, options, rounds=len(study.policies) + 1) as (detector, tell):
        states = {name: given[:1] for name, given in states.items()}
        players = contestants(study, detector, states)
        writer = next(player for player in players if player.label == options["behaviour"])
        agent = Agent(detector, study.new_diagnoser(), Softened(writer.agent.policy, options["chance"]))
        players.append(Contestant(_LOGGED, agent, study.detector, study.diagnoser))
        outcome = hold(
            study, players, replays=False, engine=options["engine"], threads=options["threads"], on_progress=tell,
            on_round=note,
        )  # fmt: skip
    return {label: merged(parts) for label, parts in found.items()}, outcome.interrupted


def _tell(study: "Study", logs: "dict[str, Log]", options: dict[str, Any]) -> None:
    from agent.evaluation.offpolicy import ESTIMATORS, audit
    from agent.evaluation.render import cell, cell_between, grid

    wanted = [name.strip() for name in options["policies"].split(",")]
    rows = audit(logs[_LOGGED], {name: logs[name] for name in wanted}, seed=study.seed)
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import estimates_of

        draw_into(options["png"], estimates_of(rows), quiet=options["quiet"])
    if options["as_json"]:
        what = {"scenario": study.scenario.name, "seed": study.seed, "split": study.split}
        how = {"behaviour": options["behaviour"], "chance": options["chance"], "decisions": int(logs[_LOGGED].run.size)}
        click.echo(json.dumps(what | how | {"audit": rows}, indent=2, allow_nan=False))
        return
    cells = [
        [
            row["policy"], row["estimator"], str(row["runs"]), cell(row["ess"], 1), cell(row["weight"], 2),
            cell(row["truth"], 3), cell(row["estimate"], 3), cell_between(row["low"], row["high"], 3),
            cell(row["error"], 3), "yes" if row["covered"] else "no",
        ]
        for row in rows
    ]  # fmt: skip
    heads = [
        "policy", "estimator", "decisions", "ESS", "weight", "truth", "estimate", "95 % interval", "error",
        "holds truth",
    ]  # fmt: skip
    click.echo(
        f"{study.scenario.name}: seed {study.seed}, split {study.split}; log of {options['behaviour']} with"
        f" {options['chance']:.0%} left to chance; reward of the first decision\n\n{grid(heads, cells)}\n"
    )
    click.echo("\n".join(f"{name}: {about}" for name, about in ESTIMATORS.items()))
