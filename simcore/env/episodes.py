"""An episode: faults, observations, actions, SLO and reward over a session of either engine."""

__all__ = ["UNHEALTHY_PENALTY", "Episodes"]

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode
from simcore.engines.api import EngineAction
from simcore.engines.registry import open_session
from simcore.env.actions import build_actions, build_topology, n_slots
from simcore.env.ledger import ActionRecord, Ledger
from simcore.env.scrape import Scraper
from simcore.env.slo import IncidentTracker, fault_step, violates
from simcore.errors import ActionError, InputError
from simcore.model.inputs import Run
from simcore.model.scenario import Scenario
from simcore.observation import Observation
from simcore.signals.collector import Collector
from simcore.streams import run_key
from simcore.windows import N_METRICS, Metric, Total

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: What being unhealthy at the end takes off J, in units of J: a tenth of the horizon's requests.
UNHEALTHY_PENALTY = 0.1

#: Arrays of an ``Episodes`` whose first axis is the run.
_OF_RUNS = (
    "bad", "offered", "good", "shed", "errors", "attempts", "retries", "violating", "incident_open", "unhealthy",
    "cost", "metrics", "legal", "fault_steps", "_bad_before", "_cost_before", "_unhealthy_at",
)  # fmt: skip

_TELEMETRY, _ACTIONS = 3, 4  # streams, see ``simcore.streams.run_key``


class Episodes:
    """A round of runs in lockstep, from edge 0 to the end of the episode.

    **J** of a run over its fixed horizon (the whole recorded episode) is ``-(bad / expected) - cost -
    UNHEALTHY_PENALTY * unhealthy``: the requests that turned bad; the cost of the actions taken; and whether the
    run is unhealthy at the end (two of the last three steps violate the SLO, or traffic is turned away).
    ``expected = rate * horizon`` stands for the offered requests, which are known only at the end; it is the same
    for every run and policy. The reward of step k is the change of J over it: the requests that turned bad in the
    step, the cost booked at edge k, and the penalty if the run was healthy at edge k and is not at k + 1 (given
    back in the opposite case). So the rewards add up to J, and neither shedding nor shutting down can raise it.

    The truth, for scoring and learning; columns of steps not yet closed hold zeros (metrics: nan):
    """

    bad: Ints  #: (run, step) requests that turned bad
    offered: Ints  #: (run, step) arrivals at the border, shed ones included
    good: Ints  #: (run, step) requests answered well within the objective
    shed: Ints  #: (run, step) requests turned away by ``limit_traffic``
    errors: Ints  #: (run, step) replies that were not OK
    attempts: Ints  #: (run, step) sends of roots and calls
    retries: Ints  #: (run, step) those after the first
    violating: Bools  #: (run, step) whether the step breaks the SLO
    incident_open: Bools  #: (run, step) whether an incident is open at the step's end
    unhealthy: Bools  #: (run, step) whether the run is unhealthy at the step's end
    cost: Floats  #: (run, step) cost of the actions decided at the edge where the step begins
    metrics: Floats  #: (run, step, service + 1, metric) all windows, as they were
    legal: Bools  #: (run, step, action) what was legal at the edge where the step begins
    records: list[ActionRecord]  #: actions taken, in order of time

    def __init__(
        self,
        scenario: Scenario,
        runs: Sequence[Run],
        *,
        engine: str = "batch",
        threads: int | None = None,
        log: bool = False,
    ) -> None:
        """Open a session; the burn-in is over when this returns.

        Parameters
        ----------
        scenario
            The system.
        runs
            At least one run.
        engine
            Name of the engine.
        threads
            Threads of the batch engine; by default all.
        log
            Whether to keep the event log.

        Raises
        ------
        InputError
            If there are no runs.
        ActionError
            If the scenario names an action or a target that there is not.
        RegistryError
            If there is no engine of that name.
        """
        if not runs:
            raise InputError("an episode needs at least one run, got 0")
        self.scenario, self.runs, self.engine = scenario, tuple(runs), engine
        self.topology, self.actions = build_topology(scenario), build_actions(scenario)
        self.n_runs, self.n_steps, self.step = len(runs), scenario.timing.steps, 0
        traces, looks = scenario.observation.traces, scenario.observation.traces > 0.0 or scenario.observation.logs
        inputs = [run.inputs for run in runs]
        self.session = open_session(
            engine, scenario, inputs, log=log or looks, share=1.0 if log else traces, threads=threads
        )
        self._collector = Collector(scenario, inputs, whole=log) if looks else None
        step_s = scenario.timing.step_s
        onsets = [min((fault.onset_s for fault in run.faults), default=-1.0) for run in runs]
        #: (run,) step in which the first fault begins, -1 without a fault
        self.fault_steps: Ints = np.array([fault_step(s, step_s) if s >= 0 else -1 for s in onsets], np.int64)
        slots = n_slots(scenario)
        self._scraper = Scraper(scenario, self._keys(_TELEMETRY), self.n_steps, slots)
        self._ledger = Ledger(scenario, self.actions, self._keys(_ACTIONS), slots)
        self._tracker = IncidentTracker(self.fault_steps, step_s)
        self._expected = scenario.workload.rate_rps * (self.n_steps * step_s)
        self._acted = False
        self._allocate()
        self.observation = self._observe()

    def _keys(self, stream: int) -> npt.NDArray[np.uint64]:
        return np.array([run_key(run.seed, run.split, run.run, stream) for run in self.runs], np.uint64)

    def _allocate(self) -> None:
        shape = (self.n_runs, self.n_steps)
        for name in ("bad", "offered", "good", "shed", "errors", "attempts", "retries"):
            setattr(self, name, np.zeros(shape, np.int64))
        for name in ("violating", "incident_open", "unhealthy"):
            setattr(self, name, np.zeros(shape, np.bool_))
        self.cost = np.zeros(shape)
        self.metrics = np.full((*shape, self.topology.n_services + 1, N_METRICS), np.nan)
        self.legal = np.zeros((*shape, len(self.actions)), np.bool_)
        self.records = []
        self._bad_before = np.zeros((self.n_runs, self.n_steps + 1), np.int64)
        self._cost_before = np.zeros((self.n_runs, self.n_steps + 1))
        self._unhealthy_at = np.zeros((self.n_runs, self.n_steps + 1))

    @property
    def finished(self) -> bool:
        """Whether all steps are closed."""
        return self.step >= self.n_steps

    def act(self, choice: Ints, shadow: bool = False) -> None:
        """Enter the chosen actions at the present edge, at most once per edge.

        Parameters
        ----------
        choice
            (run,) action numbers, 0 = noop.
        shadow
            Check the choice, but book nothing and apply nothing.

        Raises
        ------
        ActionError
            If a choice is not legal, the episode is over, or this edge has been acted at.
        """
        if self.finished or self._acted:
            why = "the episode is over" if self.finished else "actions were entered already"
            raise ActionError(f"no action can be entered at edge {self.step}: {why}")
        choice = np.asarray(choice)
        if choice.shape != (self.n_runs,):
            raise ActionError(f"choice must hold one action for each of {self.n_runs} runs, got shape {choice.shape}")
        runs = np.flatnonzero(choice)
        for run in runs.tolist():
            self.check(run, int(choice[run]))
        self._acted = True
        if shadow or not runs.size:
            return
        orders = []
        for run in runs.tolist():
            action = int(choice[run])
            record, order = self._ledger.book(self.step, run, action, self.observation.replicas)
            self.records.append(record)
            self.cost[run, self.step] = self.actions.cost[action]
            if order is not None:
                orders.append(order)
        self.session.apply(orders)

    def check(self, run: int, action: int) -> None:
        """Check that an action may be taken in a run at the present edge.

        Raises
        ------
        ActionError
            If there is no such action, or it is not legal.
        """
        if not 0 <= action < len(self.actions):
            raise ActionError(f"run {run}: action numbers are 0 to {len(self.actions) - 1}, got {action}")
        if not self.observation.legal[run, action]:
            raise ActionError(
                f"run {run}: {self.actions.names[action]} is not legal at step {self.step}"
                " (pending action, cooldown, replica limit, or nothing to do)"
            )

    def advance(self) -> Observation:
        """Run one control step and return the observation at its end.

        Raises
        ------
        InputError
            If the episode is over.
        CapacityError
            If a run needs more state than the stated limit.
        """
        if self.finished:
            raise InputError(f"the episode is over after {self.n_steps} steps")
        self._run_to(self.step + 1)
        return self.observation

    def advance_to_end(self) -> None:
        """Run all remaining steps at once, without anybody looking or acting."""
        self.advance_to(self.n_steps)

    def advance_to(self, step: int) -> None:
        """Run to edge ``step`` at once, without anybody looking or acting in between.

        Raises
        ------
        InputError
            If the edge lies behind the present one or beyond the episode.
        """
        if not self.step <= step <= self.n_steps:
            raise InputError(f"edges to go to must be in {self.step} .. {self.n_steps}, got {step}")
        if step > self.step:
            self._run_to(step)

    def limits_traffic(self) -> bool:
        """Return whether any run turns traffic away, or will once an action takes effect."""
        return self._ledger.limits()

    def _run_to(self, step: int) -> None:
        self.session.advance(step * self.scenario.timing.step_s)
        windows = self.session.observe()
        first = self.step
        signals = None if self._collector is None else self._collector.collect(self.session, first, step)
        self.metrics[:, first:step] = windows.metrics
        for name, total in (
            ("bad", Total.BAD),
            ("offered", Total.OFFERED),
            ("good", Total.GOOD),
            ("shed", Total.SHED),
            ("errors", Total.ERRORS),
            ("attempts", Total.ATTEMPTS),
        ):
            getattr(self, name)[:, first:step] = windows.totals[:, :, total]
        self.retries[:, first:step] = windows.metrics[..., Metric.RETRIES].sum(axis=2).astype(np.int64)
        for k in range(first, step):
            self._close(k)
            replicas = windows.replicas[:, k - first].copy()
            seen = None if signals is None else signals[:, k - first].copy()
            self._scraper.close(k, self.metrics[:, k], replicas, windows.markers[:, k - first].copy(), seen)
        self.step, self._acted = step, False
        self.observation = self._observe()

    def _close(self, k: int) -> None:
        p95_s = self.metrics[:, k, -1, Metric.P95_S]
        restored = self._ledger.close(k)
        self.violating[:, k] = violates(p95_s, self.offered[:, k], self.good[:, k], self.bad[:, k], self.scenario.slo)
        open_, unhealthy = self._tracker.close(k, self.violating[:, k], restored)
        self.incident_open[:, k], self.unhealthy[:, k] = open_, unhealthy
        self._bad_before[:, k + 1] = self._bad_before[:, k] + self.bad[:, k]
        self._cost_before[:, k + 1] = self._cost_before[:, k] + self.cost[:, k]
        self._unhealthy_at[:, k + 1] = unhealthy

    def _observe(self) -> Observation:
        scraper, ledger = self._scraper, self._ledger
        legal = ledger.legal(self.step, scraper.replicas)
        if not self.finished:
            self.legal[:, self.step] = legal
        return Observation(
            step=self.step,
            window=scraper.window,
            fresh=scraper.fresh,
            metrics=scraper.metrics,
            replicas=scraper.replicas,
            signals=scraper.signals,
            change_age_s=scraper.change_age_s(self.step),
            admitted=ledger.admitted,
            pending=ledger.pending(self.step),
            legal=legal,
        )

    def fork(self, rows: Sequence[int] | Ints, *, rekey: Sequence[int] | Ints | None = None) -> "Episodes":
        """Return an independent continuation of some runs from the present edge.

        With the same actions it gives bit for bit what the original gives. With ``rekey`` the future is another one:
        arrivals, work, losses of scrapes, delays and failures of actions, whatever is drawn from now on, have other
        keys; requests under way, armed timers and the faults that have begun stay as they are; faults and noise that
        have not begun never come, since nobody can know of them (docs/explanation/model.md, *Re-keying*).

        Parameters
        ----------
        rows
            (row,) positions of the runs, repeats allowed.
        rekey
            (row,) number of the future, a function of which and of the run it is; -1: the run's own. None: all own.

        Raises
        ------
        InputError
            If there is no row, no such run, or not one number >= -1 per row.
        """
        index = np.asarray(rows, np.int64)
        if not index.size:
            raise InputError("an episode needs at least one run, got 0")
        session = self.session.fork(index.tolist(), None if rekey is None else np.asarray(rekey).tolist())
        numbers = np.full(index.size, -1, np.int64) if rekey is None else np.asarray(rekey, np.int64)
        twin = copy.copy(self)
        twin.session, twin.n_runs = session, index.size
        twin.runs = tuple(self.runs[row] for row in index.tolist())
        for name in _OF_RUNS:
            setattr(twin, name, getattr(self, name)[index])
        twin.fault_steps[(numbers >= 0) & (twin.fault_steps >= self.step)] = -1
        twin.records = [
            dataclasses.replace(record, run=row)
            for record in self.records
            for row in np.flatnonzero(index == record.run).tolist()
        ]
        twin._collector = None if self._collector is None else self._collector.fork(index)
        twin._scraper = self._scraper.fork(index, numbers, self.step)
        twin._ledger = self._ledger.fork(index, numbers)
        twin._tracker = self._tracker.fork(index, twin.fault_steps)
        twin._forget(np.flatnonzero(numbers >= 0))
        twin.observation = twin._observe()
        return twin

    def _forget(self, rows: Ints) -> None:
        """Take what has not begun out of the future of some runs."""
        now_s = self.step * self.scenario.timing.step_s
        self.session.apply(
            [
                EngineAction(row, ActionCode.REMOVE, now_s, replica=modulation)
                for row in rows.tolist()
                for modulation in self.runs[row].unbegun(now_s)
            ]
        )

    def j_between(self, first: Ints, last: Ints) -> Floats:
        """Return (run,) the change of J over the closed steps [first, last).

        Parameters
        ----------
        first, last
            (run,) edges, ``0 <= first <= last <= step``.
        """
        rows = np.arange(self.n_runs)
        bad = self._bad_before[rows, last] - self._bad_before[rows, first]
        cost = self._cost_before[rows, last] - self._cost_before[rows, first]
        worse = self._unhealthy_at[rows, last] - self._unhealthy_at[rows, first]
        change: Floats = 0.0 - bad / self._expected - cost - UNHEALTHY_PENALTY * worse
        return change
