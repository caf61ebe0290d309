"""Memory that a study takes: the peak of Python's and NumPy's allocations in each stage."""

__all__ = ["Memory", "measure_memory"]

import gc
import tracemalloc
from dataclasses import dataclass

from agent.api import Detector
from agent.evaluation.profiling.stages import STAGES, Stages, hooks_of
from agent.evaluation.study import Study, evaluate
from agent.registry import make_policy


@dataclass(frozen=True, slots=True)
class Memory:
    """Allocations that ``tracemalloc`` sees: Python's objects and NumPy's arrays, not those of compiled libraries."""

    peak: dict[str, int]  #: stage -> most by which it grew above what was there when it was entered, bytes
    left: int  #: still allocated at the end, by the results


class _Peaks(Stages):
    """Stages that also note the peak of the memory since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = dict.fromkeys(STAGES, 0)
        self._level = tracemalloc.get_traced_memory()[0]

    def _charge(self) -> None:
        here, (level, peak) = self._stack[-1], tracemalloc.get_traced_memory()
        self.peak[here] = max(self.peak[here], peak - self._level)
        self._level = level
        tracemalloc.reset_peak()
        super()._charge()


def measure_memory(
    study: Study, *, engine: str, threads: int | None, detector: Detector | None
) -> Memory:  # fmt: skip
    """Play a study once and return the memory that its stages take; takes several times as long as usual.

    Parameters
    ----------
    study, engine, threads, detector
        As ``agent.evaluation.study.evaluate`` takes them.
    """
    policies = [make_policy(name) for name in study.policies]
    hooks = hooks_of(engine, detector=detector, diagnoser=study.diagnoser, policies=policies)
    gc.collect()
    tracemalloc.start()
    try:
        stages = _Peaks()
        with stages.watching(hooks):
            outcome = evaluate(study, engine=engine, threads=threads, detector=detector)
        if outcome.interrupted:
            raise KeyboardInterrupt
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return Memory({stage: peak for stage, peak in stages.peak.items() if stages.calls[stage]}, left)
