"""How Sphinx builds the site: ``make site``. The pages are plain Markdown; what only the site needs is added here."""

__all__: list[str] = []

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sphinx.ext.napoleon import Config  # noqa: E402
from sphinx.ext.napoleon.docstring import NumpyDocstring  # noqa: E402

from simcore import __version__  # noqa: E402

project = "mendsim"
author = "the mendsim developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "**/__pycache__"]
# A name of ours that no page describes is a mistake; those of other packages are theirs, and need the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!(simcore|agent)\.).*"), ("py:.*", r".*\._\w+")]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "furo"
html_title = "mendsim"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ff", "color-brand-content": "#7cc0ff"},
}
copybutton_selector = "div.highlight-bash pre, div.highlight-python pre, div.highlight-yaml pre, div.highlight-sql pre"

#: What the sidebar shows, by use. A star takes what nobody has named: a new page is never lost.
NAVIGATION = {
    "Begin": ["tutorial"],
    "Play and study": [
        "howto/ask_what_if",
        "howto/compare_policies",
        "howto/run_a_study",
        "howto/*study*",
        "explanation/fault_timing",
        "howto/*watch*",
        "howto/*report*",
        "howto/traces_and_logs",
        "howto/read_the_tables",
        "howto/*profile*",
    ],
    "Build your own": ["howto/add_a_scenario", "howto/add_resilience", "howto/add_*", "howto/*"],
    "Look up": ["reference/commands", "reference/scenario", "reference/*"],
    "Understand": [
        "explanation/model",
        "explanation/measures",
        "explanation/randomness",
        "phenomena/README",
        "explanation/detection",
        "explanation/diagnosis",
        "explanation/policies",
        "explanation/*",
    ],
    "Trust": ["explanation/validity", "explanation/faults", "explanation/threats", "explanation/defaults"],
}


def _toctrees() -> str:
    # What is named anywhere is not taken by a star elsewhere.
    named = {page for pages in NAVIGATION.values() for page in pages if "*" not in page}
    text = ""
    for caption, pages in NAVIGATION.items():
        found: list[str] = []
        for page in pages:
            files = [f.relative_to(HERE).with_suffix("").as_posix() for f in sorted(HERE.glob(f"{page}.md"))]
            found += [name for name in files if name not in found and ("*" not in page or name not in named)]
        named.update(found)
        text += f"\n```{{toctree}}\n:caption: {caption}\n:hidden:\n\n" + "\n".join(found) + "\n```\n"
    return text


def _modules() -> list[str]:
    """Return the modules that the page of the API names, in its order."""
    return re.findall(
        r"^\| `((?:simcore|agent|cli)[\w.]*)` \|", (HERE / "reference" / "api.md").read_text("utf-8"), re.M
    )


def _write_modules(app: "Sphinx") -> None:
    """Write a page for every module of the API; only where it differs, so that Sphinx reads no more than it must."""
    folder = HERE / "reference" / "api"
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.rst": f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n" for name in _modules()}
    for old in set(folder.iterdir()) - {folder / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        if not (folder / name).exists() or (folder / name).read_text("utf-8") != text:
            (folder / name).write_text(text, "utf-8")


def _add(app: "Sphinx", name: str, source: list[str]) -> None:
    """Add to a page what a code host would show as noise."""
    # what lies beside the documentation is named on the site, not linked
    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./){2}([\w/]+\.md)[^)]*\)", r"\1 (`\2`)", source[0])
    if name == "index":
        source[0] += _toctrees()
    elif name == "reference/api":
        listed = "\n".join(f"api/{module}" for module in _modules())
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
        # on the site a module's name leads to its page
        source[0] = re.sub(r"^\| `([\w.]+)` \|", r"| [`\1`](api/\1.rst) |", source[0], flags=re.M)


def _read_numpydoc(app: "Sphinx", what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Turn numpydoc sections into fields; a field's own comment stays as it is, whatever colons are in it."""
    if what not in ("attribute", "data", "property"):
        lines[:] = NumpyDocstring(lines, Config(napoleon_use_rtype=False), app, what, name, of, options).lines()


def _reread(app: "Sphinx", env: object, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Name the pages that say which pages there are: they change with the others."""
    return ["index", "reference/api"]


def setup(app: "Sphinx") -> None:
    """Let the pages pass through here."""
    app.connect("autodoc-process-docstring", _read_numpydoc)
    app.connect("builder-inited", _write_modules)
    app.connect("env-get-outdated", _reread)
    app.connect("source-read", _add)
