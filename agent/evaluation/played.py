"""A finished round as the tables see it: its runs, their faults, and their incidents."""

__all__ = ["OF_RUNS", "Labels", "Played", "less"]

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.api import AgentTrace
from simcore.env import Episodes
from simcore.env.slo import incidents
from simcore.telemetry.tables import empty, frame

Ints = npt.NDArray[np.int64]


class Labels(TypedDict, total=False):
    """What a round is called in the tables; what is left out is null."""

    round: int
    policy_state: str
    detector: str
    diagnoser: str
    policy: str
    training: int
    noop_incident: Sequence[bool | None]  #: (run,) whether the twin without actions opened an incident
    noop_j: Sequence[float | None]  #: (run,) J of that twin
    durable: Sequence[bool | None]  #: (run,) see ``agent.evaluation.durability``
    # (run,) see ``agent.evaluation.regret``
    judged_decisions: Sequence[int | None]
    judged_disruptive: Sequence[int | None]
    harmful_decisions: Sequence[int | None]
    regret: Sequence[float | None]
    regret_clairvoyant: Sequence[float | None]


#: The labels that hold a value for every run.
OF_RUNS: tuple[str, ...] = (
    "noop_incident", "noop_j", "durable", "judged_decisions", "judged_disruptive", "harmful_decisions", "regret",
    "regret_clairvoyant",
)  # fmt: skip


class Played:
    """A finished round with its incidents at hand."""

    def __init__(self, episodes: Episodes, trace: AgentTrace | None, labels: Labels) -> None:
        self.episodes, self.trace, self.labels = episodes, trace, labels
        scenario = episodes.scenario
        self.step_s = scenario.timing.step_s
        self.names = scenario.service_names
        begins, n_steps = episodes.fault_steps, episodes.n_steps
        follow_up = scenario.timing.follow_up_steps
        #: (run,) steps up to the end of the follow-up, the same after every onset
        self.ends = np.where(begins >= 0, np.minimum(n_steps, begins + follow_up), n_steps)
        self.faults = [run.faults for run in episodes.runs]
        self.incidents = [
            incidents(episodes.incident_open[i], int(begins[i]), int(self.ends[i]), self.step_s)
            for i in range(episodes.n_runs)
        ]

    def key(self, positions: Sequence[int] | Ints) -> dict[str, Any]:
        """Return the key columns of rows that belong to these runs (positions in the round)."""
        runs = [self.episodes.runs[int(i)] for i in positions]
        return {
            "policy": [self.labels.get("policy")] * len(runs),
            "split": [run.split for run in runs],
            "seed": [run.seed for run in runs],
            "run": [run.run for run in runs],
        }

    def table(self, name: str, rows: list[dict[str, Any]], positions: Sequence[int]) -> pl.DataFrame:
        """Return a table from one dict per row, and the run that each belongs to."""
        if not rows:
            return empty(name)
        columns = {column: [row[column] for row in rows] for column in rows[0]}
        return frame(name, self.key(positions) | columns)

    def service(self, number: int) -> str:
        """Return the name of a service, or workload."""
        return self.names[number] if number >= 0 else "workload"


def less(later: float | None, earlier: float | None) -> float | None:
    """Return the difference of two times, None if either is."""
    return None if later is None or earlier is None else later - earlier
