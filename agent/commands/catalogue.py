"""``mendsim faults`` and ``mendsim actions``: what there is to inject and to do."""

__all__ = ["actions", "faults"]

import json
from collections.abc import Iterator
from typing import Any

import click

from agent.commands.base import Command, option


@click.command(cls=Command, short_help="What can be injected.")
@option("--json", "as_json", is_flag=True, show_default=False, help="A JSON list instead of text.")
def faults(as_json: bool) -> None:
    """List the faults: what happens, what shows, where they may live, what mends them."""
    rows = list(_fault_rows())
    if as_json:
        click.echo(json.dumps(rows, indent=2, allow_nan=False))
        return
    for row in rows:
        click.echo(row["type"])
        for head, text in (
            ("what", row["mechanism"]),
            ("changes", ", ".join(row["parameters"])),
            ("shows", row["signature"]),
            ("mended by", row["fixes"]),
            ("aimed at", row["aimed_at"]),
            ("lives in", ", ".join(f"{place} {share:.0%}" for place, share in row["lives_in"].items())),
            ("profiles", ", ".join(row["profiles"])),
        ):
            if text:
                click.echo(f"  {head:<11}{text}")


def _fault_rows() -> Iterator[dict[str, Any]]:
    from simcore.codes import Place
    from simcore.model.faults import CATALOGUE
    from simcore.model.loader import load_scenario

    # which parameters change may depend on the service: all that change at any service of a rich system
    clinic = load_scenario("clinic")
    services = range(len(clinic.services))
    for name, kind in CATALOGUE.items():
        params = dict.fromkeys(param for at in services for param, _ in kind.effects(1.0, clinic, at))
        yield {
            "type": name,
            "mechanism": kind.mechanism,
            "parameters": [param.name.lower() for param in params],
            "signature": kind.signature,
            "fixes": kind.fixes,
            "aimed_at": kind.aim.value,
            "lives_in": {place.name.lower(): share for place, share in kind.places.items()},
            "may_live_in": [place.name.lower() for place in Place if kind.may_live_in(place)],
            "profiles": list(kind.profiles),
            "duration_s": kind.duration_s,
        }


@click.command(cls=Command, short_help="What an agent may do.")
@option("--scenario", default=None, metavar="NAME|FILE", help="List what this scenario offers, with delays and costs.")
@option("--json", "as_json", is_flag=True, show_default=False, help="A JSON list instead of text.")
def actions(scenario: str | None, as_json: bool) -> None:
    """List the kinds of action: what they do, what they mend; or the actions of a scenario, with delay and cost."""
    rows = list(_kind_rows() if scenario is None else _rows_of(scenario))
    if as_json:
        click.echo(json.dumps(rows, indent=2, allow_nan=False))
    elif scenario is None:
        _print_kinds(rows)
    else:
        _print_actions(rows)


def _kind_rows() -> Iterator[dict[str, Any]]:
    from simcore.model.action_types import ACTIONS

    for name, kind in ACTIONS.items():
        yield {
            "kind": name,
            "does": kind.does,
            "mends": kind.mends,
            "aimed_at": kind.aim.value,
            "amount": kind.values.rule.removeprefix("must be ") if kind.values else None,
            "undone_by": kind.undone_by or None,
            "disruptive": kind.is_disruptive(kind.values.usual[-1] if kind.values else 0.0),
        }


def _print_kinds(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(row["kind"])
        for head, text in (
            ("does", row["does"]),
            ("mends", row["mends"]),
            ("aimed at", row["aimed_at"]),
            ("amount", row["amount"]),
            ("undone by", row["undone_by"]),
            ("disruptive", "yes" if row["disruptive"] else None),
        ):
            if text:
                click.echo(f"  {head:<11}{text}")


def _rows_of(scenario: str) -> Iterator[dict[str, Any]]:
    from simcore.env.actions import build_actions
    from simcore.model.loader import load_scenario

    loaded = load_scenario(scenario)
    table = build_actions(loaded)
    for i, name in enumerate(table.names):
        yield {
            "action": name,
            "kind": table.kinds[i],
            "service": loaded.service_names[table.service[i]] if table.service[i] >= 0 else None,
            "amount": float(table.amount[i]),
            "delay_s": float(table.delay_s[i]),
            "delay_sigma": float(table.delay_sigma[i]),
            "settle_s": float(table.settle_s[i]),
            "cooldown_s": float(table.cooldown_s[i]),
            "cost": float(table.cost[i]),
            "failure_probability": float(table.failure_probability[i]),
            "disruptive": bool(table.disruptive[i]),
        }


def _print_actions(rows: list[dict[str, Any]]) -> None:
    width = max(len(row["action"]) for row in rows) + 2
    click.echo(f"{'action':<{width}}{'delay s':>8}{'settle s':>9}{'cooldown s':>11}{'cost':>8}{'fails':>7}  disruptive")
    for row in rows:
        click.echo(
            f"{row['action']:<{width}}{row['delay_s']:>8g}{row['settle_s']:>9g}{row['cooldown_s']:>11g}"
            f"{row['cost']:>8g}{row['failure_probability']:>7.0%}  {'yes' if row['disruptive'] else ''}".rstrip()
        )
