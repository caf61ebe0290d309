"""``mendsim report``: one page that needs nothing else, and says what the results say."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import cli
from agent.evaluation.report_page.browsing import choose
from agent.evaluation.report_page.sources import read_source
from simcore.telemetry.tables import empty
from simcore.telemetry.writers import read_metadata
from tests.conftest import TINY, Invoke

EVIL = "<script>window.evil=1</script>"
VOID = {"meta", "link", "input", "br", "path", "hr"}


class Outline(HTMLParser):
    """What a page is made of; tags that do not match are noted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.headings: list[int] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a comparison and a study of the small scenario."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    scenario = ("--scenario", folder / "tiny.yaml", "--quiet")
    run("compare", *scenario, "--policies", "playbook,random", "--episodes", 6, "--out", folder / "compared")
    run("sweep", *scenario, "--fault", "latency_spike@db", "--vary", "fault.onset_s=60,90", "--vary", "load=0.8,1.2",
        "--policy", "playbook", "--replications", 2, "--out", folder / "study")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Path:
    """Return a page of both, with pictures as files beside it."""
    out = results / "report.html"
    run("report", results / "compared", results / "study", "--episodes", 2, "--out", out, "--quiet",
        "--png", results / "pictures", "--title", f"Tiny {EVIL}")  # fmt: skip
    return out


def test_a_page_is_whole_and_needs_nothing_else(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Outline(text)
    assert (found.wrong, found.open) == ([], [])
    assert found.tags["script"] == found.tags["style"] == found.tags["main"] == found.tags["h1"] == 1
    fetched = [(tag, name, value) for tag, name, value in found.attributes if name in ("src", "href", "srcset", "data")]
    assert all(value.startswith(("#", "data:,")) for _, _, value in fetched)
    assert not re.search(r"@import|url\(|fetch\(|https?://(?!www\.w3\.org/2000/svg)", text)
    assert len(text) < 1_000_000


def test_a_page_can_be_heard_and_walked_through(page: Path) -> None:
    found = Outline(page.read_text(encoding="utf-8"))
    assert [name for name, times in found.ids.items() if times > 1] == []
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert found.tags["figure"] == sum(value == "numbers" for _, name, value in found.attributes if name == "class")
    links = {value[1:] for _, name, value in found.attributes if name == "href" and value.startswith("#")}
    assert links <= set(found.ids)
    labelled = {value for _, name, value in found.attributes if name == "aria-labelledby"}
    assert labelled <= set(found.ids)


def test_names_are_text_never_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert EVIL not in text
    assert "Tiny &lt;script&gt;" in text


def test_the_numbers_of_a_page_are_those_of_the_results(page: Path, results: Path) -> None:
    words = " ".join("".join(Outline(page.read_text(encoding="utf-8")).text).split())
    compared = read_metadata(results / "compared")["compared"]["measures"]
    for row in compared:
        if row["measure"] == "error_budget_spent":
            assert f"{row['value']:.2f}" in words
    cells = pl.read_parquet(results / "study" / "cells.parquet")
    assert all(f"{value:.3g}" in words for value in cells["error_budget_spent_mean"])
    assert f"{cells.height} cells" in words
    assert "every stored value came out as before" in words
    assert "did not give the stored row" not in words


def test_a_page_tells_the_commands_that_give_its_numbers(page: Path, results: Path, invoke: Invoke) -> None:
    commands = re.findall(r"<code>(mendsim .*?)</code>", page.read_text(encoding="utf-8"))
    kinds = Counter(command.split()[1] for command in commands)
    assert kinds == {"compare": 1, "sweep": 1, "run": 6, "explain": 2, "report": 2}
    replay = next(command for command in commands if command.startswith("mendsim run"))
    again = invoke(*replay.split()[1:])
    assert (again.code, "every value is as stored" in again.err) == (0, True)


def test_a_page_is_the_same_on_any_number_of_threads(results: Path, tmp_path: Path) -> None:
    pages = []
    for threads in (1, 2):
        run("report", results / "compared", "--rows", "7,1", "--out", tmp_path / "x.html", "--force", "--quiet",
            "--threads", threads)  # fmt: skip
        pages.append((tmp_path / "x.html").read_bytes())
    assert pages[0] == pages[1]
    assert pages[0].index(b"row 7") < pages[0].index(b"row 1<")


def test_every_picture_is_a_file_too(page: Path, results: Path) -> None:
    figures = re.findall(r'<figure class="figure [^"]*" id="([^"]*)"', page.read_text(encoding="utf-8"))
    drawn = sorted(path.stem for path in (results / "pictures").iterdir())
    assert drawn == sorted(figures)


def test_a_single_policy_and_no_agent_have_pages_too(tiny: str, tmp_path: Path) -> None:
    for name, agent in (("one", "--twins"), ("none", "--no-agent")):
        out = tmp_path / f"{name}.csv"
        run("eval", "--scenario", tiny, "--episodes", 3, agent, "--out", out, "--quiet")
        run("report", out, "--episodes", 1, "--out", tmp_path / f"{name}.html", "--quiet")
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "Not recovered yet" in text
        assert "Policies compared" not in text


def test_results_of_another_version_are_shown_and_what_cannot_be_played_again_is_said(
    results: Path, tmp_path: Path
) -> None:
    changed = tmp_path / f"a{EVIL.replace('/', '')}.parquet"
    compared = tmp_path / "compared"
    shutil.copytree(results / "compared", compared)
    source = read_source(str(compared))
    source.episodes.drop("row").with_columns(pl.lit(EVIL).alias("policy")).write_parquet(changed)
    meta = {k: v for k, v in source.metadata.items() if k not in ("compared", "policy_states", "command")}
    meta |= {"complete": False, "stopped_by": "Ctrl-C"}
    changed.with_name(f"{changed.name}.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    run("report", changed, "--rows", "9", "--out", tmp_path / "x.html", "--quiet")
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<script>window.evil" not in text
    assert "row 9 cannot be played again: the metadata of" in text
    assert "These results are not complete (stopped by Ctrl-C)" in text
    assert "an earlier version did" in text


def test_episodes_worth_looking_at_come_in_turn() -> None:
    base = {"incident": True, "j": -0.2, "noop_j": -0.2, "error_budget_spent": 1.0, "false_actions": 0}
    rows = [
        base | {"policy": "noop", "error_budget_spent": 99.0},
        base | {"policy": "p", "error_budget_spent": 9.0},
        base | {"policy": "p", "j": -0.5, "error_budget_spent": 4.0},
        base | {"policy": "p", "j": -0.1, "error_budget_spent": 0.5},
        base | {"policy": "p", "false_actions": 2},
        base | {"policy": "p", "incident": False},
    ]
    table = pl.concat([empty("episodes"), pl.DataFrame(rows)], how="diagonal").with_row_index("row")
    found = choose(table, 6)
    assert [(choice.row, choice.why) for choice in found] == [
        (1, "Most error budget spent"), (2, "Harmed most"), (3, "Helped most"), (4, "An ordinary incident"),
        (5, "No incident"),
    ]  # fmt: skip
    assert len(choose(table, 2)) == 2
    assert choose(table, 0) == []


def test_after_ctrl_c_there_is_a_page_with_what_was_done(
    results: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.evaluation.report_page import browsing

    once = browsing.play_replay
    left = [1]

    def play(*given: Any, **more: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return once(*given, **more)

    monkeypatch.setattr(browsing, "play_replay", play)
    out = tmp_path / "x.html"
    found = invoke("report", results / "compared", results / "study", "--episodes", 3, "--out", out)
    assert found.code == 1
    text = out.read_text(encoding="utf-8")
    assert "Stopped by Ctrl-C: 1 of 3 episodes are shown." in text
    assert text.count('<details class="episode"') == 1


def test_every_mistake_is_told_at_once(results: Path, tmp_path: Path, invoke: Invoke) -> None:
    found = invoke(
        "report", tmp_path / "no", "--rows", "1,x", "--out", tmp_path / "page.pdf", "--png", results / "tiny.yaml"
    )
    assert found.code == 2
    for words in ("there is no such file or folder", "--rows must be whole numbers", "must name a .html file",
                  "is a file; name a folder"):  # fmt: skip
        assert words in found.err
    both = invoke("report", results / "compared", results / "compared", "--rows", "99", "--out", tmp_path / "x.html")
    assert both.code == 2
    for words in ("names something twice", "--rows are those of one result", "has no row 99; rows are 0 to 17"):
        assert words in both.err
    assert invoke("report", results / "compared", "--out", results / "tiny.yaml" / "x.html").code == 2
    assert not list(tmp_path.iterdir())
