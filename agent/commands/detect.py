"""``mendsim detect``: detectors on recorded machines."""

__all__ = ["detect"]

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, Group, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.evaluation.realdata.detection import Judged, Mean


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
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.realdata.detection import flat, judge, means
    from agent.evaluation.realdata.series import load_series

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
        _write(options["out"], judged)
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
    from agent.registry import DETECTORS
    from simcore.errors import suggest

    mistakes, files = Mistakes(), []
    with mistakes.collect():
        files = find_files(options["paths"])
    names = [name.strip() for name in options["names"].split(",")]
    for name in dict.fromkeys(names):
        if name not in DETECTORS:
            known = ", ".join(DETECTORS)
            mistakes.lines.append(f"--detector must be one of {known}, got '{name}'{suggest(name, DETECTORS)}")
            continue
        with mistakes.collect():
            recorded_detector(name)
    if len(set(names)) < len(names):
        mistakes.lines.append(f"--detector names something twice: {', '.join(names)}")
    for path in files:
        with mistakes.collect():
            load_series(path, train_share=options["train_share"], step_s=options["step_s"])
    if options["out"]:
        target = Path(options["out"])
        if target.suffix not in (".csv", ".parquet"):
            mistakes.lines.append(f"--out: must end in .csv or .parquet, got {target}")
        elif not target.resolve().parent.is_dir():
            mistakes.lines.append(f"--out: there is no folder {target.resolve().parent}")
        elif target.exists() and not options["force"]:
            mistakes.lines.append(f"--out: {target} exists; use --force to replace it")
    mistakes.report()
    return files, names


def _write(path: str, judged: "Sequence[Judged]") -> None:
    import polars as pl

    from agent.evaluation.realdata.detection import flat
    from simcore.errors import ResultsError

    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp")
    table = pl.DataFrame([flat(row) for row in judged], infer_schema_length=None)
    try:
        (table.write_csv if target.suffix == ".csv" else table.write_parquet)(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error


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
