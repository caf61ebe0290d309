"""Where detectors, diagnosers and policies are found by name. Nothing is imported before it is asked for."""

__all__ = ["DETECTORS", "DIAGNOSERS", "POLICIES", "Entry", "make_detector", "make_diagnoser", "make_policy"]

import importlib
from dataclasses import dataclass
from typing import Any, cast

from agent.api import Detector, Diagnoser, Policy
from simcore.errors import InputError, RegistryError, suggest


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
    "burn_rate": Entry(
        "agent.detectors.burn_rate", "BurnRateDetector", "how fast the error budget burns, in pairs of windows"
    ),
    "cusum": Entry("agent.detectors.charts", "CusumDetector", "two-sided cumulative sums of each metric"),
    "ensemble": Entry(
        "agent.detectors.distances", "EnsembleDetector", "three distances from healthy, with a memory for evidence"
    ),
    "ewma": Entry("agent.detectors.charts", "EwmaDetector", "exponentially weighted average of each metric"),
    "isolation_forest": Entry(
        "agent.detectors.isolation_forest", "IsolationForestDetector", "an isolation forest per service (default)"
    ),
    "mahalanobis": Entry(
        "agent.detectors.distances", "MahalanobisDetector", "distance from healthy in all metrics together"
    ),
    "neighbours": Entry(
        "agent.detectors.distances", "NeighboursDetector", "distance to the nearest healthy observations"
    ),
    "pca": Entry("agent.detectors.pca", "PcaDetector", "what the system's usual correlations do not explain"),
    "threshold": Entry("agent.detectors.threshold", "ThresholdDetector", "static limits on each service's metrics"),
    "zscore": Entry("agent.detectors.charts", "ZScoreDetector", "largest standardised distance of any metric"),
}

DIAGNOSERS: dict[str, Entry] = {
    "baro": Entry("agent.diagnosers.deviations", "Baro", "farthest scrape from the median, in quartile distances"),
    "bayes": Entry("agent.diagnosers.bayes", "Bayes", "the posterior of service and fault, learned from incidents"),
    "bayes_all": Entry(
        "agent.diagnosers.bayes_all", "BayesAll", "as bayes, with traces and logs where the scenario has them"
    ),
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
    "always_restart": Entry("agent.policies.always_restart", "AlwaysRestart", "restarts the service at fault"),
    "anomaly_only": Entry(
        "agent.policies.anomaly_only", "AnomalyOnly", "the playbook where the symptoms are, no diagnosis"
    ),
    "autoscaler": Entry("agent.policies.autoscaler", "Autoscaler", "adds replicas by CPU utilisation, nothing else"),
    "bandit": Entry("agent.policies.bandit", "Ucb1Policy", "UCB1 by incident signature, learns over rounds (default)"),
    "epsilon_greedy": Entry(
        "agent.policies.epsilon_greedy", "EpsilonGreedyPolicy", "the best arm by incident signature, at times any"
    ),
    "expert": Entry("agent.policies.expert", "Expert", "knows the fault, and takes what mends it; a yardstick"),
    "lin_ucb": Entry("agent.policies.lin_ucb", "LinUcbPolicy", "LinUCB on numbers that describe the incident"),
    "learned": Entry(
        "agent.policies.learned", "LearnedPolicy", "was taught what actions gain, see mendsim train policy"
    ),
    "noop": Entry("agent.policies.noop", "NoopPolicy", "never acts"),
    "oracle_clairvoyant": Entry(
        "agent.policies.fork_oracle", "ClairvoyantOracle", "tries every action on a fork of the run itself (reference)"
    ),
    "oracle_fair": Entry(
        "agent.policies.fork_oracle", "FairOracle", "tries every action on forks with unknown futures (reference)"
    ),
    "playbook": Entry("agent.policies.playbook", "Playbook", "a fixed table from the incident's pattern to an action"),
    "random": Entry("agent.policies.random", "RandomPolicy", "any allowed action, drawn at random"),
    "thompson": Entry("agent.policies.thompson", "ThompsonPolicy", "Thompson sampling by incident signature"),
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


def make_diagnoser(name: str, state: dict[str, Any] | None = None, **options: Any) -> Diagnoser:
    """Return a new diagnoser, with what it learned if that is given.

    Raises
    ------
    RegistryError
        If none has this name.
    InputError
        If it does not learn, or the state is not its own.
    """
    made = cast(Diagnoser, _make("diagnoser", DIAGNOSERS, name, options))
    if state is not None:
        load = getattr(made, "load", None)
        if load is None:
            raise InputError(f"diagnoser {name} does not learn: there is nothing to load")
        load(state)
    return made


def make_policy(name: str, **options: Any) -> Policy:
    """Return a new policy.

    Raises
    ------
    RegistryError
        If none has this name.
    """
    return cast(Policy, _make("policy", POLICIES, name, options))
