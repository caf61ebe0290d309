"""What comes before the first event: imports, kernels loaded from the disk cache, kernels compiled.

Measured in a process of its own, since this one has everything loaded.
"""

__all__ = ["Startup", "main", "measure_startup"]

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.evaluation.study import Study

_HOUSE = Path(__file__).resolve().parent.parent.parent.parent
#: Steps of the episode that is played: enough for every stage to be passed through.
_STEPS = 12


@dataclass(frozen=True, slots=True)
class Startup:
    """CPU time of a new process up to the end of its first, short episode."""

    import_s: float  #: interpreter and imports
    load_s: float  #: kernels from the disk cache
    loaded: int
    compile_s: float
    compiled: int
    first_s: float  #: the first episode, loading and compiling included
    again_s: float  #: the same episode once more
    slowest: dict[str, float]  #: kernel -> seconds of compiling without the kernels that it calls, the longest few

    @property
    def rest_s(self) -> float:
        """What the first episode takes longer besides loading and compiling."""
        return max(0.0, self.first_s - self.again_s - self.load_s - self.compile_s)


def measure_startup(study: "Study", *, engine: str, cold: bool = False) -> Startup:
    """Return what the start of a process costs that plays a study.

    Parameters
    ----------
    study
        Its scenario and agent.
    engine
        Name of the engine.
    cold
        Use an empty cache folder: everything is compiled anew, and a detector is trained.

    Raises
    ------
    RuntimeError
        If the process fails, with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "study.json"
        metadata = {"scenario": study.scenario.model_dump(mode="json"), "scenario_hash": study.scenario.digest}
        given.write_text(json.dumps(metadata | {"arguments": study.arguments()}), encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(_HOUSE), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path}
        if cold:
            environment["MENDSIM_CACHE_DIR"] = str(Path(folder) / "cache")
        ended = subprocess.run(
            [sys.executable, "-m", __name__, str(given), engine],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise RuntimeError(f"the process that measures the start failed: {ended.stderr.strip()[-500:]}")
    return Startup(**json.loads(ended.stdout.splitlines()[-1]))


class _Kernels:
    """Times what Numba loads and compiles; a kernel's time is its own, without that of the kernels it calls."""

    def __init__(self) -> None:
        from numba.core import caching, event

        self.load_s, self.loaded = 0.0, 0
        self.own: dict[str, float] = {}
        self.compiled = 0
        self._stack: list[str] = []
        self._since = 0.0
        outer, load = self, caching.Cache.load_overload

        def timed(cache: Any, *args: Any) -> Any:
            started = time.process_time()
            found = load(cache, *args)
            outer.load_s += time.process_time() - started
            outer.loaded += found is not None
            return found

        caching.Cache.load_overload = timed

        class Listener(event.Listener):  # type: ignore[misc]
            def on_start(self, found: Any) -> None:
                outer._switch()
                outer._stack.append(found.data["dispatcher"].py_func.__name__)
                outer.compiled += 1

            def on_end(self, found: Any) -> None:
                outer._switch()
                outer._stack.pop()

        event.register("numba:compile", Listener())

    def _switch(self) -> None:
        now = time.process_time()
        if self._stack:
            self.own[self._stack[-1]] = self.own.get(self._stack[-1], 0.0) + now - self._since
        self._since = now


def main(path: str, engine: str) -> None:
    """Play a short episode of the study in a file twice, and print what the first time cost as JSON."""
    from agent.evaluation.study import Study, play_round, with_steps
    from agent.evaluation.training import trained_detector
    from agent.registry import make_policy

    if engine == "batch":
        import simcore.engines.batch  # noqa: F401
    import_s = time.process_time()
    kernels = _Kernels()
    study = Study.from_metadata(json.loads(Path(path).read_text(encoding="utf-8")))
    scenario = with_steps(study.scenario, min(_STEPS, study.scenario.timing.steps))
    short = Study(scenario=scenario, seed=study.seed, diagnoser=study.diagnoser, faults=())

    def play() -> float:
        started = time.process_time()
        detector, policy = None, None
        if study.policies:
            detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed)
            policy = make_policy(study.policies[0])
        play_round(short, short.runs(0, 1), policy, detector, engine=engine)
        return time.process_time() - started

    first_s, again_s = play(), play()
    slowest = sorted(kernels.own.items(), key=lambda item: -item[1])[:8]
    found = {
        "import_s": import_s, "load_s": kernels.load_s, "loaded": kernels.loaded,
        "compile_s": sum(kernels.own.values()), "compiled": kernels.compiled,
        "first_s": first_s, "again_s": again_s, "slowest": dict(slowest),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
