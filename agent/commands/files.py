"""Files that a command is asked to write: checked before anything runs."""

__all__ = ["check_file", "check_picture", "check_picture_folder"]

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.commands.setup import Mistakes


def check_file(option: str, path: str | None, force: bool, mistakes: "Mistakes", endings: Sequence[str] = ()) -> None:
    """Note whatever keeps a file from being written: its ending, its folder, or that it is there already.

    Parameters
    ----------
    option
        As the user writes it, such as ``--out``.
    path
        None where nothing is to be written.
    force
        Whether a file that is there may be replaced.
    mistakes
        Where notes go.
    endings
        Those that the name may have, such as ``.csv``; by default any.
    """
    if path is None:
        return
    target = Path(path)
    if endings and target.suffix.lower() not in endings:
        mistakes.lines.append(f"{option} must name a {' or '.join(endings)} file, got {path}")
    if not target.resolve().parent.is_dir():
        mistakes.lines.append(f"{option}: there is no folder {target.resolve().parent}")
    elif target.is_dir():
        mistakes.lines.append(f"{option}: {path} is a folder")
    elif not os.access(target.resolve().parent, os.W_OK):
        mistakes.lines.append(f"{option}: nothing can be written into the folder {target.resolve().parent}")
    elif target.exists() and not force:
        mistakes.lines.append(f"{option}: {path} exists; use --force to replace it")


def check_picture(option: str, path: str | None, force: bool, mistakes: "Mistakes") -> None:
    """Note whatever keeps a picture from being drawn into a file."""
    if path is None:
        return
    check_file(option, path, force, mistakes, (".png", ".svg"))
    if importlib.util.find_spec("matplotlib") is None:
        mistakes.lines.append(f"{option} needs matplotlib: install mendsim[pictures]")


def check_picture_folder(option: str, path: str | None, force: bool, mistakes: "Mistakes") -> None:
    """Note whatever keeps pictures from being drawn into a folder, which is made if it is not there."""
    if path is None:
        return
    target = Path(path)
    if target.exists() and not target.is_dir():
        mistakes.lines.append(f"{option}: {path} is a file; name a folder")
    elif not target.resolve().parent.is_dir():
        mistakes.lines.append(f"{option}: there is no folder {target.resolve().parent}")
    elif target.is_dir() and any(target.iterdir()) and not force:
        mistakes.lines.append(f"{option}: {path} is not empty; use --force to replace pictures in it")
    if importlib.util.find_spec("matplotlib") is None:
        mistakes.lines.append(f"{option} needs matplotlib: install mendsim[pictures]")
