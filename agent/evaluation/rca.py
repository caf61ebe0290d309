"""How well diagnosers find the cause of recorded incidents: AC@k, Avg@5 and MRR, ties counted as random order."""

__all__ = ["MEASURES", "Verdict", "evaluate", "judge", "summarise"]

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from agent.evaluation.realdata.case import Case, incident_of
from agent.registry import make_diagnoser

Floats = npt.NDArray[np.float64]

#: What is reported of a diagnoser, in order.
MEASURES = ("ac1", "ac3", "avg5", "mrr")
_DRAWS = 2000
_KEY = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one diagnoser said of one case."""

    diagnoser: str
    case: str
    ac1: float
    ac3: float
    avg5: float
    mrr: float
    suspect: str  #: the service ranked first; of several with equal blame the first of them
    truth: str  #: the services at fault, joined by spaces
    why: str


def judge(blame: Floats, truth: Collection[int]) -> dict[str, float]:
    """Return the measures of one ranking, as expected values over the order of ties.

    AC@k = abs(first k and truth) / min(k, abs(truth)) and Avg@5, their mean for k = 1..5, as RCAEval (Pham et al.
    2024); MRR = 1 / rank of the first service at fault.

    Parameters
    ----------
    blame
        (service,) larger is more suspect; nan counts as least of all.
    truth
        The services at fault; not empty.
    """
    blame = np.where(np.isnan(blame), -np.inf, blame)
    accuracy = np.zeros(5)
    for service in set(truth):
        above, equal = int((blame > blame[service]).sum()), int((blame == blame[service]).sum())
        accuracy += np.clip((np.arange(1, 6) - above) / equal, 0.0, 1.0)
    accuracy /= np.minimum(np.arange(1, 6), len(set(truth)))
    best = max(blame[service] for service in truth)
    above, equal = int((blame > best).sum()), int((blame == best).sum())
    hits = sum(blame[service] == best for service in set(truth))
    # the first of `hits` among `equal` places is the j-th with this probability
    mrr = sum(comb(equal - j, hits - 1) / comb(equal, hits) / (above + j) for j in range(1, equal - hits + 2))
    return {"ac1": float(accuracy[0]), "ac3": float(accuracy[2]), "avg5": float(accuracy.mean()), "mrr": float(mrr)}


def evaluate(cases: Sequence[Case], diagnosers: Sequence[str]) -> list[Verdict]:
    """Return the verdicts on every diagnoser, by diagnoser, then case.

    A diagnoser that draws is judged as if its order were unknown, that is as all ties.
    """
    return [_verdict(name, number, case) for name in diagnosers for number, case in enumerate(cases)]


def _verdict(name: str, number: int, case: Case) -> Verdict:
    incident, diagnoser = incident_of(case), make_diagnoser(name)
    diagnoser.start(incident.topology, np.array([number], np.uint64))
    said = diagnoser.diagnose(incident.observation, incident.detection, incident.history, np.zeros(1, np.int64))
    n = len(case.services)
    blame = np.empty(n)
    if said.blame is not None:
        blame[:] = said.blame[0]
    else:
        blame[said.ranked[0]] = np.arange(n, 0, -1)
    return Verdict(
        diagnoser=name,
        case=case.name,
        **judge(blame, case.truth),
        suspect=case.services[said.ranked[0, 0]],
        truth=" ".join(case.services[service] for service in sorted(case.truth)),
        why=said.explain(0),
    )


def summarise(verdicts: Sequence[Verdict], *, seed: int) -> list[dict[str, float | str | int]]:
    """Return a row per diagnoser: the mean of every measure, and the bounds of its 95 % bootstrap interval.

    Parameters
    ----------
    verdicts
        Of one or more diagnosers.
    seed
        Of the resampling of cases; all diagnosers are resampled alike.
    """
    rows: list[dict[str, float | str | int]] = []
    for name in dict.fromkeys(verdict.diagnoser for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.diagnoser == name]
        values = np.array([[getattr(verdict, measure) for measure in MEASURES] for verdict in own])
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEY, len(own))))
        drawn = values[rng.integers(0, len(own), (_DRAWS, len(own)))].mean(1)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        row: dict[str, float | str | int] = {"diagnoser": name, "cases": len(own)}
        for i, measure in enumerate(MEASURES):
            row |= {
                measure: float(values[:, i].mean()),
                f"{measure}_low": float(low[i]),
                f"{measure}_high": float(high[i]),
            }
        rows.append(row)
    return rows
