"""Clients: the streams of requests, and what their clients make of the answers."""

__all__ = ["Workload"]

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import BORDER, Dist, Event, Kind, Param, Purpose, Status
from simcore.model.scenario import Workload as WorkloadSpec
from simcore.model.spec import Demand
from simcore.reference.attempts import amount, chance
from simcore.reference.calendar import Walk
from simcore.reference.requests import Requests
from simcore.reference.world import Influence, World
from simcore.samplers import draw, rate_factor
from simcore.streams import keyed
from simcore.windows import Tally

#: Index range of the users' keys below that of the base stream, and the first of their streams' numbers.
USER_INDEX = 2**32
USER_STREAM = 2**20

_SHAPES = {"constant": 0, "sinusoidal": 1, "step": 2, "burst": 3}


class Curve:
    """The rate of arrivals over time, as a multiple of the base rate."""

    def __init__(self, spec: WorkloadSpec, phase: float) -> None:
        self.top = 1.0  #: the largest multiple
        self._shape, self._phase = spec.shape, float(phase)
        self._a, self._b, self._c = spec.factor, spec.from_s, spec.until_s
        self._times = [point.time_s for point in spec.series]
        self._factors = [point.factor for point in spec.series]
        if spec.shape == "sinusoidal":
            self._a, self._b = spec.amplitude, spec.period_s
            self.top = 1.0 + spec.amplitude
        elif spec.shape in ("step", "burst"):
            self.top = max(1.0, spec.factor)
        elif spec.shape == "series":
            self.top = max(self._factors)

    def factor(self, time_s: float) -> float:
        """Return the multiple at an instant."""
        if self._shape == "series":
            return self._factors[max(0, bisect_right(self._times, time_s) - 1)]
        return float(rate_factor(_SHAPES[self._shape], self._a, self._b, self._c, self._phase, time_s))


@dataclass(slots=True)
class _Request:
    """A request in the books of its client."""

    number: int
    arrival_s: float
    due_s: float  #: a good answer comes no later
    judged: bool = False  #: counted as good or bad


class Workload:
    """The clients of a run."""

    def __init__(self, world: World, requests: Requests) -> None:
        self._world = world
        self._requests = requests
        spec = world.scenario.workload
        self._curve = Curve(spec, world.inputs.phase)
        self._peak_rps = spec.rate_rps * self._curve.top
        self._cumulative = list(accumulate(entry.weight for entry in spec.entries))
        names = [f"{service}.{operation}" for service, operation in world.scenario.operations]
        self._entries = [names.index(entry.operation) for entry in spec.entries]
        self._unjudged: deque[_Request] = deque()
        surges = [m.index for m in world.influences if m.modulation.param is Param.SURGE]
        self._streams = {index: 1 + i for i, index in enumerate(surges)}
        if spec.closed is None:
            world.calendar.process(self._stream(0, self._peak_rps, lambda: 1.0))
        else:
            for user in range(spec.closed.users):
                world.calendar.process(self._user(user, spec.closed.think))

    def surge(self, influence: Influence) -> None:
        """Start the additional stream of a surge."""
        changes = self._world.inputs.changes
        largest = max(change.value for change in changes if change.modulation == influence.index)
        stream = self._stream(self._streams[influence.index], self._peak_rps * largest, lambda: influence.value)
        self._world.calendar.process(stream)

    def close_window(self, edge_s: float) -> None:
        """Count requests as bad that can no longer become good."""
        while self._unjudged and self._unjudged[0].due_s < edge_s:
            self._judge(self._unjudged.popleft(), good=False)

    def _stream(self, number: int, peak_rps: float, level: Callable[[], float]) -> Generator[SimpyEvent, Any, None]:
        """Offer the candidates of one stream, thinned to its rate."""
        calendar, spec = self._world.calendar, self._world.scenario.workload
        gap_s = 1.0 / peak_rps
        start_s = time_s = calendar.now
        for n in count():
            root = keyed(keyed(self._world.key, number), n)
            if spec.arrivals == "grid":
                time_s = start_s + (n + 1) * gap_s
            else:
                gap = draw(int(Dist.EXPONENTIAL), gap_s, 1.0, root, BORDER, int(Purpose.ARRIVAL))
                time_s = time_s + float(gap)
            yield calendar.at(time_s, Kind.ROOT, int(root), 0)
            rate_rps = spec.rate_rps * self._curve.factor(time_s)
            if chance(root, Purpose.THIN) * peak_rps < rate_rps * level():
                self._offer(number << 40 | n, root)

    def _user(self, user: int, think: Demand) -> Generator[SimpyEvent, Any, None]:
        """A user thinks, sends a request, and waits for what becomes of it."""
        calendar = self._world.calendar
        for n in count():
            root = keyed(keyed(keyed(self._world.key, 0), USER_INDEX + user), n)
            send_s = calendar.now + amount(think, root, BORDER, Purpose.ARRIVAL)
            yield calendar.at(send_s, Kind.ROOT, int(root), 0)
            waiting = self._offer((USER_STREAM + user) << 40 | n, root)
            if waiting is not None:
                yield waiting

    def _offer(self, number: int, root: np.uint64) -> SimpyEvent | None:
        """Let a client send a request; return what happens when the client has its answer, None if it is shed."""
        world, ledger = self._world, self._world.ledger
        now = world.calendar.now
        entry = self._choose_entry(chance(root, Purpose.CHOICE))
        operation = self._entries[entry]
        ledger.log(number, int(root), Event.OFFERED, operation)
        ledger.count(ledger.system, Tally.ARRIVALS)
        request = _Request(number, now, now + world.scenario.slo.latency_s)
        if world.admitted < 1.0 and chance(root, Purpose.ADMIT) >= world.admitted:
            ledger.log(number, int(root), Event.SHED, operation)
            ledger.count(ledger.system, Tally.REJECTED)
            self._judge(request, good=False)
            return None
        self._unjudged.append(request)
        return Walk(world.calendar, self._client(request, root, entry))

    def _choose_entry(self, u: float) -> int:
        total = self._cumulative[-1]
        for entry, cumulative in enumerate(self._cumulative):
            if u < cumulative / total:
                return entry
        return len(self._entries) - 1

    def _client(self, request: _Request, root: np.uint64, entry: int) -> Generator[SimpyEvent, Any, None]:
        """A client sends a request, waits for the answer or its timeout, and judges."""
        ledger = self._world.ledger
        priority = self._world.scenario.workload.entries[entry].priority
        sent = self._requests.send_root(request.number, root, self._entries[entry], priority)
        status = yield sent.answered
        now = self._world.calendar.now
        if status is Status.TIMEOUT:
            ledger.count(ledger.system, Tally.TIMEOUTS)
            ledger.ended(self._world.scenario.workload.timeout_s, ledger.system, failed=False)
        else:
            ledger.ended(now - request.arrival_s, ledger.system, failed=status is not Status.OK)
            if status is not Status.OK:
                ledger.count(ledger.system, Tally.ERRORS)
        self._judge(request, good=status is Status.OK and now <= request.due_s)

    def _judge(self, request: _Request, good: bool) -> None:
        if not request.judged:
            request.judged = True
            ledger = self._world.ledger
            ledger.count(ledger.system, Tally.GOOD if good else Tally.BAD)
