"""The batch engine: many runs at once through the compiled kernels."""

__all__ = ["BatchSession", "Capacity"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from simcore.codes import EDGE, Param
from simcore.compiler import compile_plan
from simcore.engines.api import EngineAction, RunInputs, check_actions, check_fork, check_inputs
from simcore.engines.arenas import Arenas, Capacity
from simcore.errors import CapacityError, InputError
from simcore.eventlog import sample_key
from simcore.kernels.batch import BATCH, advance_one
from simcore.kernels.prepare import after_growth, enter_action, prepare_runs
from simcore.layout import NEVER, NO_VERSION, Need
from simcore.model.fault_types import NEUTRAL
from simcore.model.scenario import Scenario
from simcore.streams import keyed
from simcore.threads import address_of, on_threads
from simcore.windows import N_AREAS, N_METRICS, N_STATS, N_TOTALS, Windows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class BatchSession:
    """``Session`` of the batch engine.

    Parameters
    ----------
    scenario
        What to simulate.
    inputs
        One per run.
    log
        Keep the event log of every run.
    share
        Of the requests whose rows the log holds, drawn as ``simcore.eventlog.taken`` says.
    threads
        Threads to use; None: as many as Numba takes by default. Results do not depend on it.
    capacity
        Room that every run starts with.

    Raises
    ------
    CapacityError
        If a run needs more state than ``capacity.limit``.
    """

    engine = "batch"

    def __init__(
        self,
        scenario: Scenario,
        inputs: Sequence[RunInputs],
        *,
        log: bool = False,
        share: float = 1.0,
        threads: int | None = None,
        capacity: Capacity | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be >= 1, got {threads}")
        check_inputs(scenario, inputs)
        self.scenario = scenario
        self.n_runs = len(inputs)
        self.now_s = 0.0
        self._step = 0
        self._log, self._share = log, share
        self._threads = threads
        self._inputs = tuple(inputs)
        self._plan = compile_plan(scenario)
        self._capacity = capacity or Capacity()
        self._n_actions = [0] * self.n_runs
        self._arenas = Arenas(self._plan, self._capacity, inputs, log)
        self._fill_in()
        prepare_runs(self._plan.head, self._arenas.lanes)
        self._run_to(0, 1)
        self._windows = self._no_windows()

    def _fill_in(self) -> None:
        """Write what makes the runs different into their state."""
        timing, work = self.scenario.timing, self.scenario.workload
        top = float(self._plan.head["top"][0])
        for run, given in enumerate(self._inputs):
            lane = self._arenas.lanes[run]
            lane["admitted"], lane["phase"], lane["key"] = 1.0, given.phase, given.key
            lane["window"], lane["log_on"] = -timing.burn_in_steps, self._log
            lane["log_key"], lane["log_share"] = sample_key(given.key), self._share
            mods, changes = self._arenas.part(run, "mods"), self._arenas.part(run, "changes")
            streams = self._arenas.part(run, "streams")
            base_peak = work.rate_rps * top
            sign = -1.0 if work.arrivals == "grid" else 1.0
            streams[0] = (0.0, 0.0, keyed(given.key, 0), 0, 0, sign / base_peak, base_peak, 1.0)
            n_streams = 1
            for i, mod in enumerate(given.modulations):
                stream = -1
                if mod.param == Param.SURGE:
                    stream = n_streams
                    peak = base_peak * max([c.value for c in given.changes if c.modulation == i], default=0.0)
                    gap = sign / peak if peak > 0.0 else sign
                    streams[stream] = (NEVER, 0.0, keyed(given.key, stream), 0, 0, gap, peak, 0.0)
                    n_streams += 1
                mods[i] = (
                    NEUTRAL[mod.param], 0.0, mod.param, mod.place, mod.service, mod.replica, 0, 0, 0, NO_VERSION,
                    stream, mod.peer,
                )  # fmt: skip
            for i, change in enumerate(given.changes):
                changes[i] = (change.time_s, change.value, change.modulation)
            lane["edges"] = any(mod.param in EDGE for mod in given.modulations)
            lane["hot_keys"] = any(mod.param == Param.HOT_KEY for mod in given.modulations)
            lane["n_mods"], lane["n_changes"], lane["n_streams"] = len(given.modulations), len(given.changes), n_streams

    def _no_windows(self) -> Windows:
        seen = self._outputs(0)
        return Windows(self._step, *seen)

    def _outputs(self, n_windows: int) -> tuple[Floats, Ints, Floats, Ints]:
        n_services, slots = len(self.scenario.services), int(self._plan.head["slots_max"][0])
        shape = (self.n_runs, n_windows)
        return (
            np.full((*shape, n_services + 1, N_METRICS), np.nan),
            np.zeros((*shape, N_TOTALS), np.int64),
            np.full((*shape, n_services, slots, N_STATS), np.nan),
            np.zeros((*shape, n_services), np.int64),
        )

    def _run_to(self, step: int, n_windows: int) -> Windows:
        """Advance all runs to the edge ``step`` and return the last ``n_windows`` windows."""
        metrics, totals, replicas, markers = seen = self._outputs(n_windows)
        cores = np.ascontiguousarray(self._plan.services["cores"])
        area = np.zeros((self.n_runs, len(cores), N_AREAS))
        most = numba.config.NUMBA_NUM_THREADS
        numba.set_num_threads(min(self._threads or most, most))
        numba.set_parallel_chunksize(1)
        batch = np.zeros(1, BATCH)
        arrays = (self._plan.head, self._arenas.lanes, cores, area, *seen)
        names = ("plans", "lanes", "cores", "area", "metrics", "totals", "replicas", "markers")
        for name, array in zip(names, arrays, strict=True):
            batch[name] = address_of(array)
        batch["windows"], batch["n_windows"] = step, n_windows
        batch["n_services"], batch["slots"] = replicas.shape[2:4]
        runs = np.arange(self.n_runs)
        while runs.size:
            batch["runs"] = address_of(runs)
            needs = on_threads(advance_one, batch, runs.size)
            for run, codes in zip(runs, needs, strict=True):
                for need in Need(int(codes)):
                    self._grow(int(run), need)
            runs = runs[needs != 0]
        return Windows(step - n_windows, *seen)

    def _grow(self, run: int, need: Need) -> None:
        """Give one run more room."""
        lane = self._arenas.lanes[run]
        old_spans = int(lane["span_cap"])
        if not self._arenas.grow(run, need):
            service = self._busiest(run)
            raise CapacityError(
                f"run {self._inputs[run].run} needs more than {self._capacity.limit} {str(need.name).lower()} at "
                f"{float(lane['now']):.1f} s; most of its work is at service '{service}'"
            )
        after_growth(self._arenas.lanes, run, old_spans)

    def _busiest(self, run: int) -> str:
        replicas = self._arenas.part(run, "replicas")[: int(self._arenas.lanes[run]["n_replicas"])]
        load = np.zeros(len(self.scenario.services), np.int64)
        np.add.at(load, replicas["service"], replicas["in_flight"])
        return self.scenario.service_names[int(load.argmax())]

    def advance(self, until_s: float) -> None:
        """Run to the edge ``until_s``; see ``Session``."""
        step = edge_of(until_s, self.scenario.timing.step_s, self._step)
        self._windows = self._run_to(step, step - self._step) if step > self._step else self._no_windows()
        self._step = step
        self.now_s = step * self.scenario.timing.step_s

    def observe(self) -> Windows:
        """Return the windows closed by the last ``advance``."""
        return self._windows

    def apply(self, actions: Sequence[EngineAction]) -> None:
        """Enter actions; see ``Session``."""
        check_actions(actions, self.n_runs, len(self.scenario.services), self.now_s)
        for action in actions:
            run, number = action.run, self._n_actions[action.run]
            self._arenas.room_for_action(run, number)
            row = (action.amount, action.code, action.service, action.replica)
            self._arenas.part(run, "actions")[number] = row
            enter_action(self._arenas.lanes, run, number, action.at_s)
            self._n_actions[run] = number + 1

    def fork(self, runs: Sequence[int], rekey: Sequence[int] | None = None) -> "BatchSession":
        """Return an independent continuation of the given runs, by copying their state; see ``Session.fork``."""
        numbers = check_fork(runs, rekey, self.n_runs)
        twin = object.__new__(BatchSession)
        twin.__dict__.update(self.__dict__)
        twin.n_runs = len(runs)
        twin._inputs = tuple(self._inputs[run] for run in runs)
        twin._n_actions = [self._n_actions[run] for run in runs]
        twin._arenas = self._arenas.copy(runs)
        for i, number in enumerate(numbers):
            if number >= 0:
                twin._arenas.rekey(i, number)
        index = np.asarray(runs, np.int64)
        seen = self._windows
        twin._windows = Windows(
            seen.first, seen.metrics[index], seen.totals[index], seen.replicas[index], seen.markers[index]
        )
        return twin

    def events(self, run: int, first: int = 0) -> npt.NDArray[np.void]:
        """Return the event log of a run so far; see ``Session.events``."""
        if not self._log:
            raise InputError("the session was opened without log=True")
        return self._arenas.part(run, "log")[first : int(self._arenas.lanes[run]["n_log"])].copy()

    def state(self, run: int) -> Mapping[str, npt.NDArray[Any]]:
        """Return the arrays that hold a run's state, by name, as they are: to look at, not to keep."""
        return self._arenas.parts(run)

    def events_run(self) -> int:
        """Return how many calendar entries all runs have executed."""
        return int(self._arenas.lanes["events"].sum())


def edge_of(until_s: float, step_s: float, present: int) -> int:
    """Return the number of the edge at ``until_s``.

    Raises
    ------
    InputError
        If there is no edge at that time or it lies behind the present one.
    """
    step = round(until_s / step_s) if math.isfinite(until_s) else -1
    if step * step_s != until_s:
        raise InputError(f"until_s must be a multiple of the control step {step_s} s, got {until_s}")
    if step < present:
        raise InputError(f"until_s must not lie before the present edge {present * step_s} s, got {until_s}")
    return step
