"""Episodes to look at: which ones are worth it, and what is told of each after it was played again."""

__all__ = ["Choice", "browse", "browse_all", "check_rows", "choose"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from agent.evaluation.counterfactual import MARGIN
from agent.evaluation.figures import CallTree, SpanBar
from agent.evaluation.figures_of_episode import timeline_of
from agent.evaluation.journal import journal
from agent.evaluation.replay import Played, play_replay, replay_of
from agent.evaluation.report_page.content import Browsed, Head, Listing, Row
from agent.evaluation.report_page.reproducing import row_command
from agent.evaluation.report_page.shapes import shape_of
from agent.evaluation.report_page.sources import Source
from agent.evaluation.timeline import clock
from simcore.errors import ResultsError
from simcore.telemetry.episode import episode_logs
from simcore.telemetry.logs import LogRecord
from simcore.telemetry.sampling import Roots, roots_of
from simcore.telemetry.traces import Span, Trace, request_trees

#: Most lines of a log that are shown; the rest is counted.
LOG_LINES = 120
#: Most spans of a call tree that are shown.
SPANS = 60


@dataclass(frozen=True, slots=True)
class Choice:
    """A row that is worth looking at."""

    row: int
    why: str


def choose(episodes: pl.DataFrame, number: int) -> list[Choice]:
    """Return rows that are worth looking at: the worst, harmed, saved, ordinary, and those with a false reaction.

    Parameters
    ----------
    episodes
        The episodes table with ``row``.
    number
        How many at most.
    """
    acting = episodes.filter(pl.col("policy") != "noop")
    table = acting if acting.height else episodes
    gain = pl.col("j") - pl.col("noop_j")
    had = table.filter(pl.col("incident"))
    middle = had["error_budget_spent"].median()
    kinds = [
        ("Most error budget spent", table.filter(pl.col("incident")).sort("error_budget_spent", descending=True)),
        ("Harmed most", table.filter(gain < -MARGIN).sort(gain)),
        ("Helped most", table.filter(gain > MARGIN).sort(gain, descending=True)),
        ("An ordinary incident", had.sort((pl.col("error_budget_spent") - (middle or 0.0)).abs())),
        ("Acted without need", table.filter(pl.col("false_actions") > 0).sort("false_actions", descending=True)),
        ("Incident without an alarm", had.filter(pl.col("t_alarm_s").is_null() & pl.col("detector").is_not_null())),
        ("No incident", table.filter(~pl.col("incident").fill_null(False))),
    ]
    # the same answer whatever the order of equals was before
    queues = [(why, rows["row"].to_list()) for why, rows in kinds]
    return list(_in_turn(queues, number))


def _in_turn(queues: Sequence[tuple[str, list[int]]], number: int) -> Iterator[Choice]:
    """Yield the next row of every kind in turn, each row once."""
    seen: set[int] = set()
    while len(seen) < number:
        before = len(seen)
        for why, rows in queues:
            row = next((row for row in rows if row not in seen), None)
            if row is not None and len(seen) < number:
                seen.add(row)
                yield Choice(row, why)
        if len(seen) == before:
            return


def browse(source: Source, choice: Choice, part: str, *, threads: int | None = None) -> Browsed:
    """Play a row again, exactly, and return what is to be told of it.

    Parameters
    ----------
    source
        The results.
    choice
        Which row, and why.
    part
        Id of the part of the page, to begin ids with.
    threads
        Without influence on what comes out.

    Raises
    ------
    ResultsError
        If the row cannot be played again.
    """
    replay = replay_of(source.path, choice.row)
    played = play_replay(replay, log=True, threads=threads)
    row = played.row
    key = f"row-{choice.row}"
    policy = row["policy"] or "no agent"
    timeline = timeline_of(played.episodes, played.trace, key=f"{key}-timeline", title="What happened")
    log = played.episodes.session.events(0)
    return Browsed(
        key=f"{part}-{key}",
        row=choice.row,
        title=f"{policy}, {row['fault_type']}: {row['split']} run {row['run']}, row {choice.row}",
        why=choice.why,
        policy=policy,
        fault=row["fault_type"],
        facts=_facts(played),
        sentences=_sentences(replay.stored or row, row),
        timeline=shape_of(timeline),
        decisions=_decisions(played, key),
        logs=_logs(played, key),
        trees=tuple(shape_of(tree) for tree in _trees(played, log, key)),
        command=row_command(source, choice.row),
        same=not played.differences,
    )


def _sentences(stored: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    """Return how the run came out beside its twin in which nobody acts, where that is known."""
    twin = stored.get("noop_j")
    if twin is None or row["policy"] in (None, "noop"):
        return ()
    gap = row["j"] - twin
    if abs(gap) <= MARGIN:
        return ("It came out as if nobody had acted.",)
    word = "better" if gap > 0 else "worse"
    told = f"It came out {word} than if nobody had acted: J {row['j']:.3f} instead of {twin:.3f}."
    return (told.replace("-", "\u2212"),)


def _facts(played: Played) -> tuple[tuple[str, str], ...]:
    """Return the incident report as names and texts."""
    lines = played.report.splitlines()[1:]
    return tuple((line[2:13].strip(), line[13:].strip()) for line in lines)


def _decisions(played: Played, key: str) -> Listing | None:
    if played.trace is None or not played.trace.decisions:
        return None
    step_s, names = played.episodes.scenario.timing.step_s, played.episodes.actions.names
    rows = tuple(
        Row(
            (
                clock(decision.opened * step_s),
                names[decision.action],
                decision.rationale,
                "-" if decision.closed < 0 else f"{decision.reward:.2f}",
            )
        )
        for decision in played.trace.decisions
    )
    heads = (
        Head("time"),
        Head("decision", False),
        Head("reasons", False, wide=True),
        Head("reward", True, "in [0, 1]"),
    )
    return Listing("Decisions", "What the agent did at which time, and why.", heads, rows, f"{key}-decisions")


def _logs(played: Played, key: str) -> Listing | None:
    """Return what system and agent have logged, repetitions in one line; where there is too much, the most severe."""
    records = episode_logs(played.episodes, 0)
    if played.trace is not None:
        records += journal(played.episodes, played.trace, 0).records
    # the burn-in is not part of the episode
    records = sorted((one for one in records if one.time_s >= 0.0), key=lambda one: one.time_s)
    lines = _gathered(records, 2.5 * played.episodes.scenario.timing.step_s)
    if not lines:
        return None
    ranks = {"ERROR": 0, "WARN": 1, "INFO": 2, "DEBUG": 3}
    order = sorted(range(len(lines)), key=lambda i: (ranks.get(lines[i][0].severity, 3), i))
    kept = [lines[i] for i in sorted(order[:LOG_LINES])]
    rows = tuple(
        Row(
            (
                clock(first.time_s),
                first.severity,
                first.replica or first.service or "border",
                first.body + (f"\nand {more} more like it until {clock(last_s)}" if more else ""),
            )
        )
        for first, more, last_s in kept
    )
    left = len(lines) - len(kept)
    about = "What the system and the agent have logged."
    heads = (Head("time"), Head("level", False), Head("where", False), Head("line", False, wide=True))
    return Listing(
        "Log", about + (f" {left} less severe lines are left out." if left else ""), heads, rows, f"{key}-log"
    )


def _gathered(records: Sequence[LogRecord], apart_s: float) -> list[tuple[LogRecord, int, float]]:
    """Return records in order of time, each with how many of its kind follow at most so far apart, and until when."""
    found: list[tuple[LogRecord, int, float]] = []
    last: dict[tuple[str, str, str, str], int] = {}
    for record in records:
        kind = (record.severity, record.service, record.replica, record.name)
        at = last.get(kind)
        if at is not None and record.time_s - found[at][2] <= apart_s:
            found[at] = (found[at][0], found[at][1] + 1, record.time_s)
        else:
            last[kind] = len(found)
            found.append((record, 0, record.time_s))
    return found


def _trees(played: Played, log: Any, key: str) -> list[CallTree]:
    """Return the call trees of the slowest request of the incident (or of all), and of an ordinary one."""
    episodes, row = played.episodes, played.row
    roots = roots_of(log)
    onset = row["fault_onset_s"]
    until = row["t_r_s"] if row["t_r_s"] is not None else episodes.n_steps * episodes.scenario.timing.step_s
    begin = onset if onset is not None else 0.0
    during = (roots.offered_s >= begin) & (roots.offered_s < until) & ~np.isnan(roots.latency_s)
    before = (roots.offered_s >= 0.0) & ~np.isnan(roots.latency_s) & ~roots.failed
    if onset is not None and (before & (roots.offered_s < onset)).any():
        before &= roots.offered_s < onset
    wanted = [
        (_slowest(roots, during), "slow", "A slow request", "The slowest request between onset and recovery"),
        (_median(roots, before), "ordinary", "An ordinary request", "A request of median latency while all was well"),
    ]
    found = []
    for request, name, title, about in wanted:
        if request is None:
            continue
        trees = request_trees(episodes.scenario, log, episodes.runs[0].inputs.key, [request])
        if trees:
            found.append(_tree(trees[0], episodes.topology.services, f"{key}-{name}", title, about))
    return found


def _slowest(roots: Roots, which: Any) -> int | None:
    places = np.flatnonzero(which)
    return int(roots.requests[places[np.argmax(roots.latency_s[places])]]) if places.size else None


def _median(roots: Roots, which: Any) -> int | None:
    places = np.flatnonzero(which)
    if not places.size:
        return None
    order = places[np.argsort(roots.latency_s[places], kind="stable")]
    return int(roots.requests[order[order.size // 2]])


def _tree(trace: Trace, services: Sequence[str], key: str, title: str, about: str) -> CallTree:
    """Return a trace as a figure; of a large one its first spans."""
    began = trace.root.start_s
    bars = tuple(_bar(span, began, services) for span in trace.spans[:SPANS] if not np.isnan(span.start_s))
    left = len(trace.spans) - len(bars)
    more = f" {left} more spans are left out." if left > 0 else ""
    return CallTree(
        key=key,
        title=title,
        about=(
            f"{about}: {trace.root.status} after {1000 * trace.duration_s:.0f} ms, begun at {clock(began)}. Hatched:"
            f" waiting in a queue, for a connection or a lock; outlined: failed.{more}"
        ),
        spans=bars,
    )


def _bar(span: Span, began: float, services: Sequence[str]) -> SpanBar:
    end = span.end_s if not np.isnan(span.end_s) else span.finished_s
    waits = [wait for wait in (span.pool_s, span.queue_s, span.lock_s) if not np.isnan(wait)]
    notes = [span.instance, f"attempt {span.attempt + 1}" if span.attempt else "", "hedge" if span.hedge else ""]
    notes += [f"cache {span.cache}" if span.cache else "", span.status if span.status != "ok" else ""]
    if span.zombie_s > 0:
        notes.append(f"worked on for {1000 * span.zombie_s:.0f} ms after its caller gave up")
    return SpanBar(
        name=f"{span.service} {span.operation}".strip(),
        depth=span.depth,
        start_s=span.start_s - began,
        end_s=(span.start_s if np.isnan(end) else end) - began,
        waited_s=sum(waits),
        look=services.index(span.service) if span.service in services else -1,
        failed=span.failed,
        note=", ".join(note for note in notes if note),
    )


def check_rows(source: Source, rows: Sequence[int]) -> list[str]:
    """Return what is wrong with rows that a user named."""
    known = source.episodes["row"].to_list()
    missing = sorted(set(rows) - set(known))
    if not missing:
        return []
    ends = f"rows are {min(known)} to {max(known)}"
    return [f"--rows: {source.path} has no row {', '.join(map(str, missing))}; {ends}"]


def browse_all(
    source: Source,
    choices: Sequence[Choice],
    part: str,
    *,
    threads: int | None = None,
    on_done: Callable[[float], None] | None = None,
) -> tuple[list[Browsed], list[str], bool]:
    """Return the episodes that could be played again, why others could not, and whether Ctrl-C ended it.

    Parameters
    ----------
    source, choices
        The results, and which of their rows.
    part
        Id of the part of the page.
    threads
        Without influence on what comes out.
    on_done
        Called with 1 after every episode.
    """
    found: list[Browsed] = []
    wrong: list[str] = []
    for choice in choices:
        try:
            found.append(browse(source, choice, part, threads=threads))
        except ResultsError as error:
            wrong.append(f"row {choice.row} cannot be played again: {error}")
        except KeyboardInterrupt:
            wrong.append(f"Stopped by Ctrl-C: {len(found)} of {len(choices)} episodes are shown.")
            return found, wrong, True
        if on_done is not None:
            on_done(1.0)
    return found, wrong, False
