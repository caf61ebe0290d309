"""The posterior over what is wrong and where, from metrics, traces and logs together."""

__all__ = ["BayesAll"]

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.bayes import log_posterior
from agent.diagnosers.evidence_features import (
    ALL_SERVICE_FEATURES,
    ALL_SYSTEM_FEATURES,
    SOURCES,
    AllFeatures,
    keep,
    source_of,
    words_of,
)
from simcore.errors import InputError
from simcore.signals.collector import Signal

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_VERSION = 1
_SHIPPED = "bayes_all.json"
#: So many pieces of evidence are named in a rationale, those that weigh at least so much.
_NAMED, _LEAST = 4, 0.2


class BayesAll:
    """As ``bayes``, with what traces and logs say as further evidence; learned apart for every set of sources.

    What a scenario's ``observation`` does not have is not asked for: without traces and logs it judges by metrics.

    Parameters
    ----------
    sources
        What it may look at, of ``SOURCES``; metrics always.
    """

    name: ClassVar[str] = "bayes_all"
    PER_RUN = ("_features",)

    def __init__(self, sources: Sequence[str] = SOURCES) -> None:
        if unknown := set(sources) - set(SOURCES):
            raise InputError(f"sources must be of {', '.join(SOURCES)}, got {', '.join(sorted(unknown))}")
        self._allowed = {"metrics", *sources}
        self.load(json.loads((files("agent.diagnosers") / _SHIPPED).read_text(encoding="utf-8")))

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._features = AllFeatures(topology, keys.size)

    def _sources(self, history: History) -> str:
        """Return the sources that there are and that it may look at, as the state names them."""
        there = {"metrics"}
        if history.signals is not None:
            known = ~np.isnan(history.signals.ring)
            there |= {"traces"} if known[..., Signal.WORK_S].any() else set()
            there |= {"logs"} if known[..., Signal.OOM].any() else set()
        return "+".join(source for source in SOURCES if source in there & self._allowed)

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs by their probability."""
        sources = self._sources(history)
        weights, others = self.sets[sources]
        found = self._features.of(observation, detection, history, runs)
        service, system = keep(*found, sources.split("+"))
        p = np.exp(log_posterior(service, system, weights, others))
        kinds = p[:, :-2].reshape(runs.size, self._topology.n_services, len(self.classes))
        blame = kinds.sum(2)
        every = np.concatenate([blame, p[:, -2:]], 1)
        best = every.argmax(1)

        def explain(row: int) -> str:
            return self._explain(service[row], weights, kinds[row], every[row])

        return Diagnosis(
            runs.copy(), np.where(best < blame.shape[1], best, -1), np.minimum(every.max(1), 1.0),
            np.argsort(-blame, axis=1, kind="stable").astype(np.int64), explain, blame,
        )  # fmt: skip

    def _explain(self, service: Floats, weights: Floats, kinds: Floats, every: Floats) -> str:
        """Return what is most probable, and which evidence spoke for it, source by source."""
        names = [*self._topology.services, "the workload", "nothing"]
        order = np.argsort(-every, kind="stable")
        first = int(order[0])
        told = f"{names[first]} {every[first]:.0%}, then {names[int(order[1])]} {every[order[1]]:.0%}"
        if first >= len(kinds):
            return told
        kind = int(kinds[first].argmax())
        # what lifts it above the others is evidence; what all of them have is none
        others = np.delete(service, first, 0)
        above = service[first] - (others.mean(0) if len(others) else 0.0)
        counts = weights[kind, :-1] * above
        spoke: dict[str, list[str]] = {}
        for at in np.argsort(-counts, kind="stable")[:_NAMED].tolist():
            if counts[at] >= _LEAST:
                words = spoke.setdefault(source_of(ALL_SERVICE_FEATURES[at]), [])
                words += [words_of(ALL_SERVICE_FEATURES[at])]
        evidence = "".join(f"; {source}: {', '.join(dict.fromkeys(words))}" for source, words in spoke.items())
        return f"{told} ({self.classes[kind]} most likely){evidence}"

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""
        return {
            "name": self.name,
            "version": _VERSION,
            "learned_from": self.learned_from,
            "classes": list(self.classes),
            "features": [*ALL_SERVICE_FEATURES, "|", *ALL_SYSTEM_FEATURES],
            "sets": {
                sources: {"weights": weights.tolist(), "others": others.tolist()}
                for sources, (weights, others) in self.sets.items()
            },
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what was learned.

        Raises
        ------
        InputError
            If the state is not this diagnoser's, or damaged.
        """
        if state.get("name") != self.name or state.get("version") != _VERSION:
            raise InputError(
                f"expected the state of diagnoser {self.name}, version {_VERSION}, "
                f"got {state.get('name')!r}, version {state.get('version')!r}"
            )
        if state.get("features") != [*ALL_SERVICE_FEATURES, "|", *ALL_SYSTEM_FEATURES]:
            raise InputError(f"expected a state of diagnoser {self.name} with the features of this version: train anew")
        try:
            classes = tuple(str(name) for name in state["classes"])
            learned_from = str(state["learned_from"])
            sets = {
                str(sources): (np.array(of["weights"], np.float64), np.array(of["others"], np.float64))
                for sources, of in state["sets"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected sets, classes and learned_from in the state of {self.name}: {error}") from None
        shapes = [(len(classes), len(ALL_SERVICE_FEATURES) + 1), (2, len(ALL_SYSTEM_FEATURES) + 1)]
        wrong = [of for of in sets.values() if [part.shape for part in of] != shapes]
        if wrong or not all(np.isfinite(part).all() for of in sets.values() for part in of) or "metrics" not in sets:
            raise InputError(f"expected finite weights of shapes {shapes} for metrics in the state of {self.name}")
        self.classes, self.learned_from, self.sets = classes, learned_from, sets
