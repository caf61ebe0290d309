"""Hypothesis strategies: small scenarios and what may happen in them, made so that ties and timeouts are common."""

__all__ = ["Example", "examples", "scenarios"]

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from simcore.codes import EDGE, ActionCode, Param, Place
from simcore.engines.api import EngineAction, RunInputs
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.streams import SPLITS, run_key

Draw = st.DrawFn

#: Attempts of an example, if every call is made with all its retries.
_ATTEMPTS = 1500
#: Requests of one run.
_REQUESTS = 400

#: Which groups of mechanics are drawn: how calls are made, how replicas work, what further changes there are,
#: what caches can do beyond a lookup, how load comes and capacity follows, messages that nobody waits for.
FEATURES = frozenset({"calls", "replicas", "changes", "caches", "load", "topics"})

_OPERATIONS = ("get", "put")
_FACTORS = (0.0, 0.25, 0.5, 1.0, 1.5, 3.0)
_VALUES: dict[Param, tuple[float, ...]] = {
    Param.SPEED: _FACTORS,
    Param.CORES: (0.0, 0.25, 0.5, 1.0, 2.0),
    Param.DEMAND: _FACTORS,
    Param.DELAY: _FACTORS,
    Param.NETWORK: _FACTORS,
    Param.OK: (0.0, 0.3, 0.7, 1.0),
    Param.TIMEOUT: (0.0, 0.1, 0.5, 2.0),
    Param.LEAK: (0.0, 3.0, 40.5),
    Param.CRASH: (0.0, 0.25, 1.0),
    Param.SURGE: (0.0, 0.5, 2.0),
    Param.FLUSH: (0.0, 1.0),
    Param.POISON: (0.0, 0.5, 1.0),
    Param.DEPLOY: (0.0, 1.0),
    Param.CONFIG: (0.0, 1.0),
    Param.HOLD: _FACTORS,
    Param.POOL: (0.0, 0.5, 1.0, 3.0),
    Param.EDGE_DELAY: _FACTORS,
    Param.LOSS_OUT: (0.0, 0.3, 1.0),
    Param.LOSS_BACK: (0.0, 0.3, 1.0),
    Param.HOT_KEY: (0.0, 0.5, 1.0),
    Param.PILL: (0.0, 0.5, 1.0),
}


def _feature_of(code: ActionCode) -> str:
    """Return the group of mechanics that an action belongs to."""
    if code <= ActionCode.ROLLBACK:
        return ""
    if code is ActionCode.SKIP_MESSAGE:
        return "topics"
    if code > ActionCode.CLEAR_QUEUE:
        return "changes"
    return "replicas" if code is ActionCode.CLEAR_QUEUE else "calls"


@dataclass(frozen=True)
class Example:
    """A session to be played: runs, and what is done at which edge."""

    scenario: Scenario
    inputs: tuple[RunInputs, ...]
    stops: tuple[int, ...]  #: edges to advance to, the last is the end
    actions: tuple[tuple[int, EngineAction], ...]  #: (stop or 0, action)
    fork_at: int  #: index into the stops

    def due(self, edge: int) -> list[EngineAction]:
        """Return what is to be applied at an edge."""
        return [action for at, action in self.actions if at == edge]


def pick(draw: Draw, *values: Any) -> Any:
    """Draw one of the values."""
    return draw(st.sampled_from(values))


def _amount(draw: Draw, *means: float) -> dict[str, Any]:
    return {
        "mean_s": pick(draw, *means),
        "dist": pick(draw, "constant", "constant", "constant", "exponential", "lognormal", "gamma"),
        "sigma": pick(draw, 0.5, 1.5),
        "shape": pick(draw, 0.5, 3.0),
    }


def _latency(draw: Draw) -> dict[str, Any]:
    return _amount(draw, 0.0, 0.0, 0.015625, 0.05)


def _maybe(draw: Draw, feature: str, value: dict[str, Any]) -> dict[str, Any] | None:
    """Draw whether a part is there, if its group of mechanics is on."""
    return value if feature in FEATURES and pick(draw, False, False, True) else None


def _gates(draw: Draw) -> dict[str, Any]:
    """Draw what stands between a caller and its callee."""
    if "calls" not in FEATURES:
        return {}
    window = pick(draw, 1, 2, 4)
    return {
        "loss": pick(draw, 0.0, 0.0, 0.0, 0.2, 1.0),
        "breaker": _maybe(
            draw,
            "calls",
            {
                "window": window,
                "min_calls": draw(st.integers(1, window)),
                "failure_rate": pick(draw, 0.25, 0.5, 1.0),
                "open_s": pick(draw, 0.125, 0.5, 1.0),
                "probes": pick(draw, 1, 2),
            },
        ),
        "retry_budget": _maybe(draw, "calls", {"rate_per_s": pick(draw, 0.0, 1.0, 4.0), "burst": pick(draw, 1.0, 2.5)}),
        "hedge": _maybe(draw, "calls", {"after_s": pick(draw, 0.0, 0.0625, 0.1), "max": pick(draw, 1, 2)}),
    }


def _call(draw: Draw, to: str) -> dict[str, Any]:
    return _gates(draw) | {
        "to": to,
        "probability": pick(draw, 1.0, 1.0, 0.5, 0.0),
        "timeout_s": pick(draw, 0.03125, 0.125, 0.25, 0.4, 5.0),
        "retries": pick(draw, 0, 1, 2),
        "backoff_s": pick(draw, 0.0, 0.0625, 0.1),
        "backoff_limit_s": pick(draw, 0.0, 0.125, 1.0),
        "jitter": pick(draw, 0.0, 0.0, 0.5, 1.0),
        "network": None if draw(st.booleans()) else _latency(draw),
        "required": draw(st.booleans()),
    }


@dataclass(frozen=True)
class _Below:
    """What a service may use: operations and caches of those drawn before it, and the topics so far."""

    targets: list[str]
    caches: list[str]
    topics: dict[str, dict[str, Any]]  #: grows with every step that publishes to a new one

    def publish(self, draw: Draw) -> dict[str, Any]:
        """Draw a publication, often to a topic that others publish to as well."""
        name = f"t{len(self.topics)}"
        if not self.topics or (len(self.topics) < 3 and draw(st.booleans())):
            self.topics[name] = _topic(draw, pick(draw, *self.targets))
        else:
            name = pick(draw, *self.topics)
        return {"topic": name, "probability": pick(draw, 1.0, 1.0, 0.5, 0.0), "required": draw(st.booleans())}


def _topic(draw: Draw, to: str) -> dict[str, Any]:
    return {
        "to": to,
        "partitions": pick(draw, 1, 1, 2, 3),
        "limit": pick(draw, 1, 2, 3, 50, 50),
        "timeout_s": pick(draw, 0.03125, 0.125, 0.4, 5.0),
        "redeliveries": pick(draw, 0, 1, 2, 5),
        # long waits too, so that partitions are often found stuck
        "backoff_s": pick(draw, 0.0, 0.0625, 0.5),
        "backoff_limit_s": pick(draw, 0.125, 1.0, 1.0),
        "jitter": pick(draw, 0.0, 0.0, 0.5, 1.0),
    }


def _step(draw: Draw, below: _Below, room: int, locked: bool = False) -> dict[str, Any]:
    """Draw a step that calls only what comes later; ``room`` bounds the nesting."""
    targets, caches = below.targets, below.caches
    kinds = ["cpu", "delay"] + ["call"] * 2 * bool(targets) + ["cached"] * 2 * bool(caches and room)
    if "calls" in FEATURES:
        kinds += ["lock"] * (room > 0 and not locked) + ["parallel"] * bool(targets)
    if "topics" in FEATURES:
        kinds += ["publish"] * 2 * bool(targets)
    kind = pick(draw, *kinds)
    if kind == "publish":
        return {"publish": below.publish(draw)}
    if kind == "lock":
        inner = [_step(draw, below, room - 1, locked=True) for _ in range(pick(draw, 0, 1, 2))]
        return {"lock": {"name": pick(draw, "a", "a", "b"), "steps": inner}}
    if kind == "parallel":
        branches = [_call(draw, pick(draw, *targets)) for _ in range(pick(draw, 1, 2, 3))]
        return {"parallel": {"branches": branches, "fail_fast": draw(st.booleans())}}
    if kind == "cpu":
        return {"cpu": _amount(draw, 0.0, 0.03125, 0.0625, 0.1)}
    if kind == "delay":
        return {"delay": _amount(draw, 0.0, 0.0625, 0.1)}
    if kind == "call":
        return {"call": _call(draw, pick(draw, *targets))}
    cached = _call(draw, pick(draw, *caches))
    cached["keys"] = {"count": pick(draw, 1, 3, 8), "zipf": pick(draw, 0.0, 1.0, 2.5)}
    if "caches" in FEATURES:
        cached["keys"] |= {"absent": pick(draw, 0.0, 0.0, 0.5), "replicated": pick(draw, 0, 0, 1, 4)}
        cached["coalesce"] = draw(st.booleans())
    cached["steps"] = [_step(draw, below, room - 1, locked) for _ in range(pick(draw, 0, 1, 2))]
    if cached.get("coalesce") and pick(draw, True, True, False):
        # one key that is fetched for long: what others want meanwhile, they want of this fetch
        cached["keys"]["count"] = 1
        cached["steps"].insert(0, {"delay": _amount(draw, 0.1, 0.3)})
    return {"cached": cached}


def _coalesces(steps: list[dict[str, Any]]) -> bool:
    """Return whether spans may wait for each other's misses."""
    inner = (step.get("cached", step.get("lock", {})) for step in steps)
    return any(part.get("coalesce", False) or _coalesces(part.get("steps", [])) for part in inner)


def _callees(steps: list[dict[str, Any]]) -> set[str]:
    """Return the services that the steps call."""
    found: set[str] = set()
    for step in steps:
        calls = [step[kind] for kind in ("call", "cached") if kind in step] + step.get("parallel", {}).get(
            "branches", []
        )
        found |= {call["to"].partition(".")[0] for call in calls}
        found |= _callees(step.get("cached", step.get("lock", {})).get("steps", []))
    return found


def _pools(draw: Draw, programs: dict[str, Any]) -> dict[str, Any]:
    callees = sorted({callee for program in programs.values() for callee in _callees(program["steps"])})
    return {
        callee: {"size": pick(draw, 0, 1, 1, 2), "queue": pick(draw, 0, 1, 20), "wait_s": pick(draw, 0.0625, 0.2, 2.0)}
        for callee in callees
        if "calls" in FEATURES and pick(draw, False, True)
    }


def _replica_mechanics(draw: Draw) -> dict[str, Any]:
    """Draw how the replicas of a service queue, warm up, collect garbage and are looked after."""
    if "replicas" not in FEATURES:
        return {}
    discipline = pick(draw, "fifo", "lifo", "codel")
    own = {
        "fifo": {},
        "lifo": {"lifo_above": pick(draw, 0, 1, 2)},
        "codel": {"codel": {"target_s": pick(draw, 0.0, 0.0625), "interval_s": pick(draw, 0.0625, 0.3)}},
    }
    garbage = {
        "garbage_bytes": pick(draw, 1, 20),
        "share": pick(draw, 0.0, 0.1, 0.5),
        "least_bytes": pick(draw, 1, 30, 100),
        "pause_s": pick(draw, 0.0, 0.0625, 0.2),
        "pause_s_per_gb": pick(draw, 0.0, 1e7),
    }
    probes = {
        "interval_s": pick(draw, 0.25, 0.3, 1.0),
        "unhealthy_after": pick(draw, 1, 2),
        "healthy_after": pick(draw, 1, 2),
    }
    return {
        "discipline": discipline,
        **own[discipline],
        "shed_above": pick(draw, {}, {}, {1: 0}, {0: 1, 1: 0}),
        "health": _maybe(draw, "replicas", probes),
        "warmup": _maybe(draw, "replicas", {"duration_s": pick(draw, 0.5, 3.0), "factor": pick(draw, 1.0, 3.0)}),
        "gc": _maybe(draw, "replicas", garbage),
    }


def _cache(draw: Draw) -> dict[str, Any]:
    shard = {"slots": pick(draw, 1, 2, 4), "ttl_s": pick(draw, 0.125, 0.5, 3.0)}
    if "caches" in FEATURES:
        shard |= {"negative_ttl_s": pick(draw, None, 0.25, 2.0), "copies": pick(draw, 1, 2, 3)}
    return shard


def _service(draw: Draw, programs: dict[str, Any], cache: bool) -> dict[str, Any]:
    initial = pick(draw, 1, 1, 2, 3)
    crowded = any(_coalesces(program["steps"]) for program in programs.values())
    balancers = ["round_robin", "least_outstanding"] + ["random", "power_of_two"] * ("replicas" in FEATURES)
    return _replica_mechanics(draw) | {
        "replicas": {"initial": initial, "min": 1, "max": initial + pick(draw, 0, 1, 3)},
        "threads": pick(draw, 2, 4, 4) if crowded else pick(draw, 1, 1, 2, 4),
        "cores": pick(draw, 0.5, 1.0, 2.0),
        "speed": pick(draw, 0.5, 1.0, 1.25),
        "queue": pick(draw, 0, 1, 3, 50),
        "pools": _pools(draw, programs),
        "balancer": pick(draw, *balancers),
        "startup_s": pick(draw, 0.0, 0.125, 0.7),
        "drain_s": pick(draw, 0.0, 0.25, 1.0),
        "memory": {
            "base_bytes": 100,
            "per_span_bytes": pick(draw, 0, 10),
            "limit_bytes": pick(draw, 119, 140, 400, 10**6, 10**6, 10**6),
            "leak_bytes": pick(draw, 0, 0, 1, 7),
        },
        "cache": _cache(draw) if cache else None,
        "autoscaler": _maybe(
            draw,
            "load",
            {
                "target": pick(draw, 0.2, 0.6, 1.0),
                "tolerance": pick(draw, 0.0, 0.1),
                "every_steps": pick(draw, 1, 2),
                "stabilisation_steps": pick(draw, 1, 2, 4),
            },
        ),
        "operations": programs,
    }


def _weight(steps: list[dict[str, Any]], weights: dict[str, int], topics: dict[str, dict[str, Any]]) -> int:
    """Return how many attempts a walk through the steps makes at most."""
    total = 0
    for step in steps:
        if "publish" in step:
            topic = topics[step["publish"]["topic"]]
            total += (1 + topic["redeliveries"]) * weights[topic["to"]]
        calls = [step[kind] for kind in ("call", "cached") if kind in step] + step.get("parallel", {}).get(
            "branches", []
        )
        for call in calls:
            members = 1 + (call.get("hedge") or {"max": 0})["max"]
            total += (1 + call["retries"]) * members * weights[call["to"]]
            total += _weight(call.get("steps", []), weights, topics)
        total += _weight(step.get("lock", {}).get("steps", []), weights, topics)
    return total


def _services(draw: Draw) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """Draw the services, callees before callers; return them, their topics and the weights of their operations."""
    n_services = pick(draw, 1, 2, 3, 4)
    services: dict[str, Any] = {}
    targets: list[str] = []
    caches: list[str] = []
    topics: dict[str, dict[str, Any]] = {}
    weights: dict[str, int] = {}
    for number in range(n_services):
        name = f"s{number}"
        cache = number < n_services - 1 and draw(st.booleans())
        programs: dict[str, Any] = {}
        for operation in _OPERATIONS[: pick(draw, 1, 1, 2)]:
            n_steps = pick(draw, 0, 1, 2) if cache else pick(draw, 1, 2, 3, 4)
            leaf = cache and pick(draw, True, True, False)
            below = _Below([], [], topics) if leaf else _Below(targets, caches, topics)
            steps = [_step(draw, below, 2) for _ in range(n_steps)]
            programs[operation] = {"steps": steps}
            if "calls" in FEATURES:
                programs[operation]["cancellable"] = draw(st.booleans())
            weights[f"{name}.{operation}"] = 1 + _weight(steps, weights, topics)
        services[name] = _service(draw, programs, cache)
        targets += [f"{name}.{operation}" for operation in programs]
        if cache:
            caches += [f"{name}.{operation}" for operation in programs]
    # either direction of numbering: a caller may come before or after its callees
    order = draw(st.permutations(list(services)))
    return {name: services[name] for name in order}, topics, weights


def _load(draw: Draw, most: int, span_s: float) -> dict[str, Any]:
    """Draw users who wait and think, and a recorded series of rates; at most so many requests in so many seconds."""
    if "load" not in FEATURES:
        return {}
    think_s = pick(draw, 0.25, 0.5, 1.0)
    users = max(1, min(8, int(most * think_s / (2.0 * span_s))))
    closed = {"users": draw(st.integers(1, users)), "think": _amount(draw, think_s)}
    times = sorted({pick(draw, -1.0, 0.0, 0.7, 1.0, 2.5) for _ in range(3)})
    return {
        "closed": pick(draw, None, None, closed),
        "series": [{"time_s": t, "factor": pick(draw, 0.0, 0.5, 1.0)} for t in times[:-1]]
        + [{"time_s": times[-1], "factor": pick(draw, 0.5, 1.0)}],
    }


def _workload(draw: Draw, weights: dict[str, int], span_s: float) -> dict[str, Any]:
    names = list(weights)
    chosen = draw(st.lists(st.sampled_from(names), max_size=1)) + [names[-1]]
    most = min(_REQUESTS, max(8, _ATTEMPTS // max(weights[name] for name in chosen)))
    fitting = [rate for rate in (1.0, 2.0, 4.0, 8.0, 13.0, 16.0, 32.0, 64.0) if rate * span_s <= most]
    return _load(draw, most, span_s) | {
        "rate_rps": pick(draw, *(fitting[-3:] or [1.0])),
        "entries": [
            {
                "operation": name,
                "weight": pick(draw, 1.0, 0.5),
                "priority": pick(draw, 0, 1, 2) if "replicas" in FEATURES else 0,
            }
            for name in chosen
        ],
        "deadline_s": pick(draw, None, None, 0.25, 1.0) if "calls" in FEATURES else None,
        "timeout_s": pick(draw, 0.25, 0.5, 3.0),
        "arrivals": pick(draw, "grid", "grid", "poisson"),
        "shape": pick(draw, "constant", "constant", "sinusoidal", "step", "burst", *["series"] * ("load" in FEATURES)),
        "amplitude": pick(draw, 0.0, 0.5, 1.0),
        "period_s": pick(draw, 2.0, 5.3),
        "factor": pick(draw, 0.0, 0.5, 2.0),
        "from_s": pick(draw, -1.0, 0.5, 2.0),
        "until_s": pick(draw, 2.5, 4.0),
    }


@st.composite
def scenarios(draw: Draw) -> Scenario:
    """Draw a scenario of one to four services and some hundred requests at most."""
    timing = {"step_s": pick(draw, 0.5, 1.0, 0.7), "steps": pick(draw, 6, 10), "burn_in_steps": pick(draw, 0, 1, 3)}
    services, topics, weights = _services(draw)
    span_s = timing["step_s"] * (timing["steps"] + timing["burn_in_steps"])
    return Scenario.model_validate(
        {
            "name": "drawn",
            "timing": timing,
            "slo": {"latency_s": pick(draw, 0.0625, 0.25, 2.0)},
            "network": _latency(draw),
            "services": services,
            "topics": topics,
            "workload": _workload(draw, weights, span_s),
        }
    )


def _needs(param: Param) -> str:
    """Return the group of mechanics that a parameter belongs to."""
    if param is Param.PILL:
        return "topics"
    if param is Param.HOT_KEY:
        return "changes"
    return "calls" if param > Param.CONFIG else ""


def _place(draw: Draw) -> Place:
    return Place(pick(draw, *(place for place in Place if place <= Place.OUTSIDE or "changes" in FEATURES)))


def _hit(draw: Draw, scenario: Scenario, *, consumers: bool) -> int:
    """Draw a service, mostly a consumer of a topic if it is for these and there is one."""
    names = scenario.service_names
    fitting = sorted(map(names.index, scenario.consumers)) if consumers and pick(draw, True, True, False) else []
    return int(pick(draw, *(fitting or range(len(names)))))


def _modulation(draw: Draw, scenario: Scenario) -> Modulation:
    param = pick(draw, *(param for param in Param if _needs(param) in {"", *FEATURES}))
    if param is Param.SURGE:
        return Modulation(param, Place.WORKLOAD)
    service = _hit(draw, scenario, consumers=param is Param.PILL)
    if param in EDGE:
        caller = draw(st.integers(-1, len(scenario.services) - 1))
        return Modulation(param, _place(draw), caller, -1, service)
    return Modulation(param, _place(draw), service, pick(draw, -1, -1, 0, 1))


def _instant(draw: Draw, scenario: Scenario, first: int, last: int) -> float:
    """Draw an instant from an edge on, often at an edge, or on the grid of the arrivals."""
    edge_s = draw(st.integers(first, last)) * scenario.timing.step_s
    return float(edge_s + pick(draw, 0.0, 0.0, 0.0625, 0.125, 0.3))


def _inputs(draw: Draw, scenario: Scenario, run: int) -> RunInputs:
    first, last = -scenario.timing.burn_in_steps, scenario.timing.steps
    modulations = tuple(_modulation(draw, scenario) for _ in range(pick(draw, 0, 1, 2, 4)))
    changes = [
        Change(_instant(draw, scenario, first, last), number, pick(draw, *_VALUES[modulation.param]))
        for number, modulation in enumerate(modulations)
        for _ in range(pick(draw, 0, 1, 2, 3))
    ]
    if scenario.topics and pick(draw, True, True, False):
        # there will be something to skip
        changes.append(Change(_instant(draw, scenario, first, 1), len(modulations), 1.0))
        modulations += (Modulation(Param.PILL, Place.CONTENT, _hit(draw, scenario, consumers=True)),)
    changes.sort(key=lambda change: (change.time_s, change.modulation))
    seed = draw(st.integers(0, 2**16))
    key = run_key(seed, pick(draw, *SPLITS), run, 0)
    return RunInputs(run, key, pick(draw, 0.0, 0.3), modulations, tuple(changes))


def _action(draw: Draw, scenario: Scenario, edge: int, n_runs: int) -> EngineAction:
    code = pick(draw, *(code for code in ActionCode if _feature_of(code) in {"", *FEATURES}))
    amount = 0.0
    if code is ActionCode.SCALE:
        amount = pick(draw, 1.0, 2.0, -1.0, -2.0)
    elif code in (ActionCode.LIMIT_TRAFFIC, ActionCode.RETRY_BUDGET):
        amount = pick(draw, 0.0, 0.5, 1.0)
    elif code is ActionCode.RESIZE_POOL:
        amount = pick(draw, 0.0, 0.5, 2.0)
    elif code is ActionCode.DEGRADE:
        amount = pick(draw, 0.0, 1.0)
    service = _hit(draw, scenario, consumers=code is ActionCode.SKIP_MESSAGE)
    replica = draw(st.integers(0, 3))
    run = draw(st.integers(0, n_runs - 1))
    return EngineAction(run, code, _instant(draw, scenario, edge, edge), service, replica, amount)


@st.composite
def examples(draw: Draw) -> Example:
    """Draw a scenario, one or two runs of it, and actions at random edges."""
    scenario = draw(scenarios())
    n_runs = pick(draw, 1, 1, 2)
    last = scenario.timing.steps
    stops = tuple(sorted({*draw(st.lists(st.integers(1, last), max_size=4)), last}))
    edges = (0, *stops[:-1])
    actions = []
    for _ in range(pick(draw, 0, 2, 5)):
        edge = pick(draw, *edges)
        actions.append((edge, _action(draw, scenario, edge, n_runs)))
    if scenario.topics and pick(draw, True, True, False):
        edge, service = pick(draw, *edges), _hit(draw, scenario, consumers=True)
        at_s = _instant(draw, scenario, edge, edge)
        actions.append((edge, EngineAction(0, ActionCode.SKIP_MESSAGE, at_s, service)))
    inputs = tuple(_inputs(draw, scenario, run) for run in range(n_runs))
    return Example(scenario, inputs, stops, tuple(actions), draw(st.integers(0, len(stops) - 1)))
