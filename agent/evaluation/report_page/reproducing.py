"""The commands that give every number of a page again."""

__all__ = ["reproduce_section", "row_command"]

import shlex

from agent.evaluation.report_page.content import Head, Listing, Row, Section
from agent.evaluation.report_page.sources import Source


def row_command(source: Source, row: int) -> str:
    """Return the command that plays a row again."""
    return shlex.join(["mendsim", "run", "--from", source.path, "--row", str(row), "--render"])


def reproduce_section(source: Source, report_command: str) -> Section:
    """Return what made the results, what made this page, and what the results were made with.

    Parameters
    ----------
    source
        The results.
    report_command
        That the page comes from.
    """
    metadata, commands = source.metadata, []
    given = metadata.get("command")
    if given:
        ending = "" if "--out" in shlex.split(given) else f" --out {shlex.quote(source.path)}"
        commands.append(("These results: every table and picture but the episodes", given + ending))
    first = int(source.episodes["row"][0])
    commands += [
        ("One run, exactly as it was (any row)", row_command(source, first)),
        ("Why it came out so: beside its twins and the best action",
         shlex.join(["mendsim", "explain", "--from", source.path, "--row", str(first)])),
        ("This page", report_command),
    ]  # fmt: skip
    lead = () if given else ("The results do not hold the command that made them: an earlier version did.",)
    return Section("reproduce", "How to get these numbers", lead, commands=tuple(commands), listings=(_with(source),))


def _with(source: Source) -> Listing:
    """Return what the results were made with."""
    metadata = source.metadata
    facts = [("scenario", source.scenario), ("scenario hash", str(metadata.get("scenario_hash", "-")))]
    facts += [("seed", str(metadata.get("seed", "-")))]
    arguments = metadata.get("arguments", {})
    named = ("split", "episodes", "detector", "detector_seed", "diagnoser", "mix", "replications")
    facts += [(name.replace("_", " "), str(arguments[name])) for name in named if arguments.get(name) not in (None, "")]
    facts += [(f"version of {name}", str(of)) for name, of in metadata.get("versions", {}).items()]
    heads = (Head("what", False), Head("value", False))
    about = "Equal results need these; not the engine, the threads or the order in which runs were played."
    return Listing("Made with", about, heads, tuple(Row(fact) for fact in facts), "versions")
