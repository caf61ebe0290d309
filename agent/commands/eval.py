"""``mendsim eval``: thousands of episodes into tables, and a summary."""

__all__ = ["evaluate"]

import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, given_command, option
from agent.commands.drawn import draw_into, png_option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from agent.evaluation.study import Outcome, Study
    from simcore.telemetry.writers import ResultsWriter

#: Options that say how it is run or where to it goes, not what it is.
_OUTSIDE = ("out", "policy_out", "force", "quiet", "as_json", "threads", "engine")


@click.command("eval", cls=Command, short_help="Many episodes: tables and a summary.")
@common_options()
@option("--episodes", type=click.IntRange(1), metavar="N", default=50, help="How many runs.")
@option("--out", metavar="FILE|FOLDER", help="Results: .csv or .parquet (a row per run), or a folder with all tables.")
@option("--force", is_flag=True, show_default=False, help="Replace results that are there already.")
@option("--split", type=click.Choice(["train", "calibrate", "tune", "test"]), default="test", help="Where seeds lie.")
@option("--round-size", type=click.IntRange(1), metavar="N", default=50, help="Runs between two lessons of a policy.")
@agent_options("What to do; several joined by commas are compared on the same runs.")
@option("--policy-out", metavar="FILE", help="Where the learned state goes (JSON).")
@option("--freeze", is_flag=True, show_default=False, help="Policies neither explore nor learn: a frozen test.")
@option("--twins", is_flag=True, show_default=False, help="Run everything without actions too: who was at risk?")
@fault_options()
@png_option("The error budget round by round, or by fault")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def evaluate(**options: Any) -> int:
    """Evaluate an agent over many episodes; write tables, print a summary.

    A policy that learns does so between rounds; every policy named sees the same runs.
    """
    from agent.commands.setup import Mistakes, build_study, check_taught, learned_states

    mistakes = Mistakes()
    study = build_study(options, mistakes)
    learned: dict[str, dict[str, Any]] = {}
    if study is not None:
        with mistakes.collect():
            learned = learned_states(options["policy_in"], study.policies)
        check_taught(study.policies, learned, mistakes)
    check_file("--policy-out", options["policy_out"], options["force"], mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert study is not None
    if study.faults is None and not study.scenario.faults.mix and not options["quiet"]:
        click.echo(f"note: scenario {study.scenario.name} draws no faults; aim one with --fault TYPE@TARGET", err=True)

    from simcore.telemetry.files import write_json
    from simcore.telemetry.writers import ResultsWriter, describe

    metadata = describe(study.scenario, seed=study.seed, arguments=study.arguments())
    metadata["command"] = given_command(_OUTSIDE)
    writer = None
    if options["out"] is not None:
        writer = ResultsWriter(options["out"], metadata=metadata, force=options["force"])
    with writer or contextlib.nullcontext():
        outcome, measured, detector = _measured(study, options, learned, writer)
        facts = _facts(outcome, options, measured) | {"versions": metadata["versions"]}
        if writer is not None:
            ended = {"complete": False, "stopped_by": "Ctrl-C"} if outcome.interrupted else {}
            writer.close({**ended, "policy_states": outcome.states, "detector_state": detector, "how": facts})
    if options["policy_out"] and outcome.learned:
        write_json(Path(options["policy_out"]), {"policies": outcome.learned})
    _report(study, outcome, options, facts, writer)
    return 1 if outcome.interrupted else 0


def _measured(
    study: "Study", options: dict[str, Any], learned: dict[str, dict[str, Any]], writer: "ResultsWriter | None"
) -> tuple["Outcome", dict[str, float], dict[str, Any] | None]:
    """Run the study; return its outcome, the time that it took, and the detector's state."""
    from agent.commands.progress import Compiling, Progress
    from agent.commands.warm import helper_for
    from agent.evaluation.study import evaluate as run_study
    from agent.evaluation.training import trained_detector

    engine, threads, quiet = options["engine"], options["threads"], options["quiet"]
    started, cpu = time.perf_counter(), time.process_time()
    runs = study.episodes * max(1, len(study.policies))
    with Compiling(quiet=quiet, helper=helper_for(study, engine)) as compiling:
        detector = None
        if study.policies:
            detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
        cpu_before, compiled_before = time.process_time(), compiling.cpu_s
        with Progress(runs, quiet=quiet) as progress:
            outcome = run_study(
                study,
                engine=engine,
                threads=threads,
                writer=writer,
                detector=detector,
                learned=learned,
                on_progress=progress.show,
            )
    ended = time.process_time()
    measured = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": ended - cpu,
        "episodes_cpu_s": max(ended - cpu_before - (compiling.cpu_s - compiled_before), 1e-9),
        "compile_s": compiling.seconds,
    }
    return outcome, measured, None if detector is None else detector.state()


def _facts(outcome: "Outcome", options: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
    """Return what was done and what it took; outside the promise of equal results."""
    import numba

    requests = int(outcome.episodes["offered"].sum()) if outcome.episodes.height else 0
    return {
        "runs": outcome.episodes.height,
        "requests": requests,
        "events": outcome.events or None,
        **measured,
        "requests_per_cpu_s": requests / measured["episodes_cpu_s"],
        "peak_rss_bytes": peak_rss_bytes(),
        "engine": options["engine"],
        "threads": (options["threads"] or numba.config.NUMBA_NUM_THREADS) if options["engine"] == "batch" else 1,
    }


def peak_rss_bytes() -> int | None:
    """Return the largest memory that the process has had, None where the system does not tell."""
    # Linux passes a parent's peak on to a child through getrusage, but not through this file
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _report(
    study: "Study", outcome: "Outcome", options: dict[str, Any], facts: dict[str, Any], writer: "ResultsWriter | None"
) -> None:
    if outcome.interrupted and not options["quiet"]:
        kept = f"; kept in {writer.target}: {writer.n_kept} runs" if writer is not None else ""
        click.echo(f"interrupted after {outcome.episodes.height} finished runs{kept}", err=True)
    if options["png"] is not None and outcome.episodes.height:
        from agent.evaluation.figures_of import learning_of
        from agent.evaluation.figures_of_tables import budgets_of

        figure = learning_of(outcome.episodes) or budgets_of(outcome.episodes)
        draw_into(options["png"], figure, quiet=options["quiet"])
    if options["as_json"]:
        click.echo(json.dumps(_object(study, outcome, facts), indent=2, allow_nan=False))
    elif outcome.episodes.height:
        click.echo(_text(study, outcome, facts))
        if writer is not None:
            click.echo(f"results in {writer.target}")


def _object(study: "Study", outcome: "Outcome", facts: dict[str, Any]) -> dict[str, Any]:
    from agent.evaluation.compare import Comparison, compare
    from agent.evaluation.render import learning_curve
    from agent.evaluation.summary import summarise

    table = outcome.episodes
    found: dict[str, Any] = {"policies": {}, "compared": [], "rounds": []}
    if table.height:
        for part in table.partition_by("policy", maintain_order=True):
            found["policies"][part["policy"][0] or "no agent"] = summarise(part).to_dicts()
        if len(study.policies) > 1:
            found["compared"] = compare(Comparison(table, seed=study.seed)).to_dicts()
        found["rounds"] = learning_curve(table)
    what = {"scenario": study.scenario.name, "scenario_hash": study.scenario.digest, "seed": study.seed}
    mode = {"split": study.split, "mix": study.mix, "learning": _learning(study), "interrupted": outcome.interrupted}
    return {"summary": found, **what, **mode, **facts}


def _learning(study: "Study") -> str:
    if not study.policies:
        return "no agent"
    return "frozen" if study.frozen else "shadow" if study.shadow else "online"


def _text(study: "Study", outcome: "Outcome", facts: dict[str, Any]) -> str:
    from agent.evaluation.render import comparison, curve_text, summary

    table = outcome.episodes
    mode = {"online": "policies learn online", "frozen": "policies frozen"}.get(_learning(study), _learning(study))
    head = f"{study.scenario.name}: {facts['runs']} runs, seed {study.seed}, split {study.split}{study.drawn}, {mode}"
    parts = [head, summary(table)]
    if len(study.policies) > 1:
        parts.append(comparison(table, seed=study.seed))
    if study.policies and not study.frozen and not study.shadow:
        parts.append(curve_text(table))
    parts.append(
        f"{facts['requests']:,} requests in {facts['wall_s']:.1f} s "
        f"({facts['requests_per_cpu_s']:,.0f} a CPU-second, {facts['compile_s']:.1f} s of compiling)"
    )
    return "\n\n".join(part for part in parts if part)
