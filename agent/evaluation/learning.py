"""Teaches the Bayesian diagnoser: incidents are simulated, what was seen is kept with the truth, and weights fitted."""

__all__ = ["Examples", "calibrated", "collect", "fit", "joined", "probabilities"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from agent.api import Detection, Diagnosis, History, Keys, Observation, Topology
from agent.diagnosers.bayes import Bayes, log_posterior
from agent.diagnosers.features import FeatureMaker, Features
from agent.evaluation.study import Study
from agent.evaluation.training import trained_detector
from agent.loop import Agent
from agent.play import play
from agent.registry import make_policy
from simcore.env import Episodes
from simcore.errors import InputError
from simcore.model.fault_types import Aim
from simcore.model.faults import CATALOGUE, Fault

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Strength of the Gaussian prior around 0 on all weights but the priors of the hypotheses (of 1e-3 .. 2e-5, the best
#: on the split tune).
_SHRINK = 2e-5
#: Diagnoses of a run that are kept, the first ones: that is when somebody has to act.
_KEPT = 10


@dataclass(frozen=True, slots=True)
class Examples:
    """Diagnoses asked for in simulated incidents, with the truth; services are padded to the largest system's."""

    service: Floats  #: (row, service, feature), nan where there is no such service
    system: Floats  #: (row, feature)
    truth: Bools  #: (row, service, class) which (service, class) are true; several may be
    others: Bools  #: (row, 2) whether it is the workload, or nothing
    weight: Floats  #: (row,) the rows of a run weigh 1 together
    classes: tuple[str, ...]


#: Step, (row,) runs, and their features.
_Heard = tuple[int, Ints, Floats, Floats]


class _Listener:
    """A diagnoser that blames nobody and keeps the features that it was asked about."""

    name: ClassVar[str] = "listener"

    def __init__(self, features: FeatureMaker) -> None:
        self._make = features

    def start(self, topology: Topology, keys: Keys) -> None:
        self._features, self._n_services = self._make(topology, keys.size), topology.n_services
        self.heard: list[_Heard] = []

    def diagnose(self, observation: Observation, detection: Detection, history: History, runs: Ints) -> Diagnosis:
        self.heard.append((observation.step, runs.copy(), *self._features.of(observation, detection, history, runs)))
        ranked = np.tile(np.arange(self._n_services), (runs.size, 1))
        return Diagnosis(runs.copy(), np.full(runs.size, -1), np.zeros(runs.size), ranked, lambda row: "listens")


def collect(
    study: Study,
    *,
    features: FeatureMaker = Features,
    threads: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Examples:
    """Return the examples of a study: every diagnosis that the control loop asks for while nobody acts.

    Before the onset nothing is wrong; afterwards the fault is, and for a fault of an edge either end is right.

    Parameters
    ----------
    study
        What to run; its diagnoser and policies play no part.
    features
        What is known of every service.
    threads
        Of the engine; without influence on the results.
    on_progress
        Told how many runs are done.

    Raises
    ------
    InputError
        If no run raised an alarm.
    """
    detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
    classes = tuple(name for name, kind in CATALOGUE.items() if kind.aim not in (Aim.WORKLOAD, Aim.NOTHING))
    found: list[Examples] = []
    for first in range(0, study.episodes, study.round_size):
        runs = study.runs(first, min(study.round_size, study.episodes - first))
        episodes, listener = Episodes(study.scenario, runs, threads=threads), _Listener(features)
        play(episodes, Agent(detector, listener, make_policy("noop")), shadow=True)
        found += _kept(listener.heard, [run.faults for run in runs], study.scenario.timing.step_s, classes)
        if on_progress is not None:
            on_progress(first + len(runs))
    if not found:
        name = study.scenario.name
        raise InputError(
            f"--episodes: none of {study.episodes} runs of {name} raised an alarm, there is nothing to learn"
        )
    return joined(found)


def _kept(
    heard: Sequence[_Heard], faults: Sequence[tuple[Fault, ...]], step_s: float, classes: tuple[str, ...]
) -> list[Examples]:
    """Return the first diagnoses of every run of a round with their truth, the rows of a run weighing 1 together."""
    asked = np.concatenate([part[1] for part in heard] or [np.zeros(0, np.int64)])
    share = 1.0 / np.clip(np.bincount(asked, minlength=len(faults)), 1, _KEPT)
    so_far, found = np.zeros(len(faults), np.int64), []
    for step, runs, service, system in heard:
        keep = so_far[runs] < _KEPT
        so_far[runs] += 1
        made = _labelled(service[keep], system[keep], [faults[run] for run in runs[keep]], step * step_s, classes)
        made.weight[:] = share[runs[keep]]
        found.append(made)
    return found


def _labelled(
    service: Floats, system: Floats, faults: Sequence[tuple[Fault, ...]], now_s: float, classes: tuple[str, ...]
) -> Examples:
    truth = np.zeros((*service.shape[:2], len(classes)), np.bool_)
    others = np.zeros((len(service), 2), np.bool_)
    for row, all_faults in enumerate(faults):
        for fault in all_faults:
            if fault.onset_s > now_s:
                continue
            if fault.type not in classes:
                others[row, int(CATALOGUE[fault.type].aim is Aim.NOTHING)] = True
                continue
            for end in (fault.service, fault.caller):
                if end >= 0:
                    truth[row, end, classes.index(fault.type)] = True
        if not truth[row].any() and not others[row].any():
            others[row, 1] = True
    return Examples(service, system, truth, others, np.ones(len(service)), classes)


def joined(parts: Sequence[Examples]) -> Examples:
    """Return several lots of examples as one, services padded to the largest system's."""
    widest = max(part.service.shape[1] for part in parts)
    n = sum(len(part.weight) for part in parts)
    service = np.full((n, widest, parts[0].service.shape[2]), np.nan)
    truth = np.zeros((n, widest, len(parts[0].classes)), np.bool_)
    place = 0
    for part in parts:
        end = place + len(part.weight)
        service[place:end, : part.service.shape[1]] = part.service
        truth[place:end, : part.truth.shape[1]] = part.truth
        place = end
    return Examples(
        service=service,
        system=np.concatenate([part.system for part in parts]),
        truth=truth,
        others=np.concatenate([part.others for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        classes=parts[0].classes,
    )


def _truth(examples: Examples) -> Bools:
    return np.concatenate([examples.truth.reshape(len(examples.truth), -1), examples.others], 1)


def _sizes(examples: Examples) -> tuple[int, int, int]:
    """Return how many classes there are, and weights for each of them and of the others, priors included."""
    return len(examples.classes), examples.service.shape[2] + 1, examples.system.shape[1] + 1


def _loss(flat: Floats, examples: Examples, truth: Bools) -> tuple[float, Floats]:
    """Return the mean of -log P(truth) with the prior's penalty, and its gradient."""
    n_classes, n_service, n_system = _sizes(examples)
    weights = flat[: n_classes * n_service].reshape(n_classes, n_service)
    others = flat[n_classes * n_service :].reshape(2, n_system)
    log_p = log_posterior(examples.service, examples.system, weights, others)
    p = np.exp(log_p)
    right = np.where(truth, p, 0.0).sum(1)
    mass = examples.weight / examples.weight.sum()
    value = -(mass * np.log(np.maximum(right, 1e-300))).sum()
    # d(-log right) / d score = p - p given the truth
    gap = (p - np.where(truth, p, 0.0) / np.maximum(right, 1e-300)[:, None]) * mass[:, None]
    here = gap[:, :-2].reshape(*examples.truth.shape)
    known = np.nan_to_num(examples.service)
    slope = np.empty_like(flat)
    of_services = slope[: n_classes * n_service].reshape(n_classes, n_service)
    of_services[:, :-1] = np.einsum("rsk,rsf->kf", here, known, optimize=True) + 2 * _SHRINK * weights[:, :-1]
    of_services[:, -1] = here.sum((0, 1))
    of_others = slope[n_classes * n_service :].reshape(2, n_system)
    of_others[:, :-1] = gap[:, -2:].T @ examples.system + 2 * _SHRINK * others[:, :-1]
    of_others[:, -1] = gap[:, -2:].sum(0)
    value += _SHRINK * ((weights[:, :-1] ** 2).sum() + (others[:, :-1] ** 2).sum())
    return float(value), slope


def fit(examples: Examples, *, learned_from: str) -> Bayes:
    """Return a diagnoser whose weights make the truths of the examples most probable (L-BFGS from 0).

    A class that no example shows keeps a probability near 0.
    """
    n_classes, n_service, n_system = _sizes(examples)
    flat = np.zeros(n_classes * n_service + 2 * n_system)
    seen = examples.truth.any((0, 1))
    start = flat[: n_classes * n_service].reshape(n_classes, n_service)
    start[:, -1] = np.where(seen, 0.0, -20.0)
    found = minimize(
        _loss, flat, args=(examples, _truth(examples)), jac=True, method="L-BFGS-B", options={"maxiter": 400}
    )  # fmt: skip
    return _made(found.x, n_service, examples.classes, learned_from)


def _made(flat: Floats, n_service: int, classes: tuple[str, ...], learned_from: str) -> Bayes:
    cut = len(classes) * n_service
    made = Bayes.__new__(Bayes)
    made.classes, made.learned_from = classes, learned_from
    made.weights = flat[:cut].reshape(len(classes), -1)
    made.others = flat[cut:].reshape(2, -1)
    return made


def calibrated(bayes: Bayes, examples: Examples) -> tuple[Bayes, float]:
    """Return the diagnoser with its log odds divided by a temperature, and that.

    It is the one at which who is at fault (whatever the class) is likeliest in other examples: temperature scaling (Guo
    et al. 2017). That is what the confidence of a diagnosis says.
    """
    culprit = np.broadcast_to(examples.truth.any(2, keepdims=True), examples.truth.shape)
    truth = np.concatenate([culprit.reshape(len(culprit), -1), examples.others], 1)
    mass = examples.weight / examples.weight.sum()

    def loss(log_t: float) -> float:
        t = np.exp(log_t)
        p = np.exp(log_posterior(examples.service, examples.system, bayes.weights / t, bayes.others / t))
        return float(-(mass * np.log(np.maximum(np.where(truth, p, 0.0).sum(1), 1e-300))).sum())

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))
    flat = np.concatenate([bayes.weights.ravel(), bayes.others.ravel()]) / temperature
    return _made(flat, bayes.weights.shape[1], bayes.classes, bayes.learned_from), temperature


def probabilities(bayes: Bayes, examples: Examples) -> tuple[Floats, Bools]:
    """Return (row, service + 2) probabilities of each service, the workload and nothing, and what of it is true."""
    p = np.exp(log_posterior(examples.service, examples.system, bayes.weights, bayes.others))
    services = p[:, :-2].reshape(*examples.truth.shape).sum(2)
    return (
        np.concatenate([services, p[:, -2:]], 1),
        np.concatenate([examples.truth.any(2), examples.others], 1),
    )
