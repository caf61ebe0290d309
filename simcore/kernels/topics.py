"""Topics of one run: messages wait in partitions, the head of each is delivered to the consumer until it is done.

A message has a small record of its own for as long as it is on its partition; its delivery, or the redelivery that is
due, is a span whose caller is the partition.
"""

import numpy as np

from simcore.codes import BORDER, Event, Kind, Purpose, Status
from simcore.jit import njit
from simcore.kernels.balancers import count_eligible, eligible
from simcore.kernels.calendar import arm, enter
from simcore.kernels.spans import BACK, OUT, TOPICS, UNSENT, allocate, note
from simcore.layout import (
    Need,
    fleet_at,
    gate_at,
    message_at,
    partition_at,
    replica_at,
    site_at,
    span_at,
    step_at,
    tally_at,
    topic_at,
)
from simcore.samplers import backoff, draw, integrate
from simcore.streams import child_index, draw_index, mix, uniform

_PUBLISHED, _OVERFLOW, _SENT = np.int64(Event.PUBLISHED), np.int64(Event.OVERFLOW), np.int64(Event.SENT)
_BACKOFF, _GAVE_UP = np.int64(Event.BACKOFF), np.int64(Event.GAVE_UP)
_OK, _UNAVAILABLE = np.int64(Status.OK), np.int64(Status.UNAVAILABLE)
_ARRIVE, _REPLY, _RETRY = np.int64(Kind.ARRIVE), np.int64(Kind.REPLY), np.int64(Kind.RETRY)
_CHOICE, _BALANCER = np.int64(Purpose.CHOICE), np.int64(Purpose.BALANCER)
_OUT, _JITTER = np.int64(Purpose.LATENCY_OUT), np.int64(Purpose.JITTER)
_MESSAGES = np.int64(Need.MESSAGES)

#: The first delivery of a message.
FIRST = np.int64(0)
_ONE, _MINUS_ONE = np.int64(1), np.int64(-1)


@njit(internal=True)
def key_of(message, attempt):  # type: ignore[no-untyped-def]
    """Return the span key of a delivery; that of the first is the message's."""
    return mix(message.key, child_index(np.int64(message.site), attempt))


@njit(internal=True)
def _set_lag(lane, service, more, now):  # type: ignore[no-untyped-def]
    fleet = fleet_at(lane, service)
    fleet.lag_acc = integrate(fleet.lag_acc, np.float64(fleet.lag), fleet.lag_since, now)
    fleet.lag += more
    fleet.lag_since = now


@njit(internal=True)
def _new_delivery(plan, lane, number, attempt):  # type: ignore[no-untyped-def]
    """Return a new delivery of the head of a partition."""
    s = allocate(lane)
    span = span_at(lane, s)
    part = partition_at(lane, number)
    head = message_at(lane, part.head)
    site = np.int64(head.site)
    span.key = key_of(head, attempt)
    span.request = head.request
    span.priority = np.int64(head.priority)
    span.parent = TOPICS - number
    span.site = site
    span.attempt = attempt
    span.service = site_at(plan, site).service
    span.pc = plan.pill if head.pill else site_at(plan, site).first
    span.deadline = np.inf
    part.delivery = s
    return s


@njit(internal=True)
def deliver(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Send a delivery to the replica to which its partition falls."""
    span = span_at(lane, s)
    call, topic = site_at(plan, span.site), topic_at(plan, gate_at(plan, span.site).topic)
    n = count_eligible(lane, span.service)
    at = eligible(lane, span.service, (TOPICS - span.parent - topic.first) % n) if n > 0 else _MINUS_ONE
    note(lane, now, span.request, span.key, _SENT, at)
    tally = tally_at(lane, span.service)
    tally.attempts += 1
    if span.attempt > 0:
        tally.retries += 1
    span.replica = at
    span.sent = now
    arm(lane, call.ring, s, now + call.timeout_s)
    if at < 0:
        tally.failed += 1
        span.status = _UNAVAILABLE
        span.state = BACK
        enter(lane, now, _REPLY, span.key, s)
        return
    replica = replica_at(lane, at)
    replica.outstanding += 1
    span.state = OUT
    out = draw(call.net_dist, call.net_mean, call.net_shape, span.key, BORDER, _OUT) * replica.network
    enter(lane, now + out, _ARRIVE, span.key, s)


@njit(internal=True)
def _join(lane, s, site, part):  # type: ignore[no-untyped-def]
    """Put a message that a span publishes at the end of a partition's line."""
    m = lane.free_message
    if m < 0:
        m = lane.used_messages
        lane.used_messages += 1
    else:
        lane.free_message = np.int64(message_at(lane, m).next)
    lane.n_messages += 1
    if lane.n_messages + lane.message_room > lane.message_cap:
        lane.need |= _MESSAGES
    message, span = message_at(lane, m), span_at(lane, s)
    message.key = span.key
    message.request = span.request
    message.site = site
    message.priority = span.priority
    message.pill = part.armed
    message.next = -1
    part.armed = 0
    if part.tail < 0:
        part.head = m
    else:
        message_at(lane, part.tail).next = m
    part.tail = m
    part.n += 1


@njit(internal=True)
def publish(plan, lane, s, now):  # type: ignore[no-untyped-def]
    """Publish what the present step of a span says, with its probability; returns whether the span may go on."""
    span = span_at(lane, s)
    step = step_at(plan, span.pc)
    call, gate = site_at(plan, step.site), gate_at(plan, step.site)
    if call.probability < 1.0 and uniform(span.key, draw_index(step.number, _CHOICE)) >= call.probability:
        return True
    topic = topic_at(plan, gate.topic)
    key = mix(span.key, child_index(step.site, FIRST))
    u = uniform(key, draw_index(BORDER, _BALANCER))
    number = topic.first + min(topic.partitions - 1, np.int64(u * np.float64(topic.partitions)))
    part = partition_at(lane, number)
    if part.n >= topic.limit:
        note(lane, now, span.request, key, _OVERFLOW, number)
        tally_at(lane, gate.caller).denied += 1
        return call.required == 0
    note(lane, now, span.request, key, _PUBLISHED, number)
    _join(lane, s, step.site, part)
    _set_lag(lane, topic.service, _ONE, now)
    if part.n == 1:
        deliver(plan, lane, _new_delivery(plan, lane, number, FIRST), now)
    return True


@njit(internal=True)
def done(plan, lane, number, now):  # type: ignore[no-untyped-def]
    """The head of a partition, under way no longer, leaves it; the next one is delivered."""
    part = partition_at(lane, number)
    m = part.head
    message = message_at(lane, m)
    _set_lag(lane, site_at(plan, np.int64(message.site)).service, _MINUS_ONE, now)
    part.n -= 1
    part.head = np.int64(message.next)
    message.next = lane.free_message
    lane.free_message = m
    lane.n_messages -= 1
    if part.n > 0:
        deliver(plan, lane, _new_delivery(plan, lane, number, FIRST), now)
    else:
        part.tail = -1
        part.delivery = -1


@njit(internal=True)
def settle(plan, lane, caller, site, attempt, key, status, now):  # type: ignore[no-untyped-def]
    """A delivery has ended, and its record is the partition's no longer: the message is done, or delivered again."""
    number = TOPICS - caller
    call = site_at(plan, site)
    request = message_at(lane, partition_at(lane, number).head).request
    if status == _OK:
        done(plan, lane, number, now)
    elif attempt < call.retries:
        note(lane, now, request, key, _BACKOFF, attempt)
        u = uniform(key, draw_index(BORDER, _JITTER))
        again = _new_delivery(plan, lane, number, attempt + 1)
        span_at(lane, again).state = UNSENT
        wait = backoff(call.backoff_s, call.backoff_limit_s, call.jitter, attempt, u)
        enter(lane, now + wait, _RETRY, span_at(lane, again).key, again)
    else:
        note(lane, now, request, key, _GAVE_UP, attempt)
        done(plan, lane, number, now)


@njit(internal=True)
def arm_pills(plan, lane, service, key, share):  # type: ignore[no-untyped-def]
    """Let the next message on each of a service's partitions be a pill, if the keyed uniform is below ``share``."""
    for i in range(plan.n_topics):
        topic = topic_at(plan, i)
        if topic.service == service:
            for number in range(topic.first, topic.first + topic.partitions):
                if uniform(key, np.uint64(number)) < share:
                    partition_at(lane, number).armed = 1
