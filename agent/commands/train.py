"""``mendsim train``: parts of an agent that learn from simulated incidents beforehand."""

__all__ = ["train"]

import click

from agent.commands.base import Group
from agent.commands.train_diagnoser import diagnoser
from agent.commands.train_policy import policy


@click.group(cls=Group, short_help="Teach parts of an agent on simulated incidents.")
def train() -> None:
    """Teach parts of an agent on simulated incidents."""


train.add_command(diagnoser)
train.add_command(policy)
