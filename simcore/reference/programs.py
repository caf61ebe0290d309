"""The programs that spans walk through, as SimPy processes: one method per kind of step."""

__all__ = ["Programs", "Walking"]

from collections.abc import Generator, Sequence
from typing import Any

from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Param, Purpose, Status
from simcore.model.programs import CachedStep, Call, CallStep, CpuStep, DelayStep, LockStep, Numbered, ParallelStep
from simcore.reference.attempts import Attempts, Route, Span, amount, chance
from simcore.reference.calls import Join, OneCall
from simcore.reference.effects import warming
from simcore.reference.flights import Flight
from simcore.reference.gates import Gates
from simcore.reference.locks import Lock
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.topics import Topics
from simcore.reference.world import World

Waiting = Generator[SimpyEvent, Any, None]
Walking = Generator[SimpyEvent, Any, Status]


def left_out(call: Call, step: Numbered, span: Span, replica: Replica) -> bool:
    """Return whether a span does without a call: its service is degraded, or the call's probability says so."""
    if replica.service.degraded and not call.required:
        return True
    return skipped(call, step, span)


def skipped(call: Call, step: Numbered, span: Span) -> bool:
    """Return whether a span leaves a step out by the probability of its call."""
    if call.probability >= 1.0:
        return False
    return chance(span.key, Purpose.CHOICE, step.step) >= call.probability


class Programs:
    """The programs of all operations of a run.

    Parameters
    ----------
    world, attempts, gates, topics
        The run.
    sites
        Where the calls and the messages go, by call site.
    """

    def __init__(self, world: World, attempts: Attempts, gates: Gates, topics: Topics, sites: Sequence[Route]) -> None:
        self._world = world
        self._attempts = attempts
        self._gates = gates
        self._topics = topics
        self._sites = sites
        self._programs = world.scenario.programs

    def walk(self, span: Span, replica: Replica) -> Walking:
        """Walk through the program of a span's operation."""
        return self._steps(span, replica, self._programs[span.route.operation])

    def _steps(self, span: Span, replica: Replica, steps: tuple[Numbered, ...]) -> Walking:
        """Walk through the steps of a program, or of a part of it, until one fails."""
        for step in steps:
            spec = step.spec
            status = Status.OK
            if isinstance(spec, CpuStep):
                yield from self._compute(span, replica, step, spec)
            elif isinstance(spec, DelayStep):
                yield from self._pause(span, replica, step, spec)
            elif isinstance(spec, CallStep):
                if not left_out(spec.call, step, span, replica):
                    winner = yield from self._wait(span, self._call(span, step))
                    status = Status.DEPENDENCY if winner is None and spec.call.required else Status.OK
            elif isinstance(spec, CachedStep):
                if not skipped(spec.cached, step, span):
                    status = yield from self._read(span, replica, step, spec)
            elif isinstance(spec, LockStep):
                status = yield from self._exclude(span, replica, step, spec)
            elif isinstance(spec, ParallelStep):
                status = yield from self._fan_out(span, replica, step, spec)
            else:
                status = self._topics.publish(span, replica, step, spec, self._sites[step.site])
            if status is not Status.OK:
                return status
        return Status.OK

    def _compute(self, span: Span, replica: Replica, step: Numbered, spec: CpuStep) -> Waiting:
        demand_s = amount(spec.cpu, span.key, step.step, Purpose.WORK) * warming(replica, self._world.calendar.now)
        demand_s = demand_s * replica.effects.demand
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
        status = yield from self._steps(span, replica, step.inner)
        if status is Status.OK:
            span.unlock()
        return status

    def _fan_out(self, span: Span, replica: Replica, step: Numbered, spec: ParallelStep) -> Walking:
        """Make several calls at once and join them."""
        branches = zip(step.inner, spec.parallel.branches, strict=True)
        calls = [self._call(span, branch) for branch, call in branches if not left_out(call, branch, span, replica)]
        if not calls:
            return Status.OK
        succeeded = yield from self._wait(span, Join(self._world.calendar, calls, spec.parallel.fail_fast))
        return Status.OK if succeeded else Status.DEPENDENCY

    def _read(self, span: Span, replica: Replica, step: Numbered, spec: CachedStep) -> Walking:
        """Read through a cache: look the key up; without an answer run the inner steps and fill it."""
        key = self._key(span, step)
        answer = yield from self._wait(span, self._call(span, step, key))
        if answer is not None and answer.hit:
            return Status.ERROR if answer.poisoned else Status.OK
        if spec.cached.coalesce:
            return (yield from self._fetch_once(span, replica, step, key))
        return (yield from self._fetch(span, replica, step, key))

    def _fetch(self, span: Span, replica: Replica, step: Numbered, key: int) -> Walking:
        """Walk through the inner steps of a read, and fill the cache."""
        status = yield from self._steps(span, replica, step.inner)
        if status is Status.OK:
            self._fill(span, step, key)
        return status

    def _fetch_once(self, span: Span, replica: Replica, step: Numbered, key: int) -> Walking:
        """Do the work of a read, unless another span of the replica is at it: then wait for that one."""
        flight = replica.flights.get((step.site, key))
        if flight is not None:
            self._world.ledger.log(span.request, span.order, Event.JOINED, key)
            end = span.waits = flight.join(span)
            yield end
            span.waits = None
            return Status.OK if flight.succeeded else Status.DEPENDENCY
        flight = Flight(self._world.calendar, replica.flights, (step.site, key))
        span.leads.append(flight)
        status = yield from self._fetch(span, replica, step, key)
        span.leads.remove(flight)
        flight.land(succeeded=status is Status.OK)
        return status

    def _key(self, span: Span, step: Numbered) -> int:
        """Return the cache key that a step looks up: by popularity, or the one that everybody suddenly wants."""
        keys = self._world.keys.sites[step.site]
        p = self._hot_share(self._sites[step.site].service)
        if p > 0.0 and chance(span.key, Purpose.POPULARITY, step.step, 1) < p:
            return keys.offset
        return keys.pick(chance(span.key, Purpose.POPULARITY, step.step))

    def _hot_share(self, service: ServiceState) -> float:
        """Return the share of the lookups of a cache that faults direct to the most popular key."""
        share = 0.0
        for influence in self._world.influences:
            target = influence.modulation
            active = influence.begun and not influence.over
            if active and target.param is Param.HOT_KEY and target.service == service.index:
                share = share + influence.value
        return min(1.0, share)

    def _fill(self, span: Span, step: Numbered, key: int) -> None:
        """Write what a span has read into the replicas that the key lives on."""
        service, keys = self._sites[step.site].service, self._world.keys.sites[step.site]
        assert service.spec.cache is not None
        ttl_s = service.spec.cache.ttl_s if keys.has(key) else service.spec.cache.negative_ttl_s
        if ttl_s is None:
            return
        for owner in keys.owners(key, service.eligible()):
            # health checks may keep a replica in rotation that is down
            if owner.serving:
                owner.shard.fill(key, self._world.calendar.now + ttl_s)
                self._world.ledger.log(span.request, span.order, Event.FILLED, key)

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
