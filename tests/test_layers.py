"""Imports point down only (the README has the picture)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Lowest layer first; a module belongs to the longest prefix that names it.
#: The engines' interface is made of the model's types, so it stands beside the model.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("simcore.errors", "simcore.codes", "simcore.jit", "simcore"),
    ("simcore.streams", "simcore.samplers", "simcore.observation", "simcore.threads"),
    ("simcore.windows", "simcore.eventlog"),
    ("simcore.model", "simcore.engines.api"),
    ("simcore.reference", "simcore.kernels", "simcore.layout", "simcore.compiler"),
    ("simcore.engines", "simcore.signals"),
    ("simcore.env", "simcore.validity"),
    ("simcore.telemetry",),
    ("agent", "agent.api"),
    ("agent.detectors", "agent.diagnosers", "agent.policies"),
    ("agent.registry", "agent.loop", "agent.play", "agent.rollouts", "agent.symptoms"),
    ("agent.evaluation",),
    ("agent.console", "agent.environments"),
    ("agent.commands",),
    ("cli", "bench", "tests"),
)

#: What may not be imported although it is not above: the engines share no logic, siblings do not know each other.
APART: tuple[tuple[str, str], ...] = (
    ("simcore.reference", "simcore.layout"),
    ("simcore.reference", "simcore.compiler"),
    ("simcore.compiler", "simcore.reference"),
    ("simcore.reference", "simcore.kernels"),
    ("simcore.reference", "simcore.engines.batch"),
    ("simcore.layout", "simcore.reference"),
    ("simcore.kernels", "simcore.reference"),
    ("simcore.engines.batch", "simcore.reference"),
    ("simcore.env", "simcore.validity"),
    ("simcore.validity", "simcore.env"),
    ("agent.detectors", "agent.diagnosers"),
    ("agent.detectors", "agent.policies"),
    ("agent.diagnosers", "agent.detectors"),
    ("agent.diagnosers", "agent.policies"),
    ("agent.policies", "agent.detectors"),
    ("agent.policies", "agent.diagnosers"),
)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def level_of(module: str) -> int:
    named = [(len(p), level) for level, prefixes in enumerate(LAYERS) for p in prefixes if within(module, p)]
    assert named, f"{module} belongs to no layer: add it to LAYERS"
    return max(named)[1]


def imports_of(source: str, known: frozenset[str]) -> Iterator[str]:
    """Yield the modules of ours that a source imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test can read them"
            base = node.module or ""
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("simcore", "agent", "cli", "bench", "tests"))


def violations(module: str, source: str, known: frozenset[str]) -> list[str]:
    found = []
    for target in imports_of(source, known):
        if level_of(target) > level_of(module):
            found.append(f"{module} imports {target}, which lies above it")
        if any(within(module, a) and within(target, b) for a, b in APART):
            found.append(f"{module} imports {target}, from which it must stay apart")
    return found


def modules() -> dict[str, Path]:
    files = [ROOT / "cli.py"]
    for package in ("simcore", "agent", "bench"):
        files += (ROOT / package).rglob("*.py")
    named = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def test_imports_point_down() -> None:
    files = modules()
    known = frozenset(files)
    found = [v for name, path in files.items() for v in violations(name, path.read_text(encoding="utf-8"), known)]
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("simcore.env", "import agent.loop"),
        ("simcore.model.faults", "from simcore.engines import registry"),
        ("simcore.validity.cases", "from simcore.telemetry import tables"),
        ("simcore.validity.cases", "from simcore.env import Episodes"),
        ("simcore.streams", "def late():\n    from simcore.env import Episodes"),
        ("simcore.reference.session", "from simcore.layout import Plan"),
        ("agent.policies.ucb", "from agent.detectors.forest import Forest"),
        ("agent.evaluation.study", "import cli"),
    ],
)
def test_a_made_up_import_that_points_up_or_sideways_is_found(module: str, source: str) -> None:
    assert violations(module, source, frozenset({"simcore.engines.registry"}))


def test_a_made_up_import_that_points_down_is_fine() -> None:
    source = "from simcore.engines.registry import open_session\nimport numpy\nfrom simcore.errors import SimError"
    assert not violations("simcore.env", source, frozenset())


def test_a_module_of_no_layer_is_refused() -> None:
    with pytest.raises(AssertionError, match="belongs to no layer"):
        level_of("rogue")


def test_only_one_module_calls_numbas_njit() -> None:
    callers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("njit", "jit", "vectorize", "guvectorize")
    }
    assert callers <= {"simcore.jit"}
