"""The SimPy engine behind the interface that both engines share."""

__all__ = ["ReferenceSession"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simcore.engines.api import EngineAction, RunInputs, check_actions, check_fork, check_inputs
from simcore.errors import InputError
from simcore.model.scenario import Scenario
from simcore.patience import patient_collector
from simcore.reference.cache import KeySpace
from simcore.reference.run import Run, Window
from simcore.windows import Metric, ReplicaStat, Total, Windows


class ReferenceSession:
    """Runs of the SimPy engine, advanced one after the other. See ``simcore.engines.api.Session``.

    Parameters
    ----------
    scenario
        The system and its users.
    inputs
        One entry per run.
    log
        Whether to keep the event logs.
    share
        Of the requests whose rows the logs hold.
    """

    def __init__(
        self, scenario: Scenario, inputs: Sequence[RunInputs], *, log: bool = False, share: float = 1.0
    ) -> None:
        check_inputs(scenario, inputs)
        self.scenario = scenario
        self.n_runs = len(inputs)
        self.now_s = 0.0  #: the present edge
        self._edge = 0
        self._log, self._share = log, share
        self._keys = KeySpace(scenario)
        with patient_collector():
            self._runs = [Run(scenario, run, self._keys, log, share) for run in inputs]
        self._windows = self._stack(0, [[] for _ in inputs])

    def advance(self, until_s: float) -> None:
        """Run to an edge; see ``Session.advance``."""
        step_s = self.scenario.timing.step_s
        edge = round(until_s / step_s) if np.isfinite(until_s) else -1
        if edge < self._edge or edge * step_s != until_s:
            raise InputError(f"until_s must be a multiple of {step_s} s from {self.now_s} s on, got {until_s}")
        first, self._edge, self.now_s = self._edge, edge, edge * step_s
        with patient_collector():
            windows = [[run.step() for _ in range(first, edge)] for run in self._runs]
        self._windows = self._stack(first, windows)

    def observe(self) -> Windows:
        """Return the windows closed by the last ``advance``."""
        return self._windows

    def apply(self, actions: Sequence[EngineAction]) -> None:
        """Enter actions; see ``Session.apply``.

        Raises
        ------
        InputError
            If an action names no run of the session, or an instant before the present edge; then none is entered.
        """
        check_actions(actions, self.n_runs, len(self.scenario.services), self.now_s)
        for action in actions:
            self._runs[action.run].apply(action)

    def fork(self, runs: Sequence[int], rekey: Sequence[int] | None = None) -> "ReferenceSession":
        """Return a continuation of some runs, by replaying them; see ``Session.fork``."""
        numbers = check_fork(runs, rekey, self.n_runs)
        other = object.__new__(ReferenceSession)
        other.scenario, other.n_runs = self.scenario, len(runs)
        other.now_s, other._edge, other._keys = self.now_s, self._edge, self._keys
        other._log, other._share = self._log, self._share
        with patient_collector():
            other._runs = [self._replay(self._runs[run]) for run in runs]
        for run, number in zip(other._runs, numbers, strict=True):
            if number >= 0:
                run.rekey(number)
        index = np.asarray(runs, np.int64)
        w = self._windows
        other._windows = Windows(w.first, w.metrics[index], w.totals[index], w.replicas[index], w.markers[index])
        return other

    def events(self, run: int, first: int = 0) -> npt.NDArray[np.void]:
        """Return the event log of a run so far; see ``Session.events``."""
        if not self._log:
            raise InputError("the session was opened without log=True, so there is no event log")
        return self._runs[run].events(first)

    def _replay(self, run: Run) -> Run:
        twin = Run(self.scenario, run.inputs, self._keys, self._log, self._share)
        history = iter(run.history)
        upcoming = next(history, None)
        while True:
            while upcoming is not None and upcoming[0] == twin.edge:
                twin.enter(upcoming[1])
                upcoming = next(history, None)
            if twin.edge == run.edge:
                return twin
            twin.step()

    def _stack(self, first: int, windows: list[list[Window]]) -> Windows:
        """Put the windows of all runs into arrays."""
        n_services = len(self.scenario.services)
        n_slots = max(service.replicas.max for service in self.scenario.services.values())
        shape = (len(windows), len(windows[0]) if windows else 0)
        result = Windows(
            first,
            np.empty((*shape, n_services + 1, len(Metric))),
            np.empty((*shape, len(Total)), np.int64),
            np.empty((*shape, n_services, n_slots, len(ReplicaStat))),
            np.empty((*shape, n_services), np.int64),
        )
        for run, row in enumerate(windows):
            for i, window in enumerate(row):
                result.metrics[run, i] = window.metrics
                result.totals[run, i] = window.totals
                result.replicas[run, i] = window.replicas
                result.markers[run, i] = window.markers
        return result
