"""How messages are delivered: order, redelivery, poison, full partitions, lag, consumers that come and go; by hand."""

from typing import Any

import numpy as np
import pytest

from simcore.codes import BORDER, ActionCode, Event, Param, Place, Purpose, Status
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.model.scenario import Scenario
from simcore.reference.session import ReferenceSession
from simcore.streams import child_index, draw_index, keyed, run_key, uniform
from simcore.windows import Metric
from tests.test_reference import only, opened, scenario, service, told

#: One arrival, at 1 s; or two, at 0.25 and 0.5; or four, at 0.25, 0.5, 0.75 and 1.
ONE: dict[str, Any] = {"shape": "step", "factor": 0.0, "from_s": 1.125}
FOUR: dict[str, Any] = ONE | {"rate_rps": 4.0}
TWO: dict[str, Any] = FOUR | {"from_s": 0.625}

WEB, SINK = 0, 1
#: The consumer fails; the next message of every partition is a pill.
FAILS = Modulation(Param.OK, Place.NODE, SINK)
PILL = (Modulation(Param.PILL, Place.CONTENT, SINK), [(0.125, 1.0)])


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def consumer(*steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return service(*steps, **{"threads": 9, "startup_s": 0.25} | spec)


def posted(
    sink: dict[str, Any], *faults: Any, topic: dict[str, Any] | None = None, network_s: float = 0.0,
    publish: dict[str, Any] | None = None, **workload: Any,
) -> ReferenceSession:  # fmt: skip
    """Return a session in which every request publishes to a topic that the second service consumes."""
    step = {"publish": {"topic": "jobs"} | (publish or {})}
    written = scenario({"web": service(step, threads=9), "sink": sink}, **workload).model_dump(exclude_unset=True)
    jobs = {"to": "sink.get", "backoff_s": 0.125, "jitter": 0.0} | (topic or {})
    return opened(
        Scenario.model_validate(written | {"topics": {"jobs": jobs}, "network": {"mean_s": network_s}}), *faults
    )


def played(*args: Any, until_s: float = 4.0, **spec: Any) -> ReferenceSession:
    session = posted(*args, **spec)
    session.advance(until_s)
    return session


def act(session: ReferenceSession, code: ActionCode, at_s: float, service: int = SINK, amount: float = 0.0) -> None:
    session.apply([EngineAction(0, code, at_s, service=service, amount=amount)])


def at_consumer(session: ReferenceSession, event: Event, replica: int = 1) -> list[float]:
    """Return when something happened at a replica of the consumer."""
    return [row[0] for row in only(session, event) if row[2] == replica]


def metric(session: ReferenceSession, what: Metric, service: int = SINK) -> list[float]:
    values: list[float] = session.observe().metrics[0, :, service, what].tolist()
    return values


# --- delivery


def test_a_span_goes_on_at_once_and_its_message_is_delivered_meanwhile() -> None:
    session = played(consumer(delay(0.5)), **ONE)
    assert told(session) == [
        (1.0, "OFFERED", 0), (1.0, "SENT", 0), (1.0, "ARRIVED", 0), (1.0, "STARTED", 0),
        (1.0, "PUBLISHED", 0), (1.0, "SENT", 1), (1.0, "FINISHED", 0), (1.0, "REPLIED", 0),
        (1.0, "ARRIVED", 1), (1.0, "STARTED", 1), (1.5, "DELAY_DONE", 0), (1.5, "FINISHED", 0), (1.5, "REPLIED", 0),
    ]  # fmt: skip
    rows = session.events(0)
    assert set(rows["request"]) == {0}


def test_a_partition_is_consumed_one_message_after_the_other() -> None:
    session = played(consumer(delay(0.375)), **FOUR)
    assert [row[0] for row in only(session, Event.PUBLISHED)] == [0.25, 0.5, 0.75, 1.0]
    assert at_consumer(session, Event.SENT) == [0.25, 0.625, 1.0, 1.375]
    # one message from 0.25 s on, two from 0.5 s on, one at 0.625 s, two at 0.75 s ..
    assert metric(session, Metric.LAG) == [1.125, 1.125, 0.0, 0.0]
    assert metric(session, Metric.LAG, WEB) == [0.0] * 4
    assert np.isnan(session.observe().metrics[0, :, -1, Metric.LAG]).all()


def test_keys_of_deliveries_descend_from_the_span_that_published() -> None:
    session = played(consumer(), (FAILS, [(0.0, 0.0)]), topic={"redeliveries": 1}, **ONE)
    rows = session.events(0)
    root = rows["span"][rows["event"] == Event.OFFERED][0]
    first, second = (keyed(root, int(child_index(0, delivery))) for delivery in (0, 1))
    assert set(rows["span"][rows["event"] == Event.PUBLISHED]) == {first}
    assert rows["span"][rows["event"] == Event.SENT].tolist() == [root, first, second]
    assert rows["span"][rows["event"] == Event.GAVE_UP].tolist() == [second]


def test_messages_are_spread_over_partitions_by_their_keys_and_partitions_over_replicas() -> None:
    sink = consumer(replicas={"initial": 2, "min": 1, "max": 2})
    session = played(sink, topic={"partitions": 3}, until_s=20.0)
    rows = session.events(0)
    published = rows[rows["event"] == Event.PUBLISHED]
    index = np.uint64(draw_index(BORDER, int(Purpose.BALANCER)))
    assert published["aux"].tolist() == [min(2, int(uniform(key, index) * 3)) for key in published["span"]]
    assert set(published["aux"]) == {0, 1, 2}
    sent = {row["span"]: int(row["aux"]) for row in rows[rows["event"] == Event.SENT]}
    assert [sent[row["span"]] for row in published] == [1 + int(row["aux"]) % 2 for row in published]


def test_numbers_of_partitions_go_on_from_topic_to_topic() -> None:
    steps = [{"publish": {"topic": name}} for name in ("first", "second")]
    spec = scenario({"web": service(*steps), "sink": consumer(delay(0.5))}, **ONE).model_dump(exclude_unset=True)
    topics = {"first": {"to": "sink.get", "partitions": 1}, "second": {"to": "sink.get", "partitions": 2}}
    session = opened(Scenario.model_validate(spec | {"topics": topics}))
    session.advance(2.0)
    first, second = (row[2] for row in only(session, Event.PUBLISHED))
    assert first == 0
    assert second in (1, 2)
    # both are under way at once, and count as the one consumer's
    assert metric(session, Metric.LAG) == [0.0, 1.0]


# --- what fails is delivered again, and holds up what comes behind it


def test_a_failed_delivery_is_repeated_after_a_growing_wait_in_which_the_partition_stands_still() -> None:
    session = played(consumer(), (FAILS, [(0.0, 0.0), (1.0625, 1.0)]), topic={"redeliveries": 3}, **TWO)
    assert only(session, Event.PUBLISHED, Event.BACKOFF) == [
        (0.25, "PUBLISHED", 0), (0.25, "BACKOFF", 0), (0.375, "BACKOFF", 1), (0.5, "PUBLISHED", 0),
        (0.625, "BACKOFF", 2),
    ]  # fmt: skip
    assert at_consumer(session, Event.SENT) == [0.25, 0.375, 0.625, 1.125, 1.125]
    assert metric(session, Metric.RETRIES)[:2] == [2.0, 1.0]


def test_a_message_is_given_up_after_its_last_redelivery() -> None:
    session = played(consumer(), (FAILS, [(0.0, 0.0)]), topic={"redeliveries": 1}, **ONE)
    assert only(session, Event.BACKOFF, Event.GAVE_UP) == [(1.0, "BACKOFF", 0), (1.125, "GAVE_UP", 1)]
    assert metric(session, Metric.LAG) == [0.0, 0.125, 0.0, 0.0]


def test_without_redeliveries_a_failure_is_the_end_of_a_message() -> None:
    session = played(consumer(), (FAILS, [(0.0, 0.0)]), topic={"redeliveries": 0}, **TWO)
    assert only(session, Event.BACKOFF, Event.GAVE_UP) == [(0.25, "GAVE_UP", 0), (0.5, "GAVE_UP", 0)]


@pytest.mark.parametrize("cancellable", [False, True])
def test_a_delivery_that_takes_too_long_is_repeated_and_goes_on_unless_it_is_cancellable(cancellable: bool) -> None:
    sink = consumer(delay(0.5))
    sink["operations"]["get"]["cancellable"] = cancellable
    session = played(sink, (Modulation(Param.DELAY, Place.NODE, SINK), [(0.0, 1.0), (1.125, 0.25)]),
                     topic={"timeout_s": 0.25, "redeliveries": 1}, **ONE)  # fmt: skip
    ends = [(1.5, "FINISHED", 0), (1.5, "REPLIED", 0)]
    assert only(session, Event.TIMED_OUT, Event.CANCELLED, Event.FINISHED, Event.REPLIED)[2:] == [
        (1.25, "TIMED_OUT", 0),
        *([(1.25, "CANCELLED", 1)] if cancellable else [(1.5, "FINISHED", 0)]),
        *ends,
    ]
    # its time is that of the topic, counted at the consumer
    assert metric(session, Metric.TIMEOUTS) == [0.0, 1.0, 0.0, 0.0]


def test_a_pill_fails_at_every_delivery_and_holds_up_its_partition() -> None:
    session = played(consumer(delay(0.25)), PILL, topic={"redeliveries": 2}, **TWO)
    assert only(session, Event.PUBLISHED, Event.BACKOFF, Event.GAVE_UP) == [
        (0.25, "PUBLISHED", 0), (0.25, "BACKOFF", 0), (0.375, "BACKOFF", 1), (0.5, "PUBLISHED", 0),
        (0.625, "GAVE_UP", 2),
    ]  # fmt: skip
    # only one message is a pill; it fails before it does any work
    assert at_consumer(session, Event.SENT) == [0.25, 0.375, 0.625, 0.625]
    assert [row[0] for row in only(session, Event.DELAY_DONE)] == [0.875]
    assert metric(session, Metric.LAG) == [0.25 + 0.125 * 2 + 0.25, 0.0, 0.0, 0.0]


def test_a_share_of_the_partitions_is_armed() -> None:
    pill = (Modulation(Param.PILL, Place.CONTENT, SINK), [(0.125, 0.5)])
    session = played(consumer(), pill, topic={"partitions": 9, "redeliveries": 0}, until_s=20.0, rate_rps=8.0)
    rows = session.events(0)
    base = keyed(run_key(7, "test", 0, 0), 2**42)
    armed = {partition for partition in range(9) if uniform(base, np.uint64(partition)) < 0.5}
    partition = {row["span"]: int(row["aux"]) for row in rows[rows["event"] == Event.PUBLISHED]}
    given_up = [partition[row["span"]] for row in rows[rows["event"] == Event.GAVE_UP]]
    assert 0 < len(armed) < 9
    assert sorted(given_up) == sorted(armed)


# --- skipping


def test_skip_message_throws_out_what_waits_to_be_delivered_again() -> None:
    session = posted(consumer(delay(0.25)), PILL, topic={"redeliveries": 31, "backoff_s": 9.0, "backoff_limit_s": 9.0},
                     **TWO)  # fmt: skip
    act(session, ActionCode.SKIP_MESSAGE, 1.5)
    session.advance(12.0)
    assert only(session, Event.BACKOFF, Event.SKIPPED, Event.GAVE_UP) == [(0.25, "BACKOFF", 0), (1.5, "SKIPPED", 0)]
    assert at_consumer(session, Event.SENT) == [0.25, 1.5]
    rows = session.events(0)
    skipped = rows[rows["event"] == Event.SKIPPED]
    assert skipped["span"].tolist() == rows["span"][rows["event"] == Event.PUBLISHED][:1].tolist()
    assert skipped["request"].tolist() == [0]


def test_skip_message_abandons_a_redelivery_that_is_under_way() -> None:
    session = posted(consumer(delay(0.5)), (FAILS, [(0.0, 0.0), (0.3125, 1.0)]), **TWO)
    act(session, ActionCode.SKIP_MESSAGE, 0.5)
    session.advance(3.0)
    # it goes on as zombie work, and nobody hears of its end
    assert at_consumer(session, Event.SENT) == [0.25, 0.375, 0.5]
    assert only(session, Event.SKIPPED, Event.DELAY_DONE) == [
        (0.5, "SKIPPED", 0), (0.875, "DELAY_DONE", 0), (1.0, "DELAY_DONE", 0),
    ]  # fmt: skip
    answered = [row for row in only(session, Event.REPLIED) if row[0] > 0.5]
    assert answered == [(1.0, "REPLIED", Status.OK)]


def test_skip_message_leaves_first_deliveries_and_other_services_alone() -> None:
    session = posted(consumer(delay(0.5)), **TWO)
    act(session, ActionCode.SKIP_MESSAGE, 0.5)
    act(session, ActionCode.SKIP_MESSAGE, 0.5, WEB)
    session.advance(3.0)
    assert only(session, Event.SKIPPED) == []
    assert [row[0] for row in only(session, Event.DELAY_DONE)] == [0.75, 1.25]


# --- full partitions


def test_a_full_partition_fails_the_spans_that_need_it() -> None:
    session = played(consumer(delay(0.625)), topic={"limit": 2}, **FOUR)
    assert only(session, Event.PUBLISHED, Event.OVERFLOW) == [
        (0.25, "PUBLISHED", 0), (0.5, "PUBLISHED", 0), (0.75, "OVERFLOW", 0), (1.0, "PUBLISHED", 0),
    ]  # fmt: skip
    statuses = [row[2] for row in only(session, Event.REPLIED) if row[0] in (0.25, 0.5, 0.75, 1.0)]
    assert statuses == [Status.OK, Status.OK, Status.DEPENDENCY, Status.OK]
    assert metric(session, Metric.DENIED, WEB) == [1.0, 0.0, 0.0, 0.0]
    assert metric(session, Metric.DENIED) == [0.0] * 4
    rows = session.events(0)
    overflow = rows[rows["event"] == Event.OVERFLOW]
    root = rows["span"][(rows["event"] == Event.OFFERED) & (rows["request"] == overflow["request"])]
    assert overflow["span"].tolist() == [keyed(root[0], int(child_index(0, 0)))]


def test_a_span_that_can_do_without_goes_on_when_a_partition_is_full() -> None:
    session = played(consumer(delay(9.0)), topic={"limit": 1}, publish={"required": False}, **TWO)
    assert len(only(session, Event.OVERFLOW)) == 1
    assert [row[2] for row in only(session, Event.REPLIED)] == [Status.OK, Status.OK]


def test_a_message_is_published_with_its_probability() -> None:
    session = played(consumer(), publish={"probability": 0.5}, until_s=20.0, rate_rps=10.0)
    rows = session.events(0)
    roots = rows["span"][rows["event"] == Event.OFFERED]
    index = np.uint64(draw_index(0, int(Purpose.CHOICE)))
    chosen = [keyed(root, int(child_index(0, 0))) for root in roots if uniform(root, index) < 0.5]
    assert rows["span"][rows["event"] == Event.PUBLISHED].tolist() == chosen
    assert 80 < len(chosen) < 120


# --- consumers that come and go


def test_no_message_is_lost_when_its_consumer_restarts() -> None:
    session = posted(consumer(delay(0.375)), topic={"redeliveries": 9, "backoff_limit_s": 0.125}, **FOUR)
    act(session, ActionCode.RESTART, 0.375)
    session.advance(4.0)
    assert only(session, Event.KILLED, Event.BACKOFF) == [
        (0.375, "KILLED", 1), (0.375, "BACKOFF", 0), (0.5, "BACKOFF", 1),
    ]  # fmt: skip
    # at 0.5 s there is nobody to send to; the next redelivery finds the replica up
    assert at_consumer(session, Event.SENT, -1) == [0.5]
    assert at_consumer(session, Event.SENT) == [0.25, 0.625, 1.0, 1.375, 1.75]
    assert len(only(session, Event.DELAY_DONE)) == 4
    assert metric(session, Metric.LAG)[-1] == 0.0


def test_a_message_survives_the_span_that_has_published_it() -> None:
    step = [{"publish": {"topic": "jobs"}}, delay(9.0)]
    spec = scenario({"web": service(*step), "sink": consumer(delay(0.5))}, **ONE).model_dump(exclude_unset=True)
    session = opened(Scenario.model_validate(spec | {"topics": {"jobs": {"to": "sink.get"}}}))
    act(session, ActionCode.RESTART, 1.25, WEB)
    session.advance(3.0)
    assert only(session, Event.KILLED, Event.DELAY_DONE) == [(1.25, "KILLED", 0), (1.5, "DELAY_DONE", 0)]


def test_a_partition_moves_to_the_replica_that_its_number_gives_among_those_eligible() -> None:
    session = posted(consumer(delay(0.0625), replicas={"initial": 1, "min": 1, "max": 3}), topic={"partitions": 2},
                     rate_rps=8.0)  # fmt: skip
    act(session, ActionCode.SCALE, 5.0, amount=1.0)
    session.advance(10.0)
    rows = session.events(0)
    partition = {row["span"]: int(row["aux"]) for row in rows[rows["event"] == Event.PUBLISHED]}
    sent = rows[(rows["event"] == Event.SENT) & np.isin(rows["span"], list(partition))]
    for row in sent:
        up = row["time_s"] >= 5.25
        assert row["aux"] == 1 + (partition[row["span"]] if up else 0)
    assert {int(row["aux"]) for row in sent} == {1, 2}


@pytest.mark.parametrize(("replicas", "partitions", "consumed"), [(1, 4, 8), (2, 4, 16), (4, 4, 32), (4, 1, 8)])
def test_more_replicas_consume_more_as_long_as_there_are_partitions(
    replicas: int, partitions: int, consumed: int
) -> None:
    sink = consumer(delay(0.125), threads=1, replicas={"initial": replicas, "min": 1, "max": 4}, queue=9)
    session = played(sink, topic={"partitions": partitions}, until_s=20.0, rate_rps=64.0)
    rate = metric(session, Metric.OK)[-4:]
    assert rate == pytest.approx([consumed] * 4, abs=1.0)


# --- what does not concern messages


def test_a_message_has_no_deadline_and_crosses_no_edge() -> None:
    faults = [
        (Modulation(param, Place.OUTSIDE, caller, peer=SINK), [(0.0, value)])
        for caller in (-1, WEB)
        for param, value in ((Param.LOSS_OUT, 1.0), (Param.LOSS_BACK, 1.0), (Param.EDGE_DELAY, 5.0))
    ]
    session = played(consumer(delay(0.5)), *faults, network_s=0.125, deadline_s=0.25, **ONE)
    assert only(session, Event.LOST) == []
    assert [row for row in told(session) if row[0] > 1.25] == [
        (1.75, "DELAY_DONE", 0), (1.75, "FINISHED", 0), (1.875, "REPLIED", 0),
    ]  # fmt: skip


def test_the_replicas_network_concerns_messages_and_the_shut_off_of_calls_does_not() -> None:
    session = posted(consumer(), (Modulation(Param.NETWORK, Place.NODE, SINK), [(0.0, 2.0)]), network_s=0.125, **ONE)
    act(session, ActionCode.OPEN_BREAKER, 0.0)
    session.advance(3.0)
    # published at 1.125, when the request has arrived; a quarter of a second either way
    assert [row[0] for row in told(session) if row[1] in ("ARRIVED", "REPLIED")] == [1.125, 1.25, 1.375, 1.625]


def test_a_message_has_the_priority_of_its_request() -> None:
    sink = consumer(delay(9.0), threads=1, shed_above={1: 0})
    spec = scenario({"web": service({"publish": {"topic": "jobs"}}, threads=9), "sink": sink}, **FOUR)
    jobs = {"to": "sink.get", "partitions": 64, "redeliveries": 0}
    written = spec.model_dump(exclude_unset=True) | {"topics": {"jobs": jobs}}
    written["workload"]["entries"][0]["priority"] = 1
    session = opened(Scenario.model_validate(written))
    session.advance(2.0)
    # one runs, one queues, and while it does no more are let in
    assert len(only(session, Event.REJECTED)) == 2
