"""``mendsim report``: results as one page that can be sent to anybody."""

__all__ = ["report"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, given_command, option
from agent.commands.files import check_file, check_picture_folder

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes
    from agent.evaluation.report_page.browsing import Choice
    from agent.evaluation.report_page.content import Part
    from agent.evaluation.report_page.sources import Source

#: Options that say how the page is made, not what is in it.
_OUTSIDE = ("png", "force", "quiet", "threads")


@click.command(cls=Command, short_help="Results as one page of HTML: pictures, tables, episodes.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS...")
@option("--out", default="report.html", metavar="FILE", help="The page (.html).")
@option("--title", metavar="TEXT", help="Else it is made of the scenarios' names.")
@option(
    "--episodes", type=click.IntRange(0, 100), metavar="N", default=6, help="To look at, the most telling; of each."
)
@option("--rows", metavar="N,N", help="Those to look at instead, by row.")
@option("--png", metavar="FOLDER", help="Every picture as a file too.")
@option("--force", is_flag=True, show_default=False, help="Replace files that are there already.")
@option("--threads", type=click.IntRange(1, 100_000), metavar="N", help="Else one per core; no matter to the page.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def report(results: tuple[str, ...], **options: Any) -> int:
    """Put what eval, compare and sweep wrote into one page of HTML.

    The page works without a network. Its episodes are played again, exactly, while it is made.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    check_file("--out", options["out"], options["force"], mistakes, (".html",))
    check_picture_folder("--png", options["png"], options["force"], mistakes)
    rows = _rows(options["rows"], mistakes)
    sources = _sources(results, mistakes)
    chosen = _choices(sources, rows, options["episodes"], mistakes)
    mistakes.report()

    from agent.evaluation.report_page.page import render_page
    from simcore.telemetry.files import replace_file

    parts = _parts(sources, chosen, options, given_command(_OUTSIDE))
    scenarios = dict.fromkeys(source.scenario for source in sources)
    title = options["title"] or f"Incident remediation on {' and '.join(scenarios)}"
    page = render_page(parts, title).encode()
    replace_file(Path(options["out"]), page)
    if not options["quiet"]:
        click.echo(f"page in {options['out']} ({len(page) / 1e6:.1f} MB)")
    if options["png"] is not None:
        _draw(parts, Path(options["png"]), options["quiet"])
    return int(any(part.stopped for part in parts))


def _rows(text: str | None, mistakes: "Mistakes") -> list[int] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not word.isdigit()]
    if wrong:
        mistakes.lines.append(f"--rows must be whole numbers from 0, joined by commas, got '{text}'")
        return None
    return [int(word) for word in words]


def _sources(results: tuple[str, ...], mistakes: "Mistakes") -> "list[Source]":
    from agent.evaluation.report_page.sources import read_source
    from simcore.errors import ResultsError

    found = []
    for path in results:
        try:
            found.append(read_source(path))
        except ResultsError as error:
            mistakes.lines.append(str(error))
    if len(set(results)) < len(results):
        mistakes.lines.append(f"RESULTS names something twice: {', '.join(results)}")
    return found


def _choices(
    sources: "list[Source]", rows: list[int] | None, number: int, mistakes: "Mistakes"
) -> "list[list[Choice]]":
    from agent.evaluation.report_page.browsing import Choice, check_rows, choose

    if rows is None:
        return [choose(source.episodes, number) for source in sources]
    if len(sources) > 1:
        mistakes.lines.append("--rows are those of one result, but several are given; use --episodes")
    for source in sources[:1]:
        mistakes.lines += check_rows(source, rows)
    return [[Choice(row, "Asked for") for row in dict.fromkeys(rows)] for _ in sources]


def _parts(
    sources: "list[Source]", chosen: "list[list[Choice]]", options: dict[str, Any], command: str
) -> "list[Part]":
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.report_page.parts import part_of

    done = 0.0
    found: list[Part] = []
    total = sum(map(len, chosen))
    with (
        Compiling(quiet=options["quiet"] or not total),
        Progress(max(total, 1), quiet=options["quiet"] or not total) as bar,
    ):

        def tell(more: float) -> None:
            nonlocal done
            done += more
            bar.show(done)

        for number, (source, choices) in enumerate(zip(sources, chosen, strict=True), 1):
            if found and found[-1].stopped:
                choices = []
            found.append(
                part_of(source, choices, f"part-{number}", command=command, threads=options["threads"], on_done=tell)
            )
    return found


def _draw(parts: "list[Part]", folder: Path, quiet: bool) -> None:
    from agent.evaluation.drawing import draw
    from agent.evaluation.pictures import save

    folder.mkdir(exist_ok=True)
    number = 0
    for part in parts:
        for shape in part.figures:
            prefix = f"{part.key}-" if len(parts) > 1 else ""
            save(draw(shape.figure), str(folder / f"{prefix}{shape.figure.key}.png"))
            number += 1
    if not quiet:
        click.echo(f"{number} pictures in {folder}")
