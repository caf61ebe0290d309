"""``mendsim rca``: how well diagnosers find the cause, in recorded incidents and in simulated ones."""

__all__ = ["rca"]

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, Group, common_options, diagnoser_in, fault_options, option
from agent.commands.drawn import draw_into, force_option, png_option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.commands.setup import Mistakes
    from agent.evaluation.rca import Verdict

_HEADS = {"ac1": "AC@1", "ac3": "AC@3", "avg5": "Avg@5", "mrr": "MRR"}


@click.group(cls=Group, short_help="Judge diagnosers on recorded and simulated incidents.")
def rca() -> None:
    """Root cause analysis: judge diagnosers on incidents of real systems, or on simulated ones."""


@rca.command(cls=Command, short_help="On recorded incidents.")
@option("--data", required=True, metavar="KIND:PATH", help="Recorded incidents: nezha, petshop or table, and a folder.")
@option("--diagnoser", "diagnosers", metavar="NAMES", help="Joined by commas; else all of them.")
@option("--cases", "per_case", is_flag=True, show_default=False, help="A line for each case too.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Of the bootstrap intervals.")
@option("--out", metavar="FILE", help="A row per diagnoser and case: .csv or .parquet.")
@option("--force", is_flag=True, show_default=False, help="Replace a file that is there already.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def evaluate(**options: Any) -> None:
    """Judge diagnosers on recorded incidents, with the time of the fault given.

    AC@1, AC@3, Avg@5 and MRR are means over the cases, ties counted as random order; in brackets the 95 % bootstrap
    interval of AC@1.
    """
    import polars as pl

    from agent.commands.setup import Mistakes
    from agent.evaluation.realdata.sources import load_cases
    from simcore.telemetry.files import write_table

    mistakes = Mistakes()
    names = _names(options["diagnosers"], mistakes)
    check_file("--out", options["out"], options["force"], mistakes, (".csv", ".parquet"))
    cases = []
    with mistakes.collect():
        cases = load_cases(options["data"])
    mistakes.report()
    from agent.evaluation.rca import evaluate as run
    from agent.evaluation.rca import summarise

    verdicts = run(cases, names)
    rows = summarise(verdicts, seed=options["seed"])
    if options["out"] is not None:
        write_table(Path(options["out"]), pl.DataFrame([_plain(verdict) for verdict in verdicts]))
    if options["as_json"]:
        found: dict[str, Any] = {"data": options["data"], "cases": len(cases), "summary": rows}
        if options["per_case"]:
            found["verdicts"] = [_plain(verdict) for verdict in verdicts]
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    click.echo(f"{options['data']}: {len(cases)} cases, {len(cases[0].services)} services\n")
    width = max(len(name) for name in names) + 2
    click.echo(f"{'diagnoser':<{width}}" + "".join(f"{head:>8}" for head in _HEADS.values()) + "  AC@1 lies within")
    for row in sorted(rows, key=lambda row: -float(row["ac1"])):
        cells = "".join(f"{row[measure]:>8.2f}" for measure in _HEADS)
        click.echo(f"{row['diagnoser']:<{width}}{cells}  [{row['ac1_low']:.2f}, {row['ac1_high']:.2f}]")
    if options["per_case"]:
        _show_cases(verdicts)


@rca.command(cls=Command, short_help="On simulated incidents.")
@common_options()
@option("--episodes", type=click.IntRange(1), metavar="N", default=50, help="How many runs.")
@option("--split", type=click.Choice(["train", "calibrate", "tune", "test"]), default="test", help="Where seeds lie.")
@option("--round-size", type=click.IntRange(1), metavar="N", default=50, help="Runs in one batch.")
@option("--detector", metavar="NAME", help="When something is wrong; else the default detector.")
@option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from.")
@option("--diagnoser", "diagnosers", metavar="NAMES", help="Joined by commas; else all of them.")
@diagnoser_in()
@fault_options()
@option(
    "--truth",
    type=click.Choice(["injected", "trigger", "sustaining"]),
    default="injected",
    help="Held against: where the fault was put, or a cause found by ablation.",
)
@png_option("AC@1 by diagnoser and fault")
@force_option()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def simulate(**options: Any) -> None:
    """Judge diagnosers on simulated incidents, all on the same runs: AC@1 by fault, and what they cost.

    Nobody acts. Judged is the diagnosis in force 6 steps after the alarm; cost is CPU time as a share of that of the
    simulation with its detector.
    """
    from agent.commands.setup import Mistakes, build_study, learned_diagnoser

    mistakes = Mistakes()
    names = _names(options["diagnosers"], mistakes)
    unused = {"diagnoser": None, "diagnoser_in": None, "policy": None, "no_agent": False, "shadow": True}
    study = build_study(options | unused, mistakes)
    states: dict[str, dict[str, Any]] = {}
    with mistakes.collect():
        states = learned_diagnoser(options["diagnoser_in"], names)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert study is not None
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.panel import by_fault, consult

    quiet = options["quiet"]
    with Compiling(quiet=quiet), Progress(study.episodes, quiet=quiet) as progress:
        outcome = consult(
            study,
            names,
            engine=options["engine"],
            threads=options["threads"],
            states=states,
            truth=options["truth"],
            on_progress=progress.show,
        )
    table = by_fault(outcome.episodes)
    cost = {name: outcome.cpu_s[name] / max(outcome.simulation_cpu_s, 1e-9) for name in names}
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import accuracy_of

        draw_into(options["png"], accuracy_of(table, names), quiet=options["quiet"])
    if options["as_json"]:
        facts = {"scenario": study.scenario.name, "scenario_hash": study.scenario.digest, "seed": study.seed}
        facts["truth"] = options["truth"]
        found = {"ac1": table.to_dicts(), "cost": cost, "episodes": study.episodes, "split": study.split}
        click.echo(json.dumps(facts | found, indent=2, allow_nan=False))
        return
    click.echo(f"{study.scenario.name}: {study.episodes} runs, seed {study.seed}, split {study.split}; AC@1 by fault\n")
    if not table.height:
        click.echo("no run has a fault that raised an alarm or broke the SLO")
        return
    width = max(len(fault) for fault in table["fault"]) + 2
    column = max(len(name) for name in names) + 2
    click.echo(f"{'':<{width}}{'runs':>6}" + "".join(f"{name:>{column}}" for name in names))
    for row in table.iter_rows(named=True):
        cells = "".join(f"{row[name]:>{column}.2f}" for name in names)
        click.echo(f"{row['fault']:<{width}}{row['runs']:>6}{cells}")
    click.echo(f"{'cost':<{width}}{'':>6}" + "".join(f"{cost[name]:>{column}.1%}" for name in names))


@rca.command(cls=Command, short_help="What traces and logs add to metrics.")
@common_options()
@option("--episodes", type=click.IntRange(1), metavar="N", default=50, help="How many runs.")
@option("--split", type=click.Choice(["train", "calibrate", "tune", "test"]), default="test", help="Where seeds lie.")
@option("--round-size", type=click.IntRange(1), metavar="N", default=50, help="Runs in one batch.")
@option("--detector", metavar="NAME", help="When something is wrong; else the default detector.")
@option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from.")
@diagnoser_in()
@option("--traces", type=click.FloatRange(0, 1), metavar="SHARE", default=0.1, help="Of the requests, sampled.")
@fault_options()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def sources(**options: Any) -> None:
    """Judge the diagnoser bayes_all by metrics alone, with traces, with logs, and with both, on the same runs.

    Nobody acts. Judged is the diagnosis in force 6 steps after the alarm. The gain over metrics alone is of pairs: the
    same run, the same alarm, the same scrapes.
    """
    import dataclasses

    from agent.commands.setup import Mistakes, build_study, learned_diagnoser

    mistakes = Mistakes()
    unused = {"diagnoser": None, "diagnoser_in": None, "policy": None, "no_agent": False, "shadow": True}
    study = build_study(options | unused, mistakes)
    state = None
    with mistakes.collect():
        state = learned_diagnoser(options["diagnoser_in"], ["bayes_all"]).get("bayes_all")
    mistakes.report()
    assert study is not None
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.evidence_sources import SETS, compare_sources, observing
    from agent.evaluation.panel import by_fault

    study = dataclasses.replace(study, scenario=observing(study.scenario, options["traces"], True))
    quiet = options["quiet"]
    with Compiling(quiet=quiet), Progress(study.episodes, quiet=quiet) as progress:
        rows, outcome = compare_sources(
            study, state=state, engine=options["engine"], threads=options["threads"], on_progress=progress.show
        )
    faults = by_fault(outcome.episodes).to_dicts()
    if options["as_json"]:
        facts = {"scenario": study.scenario.name, "seed": study.seed, "split": study.split, "traces": options["traces"]}
        found = {"sources": [dataclasses.asdict(row) for row in rows], "ac1": faults}
        click.echo(json.dumps(facts | found, indent=2, allow_nan=False))
        return
    click.echo(f"{study.scenario.name}: {study.episodes} runs, seed {study.seed}, {options['traces']:.0%} traced\n")
    if not rows:
        click.echo("no run has a fault that raised an alarm or broke the SLO")
        return
    click.echo(f"{'evidence':<22}{'runs':>5}{'AC@1':>6}  {'within':<14}{'gain':>6}  {'within':<16}{'+':>3}{'-':>4}")
    for row in rows:
        within, gained = f"[{row.low:.2f}, {row.high:.2f}]", f"[{row.gain_low:+.2f}, {row.gain_high:+.2f}]"
        gain = f"{row.gain:>+6.2f}  {gained:<16}{row.better:>3}{row.worse:>4}" if row.sources != "metrics" else ""
        click.echo(f"{row.sources:<22}{row.runs:>5}{row.ac1:>6.2f}  {within:<14}{gain}".rstrip())
    heads = ("metrics", "+traces", "+logs", "+both")
    width = max(len(str(row["fault"])) for row in faults) + 2
    click.echo(f"\n{'':<{width}}{'runs':>6}" + "".join(f"{head:>9}" for head in heads))
    for fault in faults:
        cells = "".join(f"{fault[name]:>9.2f}" for name in SETS)
        click.echo(f"{fault['fault']:<{width}}{fault['runs']:>6}{cells}")


def _names(given: str | None, mistakes: "Mistakes") -> list[str]:
    from agent.registry import DIAGNOSERS
    from simcore.errors import suggest

    names = list(DIAGNOSERS) if given is None else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in DIAGNOSERS:
            known = ", ".join(DIAGNOSERS)
            mistakes.lines.append(f"--diagnoser must be one of {known}, got '{name}'{suggest(name, DIAGNOSERS)}")
    if len(set(names)) < len(names):
        mistakes.lines.append(f"--diagnoser names something twice: {', '.join(names)}")
    return names


def _plain(verdict: "Verdict") -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(verdict)


def _show_cases(verdicts: "Sequence[Verdict]") -> None:
    width = max(len(verdict.case) for verdict in verdicts) + 2
    for name in dict.fromkeys(verdict.diagnoser for verdict in verdicts):
        click.echo(f"\n{name}")
        for verdict in verdicts:
            if verdict.diagnoser == name:
                right = "right" if verdict.ac1 == 1 else f"AC@1 {verdict.ac1:.2f}, Avg@5 {verdict.avg5:.2f}"
                click.echo(f"  {verdict.case:<{width}}{verdict.truth}: {right}; {verdict.why}")
