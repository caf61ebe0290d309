"""The second process of a first use: it compiles what the first one will need later, and both share the cache.

While the first process compiles what prepares a run and then the event loop, this one takes large parts of the loop and
after them the agent, which it lets play on the SimPy engine.
"""

__all__ = ["Helper", "helper_for", "main"]

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.evaluation.study import Study

_HOUSE = Path(__file__).resolve().parent.parent.parent
#: A system that is small but large enough for an agent to be alarmed: requests a second, steps, training runs.
_RATE_RPS, _STEPS, _TRAINING_RUNS = 3.0, 24, 2
_FAULT = "error_burst@api"


class Helper:
    """The second process, as the first one sees it.

    Parameters
    ----------
    parts
        Names of detector, diagnoser and policy; none: there is no agent.
    """

    def __init__(self, *parts: str) -> None:
        self._parts = parts
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Let it begin, where there is a core for it."""
        if self._process is not None or (os.cpu_count() or 1) < 2:
            return
        path = os.pathsep.join(filter(None, [str(_HOUSE), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *self._parts],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End it, done or not: what it has compiled by then stays in the cache."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def helper_for(study: "Study", engine: str) -> Helper | None:
    """Return a helper for a study, None if its engine is not compiled."""
    parts = (study.detector, study.diagnoser, study.policies[0]) if study.policies else ()
    return Helper(*parts) if engine == "batch" else None


def main(parts: list[str]) -> None:
    """Compile what the first process needs, in the order in which it comes to need it."""
    from simcore.kernels.batch import LARGE_PARTS

    for kernel, types in LARGE_PARTS:
        kernel.compile(types)
    if parts:
        _think(*parts)


def _think(detector_name: str, diagnoser: str, policy: str) -> None:
    """Train an agent on next to nothing and let it meet a fault."""
    from agent.evaluation.study import Study, play_round, with_steps
    from agent.registry import make_detector, make_policy
    from simcore.env import Episodes
    from simcore.model.faults import parse_fault
    from simcore.model.inputs import make_run
    from simcore.model.loader import load_scenario
    from simcore.model.scenario import Scenario

    plain = with_steps(load_scenario("three_tier"), _STEPS).model_dump()
    plain["workload"]["rate_rps"] = _RATE_RPS
    plain["timing"]["burn_in_steps"] = 1
    scenario = Scenario.model_validate(plain)
    quiet = [make_run(scenario, seed=0, split="train", run=run, faults=()) for run in range(_TRAINING_RUNS)]
    normal = Episodes(scenario, quiet, engine="simpy")
    normal.advance_to_end()
    detector = make_detector(detector_name)
    detector.fit(normal.metrics, normal.topology, seed=0)
    detector.calibrate(normal.metrics, normal.topology, rate_per_hour=1.0, seed=0)
    fault = parse_fault(_FAULT, scenario, onset_s=0.25 * _STEPS * scenario.timing.step_s, severity=1.0)
    study = Study(scenario=scenario, seed=0, diagnoser=diagnoser, faults=(fault,))
    play_round(study, study.runs(0, 1), make_policy(policy), detector, engine="simpy")


if __name__ == "__main__":
    main(sys.argv[1:])
