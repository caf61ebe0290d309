"""The pictures of the documentation: ``make screenshots``, or ``python -m docs.screenshots [NAME ...]``.

Every picture is what a command draws, or what its reader sees: a page in a headless browser, a terminal. Studies are
played once, in a scratch folder, and shared.
"""

__all__ = ["BROWSERS", "IMAGES", "SHOTS", "STUDIES", "Shot", "main"]

import argparse
import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: What pictures are drawn from: folder -> the command that makes it.
STUDIES = {
    "compared": "mendsim compare --policies noop,threshold_rules,playbook --episodes 60 --seed 3 --out compared/",
    "severity": "mendsim sweep --fault bad_deploy@api --vary fault.onset_s=60:360:60"
    " --vary fault.severity=0.1,0.2,0.3,0.4,0.5,0.6 --policy playbook --replications 12 --out severity/",
    "onset": "mendsim sweep --steps 120 --fault bad_deploy@api --vary fault.onset_s=15:300:15"
    " --vary fault.severity=0.2:1:0.2 --vary policy=noop,threshold_rules,playbook,bandit"
    " --vary workload.period_s=600 --vary workload.phase=0.75 --replications 50 --out onset/",
}
_REPORT = "mendsim report compared/ severity/ --out report.html"
_EPISODE = "--seed 7 --fault bad_deploy@api --onset 5min"


@dataclass(frozen=True)
class Shot:
    """A picture: the command that leaves it, or the page that shows it, as ``file``."""

    command: str
    file: str
    studies: tuple[str, ...] = ()
    window: tuple[int, int] = (0, 0)  #: of a page, pixels
    dark: bool = False  #: of a page
    keys: tuple[str, ...] = ()  #: pressed at a terminal, before its picture is taken


#: By the name of the picture in ``docs/images``.
SHOTS = {
    "episode.png": Shot(f"mendsim run {_EPISODE} --plot episode.png", "episode.png"),
    "compared.png": Shot(
        "mendsim compare --policies noop,threshold_rules,playbook --episodes 60 --seed 3 --png compared.png",
        "compared.png",
    ),
    "watch.svg": Shot(f"mendsim watch {_EPISODE}", "watch.svg", keys=("n",) * 66),
    "watch_verdict.svg": Shot(f"mendsim watch {_EPISODE}", "watch_verdict.svg", keys=("e", "v")),
    "onset_and_severity.png": Shot(  # 20,000 runs: about nine minutes on two cores
        "mendsim report onset/ --out onset.html --episodes 0 --png onset_pictures/",
        "onset_pictures/follow-up-budget-spent-fault-severity-over-fault-onset-s-policy-playbook"
        "-workload-period-s-600-0-workload-phase-0-75.png",
        ("onset",),
    ),
    "report.png": Shot(
        "mendsim report compared/ severity/ --out report.html", "report.html", ("compared", "severity"), (1100, 1500)
    ),
    "report_phone.png": Shot(
        "mendsim report compared/ severity/ --out report.html",
        "report.html",
        ("compared", "severity"),
        (420, 900),
        True,
    ),
}


def _mendsim(command: str, folder: Path) -> None:
    """Run a command in a folder, as a user would; what it prints on stderr is let through."""
    arguments = shlex.split(command)[1:]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    code = "import cli; cli.main()"
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def _browse(page: Path, picture: Path, shot: Shot) -> None:
    """Take a picture of a page in a headless browser."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"a picture of a page needs one of {', '.join(BROWSERS)}")
    width, height = shot.window
    dark = ["--blink-settings=preferredColorScheme=0"] if shot.dark else ["--blink-settings=preferredColorScheme=1"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    options += [*dark, f"--window-size={width},{height}", "--virtual-time-budget=5000", f"--screenshot={picture}"]
    subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True, timeout=120)
    _shrink(picture)


def _shrink(picture: Path) -> None:
    """Give a picture a palette: it is a drawing, and a quarter of the bytes will do."""
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)


def _sit(shot: Shot, picture: Path) -> None:
    """Take a picture of a terminal at which somebody has pressed keys."""
    from agent.commands import watch
    from agent.console.app import Console

    async def somebody(app: Console) -> None:
        async with app.run_test(size=(120, 38)) as pilot:
            for key in shot.keys:
                if key == "v":
                    while not app.live.finished:
                        await pilot.pause(0.2)
                await pilot.press(key)
                await pilot.pause()
            await app.workers.wait_for_complete()
            await pilot.pause(1.0)
            svg = app.export_screenshot(title=shot.command)
            await pilot.press("q")
        # the fonts would be fetched from elsewhere; any fixed-width one will do
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        picture.write_text(re.sub(r"(font-family: )Fira Code[^;]*", r"\1ui-monospace, monospace", svg), "utf-8")

    watch.at_terminal = lambda: True
    Console.run = lambda app: asyncio.run(somebody(app))  # type: ignore[method-assign, assignment, misc]
    import cli

    try:
        cli.main([*shlex.split(shot.command)[1:], "--paused", "--quiet"])
    except SystemExit as ended:
        if ended.code:
            raise


def take(names: Sequence[str], folder: Path) -> None:
    """Take pictures into ``docs/images``; ``folder`` holds what they are drawn from."""
    IMAGES.mkdir(exist_ok=True)
    for study in dict.fromkeys(study for name in names for study in SHOTS[name].studies):
        print(STUDIES[study], flush=True)
        _mendsim(STUDIES[study], folder)
    done: set[str] = set()
    for name in names:
        shot = SHOTS[name]
        print(f"{name}: {shot.command}", flush=True)
        if shot.keys:
            _sit(shot, IMAGES / name)
            continue
        if shot.command not in done:
            _mendsim(shot.command, folder)
            done.add(shot.command)
        if shot.file.endswith(".html"):
            _browse(folder / shot.file, IMAGES / name, shot)
        else:
            shutil.copy(folder / shot.file, IMAGES / name)
            _shrink(IMAGES / name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the pictures that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.screenshots", description="The pictures of the documentation."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SHOTS)}; without names, all")
    names = parser.parse_args(arguments).names or list(SHOTS)
    if unknown := [name for name in names if name not in SHOTS]:
        parser.error(f"there is no picture {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        take(names, Path(folder))


if __name__ == "__main__":
    main()
