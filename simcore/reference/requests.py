"""What happens to an attempt from its sending to its reply, as SimPy processes."""

__all__ = ["Requests"]

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Param, Purpose, Status
from simcore.model.scenario import (
    CachedStep,
    Call,
    CallStep,
    CpuStep,
    DelayStep,
    LockStep,
    Numbered,
    ParallelStep,
)
from simcore.reference.attempts import Attempts, Route, Span, amount, chance
from simcore.reference.cache import owner_of
from simcore.reference.calendar import Entry
from simcore.reference.calls import Join, OneCall
from simcore.reference.gates import Gates
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.locks import Lock
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.windows import Tally

Waiting = Generator[SimpyEvent, Any, None]
Walking = Generator[SimpyEvent, Any, Status]


def choose_round_robin(service: ServiceState, eligible: list[Replica]) -> Replica:
    """Return the next replica after the one chosen last."""
    return next((r for r in eligible if r.number > service.last_chosen), eligible[0])


def choose_least_outstanding(service: ServiceState, eligible: list[Replica]) -> Replica:
    """Return the replica with the fewest unanswered attempts, ties to the lowest number."""
    return min(eligible, key=lambda r: (r.outstanding, r.number))


_BALANCERS = {"round_robin": choose_round_robin, "least_outstanding": choose_least_outstanding}


def skipped(call: Call, step: Numbered, span: Span) -> bool:
    """Return whether a span leaves a call out, by its probability."""
    if call.probability >= 1.0:
        return False
    return chance(span.key, Purpose.CHOICE, step.step) >= call.probability


class Requests:
    """All attempts of a run on their way."""

    def __init__(self, world: World, attempts: Attempts, lifecycle: Lifecycle) -> None:
        self._world = world
        self._attempts = attempts
        self._lifecycle = lifecycle
        self._gates = Gates(world, attempts, self._send)
        self._entries = [self._route(operation) for operation in range(len(world.scenario.operations))]
        targets = {f"{service}.{name}": i for i, (service, name) in enumerate(world.scenario.operations)}
        calls = map(world.scenario.call_of, range(len(world.scenario.sites)))
        self._sites = [self._route(targets[call.to], site, call) for site, call in enumerate(calls)]

    def send_root(self, request: int, key: np.uint64, operation: int) -> Span:
        """Send a client's request; the client waits for ``answered``."""
        calendar, patience_s = self._world.calendar, self._world.scenario.workload.deadline_s
        deadline_s = math.inf if patience_s is None else calendar.now + patience_s
        span = Span(request, key, 0, self._entries[operation], deadline_s, calendar.event())
        self._send(span)
        return span

    def _route(self, operation: int, site: int = -1, call: Call | None = None) -> Route:
        scenario = self._world.scenario
        names = scenario.service_names
        service, program = scenario.operations[operation]
        cancellable = scenario.services[service].operations[program].cancellable
        caller = -1 if call is None else names.index(scenario.operations[scenario.sites[site].operation][0])
        network = scenario.network if call is None else scenario.network_of(call)
        return Route(site, caller, call, self._world.services[names.index(service)], operation, network, cancellable)

    def _send(self, span: Span) -> None:
        world, service = self._world, span.service
        replica = self._choose(span)
        span.sent = True
        world.ledger.log(span.request, span.order, Event.SENT, -1 if replica is None else replica.number)
        world.ledger.count(world.ledger.system if span.caller is None else service.index, Tally.ATTEMPTS)
        if span.number > 0:
            world.ledger.count(service.index, Tally.RETRIES)
        self._attempts.arm(span, self._timeout(span))
        if replica is None:
            world.ledger.count(service.index, Tally.FAILED)
            self._attempts.answer_at(span, Status.UNAVAILABLE, world.calendar.now)
        else:
            span.replica = replica
            replica.outstanding += 1
            self._depart(span, replica)

    def _timeout(self, span: Span) -> float:
        """Return how long the caller will wait for an attempt that it sends now."""
        call = span.route.call
        if call is None or span.caller is None:
            return self._world.scenario.workload.timeout_s
        return call.timeout_s * span.caller.effects.timeout

    def _depart(self, span: Span, replica: Replica) -> None:
        """Let an attempt set out for its replica, unless its message is lost."""
        if self._attempts.loses(span, Param.LOSS_OUT, Purpose.LOSS_OUT):
            return
        calendar = self._world.calendar
        arrive_s = calendar.now + self._attempts.latency(span, Purpose.LATENCY_OUT)
        span.at_work = True
        if span.route.cancellable:
            span.stop = partial(self._stop, span, replica)
        arrival = span.waits = calendar.at(arrive_s, Kind.ARRIVE, span.order, span.number)
        calendar.process(self._visit(span, replica, arrival))

    def _choose(self, span: Span) -> Replica | None:
        service = span.service
        eligible = service.eligible()
        if span.lookup >= 0:
            return owner_of(span.lookup, eligible)
        if not eligible:
            return None
        replica = _BALANCERS[service.spec.balancer](service, eligible)
        service.last_chosen = replica.number
        return replica

    def _visit(self, span: Span, replica: Replica, arrival: Entry) -> Waiting:
        """The life of an attempt: over the network, into the queue, through its program, and back."""
        calendar, ledger = self._world.calendar, self._world.ledger
        yield arrival
        span.waits = None
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
        elif len(replica.queue) < replica.service.spec.queue:
            turn = span.waits = Entry(calendar)
            replica.queue.append(span)
            replica.refresh_queue()
            self._admit(span, replica)
            yield turn
            span.waits = None
        else:
            ledger.log(span.request, span.order, Event.REJECTED, replica.number)
            ledger.count(replica.service.index, Tally.REJECTED)
            self._attempts.answer(span, Status.REJECTED)
            return
        self._finish(span, replica, (yield from self._serve(span, replica)))

    def _admit(self, span: Span, replica: Replica) -> None:
        replica.take(span)
        self._lifecycle.check_memory(replica)

    def _serve(self, span: Span, replica: Replica) -> Walking:
        self._world.ledger.log(span.request, span.order, Event.STARTED, replica.number)
        if self._world.calendar.now >= span.deadline_s:
            return Status.DEADLINE
        ok = replica.effects.ok
        if ok < 1.0 and chance(span.key, Purpose.ERROR) >= ok:
            return Status.ERROR
        return (yield from self._walk(span, replica, self._world.scenario.programs[span.route.operation]))

    def _finish(self, span: Span, replica: Replica, status: Status) -> None:
        calendar, ledger = self._world.calendar, self._world.ledger
        now = calendar.now
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
        replica.leaked_bytes += replica.effects.leak
        self._lifecycle.check_memory(replica)
        span.unlock()
        self._pass_on(replica)
        self._attempts.answer(span, status)

    def _pass_on(self, replica: Replica) -> None:
        """Hand a thread to the head of the queue, or free it."""
        if replica.queue:
            head = replica.queue.popleft()
            replica.refresh_queue()
            assert isinstance(head.waits, Entry)
            self._world.calendar.enter(head.waits, self._world.calendar.now, Kind.GRANT, head.order, head.number)
        else:
            replica.threads -= 1

    def _stop(self, span: Span, replica: Replica, _: SimpyEvent) -> None:
        """Cancel an attempt that nobody waits for any more, wherever it is."""
        if not span.at_work:
            return
        self._world.ledger.log(span.request, span.order, Event.CANCELLED, replica.number)
        span.halt()
        if span.order not in replica.spans:
            return
        self._world.ledger.count(replica.service.index, Tally.FAILED)
        replica.leave(span)
        if span in replica.queue:
            replica.queue.remove(span)
            replica.refresh_queue()
        else:
            self._pass_on(replica)

    def _walk(self, span: Span, replica: Replica, steps: tuple[Numbered, ...]) -> Walking:
        """Walk through the steps of a program, or of a part of it, until one fails."""
        for step in steps:
            spec = step.spec
            status = Status.OK
            if isinstance(spec, CpuStep):
                yield from self._compute(span, replica, step, spec)
            elif isinstance(spec, DelayStep):
                yield from self._pause(span, replica, step, spec)
            elif isinstance(spec, CallStep):
                if not skipped(spec.call, step, span):
                    winner = yield from self._wait(span, self._call(span, step))
                    status = Status.DEPENDENCY if winner is None and spec.call.required else Status.OK
            elif isinstance(spec, CachedStep):
                if not skipped(spec.cached, step, span):
                    status = yield from self._read(span, replica, step, spec)
            elif isinstance(spec, LockStep):
                status = yield from self._exclude(span, replica, step, spec)
            else:
                status = yield from self._fan_out(span, step, spec)
            if status is not Status.OK:
                return status
        return Status.OK

    def _compute(self, span: Span, replica: Replica, step: Numbered, spec: CpuStep) -> Waiting:
        demand_s = amount(spec.cpu, span.key, step.step, Purpose.WORK) * replica.effects.demand
        if span.lock is not None:
            demand_s = demand_s * replica.effects.hold
        job = span.waits = replica.processor.join(demand_s, span.order, span.number)
        yield job
        span.waits = None
        self._world.ledger.log(span.request, span.order, Event.CPU_DONE, step.step)

    def _pause(self, span: Span, replica: Replica, step: Numbered, spec: DelayStep) -> Waiting:
        calendar = self._world.calendar
        delay_s = amount(spec.delay, span.key, step.step, Purpose.WORK) * replica.effects.delay
        if span.lock is not None:
            delay_s = delay_s * replica.effects.hold
        done = span.waits = calendar.at(calendar.now + delay_s, Kind.DELAY, span.order, span.number)
        yield done
        span.waits = None
        self._world.ledger.log(span.request, span.order, Event.DELAY_DONE, step.step)

    def _exclude(self, span: Span, replica: Replica, step: Numbered, spec: LockStep) -> Walking:
        """Walk through the steps of a serial section, alone; a span that fails in it keeps the lock to its end."""
        ledger = self._world.ledger
        lock = replica.service.locks.setdefault(spec.lock.name, Lock(self._world.calendar))
        if not lock.take(span):
            ledger.log(span.request, span.order, Event.BLOCKED, step.step)
            turn = span.waits = lock.join(span)
            yield turn
            span.waits = None
        ledger.log(span.request, span.order, Event.LOCKED, step.step)
        status = yield from self._walk(span, replica, step.inner)
        if status is Status.OK:
            span.unlock()
        return status

    def _fan_out(self, span: Span, step: Numbered, spec: ParallelStep) -> Walking:
        """Make several calls at once and join them."""
        branches = zip(step.inner, spec.parallel.branches, strict=True)
        calls = [self._call(span, branch) for branch, call in branches if not skipped(call, branch, span)]
        if not calls:
            return Status.OK
        succeeded = yield from self._wait(span, Join(self._world.calendar, calls, spec.parallel.fail_fast))
        return Status.OK if succeeded else Status.DEPENDENCY

    def _read(self, span: Span, replica: Replica, step: Numbered, spec: CachedStep) -> Walking:
        """Read through a cache: look the key up; without an answer run the inner steps and fill it."""
        u = chance(span.key, Purpose.POPULARITY, step.step)
        key = self._world.keys.sites[step.site].pick(u)
        answer = yield from self._wait(span, self._call(span, step, key))
        if answer is not None and answer.hit:
            return Status.ERROR if answer.poisoned else Status.OK
        status = yield from self._walk(span, replica, step.inner)
        if status is Status.OK:
            self._fill(span, self._sites[step.site].service, key)
        return status

    def _fill(self, span: Span, service: ServiceState, key: int) -> None:
        world = self._world
        owner = owner_of(key, service.eligible())
        if owner is not None:
            assert service.spec.cache is not None
            owner.shard.fill(key, world.calendar.now + service.spec.cache.ttl_s)
            world.ledger.log(span.request, span.order, Event.FILLED, key)

    def _call(self, span: Span, step: Numbered, lookup: int = -1) -> OneCall:
        """Begin a call."""
        call = OneCall(self._world, self._attempts, self._gates, self._sites[step.site], span, lookup)
        call.begin()
        return call

    @staticmethod
    def _wait(span: Span, calls: OneCall | Join) -> Generator[SimpyEvent, Any, Any]:
        """Wait for what a span calls; return the value of its end."""
        span.waits = calls
        value = yield calls.done
        span.waits = None
        return value
