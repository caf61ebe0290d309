"""A hash of our own sources, for what must not be mixed with what another version of the program made."""

__all__ = ["sources_digest"]

import functools
import hashlib
from pathlib import Path

_HOUSE = Path(__file__).resolve().parent.parent.parent


@functools.cache
def sources_digest(*places: str) -> str:
    """Return a hash of the Python sources in files and folders of ours, such as ``simcore`` or ``agent/loop.py``."""
    digest = hashlib.sha256()
    for place in (_HOUSE / name for name in places):
        for source in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()
