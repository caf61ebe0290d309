"""``mendsim map``: the best action over load, severity, onset and delay."""

__all__ = ["optimal_map"]

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.files import check_picture

if TYPE_CHECKING:
    from agent.evaluation.optimal import Cell, Grid
    from simcore.model.scenario import Scenario


@click.command("map", cls=Command, short_help="The best action over load, severity, onset and delay.")
@option("--scenario", default="three_tier", metavar="NAME|FILE", help="What is simulated.")
@option("--steps", type=click.IntRange(1, 100_000), metavar="N", help="Control steps; else the scenario's.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--fault", metavar="TYPE@TARGET", default="latency_spike@db", help="What happens in every run.")
@option("--place", metavar="NAME", help="Where the fault lives; else its usual place.")
@option("--duration", metavar="TIME", help="Of the fault; absent: until fixed.")
@option("--loads", metavar="LIST", default="0.7,1,1.3", help="Multiples of the scenario's rate.")
@option("--severities", metavar="LIST", default="0.3,0.6,0.9", help="Above 0, up to 1.")
@option("--onsets", metavar="LIST", default="300", help="Such as 300,10min or 60steps.")
@option("--delays", metavar="LIST", default="3,12", help="Steps from the onset to the action.")
@option("--runs", type=int, metavar="N", default=10, help="Runs of a cell.")
@option("--horizon", type=int, metavar="STEPS", default=60, help="Steps over which an action is judged.")
@option("--threads", type=click.IntRange(1), metavar="N", help="Else one per core; results do not depend on it.")
@option("--out", metavar="FILE", help="Every action of every cell as a row, .csv or .parquet.")
@option("--png", metavar="FILE", help="The map as a picture (.png or .svg).")
@option("--force", is_flag=True, show_default=False, help="Replace the files of --out and --png.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def optimal_map(**options: Any) -> int:
    """Try every legal action in every cell of a grid, on forks, and show the best one with its confidence.

    In a cell nobody has acted before. The confidence is the share of resamples of the cell's runs in which the action
    is the best one.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    scenario, given = _grid(options, mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert scenario is not None
    assert given is not None

    from agent.commands.progress import Compiling
    from agent.evaluation.optimal import cells_of, map_table, map_text
    from agent.evaluation.pictures import draw_map, save
    from simcore.telemetry.writers import ResultsWriter, describe

    writer = None
    if options["out"] is not None:
        asked = asdict(given) | {"fault": asdict(given.fault) | {"place": given.fault.place.name}}
        metadata = describe(scenario, seed=options["seed"], arguments={"grid": asked})
        writer = ResultsWriter(options["out"], metadata=metadata, force=options["force"], table="optimal_actions")
    cells: list[Cell] = []
    stopped = False
    seed = options["seed"]
    with Compiling(quiet=options["quiet"]):
        try:
            for cell in cells_of(scenario, given, seed=seed, threads=options["threads"]):
                cells.append(cell)
                if writer is not None:
                    table = map_table([cell], scenario, given.fault, seed=seed, split="test")
                    writer.write({"optimal_actions": table})
        except KeyboardInterrupt:
            stopped = True
            click.echo(f"interrupted after {len(cells)} finished cells", err=True)
    if writer is not None:
        writer.close({"complete": False, "stopped_by": "Ctrl-C"} if stopped else None)
    if options["png"] is not None and cells:
        save(draw_map(cells, f"{scenario.name}: best action under {options['fault']}"), options["png"])
    if options["as_json"]:
        table = map_table(cells, scenario, given.fault, seed=seed, split="test")
        found = {"scenario": scenario.name, "seed": seed, "interrupted": stopped, "rows": table.to_dicts()}
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    elif cells:
        click.echo(f"{scenario.name}, seed {seed}: best action under {options['fault']}, {given.runs} runs a cell\n")
        click.echo(map_text(cells))
    return 1 if stopped else 0


def _numbers(options: dict[str, Any], name: str, mistakes: Any) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in options[name].split(","))
    except ValueError:
        mistakes.lines.append(f"--{name} must be numbers joined by commas, got '{options[name]}'")
        return ()


def _grid(options: dict[str, Any], mistakes: Any) -> tuple["Scenario | None", "Grid | None"]:
    from agent.evaluation.optimal import Grid
    from agent.evaluation.study import with_steps
    from simcore.errors import FaultError
    from simcore.model.faults import parse_fault, parse_time
    from simcore.model.loader import load_scenario

    scenario = fault = None
    with mistakes.collect():
        scenario = load_scenario(options["scenario"])
        scenario = with_steps(scenario, options["steps"] or scenario.timing.steps)
    loads, severities, delays = (_numbers(options, name, mistakes) for name in ("loads", "severities", "delays"))
    if any(delay != int(delay) for delay in delays):
        mistakes.lines.append(f"--delays must be whole steps, got '{options['delays']}'")
    onsets: list[float] = []
    step_s = 5.0 if scenario is None else scenario.timing.step_s

    def seconds(name: str, text: str) -> float | None:
        with mistakes.collect():
            try:
                return parse_time(text, step_s)
            except FaultError as error:
                raise FaultError(f"--{name}: {error}") from None
        return None

    onsets = [time_s for text in options["onsets"].split(",") if (time_s := seconds("onsets", text)) is not None]
    duration = None if options["duration"] is None else seconds("duration", options["duration"])
    if scenario is not None:
        with mistakes.collect():
            fault = parse_fault(
                options["fault"], scenario, onset_s=0.0, duration_s=duration, severity=0.5, place=options["place"]
            )
    if scenario is None or fault is None or mistakes.lines:
        return scenario, None
    given = Grid(
        fault, loads, severities, tuple(onsets), tuple(int(d) for d in delays), options["runs"], options["horizon"]
    )  # fmt: skip
    with mistakes.collect():
        given.check(scenario)
    return scenario, given
