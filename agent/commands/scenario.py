"""``mendsim scenario``: list, show, check, schema."""

__all__ = ["scenario"]

import json
from typing import TYPE_CHECKING

import click

from agent.commands.base import Group, option

if TYPE_CHECKING:
    from simcore.model.scenario import Scenario


@click.group(cls=Group, short_help="List, show and check scenarios.")
def scenario() -> None:
    """Look at scenarios, check your own, print their schema."""


@scenario.command("list")
def list_() -> None:
    """List the scenarios that mendsim brings along."""
    from simcore.model.loader import load_scenario, shipped

    for name in sorted(shipped()):
        found = load_scenario(name)
        about = found.description.split("\n")[0]
        click.echo(f"{name:<18}{len(found.services):>3} services  {found.workload.rate_rps:>6g} requests/s  {about}")


@scenario.command()
@click.argument("name")
@option("--json", "as_json", is_flag=True, show_default=False, help="With every default filled in, as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a scenario: what is in it, in short, or all of it as JSON."""
    from simcore.model.loader import load_scenario

    found = load_scenario(name)
    click.echo(json.dumps(found.model_dump(mode="json"), indent=2) if as_json else describe(found))


@scenario.command()
@click.argument("file")
def check(file: str) -> None:
    """Check a scenario file; report every mistake at once."""
    from simcore.model.loader import load_scenario

    found = load_scenario(file)
    click.echo(f"{file}: fine ({found.name}, version {found.version}, digest {found.digest})")


@scenario.command()
def schema() -> None:
    """Print the JSON Schema of scenario files."""
    from simcore.model.loader import schema as json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def describe(scenario: "Scenario") -> str:
    """Return a scenario in about a screen of text."""
    work, slo, timing = scenario.workload, scenario.slo, scenario.timing
    lines = [
        f"{scenario.name} (version {scenario.version}, digest {scenario.digest})",
        *(f"  {line}" for line in scenario.description.strip().split("\n")),
        "",
        f"workload   {work.rate_rps:g} requests/s, {work.arrivals} arrivals, {work.shape}",
        f"           into {', '.join(entry.operation for entry in work.entries)}",
        f"slo        p95 <= {slo.p95_s:g} s, bad <= {slo.bad_frac:.0%} of a step, {slo.objective:.2%} good",
        f"timing     {timing.steps} steps of {timing.step_s:g} s, {timing.burn_in_steps} of burn-in before",
        "",
        "service              replicas  threads  cores  queue  calls",
    ]
    calls = _calls(scenario)
    for name, service in scenario.services.items():
        kind = " (cache)" if service.cache else ""
        lines.append(
            f"{name + kind:<21}{service.replicas.initial:>8}{service.threads:>9}{service.cores:>7g}"
            f"{service.queue:>7}  {', '.join(sorted(calls[name])) or '-'}"
        )
    if scenario.topics:
        lines += ["", "topic                partitions   limit  consumed by"]
    for name, topic in scenario.topics.items():
        lines.append(f"{name:<21}{topic.partitions:>10}{topic.limit:>8}  {topic.to}")
    total = sum(row.weight for row in scenario.faults.mix)
    lines += ["", f"faults     none in {scenario.faults.none_share:.0%} of the runs, else"]
    lines += [f"           {row.weight / total:>4.0%} {row.type}" for row in scenario.faults.mix]
    lines += ["", f"actions    noop, {', '.join(a for a in scenario.actions if a != 'noop')}"]
    return "\n".join(lines)


def _calls(scenario: "Scenario") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in scenario.services}
    for number, step in enumerate(scenario.sites):
        caller = scenario.operations[step.operation][0]
        found[caller].add(scenario.callee_of(number).split(".")[0])
    return found
