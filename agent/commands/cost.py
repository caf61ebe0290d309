"""``mendsim cost``: what the parts of an agent cost, beside what the simulation costs."""

__all__ = ["cost"]

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.commands.setup import Mistakes
    from agent.evaluation.costs import Cost


@click.command(cls=Command, short_help="What detectors, diagnosers and policies cost.")
@option("--scenario", default="three_tier", metavar="NAME|FILE", help="What is simulated.")
@option("--steps", type=click.IntRange(1, 100_000), metavar="N", help="Control steps; else the scenario's.")
@option("--episodes", type=click.IntRange(1), metavar="N", default=50, help="Runs in one batch; all are played twice.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--detector", "detectors", metavar="NAMES", help="Joined by commas; else all. The first is in charge.")
@option("--diagnoser", "diagnosers", metavar="NAMES", help="Joined by commas; else all.")
@option("--policy", "policies", metavar="NAMES", help="Joined by commas; else all that need no state, or have one.")
@option("--policy-in", metavar="FILE", help="What policies have learned (JSON).")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def cost(**options: Any) -> None:
    """Say what the parts of an agent cost in CPU time, as shares of what the simulation takes by itself, on one thread.

    All watch the same runs side by side and nobody acts, so there is more to diagnose and to decide than in an agent
    at work. Who looks ahead is left out: that is to simulate more.
    """
    from agent.commands.setup import Mistakes, check_taught, learned_states
    from agent.evaluation.study import Study, with_steps
    from agent.registry import DETECTORS, DIAGNOSERS, POLICIES
    from simcore.model.loader import load_scenario

    mistakes, scenario = Mistakes(), None
    with mistakes.collect():
        scenario = load_scenario(options["scenario"])
        scenario = with_steps(scenario, options["steps"] or scenario.timing.steps)
    detectors = _names("--detector", options["detectors"], DETECTORS, DETECTORS, mistakes)
    diagnosers = _names("--diagnoser", options["diagnosers"], DIAGNOSERS, DIAGNOSERS, mistakes)
    policies = _names("--policy", options["policies"], POLICIES, _usable(options["policy_in"] is not None), mistakes)
    learned: dict[str, dict[str, Any]] = {}
    with mistakes.collect():
        learned = learned_states(options["policy_in"], tuple(policies))
    check_taught(policies, learned, mistakes)
    mistakes.report()
    assert scenario is not None

    from agent.commands.progress import Compiling
    from agent.evaluation.costs import costs

    study = Study(scenario, options["seed"], episodes=options["episodes"], policies=tuple(policies))
    with Compiling(quiet=options["quiet"]):
        found = costs(study, detectors, diagnosers, states=learned, threads=1)
    if options["as_json"]:
        told = {"scenario": scenario.name, "scenario_hash": scenario.digest, "seed": study.seed, "runs": study.episodes}
        told |= {"parts": [dataclasses.asdict(part) for part in found]}
        click.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    click.echo(f"{scenario.name}: {study.episodes} runs, seed {study.seed}; CPU time over that of the simulation\n")
    click.echo(_text(found))


def _usable(taught: bool) -> list[str]:
    """Return the policies that can be timed if none is named."""
    from agent.api import ConsultsRollouts
    from agent.evaluation.taught import needs_state
    from agent.registry import POLICIES, make_policy

    return [
        name
        for name in POLICIES
        if not isinstance(make_policy(name), ConsultsRollouts) and (taught or not needs_state(name))
    ]


def _names(
    called: str, given: str | None, known: "Iterable[str]", usual: "Iterable[str]", mistakes: "Mistakes"
) -> list[str]:
    """Return the names given, or the usual ones; note what is wrong."""
    from agent.api import ConsultsRollouts
    from agent.registry import POLICIES, make_policy
    from simcore.errors import suggest

    if given is None:
        return list(usual)
    known, names = list(known), [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            mistakes.lines.append(f"{called} must be one of {', '.join(known)}, got '{name}'{suggest(name, known)}")
        elif called == "--policy" and name in POLICIES and isinstance(make_policy(name), ConsultsRollouts):
            mistakes.lines.append(f"--policy: {name} looks ahead, which is to simulate more; name another")
    if len(set(names)) < len(names):
        mistakes.lines.append(f"{called} names something twice: {', '.join(names)}")
    return [name for name in dict.fromkeys(names) if name in known]


def _text(found: "list[Cost]") -> str:
    from agent.evaluation.render import grid

    return grid(["part", "", "CPU s", "share"], [[c.kind, c.name, f"{c.cpu_s:.2f}", f"{c.share:.1%}"] for c in found])
