"""A study as a typed description: the scenario, what varies, how often each cell is run, and who acts."""

__all__ = ["FaultSpec", "Refinement", "Sweep"]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.evaluation.sweep.axes import Axis, Cell
from agent.evaluation.sweep.design import cells_of
from simcore.errors import ResultsError
from simcore.model.scenario import Scenario


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A fault as people write it; what is None comes from the scenario's mix or from the catalogue."""

    fault: str  #: TYPE or TYPE@TARGET
    onset_s: float | None = None
    duration_s: float | None = None  #: -1: until fixed
    severity: float | None = None
    profile: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Refinement:
    """What is asked of a study that is refined: runs where the outcome flips, until that is known well enough."""

    measure: str  #: one of ``refining.REFINABLE``
    half_width: float  #: of the interval of a cell that is narrow enough, in units of the measure
    level: float | None = None  #: cells on one side of it are done; None: half for a share, else all get narrow
    budget: int | None = None  #: runs at most
    depth: int = 0  #: how often the distance between neighbours may be halved where the outcome flips


@dataclass(frozen=True, slots=True)
class Sweep:
    """Everything that the results of a study depend on, but for the states of policies that learned."""

    scenario: Scenario  #: before anything varies
    axes: tuple[Axis, ...] = ()
    replications: int = 10  #: runs of each cell: 0 to this less 1, the same in every cell
    design: str = "grid"  #: one of ``design.DESIGNS``, or what else lays out cells
    samples: int = 0  #: of the ranges, if there are any
    seed: int = 1
    split: str = "test"
    faults: tuple[FaultSpec, ...] = ()  #: none: drawn from the scenario
    mix: str = "default"  #: one of ``simcore.model.inputs.MIXES``
    detector: str = ""  #: "": no agent
    detector_seed: int = 0
    detector_from: str = "cell"  #: cell: trained on each cell's system; base: on the scenario before anything varies
    diagnoser: str = ""
    policy: str = ""
    shadow: bool = False
    twins: bool = False  #: every run is also run without actions
    refine: Refinement | None = None  #: instead of a number of replications

    @property
    def keys(self) -> tuple[str, ...]:
        """What varies."""
        return tuple(axis.key for axis in self.axes)

    def cells(self) -> list[Cell]:
        """Return the cells of the design."""
        return cells_of(self.axes, samples=self.samples, seed=self.seed)

    def where(self, cell: Cell) -> dict[str, Any]:
        """Return the values of a cell by key."""
        return dict(zip(self.keys, cell.values, strict=True))

    def arguments(self) -> dict[str, Any]:
        """Return the study but for its scenario and axes, JSON-able; ``from_metadata`` is the way back."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("scenario", "axes")]
        plain = {name: getattr(self, name) for name in names}
        refine = None if self.refine is None else dataclasses.asdict(self.refine)
        return plain | {"faults": [dataclasses.asdict(fault) for fault in self.faults], "refine": refine}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Sweep":
        """Return the study that ``study.json`` describes.

        Raises
        ------
        ResultsError
            If it does not describe one.
        """
        try:
            plain = dict(metadata["arguments"])
            plain["faults"] = tuple(FaultSpec(**fault) for fault in plain["faults"])
            if plain.get("refine") is not None:
                plain["refine"] = Refinement(**plain["refine"])
            axes: Sequence[Axis] = [Axis.of(axis) for axis in metadata["axes"]]
            sweep = cls(scenario=Scenario.model_validate(metadata["scenario"]), axes=tuple(axes), **plain)
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError(f"study.json does not describe a study: {error}") from error
        if sweep.scenario.digest != metadata.get("scenario_hash"):
            raise ResultsError("the scenario in study.json is not the one that was simulated: its hash differs")
        return sweep
