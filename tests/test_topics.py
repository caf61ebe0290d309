"""Topics in scenario files: what they say, which of it is wrong, and what follows for those who read scenarios."""

from typing import Any

import pytest

from simcore.env.actions import build_actions, build_topology
from simcore.errors import FaultError, ScenarioError
from simcore.model.fault_types import Aim, FaultType, targets_of
from simcore.model.faults import parse_fault
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.model.visits import visits


def shop(**parts: Any) -> dict[str, Any]:
    """Return a shop that publishes its orders to a billing service, which asks a ledger."""
    publish = {"publish": {"topic": "orders", "probability": 0.5}}
    charge = {"steps": [{"call": {"to": "ledger.add"}}]}
    base: dict[str, Any] = {
        "name": "shop",
        "services": {
            "web": {"operations": {"buy": {"steps": [{"lock": {"name": "cart", "steps": [publish]}}, publish]}}},
            "billing": {"operations": {"charge": charge}},
            "ledger": {"operations": {"add": {}}},
        },
        "topics": {"orders": {"to": "billing.charge", "partitions": 4}},
        "workload": {"rate_rps": 10.0, "entries": [{"operation": "web.buy"}]},
        "actions": {"skip_message": {}, "open_breaker": {}, "degrade": {}},
    }
    return base | parts


def mistakes(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        build_scenario(data)
    return str(caught.value).splitlines()


def built(**parts: Any) -> Scenario:
    return build_scenario(shop(**parts))


def test_publications_are_call_sites_and_have_step_numbers() -> None:
    scenario = built()
    assert [(step.site, step.step) for step in scenario.sites] == [(0, 1), (1, 2), (2, 0)]
    assert [scenario.callee_of(site) for site in range(3)] == ["billing.charge", "billing.charge", "ledger.add"]
    assert [step.site for step in scenario.calls] == [2]
    assert scenario.consumers == {"billing"}


def test_a_consumer_is_visited_as_often_as_messages_are_published() -> None:
    assert visits(built()) == pytest.approx((1.0, 1.0, 1.0))


def test_an_agent_sees_who_publishes_to_whom_and_may_skip_messages() -> None:
    scenario = built()
    calls = build_topology(scenario).calls
    assert calls.nonzero()[0].tolist() == [0, 1]
    assert calls.nonzero()[1].tolist() == [1, 2]
    # a topic is no call: its consumer cannot be shut off, nor can its publisher do without it
    assert build_actions(scenario).names == (
        "noop", "open_breaker(ledger)", "degrade(billing,1)", "degrade(billing,0)",
        "skip_message(billing)",
    )  # fmt: skip


def test_a_message_crosses_no_edge() -> None:
    scenario = built()
    with pytest.raises(FaultError, match="the target must be 'billing:ledger' or 'clients:web', got 'web:billing'"):
        parse_fault("net_loss@web:billing", scenario)


def test_consumers_are_targets_of_their_own() -> None:
    scenario = built()
    kind = FaultType("m", "s", "f", Aim.CONSUMER, lambda *_: (), {})
    assert [target.written(scenario) for target in targets_of(kind, scenario)] == ["billing"]


@pytest.mark.parametrize(
    ("topic", "rule"),
    [
        ({"to": "billing.change"}, "topics.orders.to must name an operation of a service, got 'billing.change'; did"),
        ({"to": "billing"}, "topics.orders.to must have the form service.operation, got 'billing'"),
        ({"partitions": 0}, "topics.orders.partitions must be >= 1, got 0"),
        ({"limit": 0}, "topics.orders.limit must be >= 1, got 0"),
        ({"redeliveries": 32}, "topics.orders.redeliveries must be <= 31, got 32"),
        ({"timeout_s": 0}, "topics.orders.timeout_s must be > 0, got 0"),
        ({"backoff": 1}, "topics.orders.backoff is not a known key; did you mean 'backoff_s'?"),
        ({"jitter": 2}, "topics.orders.jitter must be <= 1, got 2"),
        ({"to": "web.buy"}, "topic must not lead back to who publishes, got the cycle web.buy -> web.buy"),
    ],
)
def test_a_mistake_in_a_topic_names_path_and_rule_and_value(topic: dict[str, Any], rule: str) -> None:
    found = mistakes(shop(topics={"orders": {"to": "billing.charge"} | topic}))
    assert any(rule in line for line in found), found


def test_names_of_topics_are_checked_both_ways_and_all_at_once() -> None:
    topics = {"order": {"to": "billing.charge"}, "Mail": {"to": "billing.charge"}}
    found = mistakes(shop(topics=topics, actions={"skip_message": {"targets": ["ledger"]}}))
    assert sorted(line.partition(": ")[2] for line in found) == [
        "actions.skip_message.targets[0] must name a service that consumes a topic, got 'ledger'",
        "services.web.operations.buy.steps[0].lock.steps[0].publish.topic must name a topic (order), "
        "got 'orders'; did you mean 'order'?",
        "services.web.operations.buy.steps[1].publish.topic must name a topic (order), "
        "got 'orders'; did you mean 'order'?",
        "topics.Mail: the name must be lower-case letters, digits and _, beginning with a letter, got 'Mail'",
        "topics.order must be published to by a step, and is by none",
    ]
