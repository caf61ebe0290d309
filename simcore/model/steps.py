"""The steps of a scenario as they are written, with their paths: what the checks walk through."""

__all__ = ["AnyStep", "calls_of", "steps"]

from collections.abc import Iterable, Iterator
from typing import Any

from simcore.model.documents import Path
from simcore.model.programs import CachedStep, Call, CallStep, CpuStep, DelayStep, LockStep, ParallelStep, PublishStep
from simcore.model.scenario import Scenario

AnyStep = CpuStep | DelayStep | CallStep | CachedStep | LockStep | ParallelStep | PublishStep


def steps(scenario: Scenario) -> Iterator[tuple[Path, str, AnyStep]]:
    """Yield (path, operation, step) of all steps in pre-order."""

    def visit(path: Path, operation: str, written: Iterable[Any]) -> Iterator[tuple[Path, str, AnyStep]]:
        for i, step in enumerate(written):
            here = (*path, "steps", i)
            yield here, operation, step
            if isinstance(step, CachedStep):
                yield from visit((*here, "cached"), operation, step.cached.steps)
            elif isinstance(step, LockStep):
                yield from visit((*here, "lock"), operation, step.lock.steps)

    for service, spec in scenario.services.items():
        for name, operation in spec.operations.items():
            yield from visit(("services", service, "operations", name), f"{service}.{name}", operation.steps)


def calls_of(path: Path, step: AnyStep) -> Iterator[tuple[Path, Call]]:
    """Yield (path, call) of the calls that a step itself makes."""
    if isinstance(step, CachedStep):
        yield (*path, "cached"), step.cached
    elif isinstance(step, CallStep):
        yield (*path, "call"), step.call
    elif isinstance(step, ParallelStep):
        for i, branch in enumerate(step.parallel.branches):
            yield (*path, "parallel", "branches", i), branch
