"""Where compiled kernels are kept: machine code of an older source must never be run."""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from simcore import jit
from simcore.jit import bits_of, cache_root, float_of, njit

House = Path

SOURCES = {
    "simcore/__init__.py": "",
    "simcore/kernel.py": "from simcore.jit import njit\nfrom simcore.middle import middle\n",
    "simcore/middle.py": (
        "import numpy as np\nfrom simcore.one import one\nfrom simcore.two import two\n"
        "from simcore.three import three\n"
        "from simcore.parts import (\n    bolts,\n    nuts,\n)\n\n\nmiddle = one + two + three\n"
    ),
    "simcore/one.py": "one = 1\n",
    "simcore/two.py": "two = 2\n",
    "simcore/three.py": "def three():\n    from simcore.late import late\n    return late\n",
    "simcore/late.py": "late = 4\n",
    "simcore/parts/__init__.py": "",
    "simcore/parts/nuts.py": "",
    "simcore/parts/bolts.py": "from simcore.kernel import middle\n",
    "simcore/stranger.py": "from simcore.kernel import middle\n",
}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Return the root of a small package in which the cache looks for sources."""
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(jit, "_HOUSE", tmp_path)
    yield tmp_path
    _forget()


def _forget() -> None:
    jit._imports.cache_clear()
    jit._sources_key.cache_clear()


def key_of(house: House, module: str = "simcore/kernel.py") -> str:
    """Return the name of a module's cache folder as a new process would compute it."""
    _forget()
    return jit._sources_key(house / module)


@pytest.mark.parametrize(
    "changed", sorted(name for name in SOURCES if name not in ("simcore/stranger.py", "simcore/__init__.py"))
)
def test_the_cache_folder_changes_with_any_module_that_the_kernels_import_directly_or_not(
    house: House, changed: str
) -> None:
    before = key_of(house)
    with (house / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert key_of(house) != before


def test_the_cache_folder_stays_when_a_stranger_changes(house: House) -> None:
    before = key_of(house)
    (house / "simcore" / "stranger.py").write_text("stranger = 1\n", encoding="utf-8")
    assert key_of(house) == before
    assert key_of(house, "simcore/stranger.py") != before


def test_the_cache_folder_has_a_short_name_and_does_not_depend_on_the_place(
    house: House, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name, text in SOURCES.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(text, encoding="utf-8")
    here = key_of(house)
    monkeypatch.setattr(jit, "_HOUSE", elsewhere)
    assert key_of(elsewhere) == here
    assert len(here) == 16


def _imports_of(path: Path) -> set[Path]:
    """Return the modules of ours that a file imports, by Python's own parser."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
            "simcore",
            "agent",
            "tests",
            "bench",
        ):
            found += jit._files_of(node.module or "")
            for alias in node.names:
                found += jit._files_of(f"{node.module}.{alias.name}")
    return set(found)


def test_the_cache_sees_every_import_of_every_module() -> None:
    root = Path(jit.__file__).resolve().parent.parent
    paths = [path for package in ("simcore", "agent", "tests") for path in (root / package).rglob("*.py")]
    assert len(paths) > 50
    for path in paths:
        if path != Path(__file__).resolve():  # whose sources are text
            assert set(jit._imports(path)) >= _imports_of(path), path


def test_kernel_modules_import_in_the_form_that_the_cache_sees() -> None:
    root = Path(jit.__file__).resolve().parent.parent
    for path in (path for package in ("simcore", "agent") for path in (root / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "@njit" in text:
            plain = [a.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import) for a in n.names]
            assert not [name for name in plain if name.split(".")[0] in ("simcore", "agent")], path


# --- the real thing: two processes and an edit between them

CALLEE = "from simcore.jit import njit\n\n\n@njit\ndef step(x):\n    return x + {}\n"
CALLER = (
    "from simcore.jit import njit\nfrom simcore.callee import step\n\n\n"
    "@njit\ndef twice(x):\n    return step(step(x))\n"
)


def _run(house: House) -> int:
    code = "from simcore.caller import twice; print(twice(0), sum(twice.stats.cache_hits.values()))"
    environment = os.environ | {"PYTHONPATH": str(house), "MENDSIM_CACHE_DIR": str(house / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=house, capture_output=True, text=True, check=True
    )
    value, hits = done.stdout.split()
    return int(value) * 10 + int(hits)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the folder of a package with two kernels, one calling the other."""
    package = tmp_path / "simcore"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("jit.py", "patience.py"):
        (package / name).write_text(Path(jit.__file__).with_name(name).read_text(encoding="utf-8"), encoding="utf-8")
    (package / "caller.py").write_text(CALLER, encoding="utf-8")
    (package / "callee.py").write_text(CALLEE.format(1), encoding="utf-8")
    return package


def test_an_edit_of_a_callee_in_another_file_reaches_the_compiled_caller(tmp_path: Path, package: Path) -> None:
    assert _run(tmp_path) == 20  # compiled
    assert _run(tmp_path) == 21  # from the cache
    (package / "callee.py").write_text(CALLEE.format(4), encoding="utf-8")
    assert _run(tmp_path) == 80  # not from the cache


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")
def test_processes_that_want_the_same_kernel_at_once_compile_it_once(package: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(_run, [package.parent] * 3))
    assert sorted(ends) == [20, 21, 21]  # one has compiled it, the others have read it


# --- the place


def test_the_environment_names_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDSIM_CACHE_DIR", str(tmp_path / "kernels"))
    assert cache_root() == tmp_path / "kernels"


def test_otherwise_the_users_cache_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENDSIM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "mendsim"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache_root() == tmp_path / "home" / ".cache" / "mendsim"
    assert cache_root().is_dir()


def test_a_home_that_cannot_be_written_falls_back_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    monkeypatch.delenv("MENDSIM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert cache_root().parent == tmp_path / "tmp"
    assert cache_root().name.startswith("mendsim-")


# --- options


@njit
def _divide(a, b):  # type: ignore[no-untyped-def]
    return a / b


@njit
def _is_nan(x):  # type: ignore[no-untyped-def]
    return x != x


@njit(inline=True)
def _fused(a, b, c):  # type: ignore[no-untyped-def]
    return a * b + c


def test_arithmetic_is_ieee_as_written() -> None:
    assert _divide(1.0, 0.0) == float("inf")
    assert _is_nan(_divide(0.0, 0.0))
    a = 1.0 + 2.0**-30
    assert _fused(a, a, -1.0 - 2.0**-29) == 0.0 == a * a + (-1.0 - 2.0**-29)  # a fused multiply-add gives 2**-60


def test_bits_of_a_float_go_there_and_back() -> None:
    for x in (0.0, -0.0, 1.0, -2.5, 5e-324, float("inf")):
        assert _there_and_back(x) == x
    assert _bits(1.0) == 0x3FF0000000000000
    assert _bits(-0.0) == -(2**63)


@njit
def _bits(x):  # type: ignore[no-untyped-def]
    return bits_of(x)


@njit
def _there_and_back(x):  # type: ignore[no-untyped-def]
    return float_of(bits_of(x))


@njit(internal=True)
def _part(x):  # type: ignore[no-untyped-def]
    return x + 1


@njit(task=True)
def _task(job, i):  # type: ignore[no-untyped-def]
    return job + _part(i)


@njit
def _whole(x):  # type: ignore[no-untyped-def]
    return _task(x, _part(x))


def _named_alike(n: int) -> Any:
    @njit
    def inner(x):  # type: ignore[no-untyped-def]
        return x + n

    return inner


def test_a_kernel_may_call_another_of_its_name() -> None:
    called = _named_alike(1)

    @njit
    def inner(x):  # type: ignore[no-untyped-def]
        return called(x) + 10

    assert inner(2) == 13


@pytest.mark.parametrize("kernel", [_part, _task])
def test_a_kernel_without_an_entry_for_python_says_so(kernel: Any) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^kernel {kernel.__name__} has no entry for Python"):
            kernel(*range(kernel.py_func.__code__.co_argcount))
        # the same once it is compiled
        assert _whole(1) == 4
