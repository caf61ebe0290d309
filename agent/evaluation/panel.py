"""Several diagnosers side by side in the simulator: all see the same incidents, none has an influence on the runs."""

__all__ = ["Panel", "PanelOutcome", "by_fault", "consult", "consult_members"]

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.api import AgentTrace, Detection, Diagnoser, Diagnosis, History, Keys, Observation, Topology
from agent.evaluation.scoring import Labels, score
from agent.evaluation.study import Study
from agent.evaluation.training import trained_detector
from agent.evaluation.truth import rejudge
from agent.loop import Agent
from agent.play import play
from agent.registry import make_diagnoser, make_policy
from simcore.env import Episodes

Ints = npt.NDArray[np.int64]


class Panel:
    """Asks several diagnosers, answers with the first one's word, and keeps what each of them said last of every run.

    Attributes
    ----------
    members
        Name -> diagnoser.
    cpu_s
        Name -> CPU time spent, seconds.
    suspect, ranked
        Name -> (run,) and (run, service), the latest of each run.
    """

    name: ClassVar[str] = "panel"

    def __init__(self, members: dict[str, Diagnoser]) -> None:
        self.members = members
        self.cpu_s = dict.fromkeys(members, 0.0)

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self.suspect = {name: np.full(keys.size, -1, np.int64) for name in self.members}
        self.ranked = {name: np.full((keys.size, topology.n_services), -1, np.int64) for name in self.members}
        for member in self.members.values():
            member.start(topology, keys)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Ask every member."""
        said: list[Diagnosis] = []
        for name, member in self.members.items():
            before = time.process_time()
            said.append(member.diagnose(observation, detection, history, runs))
            self.cpu_s[name] += time.process_time() - before
            self.suspect[name][runs], self.ranked[name][runs] = said[-1].suspect, said[-1].ranked
        return said[0]


@dataclass(slots=True)
class PanelOutcome:
    """What a panel's study gave."""

    episodes: pl.DataFrame  #: the episodes table, one row per run and diagnoser
    cpu_s: dict[str, float] = field(default_factory=dict)  #: diagnoser -> CPU time
    simulation_cpu_s: float = 0.0  #: CPU time of the same rounds without any diagnoser


def consult(
    study: Study,
    names: Sequence[str],
    *,
    engine: str = "batch",
    threads: int | None = None,
    states: dict[str, dict[str, Any]] | None = None,
    on_progress: Callable[[float], None] | None = None,
    truth: str = "injected",
) -> PanelOutcome:
    """Run a study in shadow and judge every diagnoser on it, as ``agent.evaluation.scoring`` judges the one in charge.

    CPU times leave out the first round, in which things compile, if there are more.

    Parameters
    ----------
    study
        What to run; its diagnoser and policies play no part.
    names
        The diagnosers.
    engine, threads
        How to run it; without influence on the results.
    states
        Diagnoser -> learned state to start from.
    on_progress
        Told how many runs are done.
    truth
        What AC@1 is held against, one of ``agent.evaluation.truth.TRUTHS``.
    """
    members = {name: make_diagnoser(name, (states or {}).get(name)) for name in names}
    return consult_members(study, members, engine=engine, threads=threads, on_progress=on_progress, truth=truth)


def consult_members(
    study: Study,
    members: dict[str, Diagnoser],
    *,
    engine: str = "batch",
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    truth: str = "injected",
) -> PanelOutcome:
    """Do as ``consult`` with diagnosers at hand, by the names that the table has for them."""
    panel, names = Panel(members), list(members)
    detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
    found, outcome = [], PanelOutcome(pl.DataFrame())
    for number, first in enumerate(range(0, study.episodes, study.round_size)):
        if number == 1:
            panel.cpu_s, outcome.simulation_cpu_s = dict.fromkeys(names, 0.0), 0.0
        runs = study.runs(first, min(study.round_size, study.episodes - first))
        began, spent = time.process_time(), sum(panel.cpu_s.values())
        episodes = Episodes(study.scenario, runs, engine=engine, threads=threads)
        heard = _Heard(panel, episodes, on_progress, first)
        trace = play(episodes, Agent(detector, panel, make_policy("noop")), shadow=True, on_step=heard.listen)
        outcome.simulation_cpu_s += time.process_time() - began - (sum(panel.cpu_s.values()) - spent)
        judged = []
        for name in names:
            labels = Labels(round=number, detector=study.detector, diagnoser=name, policy="noop")
            judged.append(score(episodes, heard.trace(trace, name), labels, tables=("episodes",))["episodes"])
        found.append(rejudge(pl.concat(judged), study.scenario, runs, truth, threads=threads))
    outcome.episodes, outcome.cpu_s = pl.concat(found), panel.cpu_s
    return outcome


class _Heard:
    """What each member of a panel held at every step of a round."""

    def __init__(
        self, panel: Panel, episodes: Episodes, on_progress: Callable[[float], None] | None, done: int
    ) -> None:
        self._panel, self._tell, self._done = panel, on_progress, done
        shape = (episodes.n_runs, episodes.n_steps)
        self._suspect = {name: np.full(shape, -1, np.int64) for name in panel.members}
        self._ranked = {name: np.full((*shape, episodes.topology.n_services), -1, np.int64) for name in panel.members}

    def listen(self, episodes: Episodes) -> None:
        """Note what is held at the step that has just ended."""
        for name in self._panel.members:
            self._suspect[name][:, episodes.step - 1] = self._panel.suspect[name]
            self._ranked[name][:, episodes.step - 1] = self._panel.ranked[name]
        if self._tell is not None:
            self._tell(self._done + episodes.n_runs * episodes.step / episodes.n_steps)

    def trace(self, trace: AgentTrace, name: str) -> AgentTrace:
        """Return the trace as it were with this member in charge."""
        held = trace.ranked[..., 0] >= 0
        suspect = np.where(held, self._suspect[name], -1)
        return dataclasses.replace(trace, suspect=suspect, ranked=np.where(held[..., None], self._ranked[name], -1))


def by_fault(episodes: pl.DataFrame) -> pl.DataFrame:
    """Return AC@1 of every diagnoser, a row per fault type and one for all: ``fault, runs, <diagnoser>, ...``.

    Runs without a judged diagnosis (no fault, or neither an alarm nor an incident) are left out.
    """
    judged = episodes.filter(pl.col("ac1").is_not_null())
    parts = [judged.with_columns(fault=pl.col("fault_type")), judged.with_columns(fault=pl.lit("all"))]
    parts = parts if judged.height else []
    rows = []
    for part in parts:
        for fault in sorted(part["fault"].unique().to_list()):
            of = part.filter(pl.col("fault") == fault)
            row: dict[str, object] = {"fault": fault, "runs": of.select("seed", "split", "run").unique().height}
            for name in of["diagnoser"].unique(maintain_order=True):
                row[name] = float(of.filter(pl.col("diagnoser") == name)["ac1"].to_numpy().mean())
            rows.append(row)
    return pl.DataFrame(rows, schema=None if rows else {"fault": pl.String, "runs": pl.Int64})
