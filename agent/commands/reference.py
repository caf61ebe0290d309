"""The pages of ``docs/reference``, made from the code itself (``make docs``)."""

__all__ = ["example_timeline", "pages", "with_block", "write"]

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click


def pages(root: click.Group) -> dict[str, str]:
    """Return the reference pages: file name -> Markdown.

    Parameters
    ----------
    root
        The command line.
    """
    made = {
        "commands.md": _commands(root),
        "tables.md": _tables(),
        "scenario.md": _scenario(),
        "plugins.md": _plugins(),
        "faults.md": _faults(),
        "actions.md": _actions(),
    }
    note = "<!-- Written by `make docs`; edit the code instead. -->\n\n"
    return {name: note + text.rstrip() + "\n" for name, text in made.items()}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _table(heads: tuple[str, ...], rows: list[str]) -> list[str]:
    return [_row(*heads), "|" + "---|" * len(heads), *rows, ""]


def _commands(root: click.Group) -> str:
    lines = ["# Commands", "", "Exit codes: 0 done, 1 failed or interrupted, 2 the input is wrong.", ""]
    for path, command in _walk(root, "mendsim"):
        if isinstance(command, click.Group):
            continue
        arguments = [
            f" {p.make_metavar(click.Context(command))}" for p in command.params if isinstance(p, click.Argument)
        ]
        lines += [f"## `{path}{''.join(arguments)}`", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_option(command, p) for p in command.params if isinstance(p, click.Option)]
        lines += _table(("option", "default", "what"), rows) if rows else []
    return "\n".join(lines)


def _walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{path} {name}")


def _option(command: click.Command, option: click.Option) -> str:
    metavar = "" if option.is_flag else f" {option.make_metavar(click.Context(command))}"
    plain = option.default is not None and not option.is_flag and not option.multiple
    default = f"`{option.default}`" if plain and isinstance(option.default, (int, str)) else ""
    return _row(f"`{option.opts[-1]}{metavar}`", default, option.help or "")


def _tables() -> str:
    from simcore.telemetry.tables import COLUMNS

    lines = [
        "# Tables of results",
        "",
        "Null where there is nothing to say; never nan or infinity. Times are seconds.",
        "",
    ]
    for table, columns in COLUMNS.items():
        lines += [f"## {table}", ""]
        lines += _table(("column", "type", "what"), [_row(f"`{c.name}`", str(c.dtype), c.about) for c in columns])
    return "\n".join(lines)


def _scenario() -> str:
    from simcore.model.scenario import Scenario

    whole = Scenario.model_json_schema()
    parts = {"Scenario": whole} | whole["$defs"]
    lines = [
        "# Scenario files",
        "",
        "YAML or TOML; unknown keys are errors. `mendsim scenario schema` prints it as JSON Schema.",
        "",
    ]
    for name, part in parts.items():
        if "properties" not in part:
            continue
        lines += [f"## {name}", "", str(part.get("description", "")).replace("\n", " "), ""]
        needed = set(part.get("required", ()))
        rows = [_key(key, about, key in needed) for key, about in part["properties"].items()]
        lines += _table(("key", "type", "default", "what"), rows)
    return "\n".join(lines)


def _key(key: str, about: Mapping[str, Any], needed: bool) -> str:
    plain = about.get("default")
    default = "required" if needed else f"`{plain}`" if isinstance(plain, (int, float, str)) and plain != "" else ""
    return _row(f"`{key}`", _type(about), default, str(about.get("description", "")))


def _type(about: Mapping[str, Any]) -> str:
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    if "enum" in about:
        return " or ".join(f"`{value}`" for value in about["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in about:
            return " or ".join(_type(option) for option in about[key] if option.get("type") != "null")
    kind = str(about.get("type", "any"))
    if kind == "array":
        return f"list of {_type(about.get('items', {}))}"
    if kind == "object" and isinstance(about.get("additionalProperties") or about.get("patternProperties"), dict):
        below = about.get("additionalProperties") or next(iter(about["patternProperties"].values()))
        return f"mapping of names to {_type(below)}"
    low = about.get("minimum", about.get("exclusiveMinimum"))
    sign = ">=" if "minimum" in about else ">"
    return kind if low is None else f"{kind} {sign} {low:g}"


def _plugins() -> str:
    from agent.registry import DETECTORS, DIAGNOSERS, POLICIES

    lines = ["# Detectors, diagnosers, policies", ""]
    for title, option, known in (
        ("Detectors", "--detector", DETECTORS),
        ("Diagnosers", "--diagnoser", DIAGNOSERS),
        ("Policies", "--policy", POLICIES),
    ):
        lines += [f"## {title}", "", f"Chosen with `{option}`.", ""]
        rows = [_row(f"`{name}`", entry.description, f"`{entry.module}`") for name, entry in known.items()]
        lines += _table(("name", "what", "module"), rows)
    return "\n".join(lines)


def _actions() -> str:
    from simcore.model.action_types import ACTIONS

    lines = [
        "# Actions",
        "",
        "A scenario lists the kinds that it offers under `actions`, with delay, cost, cooldown and chance of failure;",
        "`mendsim actions --scenario NAME|FILE` shows what comes of it. An action heals a fault by replacing the place",
        "that the fault lives in; there is no table of fixes.",
        "",
    ]
    rows = [
        _row(
            f"`{name}`",
            kind.aim.value,
            kind.does,
            kind.mends,
            kind.values.rule.removeprefix("must be ") if kind.values else "",
            f"`{kind.undone_by}`" if kind.undone_by.partition("(")[0] in ACTIONS else kind.undone_by,
        )
        for name, kind in ACTIONS.items()
    ]
    return "\n".join(lines + _table(("kind", "aimed at", "does", "mends", "amount", "undone by"), rows))


def _faults() -> str:
    from simcore.model.faults import CATALOGUE
    from simcore.model.loader import load_scenario

    shop = load_scenario("three_tier")

    lines = [
        "# Faults",
        "",
        "Written as `TYPE@TARGET`, an edge as `TYPE@CALLER:CALLEE` (`clients:api` is the border). A fault lives in a",
        "place, and heals when the place is replaced. Parameters are those of `simcore.codes.Param`, here at",
        "severity 1 at the api of `three_tier` ([why so strong](../explanation/defaults.md)); they take their",
        "neutral value again when a timed fault ends.",
        "",
    ]
    rows = [
        _row(
            f"`{name}`",
            kind.aim.value,
            kind.mechanism,
            ", ".join(f"{param.name.lower()} {value:g}" for param, value in kind.effects(1.0, shop, 0)),
            kind.signature,
            kind.fixes,
            ", ".join(f"{place.name.lower()} {share:.0%}" for place, share in kind.places.items()),
            ", ".join(kind.profiles),
        )
        for name, kind in CATALOGUE.items()
    ]
    return "\n".join(
        lines
        + _table(("type", "aimed at", "mechanism", "at severity 1", "signature", "fixes", "lives in", "profiles"), rows)
    )


def write(root: click.Group, house: str) -> None:
    """Write the reference pages, the README's timeline and the table of ``mendsim validate`` into a checkout."""
    from agent.commands.validate import fault_table, play, table, try_faults

    folder = Path(house) / "docs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(root).items():
        (folder / name).write_text(text, encoding="utf-8")
    from simcore.validity.faults import claimed

    explanation = Path(house) / "docs" / "explanation"
    for page, mark, text in (
        (Path(house) / "README.md", "timeline", example_timeline()),
        (explanation / "validity.md", "validity", table(play())),
        (explanation / "faults.md", "claims", fault_table(try_faults(claimed()))),
    ):
        page.write_text(with_block(page.read_text(encoding="utf-8"), mark, text), encoding="utf-8")


def example_timeline() -> str:
    """Return the episode that the README shows."""
    from agent.commands.setup import DEFAULTS
    from agent.evaluation.replay import Replay, play_replay
    from agent.evaluation.study import Study
    from simcore.model.faults import parse_fault
    from simcore.model.loader import load_scenario

    scenario = load_scenario("three_tier")
    study = Study(
        scenario,
        seed=7,
        detector=DEFAULTS["detector"],
        diagnoser=DEFAULTS["diagnoser"],
        policies=(DEFAULTS["policy"],),
        faults=(parse_fault("bad_deploy@api", scenario, onset_s=300.0),),
    )
    return play_replay(Replay(study, run=0, policy=DEFAULTS["policy"])).timeline


def with_block(page: str, mark: str, text: str) -> str:
    """Return a page with a text between the marks of this name."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, rest = page.split(begin)
    return f"{head}{begin}```text\n{text}\n```\n{end}{rest.split(end)[1]}"
