"""``mendsim train``: parts of an agent that learn from simulated incidents beforehand."""

__all__ = ["train"]

import click

from agent.commands.base import Group
from agent.commands.train_diagnoser import diagnoser


@click.group(cls=Group, short_help="Teach parts of an agent on simulated incidents.")
def train() -> None:
    """Teach parts of an agent on simulated incidents."""


train.add_command(diagnoser)
