"""``mendsim compare``: policies against one another on the same runs, with everything that a claim needs."""

__all__ = ["compare"]

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, contest_options, fault_options, given_command, option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    from agent.evaluation.compare import Comparison
    from agent.evaluation.contest import Plan
    from agent.evaluation.study import Outcome, Study
    from simcore.telemetry.writers import ResultsWriter

#: What is compared if nothing is named; noop always is.
_POLICIES = "noop,random,threshold_rules,playbook,bandit"

#: Options that say how it is run or where to it goes, not what it is.
_OUTSIDE = ("out", "png", "force", "quiet", "as_json", "threads", "engine")


@click.command(cls=Command, short_help="Policies on the same runs: what is shown, and what is not.")
@common_options()
@option("--policies", metavar="A,B", default=_POLICIES, help="Who takes part; noop always does.")
@option("--against", metavar="NAME", default="noop", help="Who the others are compared with.")
@option("--margin", type=click.FloatRange(0.0, 1.0), metavar="X", default=0.01, help="Harmed: J so far below noop's.")
@option("--unseen", is_flag=True, show_default=False, help="Train without each type of fault too; test on it.")
@option("--no-replays", is_flag=True, show_default=False, help="Leave out whether recovery is durable; saves time.")
@option("--regret", type=click.IntRange(0), metavar="RUNS", default=0, help="Judge decisions on forks in so many runs.")
@option("--out", metavar="FILE|FOLDER", help="Results: .csv or .parquet (a row per run), or a folder with all tables.")
@option("--png", metavar="FILE", help="Curves of recovery, and differences with intervals (.png or .svg).")
@option("--force", is_flag=True, show_default=False, help="Replace results that are there already.")
@contest_options()
@fault_options()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def compare(**options: Any) -> int:
    """Compare policies, frozen, on the same test runs.

    The primary measure is the error budget spent; the others are tested together (Holm). Policies that learn are
    trained several times on runs of the split train, and every interval covers trainings and runs.

    With --regret every decision in the first runs is held against the best action, on forks with unknown futures. A
    run of that costs about as much as one of the policy oracle_fair. If an oracle takes part, the share of the gap
    between noop and it that every policy closes is told.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    study, states = _study(options, mistakes)
    mistakes.report()
    assert study is not None

    from agent.evaluation.contest import Plan
    from simcore.telemetry.writers import ResultsWriter, describe

    plan = Plan(options["train_seeds"], options["train_episodes"], replays=not options["no_replays"])
    metadata = describe(study.scenario, seed=study.seed, arguments=study.arguments())
    metadata["command"] = given_command(_OUTSIDE)
    writer = None
    if options["out"] is not None:
        writer = ResultsWriter(options["out"], metadata=metadata, force=options["force"])
    with writer or contextlib.nullcontext():
        outcome, detector = _played(study, plan, states, options, writer)
        found = _found(study, outcome, options) if outcome.episodes.height else None
        if writer is not None:
            ended = {"complete": False, "stopped_by": "Ctrl-C"} if outcome.interrupted else {}
            compared = {} if found is None else {"compared": found[1]}
            writer.close({**ended, "policy_states": outcome.states, "detector_state": detector, **compared})
    if outcome.interrupted and not options["quiet"]:
        click.echo(f"interrupted after {outcome.episodes.height} finished runs", err=True)
    if found is not None:
        _tell(study, plan, found, options, writer)
    return int(outcome.interrupted)


def _study(options: dict[str, Any], mistakes: Any) -> "tuple[Study | None, dict[str, list[dict[str, Any]]]]":
    """Return the study and the states given, noting what is wrong."""
    from agent.commands.setup import build_study, states_of

    names = [name.strip() for name in options["policies"].split(",")]
    if "noop" not in names:
        names.insert(0, "noop")
    if options["against"] not in names:
        mistakes.lines.append(f"--against must be one of {', '.join(names)}, got '{options['against']}'")
    parts = {"policy": ",".join(names), "no_agent": False, "shadow": False, "freeze": True, "twins": True}
    study = build_study(options | parts, mistakes, policy_option="--policies")
    states = {} if study is None else states_of(options["policy_in"], study.policies, mistakes)
    if options["unseen"] and study is not None:
        _check_unseen(study, states, mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    return study, states


def _check_unseen(study: "Study", states: dict[str, list[dict[str, Any]]], mistakes: Any) -> None:
    """Note why no type of fault can be left out."""
    from agent.evaluation.taught import learns
    from agent.evaluation.unseen import unseen_types

    if study.faults is not None:
        mistakes.lines.append("--unseen leaves types of fault out of the mix, but --fault sets the faults")
    elif not unseen_types(study.scenario):
        mistakes.lines.append(f"--unseen needs two types of fault in the mix of scenario {study.scenario.name}")
    if not any(learns(name) and name not in states for name in study.policies):
        mistakes.lines.append("--unseen needs a policy that is trained here; none of those named is")


def _played(
    study: "Study",
    plan: "Plan",
    states: dict[str, list[dict[str, Any]]],
    options: dict[str, Any],
    writer: "ResultsWriter | None",
) -> "tuple[Outcome, dict[str, Any]]":
    """Train who learns, then let everybody play; return what came out, and the detector's state."""
    from agent.commands.training import with_trainings
    from agent.evaluation.contest import contestants, hold
    from agent.evaluation.unseen import unseen_contestants

    unseen: dict[str, list[dict[str, Any]]] | None = {} if options["unseen"] else None
    with with_trainings(study, plan, states, options, unseen=unseen) as (detector, tell):
        players = contestants(study, detector, states)
        for name, given in (unseen or {}).items():
            players += unseen_contestants(study, name, detector, given)
        outcome = hold(
            study, players, replays=plan.replays, judged=options["regret"], margin=options["margin"],
            engine=options["engine"], threads=options["threads"], writer=writer, on_progress=tell,
        )  # fmt: skip
    return outcome, detector.state()


def _found(study: "Study", outcome: "Outcome", options: dict[str, Any]) -> "tuple[Comparison, dict[str, Any]]":
    from agent.evaluation.compare import PER_DECISION, PRIMARY, PRIMARY_MEASURE, SECONDARY, Comparison
    from agent.evaluation.compare import compare as compared
    from agent.evaluation.gap import gaps
    from agent.evaluation.report import by_fault, controls

    how: dict[str, Any] = {"seed": study.seed, "margin": options["margin"]}
    runs = Comparison(outcome.episodes, **how)
    measures = (PRIMARY_MEASURE, *SECONDARY, *(PER_DECISION if options["regret"] else ()))
    table = compared(runs, against=options["against"], measures=measures)
    return runs, {
        "primary": PRIMARY,
        "measures": table.to_dicts(),
        "by_fault": by_fault(outcome.episodes, against=options["against"], **how).to_dicts(),
        "controls": controls(runs),
        "gap_closed": gaps(runs),
    }


def _tell(
    study: "Study",
    plan: "Plan",
    found: "tuple[Comparison, dict[str, Any]]",
    options: dict[str, Any],
    writer: "ResultsWriter | None",
) -> None:
    import polars as pl

    from agent.evaluation.pictures import draw_comparison, save
    from agent.evaluation.report import report

    runs, compared = found
    table = pl.DataFrame(compared["measures"], infer_schema_length=None)
    title = f"{study.scenario.name}: seed {study.seed}, split {study.split}{study.drawn}, policies frozen"
    if options["png"] is not None:
        save(draw_comparison(runs, table, title), options["png"])
    if options["as_json"]:
        what = {"scenario": study.scenario.name, "scenario_hash": study.scenario.digest, "seed": study.seed}
        mode = {"split": study.split, "mix": study.mix, "runs": runs.runs, "at_risk": int(runs.at_risk.sum())}
        click.echo(json.dumps(what | mode | compared, indent=2, allow_nan=False))
        return
    faults = pl.DataFrame(compared["by_fault"], infer_schema_length=None)
    click.echo(f"{title}\n")
    click.echo(report(runs, table, faults, compared["controls"], compared["gap_closed"]))
    for name, path in (("results", writer.target if writer else None), ("picture", options["png"])):
        if path is not None:
            click.echo(f"{name} in {path}")
