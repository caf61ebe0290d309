"""The option ``--png`` of the commands whose tables are worth a picture."""

__all__ = ["draw_into", "force_option", "png_option"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.commands.base import option

if TYPE_CHECKING:
    from agent.evaluation.figures import Figure

F = TypeVar("F", bound=Callable[..., Any])


def png_option(what: str) -> Callable[[F], F]:
    """Declare ``--png FILE``; ``what`` is what there is to see."""
    return option("--png", metavar="FILE", help=f"{what} (.png or .svg).")


def force_option() -> Callable[[F], F]:
    """Declare ``--force`` for a command that writes nothing but a picture."""
    return option("--force", is_flag=True, show_default=False, help="Replace the file of --png.")


def draw_into(path: str | None, figure: "Figure | None", *, quiet: bool = False) -> None:
    """Draw a figure into a file, if one is wanted, and say so on stderr.

    Parameters
    ----------
    path
        Checked by ``files.check_picture``; None: no picture is wanted.
    figure
        None: there is nothing to see, which is said.
    quiet
        Say nothing.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    """
    if path is None:
        return
    if figure is not None:
        from agent.evaluation.drawing import draw
        from agent.evaluation.pictures import save

        save(draw(figure), path)
    if not quiet:
        click.echo(f"picture in {path}" if figure is not None else f"nothing to draw into {path}", err=True)
