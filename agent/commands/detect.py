"""``mendsim detect``: detectors on recorded machines, and side by side on simulated runs."""

__all__ = ["detect"]

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, Group, option
from agent.commands.drawn import draw_into, force_option, png_option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.commands.setup import Mistakes
    from agent.evaluation.realdata.detection import Judged, Mean
    from agent.evaluation.watch import Watched


@click.group(cls=Group, short_help="Detectors: how good they are, on recordings and in the simulator.")
def detect() -> None:
    """Judge detectors."""


@detect.command(cls=Command, short_help="Detectors on recorded machines.")
@option(
    "--data", "paths", multiple=True, required=True, metavar="PATH", help="A file, or a folder of them; repeatable."
)
@option("--detector", "names", default="ensemble", metavar="NAME,NAME", help="Which ones.")
@option("--train-share", type=click.FloatRange(0.05, 0.95), metavar="X", default=0.5, help="Healthy part of a table.")
@option(
    "--step",
    "step_s",
    type=click.FloatRange(1e-3),
    metavar="SECONDS",
    default=60.0,
    help="Between two rows, where the file does not say.",
)
@option("--per-day", type=click.FloatRange(0), metavar="X", default=1.0, help="False alarms per day on healthy rows.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--out", metavar="FILE", help="A row per machine and detector: .csv or .parquet.")
@option("--force", is_flag=True, show_default=False, help="Replace a file that is there already.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def evaluate(**options: Any) -> int:
    """Fit detectors on the healthy rows of recorded machines, and judge them on the rows that follow.

    A file is an .npz with the arrays train, test and label, or a table (.csv, .parquet) with the columns time, one per
    channel, and label (1 where something was wrong). Labels only judge. AUC-PR is of the scores, point by point and
    without point-adjustment; precision, recall and F1 are at a threshold set on healthy rows, point by point and, for
    alarms, event by event.
    """
    import polars as pl

    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.realdata.detection import flat, judge, means
    from agent.evaluation.realdata.series import load_series
    from simcore.telemetry.files import write_table

    files, names = _checked(options)
    judged: list[Judged] = []
    interrupted = False
    with Compiling(quiet=options["quiet"]), Progress(len(files) * len(names), quiet=options["quiet"]) as progress:
        try:
            for path in files:
                series = load_series(path, train_share=options["train_share"], step_s=options["step_s"])
                for name in names:
                    judged.append(judge(name, series, seed=options["seed"], per_day=options["per_day"]))
                    progress.show(len(judged))
        except KeyboardInterrupt:
            interrupted = True
    over = means(judged, seed=options["seed"])
    if options["out"] and judged:
        write_table(Path(options["out"]), pl.DataFrame([flat(row) for row in judged], infer_schema_length=None))
    if interrupted:
        click.echo(f"interrupted after {len(judged)} of {len(files) * len(names)}", err=True)
    if options["as_json"]:
        rows = {"machines": [flat(row) for row in judged], "means": [dataclasses.asdict(mean) for mean in over]}
        click.echo(json.dumps(rows | {"seed": options["seed"], "interrupted": interrupted}, indent=2, allow_nan=False))
    elif judged:
        click.echo(_text(judged, over))
        if options["out"]:
            click.echo(f"\nresults in {options['out']}")
    return int(interrupted)


def _checked(options: dict[str, Any]) -> "tuple[list[Path], list[str]]":
    """Return files and detectors; raise all mistakes at once."""
    from agent.commands.setup import Mistakes
    from agent.evaluation.realdata.detection import recorded_detector
    from agent.evaluation.realdata.series import find_files, load_series

    mistakes, files = Mistakes(), []
    with mistakes.collect():
        files = find_files(options["paths"])
    names = _detectors(options["names"], mistakes)
    for name in names:
        with mistakes.collect():
            recorded_detector(name)
    for path in files:
        with mistakes.collect():
            load_series(path, train_share=options["train_share"], step_s=options["step_s"])
    check_file("--out", options["out"], options["force"], mistakes, (".csv", ".parquet"))
    mistakes.report()
    return files, names


def _detectors(text: str, mistakes: "Mistakes") -> list[str]:
    """Return the detectors named that there are; note the others."""
    from agent.registry import DETECTORS
    from simcore.errors import suggest

    names = [name.strip() for name in text.split(",")]
    for name in dict.fromkeys(names):
        if name not in DETECTORS:
            known = ", ".join(DETECTORS)
            mistakes.lines.append(f"--detector must be one of {known}, got '{name}'{suggest(name, DETECTORS)}")
    if len(set(names)) < len(names):
        mistakes.lines.append(f"--detector names something twice: {', '.join(names)}")
    return [name for name in dict.fromkeys(names) if name in DETECTORS]


_HEADS = ("AUC-PR", "95 % interval", "prec.", "recall", "F1", "ev.prec.", "ev.recall", "ev.F1", "delay", "f.alarms/day")


def _cells(row: dict[str, Any]) -> list[str]:
    def cell(name: str, places: int = 2) -> str:
        return "-" if row[name] is None else f"{row[name]:.{places}f}"

    interval = "-" if row["low"] is None else f"[{row['low']:.2f}, {row['high']:.2f}]"
    names = ("precision", "recall", "f1", "event_precision", "event_recall", "event_f1")
    return [cell("auc_pr", 3), interval, *map(cell, names), cell("delay_steps", 0), cell("false_alarms_per_day")]


def _text(judged: "Sequence[Judged]", over: "Sequence[Mean]") -> str:
    from agent.evaluation.realdata.detection import flat
    from agent.evaluation.render import grid

    rows = []
    for mean in over:
        mine = [flat(row) for row in judged if row.detector == mean.detector]
        rows += [[one["detector"], one["machine"], *_cells(one)] for one in mine]
        if mean.machines > 1:
            rows.append([mean.detector, f"mean of {mean.machines}", *_cells(dataclasses.asdict(mean))])
    return grid(["detector", "machine", *_HEADS], rows)


@detect.command(cls=Command, short_help="Detectors on the same simulated runs.")
@option("--scenario", default="three_tier", metavar="NAME|FILE", help="What is simulated.")
@option("--steps", type=click.IntRange(1, 100_000), metavar="N", help="Control steps; else the scenario's.")
@option(
    "--detector", "names", default="isolation_forest,ensemble", metavar="NAME,NAME", help="The first is the measure."
)
@option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs they learn from.")
@option("--episodes", type=click.IntRange(1), metavar="N", default=100, help="Runs with faults drawn from the mix.")
@option("--clean", type=click.IntRange(1), metavar="N", default=50, help="Runs without a fault, for false alarms.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--threads", type=click.IntRange(1, 100_000), metavar="N", help="Else one per core; no matter to the results.")
@png_option("False alarms of the detectors")
@force_option()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def watch(**options: Any) -> int:
    """Let detectors watch the same runs, in which nobody acts.

    All are fitted and calibrated to the same rate of false alarms on runs of their own. Recall and TTD are of the
    faults that open an incident; the gap is the mean TTD less that of the first detector, run by run, with a 95 %
    interval; false alarms are per hour of runs without a fault, with exact Poisson bounds; cost is CPU time as a share
    of the simulation's own.
    """
    from agent.commands.progress import Compiling, Progress
    from agent.commands.setup import Mistakes
    from agent.evaluation.study import with_steps
    from agent.evaluation.watch import watch as look
    from simcore.model.loader import load_scenario

    mistakes, scenario = Mistakes(), None
    names = _detectors(options["names"], mistakes)
    with mistakes.collect():
        scenario = load_scenario(options["scenario"])
        scenario = with_steps(scenario, options["steps"] or scenario.timing.steps)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    assert scenario is not None
    quiet, total = options["quiet"], options["episodes"] + options["clean"]
    with Compiling(quiet=quiet), Progress(total, quiet=quiet) as progress:
        found = look(
            scenario,
            names,
            seed=options["seed"],
            episodes=options["episodes"],
            clean=options["clean"],
            detector_seed=options["detector_seed"],
            threads=options["threads"],
            on_progress=progress.show,
        )
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import detectors_of

        draw_into(options["png"], detectors_of(found.rows), quiet=options["quiet"])
    if options["as_json"]:
        told = {"scenario": scenario.name, "scenario_hash": scenario.digest, "seed": options["seed"]}
        rows = [dataclasses.asdict(row) for row in found.rows]
        told |= {"runs": found.runs, "interrupted": found.interrupted, "detectors": rows}
        click.echo(json.dumps(told, indent=2, allow_nan=False))
    elif found.rows:
        click.echo(_watched(found.rows))
    if found.interrupted:
        click.echo(f"interrupted after {found.runs} of {total} runs", err=True)
    return int(found.interrupted)


_WATCHED = ("precision", "recall", "F1", "recall all", "TTD s", "TTD p90", "gap s", "95 % interval", "f.alarms/h",
            "95 % bounds", "cost")  # fmt: skip


def _watched(rows: "Sequence[Watched]") -> str:
    from agent.evaluation.render import grid

    def cell(value: float | None, places: int = 2) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    lines = [
        [
            row.detector,
            *map(cell, (row.precision, row.recall, row.f1, row.recall_all)),
            *(cell(value, 0) for value in (row.ttd_median_s, row.ttd_p90_s)),
            cell(row.gap_s, 1),
            "-" if row.gap_low_s is None else f"[{row.gap_low_s:.1f}, {row.gap_high_s:.1f}]",
            cell(row.false_per_h),
            "-" if row.false_low_per_h is None else f"[{row.false_low_per_h:.2f}, {row.false_high_per_h:.2f}]",
            f"{row.cost:.1%}",
        ]
        for row in rows
    ]
    return grid(["detector", *_WATCHED], lines)
