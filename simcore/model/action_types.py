"""The action catalogue: one row per kind. What an action heals follows from the place that it replaces."""

__all__ = ["ACTIONS", "NEUTRAL_SETTING", "ActionAim", "ActionType", "Values", "services_for"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from simcore.codes import ActionCode
from simcore.model.scenario import Scenario


class ActionAim(Enum):
    """What a kind of action may be aimed at."""

    SYSTEM = "the system"
    SERVICE = "a service"
    REPLICA = "one replica of a service"
    CACHE = "a service with a cache"
    CALLER = "a service that calls others"
    POOLING = "a service with connection pools"
    CALLEE = "a service that others call"
    CONSUMER = "a service that consumes a topic"


@dataclass(frozen=True, slots=True)
class Values:
    """The amounts that a scenario may offer."""

    usual: tuple[float, ...]
    rule: str  #: in words, for messages
    allow: Callable[[float], bool]


@dataclass(frozen=True, slots=True)
class ActionType:
    """A row of the catalogue."""

    code: ActionCode
    does: str
    mends: str
    aim: ActionAim
    undone_by: str = ""
    disruptive: bool = True  #: it can hurt users by itself (FIELD)
    values: Values | None = None
    setting: str = ""  #: what it sets to its amount; choosing what is set already makes no sense
    amount: float = 0.0  #: of a kind without values
    undoes: str = ""  #: the kind that it does nothing but undo

    def is_undoing(self, amount: float) -> bool:
        """Return whether an action of this kind and amount does nothing but put back what another one set."""
        if self.code == ActionCode.LIMIT_TRAFFIC:
            return amount == 1.0
        return bool(self.undoes) or (bool(self.setting) and amount == NEUTRAL_SETTING[self.setting])

    def is_disruptive(self, amount: float) -> bool:
        """Return whether an action of this kind and amount can hurt users by itself."""
        if self.code == ActionCode.LIMIT_TRAFFIC:
            return amount < 1.0
        if self.code == ActionCode.SCALE:
            return amount < 0.0
        if self.code == ActionCode.DEGRADE:
            return amount > 0.0
        return self.disruptive


#: Neutral amount of a setting: what holds until somebody changes it.
NEUTRAL_SETTING: Mapping[str, float] = {"retries": 1.0, "pool": 1.0, "shut_off": 0.0, "degraded": 0.0}

ACTIONS: Mapping[str, ActionType] = {
    "noop": ActionType(ActionCode.NOOP, "nothing", "what mends itself", ActionAim.SYSTEM, disruptive=False),
    "restart": ActionType(
        ActionCode.RESTART,
        "the replicas are restarted, one after the other: work in flight is lost, caches come back cold",
        "what lives in the process",
        ActionAim.SERVICE,
    ),
    "scale": ActionType(
        ActionCode.SCALE,
        "replicas are added, or drained and taken away",
        "too little capacity",
        ActionAim.SERVICE,
        "scale the other way",
        values=Values(
            (1.0, -1.0),
            "must be a whole number of replicas, not 0",
            lambda v: v != 0.0 and v == int(v) and abs(v) <= 100.0,
        ),
    ),
    "clear_cache": ActionType(
        ActionCode.CLEAR_CACHE, "all entries of a cache are dropped", "wrong entries", ActionAim.CACHE, "warm_cache"
    ),
    "limit_traffic": ActionType(
        ActionCode.LIMIT_TRAFFIC,
        "a share of the requests is refused at the border",
        "overload that outlasts its cause",
        ActionAim.SYSTEM,
        "limit_traffic(1)",
        values=Values((0.7,), "must be an admitted fraction in (0, 1]", lambda v: 0.0 < v <= 1.0),
    ),
    "quarantine": ActionType(
        ActionCode.QUARANTINE,
        "a replica gets no more requests",
        "one bad replica among good ones",
        ActionAim.REPLICA,
        "release",
    ),
    "release": ActionType(
        ActionCode.RELEASE,
        "a quarantined replica gets requests again",
        "capacity lost to a quarantine",
        ActionAim.REPLICA,
        "quarantine",
        disruptive=False,
        undoes="quarantine",
    ),
    "rollback": ActionType(
        ActionCode.ROLLBACK,
        "the version and configuration before are rolled out, replica by replica",
        "what lives in the version or the configuration",
        ActionAim.SERVICE,
    ),
    "set_retry_budget": ActionType(
        ActionCode.RETRY_BUDGET,
        "only a share of the retries of a service's calls is made",
        "retry storms",
        ActionAim.CALLER,
        "set_retry_budget(1)",
        disruptive=False,
        values=Values((0.0, 1.0), "must be a share of the retries in [0, 1]", lambda v: 0.0 <= v <= 1.0),
        setting="retries",
    ),
    "open_breaker": ActionType(
        ActionCode.OPEN_BREAKER,
        "nobody calls the service any more: calls of it fail at once",
        "callers that wait for a service in vain",
        ActionAim.CALLEE,
        "close_breaker",
        setting="shut_off",
        amount=1.0,
    ),
    "close_breaker": ActionType(
        ActionCode.CLOSE_BREAKER,
        "a service that was shut off is called again",
        "nothing; it undoes open_breaker",
        ActionAim.CALLEE,
        "open_breaker",
        disruptive=False,
        setting="shut_off",
        undoes="open_breaker",
    ),
    "resize_pool": ActionType(
        ActionCode.RESIZE_POOL,
        "the connection pools of a service get a multiple of their size",
        "callers that wait for connections",
        ActionAim.POOLING,
        "resize_pool(1)",
        disruptive=False,
        values=Values((4.0, 1.0), "must be a multiple of the configured size in [0, 100]", lambda v: 0.0 <= v <= 100.0),
        setting="pool",
    ),
    "clear_queue": ActionType(
        ActionCode.CLEAR_QUEUE,
        "whatever queues for a thread of the service is rejected",
        "a backlog that is too old to be of use",
        ActionAim.SERVICE,
    ),
    "raise_limit": ActionType(
        ActionCode.RAISE_LIMIT,
        "the service gets new resource limits",
        "what lives in the quota",
        ActionAim.SERVICE,
        disruptive=False,
    ),
    "rotate": ActionType(
        ActionCode.ROTATE,
        "the service gets new certificates and tokens",
        "what lives in the credentials",
        ActionAim.SERVICE,
        disruptive=False,
    ),
    "failover": ActionType(
        ActionCode.FAILOVER,
        "the service moves to other nodes, all replicas at once: work in flight is lost",
        "what lives at the node, or in the process",
        ActionAim.SERVICE,
    ),
    "warm_cache": ActionType(
        ActionCode.WARM_CACHE,
        "the most popular keys are loaded into a cache",
        "a cold cache",
        ActionAim.CACHE,
        disruptive=False,
    ),
    "degrade": ActionType(
        ActionCode.DEGRADE,
        "the service leaves its optional calls out",
        "optional dependencies that fail or are slow",
        ActionAim.CALLER,
        "degrade(0)",
        values=Values((1.0, 0.0), "must be 1 (leave out) or 0 (no longer)", lambda v: v in (0.0, 1.0)),
        setting="degraded",
    ),
    "skip_message": ActionType(
        ActionCode.SKIP_MESSAGE,
        "messages that the service has failed to consume at least once are thrown out",
        "a topic whose content holds up what comes behind it",
        ActionAim.CONSUMER,
        disruptive=False,
    ),
    "escalate": ActionType(
        ActionCode.ESCALATE,
        "a human looks for the cause, and mends it in the end",
        "everything, after a while and at a price",
        ActionAim.SYSTEM,
        disruptive=False,
    ),
}


def services_for(aim: ActionAim, scenario: Scenario) -> tuple[str, ...]:
    """Return the names of the services that an aim allows, in their order; none for the system."""
    services = scenario.services
    if aim is ActionAim.SYSTEM:
        return ()
    if aim is ActionAim.CACHE:
        return tuple(name for name, service in services.items() if service.cache)
    if aim is ActionAim.POOLING:
        return tuple(name for name, service in services.items() if service.pools)
    if aim is ActionAim.CONSUMER:
        return tuple(name for name in services if name in scenario.consumers)
    callers = {scenario.operations[step.operation][0] for step in scenario.calls}
    callees = {scenario.call_of(step.site).to.partition(".")[0] for step in scenario.calls}
    fitting = {ActionAim.CALLER: callers, ActionAim.CALLEE: callees}.get(aim, set(services))
    return tuple(name for name in services if name in fitting)
