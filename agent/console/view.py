"""What the terminal shows of an episode: looked up once a step, apart from how it is drawn."""

__all__ = ["Thought", "View", "look"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.api import Decision
from agent.evaluation.mended import over_s
from agent.evaluation.replay import Live
from agent.evaluation.signals import golden
from agent.evaluation.timeline import TRUTH, Line, clock
from agent.loop import AgentStep
from agent.symptoms import severity_of
from simcore.windows import N_METRICS

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Thought:
    """What the agent makes of the run."""

    alarm: bool
    overall: float  #: anomaly score of the system
    score: Floats  #: (service,) nan where there is none
    diagnosed: bool  #: whether a diagnosis is in force; without one, the rest says nothing
    suspect: int  #: -1: none of the services
    confidence: float
    ranked: tuple[int, ...]  #: services, most suspect first


@dataclass(frozen=True, slots=True)
class View:
    """An episode at one edge, for somebody who sees what the agent sees."""

    step: int
    n_steps: int
    step_s: float
    names: tuple[str, ...]  #: of the services; the system comes behind them
    signals: Floats  #: (signal, edge, service + 1) as scraped, up to this edge
    broken: Bools  #: (edge,) whether the scrape then broke what was promised
    alarm: Bools  #: (edge,) whether an alarm was open
    acted: tuple[tuple[int, bool], ...]  #: (edge, whether by hand) of the actions so far
    thought: Thought | None  #: None: there is no agent, or it has not looked yet
    decision: Decision | None  #: the last one, or the one that the agent would take now
    pending: tuple[str, ...]  #: services on which an action is under way
    admitted: float  #: fraction of the traffic
    actions: tuple[str, ...]  #: names of all actions
    lines: tuple[Line, ...]  #: of the timeline
    faults: tuple[tuple[float, float], ...]  #: (begin, end) in steps; empty unless revealed

    @property
    def finished(self) -> bool:
        """Whether the episode is over."""
        return self.step >= self.n_steps

    @property
    def clock(self) -> str:
        """The simulated time."""
        return clock(self.step * self.step_s)


def look(live: Live, said: AgentStep | None = None, *, reveal: bool = False) -> View:
    """Return what there is to see of an episode now.

    Parameters
    ----------
    live
        The episode.
    said
        What the agent says at the present edge, if it was asked.
    reveal
        Show what the agent cannot see, too.
    """
    episodes, trace, now = live.episodes, live.trace, live.episodes.step
    topology, metrics = episodes.topology, _scraped(live)
    alarm = np.zeros(now, np.bool_) if trace is None else trace.alarm[0, :now]
    return View(
        step=now,
        n_steps=episodes.n_steps,
        step_s=topology.step_s,
        names=topology.services,
        signals=golden(metrics),
        broken=severity_of(metrics[:, -1], topology) > 1.0,
        alarm=alarm,
        acted=tuple((record.step, record.step in live.by_hand) for record in episodes.records),
        thought=_asked(said) if said is not None else _last_thought(live),
        decision=_decision(live, said),
        pending=tuple(topology.services[s] for s in np.flatnonzero(episodes.observation.pending[0])),
        admitted=float(episodes.observation.admitted[0]),
        actions=episodes.actions.names,
        lines=tuple(line for line in live.lines() if reveal or line[2] != TRUTH),
        faults=_faults(live) if reveal else (),
    )


def _decision(live: Live, said: AgentStep | None) -> Decision | None:
    if said is not None and said.opened:
        return said.opened[0]
    trace = live.trace
    return trace.decisions[-1] if trace is not None and trace.decisions else None


def _asked(said: AgentStep) -> Thought:
    seen = said.detection
    return _thought(
        seen.alarm[0], seen.overall[0], seen.score[0], said.suspect[0], said.confidence[0], said.ranked[0]
    )  # fmt: skip


def _last_thought(live: Live) -> Thought | None:
    trace, last = live.trace, live.episodes.step - 1
    if trace is None or last < 0:
        return None
    at = (0, last)
    return _thought(
        trace.alarm[at], trace.overall[at], trace.score[at], trace.suspect[at], trace.confidence[at], trace.ranked[at]
    )


def _thought(alarm: bool, overall: float, score: Floats, suspect: int, confidence: float, ranked: Floats) -> Thought:
    services = tuple(int(s) for s in ranked if s >= 0)
    return Thought(bool(alarm), float(overall), score, bool(services), int(suspect), float(confidence), services)


def _scraped(live: Live) -> Floats:
    """Return (edge, service + 1, metric) what was seen at the edges behind, nan before the first scrape."""
    shape = (live.episodes.topology.n_services + 1, N_METRICS)
    empty = np.full(shape, np.nan)
    seen = live.seen.metrics[1 : live.episodes.step + 1]
    return np.stack([empty if one is None else one for one in seen]) if seen else np.empty((0, *shape))


def _faults(live: Live) -> tuple[tuple[float, float], ...]:
    step_s = live.episodes.topology.step_s
    spans = []
    for fault in live.episodes.runs[0].faults:
        spans.append((fault.onset_s / step_s, over_s(fault, live.episodes) / step_s))
    return tuple(spans)
