"""``mendsim sensitivity``: which parameters the outcome depends on."""

__all__ = ["sensitivity"]

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes
    from agent.evaluation.sweep import Sweep
    from agent.evaluation.sweep.sensitivity import Sensitivity

_HEADS = {
    "sobol": [("alone", "alone"), ("total", "total")],
    "morris": [("size", "effect"), ("mean", "with sign"), ("spread", "spread")],
}
_ABOUT = {
    "sobol": "share of the variance that goes back to a parameter: alone, and together with others (Sobol); chance is "
    "what differs between runs with the same parameters",
    "morris": "change from one end of the range to the other, in units of the outcome (Morris): its size, its mean "
    "with sign, and how much it depends on the rest",
}


@click.command(cls=Command, short_help="Which parameters the outcome depends on.")
@common_options()
@option("--vary", multiple=True, metavar="KEY=SPEC", help="A parameter and its range a..b, or a list; repeatable.")
@option("--method", type=click.Choice(["sobol", "morris"]), default="sobol", help="Shares of variance, or effects.")
@option("--samples", type=click.IntRange(2, 65_536), metavar="N", help="Sobol: power of 2 [64]; Morris: paths [20].")
@option("--fault", metavar="TYPE@TARGET", help="What happens in every run; else drawn from the scenario.")
@option("--onset", metavar="TIME", help="Of the fault.")
@option("--duration", metavar="TIME", help="Of the fault; absent: until fixed.")
@option("--severity", type=float, metavar="X", help="Of the fault, above 0, up to 1.")
@option("--place", metavar="NAME", help="Where the fault lives; else its usual place.")
@option("--split", type=click.Choice(["tune", "test"]), default="test", help="Where the runs' seeds lie.")
@option("--policy", metavar="NAME", default="playbook", help="What acts.")
@option("--policy-in", metavar="FILE", help="What the policy has learned (JSON).")
@option("--no-agent", is_flag=True, show_default=False, help="Nobody acts.")
@option("--detector", metavar="NAME", help="When something is wrong; else the default detector.")
@option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from.")
@option("--diagnoser", metavar="NAME", help="Where it is; else the default diagnoser.")
@option("--out", metavar="FILE", help="Every run with its parameters, .csv or .parquet.")
@option("--png", metavar="FILE", help="The shares or effects as a picture, .png or .svg.")
@option("--force", is_flag=True, show_default=False, help="Replace the files of --out and --png.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def sensitivity(**options: Any) -> int:
    """Say which parameters the error budget spent and the time to mitigation depend on.

    All parameters vary at once over their ranges; keys are those of mendsim sweep. Sobol's shares add up to the
    variance, and chance, the number of the run, has its own; Morris' effects need fewer runs and have the outcome's
    unit. The detector is trained once, before anything varies.
    """
    from agent.commands.setup import Mistakes, check_taught, learned_states

    mistakes = Mistakes()
    size = options["samples"] or (64 if options["method"] == "sobol" else 20)
    check_file("--out", options["out"], options["force"], mistakes, (".csv", ".parquet"))
    check_picture("--png", options["png"], options["force"], mistakes)
    if options["method"] == "sobol" and (size < 4 or size & (size - 1)):
        mistakes.lines.append(f"--samples must be a power of 2, at least 4, with --method sobol, got {size}")
    study = _study(options, mistakes)
    states: dict[str, dict[str, Any]] = {}
    if study is not None and not options["no_agent"]:
        with mistakes.collect():
            states = learned_states(options["policy_in"], (options["policy"],))
        check_taught((options["policy"],), states, mistakes)
    if study is not None:
        _check_cells(study, options["method"], size, mistakes)
    mistakes.report()
    assert study is not None

    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.sweep import Crew, Worlds
    from agent.evaluation.sweep.sensitivity import analyse, planned_runs

    quiet, planned = options["quiet"], planned_runs(options["method"], len(study.axes), size)
    with Compiling(quiet=quiet), Progress(planned, quiet=quiet) as progress:
        found, runs = analyse(
            Worlds(study), Crew(study, states, options["threads"]), method=options["method"], size=size,
            on_progress=progress.show,
        )  # fmt: skip
    if options["out"] is not None and runs.height:
        from simcore.telemetry.files import write_table

        write_table(Path(options["out"]), runs)
    if found is None:
        if not quiet:
            click.echo(f"interrupted after {runs.height} of {planned} runs: there is no answer without all", err=True)
        return 1
    _show(study, found, options)
    return 0


def _study(options: dict[str, Any], mistakes: "Mistakes") -> "Sweep | None":
    """Return the study whose axes are the parameters; what is wrong is noted."""
    from agent.evaluation.sweep.spec import FaultEntry, StudySpec, build

    vary: dict[str, Any] = {}
    for text in options["vary"]:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            mistakes.lines.append(f"--vary must be KEY=SPEC such as load=0.8..1.2, got '{text}'")
        elif key in vary:
            mistakes.lines.append(f"--vary {key} is given twice")
        else:
            vary[key] = values
    if not options["vary"]:
        mistakes.lines.append("--vary KEY=SPEC is missing: which parameters?")
    details = {name: options[name] for name in ("onset", "duration", "severity", "place")}
    if options["fault"] is None:
        given = [name for name, value in details.items() if value is not None]
        mistakes.lines += [f"--{name} says how a fault is, but no --fault is given" for name in given]
    faults = [] if options["fault"] is None else [FaultEntry(fault=options["fault"], **details)]
    agent: dict[str, Any] = {name: options[name] for name in ("detector", "diagnoser") if options[name] is not None}
    if not options["no_agent"]:
        agent["policy"] = options["policy"]
    ranged = any(".." in str(values) for values in vary.values())
    design: dict[str, Any] = {"design": "lhs", "samples": 1} if ranged else {}
    if not vary:
        return None
    study, wrong = build(
        StudySpec(
            scenario=options["scenario"], steps=options["steps"], vary=vary, replications=1, seed=options["seed"],
            split=options["split"], faults=faults, detector_seed=options["detector_seed"], detector_from="base",
            no_agent=options["no_agent"], **agent, **design,
        )
    )  # fmt: skip
    for mistake in wrong:
        name = (
            " ".join(str(part) for part in mistake.path[:2]) if mistake.path[:1] == ("vary",) else str(mistake.path[0])
        )
        text = mistake.text.removeprefix(": ")
        mistakes.lines.append(text if name in ("faults", "scenario") else f"--{name}: {text}")
    return study


def _check_cells(study: "Sweep", method: str, size: int, mistakes: "Mistakes") -> None:
    """Note the rules that any point of the design breaks: a Latin hypercube of one point has not met them all."""
    from agent.evaluation.sweep import Worlds
    from agent.evaluation.sweep.sensitivity import design_of

    if mistakes.lines:
        return
    with mistakes.collect():
        _, cells = design_of(study.axes, method=method, size=size, seed=study.seed)
        mistakes.lines += [f"--vary: {line}" for line in Worlds(study).mistakes(cells)[:10]]


def _show(study: "Sweep", found: "Sensitivity", options: dict[str, Any]) -> None:
    from agent.evaluation.render import cell, cell_between, grid
    from agent.evaluation.sweep.sensitivity import sentence

    method, heads = found.method, _HEADS[found.method]
    outcomes = list(dict.fromkeys(row["outcome"] for row in found.rows))
    parts = {name: [row for row in found.rows if row["outcome"] == name] for name in outcomes}
    sentences = [sentence(rows, method) for rows in parts.values()]
    if options["png"] is not None and found.rows:
        from agent.evaluation.pictures import save
        from agent.evaluation.sweep.drawing import draw_sensitivity

        save(draw_sensitivity(found, f"{study.scenario.name}: {found.runs} runs, seed {study.seed}"), options["png"])
    if options["as_json"]:
        what = {"scenario": study.scenario.name, "scenario_hash": study.scenario.digest, "seed": study.seed}
        what |= {"split": study.split, "method": method, "runs": found.runs}
        axes = [axis.plain() for axis in study.axes]
        click.echo(
            json.dumps(what | {"axes": axes, "rows": found.rows, "sentences": sentences}, indent=2, allow_nan=False)
        )
        return
    click.echo(f"{study.scenario.name}: {found.runs} runs, seed {study.seed}, split {study.split}\n{_ABOUT[method]}")
    for name, rows in parts.items():
        titles = [name, *(title for _, head in heads for title in (head, "95 % interval"))]
        lines = []
        for row in sorted(rows, key=lambda row: -(row[heads[-1 if method == "sobol" else 0][0]] or 0.0)):
            numbers = [
                text
                for column, _ in heads
                for text in (cell(row[column], 2), cell_between(row[f"{column}_low"], row[f"{column}_high"], 2))
            ]
            lines.append([row["parameter"], *numbers])
        click.echo(f"\n{grid(titles, lines)}")
    click.echo("\n" + "\n".join(sentences))
