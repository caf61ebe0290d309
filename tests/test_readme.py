"""What README and docs show: commands run, Python blocks run, generated pages are those of the code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from agent.commands.reference import example_timeline, pages, with_block
from tests.conftest import Invoke

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [path for path in PAGES if "reference" not in path.parts]

#: Sizes at which the commands of the docs run here.
SMALL = (("--episodes", "2"), ("--steps", "60"), ("--train-episodes", "2"))
MAP = ["--steps", "30", "--onsets", "30", "--runs", "2", "--horizon", "6"]
PROFILE = ["--steps", "12", "--rounds", "1"]
#: Those that every command of a kind gets.
_CONTEST = ("--episodes", "--steps", "--train-episodes")
ALWAYS = {"eval": ("--episodes", "--steps"), **dict.fromkeys(("compare", "isolate", "abstain", "ope"), _CONTEST)}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(path: Path) -> list[list[str]]:
    lines = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^ {4}(mendsim .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mendsim ")]


def small(command: list[str]) -> list[str]:
    made = list(command)
    for option, size in SMALL:
        if option in made:
            made[made.index(option) + 1] = size
        elif option in ALWAYS.get(made[0], ()):
            made += [option, size]
    if made[0] == "map":
        made += MAP
    if made[0] == "profile":
        made += PROFILE
    return made


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in WRITTEN if commands(p)], ids=name_of)
def test_the_commands_of_a_page_run(
    path: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(blocks(path, "yaml")):
        found = re.search(r"^name: (\w+)$", text, re.MULTILINE)
        Path(f"{found[1] if found else number}.yaml").write_text(text, encoding="utf-8")
    for command in commands(path):
        result = invoke(*small(command))
        assert result.code == 0, f"mendsim {shlex.join(command)}: {result.err}"


@pytest.mark.parametrize("path", [p for p in WRITTEN if blocks(p, "python")], ids=name_of)
def test_the_python_blocks_of_a_page_run_one_after_the_other(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "blocks.py"
    script.write_text("\n".join(blocks(path, "python")), encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(compile(open({str(script)!r}).read(), 'blocks', 'exec'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_the_reference_is_that_of_the_code() -> None:
    for name, text in pages(cli.cli).items():
        stored = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert stored == text, f"docs/reference/{name} is out of date: make docs"


def test_the_timeline_in_the_readme_is_what_the_command_prints(invoke: Invoke) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = next(c for c in commands(ROOT / "README.md") if "--render" in c)
    printed = invoke(*command).out.rstrip("\n")
    assert example_timeline() == printed
    assert with_block(readme, "timeline", printed) == readme, "the timeline in README.md is out of date: make docs"


def test_a_page_with_a_broken_command_or_block_is_found(tmp_path: Path, invoke: Invoke) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nmendsim evil --episodes 900\n```\n\n```python\n1 / 0\n```\n", encoding="utf-8")
    assert [small(command) for command in commands(page)] == [["evil", "--episodes", "2"]]
    assert invoke(*commands(page)[0]).code == 2
    assert blocks(page, "python") == ["1 / 0\n"]


def test_make_run_ends_with_commands_that_exist(invoke: Invoke) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = re.findall(r'echo "  \$\(BIN\)/mendsim (.*)"', text)
    assert len(shown) == 3
    for line in shown:
        for option in re.findall(r"--[a-z-]+", line):
            assert option in invoke(line.split()[0], "--help").out
