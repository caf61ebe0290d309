"""What all detectors share: replaying fault-free runs, normal values of scores, and the alarm."""

__all__ = ["ScoringDetector"]

import copy
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Keys, Observation, Topology
from agent.detectors.alarms import ALARM, AlarmRule, calibrate_threshold, judge
from agent.detectors.views import ServiceView, View
from simcore.errors import InputError
from simcore.streams import run_key

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Smallest spread of scores, as a share of the normal one: what never varies would alarm at any change otherwise.
_MIN_SPREAD = 0.05


class ScoringDetector:
    """A detector that scores services; subclasses say how (``_begin``, ``_score``) and learn (``_learn``).

    What is scored is up to the view: the services of a simulated system, or a recorded machine as the only "service"
    (``agent.detectors.views``).

    A service's excess is (score - centre) / spread / threshold, with centre and spread from the fault-free runs of
    ``fit``. The level of a run is the largest of its services' (score - centre) / spread and that of the overall
    score, the mean over the services that have a score; the alarm follows the level (``AlarmRule``).
    """

    name: ClassVar[str]
    PER_RUN: ClassVar[tuple[str, ...]] = ("_alarms",)
    #: smallest spread of the scores
    _min_spread: ClassVar[float] = 1e-6

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        self.rule = rule or AlarmRule()
        self.view: View = view or ServiceView()
        self.threshold = 1.0
        self._services: tuple[str, ...] = ()
        self._centre: Floats = np.zeros(0)
        self._spread: Floats = np.ones(0)

    def _learn(self, metrics: Floats, topology: Topology, seed: int) -> None:
        """Learn from fault-free runs (run, step, service + 1, metric)."""

    def _normal(self, scores: Floats, overall: Floats) -> tuple[Floats, Floats]:
        """Return centre and spread (service + 1,) of scores (run, step, service) and overall scores (run, step)."""
        columns = [scores[..., s] for s in range(scores.shape[-1])] + [overall]
        centre, spread = np.zeros(len(columns)), np.ones(len(columns))
        for i, column in enumerate(columns):
            values = column[~np.isnan(column)]
            if values.size:
                centre[i], high = np.quantile(values, [0.5, 0.95])
                spread[i] = max(self._min_spread, _MIN_SPREAD * abs(centre[i]), high - centre[i])
        return centre, spread

    def _begin(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch."""

    def _score(self, metrics: Floats, fresh: Bools) -> Floats:
        """Return (run, service) scores of one step's metrics (run, service + 1, metric); an array of its own."""
        raise NotImplementedError

    def fit(self, metrics: Floats, topology: Topology, *, seed: int) -> None:
        """Learn what is normal.

        Parameters
        ----------
        metrics
            (run, step, service + 1, metric) windows of fault-free runs.
        topology
            Of their scenario.
        seed
            Of all randomness in the fit.

        Raises
        ------
        InputError
            If there is nothing to learn from.
        """
        self.view.learn(metrics, topology)
        self.view.begin(topology)
        self._learn(metrics, topology, seed)
        self._services = topology.services
        scores = self._replay(metrics, topology, seed, "train")
        self._centre, self._spread = self._normal(scores, _overall(scores))

    def calibrate(self, metrics: Floats, topology: Topology, *, rate_per_hour: float, seed: int) -> float:
        """Set the alarm threshold from fault-free runs that were not fitted on.

        Parameters
        ----------
        metrics
            (run, step, service + 1, metric) windows.
        topology
            Of their scenario.
        rate_per_hour
            Accepted false alarms per system-hour.
        seed
            Keys the replayed runs.

        Returns
        -------
        The rate that the threshold reaches on these runs.
        """
        self._check(topology)
        level = self.level(self._replay(metrics, topology, seed, "calibrate"))
        self.threshold, reached = calibrate_threshold(level, topology.step_s, rate_per_hour, self.rule)
        return reached

    def level(self, scores: Floats) -> Floats:
        """Return (run, step) what the alarm follows, of scores (run, step, service); nan where there is none."""
        z = (np.concatenate([scores, _overall(scores)[..., None]], -1) - self._centre) / self._spread
        level: Floats = np.where(np.isnan(z).all(-1), np.nan, np.nan_to_num(z, nan=-np.inf).max(-1))
        return level

    def replay(self, metrics: Floats, topology: Topology, *, seed: int) -> Floats:
        """Return (run, step, service) scores of recorded runs, the same as if they were met live, step by step.

        Parameters
        ----------
        metrics
            (run, step, row, metric), every step scraped.
        topology
            Of their system.
        seed
            Keys the runs.

        Raises
        ------
        InputError
            If the detector was not fitted for this system.
        """
        self._check(topology)
        return self._replay(metrics, topology, seed, "test")

    def _replay(self, metrics: Floats, topology: Topology, seed: int, split: str) -> Floats:
        n_runs, n_steps = metrics.shape[:2]
        self.view.begin(topology)
        self._begin(topology, np.array([run_key(seed, split, run, 5) for run in range(n_runs)], np.uint64))
        return self._score_all(metrics)

    def _score_all(self, metrics: Floats) -> Floats:
        """Return (run, step, service) scores of (run, step, row, metric), from the present state on."""
        fresh = np.ones(metrics.shape[0], np.bool_)
        steps = range(metrics.shape[1])
        return np.stack([self._score(np.ascontiguousarray(metrics[:, t]), fresh) for t in steps], 1)

    def _check(self, topology: Topology) -> None:
        if self._services != topology.services:
            known = ", ".join(self._services) or "none: call fit or load first"
            raise InputError(
                f"{self.name}: fitted for the services {known}; this scenario has {', '.join(topology.services)}"
            )

    def start(self, topology: Topology, keys: Keys) -> None:
        """Begin a batch with all alarms closed.

        Raises
        ------
        InputError
            If the detector was not fitted for these services.
        """
        self._check(topology)
        self.view.begin(topology)
        self._begin(topology, keys)
        self._alarms = np.zeros(keys.size, ALARM)

    def update(self, observation: Observation) -> Detection:
        """Score one step; a run without a new scrape keeps its scores and its alarm."""
        score = self._score(observation.metrics, observation.fresh)
        n_runs, n_services = score.shape
        overall, excess = np.empty(n_runs), np.empty((n_runs, n_services))
        opened = np.empty(n_runs, np.bool_)
        rule = self.rule
        judge(
            score, observation.fresh, self._centre, self._spread, self.threshold,
            rule.needed, rule.window, rule.calm, rule.clear, self._alarms, overall, excess, opened,
        )  # fmt: skip
        return Detection(opened, overall, score, excess)

    def state(self) -> dict[str, Any]:
        """Return everything learned, JSON-able."""
        return {
            "version": 2,
            "name": self.name,
            "services": list(self._services),
            "threshold": self.threshold,
            "centre": self._centre.tolist(),
            "spread": self._spread.tolist(),
            "view": self.view.state(),
            "learned": self._learned(),
        }

    def _learned(self) -> dict[str, Any]:
        """Return what ``_learn`` learned, JSON-able."""
        return {}

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        """Restore what ``_learned`` returned; raises ``InputError``, ``KeyError``, ``TypeError`` or ``ValueError``."""

    def _check_name(self, state: dict[str, Any]) -> None:
        if state.get("name") != self.name or state.get("version") != 2:
            found = f"{state.get('name')} {state.get('version')}"
            raise InputError(f"detector state: expected {self.name} version 2, got {found}")

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises
        ------
        InputError
            If it is not this detector's, or damaged.
        """
        self._check_name(state)
        made = copy.deepcopy(self)  # a state that turns out to be damaged changes nothing
        try:
            services = tuple(str(name) for name in state["services"])
            centre, spread = np.array(state["centre"], np.float64), np.array(state["spread"], np.float64)
            threshold = float(state["threshold"])
            if not centre.shape == spread.shape == (len(services) + 1,) or not (spread > 0).all() or not threshold > 0:
                raise InputError("detector state: centre, spread and threshold do not fit the services")
            made._services, made._centre, made._spread, made.threshold = services, centre, spread, threshold
            made.view.load(state["view"], len(services))
            made._restore(state["learned"], len(services))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"detector state: missing or wrong entry ({error})") from None
        self.__dict__.update(made.__dict__)


def _overall(scores: Floats) -> Floats:
    """Return the mean over the services that have a score, else nan."""
    known = ~np.isnan(scores)
    count = known.sum(-1)
    total = np.where(known, scores, 0.0).sum(-1)
    overall: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return overall
