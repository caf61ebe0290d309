"""Which stage of an agent loses the error budget: each is exchanged for one that knows the truth."""

__all__ = ["STAGES", "attribute", "variants"]

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.api import Detector
from agent.evaluation.compare import PRIMARY, Comparison
from agent.evaluation.contest import Contestant, contestants
from agent.evaluation.oracles import OracleDetector, OracleDiagnoser
from agent.evaluation.study import Study
from agent.loop import Agent
from agent.registry import make_policy

Floats = npt.NDArray[np.float64]

#: The stages of an agent, in their order.
STAGES = ("detection", "diagnosis", "decision")


def label(known: tuple[str, ...]) -> str:
    """Return what a variant is called in which these stages know the truth."""
    return "agent" if not known else "oracle " + "+".join(known)


def variants(study: Study, detector: Detector, states: dict[str, list[dict[str, Any]]]) -> list[Contestant]:
    """Return noop, and the agent with every set of its stages exchanged.

    Who knows the fault does not listen to the diagnosis: with an expert decision it makes no difference and is not
    played twice.

    Parameters
    ----------
    study
        Names detector, diagnoser and the one policy.
    detector
        Trained.
    states
        Policy -> its states, one per training.
    """
    found = contestants(_only(study, "noop"), detector, {})
    for count in range(len(STAGES) + 1):
        for known in combinations(STAGES, count):
            if "decision" in known and "diagnosis" in known:
                continue
            for player in contestants(study, detector, states)[: 1 if "decision" in known else None]:
                diagnoser = study.new_diagnoser()
                agent = Agent(
                    OracleDetector(detector) if "detection" in known else detector,
                    OracleDiagnoser(diagnoser) if "diagnosis" in known else diagnoser,
                    make_policy("expert") if "decision" in known else player.agent.policy,
                )
                names = agent.detector.name, agent.diagnoser.name
                training = None if "decision" in known else player.training
                found.append(Contestant(label(known), agent, *names, training, agent.policy.state()))
    return found


def _only(study: Study, policy: str) -> Study:
    return replace(study, policies=(policy,))


def attribute(runs: Comparison) -> list[dict[str, Any]]:
    """Return what each stage loses of the error budget, one row a stage, then ``all`` and the levels themselves.

    ``lost`` is the stage's Shapley value (Shapley 1953): what its oracle saves, averaged over the orders in which the
    stages can be exchanged, so that the stages add up to ``all``, the agent less the agent that knows everything.
    ``alone`` is what its oracle saves if it is the only one. Both with intervals over trainings and runs.

    Parameters
    ----------
    runs
        The variants' runs, lined up.
    """
    rows: list[dict[str, Any]] = []
    everything = _budget(runs, ()) - _budget(runs, STAGES)
    total = float(np.nanmean(everything))
    for stage in STAGES:
        value = sum(
            _weight(len(known)) * (_budget(runs, known) - _budget(runs, _with(known, stage)))
            for count in range(len(STAGES))
            for known in combinations([other for other in STAGES if other != stage], count)
        )
        rows.append(_row(runs, stage, np.asarray(value), _budget(runs, ()) - _budget(runs, (stage,)), total))
    rows.append(_row(runs, "all", everything, everything, total))
    return rows


def _weight(count: int) -> float:
    n = len(STAGES)
    return math.factorial(count) * math.factorial(n - count - 1) / math.factorial(n)


def _with(known: tuple[str, ...], stage: str) -> tuple[str, ...]:
    return tuple(one for one in STAGES if one in known or one == stage)


def _budget(runs: Comparison, known: tuple[str, ...]) -> Floats:
    """Return (training, run) the error budget spent when these stages know the truth."""
    if "decision" in known:
        known = tuple(stage for stage in known if stage != "diagnosis")
    return runs.column(label(known), PRIMARY)


def _row(runs: Comparison, stage: str, lost: Floats, alone: Floats, total: float) -> dict[str, Any]:
    by_order, by_itself = runs.resampler.mean(lost), runs.resampler.mean(alone)
    share = by_order.value / total if total else math.nan
    row = {"stage": stage, "lost": by_order.value, "low": by_order.low, "high": by_order.high, "share": share}
    row |= {"alone": by_itself.value, "alone_low": by_itself.low, "alone_high": by_itself.high}
    return {name: None if value != value else value for name, value in row.items()}
