"""``mendsim profile``: where the time goes, and what would save some."""

__all__ = ["profile"]

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, cast

import click

from agent.commands.base import Command, agent_options, common_options, fault_options, option
from agent.commands.files import check_file

if TYPE_CHECKING:
    from agent.api import Detector
    from agent.evaluation.profiling.profile import Profile
    from agent.evaluation.profiling.watched import Learned
    from agent.evaluation.study import Study

_PARTS = ("stages", "events", "engines", "scaling", "faster", "memory", "start")


@click.command(cls=Command, short_help="Where the time goes, and what would save some.")
@common_options()
@option("--episodes", type=click.IntRange(1, 10_000), metavar="N", default=16, help="Runs, all in one round.")
@option("--rounds", type=click.IntRange(1, 100), metavar="N", default=3, help="How often it is timed; the best counts.")
@option("--part", "parts", multiple=True, type=click.Choice(_PARTS), help="Only this part; repeatable.")
@option("--memory", is_flag=True, show_default=False, help="Trace allocations too, stage by stage; slow.")
@option("--cold", is_flag=True, show_default=False, help="Also compile everything anew, in a folder of its own; slow.")
@option("--speedscope", metavar="FILE", help="Samples of the Python side for speedscope.app (JSON).")
@option("--force", is_flag=True, show_default=False, help="Replace the file of --speedscope.")
@agent_options("What to do.")
@fault_options()
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def profile(**options: Any) -> int:
    """Measure where the time of a study goes: stages, events, both engines, scaling, memory, start.

    Times are CPU time. Nothing is counted or timed inside the simulator; stages are told apart from outside.
    """
    from agent.commands.setup import Mistakes, build_study, learned_states

    mistakes = Mistakes()
    study = build_study({**options, "round_size": options["episodes"]}, mistakes)
    learned: Learned = {}
    if study is not None:
        if len(study.policies) > 1:
            mistakes.lines.append("--policy takes one name here; eval compares several")
        with mistakes.collect():
            learned = learned_states(options["policy_in"], study.policies)
    check_file("--speedscope", options["speedscope"], options["force"], mistakes, (".json",))
    _check_sampler(options["speedscope"], mistakes)
    if options["memory"] and options["parts"] and "memory" not in options["parts"]:
        mistakes.lines.append("--memory needs --part memory, or no --part at all")
    if options["cold"] and options["parts"] and "start" not in options["parts"]:
        mistakes.lines.append("--cold needs --part start, or no --part at all")
    mistakes.report()
    assert study is not None
    return _profile(study, learned, options)


def _check_sampler(path: str | None, mistakes: Any) -> None:
    import importlib.util

    if path is not None and importlib.util.find_spec("pyinstrument") is None:
        mistakes.lines.append("--speedscope needs pyinstrument: install mendsim[profile]")


def _profile(study: "Study", learned: "Learned", options: dict[str, Any]) -> int:
    from agent.commands.progress import Compiling
    from agent.commands.warm import helper_for
    from agent.evaluation.profiling.profile import PARTS, measure
    from agent.evaluation.training import trained_detector

    engine, threads, quiet = options["engine"], options["threads"], options["quiet"]

    def tell(part: str) -> None:
        if not quiet:
            click.echo(f"measuring: {PARTS[part]}", err=True)

    with Compiling(quiet=quiet, helper=helper_for(study, engine)):
        detector = None
        if study.policies:
            detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
        found = measure(
            study,
            engine=engine,
            threads=threads,
            detector=detector,
            learned=learned,
            parts=options["parts"] or _PARTS,
            rounds=options["rounds"],
            allocations=options["memory"],
            cold=options["cold"],
            tell=tell,
        )
        if options["speedscope"] and not found.interrupted:
            _sample(study, learned, detector, options)
    if found.interrupted and not quiet:
        click.echo("interrupted: here are the parts that were finished", err=True)
    _show(found, options)
    return int(found.interrupted)


def _sample(study: "Study", learned: "Learned", detector: "Detector | None", options: dict[str, Any]) -> None:
    """Play the study once more under the sampler and write what it saw."""
    from pathlib import Path

    from pyinstrument import Profiler
    from pyinstrument.renderers import SpeedscopeRenderer

    from agent.evaluation.study import evaluate
    from simcore.telemetry.files import replace_file

    sampler = Profiler(interval=0.001, async_mode="disabled")
    with sampler:
        evaluate(study, engine=options["engine"], threads=options["threads"], detector=detector, learned=learned)
    replace_file(Path(options["speedscope"]), sampler.output(SpeedscopeRenderer()).encode())


def _show(found: "Profile", options: dict[str, Any]) -> None:
    from agent.commands.eval import peak_rss_bytes
    from agent.evaluation.profiling.text import profile_text

    if options["as_json"]:
        click.echo(json.dumps(_object(found) | {"peak_rss_bytes": peak_rss_bytes()}, indent=2, allow_nan=False))
        return
    click.echo(profile_text(found))
    peak = peak_rss_bytes()
    if found.state is not None and peak:
        click.echo(f"largest resident set of this process: {peak / 1e6:,.0f} MB")
    if options["speedscope"]:
        click.echo(f"\nsamples in {options['speedscope']}: open it at speedscope.app, or any viewer of its format")


def _object(found: "Profile") -> dict[str, Any]:
    """Return the figures as plain values."""
    study = found.study
    plain: dict[str, Any] = {
        "scenario": study.scenario.name, "scenario_hash": study.scenario.digest, "seed": study.seed,
        "episodes": study.episodes, "steps": study.scenario.timing.steps, "engine": found.engine,
        "threads": found.threads, "detector": study.detector, "diagnoser": study.diagnoser,
        "policy": study.policies[0] if study.policies else None,
    }  # fmt: skip
    for name in ("stages", "half", "events", "engines", "scaling", "state", "memory", "start", "compile"):
        part = getattr(found, name)
        if part is not None:
            plain[name] = dataclasses.asdict(part)
    if found.trials is not None:
        plain["trials"] = [dataclasses.asdict(trial) for trial in found.trials]
        plain["advice"] = [dataclasses.asdict(advice) for advice in found.advice()]
    return cast(dict[str, Any], _finite(plain))


def _finite(value: Any) -> Any:
    """Return plain values with None for nan."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
