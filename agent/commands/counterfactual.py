"""``mendsim counterfactual``: what every other action would have led to."""

__all__ = ["counterfactual"]

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, option

if TYPE_CHECKING:
    from agent.evaluation.counterfactual import Case, Question
    from agent.evaluation.study import Study
    from simcore.telemetry.writers import ResultsWriter


@click.command(cls=Command, short_help="What every other action would have led to.")
@common_options()
@option("--at", metavar="EDGE|alarm", default="alarm", help="Control step at whose edge everything is tried.")
@option("--run", "number", type=click.IntRange(0), metavar="N", default=0, help="The first run.")
@option("--episodes", type=click.IntRange(1), metavar="N", default=1, help="How many runs.")
@option("--horizon", type=int, metavar="STEPS", default=60, help="Steps over which an action is judged.")
@option("--futures", type=int, metavar="K", default=8, help="Re-keyed futures; 0: the run's own alone.")
@option("--then", metavar="WHAT", default="release", help="What follows: release, noop, agent or a policy.")
@option("--margin", type=float, metavar="J", default=0.01, help="Below noop by more is harm.")
@option("--causes", is_flag=True, show_default=False, help="Also trigger, sustaining cause and spread, by ablation.")
@agent_options("What the agent does, whose regret is asked for.")
@fault_options()
@option("--split", type=click.Choice(["train", "calibrate", "tune", "test"]), default="test", help="Where seeds lie.")
@option("--round-size", type=click.IntRange(1), metavar="N", default=25, help="Runs side by side.")
@option("--out", metavar="FILE", help="Every fork as a row, .csv or .parquet.")
@option("--force", is_flag=True, show_default=False, help="Replace the file of --out.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def counterfactual(**options: Any) -> int:
    """Try every legal action at one edge of a run, each on a fork that then goes on, and compare what comes of it.

    What follows the action: release (nothing more, but a limit on the traffic is lifted once the SLO holds), noop
    (nothing at all), agent (the agent itself), or a policy by name in the agent's place.
    """
    from agent.commands.setup import Mistakes, build_study, check_taught, learned_states

    mistakes = Mistakes()
    study = build_study(options, mistakes)
    learned: dict[str, dict[str, Any]] = {}
    if study is not None:
        if len(study.policies) > 1:
            mistakes.lines.append("--policy takes one name here; eval compares several")
        with mistakes.collect():
            learned = learned_states(options["policy_in"], (*study.policies, options["then"]))
        check_taught(study.policies, learned, mistakes)
    question = _question(options, learned, mistakes)
    if question is not None:
        with mistakes.collect():
            question.check(study)
    mistakes.report()
    assert study is not None
    assert question is not None

    from simcore.telemetry.writers import ResultsWriter, describe

    writer = None
    if options["out"] is not None:
        asked = {name: getattr(question, name) for name in ("at", "horizon", "futures", "then", "margin")}
        metadata = describe(study.scenario, seed=study.seed, arguments=study.arguments() | {"question": asked})
        writer = ResultsWriter(options["out"], metadata=metadata, force=options["force"], table="counterfactuals")
    cases, stopped = _tried(study, question, options, learned, writer)
    return _report(study, question, cases, stopped, options)


def _question(options: dict[str, Any], learned: dict[str, dict[str, Any]], mistakes: Any) -> "Question | None":
    from agent.evaluation.counterfactual import Question

    text = str(options["at"]).strip().lower()
    at: int | None = None
    if text != "alarm":
        try:
            at = int(text)
        except ValueError:
            mistakes.lines.append(f"--at must be a step number or alarm, got '{options['at']}'")
            return None
    after = options["then"]
    how = {name: options[name] for name in ("horizon", "futures", "margin", "causes")}
    return Question(at, then=after, then_state=learned.get(after), **how)


def _tried(
    study: "Study",
    question: "Question",
    options: dict[str, Any],
    learned: dict[str, dict[str, Any]],
    writer: "ResultsWriter | None",
) -> tuple[list["Case"], bool]:
    """Return the cases, and whether Ctrl-C came in between; what is finished is kept."""
    from agent.commands.progress import Compiling
    from agent.evaluation.counterfactual import examine, table_of
    from agent.evaluation.training import trained_detector
    from agent.registry import make_policy

    engine, threads = options["engine"], options["threads"]
    cases: list[Case] = []
    with Compiling(quiet=options["quiet"]), writer or contextlib.nullcontext():
        try:
            policy = detector = None
            if study.policies:
                policy = make_policy(study.policies[0])
                if policy.name in learned:
                    policy.load(learned[policy.name])
                policy.freeze()
                detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
            name = policy.name if policy is not None else None
            for case in examine(
                study, question, first=options["number"], policy=policy, detector=detector, engine=engine,
                threads=threads,
            ):  # fmt: skip
                if writer is not None:
                    writer.write({"counterfactuals": table_of([case], policy=name, then=question.then)})
                cases.append(case)
        except KeyboardInterrupt:
            if writer is not None:
                writer.close({"complete": False, "stopped_by": "Ctrl-C"})
            return cases, True
    return cases, False


def _report(study: "Study", question: "Question", cases: list["Case"], stopped: bool, options: dict[str, Any]) -> int:
    from agent.evaluation.foresight import case_object, case_text, summary_object, summary_text

    if stopped and not options["quiet"]:
        click.echo(f"interrupted after {len(cases)} finished runs", err=True)
    if options["as_json"]:
        found = {
            "scenario": study.scenario.name,
            "scenario_hash": study.scenario.digest,
            "seed": study.seed,
            "split": study.split,
            "summary": summary_object(cases),
            "runs": [case_object(case, question.then) for case in cases],
            "interrupted": stopped,
        }
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return 1 if stopped else 0
    if study.episodes == 1 and cases:
        faults = ", ".join(fault.type for fault in cases[0].run.faults) or "none"
        click.echo(f"{study.scenario.name}, seed {study.seed}, split {study.split}, fault: {faults}")
        click.echo(case_text(cases[0], question.then))
    elif cases:
        click.echo(summary_text(cases, study.episodes))
    elif not stopped:
        where = "no alarm is raised in it" if study.episodes == 1 else "no alarm is raised in any of them"
        click.echo(f"nothing to try: {where} (name an edge with --at)")
    if options["out"] is not None:
        click.echo(f"results in {options['out']}")
    return 1 if stopped else 0
