"""``mendsim sweep``: a study over a grid or a sample of whatever can vary, into tables that can be gone on with."""

__all__ = ["sweep"]

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, given_command, option
from agent.commands.study_options import asked

if TYPE_CHECKING:
    from agent.evaluation.sweep.conduct import Conducted
    from agent.evaluation.sweep.crew import Crew
    from agent.evaluation.sweep.spec import StudySpec
    from agent.evaluation.sweep.storage import StudyFolder
    from agent.evaluation.sweep.sweep import Sweep
    from agent.evaluation.sweep.worlds import Worlds

#: Options that say how a study is run, not what it is.
_OUTSIDE = ("resume", "force", "quiet", "as_json", "threads", "engine", "dry_run")


@click.command(cls=Command, short_help="A study: what happens over a grid or sample of anything.")
@common_options()
@option("--vary", multiple=True, metavar="KEY=SPEC", help="What varies: a:b:c, x,y,z or a..b[:log]; repeatable.")
@option("--design", type=click.Choice(["grid", "lhs"]), default="grid", help="Every combination, or a Latin hypercube.")
@option("--samples", type=click.IntRange(1), metavar="N", help="Points of the ranges a..b, with --design lhs.")
@option("--replications", type=click.IntRange(1), metavar="N", default=10, help="Runs of a cell, the same in each.")
@option("--refine", metavar="MEASURE", help="More runs where this flips, until all is known: lost, overspent, ...")
@option("--width", type=float, metavar="W", help="--refine: half an interval that is narrow enough [0.1].")
@option("--level", type=float, metavar="L", help="--refine: cells on one side of it are done [0.5 of a share].")
@option("--budget", type=click.IntRange(1), metavar="N", help="--refine: runs at most.")
@option("--depth", type=click.IntRange(0, 8), metavar="N", help="--refine: halve distances so often at the boundary.")
@option("--study", metavar="FILE", help="All of this from a study file (YAML).")
@option("--save-study", metavar="FILE", help="Write the study file of these options, and run nothing.")
@option("--out", metavar="FOLDER", help="Where the tables go.")
@option("--resume", is_flag=True, show_default=False, help="Go on with the study in --out.")
@option("--force", is_flag=True, show_default=False, help="Replace the study in --out.")
@option("--split", type=click.Choice(["train", "calibrate", "tune", "test"]), default="test", help="Where seeds lie.")
@agent_options("What to do; several are compared with --vary policy=a,b.")
@option("--detector-from", type=click.Choice(["cell", "base"]), default="cell", help="The system that it learns from.")
@option("--train-episodes", type=click.IntRange(0), metavar="N", default=200, help="For policies that learn.")
@option("--twins", is_flag=True, show_default=False, help="Run everything without actions too: gain and harm.")
@fault_options()
@option("--dry-run", is_flag=True, show_default=False, help="Check everything, say what would run, and stop.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def sweep(**options: Any) -> int:
    """Run every cell of a study the same number of times, and say what the outcome depends on.

    KEY is fault.onset_s, fault.duration_s, fault.severity, fault.type, fault.target, fault (TYPE@TARGET), load,
    action_delay_s, policy, detector, diagnoser, or any parameter of the scenario: services.db.threads,
    workload.entries[api.buy].weight. Run number r has the same randomness in every cell.
    """
    from agent.commands.setup import Mistakes
    from agent.evaluation.sweep.storage import StudyFolder
    from agent.evaluation.sweep.worlds import Worlds

    mistakes = Mistakes()
    spec, crew = asked(options, mistakes)
    folder, before = None, None
    if options["out"] is not None:
        folder = StudyFolder(options["out"])
        with mistakes.collect():
            before = folder.check(resume=options["resume"], force=options["force"])
    elif options["resume"]:
        mistakes.lines.append("--resume needs --out, the folder of the study")
    if options["resume"] and options["force"]:
        mistakes.lines.append("--resume and --force exclude each other")
    mistakes.report()
    assert crew is not None
    if options["save_study"] is not None:
        from agent.evaluation.sweep.spec import write_spec

        write_spec(Path(options["save_study"]), spec)
        click.echo(f"study file written: {options['save_study']}")
        return 0
    worlds = Worlds(crew.sweep)
    if not options["quiet"] or options["dry_run"]:
        click.echo(_plan(worlds), err=not options["dry_run"])
    if options["dry_run"]:
        return 0
    return _run(worlds, spec, crew, folder, before, options)


def _plan(worlds: "Worlds") -> str:
    """Return what a study comes to, before it runs."""
    study = worlds.sweep
    cells = study.cells()
    count = f"{study.replications} runs = {len(cells) * study.replications} runs"
    if study.refine is not None:
        count = "as many runs as it takes" + ("" if study.refine.budget is None else f", {study.refine.budget} at most")
    systems = len({worlds.world_of(cell) for cell in cells})
    text = f"{study.scenario.name}: {len(cells)} cells x {count}, seed {study.seed}, split {study.split}"
    if systems > 1:
        text += f"; {systems} different systems"
        if study.detector and study.detector_from == "cell":
            text += " (a detector is trained for each that is normal in its own way; --detector-from base trains one)"
    return text


def _run(
    worlds: "Worlds",
    spec: "StudySpec",
    crew: "Crew",
    folder: "StudyFolder | None",
    before: dict[str, Any] | None,
    options: dict[str, Any],
) -> int:
    """Run the study, or the rest of it; report."""
    from agent.commands.eval import peak_rss_bytes
    from agent.commands.progress import Compiling, Progress
    from agent.commands.warm import Helper
    from agent.evaluation.sweep.conduct import conduct

    found, quiet, threads = worlds.sweep, options["quiet"], options["threads"]
    parts = (found.detector, found.diagnoser, worlds.named("policy")[0]) if found.detector else ()
    helper = Helper(*parts) if options["engine"] == "batch" else None
    planned = 0 if found.refine is not None else len(found.cells()) * found.replications
    started, cpu = time.perf_counter(), time.process_time()
    if folder is not None:
        folder.claim()
    with Compiling(quiet=quiet, helper=helper) as compiling:
        crew = _taught(worlds, spec, crew, before, options)
        there = None
        if folder is not None and before is not None:
            there = folder.resume(before, crew)
        elif folder is not None:
            told = {"name": spec.name, "description": spec.description}
            more = told | {"command": given_command(_OUTSIDE), "train_episodes": spec.train_episodes}
            folder.begin(crew, planned=planned, more=more)
        cpu_before, compiled_before = time.process_time(), compiling.cpu_s

        def how(played: int, requests: int) -> dict[str, Any]:
            played_cpu_s = time.process_time() - cpu_before - (compiling.cpu_s - compiled_before)
            return {
                "runs": played,
                "requests": requests,
                "wall_s": time.perf_counter() - started,
                "cpu_s": time.process_time() - cpu,
                "runs_per_cpu_s": played / max(played_cpu_s, 1e-9),
                "compile_s": compiling.seconds,
                "peak_rss_bytes": peak_rss_bytes(),
                "engine": options["engine"],
                "threads": threads,
            }

        expected = planned if found.refine is None else _most(found)
        with Progress(expected - (0 if there is None else there.height), quiet=quiet) as progress:
            outcome = conduct(
                worlds,
                crew,
                folder=folder,
                known=there,
                engine=options["engine"],
                threads=threads,
                on_progress=progress.show,
                how=how,
            )
        facts = how(outcome.played, outcome.requests)
    _report(worlds, outcome, folder, planned, facts, options)
    return 1 if outcome.interrupted else 0


def _most(study: "Sweep") -> int:
    """Return the runs of a refined study if no cell is done early."""
    from agent.evaluation.sweep.refining import rule_of
    from agent.evaluation.sweep.sequential import fixed_runs

    assert study.refine is not None
    if study.refine.budget is not None:
        return study.refine.budget
    rule = rule_of(study.refine, study.scenario.slo.objective)
    return len(study.cells()) * fixed_runs(0.5, rule.half_width)


def _taught(
    worlds: "Worlds", spec: "StudySpec", crew: "Crew", before: dict[str, Any] | None, options: dict[str, Any]
) -> "Crew":
    """Return the crew with policies that have learned: in the session before, or by playing now."""
    from agent.commands.progress import Progress
    from agent.evaluation.sweep.crew import learned_on
    from agent.evaluation.sweep.storage import crew_of
    from agent.evaluation.taught import learns

    if before is not None:
        return replace(crew, states=dict(crew_of(crew.sweep, before).states) | dict(crew.states))
    names = [name for name in worlds.named("policy") if learns(name) and name not in crew.states]
    if not names or not spec.train_episodes:
        return crew
    if not options["quiet"]:
        click.echo(f"training {', '.join(names)} on {spec.train_episodes} runs each ...", err=True)
    with Progress(spec.train_episodes * len(names), quiet=options["quiet"]) as progress:
        states = learned_on(worlds, crew, names, spec.train_episodes, on_progress=progress.show)
    return replace(crew, states=states | dict(crew.states))


def _report(
    worlds: "Worlds",
    outcome: "Conducted",
    folder: "StudyFolder | None",
    planned: int,
    facts: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from agent.evaluation.sweep.boundary import boundary_text, told
    from agent.evaluation.sweep.cells import until_of
    from agent.evaluation.sweep.text import study_text

    runs, found = outcome.runs, worlds.sweep
    until_s = until_of(runs)
    until = until_s if until_s == until_s else None
    if outcome.interrupted and not options["quiet"]:
        kept = "" if folder is None else f", kept in {folder.target}; the same command with --resume goes on"
        of = f" of {planned}" if planned else ""
        click.echo(f"interrupted after {runs.height}{of} runs{kept}", err=True)
    if options["as_json"]:
        whole = {
            "scenario": found.scenario.name,
            "axes": [axis.plain() for axis in found.axes],
            "arguments": found.arguments(),
            "runs": runs.height,
            "planned": planned,
            "interrupted": outcome.interrupted,
            "ttm_until_s": until,
            "cells": outcome.cells.to_dicts(),
            "differences": outcome.differences.to_dicts(),
            "refined": None if outcome.refiner is None else told(outcome.refiner),
            "how": facts,
        }
        click.echo(json.dumps(whole, indent=2, allow_nan=False))
        return
    click.echo(study_text(found, outcome.cells, outcome.differences, until_s=until))
    if outcome.refiner is not None and runs.height:
        click.echo(f"\n{boundary_text(outcome.refiner)}")
    if outcome.played:
        click.echo(
            f"\n{outcome.played} runs in {facts['wall_s']:.1f} s ({facts['runs_per_cpu_s']:.1f} a CPU-second, "
            f"{facts['compile_s']:.1f} s of compiling)"
        )
    if folder is not None:
        click.echo(f"results in {folder.target}")
