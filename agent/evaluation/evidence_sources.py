"""What each source of evidence adds to a diagnosis, on the same runs: metrics alone, with traces, with logs, all."""

__all__ = ["SETS", "SourceRow", "compare_sources", "observing", "teach"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from agent.diagnosers.bayes_all import BayesAll
from agent.diagnosers.evidence_features import AllFeatures, keep
from agent.evaluation.learning import Examples, calibrated, collect, fit, joined
from agent.evaluation.panel import PanelOutcome, consult_members
from agent.evaluation.statistics import Resampler
from agent.evaluation.study import Study
from simcore.model.scenario import Scenario

Floats = npt.NDArray[np.float64]

#: The sets of sources that are learned apart and held against each other.
SETS = ("metrics", "metrics+traces", "metrics+logs", "metrics+traces+logs")
_RESAMPLES = 2000
#: Of the weights that are kept; the data do not know more.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class SourceRow:
    """How well a set of sources finds the cause."""

    sources: str
    runs: int  #: that were judged
    ac1: float
    low: float  #: of its 95 % interval
    high: float
    gain: float  #: of AC@1 over metrics alone, on the same runs; 0 for these
    gain_low: float
    gain_high: float
    better: int  #: runs that it gets right and metrics alone do not
    worse: int  #: and the other way round


def observing(scenario: Scenario, traces: float, logs: bool) -> Scenario:
    """Return a scenario whose telemetry has traces of this share of the requests, and logs."""
    seen = scenario.observation.model_copy(update={"traces": traces, "logs": logs})
    return scenario.model_copy(update={"observation": seen})


def teach(
    studies: Sequence[Study],
    episodes: int,
    *,
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> BayesAll:
    """Return a diagnoser whose weights are fitted on the split train and calibrated on half as many runs of calibrate.

    Parameters
    ----------
    studies
        Of scenarios with traces and logs; their splits and numbers of episodes play no part.
    episodes
        Runs of each to learn from.
    threads
        Of the engine; without influence on the results.
    on_progress
        Told how many runs are done.
    """
    done, lots = 0.0, []
    for split, count in (("train", episodes), ("calibrate", max(10, episodes // 2))):
        parts = []
        for study in studies:
            base = done

            def tell(runs: float, base: float = base) -> None:
                if on_progress is not None:
                    on_progress(base + runs)

            of = replace(study, split=split, episodes=count)
            parts.append(collect(of, features=AllFeatures, threads=threads, on_progress=tell))
            done += count
        lots.append(joined(parts))
    learn, adjust = lots
    made = BayesAll.__new__(BayesAll)
    names = ", ".join(study.scenario.name for study in studies)
    made.classes, made.sets = learn.classes, {}
    made.learned_from = f"{names}: {episodes} runs each, seed {studies[0].seed}"
    for sources in SETS:
        of_set = fit(_kept(learn, sources), learned_from=made.learned_from)
        of_set, _ = calibrated(of_set, _kept(adjust, sources))
        made.sets[sources] = (of_set.weights.round(_DIGITS), of_set.others.round(_DIGITS))
    return made


def _kept(examples: Examples, sources: str) -> Examples:
    service, system = keep(examples.service, examples.system, sources.split("+"))
    return replace(examples, service=service, system=system)


def compare_sources(
    study: Study,
    *,
    state: dict[str, object] | None = None,
    engine: str = "batch",
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[list[SourceRow], PanelOutcome]:
    """Let the diagnoser judge the same runs by every set of sources.

    Parameters
    ----------
    study
        Of a scenario with traces and logs; nobody acts.
    state
        What it has learned; None: what comes along.
    engine, threads
        How to run it; without influence on the results.
    on_progress
        Told how many runs are done.

    Returns
    -------
    A row per set of sources, and the episodes table with a row per run and set.
    """
    members = {}
    for sources in SETS:
        members[sources] = BayesAll(sources.split("+"))
        if state is not None:
            members[sources].load(state)
    outcome = consult_members(study, dict(members), engine=engine, threads=threads, on_progress=on_progress)
    return _rows(outcome.episodes, study.seed), outcome


def _rows(episodes: pl.DataFrame, seed: int) -> list[SourceRow]:
    judged = episodes.filter(pl.col("ac1").is_not_null()).sort("seed", "split", "run")
    right = {
        sources: judged.filter(pl.col("diagnoser") == sources)["ac1"].to_numpy().astype(np.float64) for sources in SETS
    }
    base = right["metrics"]
    if not base.size:
        return []
    resampler = Resampler(base.size, seed=seed, resamples=_RESAMPLES)
    rows = []
    for sources, own in right.items():
        mean, gain = resampler.mean(own[None]), resampler.mean((own - base)[None])
        rows.append(
            SourceRow(
                sources, base.size, mean.value, mean.low, mean.high, gain.value, gain.low, gain.high,
                int((own > base).sum()), int((own < base).sum()),
            )
        )  # fmt: skip
    return rows
