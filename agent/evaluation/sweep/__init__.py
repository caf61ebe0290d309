"""Studies: what happens over a grid or sample of onsets, severities, loads, delays, agents, scenario parameters."""

__all__ = ["Axis", "Cell", "Crew", "FaultSpec", "Job", "Sweep", "Worlds", "batches", "parse_axis", "play", "play_batch"]

from agent.evaluation.sweep.axes import Axis, Cell, parse_axis
from agent.evaluation.sweep.crew import Crew
from agent.evaluation.sweep.playing import Job, batches, play, play_batch
from agent.evaluation.sweep.sweep import FaultSpec, Sweep
from agent.evaluation.sweep.worlds import Worlds
