"""``mendsim abstain``: harm against coverage, as a policy decides alone only when the diagnosis is certain enough."""

__all__ = ["abstain"]

import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, contest_options, fault_options, option
from agent.commands.drawn import draw_into, force_option, png_option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    import polars as pl

    from agent.evaluation.study import Study
    from agent.evaluation.wrapped import Cautious


@click.command(cls=Command, short_help="Harm against coverage, as a policy decides alone only when it is sure.")
@common_options()
@option("--policy", metavar="NAME", help="What decides; else the default policy.")
@option("--thresholds", metavar="A,B", default="0,0.3,0.5,0.7,0.9,1.01", help="Least confidence of the diagnosis.")
@option("--margin", type=click.FloatRange(0.0, 1.0), metavar="X", default=0.01, help="Harmed: J so far below noop's.")
@contest_options()
@fault_options()
@png_option("Harm against coverage")
@force_option()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def abstain(**options: Any) -> int:
    """Show what it costs and saves to leave unsure decisions to a human.

    Below the threshold the policy escalates, or waits where the scenario has nobody to call. Coverage is the share of
    the decisions that it took itself.
    """
    from agent.commands.setup import Mistakes, build_study, states_of

    mistakes = Mistakes()
    if options["policy"] and "," in options["policy"]:
        mistakes.lines.append(f"--policy takes one name here, got {options['policy']}")
    thresholds = _thresholds(options["thresholds"], mistakes)
    study = build_study(options | {"no_agent": False, "shadow": False, "freeze": True}, mistakes)
    states = {} if study is None else states_of(options["policy_in"], study.policies, mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert study is not None

    episodes, coverage, interrupted = _played(study, states, thresholds, options)
    if interrupted and not options["quiet"]:
        click.echo(f"interrupted after {episodes.height} finished runs", err=True)
    if episodes.height:
        _tell(study, episodes, coverage, options)
    return int(interrupted)


def _thresholds(text: str, mistakes: Any) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        mistakes.lines.append(f"--thresholds must be numbers joined by commas, got '{text}'")
        return []
    if len(set(found)) < len(found) or not all(0.0 <= value <= 2.0 for value in found):
        mistakes.lines.append(f"--thresholds must be different numbers from 0 to 2, got '{text}'")
    return found


def _played(
    study: "Study", states: dict[str, list[dict[str, Any]]], thresholds: list[float], options: dict[str, Any]
) -> "tuple[pl.DataFrame, dict[str, float | None], bool]":
    """Return the episodes, the coverage by label, and whether Ctrl-C came."""
    from dataclasses import replace

    from agent.commands.training import with_trainings
    from agent.evaluation.contest import Contestant, Plan, contestants, hold
    from agent.evaluation.wrapped import Cautious
    from agent.loop import Agent

    plan = Plan(options["train_seeds"], options["train_episodes"], replays=False)
    own: dict[str, list[Cautious]] = {}
    with with_trainings(study, plan, states, options, rounds=len(thresholds) + 1) as (detector, tell):
        players = contestants(replace(study, policies=("noop",)), detector, {})
        for threshold in thresholds:
            for player in contestants(study, detector, states):
                policy = Cautious(player.agent.policy, threshold)
                own.setdefault(f"{threshold:g}", []).append(policy)
                agent = Agent(detector, study.new_diagnoser(), policy)
                players.append(
                    Contestant(f"{threshold:g}", agent, study.detector, study.diagnoser, player.training, player.state)
                )
        outcome = hold(
            study, players, replays=False, engine=options["engine"], threads=options["threads"], on_progress=tell
        )
    return outcome.episodes, {label: _coverage(policies) for label, policies in own.items()}, outcome.interrupted


def _coverage(policies: "list[Cautious]") -> float | None:
    decisions = sum(policy.decisions for policy in policies)
    return sum(policy.covered for policy in policies) / decisions if decisions else None


def _tell(study: "Study", episodes: "pl.DataFrame", coverage: dict[str, float | None], options: dict[str, Any]) -> None:
    from agent.evaluation.compare import PRIMARY_MEASURE, SECONDARY, Comparison, compare
    from agent.evaluation.render import cell, cell_between, grid

    measures = (PRIMARY_MEASURE, *(measure for measure in SECONDARY if measure.name in ("harmed", "recovered")))
    table = compare(Comparison(episodes, seed=study.seed, margin=options["margin"]), measures=measures)
    levels: dict[str, dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        level = levels.setdefault(row["policy"], {"threshold": row["policy"], "coverage": coverage.get(row["policy"])})
        level |= {
            row["measure"]: row["value"],
            f"{row['measure']}_low": row["low"],
            f"{row['measure']}_high": row["high"],
        }
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import caution_of

        draw_into(options["png"], caution_of(levels.values()), quiet=options["quiet"])
    if options["as_json"]:
        what = {"scenario": study.scenario.name, "seed": study.seed, "split": study.split, "policy": study.policies[0]}
        click.echo(json.dumps(what | {"levels": list(levels.values())}, indent=2, allow_nan=False))
        return
    rows = [
        [
            name, cell(level["coverage"], 2),
            *(
                f"{cell(level[m.name], 3)} {cell_between(level[f'{m.name}_low'], level[f'{m.name}_high'], 3)}"
                for m in measures
            ),
        ]
        for name, level in levels.items()
    ]  # fmt: skip
    heads = ["threshold", "coverage", *(measure.name for measure in measures)]
    title = f"{study.scenario.name}: {study.policies[0]} decides alone from this confidence on; seed {study.seed}"
    click.echo(f"{title}, split {study.split}\n\n{grid(heads, rows)}")
