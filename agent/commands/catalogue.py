"""``mendsim faults`` and ``mendsim actions``: what there is to inject and to do."""

__all__ = ["actions", "faults"]

import click

from agent.commands.base import Command, option


@click.command(cls=Command, short_help="What can be injected.")
def faults() -> None:
    """List the faults: what happens, where they may live, what mends them."""
    from simcore.model.faults import CATALOGUE

    for name, kind in CATALOGUE.items():
        places = ", ".join(f"{place.name.lower()} {share:.0%}" for place, share in kind.places.items())
        click.echo(name)
        for head, text in (
            ("what", kind.mechanism),
            ("shows", kind.signature),
            ("mended by", kind.fixes),
            ("aimed at", kind.aim.value),
            ("lives in", places),
            ("profiles", ", ".join(kind.profiles)),
        ):
            click.echo(f"  {head:<11}{text}")


@click.command(cls=Command, short_help="What an agent may do.")
@option("--scenario", default="three_tier", metavar="NAME|FILE", help="Whose actions.")
def actions(scenario: str) -> None:
    """List the actions that an agent may take in a scenario, with delay, cost and cooldown."""
    from simcore.env.actions import build_actions
    from simcore.model.loader import load_scenario

    table = build_actions(load_scenario(scenario))
    click.echo(f"{'action':<26}{'delay s':>8}{'settle s':>9}{'cooldown s':>11}{'cost':>8}{'fails':>7}  disruptive")
    for i, name in enumerate(table.names):
        click.echo(
            f"{name:<26}{table.delay_s[i]:>8g}{table.settle_s[i]:>9g}{table.cooldown_s[i]:>11g}"
            f"{table.cost[i]:>8g}{table.failure_probability[i]:>7.0%}  {'yes' if table.disruptive[i] else ''}"
        )
