"""A posterior over what is wrong and where, learned from simulated incidents."""

__all__ = ["NOTHING", "WORKLOAD", "Bayes", "log_posterior"]

import json
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.features import SERVICE_FEATURES, SYSTEM_FEATURES, Features
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: The hypotheses beside (service, class), in their order at the end of a posterior.
WORKLOAD, NOTHING = -2, -1
_VERSION = 1
_SHIPPED = "bayes.json"


def log_posterior(service: Floats, system: Floats, weights: Floats, others: Floats) -> Floats:
    """Return (row, service * class + 2) the logarithm of the posterior, the workload and nothing at the end.

    Bayes' rule with independent evidence: a hypothesis' odds are its prior's times a likelihood ratio for each
    feature, and logarithms of such ratios are linear in the features here. Features of neighbours on the call graph
    carry what a callee explains of its caller.

    Parameters
    ----------
    service
        (row, service, feature); a service that is not there has nan in its first feature.
    system
        (row, feature).
    weights
        (class, feature + 1) of the services, the last one the prior.
    others
        (2, feature + 1) of the workload and of nothing.
    """
    here = np.nan_to_num(service) @ weights[:, :-1].T + weights[:, -1]
    here = np.where(np.isnan(service[..., :1]), -np.inf, here)
    apart = system @ others[:, :-1].T + others[:, -1]
    score = np.concatenate([here.reshape(len(here), -1), apart], 1)
    highest = score.max(1, keepdims=True)
    total: Floats = score - highest - np.log(np.exp(score - highest).sum(1, keepdims=True))
    return total


class Bayes:
    """The posterior of (service, fault class), of the workload and of nothing; confidence is the suspect's.

    Learned from simulated incidents of any systems (``agent.evaluation.learning``): nothing in it knows a
    system's services, so that it works on those that it has never seen. What comes along was learned on the shops.
    """

    name: ClassVar[str] = "bayes"
    PER_RUN = ("_features",)

    def __init__(self) -> None:
        self.load(json.loads((files("agent.diagnosers") / _SHIPPED).read_text(encoding="utf-8")))

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""
        self._topology = topology
        self._features = Features(topology, keys.size)

    def posterior(
        self, observation: Observation, detection: Detection, history: History, runs: Ints
    ) -> tuple[Floats, Floats]:
        """Return (row, service, class) probabilities, and (row, 2) those of the workload and of nothing."""
        service, system = self._features.of(observation, detection, history, runs)
        p = np.exp(log_posterior(service, system, self.weights, self.others))
        return p[:, :-2].reshape(runs.size, self._topology.n_services, len(self.classes)), p[:, -2:]

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        """Rank the services of the given runs by their probability."""
        kinds, others = self.posterior(observation, detection, history, runs)
        blame = kinds.sum(2)
        ranked = np.argsort(-blame, axis=1, kind="stable").astype(np.int64)
        every = np.concatenate([blame, others], 1)
        best = every.argmax(1)
        n_services = blame.shape[1]
        suspect = np.where(best < n_services, best, -1)
        confidence = np.minimum(every.max(1), 1.0)

        def explain(row: int) -> str:
            return self._explain(kinds[row], every[row])

        return Diagnosis(runs.copy(), suspect, confidence, ranked, explain, blame)

    def _explain(self, kinds: Floats, every: Floats) -> str:
        names = [*self._topology.services, "the workload", "nothing"]
        told = []
        for i in np.argsort(-every, kind="stable")[:2]:
            kind = f" ({self.classes[int(kinds[i].argmax())]} most likely)" if i < len(kinds) else ""
            told.append(f"{names[i]} {every[i]:.0%}{kind}")
        return f"{told[0]}, then {told[1]}"

    def state(self) -> dict[str, Any]:
        """Return what was learned, JSON-able."""
        return {
            "name": self.name,
            "version": _VERSION,
            "learned_from": self.learned_from,
            "classes": list(self.classes),
            "features": [*SERVICE_FEATURES, "|", *SYSTEM_FEATURES],
            "weights": self.weights.tolist(),
            "others": self.others.tolist(),
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
        if state.get("features") != [*SERVICE_FEATURES, "|", *SYSTEM_FEATURES]:
            raise InputError("expected a state of diagnoser bayes with the features of this version: train it anew")
        try:
            classes = tuple(str(name) for name in state["classes"])
            weights, others = (np.array(state[key], np.float64) for key in ("weights", "others"))
            learned_from = str(state["learned_from"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"expected weights, others, classes and learned_from in the state of bayes: {error}"
            ) from None
        shapes = (len(classes), len(SERVICE_FEATURES) + 1), (2, len(SYSTEM_FEATURES) + 1)
        if (weights.shape, others.shape) != shapes or not (np.isfinite(weights).all() and np.isfinite(others).all()):
            raise InputError(f"expected finite weights of shapes {shapes} in the state of bayes, got {weights.shape}")
        self.classes, self.weights, self.others, self.learned_from = classes, weights, others, learned_from
