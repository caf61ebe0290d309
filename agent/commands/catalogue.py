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
@option("--scenario", default=None, metavar="NAME|FILE", help="List what this scenario offers, with delays and costs.")
def actions(scenario: str | None) -> None:
    """List the kinds of action: what they do, what they mend; or the actions of a scenario, with delay and cost."""
    if scenario is not None:
        _actions_of(scenario)
        return
    from simcore.model.action_types import ACTIONS

    for name, kind in ACTIONS.items():
        click.echo(name)
        for head, text in (
            ("does", kind.does),
            ("mends", kind.mends),
            ("aimed at", kind.aim.value),
            ("amount", kind.values.rule.removeprefix("must be ") if kind.values else ""),
            ("undone by", kind.undone_by),
            ("disruptive", "yes" if kind.is_disruptive(kind.values.usual[-1] if kind.values else 0.0) else ""),
        ):
            if text:
                click.echo(f"  {head:<11}{text}")


def _actions_of(scenario: str) -> None:
    from simcore.env.actions import build_actions
    from simcore.model.loader import load_scenario

    table = build_actions(load_scenario(scenario))
    width = max(len(name) for name in table.names) + 2
    click.echo(f"{'action':<{width}}{'delay s':>8}{'settle s':>9}{'cooldown s':>11}{'cost':>8}{'fails':>7}  disruptive")
    for i, name in enumerate(table.names):
        click.echo(
            f"{name:<{width}}{table.delay_s[i]:>8g}{table.settle_s[i]:>9g}{table.cooldown_s[i]:>11g}"
            f"{table.cost[i]:>8g}{table.failure_probability[i]:>7.0%}  {'yes' if table.disruptive[i] else ''}".rstrip()
        )
