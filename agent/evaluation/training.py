"""Makes a detector ready: fitted on fault-free runs of one split, its threshold set on those of another.

A trained detector is kept beside the compiled kernels and found again by a hash of everything that it depends on.
"""

__all__ = ["CALIBRATION_RUNS", "FALSE_ALARMS_PER_HOUR", "TRAINING_RUNS", "fault_free", "normal_of", "trained_detector"]

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.api import Detector
from agent.evaluation.sources import sources_digest
from agent.registry import make_detector
from simcore.env import Episodes
from simcore.env.actions import build_topology
from simcore.errors import InputError
from simcore.jit import cache_root
from simcore.model.inputs import make_run
from simcore.model.scenario import Faults, Observation, Scenario
from simcore.model.spec import Range

#: Fault-free runs that a detector is fitted on.
TRAINING_RUNS = 20
#: Fault-free runs that its threshold is set on.
CALIBRATION_RUNS = 40
#: Accepted false alarms per system-hour.
FALSE_ALARMS_PER_HOUR = 0.5

#: Sources that a trained detector depends on.
_SOURCES = ("simcore", "agent/detectors", "agent/evaluation/training.py")


def fault_free(
    scenario: Scenario, *, seed: int, split: str, runs: int, threads: int | None = None
) -> npt.NDArray[np.float64]:
    """Return (run, step, service + 1, metric) windows of runs without faults and without an agent.

    Parameters
    ----------
    scenario
        The system.
    seed, split
        Place of the runs in the seed space.
    runs
        How many.
    threads
        Threads of the engine. It is the batch engine in every case: the engines agree to the last bit.
    """
    made = [make_run(scenario, seed=seed, split=split, run=run, faults=()) for run in range(runs)]
    episodes = Episodes(scenario, made, threads=threads)
    episodes.advance_to_end()
    return episodes.metrics


def normal_of(scenario: Scenario) -> Scenario:
    """Return a scenario without what a detector that is being trained never meets: faults, actions, lost scrapes.

    Scenarios with the same normal share their detectors.
    """
    timing = scenario.timing.model_dump() | {"follow_up_steps": 1}
    plain = scenario.model_dump() | {
        "name": "normal", "description": "", "version": 1, "timing": timing, "actions": {},
        "faults": Faults(onset_s=Range(min=0.0, max=0.0)).model_dump(), "observation": Observation().model_dump(),
    }  # fmt: skip
    return Scenario.model_validate(plain)


def trained_detector(
    name: str, scenario: Scenario, *, seed: int, threads: int | None = None, keep: bool = True
) -> Detector:
    """Return a detector that knows the scenario; the same arguments give the same detector.

    Parameters
    ----------
    name
        As registered.
    scenario
        What is normal.
    seed
        Of the runs that it learns from, in the splits ``train`` and ``calibrate``, and of its own randomness.
    threads
        Threads of the engine.
    keep
        Whether to keep it on the disk, for the next time.

    Raises
    ------
    RegistryError
        If there is no detector of that name.
    """
    detector, scenario = make_detector(name), normal_of(scenario)
    kept = _kept(name, scenario, seed)
    # What cannot be read is made anew: a damaged file must not stop anybody.
    with contextlib.suppress(OSError, ValueError, InputError):
        detector.load(json.loads(kept.read_text(encoding="utf-8")))
        return detector
    detector, topology = make_detector(name), build_topology(scenario)
    normal = fault_free(scenario, seed=seed, split="train", runs=TRAINING_RUNS, threads=threads)
    detector.fit(normal, topology, seed=seed)
    quiet = fault_free(scenario, seed=seed, split="calibrate", runs=CALIBRATION_RUNS, threads=threads)
    detector.calibrate(quiet, topology, rate_per_hour=FALSE_ALARMS_PER_HOUR, seed=seed)
    if keep:
        with contextlib.suppress(OSError):
            _keep(kept, detector.state())
    return detector


def _kept(name: str, scenario: Scenario, seed: int) -> Path:
    libraries = [f"{package} {version(package)}" for package in ("numpy", "scikit-learn")]
    what = [
        sources_digest(*_SOURCES),
        name,
        scenario.digest,
        str(seed),
        platform.machine(),
        platform.python_version(),
        *libraries,
    ]
    return cache_root() / "detectors" / f"{hashlib.sha256('|'.join(what).encode()).hexdigest()[:24]}.json"


def _keep(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(file.name, path)
