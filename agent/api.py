"""What the parts of an agent agree on: what they hand to one another, and the three plug-in protocols.

The order within a step is observe -> detect -> diagnose -> decide -> act; learning happens between rounds
(:meth:`Policy.merge`). Arrays have the run axis first; -1 is no index, nan is no value.
"""

__all__ = [
    "AMPLIFICATION_BANDS", "BROKEN", "FEATURES", "LOAD_BANDS", "PATTERNS",
    "ActionTable", "AgentTrace", "Choices", "ConsultsRollouts", "Decision", "Detection", "Detector", "Diagnoser",
    "Diagnosis", "History", "Informed", "Keys", "Observation", "Policy", "Rollouts", "Signature", "Situation",
    "Topology",
]  # fmt: skip

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from agent.history import History
from simcore.env import Episodes
from simcore.observation import ActionTable, Observation, Topology
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]

#: The metrics of a service that detectors score.
FEATURES = (Metric.P95_S, Metric.ERROR_RATE, Metric.CPU_UTIL, Metric.MEMORY_FRAC)

#: Which of the system's thresholds is broken.
BROKEN = ("none", "p95", "errors", "both")
#: Offered load as a multiple of the scenario's base rate: below the first, between, above the second.
LOAD_BANDS = (0.85, 1.15)
#: Attempts per call within the system, likewise.
AMPLIFICATION_BANDS = (1.05, 1.5)
#: What the target of a decision looks like, most telling first (``agent.policies.signature``).
PATTERNS = (
    "cold", "poison", "hot", "spared", "change", "skew", "short", "flapping", "memory", "storm", "overload", "cpu",
    "stuck", "backlog", "pool", "cut", "errors", "latency", "surge", "nothing",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector says of every run at one step."""

    alarm: Bools  #: (run,) whether an alarm is open
    overall: Floats  #: (run,) anomaly score of the system: the mean over the services that have one, else nan
    score: Floats  #: (run, service) anomaly score, larger is stranger; nan before the first scrape or warm-up
    excess: (
        Floats  #: (run, service) score above normal in units of the alarm threshold: 0 normal, 1 alarm; nan as score
    )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a diagnoser says of the runs it was asked about."""

    runs: Ints  #: (row,) position of the run in the batch
    suspect: Ints  #: (row,) service, -1 for none of them (the workload, or nothing)
    confidence: Floats  #: (row,) in [0, 1]
    ranked: Ints  #: (row, service) services, most suspect first
    explain: Callable[[int], str]  #: rationale of a row in words; built only when called
    blame: Floats | None = None  #: (row, service) what the ranking goes by, equal where it ties; None: no ties


@dataclass(frozen=True, slots=True)
class Signature:
    """An incident as a learner sees it, one row a decision."""

    target: Ints  #: (row,) service to act on, -1 for none
    broken: Ints  #: (row,) index into ``BROKEN``
    load: Ints  #: (row,) 0, 1, 2: see ``LOAD_BANDS``
    amplification: Ints  #: (row,) 0, 1, 2: see ``AMPLIFICATION_BANDS``
    pattern: Ints  #: (row,) index into ``PATTERNS``
    again: Bools  #: (row,) whether something was tried in this incident before

    @property
    def noticed(self) -> Bools:
        """(row,) whether users notice: the SLO is broken."""
        noticed: Bools = self.broken > 0
        return noticed

    def key(self, row: int, services: Sequence[str]) -> str:
        """Return the signature of a row as text, such as ``db|p95|load1|amp0|latency|first``."""
        target = int(self.target[row])
        return "|".join(
            (
                services[target] if target >= 0 else "workload",
                BROKEN[self.broken[row]],
                f"load{self.load[row]}",
                f"amp{self.amplification[row]}",
                PATTERNS[self.pattern[row]],
                "again" if self.again[row] else "first",
            )
        )


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy is asked: some runs have a decision to take."""

    runs: Ints  #: (row,) position of the run in the batch
    keys: Keys  #: (row,) key of the decision: a pure function of the run and of the decision's ordinal in it
    observation: Observation  #: of the whole batch
    history: History  #: of the whole batch
    diagnosis: Diagnosis  #: (row,) of these runs
    signature: Signature  #: (row,)
    allowed: Bools  #: (row, action) legal and within the guardrails; noop always
    in_vain: Ints  #: (row,) how many actions of this incident did not help

    def part(self, rows: Ints) -> "Situation":
        """Return some of the rows."""
        said, seen = self.diagnosis, self.signature
        diagnosis = replace(
            said, **{name: getattr(said, name)[rows] for name in ("runs", "suspect", "confidence", "ranked")},
            blame=None if said.blame is None else said.blame[rows], explain=lambda row: said.explain(int(rows[row])),
        )  # fmt: skip
        signature = Signature(*(getattr(seen, part.name)[rows] for part in fields(Signature)))
        own = {name: getattr(self, name)[rows] for name in ("runs", "keys", "allowed", "in_vain")}
        return replace(self, diagnosis=diagnosis, signature=signature, **own)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a policy answers."""

    action: Ints  #: (row,) action number
    propensity: Floats  #: (row,) probability with which this policy takes this action in this situation
    score: Floats  #: (row,) what the policy expects of it, nan if it has no such number
    explain: Callable[[int], str]  #: reason of a row in words
    context: Floats | None = None  #: (row, feature) what a learner wants to have back with the reward


@dataclass(slots=True)
class Decision:
    """One decision: opened by an alarm or a broken SLO, closed after the action's delay and settle time."""

    run: int  #: index of the run (``Run.run``)
    opened: int  #: step at whose edge it was taken
    action: int  #: its number
    code: int  #: its ``ActionCode``
    legal: tuple[int, ...]  #: actions to choose from, after the guardrails
    propensity: float
    score: float
    signature: str
    target: int  #: service acted on, -1 for none
    explain: Callable[[], str] = field(repr=False, compare=False)  #: the rationale, built when asked for
    closed: int = -1  #: step at whose edge it was judged, -1: the episode ended before
    reward: float = float("nan")  #: in [0, 1], see ``agent.play.reward``
    context: tuple[float, ...] = field(default=(), repr=False)  #: of the policy's ``Choices``

    @property
    def rationale(self) -> str:
        """Why, in words: the policy's reason, then the diagnosis."""
        return self.explain()


@dataclass(slots=True)
class AgentTrace:
    """What an agent did in a batch: entry t of the step axis is what it decided at edge t."""

    alarm: Bools  #: (run, step) whether an alarm is open
    triggered: Bools  #: (run, step) whether an alarm is open or the SLO is broken as the agent sees it
    overall: Floats  #: (run, step) anomaly score of the system
    score: Floats  #: (run, step, service)
    choice: Ints  #: (run, step) action number, 0 for noop
    suspect: Ints  #: (run, step) service of the diagnosis in force, -1 for none
    confidence: Floats  #: (run, step) of the diagnosis in force, nan without one
    ranked: Ints  #: (run, step, service) services of the diagnosis in force, most suspect first; -1 without one
    decisions: list[Decision] = field(default_factory=list)  #: by run, then step


class Detector(Protocol):
    """Scores every service of every run, and raises alarms.

    A detector is fitted on fault-free runs, calibrated on other fault-free runs, then driven in lockstep. What it
    says of a run never depends on the other runs of the batch.
    """

    name: ClassVar[str]

    def fit(self, metrics: Floats, topology: Topology, *, seed: int) -> None:
        """Learn what is normal from fault-free runs, (run, step, service + 1, metric)."""

    def calibrate(self, metrics: Floats, topology: Topology, *, rate_per_hour: float, seed: int) -> float:
        """Set the alarm threshold from other fault-free runs, to at most this many false alarms per system-hour.

        Returns
        -------
        The rate reached on these runs.
        """

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch: forget all alarms; ``keys`` (run,) are the runs' own keys."""

    def update(self, observation: Observation) -> Detection:
        """Take in one step of the batch."""

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore what was learned.

        Raises
        ------
        InputError
            If the state is not this detector's, or damaged.
        """


class Diagnoser(Protocol):
    """Says which service is at fault."""

    name: ClassVar[str]

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch; ``keys`` (run,) are the runs' own keys."""

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Diagnose the given runs of the batch, and no others."""


class Rollouts(Protocol):
    """What would become of the runs of a batch at the present edge, if an action were taken."""

    def values(self, runs: Ints, allowed: Bools, futures: Sequence[int]) -> Floats:
        """Return (row, action, future) the change of J over the horizon, nan where an action is not allowed.

        Parameters
        ----------
        runs
            (row,) positions of runs in the batch.
        allowed
            (row, action) what to try; legal.
        futures
            Numbers of re-keyed futures; -1 is the run's own.
        """


@runtime_checkable
class ConsultsRollouts(Protocol):
    """A policy that looks ahead; the loop hands it the means when a batch begins."""

    name: ClassVar[str]

    def consult(self, rollouts: Rollouts) -> None:
        """Use these for the batch that has just begun."""


class Policy(Protocol):
    """Chooses actions, and learns from their rewards between rounds."""

    name: ClassVar[str]

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""

    def decide(self, situation: Situation) -> Choices:
        """Choose an allowed action for every row, with what is known from earlier rounds; learns nothing."""

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn from the decisions of a round, given in order of runs."""

    def freeze(self) -> None:
        """Stop exploring: from now on take the action believed best."""

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore what was learned.

        Raises
        ------
        InputError
            If the state is not this policy's, or damaged.
        """


@runtime_checkable
class Informed(Protocol):
    """A part that knows the truth, such as an expert or an oracle: what a real agent could not be.

    Without having been informed it keeps to the contract of its kind all the same, and knows of no fault.
    """

    def inform(self, episodes: Episodes) -> None:
        """Take the episodes of a batch, at edge 0 and before ``start``; they are looked at, never changed."""
