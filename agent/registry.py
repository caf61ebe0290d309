"""Where detectors, diagnosers and policies are found by name. Nothing is imported before it is asked for."""

__all__ = ["DETECTORS", "DIAGNOSERS", "POLICIES", "Entry", "make_detector", "make_diagnoser", "make_policy"]

import importlib
from dataclasses import dataclass
from typing import Any, cast

from agent.api import Detector, Diagnoser, Policy
from simcore.errors import RegistryError, suggest


@dataclass(frozen=True, slots=True)
class Entry:
    """A plug-in."""

    module: str
    cls: str
    description: str  #: one line

    def make(self, **options: Any) -> Any:
        """Return a new instance."""
        return getattr(importlib.import_module(self.module), self.cls)(**options)


DETECTORS: dict[str, Entry] = {
    "isolation_forest": Entry(
        "agent.detectors.isolation_forest", "IsolationForestDetector", "an isolation forest per service (default)"
    ),
    "threshold": Entry("agent.detectors.threshold", "ThresholdDetector", "static limits on each service's metrics"),
}

DIAGNOSERS: dict[str, Entry] = {
    "baro": Entry("agent.diagnosers.deviations", "Baro", "farthest scrape from the median, in quartile distances"),
    "bayes": Entry("agent.diagnosers.bayes", "Bayes", "the posterior of service and fault, learned from incidents"),
    "causal_rank": Entry(
        "agent.diagnosers.causal_rank", "CausalRank", "anomaly, correlation with the symptoms, call graph (default)"
    ),
    "correlation": Entry("agent.diagnosers.correlation", "Correlation", "metrics that move with the symptom"),
    "granger": Entry("agent.diagnosers.granger", "Granger", "a causal graph learned from the metrics, not given"),
    "max_score": Entry("agent.diagnosers.max_score", "MaxScore", "the service with the largest anomaly score"),
    "max_z": Entry("agent.diagnosers.deviations", "MaxZ", "largest z-score of any metric"),
    "n_sigma": Entry("agent.diagnosers.deviations", "NSigma", "farthest scrape from the mean, in standard deviations"),
    "own_excess": Entry(
        "agent.diagnosers.own_excess", "OwnExcess", "what a service adds to the trouble beyond its callees"
    ),
    "random": Entry("agent.diagnosers.random", "RandomRank", "a service drawn at random"),
    "random_walk": Entry("agent.diagnosers.walks", "RandomWalk", "PageRank on the call graph, drawn to harm"),
    "traversal": Entry("agent.diagnosers.walks", "Traversal", "the deepest strange service on a chain of strange ones"),
}

POLICIES: dict[str, Entry] = {
    "bandit": Entry("agent.policies.bandit", "Ucb1Policy", "UCB1 by incident signature, learns over rounds (default)"),
    "noop": Entry("agent.policies.noop", "NoopPolicy", "never acts"),
    "playbook": Entry("agent.policies.playbook", "Playbook", "a fixed table from the incident's pattern to an action"),
    "random": Entry("agent.policies.random", "RandomPolicy", "any allowed action, drawn at random"),
    "threshold_rules": Entry(
        "agent.policies.threshold_rules", "ThresholdRules", "simple rules on observed metrics, without learning"
    ),
}


def _make(kind: str, table: dict[str, Entry], name: str, options: dict[str, Any]) -> Any:
    if name not in table:
        raise RegistryError(f"no {kind} is called '{name}'{suggest(name, table)} (known: {', '.join(table)})")
    return table[name].make(**options)


def make_detector(name: str, **options: Any) -> Detector:
    """Return a new detector.

    Raises
    ------
    RegistryError
        If none has this name.
    """
    return cast(Detector, _make("detector", DETECTORS, name, options))


def make_diagnoser(name: str, **options: Any) -> Diagnoser:
    """Return a new diagnoser.

    Raises
    ------
    RegistryError
        If none has this name.
    """
    return cast(Diagnoser, _make("diagnoser", DIAGNOSERS, name, options))


def make_policy(name: str, **options: Any) -> Policy:
    """Return a new policy.

    Raises
    ------
    RegistryError
        If none has this name.
    """
    return cast(Policy, _make("policy", POLICIES, name, options))
