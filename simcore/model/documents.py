"""Text of a scenario file -> plain data, with the line of every key. Knows YAML and TOML, not scenarios."""

__all__ = ["Document", "Mistake", "Path", "read_document", "show"]

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from simcore.errors import ScenarioError

#: Keys and list positions from the top of the document.
Path = tuple[str | int, ...]

#: Bigger files are no scenarios; the limit keeps a mistyped path from filling the memory.
_LIMIT_BYTES = 10_000_000
#: Values in a document, aliases written out.
_LIMIT_VALUES = 100_000

_BARE = re.compile(r"^[A-Za-z0-9_]+$")
#: A whole number is a key like any text, with or without quotes, as in JSON and TOML.
_DIGITS = re.compile(r"^(0|[1-9][0-9]{0,8})$")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One broken rule."""

    path: Path  #: where; () for the document
    text: str  #: rule and value, to follow the path
    line: int = 0  #: 1-based; 0: that of the path


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says."""

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)  #: 1-based line of every key and item; empty for TOML
    mistakes: tuple[Mistake, ...] = ()

    def line_of(self, path: Path) -> int:
        """Return the line of a path or of what it lies in, 0 if unknown."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0


def show(path: Path) -> str:
    """Return a path as people write it, such as ``services.api.operations.browse.steps[1].cpu``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE.match(part) else repr(part)
            text += f".{name}" if text else name
    return text


def read_document(file: FilePath, what: str = "scenario") -> Document:
    """Read a YAML (or JSON) or TOML file, told apart by its suffix.

    Parameters
    ----------
    file
        The file.
    what
        What it should hold, for messages.

    Raises
    ------
    ScenarioError
        If the file cannot be read, is no text, or breaks the syntax.
    """
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_yaml, ".toml": _read_toml}
    reader = readers.get(file.suffix.lower())
    try:
        if file.is_dir():
            raise ScenarioError(f"{file}: is a folder, not a {what} file")
        if not file.exists():
            raise ScenarioError(f"{file}: no such file")
        if reader is None:
            raise ScenarioError(f"{file}: a {what} file must end in .yaml, .yml, .json or .toml")
        if file.stat().st_size > _LIMIT_BYTES:
            raise ScenarioError(f"{file}: must be at most {_LIMIT_BYTES} bytes long, got {file.stat().st_size}")
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{file}: is not UTF-8 text (byte {error.start})") from None
    return reader(text, str(file))


def _read_toml(text: str, name: str) -> Document:
    try:
        return Document(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r"\s*\(at line (\d+), column \d+\)$", message)
        where = f"{name}:{found[1]}" if found else name
        raise ScenarioError(f"{where}: not valid TOML: {message[: found.start()] if found else message}") from None
    except (RecursionError, ValueError):
        raise ScenarioError(f"{name}: not valid TOML: nested too deeply, or a number with too many digits") from None


def _read_yaml(text: str, name: str) -> Document:
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ScenarioError(f"{where}: not valid YAML: {problem}") from None
    except RecursionError:
        raise ScenarioError(f"{name}: not valid YAML: nested too deeply") from None
    if root is None:
        return Document(None)
    builder = _Builder(name)
    data = builder.value(root, ())
    return Document(data, builder.lines, tuple(builder.mistakes))


class _Builder:
    """Turns YAML nodes into plain values, noting lines; collects what is wrong instead of stopping."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}
        self.mistakes: list[Mistake] = []
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: Node, path: Path) -> Any:
        """Return the value of a node."""
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count += 1
        if self._count > _LIMIT_VALUES:
            raise ScenarioError(f"{self.name}: must hold at most {_LIMIT_VALUES} values, aliases written out")
        if id(node) in self._open:
            raise ScenarioError(f"{self.name}:{line}: not valid YAML: an alias that contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, ScalarNode)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if str(key.tag) == _TAG + "merge":
                self.mistakes.append(Mistake(path, "merging with '<<' is not YAML 1.2; write the keys out", line))
            elif not _is_text(key):
                what = key.value if isinstance(key, ScalarNode) else "a list or mapping"
                self.mistakes.append(Mistake(path, f"keys must be text, got {what}; put it in quotes", line))
            elif key.value in result:
                first = self.lines[(*path, key.value)]
                self.mistakes.append(Mistake((*path, key.value), f"is given twice, first in line {first}", line))
            else:
                self.lines[(*path, key.value)] = line
                result[key.value] = self.value(item, (*path, key.value))
        return result

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        tag, text = str(node.tag).removeprefix(_TAG), node.value
        if tag in ("str", "timestamp"):
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        try:
            if tag == "int":
                return _integer(text)
            if tag == "float":
                return _real(text)
        except ValueError:
            self.mistakes.append(Mistake(path, f"must be a number of at most 4300 digits, got {text[:40]}..."))
            return 0
        self.mistakes.append(Mistake(path, f"must be a plain value, got the tag {node.tag}"))
        return None


def _is_text(key: Node) -> bool:
    return isinstance(key, ScalarNode) and (str(key.tag) == _TAG + "str" or bool(_DIGITS.match(key.value)))


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    prefix = digits.lstrip("+-")[:2].lower()
    return int(digits, 0) if prefix in ("0x", "0o", "0b") else int(digits)


def _real(text: str) -> float:
    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
