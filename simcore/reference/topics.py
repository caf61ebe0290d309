"""Topics: partitions full of messages, delivered to their consumer one after the other."""

__all__ = ["Topics"]

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from simpy.events import Event as SimpyEvent

from simcore.codes import Event, Kind, Purpose, Status
from simcore.model.programs import Numbered, PublishStep, Topic
from simcore.reference.attempts import Attempts, Route, Span, chance
from simcore.reference.cache import POISON_INDEX
from simcore.reference.calendar import Entry
from simcore.reference.ledger import Level
from simcore.reference.replica import Replica, ServiceState
from simcore.reference.world import World
from simcore.samplers import backoff
from simcore.streams import child_index, keyed, uniform
from simcore.windows import Tally


@dataclass(frozen=True, slots=True)
class Message:
    """What a span has published; it belongs to the span's request."""

    request: int
    parent: np.uint64  #: key of the span
    route: Route
    priority: int
    pill: bool  #: it fails whoever consumes it

    def key(self, delivery: int) -> np.uint64:
        """Return the key of a delivery; that of the first one names the message."""
        return keyed(self.parent, child_index(self.route.site, delivery))

    @property
    def name(self) -> int:
        """The message's key, for the log."""
        return int(self.key(0))


class Partition:
    """A line of messages, the head of which is being delivered, or waits to be delivered again."""

    def __init__(self, number: int, rank: int, topic: Topic, service: ServiceState) -> None:
        self.number = number  #: among those of all topics
        self.rank = rank  #: among those of its topic
        self.topic = topic
        self.service = service  #: the consumer
        self.line: deque[Message] = deque()
        self.armed = False  #: the next message will be a pill
        self.attempt = 0  #: the delivery of the head that is under way, or due
        self.delivery: Span | None = None
        self.retry: Entry | None = None

    @property
    def stuck(self) -> bool:
        """Whether its head has failed before."""
        return self.attempt > 0


class Topics:
    """All topics of a run.

    Parameters
    ----------
    world, attempts
        The run.
    send
        Called with a delivery that sets out.
    """

    def __init__(self, world: World, attempts: Attempts, send: Callable[[Span], None]) -> None:
        self._world = world
        self._attempts = attempts
        self._send = send
        self.lag = [Level(world.calendar.now) for _ in world.services]  #: (service,) messages that it has to consume
        self._by_topic = dict(self._partitions())

    def publish(self, span: Span, replica: Replica, step: Numbered, spec: PublishStep, route: Route) -> Status:
        """Put a message of a span into a partition; return how the span's step has ended, at once."""
        publish, ledger = spec.publish, self._world.ledger
        if publish.probability < 1.0 and chance(span.key, Purpose.CHOICE, step.step) >= publish.probability:
            return Status.OK
        partitions = self._by_topic[publish.topic]
        key = keyed(span.key, child_index(route.site, 0))
        at = min(len(partitions) - 1, int(chance(key, Purpose.BALANCER) * len(partitions)))
        partition = partitions[at]
        if len(partition.line) >= partition.topic.limit:
            ledger.log(span.request, int(key), Event.OVERFLOW, partition.number)
            ledger.count(replica.service.index, Tally.DENIED)
            return Status.DEPENDENCY if publish.required else Status.OK
        ledger.log(span.request, int(key), Event.PUBLISHED, partition.number)
        partition.line.append(Message(span.request, span.key, route, span.priority, partition.armed))
        partition.armed = False
        self._changed(partition, 1)
        if len(partition.line) == 1:
            self._deliver(partition)
        return Status.OK

    def arm(self, service: ServiceState, modulation: int, share: float) -> None:
        """Let the next message of a keyed share of the partitions that a service consumes be a pill."""
        base = keyed(self._world.key, POISON_INDEX + modulation)
        for partition in self._of(service):
            if uniform(base, np.uint64(partition.number)) < share:
                partition.armed = True

    def skip(self, service: ServiceState) -> None:
        """Throw out the messages that a service has failed to consume so far."""
        for partition in self._of(service):
            if not partition.stuck:
                continue
            head = partition.line[0]
            self._world.ledger.log(head.request, head.name, Event.SKIPPED, partition.number)
            if partition.delivery is not None:
                self._attempts.abandon(partition.delivery)
            if partition.retry is not None:
                partition.retry.cancel()
            self._done(partition)

    def _partitions(self) -> Iterator[tuple[str, Sequence[Partition]]]:
        """Yield (topic, its partitions), numbered through all topics."""
        scenario, number = self._world.scenario, 0
        for name, topic in scenario.topics.items():
            service = self._world.services[scenario.service_names.index(topic.to.partition(".")[0])]
            yield name, [Partition(number + rank, rank, topic, service) for rank in range(topic.partitions)]
            number += topic.partitions

    def _of(self, service: ServiceState) -> Iterator[Partition]:
        for partitions in self._by_topic.values():
            yield from (partition for partition in partitions if partition.service is service)

    def _changed(self, partition: Partition, by: int) -> None:
        """Account for a message that has come or gone."""
        level = self.lag[partition.service.index]
        level.set(level.value + by, self._world.calendar.now)

    def _deliver(self, partition: Partition, *_: SimpyEvent) -> None:
        """Send the head of a partition, for the first time or again."""
        head, number = partition.line[0], partition.attempt
        partition.retry = None
        answered = self._world.calendar.event()
        span = Span(head.request, head.key(number), number, head.route, np.inf, head.priority, answered)
        span.partition, span.pill = partition.rank, head.pill
        answered.callbacks.append(partial(self._settled, partition, span))
        partition.delivery = span
        self._send(span)

    def _settled(self, partition: Partition, span: Span, answered: SimpyEvent) -> None:
        """Go on after a delivery: with the next message, or with this one after a while."""
        calendar, ledger, topic = self._world.calendar, self._world.ledger, partition.topic
        partition.delivery = None
        number = partition.attempt
        if answered.value is Status.OK:
            self._done(partition)
        elif number < topic.redeliveries:
            ledger.log(span.request, span.order, Event.BACKOFF, number)
            u = chance(span.key, Purpose.JITTER)
            retry_s = calendar.now + backoff(topic.backoff_s, topic.backoff_limit_s, topic.jitter, number, u)
            partition.attempt += 1
            order = int(partition.line[0].key(partition.attempt))
            then = partial(self._deliver, partition)
            partition.retry = calendar.at(retry_s, Kind.RETRY, order, partition.attempt, then)
        else:
            ledger.log(span.request, span.order, Event.GAVE_UP, number)
            self._done(partition)

    def _done(self, partition: Partition) -> None:
        """Let the head leave a partition, whatever has come of it, and deliver the next one."""
        partition.line.popleft()
        partition.attempt, partition.delivery, partition.retry = 0, None, None
        self._changed(partition, -1)
        if partition.line:
            self._deliver(partition)
