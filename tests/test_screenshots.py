"""The pictures of the documentation: each is shown somewhere, and made by a command that exists."""

import re
import shlex

import pytest

from docs.screenshots import IMAGES, SHOTS, STUDIES, main
from tests.pages import PAGES, ROOT, shape


def shown() -> set[str]:
    """Return the names of the pictures in ``docs/images`` that pages show."""
    found = (
        (path.parent / link).resolve()
        for path in PAGES
        for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    )
    return {path.name for path in found if path.parent == IMAGES}


def test_every_picture_is_made_by_the_script_and_shown_on_a_page() -> None:
    stored = {path.name for path in IMAGES.iterdir()}
    assert stored <= set(SHOTS)
    assert shown() == stored


def test_every_picture_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    for path in PAGES:
        assert "![](" not in path.read_text(encoding="utf-8"), path


def test_the_pictures_are_light_and_load_nothing() -> None:
    for name in sorted(path.name for path in IMAGES.iterdir()):
        content = (IMAGES / name).read_bytes()
        assert len(content) < 400_000, name
        if name.endswith(".svg"):
            assert not re.search(rb"(?:url\(|href=[\"'])\s*[\"']?https?:", content), name


@pytest.mark.parametrize("command", sorted({shot.command for shot in SHOTS.values()} | set(STUDIES.values())))
def test_the_commands_behind_the_pictures_exist(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "mendsim"
    assert shape(arguments) is None


def test_an_unknown_picture_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["coffee.png"])
    assert ended.value.code == 2
    assert "there is no picture coffee.png" in capsys.readouterr().err
    assert (ROOT / "docs" / "screenshots.py").exists()
