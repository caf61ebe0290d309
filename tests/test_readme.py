"""What README and docs show: every block is run or checked, generated pages are those of the code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from agent.commands.reference import example_timeline, pages, with_block
from tests.conftest import Invoke
from tests.pages import PAGES, ROOT, WRITTEN, blocks, broken, commands, mentioned, name_of, shape, small, yaml_files

TEXT = {path: path.read_text(encoding="utf-8") for path in PAGES}
#: Commands that neither read nor write files, and have been run: pages share them.
_RAN: set[str] = set()
_FILES = ("--out", "--from", "--policy-in", "--policy-out", "--png", "--picture", "--plot", "--also", "--lessons", "./")


def _run_all(page: str, invoke: Invoke, name: str = "") -> None:
    for file, text in yaml_files(page).items():
        Path(file).write_text(text, encoding="utf-8")
    for command in commands(page):
        made = small(command, name)
        line = shlex.join(made)
        if line in _RAN:
            continue
        result = invoke(*made)
        assert result.code == 0, f"mendsim {line}: {result.err}"
        if not any(part in line for part in _FILES):
            _RAN.add(line)


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_every_block_of_a_page_is_run_or_checked(path: Path) -> None:
    assert broken(TEXT[path]) == []


@pytest.mark.parametrize("path", [p for p in WRITTEN if commands(TEXT[p])], ids=name_of)
def test_the_commands_of_a_page_run_and_then_its_python_blocks(
    path: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, terminal: None
) -> None:
    monkeypatch.chdir(tmp_path)
    _run_all(TEXT[path], invoke, path.name)
    _run_python(TEXT[path], tmp_path)


@pytest.mark.parametrize("path", [p for p in WRITTEN if "```python" in TEXT[p] and not commands(TEXT[p])], ids=name_of)
def test_the_python_blocks_of_a_page_run_one_after_the_other(path: Path, tmp_path: Path) -> None:
    _run_python(TEXT[path], tmp_path)


def _run_python(page: str, folder: Path) -> None:
    text = "\n".join(block.text for block in blocks(page) if block.language == "python")
    if not text:
        return
    script = folder / "blocks.py"
    script.write_text(text, encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(compile(open({str(script)!r}).read(), 'blocks', 'exec'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT[path])
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_the_reference_is_that_of_the_code() -> None:
    for name, text in pages(cli.cli).items():
        stored = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert stored == text, f"docs/reference/{name} is out of date: make docs"


def test_the_timeline_in_the_readme_is_what_the_command_prints(invoke: Invoke) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = next(c for c in commands(readme) if "--render" in c)
    printed = invoke(*command).out.rstrip("\n")
    assert example_timeline() == printed
    assert with_block(readme, "timeline", printed) == readme, "the timeline in README.md is out of date: make docs"


def test_the_landing_page_shows_a_part_of_the_same_timeline() -> None:
    shown = next(b.text for b in blocks(TEXT[ROOT / "docs" / "index.md"]) if b.language == "text").splitlines()
    assert len(shown) > 5
    assert set(shown) <= set(TEXT[ROOT / "README.md"].splitlines())


def test_a_page_with_a_broken_command_or_block_is_found(tmp_path: Path, invoke: Invoke) -> None:
    page = "```bash\nmendsim evil --episodes 900\n```\n\n```python\n1 / 0\n```\n"
    assert [small(command) for command in commands(page)] == [["evil", "--episodes", "2"]]
    with pytest.raises(AssertionError, match="No such command 'evil'"):
        _run_all(page, invoke)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        _run_python(page, tmp_path)


@pytest.mark.parametrize(
    ("page", "mistake"),
    [
        ("```\nanything\n```\n", "marked ''"),
        ("```sh\nls\n```\n", "marked 'sh'"),
        ("```bash\ncurl example.org\n```\n", "neither run nor checked"),
        ("Text.\n\n    ls -l\n", "neither run nor checked"),
        ("```bash\nmake coffee\n```\n", "no such target"),
        ("```bash\npip install 'mendsim[coffee]'\n```\n", "no such extra"),
        ("```bash\npython -m docs.phenomena.coffee\n```\n", "no such module"),
        ("```bash\npython -m docs.phenomena.jitter --cups 2\n```\n", "no option --cups"),
        ("```yaml\nname: shop\n```\n", "no command of the page uses shop.yaml"),
        ("```yaml\n# study.yaml\nname: shop\n```\n", "no command of the page uses study.yaml"),
        ("```text\nmendsim eval --cups 2\n```\n", "no option --cups"),
        ("See `mendsim scenario brew`.\n", "no command 'brew'"),
        ("| `mendsim eval --cups 2` | makes coffee |\n|---|---|\n", "no option --cups"),
    ],
)
def test_a_block_that_nothing_would_check_is_a_mistake(page: str, mistake: str) -> None:
    assert [mistake in found for found in broken(page)] == [True]


def test_blocks_that_are_run_or_checked_are_none() -> None:
    page = """
See `mendsim scenario check FILE` and `mendsim eval --from RESULTS`; put `mendsim` on your path.

- An item

    of a list.

```bash
source .venv/bin/activate  # once
pip install 'mendsim[pictures]'
make run test
mendsim eval --scenario ./shop.yaml \\
    --episodes 50
python -m docs.phenomena.retry_storm --runs 2
```

```yaml
name: shop
```

```text
output
```
"""
    assert broken(page) == ["mendsim eval --from RESULTS: no option --from"]
    assert commands(page) == [["eval", "--scenario", "./shop.yaml", "--episodes", "50"]]
    assert mentioned(page)[0] == ["scenario", "check", "FILE"]
    assert shape(["run", "--from=results", "--row", "3"]) is None


def test_make_run_ends_with_commands_that_exist(invoke: Invoke) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = re.findall(r'echo "  \$\(BIN\)/mendsim (.*)"', text)
    assert len(shown) == 3
    for line in shown:
        for option in re.findall(r"--[a-z-]+", line):
            assert option in invoke(line.split()[0], "--help").out
