"""One run: everything that makes it different from another before anybody acts, from (seed, split, run) alone."""

__all__ = ["MIXES", "Run", "draw_faults", "make_run"]

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from simcore.codes import Place
from simcore.engines.api import RunInputs
from simcore.errors import InputError, suggest
from simcore.model.catalogue import CATALOGUE
from simcore.model.fault_types import Aim, FaultType, Target, targets_of
from simcore.model.faults import FOREVER, Fault, expand
from simcore.model.noise import draw_noise, draw_phase
from simcore.model.scenario import FaultDraw, Scenario
from simcore.model.spec import Range
from simcore.streams import SPLITS, run_key, uniform

#: How the type of a run's fault is drawn: by the weights of the scenario's mix, or all of its rows alike.
MIXES = ("default", "uniform")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario."""

    run: int  #: index of the run
    seed: int
    split: str
    inputs: RunInputs
    faults: tuple[Fault, ...]  #: none in a control run
    owner: tuple[int, ...]  #: (modulation,) number of the fault that it belongs to, -1: noise

    def unbegun(self, now_s: float) -> tuple[int, ...]:
        """Return the modulations of faults and noise of which nothing lies before ``now_s``: nobody knows of them."""
        first: dict[tuple[int, int], float] = {}
        group = [(own, i if own < 0 else 0) for i, own in enumerate(self.owner)]
        for change in reversed(self.inputs.changes):
            first[group[change.modulation]] = change.time_s
        return tuple(i for i, own in enumerate(group) if not first.get(own, now_s) < now_s)


class _Draw(IntEnum):
    """Draws of the fault stream."""

    NONE = 0
    ROW = 1
    TARGET = 2
    REPLICA = 3
    SEVERITY = 4
    ONSET = 5
    DURATION = 6
    PLACE = 7


def make_run(
    scenario: Scenario,
    *,
    seed: int,
    split: str,
    run: int,
    faults: Sequence[Fault] | None = None,
    mix: str = "default",
) -> Run:
    """Return a run; the same arguments give the same run, on every machine.

    Noise comes before faults in the order of modulations, so a run without its fault keeps its noise unchanged.

    Parameters
    ----------
    scenario
        The scenario.
    seed, split, run
        The run's place in the seed space: seed >= 0, one of ``simcore.streams.SPLITS``, index >= 0.
    faults
        The run's faults (``none`` is dropped); None: drawn from the scenario's mix.
    mix
        One of ``MIXES``: how they are drawn.

    Raises
    ------
    InputError
        If seed, split or run is out of range, or there is no such mix.
    """
    if mix not in MIXES:
        raise InputError(f"mix must be one of {', '.join(MIXES)}, got '{mix}'{suggest(mix, MIXES)}")
    if seed < 0 or run < 0 or split not in SPLITS:
        known = ", ".join(SPLITS)
        raise InputError(f"seed and run must be >= 0 and split one of {known}, got {seed}, {run} and '{split}'")
    noise_key = run_key(seed, split, run, 2)
    modulations, changes = draw_noise(scenario, noise_key)
    owner = [-1] * len(modulations)
    if faults is None:
        faults = draw_faults(scenario, run_key(seed, split, run, 1), mix)
    faults = tuple(fault for fault in faults if CATALOGUE[fault.type].aim is not Aim.NOTHING)
    for number, fault in enumerate(faults):
        own, own_changes = expand(fault, scenario, len(modulations))
        modulations += own
        changes += own_changes
        owner += [number] * len(own)
    changes.sort(key=lambda change: (change.time_s, change.modulation))
    inputs = RunInputs(
        run=run,
        key=run_key(seed, split, run, 0),
        phase=draw_phase(scenario, noise_key),
        modulations=tuple(modulations),
        changes=tuple(changes),
    )
    return Run(run, seed, split, inputs, faults, tuple(owner))


def draw_faults(scenario: Scenario, key: np.uint64, mix: str = "default") -> tuple[Fault, ...]:
    """Return the fault of a run as the scenario's mix has it: one, or none.

    Another mix changes the type of a run's fault and what depends on it, and neither whether there is one nor when.

    Parameters
    ----------
    scenario
        Its ``faults`` say what is drawn.
    key
        Key of the run's fault stream (1).
    mix
        One of ``MIXES``.
    """

    def u(what: _Draw) -> float:
        return float(uniform(key, np.uint64(what)))

    def within(of: Range, what: _Draw) -> float:
        return of.min + u(what) * (of.max - of.min)

    spec = scenario.faults
    if not spec.mix or u(_Draw.NONE) < spec.none_share:
        return ()
    weights = [1.0 if mix == "uniform" else row.weight for row in spec.mix]
    row = spec.mix[_weighted(weights, u(_Draw.ROW))]
    kind = CATALOGUE[row.type]
    targets = _targets(kind, row, scenario)
    target = targets[_position(len(targets), u(_Draw.TARGET))]
    replica = -1
    if kind.aim is Aim.REPLICA:
        count = scenario.services[scenario.service_names[target.service]].replicas.initial
        replica = _position(count, u(_Draw.REPLICA))
    usual = FOREVER if kind.duration_s is None else kind.duration_s
    if row.places is None:
        places = list(kind.places.items())
    else:
        places = [(Place[name.upper()], weight) for name, weight in row.places.items()]
    return (
        Fault(
            type=row.type,
            service=target.service,
            caller=target.caller,
            replica=replica,
            onset_s=within(spec.onset_s, _Draw.ONSET),
            duration_s=usual if row.duration_s is None else within(row.duration_s, _Draw.DURATION),
            severity=within(row.severity, _Draw.SEVERITY),
            profile=row.profile or kind.profiles[0],
            place=places[_weighted([weight for _, weight in places], u(_Draw.PLACE))][0],
        ),
    )


def _targets(kind: FaultType, row: FaultDraw, scenario: Scenario) -> tuple[Target, ...]:
    legal = targets_of(kind, scenario)
    return legal if row.targets is None else tuple(t for t in legal if t.written(scenario) in row.targets)


def _position(count: int, u: float) -> int:
    return min(int(u * count), count - 1)


def _weighted(weights: list[float], u: float) -> int:
    """Return the first position whose cumulative share exceeds u, else the last."""
    total, mark = 0.0, u * sum(weights)
    for i, weight in enumerate(weights):
        total += weight
        if mark < total:
            return i
    return len(weights) - 1
