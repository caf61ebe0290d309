"""What every subcommand shares: options that report all mistakes at once, and the common ones."""

__all__ = [
    "Command", "Group", "agent_options", "common_options", "contest_options", "diagnoser_in",
    "fault_options", "given_command", "option",
]  # fmt: skip

import shlex
from collections.abc import Callable, Container
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_COUNT = click.IntRange(1, 100_000)
_MISTAKES = "mendsim.mistakes"


class Option(click.Option):
    """An option whose bad value is kept for the command to report together with the others."""

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> tuple[Any, list[str]]:
        """Return the value, or note the mistake and return None."""
        try:
            return super().handle_parse_result(ctx, opts, args)
        except click.BadParameter as error:
            ctx.meta.setdefault(_MISTAKES, []).append(error.format_message())
            return None, args


class Command(click.Command):
    """A command that reports every bad option at once."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command unless an option was wrong.

        Raises
        ------
        click.UsageError
            Listing every mistake, one a line.
        """
        mistakes = ctx.meta.get(_MISTAKES, [])
        if mistakes:
            raise click.UsageError("\n".join(mistakes), ctx)
        return super().invoke(ctx)


class Group(click.Group):
    """A group whose subcommands are ``Command`` by default."""

    command_class = Command


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option; defaults are shown in the help."""
    settings.setdefault("show_default", True)
    return click.option(*names, cls=Option, **settings)


def given_command(outside: Container[str]) -> str:
    """Return the command under way as it was given, but for what only says how it is run.

    Parameters
    ----------
    outside
        Names of the parameters to leave out.
    """
    context = click.get_current_context()
    words = ["mendsim", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in outside or context.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        flag = [parameter.opts[0]] if isinstance(parameter, click.Option) else []
        if isinstance(value, bool):
            words += flag
        else:
            for one in value if isinstance(value, tuple) else (value,):
                words += [*flag, str(one)]
    return shlex.join(words)


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def wrap(function: F) -> F:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return wrap


def diagnoser_in() -> Callable[[F], F]:
    """The option that gives a diagnoser what it learned."""
    return option("--diagnoser-in", metavar="FILE", help="What it learned (JSON), as mendsim train diagnoser writes.")


def common_options() -> Callable[[F], F]:
    """Options of every command that simulates."""
    return _stack(
        option("--scenario", default="three_tier", metavar="NAME|FILE", help="What is simulated."),
        option("--steps", type=_COUNT, metavar="N", help="Control steps; else the scenario's."),
        option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it."),
        option("--engine", type=click.Choice(["batch", "simpy"]), default="batch", help="Both give the same results."),
        option("--threads", type=_COUNT, metavar="N", help="Else one per core; results do not depend on it."),
        option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors."),
    )


def agent_options(policy_help: str) -> Callable[[F], F]:
    """Options that name the parts of the agent."""
    return _stack(
        option("--detector", metavar="NAME", help="When something is wrong; else the default detector."),
        option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from."),
        option("--diagnoser", metavar="NAME", help="Where it is; else the default diagnoser."),
        diagnoser_in(),
        option("--policy", metavar="NAME", help=policy_help),
        option("--policy-in", metavar="FILE", help="Learned state to start from (JSON)."),
        option("--no-agent", is_flag=True, show_default=False, help="No detector, diagnoser or policy."),
        option("--shadow", is_flag=True, show_default=False, help="The agent thinks, its actions are not applied."),
    )


def contest_options() -> Callable[[F], F]:
    """Options of the commands in which frozen agents meet the same test runs."""
    return _stack(
        option("--episodes", type=click.IntRange(2), metavar="N", default=100, help="Test runs, the same for all."),
        option("--split", type=click.Choice(["tune", "test"]), default="test", help="Where the test runs' seeds lie."),
        option("--detector", metavar="NAME", help="When something is wrong; else the default detector."),
        option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from."),
        option("--diagnoser", metavar="NAME", help="Where it is; else the default diagnoser."),
        diagnoser_in(),
        option("--policy-in", multiple=True, metavar="FILE", help="Learned states, not trainings (JSON); repeatable."),
        option("--train-seeds", type=_COUNT, metavar="N", default=5, help="Trainings of each policy that learns."),
        option("--train-episodes", type=_COUNT, metavar="N", default=200, help="Runs of each training."),
        option("--round-size", type=_COUNT, metavar="N", default=50, help="Runs that are simulated together."),
    )


def fault_options() -> Callable[[F], F]:
    """Options that say how faults are drawn from the scenario, or set them instead."""
    once = "Once for all faults, or once for each."
    mixes = click.Choice(["default", "uniform"])
    return _stack(
        option("--mix", type=mixes, default="default", help="Faults by the scenario's weights, or all types alike."),
        option("--fault", "fault", multiple=True, metavar="TYPE@TARGET", help="Such as latency_spike@db; repeatable."),
        option("--onset", multiple=True, metavar="TIME", help=f"90, 90s, 5min or 60steps. {once}"),
        option("--duration", multiple=True, metavar="TIME", help=f"Absent: until fixed. {once}"),
        option("--severity", multiple=True, type=float, metavar="X", help=f"Above 0, up to 1. {once}"),
        option("--profile", multiple=True, metavar="NAME", help=f"step, ramp, pulses or once. {once}"),
        option("--place", multiple=True, metavar="NAME", help=f"Where it lives: see mendsim faults. {once}"),
    )
