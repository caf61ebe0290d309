"""From results to what a page says of them."""

__all__ = ["part_of"]

from collections.abc import Callable, Sequence

from agent.evaluation.report_page.browsing import Choice, browse_all
from agent.evaluation.report_page.comparing import comparison_section, results_section
from agent.evaluation.report_page.content import Card, Part, Section
from agent.evaluation.report_page.reproducing import reproduce_section
from agent.evaluation.report_page.sources import Source
from agent.evaluation.report_page.studying import study_sections


def part_of(
    source: Source,
    choices: Sequence[Choice],
    key: str,
    *,
    command: str,
    threads: int | None = None,
    on_done: Callable[[float], None] | None = None,
) -> Part:
    """Return what a page says of some results.

    Parameters
    ----------
    source
        The results.
    choices
        Episodes to be played again.
    key
        Id of the part.
    command
        That the page comes from.
    threads
        Without influence on what comes out.
    on_done
        Called with 1 after every episode.
    """
    sections: list[Section] = []
    cards = _cards(source)
    if source.kind == "study":
        sections += study_sections(source)
    else:
        compared, more = comparison_section(source)
        cards += more
        sections += [compared] if compared is not None else []
        sections.append(results_section(source, alone=len(source.policies) == 1))
    browsed, wrong, stopped = browse_all(source, choices, key, threads=threads, on_done=on_done)
    if browsed:
        lead = (
            f"{len(browsed)} of {source.episodes.height} runs, played again for this page from their seeds. Dotted"
            " lines are actions, the tinted time is that of the fault; what the agent could not see is shown too.",
        )
        sections.append(Section("episodes", "Episodes", lead, browsed=tuple(browsed)))
    sections.append(reproduce_section(source, command))
    summary = Section("summary", "Summary", (_what(source),), tuple(cards))
    episodes = source.episodes
    figures = [shape for section in sections for shape in section.shapes]
    figures += [shape for one in browsed for shape in (one.timeline, *one.trees)]
    return Part(
        key=key,
        title=_title(source),
        subtitle=_subtitle(source),
        warnings=(*_warnings(source), *wrong),
        sections=(summary, *sections),
        policies=tuple(source.policies),
        faults=tuple(sorted(set(episodes["fault_type"].to_list()))),
        figures=tuple(figures),
        stopped=stopped,
    )


def _title(source: Source) -> str:
    what = "A study" if source.kind == "study" else "Policies compared" if len(source.policies) > 1 else "An evaluation"
    return f"{what} on {source.scenario}"


def _subtitle(source: Source) -> str:
    metadata = source.metadata
    arguments = metadata.get("arguments", {})
    split = arguments.get("split", "")
    where = f"{source.path}, scenario {metadata.get('scenario_hash', '-')}, seed {metadata.get('seed', '-')}"
    return where + (f", split {split}" if split else "")


def _what(source: Source) -> str:
    """Return what was run, in a sentence."""
    episodes, names = source.episodes, source.policies
    first = episodes.row(0, named=True)
    length = f"{first['steps'] * first['step_s'] / 60:g} minutes"
    runs = episodes.select("split", "seed", "run").n_unique()
    faults = episodes.filter(episodes["fault_type"] != "none")["fault_type"].n_unique()
    what = f"{runs} runs of {length} of the scenario {source.scenario}"
    with_ = f"{faults} type{'s' if faults != 1 else ''} of fault" if faults else "no fault"
    if source.kind == "study":
        return f"A study of {source.scenario}: {episodes.height} runs of {length}, {with_}."
    if len(names) > 1:
        return f"{what}, each met by {len(names)} policies ({', '.join(names)}), {with_}."
    return f"{what}, policy {names[0]}, {with_}."


def _cards(source: Source) -> list[Card]:
    episodes = source.episodes
    offered = int(episodes["offered"].sum())
    cards = [
        Card(f"{episodes.height:,}", "runs simulated"),
        Card(f"{offered / 1e6:.1f} million" if offered >= 1e6 else f"{offered:,}", "requests, each one simulated"),
    ]
    if source.kind == "study" and source.cells is not None:
        cards.append(Card(f"{source.cells.height:,}", "cells"))
    had = episodes.filter(episodes["incident"].fill_null(False))
    healed = int(had["recovered"].fill_null(False).sum())
    share = f"{100 * healed / had.height:.0f} % of them recovered" if had.height else ""
    cards.append(Card(f"{had.height:,}", "runs in which users noticed", share))
    return cards


def _warnings(source: Source) -> list[str]:
    if source.complete:
        return []
    stopped = source.metadata.get("stopped_by")
    why = f" (stopped by {stopped})" if stopped else ""
    return [f"These results are not complete{why}: {source.episodes.height} runs are there."]
