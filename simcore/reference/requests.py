"""What happens to an attempt from its sending to its reply, as SimPy processes."""

__all__ = ["Requests"]

import math
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Param, Purpose, Status
from simcore.model.programs import Numbered, PublishStep
from simcore.reference.attempts import NOBODY, Attempts, Route, Span, chance
from simcore.reference.balancers import BALANCERS
from simcore.reference.calendar import Entry, Signal, Walk
from simcore.reference.gates import Gates
from simcore.reference.lifecycle import Lifecycle
from simcore.reference.programs import Programs
from simcore.reference.replica import Replica
from simcore.reference.threads import Threads
from simcore.reference.topics import Topics
from simcore.reference.world import World
from simcore.windows import Tally


class Requests:
    """All attempts of a run on their way."""

    def __init__(self, world: World, attempts: Attempts, lifecycle: Lifecycle, threads: Threads) -> None:
        self._world = world
        self._attempts = attempts
        self._lifecycle = lifecycle
        self._threads = threads
        self._entries = [self._route(operation) for operation in range(len(world.scenario.operations))]
        self.topics = Topics(world, attempts, self._send)
        sites = [self._route_of(step) for step in world.scenario.sites]
        self._programs = Programs(world, attempts, Gates(world, attempts, self._send), self.topics, sites)

    def send_root(self, request: int, key: np.uint64, operation: int, priority: int) -> Span:
        """Send a client's request; the client waits for ``answered``."""
        calendar, patience_s = self._world.calendar, self._world.scenario.workload.deadline_s
        deadline_s = math.inf if patience_s is None else calendar.now + patience_s
        span = Span(request, key, 0, self._entries[operation], deadline_s, priority, Signal(calendar))
        self._send(span)
        return span

    def _route(self, operation: int) -> Route:
        """Return the way of the clients to an operation."""
        scenario = self._world.scenario
        name, program = scenario.operations[operation]
        service = self._world.services[scenario.service_names.index(name)]
        cancellable = scenario.services[name].operations[program].cancellable
        return Route(-1, -1, None, service, operation, scenario.network, cancellable)

    def _route_of(self, step: Numbered) -> Route:
        """Return the way from a call site to its callee, or from its topic to the consumer."""
        scenario = self._world.scenario
        name, _, program = scenario.callee_of(step.site).partition(".")
        way = replace(self._route(scenario.operations.index((name, program))), site=step.site)
        if isinstance(step.spec, PublishStep):
            return replace(way, caller=NOBODY, topic=scenario.topics[step.spec.publish.topic])
        call = scenario.call_of(step.site)
        caller = scenario.service_names.index(scenario.operations[step.operation][0])
        return replace(way, caller=caller, call=call, network=scenario.network_of(call))

    def _send(self, span: Span) -> None:
        world, service = self._world, span.service
        replica = self._choose(span)
        span.sent = True
        world.ledger.log(span.request, span.order, Event.SENT, -1 if replica is None else replica.number)
        world.ledger.count(world.ledger.system if span.route.site < 0 else service.index, Tally.ATTEMPTS)
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
        call, topic = span.route.call, span.route.topic
        if topic is not None:
            return topic.timeout_s
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
        Walk(calendar, self._visit(span, replica, arrival))

    def _choose(self, span: Span) -> Replica | None:
        service = span.service
        eligible = service.eligible()
        if not eligible:
            return None
        if span.route.topic is not None:
            return eligible[span.partition % len(eligible)]
        if span.lookup >= 0:
            owners = self._world.keys.sites[span.route.site].owners(span.lookup, eligible)
            return owners[min(len(owners) - 1, int(chance(span.key, Purpose.BALANCER) * len(owners)))]
        replica = BALANCERS[service.spec.balancer](span, eligible)
        service.last_chosen = replica.number
        return replica

    def _visit(self, span: Span, replica: Replica, arrival: Entry) -> Generator[SimpyEvent, Any, None]:
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
        elif self._threads.may_queue(span, replica):
            turn = self._threads.queue(span, replica)
            self._admit(span, replica)
            yield turn
            span.waits = None
        else:
            self._threads.reject(span, replica, Event.REJECTED)
            return
        status = self._start(span, replica)
        if status is Status.OK:
            status = yield from self._programs.walk(span, replica)
        self._finish(span, replica, status)

    def _admit(self, span: Span, replica: Replica) -> None:
        replica.take(span)
        self._lifecycle.check_memory(replica)

    def _start(self, span: Span, replica: Replica) -> Status:
        """Account for a span that has its thread; return whether it fails at once by itself."""
        self._world.ledger.log(span.request, span.order, Event.STARTED, replica.number)
        if self._world.calendar.now >= span.deadline_s:
            return Status.DEADLINE
        if span.pill:
            return Status.ERROR
        ok = replica.effects.ok
        if ok < 1.0 and chance(span.key, Purpose.ERROR) >= ok:
            return Status.ERROR
        return Status.OK

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
        span.unlock()
        self._threads.pass_on(replica)
        self._attempts.answer(span, status)

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
            replica.queue.leave(span)
            replica.refresh_queue()
        else:
            self._threads.pass_on(replica)
