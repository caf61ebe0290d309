"""The ``mendsim`` command. The subcommands live in ``agent.commands`` and import what is heavy when they run."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 14):  # before any import that an older Python could not read
    sys.exit("mendsim needs Python 3.11 to 3.14, this is %d.%d" % sys.version_info[:2])  # noqa: UP031

import os

import click

from agent.commands.abstain import abstain
from agent.commands.base import Group
from agent.commands.bench import bench
from agent.commands.catalogue import actions, faults
from agent.commands.compare import compare
from agent.commands.cost import cost
from agent.commands.counterfactual import counterfactual
from agent.commands.detect import detect
from agent.commands.eval import evaluate
from agent.commands.explain import explain
from agent.commands.export import export
from agent.commands.isolate import isolate
from agent.commands.map import optimal_map
from agent.commands.ope import ope
from agent.commands.profile import profile
from agent.commands.rca import rca
from agent.commands.report import report
from agent.commands.run import run
from agent.commands.scenario import scenario
from agent.commands.sensitivity import sensitivity
from agent.commands.sweep import sweep
from agent.commands.timing import timing
from agent.commands.train import train
from agent.commands.validate import validate
from agent.commands.watch import watch
from simcore import __version__
from simcore.errors import InputError, SimError

__all__ = ["cli", "main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """An offline laboratory for automatic incident remediation.

    Simulates a microservice system down to the single request, injects faults, and lets an agent
    observe, detect, diagnose, decide, act and learn: for one episode, or for thousands.
    """


for _command in (
    run, watch, evaluate, sweep, sensitivity, timing, report, train, compare, isolate, abstain, ope, explain,
    counterfactual, optimal_map, detect, rca, cost, export, scenario, faults, actions, validate, profile, bench,
):  # fmt: skip
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed or interrupted, 2 the user's input is wrong."""
    sys.exit(_code(arguments))


def _code(arguments: list[str] | None) -> int:
    try:
        return cli.main(args=arguments, prog_name="mendsim", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 1
    except SimError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        # The reader went away (| head): keep Python from complaining again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    main()
