"""Whether probabilities can be believed: how often the suspect was right, beside the probability that it was given."""

__all__ = ["reliability"]

from typing import Any

import numpy as np

from agent.diagnosers.bayes import Bayes
from agent.evaluation.learning import Examples, probabilities

#: Edges of the bins of a reliability diagram.
_EDGES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def reliability(bayes: Bayes, examples: Examples) -> dict[str, Any]:
    """Return accuracy, Brier score and the reliability diagram of a diagnoser on examples, runs weighing alike.

    ``ac1`` is how often the most probable of services, workload and nothing is right. ``brier`` is the mean over the
    examples of the summed squared distance of the probabilities from the truth (Brier 1950), from 0 to 2; where either
    end of an edge is right, the truth is shared as the diagnoser shares it. ``bins`` hold the mean probability of the
    suspect and how often it was right; ``gap`` is the mean distance of the two (expected calibration error, Naeini et
    al. 2015).
    """
    p, true = probabilities(bayes, examples)
    mass = examples.weight / examples.weight.sum()
    given = np.where(true, p, 0.0)
    total = given.sum(1, keepdims=True)
    target = np.where(total > 0, given / np.where(total > 0, total, 1.0), true / true.sum(1, keepdims=True))
    top = p.argmax(1)
    rows = np.arange(len(p))
    confidence, right = p[rows, top], true[rows, top]
    place = np.clip(np.searchsorted(_EDGES, confidence, side="right") - 1, 0, len(_EDGES) - 2)
    bins = []
    for i, (low, high) in enumerate(zip(_EDGES, _EDGES[1:], strict=False)):
        share = mass[place == i].sum()
        if share > 0:
            mean, hit = ((mass * values)[place == i].sum() / share for values in (confidence, right))
            bins.append({"low": low, "high": high, "mean": float(mean), "right": float(hit), "share": float(share)})
    return {
        "ac1": float((mass * right).sum()),
        "brier": float((mass * ((p - target) ** 2).sum(1)).sum()),
        "gap": float(sum(part["share"] * abs(part["mean"] - part["right"]) for part in bins)),
        "bins": bins,
    }
