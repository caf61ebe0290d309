"""``mendsim export``: what one run has left behind, in formats that other tools read."""

__all__ = ["export"]

import click

from agent.commands.base import Group
from agent.commands.export_logs import logs
from agent.commands.export_traces import traces


@click.group(cls=Group, short_help="Traces and logs of one run, for other tools.")
def export() -> None:
    """Write what one run has left behind in formats that other tools read."""


export.add_command(traces)
export.add_command(logs)
