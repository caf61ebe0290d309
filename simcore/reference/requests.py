"""What happens to an attempt from its sending to its reply, as SimPy processes."""

__all__ = ["Requests"]

from collections.abc import Generator
from typing import Any

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Purpose, Status
from simcore.model.scenario import Cached, CachedStep, Call, CallStep, CpuStep, DelayStep, Numbered
from simcore.reference.attempts import Attempts, Span, amount, chance
from simcore.reference.balancers import BALANCERS
from simcore.reference.cache import owner_of
from simcore.reference.effects import warming
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.threads import Threads
from simcore.reference.world import World
from simcore.samplers import backoff
from simcore.streams import child_index, keyed
from simcore.windows import Tally

Waiting = Generator[SimpyEvent, Any, None]
Walking = Generator[SimpyEvent, Any, Status]


def skipped(call: Call, step: Numbered, span: Span) -> bool:
    """Return whether a span leaves a call out, by its probability."""
    if call.probability >= 1.0:
        return False
    return chance(span.key, Purpose.CHOICE, step.step) >= call.probability


class Requests:
    """All attempts of a run on their way."""

    def __init__(self, world: World, attempts: Attempts, lifecycle: Lifecycle, threads: Threads) -> None:
        self._world = world
        self._attempts = attempts
        self._lifecycle = lifecycle
        self._threads = threads
        self._targets = {f"{service}.{name}": i for i, (service, name) in enumerate(world.scenario.operations)}
        self._by_name = {service.name: service for service in world.services}

    def send_root(self, request: int, key: np.uint64, operation: int, priority: int) -> Span:
        """Send a client's request; the client waits for ``answered``."""
        world = self._world
        service = self._by_name[world.scenario.operations[operation][0]]
        span = Span(request, key, 0, service, operation, world.scenario.network)
        span.priority = priority
        self._send(span, world.scenario.workload.timeout_s, world.ledger.system)
        return span

    def _callee(self, call: Call) -> ServiceState:
        return self._by_name[call.to.split(".")[0]]

    def _send(self, span: Span, timeout_s: float, row: int) -> None:
        world, service = self._world, span.service
        replica = self._choose(span)
        world.ledger.log(span.request, span.order, Event.SENT, -1 if replica is None else replica.number)
        world.ledger.count(row, Tally.ATTEMPTS)
        if span.number > 0:
            world.ledger.count(service.index, Tally.RETRIES)
        self._attempts.arm(span, timeout_s)
        if replica is None:
            world.ledger.count(service.index, Tally.FAILED)
            self._attempts.answer_at(span, Status.UNAVAILABLE, world.calendar.now)
        else:
            span.replica = replica
            replica.outstanding += 1
            world.calendar.process(self._visit(span, replica))

    def _choose(self, span: Span) -> Replica | None:
        service = span.service
        eligible = service.eligible()
        if span.lookup >= 0:
            return owner_of(span.lookup, eligible)
        if not eligible:
            return None
        replica = BALANCERS[service.spec.balancer](span, eligible)
        service.last_chosen = replica.number
        return replica

    def _visit(self, span: Span, replica: Replica) -> Waiting:
        """The life of an attempt: over the network, into the queue, through its program, and back."""
        calendar, ledger = self._world.calendar, self._world.ledger
        out_s = self._attempts.latency(span, Purpose.LATENCY_OUT)
        yield calendar.at(calendar.now + out_s, Kind.ARRIVE, span.order, span.number)
        if not replica.serving:
            ledger.log(span.request, span.order, Event.REFUSED, replica.number)
            ledger.count(replica.service.index, Tally.FAILED)
            self._attempts.answer(span, Status.REFUSED)
            return
        span.arrived_s = calendar.now
        ledger.log(span.request, span.order, Event.ARRIVED, replica.number)
        ledger.count(replica.service.index, Tally.ARRIVALS)
        if replica.threads < replica.service.spec.threads:
            replica.threads += 1
            self._admit(span, replica)
        elif self._threads.may_queue(span, replica):
            turn = self._threads.queue(span, replica)
            self._admit(span, replica)
            yield turn
            span.waits = None
        else:
            self._threads.reject(span, replica, Event.REJECTED)
            return
        self._finish(span, replica, (yield from self._serve(span, replica)))

    def _admit(self, span: Span, replica: Replica) -> None:
        replica.take(span)
        self._lifecycle.check_memory(replica)

    def _serve(self, span: Span, replica: Replica) -> Walking:
        self._world.ledger.log(span.request, span.order, Event.STARTED, replica.number)
        ok = replica.effects.ok
        if ok < 1.0 and chance(span.key, Purpose.ERROR) >= ok:
            return Status.ERROR
        return (yield from self._walk(span, replica, self._world.scenario.programs[span.operation]))

    def _finish(self, span: Span, replica: Replica, status: Status) -> None:
        ledger, now = self._world.ledger, self._world.calendar.now
        if status is Status.OK and span.lookup >= 0:
            span.hit, span.poisoned = replica.shard.lookup(span.lookup, now)
            ledger.log(span.request, span.order, Event.HIT if span.hit else Event.MISS, span.lookup)
            ledger.count(replica.service.index, Tally.HITS if span.hit else Tally.MISSES)
        ledger.log(span.request, span.order, Event.FINISHED, status)
        latency_s = now - span.arrived_s
        ledger.ended(latency_s, replica.service.index, status is not Status.OK)
        replica.n_finished += 1
        replica.latency_sum_s += latency_s
        replica.leave(span)
        self._lifecycle.span_finished(replica)
        self._threads.pass_on(replica)
        self._attempts.answer(span, status)

    def _walk(self, span: Span, replica: Replica, steps: tuple[Numbered, ...]) -> Walking:
        """Walk through the steps of a program, or of a part of it."""
        calendar, ledger = self._world.calendar, self._world.ledger
        for step in steps:
            spec = step.spec
            if isinstance(spec, CpuStep):
                demand_s = amount(spec.cpu, span.key, step.step, Purpose.WORK) * warming(replica, calendar.now)
                yield replica.processor.join(demand_s * replica.effects.demand, span.order, span.number)
                ledger.log(span.request, span.order, Event.CPU_DONE, step.step)
            elif isinstance(spec, DelayStep):
                delay_s = amount(spec.delay, span.key, step.step, Purpose.WORK) * replica.effects.delay
                done = span.waits = calendar.at(calendar.now + delay_s, Kind.DELAY, span.order, span.number)
                yield done
                span.waits = None
                ledger.log(span.request, span.order, Event.DELAY_DONE, step.step)
            elif isinstance(spec, CallStep):
                if skipped(spec.call, step, span):
                    continue
                if (yield from self._call(span, replica, step, spec.call)) is None and spec.call.required:
                    return Status.DEPENDENCY
            elif not skipped(spec.cached, step, span):
                status = yield from self._read(span, replica, step, spec)
                if status is not Status.OK:
                    return status
        return Status.OK

    def _read(self, span: Span, replica: Replica, step: Numbered, spec: CachedStep) -> Walking:
        """Read through a cache: look the key up; without an answer run the inner steps and fill it."""
        u = chance(span.key, Purpose.POPULARITY, step.step)
        key = self._world.keys.sites[step.site].pick(u)
        answer = yield from self._call(span, replica, step, spec.cached, key)
        if answer is not None and answer.hit:
            return Status.ERROR if answer.poisoned else Status.OK
        status = yield from self._walk(span, replica, step.inner)
        if status is Status.OK:
            self._fill(span, spec.cached, key)
        return status

    def _fill(self, span: Span, cached: Cached, key: int) -> None:
        world = self._world
        service = self._callee(cached)
        owner = owner_of(key, service.eligible())
        # health checks may keep a replica in rotation that is down
        if owner is not None and owner.serving:
            assert service.spec.cache is not None
            owner.shard.fill(key, world.calendar.now + service.spec.cache.ttl_s)
            world.ledger.log(span.request, span.order, Event.FILLED, key)

    def _call(
        self, span: Span, replica: Replica, step: Numbered, call: Call, lookup: int = -1
    ) -> Generator[SimpyEvent, Any, Span | None]:
        """Call another operation until it succeeds or the retries are used up; return the attempt that succeeded."""
        world = self._world
        service = self._callee(call)
        wait_s = 0.0
        network = world.scenario.network_of(call)
        for number in range(call.retries + 1):
            key = keyed(span.key, child_index(step.site, number))
            if number > 0:
                span.waits = world.calendar.at(world.calendar.now + wait_s, Kind.RETRY, int(key), number)
                yield span.waits
            child = Span(span.request, key, number, service, self._targets[call.to], network)
            child.lookup = lookup
            child.priority = span.priority
            self._send(child, call.timeout_s * replica.effects.timeout, service.index)
            span.waits = child
            status = yield child.answered
            span.waits = None
            if status is Status.OK:
                return child
            if number < call.retries:
                world.ledger.log(child.request, child.order, Event.BACKOFF, number)
                u = chance(child.key, Purpose.JITTER)
                wait_s = backoff(call.backoff_s, call.backoff_limit_s, call.jitter, number, u)
        return None
