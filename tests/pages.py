"""What the pages of README and docs show: their blocks, told apart by what can be done with them."""

__all__ = [
    "PAGES",
    "ROOT",
    "WRITTEN",
    "Block",
    "blocks",
    "broken",
    "commands",
    "mentioned",
    "name_of",
    "shape",
    "small",
    "yaml_files",
]

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
from markdown_it import MarkdownIt

import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if not {"_build", "_static"} & set(path.parts)),
]
#: Those that people write; the others are made from the code.
WRITTEN = [path for path in PAGES if "reference" not in path.parts]
#: What a block may be: run here, loaded by a command of the page, or printed.
LANGUAGES = ("bash", "python", "yaml", "text")

#: Sizes at which the commands of the docs run here, where a command names the option.
SMALL = {
    "--episodes": "2", "--steps": "60", "--train-episodes": "2", "--train-seeds": "1", "--replications": "1",
    "--samples": "2", "--clean": "6", "--regret": "1",
}  # fmt: skip
_CONTEST = ("--episodes", "--steps", "--train-episodes")
#: Those that a command gets in any case; with a value it is one of its own.
ALWAYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("compare", "isolate", "abstain", "ope"), _CONTEST),
    "cost": ("--episodes", "--steps"),
    "counterfactual": ("--futures=1", "--horizon=12"),
    "eval": ("--episodes", "--steps"),
    "sensitivity": ("--steps", "--samples=4"),
    **dict.fromkeys(("export traces", "export logs"), ("--steps",)),
    "map": ("--steps=30", "--onsets=30", "--runs=2", "--horizon=4"),
    "profile": ("--steps=12", "--rounds=1"),
    **dict.fromkeys(("rca simulate", "rca sources"), ("--episodes", "--steps")),
    "sweep": ("--steps", "--replications", "--train-episodes"),
    "timing": ("--steps", "--runs=4"),
    "timing earlier": ("--steps", "--runs=4", "--gaps=30"),
    "timing telemetry": ("--steps", "--runs=4", "--control-steps=15,30", "--lags=30"),
    "timing warmup": ("--steps", "--runs=4", "--shares=0.2"),
    "timing wave": ("--steps", "--runs=4", "--positions=4"),
}
#: Pages with sizes of their own: tables that hold runs with an incident, onsets within the episode, decisions on forks.
OWN = {
    "read_the_tables.md": {"--episodes": "6", "--steps": "110"},
    "run_a_study.md": {"--steps": "72"},
    "compare_policies.md": {"--steps": "30"},
}

_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, ``bash`` for an indented one, and its text."""

    language: str
    text: str


def name_of(path: Path) -> str:
    """Return a page's path in the repository."""
    return str(path.relative_to(ROOT))


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in their order, fenced ones and those that are indented by four blanks."""
    tokens = [token for token in _MARKDOWN.parse(page) if token.type in ("fence", "code_block")]
    return [Block(t.info.partition(" ")[0] if t.type == "fence" else "bash", t.content) for t in tokens]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def commands(page: str) -> list[list[str]]:
    """Return the arguments of the ``mendsim`` commands that a page tells its reader to run."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in _lines(block.text)]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mendsim ")]


def mentioned(page: str) -> list[list[str]]:
    """Return the arguments of the commands that a page only mentions: in its prose, or in a block of text."""
    inline = [part for token in _MARKDOWN.parse(page) for part in token.children or () if part.type == "code_inline"]
    lines = [part.content for part in inline]
    lines += [line for block in blocks(page) if block.language == "text" for line in _lines(block.text)]
    return [shlex.split(re.sub(r"[\[\]]", "", line))[1:] for line in lines if line.startswith("mendsim ")]


def yaml_files(page: str) -> dict[str, str]:
    """Return the YAML blocks of a page: file name -> text.

    The name is that of the scenario, or stands in a comment in the first line.
    """
    files: dict[str, str] = {}
    for block in blocks(page):
        if block.language == "yaml":
            named = re.match(r"# (\S+\.yaml)$", block.text, re.MULTILINE)
            inside = re.search(r"^name: (\w+)$", block.text, re.MULTILINE)
            files[named[1] if named else f"{inside[1]}.yaml" if inside else f"nameless-{len(files)}.yaml"] = block.text
    return files


def _fewer(before: str, word: str) -> str:
    """Return the first two of the values that a study varies; any other word as it is."""
    key, equals, values = word.partition("=")
    if before != "--vary" or not equals:
        return word
    if values.count(":") == 2:
        start, _, step = values.split(":")
        return f"{key}={start}:{float(start) + float(step):g}:{step}"
    return f"{key}={','.join(values.split(',')[:2])}"


def small(command: list[str], page: str = "") -> list[str]:
    """Return a command at a size that a test can afford; ``page`` is the name of the page that shows it."""
    sizes = SMALL | OWN.get(page, {})
    made = [sizes.get(before, _fewer(before, word)) for before, word in zip(["", *command], command, strict=False)]
    named = next((name for name in (" ".join(command[:2]), command[0]) if name in ALWAYS), None)
    if named is None or "--study" in command:
        return made
    for wanted in ALWAYS[named]:
        option, _, value = wanted.partition("=")
        if option == "--replications" and "--refine" in made:  # which finds out how many there are
            option, value = "--budget", "12"
        size = value or sizes[option]
        if option not in made:
            made += [option, size]
        elif value:
            made[made.index(option) + 1] = size
    if "simpy" in command:
        made[made.index("--steps") + 1] = "12"
    return made


def shape(arguments: list[str]) -> str | None:
    """Return what is wrong with a command that is only mentioned: no such command, or no such option."""
    command: click.Command = cli.cli
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {
        "--help",
        "--version",
    }
    unknown = [a for a in rest if a.startswith("--") and a.partition("=")[0] not in known]
    return f"no option {', '.join(unknown)}" if unknown else None


def broken(page: str) -> list[str]:
    """Return what makes a page's blocks untested, or false."""
    found = []
    for block in blocks(page):
        if block.language not in LANGUAGES:
            found.append(
                f"a block is marked {block.language!r}, not one of {', '.join(LANGUAGES)}: {block.text[:60]!r}"
            )
        if block.language == "bash":
            found += [f"{line!r}: {why}" for line in _lines(block.text) if (why := _untested(line))]
    ran = " ".join(" ".join(command) for command in commands(page))
    found += [f"no command of the page uses {name}" for name in yaml_files(page) if name not in ran]
    for arguments in mentioned(page):
        if why := shape(arguments):
            found.append(f"mendsim {shlex.join(arguments)}: {why}")
    return found


def _untested(line: str) -> str | None:
    """Return why a line of a shell block cannot be trusted: it is not run, and nothing says that it would."""
    words = shlex.split(line, comments=True)
    if not words or words[0] == "mendsim" or words[:2] == ["source", ".venv/bin/activate"]:
        return None
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        known = re.findall(r"^([a-z-]+:|[A-Z]+ \?=)", makefile, re.MULTILINE)
        given = {f"{name} ?=" if sign else f"{name}:" for name, sign, _ in (word.partition("=") for word in words[1:])}
        return None if given <= set(known) else "no such target"
    if words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = re.findall(r"\[([\w,]+)\]", words[-1])
        known = set(project["optional-dependencies"])
        return None if all(set(extra.split(",")) <= known for extra in extras) else "no such extra"
    if words[:2] == ["python", "-m"]:
        module = ROOT / (words[2].replace(".", "/") + ".py")
        if not module.exists():
            return "no such module"
        text = "".join(
            path.read_text(encoding="utf-8") for path in (module, module.parent / "common.py") if path.exists()
        )
        missing = [word for word in words[3:] if word.startswith("--") and f'"{word}"' not in text]
        return f"no option {', '.join(missing)}" if missing else None
    return "neither run nor checked"
