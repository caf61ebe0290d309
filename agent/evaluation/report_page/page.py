"""Puts the pieces into one page of HTML: pictures, style and script within it."""

__all__ = ["render_page"]

from collections.abc import Sequence
from pathlib import Path

from agent.evaluation.palette import DARK, DASHES, LIGHT
from agent.evaluation.report_page.content import Part
from simcore import __version__

_TEMPLATES = Path(__file__).with_name("templates")


def render_page(parts: Sequence[Part], title: str) -> str:
    """Return the page; equal pieces give equal text.

    Whatever is named in results (policies, faults, services, files) is text in the page, never markup.

    Parameters
    ----------
    parts
        One per source.
    title
        Of the page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # ours: they hold colours and dashes, nothing from results
    style = Markup(made.get_template("style.css.j2").render(light=LIGHT, dark=DARK, dashes=DASHES))
    script = Markup((_TEMPLATES / "page.js").read_text(encoding="utf-8"))
    page = made.get_template("page.html.j2")
    return page.render(parts=parts, title=title, version=__version__, style=style, script=script) + "\n"
