"""Trials of what the fault catalogue claims: the signs appear, the fix mends, a plausible wrong action does not.

Paired runs: the same runs without the fault (the twin), with it and nobody acting, with the fix, and with the wrong
action. All differences are taken within a run, so nothing but the fault and the action makes them.
"""

__all__ = ["N_RUNS", "Outcome", "Trial", "claimed", "try_fault"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from simcore.codes import ActionCode
from simcore.engines.api import EngineAction, RunInputs
from simcore.engines.registry import open_session
from simcore.errors import RegistryError, suggest
from simcore.model.action_types import ACTIONS
from simcore.model.catalogue import CATALOGUE
from simcore.model.claims import Claim, Remedy, Sign, Where
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario

Floats = npt.NDArray[np.float64]

#: When the fault begins, seconds; a sign is looked for in so many seconds before the action.
ONSET_S = 100.0
_SIGN_S = 30.0
#: A sign is a shift by this share of the twin's level at least, and for certain not nothing.
LEAST_SHIFT = 0.1
#: Mended: what is left of the first sign, of what is left without an action. Of no use: the least that is left.
MENDED, USELESS = 0.35, 0.5
N_RUNS = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """A mean over the runs with its 99 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> "Outcome":
        """Return the outcome of (run,) values; runs without a value do not count."""
        seen = values[~np.isnan(values)]
        if seen.size < 2:
            return cls(math.nan, math.nan, math.nan)
        half = float(stdtrit(seen.size - 1, 0.995)) * float(seen.std(ddof=1)) / math.sqrt(seen.size)
        mean = float(seen.mean())
        return cls(mean, mean - half, mean + half)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one fault type."""

    fault: str
    claim: Claim
    usual: tuple[float, ...]  #: (sign,) level of the twin
    shift: tuple[Outcome, ...]  #: (sign,) change with the fault, in the direction that the sign names
    noop: Outcome  #: shift of the first sign when judged, nobody acting
    fix: Outcome
    wrong: Outcome

    @property
    def appears(self) -> bool:
        """Whether every sign is there."""
        pairs = zip(self.shift, self.usual, strict=True)
        return all(shift.low > 0.0 and shift.mean > LEAST_SHIFT * abs(usual) for shift, usual in pairs)

    @property
    def mended(self) -> bool:
        """Whether the fix takes most of the first sign away."""
        return self.noop.low > 0.0 and self.fix.high < MENDED * self.noop.mean

    @property
    def useless(self) -> bool:
        """Whether the wrong action leaves most of it, or makes it worse."""
        return self.wrong.low > USELESS * self.noop.mean and self.wrong.low > self.fix.high

    @property
    def holds(self) -> bool:
        """Whether the whole claim holds."""
        return self.appears and self.mended and self.useless


def claimed(names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the fault types of the given names, all that make a claim if there are none.

    Raises
    ------
    RegistryError
        Listing every name that is no such type.
    """
    known = [name for name, kind in CATALOGUE.items() if kind.claim is not None]
    given = tuple(dict.fromkeys(names))
    wrong = [
        f"there is no fault type '{name}' that makes a claim{suggest(name, known)}"
        for name in given
        if name not in known
    ]
    if wrong:
        raise RegistryError("\n".join([*wrong, f"fault types: {', '.join(known)}"]))
    return given or tuple(known)


def try_fault(
    name: str, *, engine: str = "batch", seed: int = 1, threads: int | None = None, scenario: Scenario | None = None
) -> Trial:
    """Try the claim of a fault type.

    Parameters
    ----------
    name
        A type of the catalogue that makes a claim.
    engine
        Name of the engine.
    seed
        Of the paired runs.
    threads
        Of the batch engine; by default all.
    scenario
        Where it is tried; ``clinic`` by default.
    """
    claim = CATALOGUE[name].claim
    assert claim is not None, f"{name} makes no claim"
    base = load_scenario("clinic") if scenario is None else scenario
    if claim.load != 1.0:
        workload = base.workload.model_copy(update={"rate_rps": base.workload.rate_rps * claim.load})
        base = Scenario.model_validate(base.model_copy(update={"workload": workload}).model_dump(exclude_unset=True))
    text = name if claim.target is None else f"{name}@{claim.target}"
    fault = parse_fault(text, base, onset_s=ONSET_S, severity=1.0)
    arms = _Arms(base, fault, claim, engine, seed, threads)
    twin, noop, fix, wrong = (arms.play(faulty, remedy) for faulty, remedy in arms.each())
    sees = tuple(arms.level(twin, sign, *arms.before) for sign in claim.signs)
    shifts = tuple(_shift(arms, noop, twin, sign, arms.before) for sign in claim.signs)
    first = claim.signs[0]
    judged = [Outcome.of(_shift(arms, arm, twin, first, arms.judged)) for arm in (noop, fix, wrong)]
    return Trial(text, claim, tuple(float(np.nanmean(s)) for s in sees), tuple(Outcome.of(s) for s in shifts), *judged)


def _shift(arms: "_Arms", arm: Floats, twin: Floats, sign: Sign, window: tuple[float, float]) -> Floats:
    change = arms.level(arm, sign, *window) - arms.level(twin, sign, *window)
    return change if sign.up else -change


class _Arms:
    """The paired sessions of one trial."""

    def __init__(
        self, scenario: Scenario, fault: Fault, claim: Claim, engine: str, seed: int, threads: int | None
    ) -> None:
        self.scenario, self.fault, self.claim, self.engine, self.threads = scenario, fault, claim, engine, threads
        act_s = ONSET_S + claim.act_after_s
        self.before = (max(ONSET_S, act_s - _SIGN_S), act_s)
        self.judged = (ONSET_S + claim.judged_s[0], ONSET_S + claim.judged_s[1])
        self._act_s = act_s
        self._runs = [
            [
                make_run(scenario, seed=seed, split="tune", run=i, faults=(fault,) if faulty else ()).inputs
                for i in range(N_RUNS)
            ]
            for faulty in (False, True)
        ]

    def each(self) -> Iterator[tuple[bool, Remedy | None]]:
        """Yield (whether the fault is there, the action) of the four arms."""
        yield False, None
        yield True, None
        yield True, self.claim.fix
        yield True, self.claim.wrong

    def play(self, faulty: bool, remedy: Remedy | None) -> Floats:
        """Return (run, window, service + 1, metric) of one arm."""
        runs: Sequence[RunInputs] = self._runs[faulty]
        session = open_session(self.engine, self.scenario, runs, threads=self.threads)
        session.advance(self._act_s)
        first = session.observe().metrics
        if remedy is not None:
            session.apply([self._order(remedy, run) for run in range(N_RUNS)])
        step_s = self.scenario.timing.step_s
        session.advance(math.ceil(self.judged[1] / step_s) * step_s)
        return np.concatenate([first, session.observe().metrics], axis=1)

    def level(self, metrics: Floats, sign: Sign, from_s: float, until_s: float) -> Floats:
        """Return (run,) the mean of a sign's metric between two instants."""
        step_s = self.scenario.timing.step_s
        windows = slice(round(from_s / step_s), round(until_s / step_s))
        seen = metrics[:, windows][:, :, self._places(sign.where), int(sign.metric)]
        flat = seen.reshape(seen.shape[0], -1)
        counts = (~np.isnan(flat)).sum(axis=1)
        return np.where(counts > 0, np.nansum(flat, axis=1) / np.maximum(counts, 1), np.nan)

    def _order(self, remedy: Remedy, run: int) -> EngineAction:
        kind = ACTIONS[remedy.kind]
        amount = kind.amount if kind.values is None else kind.values.usual[0]
        service = -1 if remedy.where is Where.SYSTEM else self._places(remedy.where)[0]
        replica = self.fault.replica if kind.code in (ActionCode.QUARANTINE, ActionCode.RELEASE) else -1
        given = amount if remedy.amount is None else remedy.amount
        return EngineAction(run, kind.code, self._act_s, service, replica, given)

    def _places(self, where: Where) -> list[int]:
        """Return the rows of the metrics that a place stands for."""
        names, target = self.scenario.service_names, self.fault.service
        if where is Where.SYSTEM:
            return [len(names)]
        if where is Where.TARGET:
            return [target]
        if where is Where.ENTRY:
            return [names.index(self.scenario.workload.entries[0].operation.partition(".")[0])]
        if where is Where.CALLERS:
            asking = [step for site, step in enumerate(self.scenario.sites) if self._callee(site) == target]
            return sorted({names.index(self.scenario.operations[step.operation][0]) for step in asking})
        behind = {
            self._callee(inner.site)
            for step in self.scenario.sites
            if step.inner and self._callee(step.site) == target
            for inner in step.inner
            if inner.site >= 0
        }
        return sorted(behind)

    def _callee(self, site: int) -> int:
        return self.scenario.service_names.index(self.scenario.callee_of(site).partition(".")[0])
