"""``mendsim timing``: what the moment of a fault changes, one question at a time."""

__all__ = ["timing"]

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.commands.base import Command, Group, common_options, option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes
    from agent.evaluation.sweep import Crew, Sweep
    from agent.evaluation.timing.arms import Finding, OnProgress
    from simcore.model.faults import Fault

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, short_help="What the moment of a fault changes.")
def timing() -> None:
    """Say what the moment of a fault changes: against the load, the detector, another fault, the action, telemetry.

    Every answer is a small table of paired differences on the same runs, with intervals, and a sentence; p-values are
    adjusted for the number of comparisons (Holm), and where nothing is shown it says so.
    """


def _options(policies: str) -> Callable[[F], F]:
    """Options of every analysis."""
    decorators = (
        common_options(),
        option("--runs", type=click.IntRange(4, 100_000), metavar="N", default=40, help="Of every arm, the same."),
        option("--split", type=click.Choice(["tune", "test"]), default="test", help="Where the runs' seeds lie."),
        option("--policy", metavar="LIST", default=policies, help="Who acts; each is compared with itself."),
        option("--policy-in", metavar="FILE", help="What policies have learned (JSON)."),
        option("--detector", metavar="NAME", help="When something is wrong; else the default detector."),
        option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from."),
        option("--diagnoser", metavar="NAME", help="Where it is; else the default diagnoser."),
        option("--duration", metavar="TIME", help="Of the fault; absent: until fixed."),
        option("--severity", type=float, metavar="X", help="Above 0, up to 1; absent: the middle of the mix."),
        option("--place", metavar="NAME", help="Where the fault lives; else its usual place."),
        option("--out", metavar="FILE", help="The table, .csv or .parquet."),
        option("--png", metavar="FILE", help="The differences as a picture, .png or .svg."),
        option("--force", is_flag=True, show_default=False, help="Replace the files of --out and --png."),
        option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout, not text."),
    )

    def wrap(function: F) -> F:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return wrap


_FAULT = "TYPE@TARGET"


@timing.command(cls=Command)
@option("--fault", metavar=_FAULT, default="bad_deploy@api", help="What happens in every run.")
@option("--onset", metavar="TIME", help="Else the middle of the scenario's range.")
@option("--positions", type=int, metavar="N", default=8, help="Points of the wave, a multiple of 4.")
@_options("noop,playbook")
def wave(**options: Any) -> int:
    """Say whether it matters where in the load's wave a fault begins.

    The fault begins at the same time of the same runs; the wave is turned, so that it meets another load, rising or
    falling. Compared with the trough.
    """
    from agent.evaluation.timing.wave import load_wave

    def check(mistakes: "Mistakes") -> None:
        if options["positions"] < 4 or options["positions"] % 4:
            mistakes.lines.append(f"--positions must be a multiple of 4, got {options['positions']}")

    def analyse(study: "Sweep", crew: "Crew", tell: "OnProgress") -> "Finding":
        return load_wave(
            study, _policies(options), crew, onset_s=_onset_s(study), positions=options["positions"], on_progress=tell
        )

    arms = options["positions"] * len(_policies(options))
    return _carry_out(options, [options["fault"]], analyse, check=check, arms=arms)


@timing.command(cls=Command)
@option("--fault", metavar=_FAULT, default="bad_deploy@api", help="What happens in every run.")
@option("--shares", metavar="LIST", default="0.1,0.5,0.9,1.1,1.5,2", help="Onsets, in units of the warm-up.")
@option("--warmup-steps", type=click.IntRange(2, 10_000), metavar="N", default=48, help="Scrapes it learns from.")
@_options("playbook")
def warmup(**options: Any) -> int:
    """Say what a fault gains by striking while the detector still learns what is normal.

    The isolation forest that fits itself to the first scrapes of each run is compared with the one that was fitted
    beforehand, on the same runs.
    """
    from agent.evaluation.timing.warmup import detector_warmup

    shares = _numbers(options["shares"])

    def check(mistakes: "Mistakes") -> None:
        _need(shares, "--shares", options["shares"], mistakes)
        if options["detector"] is not None:
            mistakes.lines.append("--detector: the isolation forest is compared here, in its two modes")
        if len(_policies(options)) > 1:
            mistakes.lines.append(f"--policy takes one name here, got {options['policy']}")

    def analyse(study: "Sweep", crew: "Crew", tell: "OnProgress") -> "Finding":
        return detector_warmup(
            study.scenario, _fault(study), _policies(options)[0], diagnoser=study.diagnoser, shares=shares,
            warmup_steps=options["warmup_steps"], runs=study.replications, seed=study.seed, split=study.split,
            detector_seed=study.detector_seed, threads=options["threads"], on_progress=tell,
        )  # fmt: skip

    return _carry_out(options, [options["fault"]], analyse, check=check, arms=2 * len(shares))


@timing.command(cls=Command)
@option("--fault", metavar=_FAULT, default="bad_deploy@api", help="The later fault.")
@option("--earlier", metavar=_FAULT, default="cache_flush", help="The earlier one.")
@option("--onset", metavar="TIME", help="Of the later fault; else the end of the scenario's range.")
@option("--gaps", metavar="LIST", default="30,60,120,240", help="From the earlier onset to the later, seconds.")
@_options("noop,playbook")
def earlier(**options: Any) -> int:
    """Say whether a fault costs more because another one came shortly before.

    The same runs are played with both faults, with each alone and with none; what both cost beyond the sum of each
    alone is what the one does to the other, through the system or through the agent.
    """
    from agent.evaluation.timing.earlier import earlier_fault

    gaps = _numbers(options["gaps"])

    def check(mistakes: "Mistakes") -> None:
        _need(gaps, "--gaps", options["gaps"], mistakes)

    def analyse(study: "Sweep", crew: "Crew", tell: "OnProgress") -> "Finding":
        latest = study.scenario.faults.onset_s.max
        onset = study.faults[1].onset_s
        return earlier_fault(
            study, _policies(options), crew, onset_s=latest if onset is None else onset, gaps_s=gaps, on_progress=tell
        )

    arms = (2 + 2 * len(gaps)) * len(_policies(options))
    return _carry_out(options, [options["earlier"], options["fault"]], analyse, check=check, arms=arms)


@timing.command(cls=Command)
@option("--fault", metavar=_FAULT, default="retry_storm@db", help="What happens in every run, for a while.")
@option("--action", metavar="NAME", default="set_retry_budget(api,0)", help="Taken once, and nothing else.")
@option("--onset", metavar="TIME", help="Else the middle of the scenario's range.")
@option("--durations", metavar="LIST", default="30,60,120", help="Of the fault, seconds.")
@option("--delays", metavar="LIST", default="5,20,45,75,115,150", help="From onset to decision, seconds.")
@_options("noop")
def action(**options: Any) -> int:
    """Say whether an action is better before or after what triggered the trouble has ended.

    One action is taken at a fixed time after the onset of faults that last for different times, on forks of the same
    runs; compared with nobody acting.
    """
    from agent.evaluation.timing.action import action_moment

    durations, delays = _numbers(options["durations"]), _numbers(options["delays"])

    def check(mistakes: "Mistakes") -> None:
        _need(durations, "--durations", options["durations"], mistakes)
        _need(delays, "--delays", options["delays"], mistakes)
        if options["duration"] is not None:
            mistakes.lines.append("--duration: --durations says how long the fault lasts here")

    def analyse(study: "Sweep", crew: "Crew", tell: "OnProgress") -> "Finding":
        return action_moment(
            study.scenario, _fault(study), options["action"], durations_s=durations, delays_s=delays,
            runs=study.replications, seed=study.seed, split=study.split, threads=options["threads"], on_progress=tell,
        )  # fmt: skip

    arms = len(durations) * (1 + len(delays))
    return _carry_out(options, [options["fault"]], analyse, check=check, arms=arms)


@timing.command(cls=Command)
@option("--fault", metavar=_FAULT, default="bad_deploy@api", help="What happens in every run.")
@option("--onset", metavar="TIME", help="Else the middle of the scenario's range.")
@option("--control-steps", metavar="LIST", default="1,5,15,60", help="Lengths of a control step, seconds.")
@option("--lags", metavar="LIST", default="1,5,15,60", help="How late a scrape comes, seconds.")
@_options("noop,playbook")
def telemetry(**options: Any) -> int:
    """Say how much an agent loses because it looks seldom and late.

    The same runs are played with other control steps, and with scrapes that come in later, where the lag is a multiple
    of the step. The system itself does not change; each policy is compared with itself at the shortest step and lag.
    """
    from agent.evaluation.timing.telemetry import slow_telemetry

    steps, lags = _numbers(options["control_steps"]), _numbers(options["lags"])

    def check(mistakes: "Mistakes") -> None:
        _need(steps, "--control-steps", options["control_steps"], mistakes)
        _need(lags, "--lags", options["lags"], mistakes)

    def analyse(study: "Sweep", crew: "Crew", tell: "OnProgress") -> "Finding":
        return slow_telemetry(study, _policies(options), crew, steps_s=steps, lags_s=lags, on_progress=tell)

    pairs = sum((lag / step).is_integer() for step in steps for lag in lags)
    return _carry_out(options, [options["fault"]], analyse, check=check, arms=pairs * len(_policies(options)))


def _policies(options: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name.strip() for name in (options["policy"] or "").split(","))


def _numbers(text: str) -> tuple[float, ...]:
    """Return numbers above 0 joined by commas, in order; nothing if one is none."""
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        return ()
    return found if all(0.0 < number < 1e9 for number in found) else ()


def _need(found: tuple[float, ...], name: str, text: str, mistakes: "Mistakes") -> None:
    if not found:
        mistakes.lines.append(f"{name} must be numbers above 0 joined by commas, got '{text}'")


def _fault(study: "Sweep") -> "Fault":
    from agent.evaluation.sweep import Worlds

    worlds = Worlds(study)
    return worlds.faults(study.cells()[0], 0)[0]


def _onset_s(study: "Sweep") -> float:
    return _fault(study).onset_s


def _study(options: dict[str, Any], faults: list[str], mistakes: "Mistakes") -> "Sweep | None":
    """Return the study that the options come to; what is wrong is noted."""
    from agent.evaluation.sweep.spec import FaultEntry, StudySpec, build

    named = {name: options[name] for name in ("detector", "diagnoser") if options[name] is not None}
    details = {name: options.get(name) for name in ("onset", "duration", "severity", "place")}
    entries = [FaultEntry(fault=faults[-1], **details)]
    if len(faults) > 1:
        entries.insert(0, FaultEntry(fault=faults[0]))
    spec = StudySpec(
        scenario=options["scenario"], steps=options["steps"], vary={"policy": options["policy"]},
        replications=options["runs"], seed=options["seed"], split=options["split"], faults=entries,
        detector_seed=options["detector_seed"], **named,
    )  # fmt: skip
    study, wrong = build(spec)
    for mistake in wrong:
        name = "policy" if mistake.path and mistake.path[0] == "vary" else str(mistake.path[0]).removesuffix("s")
        text = mistake.text.removeprefix(": ")
        if len(mistake.path) > 2:
            text = f"--{mistake.path[2]}: {text}"
        mistakes.lines.append(text if name in ("fault", "scenario") else f"--{name} {text}")
    return study


def _carry_out(
    options: dict[str, Any],
    faults: list[str],
    analyse: "Callable[[Sweep, Crew, OnProgress], Finding]",
    *,
    arms: int,
    check: "Callable[[Mistakes], None]" = lambda mistakes: None,
) -> int:
    """Check everything, analyse, and show what was found."""
    from agent.commands.setup import Mistakes, check_taught, learned_states

    mistakes = Mistakes()
    check(mistakes)
    check_file("--out", options["out"], options["force"], mistakes, (".csv", ".parquet"))
    check_picture("--png", options["png"], options["force"], mistakes)
    study = _study(options, faults, mistakes)
    states: dict[str, dict[str, Any]] = {}
    if study is not None:
        with mistakes.collect():
            states = learned_states(options["policy_in"], _policies(options))
        check_taught(_policies(options), states, mistakes)
    mistakes.report()
    assert study is not None

    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.sweep import Crew

    crew = Crew(study, states, options["threads"])
    quiet = options["quiet"]
    with Compiling(quiet=quiet), Progress(arms * options["runs"], quiet=quiet) as progress:
        found = analyse(study, crew, progress.show)
    _show(study, found, options)
    return int(found.interrupted)


def _show(study: "Sweep", found: "Finding", options: dict[str, Any]) -> None:
    if found.interrupted and not options["quiet"]:
        click.echo(f"interrupted after {len(found.rows)} finished arms", err=True)
    if options["out"] is not None and found.rows:
        from simcore.telemetry.files import write_table

        write_table(Path(options["out"]), found.table)
    if options["png"] is not None:
        from agent.evaluation.drawing import draw
        from agent.evaluation.pictures import save
        from agent.evaluation.timing.figure import forest_of

        figure = forest_of(found)
        if figure is not None:
            save(draw(figure), options["png"])
    if options["as_json"]:
        what = {"analysis": found.name, "scenario": study.scenario.name, "scenario_hash": study.scenario.digest}
        runs = {"seed": study.seed, "split": study.split, "runs": study.replications, "interrupted": found.interrupted}
        answer = {"question": found.question, "rows": found.rows, "sentences": found.sentences}
        click.echo(json.dumps(what | runs | answer, indent=2, allow_nan=False))
        return
    if found.rows:
        click.echo(f"{study.scenario.name}: {study.replications} runs an arm, seed {study.seed}, split {study.split}\n")
        click.echo(found.text())
