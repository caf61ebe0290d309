"""A profile as text of 80 columns."""

__all__ = ["profile_text"]

import math

from agent.evaluation.profiling.costmodel import CONFIDENCE
from agent.evaluation.profiling.profile import PARTS, Profile
from agent.evaluation.profiling.scaling import Point
from agent.evaluation.profiling.stages import STAGES

_WIDE = 80
_BAR = 10


def profile_text(profile: Profile) -> str:
    """Return all parts that were measured."""
    made = {
        "stages": _stages, "events": _events, "engines": _engines, "scaling": _scaling, "faster": _faster,
        "memory": _memory, "start": _start,
    }  # fmt: skip
    blocks = [[_title(profile)]]
    for part, lines in made.items():
        body = lines(profile)
        if body:
            blocks.append([f"{PARTS[part].upper()}", *body])
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def _title(profile: Profile) -> str:
    study = profile.study
    agent = f"{study.detector} > {study.diagnoser} > {study.policies[0]}" if study.policies else "no agent"
    used = "all threads" if profile.threads is None else f"{profile.threads} thread{'s' * (profile.threads > 1)}"
    threads = f", {used}" if profile.engine == "batch" else ""
    runs = f"{study.episodes} run{'s' * (study.episodes > 1)}"
    steps = f"{study.scenario.timing.steps} steps of {study.scenario.timing.step_s:g} s"
    return (
        f"{study.scenario.name}: {runs} of {steps}, seed {study.seed}, engine {profile.engine}{threads}"
        f"\n{agent}\nAll times are CPU time of all threads, best round, unless it says otherwise."
    )


def _time(seconds: float) -> str:
    """Return a time with a unit that leaves three digits or so."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}" if seconds / size < 999.5 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _bytes(n: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} B"


def _count(n: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:,.0f}"


def _bar(share: float) -> str:
    return "#" * round(_BAR * share)


def _stages(profile: Profile) -> list[str]:
    found = profile.stages
    if found is None:
        return []
    lines = [f"{'stage':<10}{'time':>9}{'share':>8}  {'':<{_BAR + 1}}{'a run':>9}  what"]
    for stage, spent in sorted(found.seconds.items(), key=lambda item: -item[1]):
        share = spent / found.cpu_s
        if share >= 0.0005:
            cells = (
                f"{stage:<10}{_time(spent):>9}{share:>8.1%}  {_bar(share):<{_BAR + 1}}{_time(spent / found.runs):>9}"
            )
            lines.append(f"{cells}  {STAGES[stage]}"[:_WIDE])
    total = f"{'total':<10}{_time(found.cpu_s):>9}{'100 %':>8}  {'':<{_BAR + 1}}{_time(found.cpu_s / found.runs):>9}"
    lines += [
        f"{total}  {_time(found.wall_s)} of wall time",
        "",
        f"{found.requests / found.cpu_s:,.0f} requests and {found.attempts / found.cpu_s:,.0f} attempts a CPU-second, "
        "all in;",
    ]
    simulated = found.seconds["simulate"] + found.seconds["burn-in"]
    if found.entries:
        each, attempts = found.entries / found.requests, found.attempts / found.requests
        lines += [
            f"{_count(found.entries)} calendar entries of {1e9 * simulated / found.entries:.0f} ns "
            "(simulate and burn-in);",
            f"{each:.1f} entries and {attempts:.2f} attempts a request;",
        ]
    noise = (
        "" if math.isnan(found.noise) else f"; the second best of {found.rounds} rounds took {found.noise:.1%} longer"
    )
    lines.append(f"{_bytes(found.written_bytes)} written{noise}.")
    if profile.engine == "batch":
        lines.append("Windows close inside the kernel: timed apart on the same data, and taken out.")
    return lines


def _events(profile: Profile) -> list[str]:
    found = profile.events
    if found is None:
        return []
    lines = [f"{'kind':<18}{'events':>10}{'share':>8}  {'':<{_BAR + 1}}{'a request':>10}"]
    for kind, n in found.by_kind.items():
        share = n / found.rows
        lines.append(
            f"{kind:<18}{n:>10,}{share:>8.1%}  {_bar(share):<{_BAR + 1}}{n / max(found.requests, 1):>10.3g}"
        )  # fmt: skip
    lines.append(
        f"{'all':<18}{found.rows:>10,}{'100 %':>8}  {'':<{_BAR + 1}}{found.rows / max(found.requests, 1):>10.3g}"
    )
    lines += [
        "",
        f"Rows of the event log of one run without agent and drawn faults; {found.entries:,}",
        "calendar entries.",
    ]
    return lines


def _engines(profile: Profile) -> list[str]:
    found = profile.engines
    if found is None:
        return []
    batch, simpy = found.rows
    lines = [f"{'':<24}{'batch':>14}{'simpy':>14}{'ratio':>10}"]

    def row(what: str, one: float, other: float, form: str = "rate") -> None:
        show = _time if form == "time" else _count
        ratio = f"{max(one, other) / min(one, other):.1f}" if min(one, other) > 0.0 else ""
        lines.append(f"{what:<24}{show(one):>14}{show(other):>14}{ratio:>10}")

    row("CPU time", batch.best_s, simpy.best_s, "time")
    row("requests/s", found.requests / batch.best_s, found.requests / simpy.best_s)
    row("attempts/s", found.attempts / batch.best_s, found.attempts / simpy.best_s)
    row("time an entry", batch.best_s / found.entries, simpy.best_s / found.entries, "time")
    for stage in ("open", "simulate", "windows", "other"):
        one, other = (engine.best_s * engine.stages.get(stage, 0.0) for engine in found.rows)
        if max(one / batch.best_s, other / simpy.best_s) >= 0.001:
            row(f"  {stage}", one, other, "time")
    same = "the same to the last bit" if found.equal else "NOT THE SAME"
    lines += [
        "",
        f"One run of {found.steps} steps from an empty system: {found.requests:,} requests, "
        f"{_count(found.entries)} entries.",
        f"Results: {same}. Second best round: {batch.noise:+.1%} batch, {simpy.noise:+.1%} simpy.",
    ]
    if batch.stages.get("windows") is None:
        lines.append("The batch engine's windows are part of simulate here.")
    return lines


def _scaling(profile: Profile) -> list[str]:
    found = profile.scaling
    if found is None:
        return []
    lines = [
        f"{'series':<10}{'at':>6}{'runs':>6}{'services':>10}{'requests':>10}{'time':>10}{'an entry':>11}"
        f"{'relative':>10}"
    ]
    for series in ("runs", "load", "services", "threads"):
        points = found.series(series)
        if not points:
            continue
        base = next((point for point in points if point.at == 1), points[0])
        for point in points:
            lines.append(_point(point, base))
    lines += [
        "",
        f"Batch engine, {found.steps} steps, without agent and drawn faults. relative: cost of an",
        "entry over that of the row at 1. services: copies of the system that share its",
        "load. threads: time of the busiest one; relative: speed-up over one thread.",
    ]
    model = found.model
    if model is not None:
        terms = {term.name: term for term in model.terms}
        a, b, r = terms["session"], terms["event"], terms.get("run")
        runs = "" if r is None else f" + {_time(r.value)} x runs"
        lines += [
            "",
            f"cost = {_time(max(a.value, 0.0))}{runs} + {_time(b.value)} x entries",
            f"{model.points} points, R2 {model.r_squared:.4f}, off by {model.worst:.1%} at most;",
            f"{CONFIDENCE:.0%} intervals: fixed {_interval(a.low, a.high)}"
            + ("" if r is None else f", a run {_interval(r.low, r.high)}")
            + f", an entry {_interval(b.low, b.high)}",
        ]
    return lines


def _interval(low: float, high: float) -> str:
    return f"{'<0' if low < 0 else _time(low)} .. {_time(max(high, 0.0))}"


def _point(point: Point, base: Point) -> str:
    each, usual = point.cost_s / point.entries, base.cost_s / base.entries
    relative = base.cost_s / point.cost_s if point.series == "threads" else each / usual
    return (
        f"{point.series:<10}{point.at:>6g}{point.runs:>6}{point.services:>10}{point.requests:>10,}"
        f"{_time(point.cost_s):>10}{_time(each):>11}{relative:>10.2f}"
    )


def _faster(profile: Profile) -> list[str]:
    if profile.trials is None:
        return []
    advice = profile.advice()
    lines = [f"{'change':<40}{'saves':>7} {'of':<5} {'results':<16}from"]
    lines += [f"{a.what[:39]:<40}{a.saves:>7.1%} {a.of:<5} {a.results[:15]:<16}{a.source}" for a in advice]
    if not advice:
        lines = ["Nothing that was tried saves more than noise explains."]
    idle = [
        f"{trial.change} ({trial.saves:+.1%} +- {2 * trial.noise:.1%})" for trial in profile.trials if not trial.shown
    ]
    lines += ["", "Each figure is measured for this scenario; savings do not add up."]
    if idle:
        lines.append("Tried, no saving shown:")
        lines += [f"  {each}"[:_WIDE] for each in idle]
    return lines


def _memory(profile: Profile) -> list[str]:
    state = profile.state
    if state is None:
        return []
    largest = ", ".join(f"{name} {_bytes(size)}" for name, size in list(state.by_array.items())[:4])
    lines = [
        f"state of a run, batch engine: {_bytes(state.at_start)} at first, {_bytes(state.at_end)} at the end",
        f"  largest: {largest}",
    ]
    if profile.memory is not None:
        lines += ["", f"{'stage':<12}{'grows by':>10}  at most, Python's objects and NumPy's arrays"]
        for stage, peak in sorted(profile.memory.peak.items(), key=lambda item: -item[1]):
            lines.append(f"{stage:<12}{_bytes(peak):>10}")
        lines.append(f"{'left':<12}{_bytes(profile.memory.left):>10}  at the end, by the results")
    return lines


def _start(profile: Profile) -> list[str]:
    lines: list[str] = []
    for what, found in (("from a full cache", profile.start), ("from an empty cache", profile.compile)):
        if found is None:
            continue
        lines += [
            f"a new process, {what}:",
            f"  imports   {_time(found.import_s):>9}",
            f"  loading   {_time(found.load_s):>9}   {found.loaded} kernels from the disk cache",
            f"  compiling {_time(found.compile_s):>9}   {found.compiled} kernels",
            f"  the rest  {_time(found.rest_s):>9}   of a first short episode; the second takes {_time(found.again_s)}",
        ]
        if found.slowest:
            names = ", ".join(f"{name} {_time(spent)}" for name, spent in list(found.slowest.items())[:3])
            lines.append(f"  longest to compile: {names}")
    return lines
