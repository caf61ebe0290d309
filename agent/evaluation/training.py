"""Makes a detector ready: fitted on fault-free runs of one split, its threshold set on those of another."""

__all__ = ["CALIBRATION_RUNS", "FALSE_ALARMS_PER_HOUR", "TRAINING_RUNS", "fault_free", "trained_detector"]

import numpy as np
import numpy.typing as npt

from agent.api import Detector
from agent.registry import make_detector
from simcore.env import Episodes
from simcore.model.inputs import make_run
from simcore.model.scenario import Scenario

#: Fault-free runs that a detector is fitted on.
TRAINING_RUNS = 40
#: Fault-free runs that its threshold is set on.
CALIBRATION_RUNS = 60
#: Accepted false alarms per system-hour.
FALSE_ALARMS_PER_HOUR = 0.5


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


def trained_detector(name: str, scenario: Scenario, *, seed: int, threads: int | None = None) -> Detector:
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

    Raises
    ------
    RegistryError
        If there is no detector of that name.
    """
    from simcore.env.actions import build_topology

    detector, topology = make_detector(name), build_topology(scenario)
    detector.fit(fault_free(scenario, seed=seed, split="train", runs=TRAINING_RUNS, threads=threads), topology, seed=seed)
    quiet = fault_free(scenario, seed=seed, split="calibrate", runs=CALIBRATION_RUNS, threads=threads)
    detector.calibrate(quiet, topology, rate_per_hour=FALSE_ALARMS_PER_HOUR, seed=seed)
    return detector
