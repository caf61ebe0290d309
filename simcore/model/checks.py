"""Rules between the parts of a scenario that no single field can check."""

__all__ = ["check_references", "check_values"]

from collections.abc import Iterator
from itertools import pairwise

from simcore.codes import Place
from simcore.errors import suggest
from simcore.model.action_types import ACTIONS, ActionAim, services_for
from simcore.model.catalogue import CATALOGUE
from simcore.model.documents import Mistake, Path
from simcore.model.fault_types import Aim, targets_of
from simcore.model.programs import CachedStep, CpuStep, DelayStep, LockStep, ParallelStep, PublishStep
from simcore.model.scenario import Scenario, Workload
from simcore.model.services import Service
from simcore.model.spec import Demand, Spec
from simcore.model.steps import AnyStep, calls_of, steps

#: Steps of one operation; draws that belong to no step are numbered 4095.
_MAX_STEPS = 4000
#: Benign events of one kind in an episode, on average.
_MAX_NOISE = 1000.0
#: Cached steps inside each other: the kernels keep a bit of a span for each.
_MAX_NESTED = 60
#: Cache keys of one scenario: they are numbered and held per run.
_MAX_KEYS = 10_000_000


def check_references(scenario: Scenario) -> list[Mistake]:
    """Return the names that nothing bears: call targets, entries, fault types, places, action names, targets."""
    return [
        *_calls(scenario), *_topics(scenario), *_cycles(scenario), *_entries(scenario), *_noise_names(scenario),
        *_fault_names(scenario), *_action_names(scenario),
    ]  # fmt: skip


def check_values(scenario: Scenario) -> list[Mistake]:
    """Return the values that do not fit together."""
    return [*_services(scenario), *_workload(scenario), *_timing(scenario), *_faults(scenario), *_actions(scenario)]


def _operation_rule(to: str, scenario: Scenario) -> str | None:
    known = [f"{service}.{operation}" for service, operation in scenario.operations]
    return None if to in known else f"must name an operation of a service, got '{to}'{suggest(to, known)}"


def _calls(scenario: Scenario) -> Iterator[Mistake]:
    caches = [name for name, service in scenario.services.items() if service.cache]
    for at, _, step in steps(scenario):
        for path, call in calls_of(at, step):
            rule = _operation_rule(call.to, scenario)
            if rule is None and isinstance(step, CachedStep) and call.to.partition(".")[0] not in caches:
                rule = f"must name a service with a cache ({', '.join(caches) or 'there is none'}), got '{call.to}'"
            if rule:
                yield Mistake((*path, "to"), rule)
    called: dict[str, set[str]] = {name: set() for name in scenario.services}
    for at, operation, step in steps(scenario):
        called[operation.partition(".")[0]] |= {call.to.partition(".")[0] for _, call in calls_of(at, step)}
    for name, service in scenario.services.items():
        for callee in service.pools:
            if callee not in called[name]:
                rule = f"must name a service that {name} calls, got '{callee}'{suggest(callee, called[name])}"
                yield Mistake(("services", name, "pools", callee), rule)


def _topics(scenario: Scenario) -> Iterator[Mistake]:
    """Yield topics that lead nowhere or that nobody writes to, and publications to no topic."""
    publications = [(path, step.publish) for path, _, step in steps(scenario) if isinstance(step, PublishStep)]
    used = {publish.topic for _, publish in publications}
    for name, topic in scenario.topics.items():
        rule = _operation_rule(topic.to, scenario)
        if rule:
            yield Mistake(("topics", name, "to"), rule)
        if name not in used:
            yield Mistake(("topics", name), "must be published to by a step, and is by none")
    for path, publish in publications:
        if publish.topic not in scenario.topics:
            known = f"must name a topic ({', '.join(scenario.topics) or 'there is none'})"
            rule = f"{known}, got '{publish.topic}'{suggest(publish.topic, scenario.topics)}"
            yield Mistake((*path, "publish", "topic"), rule)


def _leads(path: Path, step: AnyStep, scenario: Scenario) -> Iterator[tuple[Path, str]]:
    """Yield (path, operation) of what comes of a step: the calls that it makes, the consumer of its message."""
    yield from (((*at, "to"), call.to) for at, call in calls_of(path, step))
    if isinstance(step, PublishStep) and step.publish.topic in scenario.topics:
        yield (*path, "publish", "topic"), scenario.topics[step.publish.topic].to


def _cycles(scenario: Scenario) -> Iterator[Mistake]:
    """Yield every call or message that closes a cycle, once."""
    graph: dict[str, list[tuple[str, Path]]] = {f"{s}.{o}": [] for s, o in scenario.operations}
    for at, operation, step in steps(scenario):
        graph[operation] += [(to, path) for path, to in _leads(at, step, scenario) if to in graph]
    done: set[str] = set()
    for start in graph:
        # Depth first without recursion: the trail of open operations, each with the calls still to follow.
        trail = [] if start in done else [(start, iter(graph[start]))]
        while trail:
            here, calls = trail[-1]
            following = next(calls, None)
            if following is None:
                done.add(here)
                trail.pop()
                continue
            to, path = following
            names = [name for name, _ in trail]
            if to in names:
                cycle = " -> ".join([*names[names.index(to) :], to])
                rule = "lead back to who publishes" if path[-1] == "topic" else "call back into its own callers"
                yield Mistake(path, f"must not {rule}, got the cycle {cycle}")
            elif to not in done:
                trail.append((to, iter(graph[to])))


def _entries(scenario: Scenario) -> Iterator[Mistake]:
    for i, entry in enumerate(scenario.workload.entries):
        rule = _operation_rule(entry.operation, scenario)
        if rule:
            yield Mistake(("workload", "entries", i, "operation"), rule)


def _noise_names(scenario: Scenario) -> Iterator[Mistake]:
    names = scenario.service_names
    for i, target in enumerate(scenario.noise.targets or []):
        if target not in names:
            yield Mistake(("noise", "targets", i), f"must name a service, got '{target}'{suggest(target, names)}")


def _fault_names(scenario: Scenario) -> Iterator[Mistake]:
    types = [name for name, kind in CATALOGUE.items() if kind.aim is not Aim.NOTHING]
    for i, row in enumerate(scenario.faults.mix):
        path: Path = ("faults", "mix", i)
        if row.type == "none":
            yield Mistake((*path, "type"), "must not be 'none'; the share of runs without a fault is faults.none_share")
            continue
        if row.type not in types:
            rule = f"must be one of {', '.join(types)}, got '{row.type}'{suggest(row.type, types)}"
            yield Mistake((*path, "type"), rule)
            continue
        kind = CATALOGUE[row.type]
        legal = [target.written(scenario) for target in targets_of(kind, scenario)]
        if not legal:
            yield Mistake((*path, "type"), f"{row.type} is aimed at {kind.aim.value}, and there is none")
        for k, target in enumerate(row.targets or []):
            if legal and target not in legal:
                rule = f"must be one of {', '.join(legal)}, got '{target}'{suggest(target, legal)}"
                yield Mistake((*path, "targets", k), rule)
        places = [place.name.lower() for place in Place if kind.may_live_in(place)]
        for place in row.places or {}:
            if place not in places:
                rule = f"is no place for {row.type}; it may live in {', '.join(places)}{suggest(place, places)}"
                yield Mistake((*path, "places", place), rule)
        if row.profile and row.profile not in kind.profiles:
            rule = f"must be one of {', '.join(kind.profiles)} for {row.type}, got '{row.profile}'"
            yield Mistake((*path, "profile"), rule)


def _action_names(scenario: Scenario) -> Iterator[Mistake]:
    for name, spec in scenario.actions.items():
        path: Path = ("actions", name)
        if name not in ACTIONS:
            yield Mistake(path, f"is not a known action; they are {', '.join(ACTIONS)}{suggest(name, ACTIONS)}")
            continue
        aim = ACTIONS[name].aim
        if aim is ActionAim.SYSTEM and spec.targets is not None:
            yield Mistake((*path, "targets"), f"must be absent, {name} is aimed at no service")
            continue
        legal = services_for(aim, scenario)
        what = "a service" if aim is ActionAim.REPLICA else aim.value
        for i, target in enumerate(spec.targets or []):
            if target not in legal:
                yield Mistake((*path, "targets", i), f"must name {what}, got '{target}'{suggest(target, legal)}")


def _services(scenario: Scenario) -> Iterator[Mistake]:
    for name, service in scenario.services.items():
        memory = service.memory
        if memory.limit_bytes <= memory.base_bytes + memory.per_span_bytes:
            need = memory.base_bytes + memory.per_span_bytes
            rule = f"must be > base_bytes + per_span_bytes = {need}, got {memory.limit_bytes}"
            yield Mistake(("services", name, "memory", "limit_bytes"), rule)
        yield from _discipline(("services", name), service)
        yield from _autoscaler(("services", name), service)
    yield from _caches(scenario)
    counts: dict[str, int] = {}
    keys = 0
    for path, operation, step in steps(scenario):
        counts[operation] = counts.get(operation, 0) + 1
        yield from _step(path, step)
        counts[operation] += len(step.parallel.branches) if isinstance(step, ParallelStep) else 0
        if isinstance(step, CachedStep):
            keys += step.cached.keys.count
    yield from _demand(("network",), scenario.network)
    for operation, count in counts.items():
        if count > _MAX_STEPS:
            owner, _, program = operation.partition(".")
            rule = f"must be at most {_MAX_STEPS} in all, inner ones included, got {count}"
            yield Mistake(("services", owner, "operations", program, "steps"), rule)
    if keys > _MAX_KEYS:
        yield Mistake(("services",), f"the keys of all cached steps must be at most {_MAX_KEYS}, got {keys}")


def _step(path: Path, step: AnyStep) -> Iterator[Mistake]:
    if isinstance(step, CpuStep):
        yield from _demand((*path, "cpu"), step.cpu)
    elif isinstance(step, DelayStep):
        yield from _demand((*path, "delay"), step.delay)
    elif isinstance(step, LockStep) and any(_holds_lock(inner) for inner in step.lock.steps):
        yield Mistake((*path, "lock", "steps"), "must not take a further lock: nested locks can wait for each other")
    # the path begins with the names of the service and the operation
    if isinstance(step, CachedStep) and path[4:].count("cached") >= _MAX_NESTED:
        yield Mistake((*path, "cached"), f"must not lie in {_MAX_NESTED} or more other cached steps")
    for at, call in calls_of(path, step):
        if call.network is not None:
            yield from _demand((*at, "network"), call.network)


def _holds_lock(step: AnyStep) -> bool:
    return isinstance(step, LockStep) or (isinstance(step, CachedStep) and any(map(_holds_lock, step.cached.steps)))


def _discipline(path: Path, service: Service) -> Iterator[Mistake]:
    yield from _only(path, service, "lifo_above", service.discipline == "lifo", "discipline is lifo")
    yield from _only(path, service, "codel", service.discipline == "codel", "discipline is codel")


def _autoscaler(path: Path, service: Service) -> Iterator[Mistake]:
    spec, replicas = service.autoscaler, service.replicas
    if spec is None:
        return
    if replicas.min == replicas.max:
        rule = f"must be absent unless replicas.min < replicas.max, got {replicas.min} and {replicas.max}"
        yield Mistake((*path, "autoscaler"), rule)
    # the utilisation is 1 at most
    if not spec.target * (1.0 + spec.tolerance) < 1.0:
        rule = f"must be < 1 / (1 + tolerance) = {1.0 / (1.0 + spec.tolerance):.4g} (or it never adds a replica)"
        yield Mistake((*path, "autoscaler", "target"), f"{rule}, got {spec.target:g}")


def _caches(scenario: Scenario) -> Iterator[Mistake]:
    """Yield what caches and their users say that would do nothing without the other."""
    reads = [(path, step.cached) for path, _, step in steps(scenario) if isinstance(step, CachedStep)]
    for name, service in scenario.services.items():
        if service.cache is None:
            continue
        path: Path = ("services", name, "cache")
        keys = [cached.keys for _, cached in reads if cached.to.partition(".")[0] == name]
        copied, absent = any(spec.replicated for spec in keys), any(spec.absent > 0.0 for spec in keys)
        yield from _only(path, service.cache, "copies", copied, "a cached step has replicated keys in it")
        yield from _only(path, service.cache, "negative_ttl_s", absent, "a cached step has absent keys in it")
    for path, cached in reads:
        yield from _only((*path, "cached"), cached, "coalesce", bool(cached.steps), "there are steps to run once")
        service_or_none = scenario.services.get(cached.to.partition(".")[0])
        if service_or_none is None or service_or_none.cache is None:
            continue
        copies = min(service_or_none.cache.copies, service_or_none.replicas.max)
        here, when = (*path, "cached", "keys"), "the cache has copies > 1 and replicas.max > 1"
        yield from _only(here, cached.keys, "replicated", copies > 1, when)
        if cached.keys.replicated > cached.keys.count:
            rule = f"must be <= count = {cached.keys.count}, got {cached.keys.replicated}"
            yield Mistake((*here, "replicated"), rule)


def _demand(path: Path, demand: Demand) -> Iterator[Mistake]:
    yield from _only(path, demand, "sigma", demand.dist == "lognormal", "dist is lognormal")
    yield from _only(path, demand, "shape", demand.dist == "gamma", "dist is gamma")


def _only(path: Path, spec: Spec, key: str, allowed: bool, when: str) -> Iterator[Mistake]:
    """Yield a mistake if a key has been set to what would silently do nothing."""
    value = getattr(spec, key)
    if not allowed and key in spec.model_fields_set and value != type(spec).model_fields[key].default:
        yield Mistake((*path, key), f"must be absent unless {when}, got {value!r}")


def _workload(scenario: Scenario) -> Iterator[Mistake]:
    workload, slo = scenario.workload, scenario.slo
    path: Path = ("workload",)
    wave, step, burst = (workload.shape == shape for shape in ("sinusoidal", "step", "burst"))
    for key in ("amplitude", "period_s", "random_phase", "phase"):
        yield from _only(path, workload, key, wave, "shape is sinusoidal")
    for key in ("factor", "from_s"):
        yield from _only(path, workload, key, step or burst, "shape is step or burst")
    yield from _only(path, workload, "until_s", burst, "shape is burst")
    if burst and not workload.from_s < workload.until_s:
        rule = f"must be > from_s = {workload.from_s:g}, got {workload.until_s:g}"
        yield Mistake((*path, "until_s"), rule)
    yield from _series(path, workload)
    if workload.closed is not None:
        if workload.shape != "constant":
            rule = "must be constant if there are closed users, who wait and think whatever the time"
            yield Mistake((*path, "shape"), f"{rule}, got {workload.shape!r}")
        yield from _demand((*path, "closed", "think"), workload.closed.think)
        if not workload.closed.think.mean_s > 0.0:
            yield Mistake((*path, "closed", "think", "mean_s"), "must be > 0, got 0")
    for key in ("latency_s", "p95_s"):
        if getattr(slo, key) > workload.timeout_s:
            rule = f"must be <= workload.timeout_s = {workload.timeout_s:g}, got {getattr(slo, key):g}"
            yield Mistake(("slo", key), rule)


def _series(path: Path, workload: Workload) -> Iterator[Mistake]:
    """Yield what is wrong with recorded rates."""
    recorded, points = workload.shape == "series", workload.series
    for key in ("series", "series_csv"):
        yield from _only(path, workload, key, recorded, "shape is series")
    if not recorded:
        return
    if points and workload.series_csv is not None:
        yield Mistake((*path, "series_csv"), f"must be absent if series is given, got {workload.series_csv!r}")
    if not points and workload.series_csv is None:
        yield Mistake((*path, "series"), "must have at least 1 item if shape is series and there is no series_csv")
    for i, (before, point) in enumerate(pairwise(points), 1):
        if not point.time_s > before.time_s:
            rule = f"must be > {before.time_s:g}, that of the point before, got {point.time_s:g}"
            yield Mistake((*path, "series", i, "time_s"), rule)
    if points and not any(point.factor > 0.0 for point in points):
        yield Mistake((*path, "series"), "must have a point with a factor > 0")


def _timing(scenario: Scenario) -> Iterator[Mistake]:
    timing, noise = scenario.timing, scenario.noise
    hours = timing.steps * timing.step_s / 3600.0
    for key in ("deploys_per_hour", "config_changes_per_hour", "bursts_per_hour"):
        if getattr(noise, key) * hours > _MAX_NOISE:
            rule = f"must give at most {_MAX_NOISE:g} events in an episode, got {getattr(noise, key):g}"
            yield Mistake(("noise", key), rule)
    if noise.bursts_per_hour > 0.0 and not noise.burst_s.min > 0.0:
        yield Mistake(("noise", "burst_s", "min"), f"must be > 0, got {noise.burst_s.min:g}")
    if noise.bursts_per_hour > 0.0 and not 1.0 <= noise.burst_factor.min <= noise.burst_factor.max <= 100.0:
        rule = f"must lie in [1, 100], got {noise.burst_factor.min:g} to {noise.burst_factor.max:g}"
        yield Mistake(("noise", "burst_factor"), rule)


def _faults(scenario: Scenario) -> Iterator[Mistake]:
    faults, timing = scenario.faults, scenario.timing
    if not faults.mix:
        return
    horizon, follow_up = timing.steps * timing.step_s, timing.follow_up_steps * timing.step_s
    if faults.onset_s.min < 0.0:
        yield Mistake(("faults", "onset_s", "min"), f"must be >= 0, got {faults.onset_s.min:g}")
    if faults.onset_s.max + follow_up > horizon:
        rule = f"must leave a follow-up of {follow_up:g} s before the end at {horizon:g} s, got {faults.onset_s.max:g}"
        yield Mistake(("faults", "onset_s", "max"), rule)
    for i, row in enumerate(faults.mix):
        path: Path = ("faults", "mix", i)
        if not 0.0 < row.severity.min <= row.severity.max <= 1.0:
            rule = f"must lie in (0, 1], got {row.severity.min:g} to {row.severity.max:g}"
            yield Mistake((*path, "severity"), rule)
        if row.duration_s is not None and not 0.0 < row.duration_s.min <= row.duration_s.max <= 1e9:
            rule = f"must lie in (0, 1e9], got {row.duration_s.min:g} to {row.duration_s.max:g}"
            yield Mistake((*path, "duration_s"), rule)


def _actions(scenario: Scenario) -> Iterator[Mistake]:
    for name, spec in scenario.actions.items():
        path: Path = ("actions", name, "values")
        values, allowed = spec.values or [], ACTIONS[name].values if name in ACTIONS else None
        if values and allowed is None:
            yield Mistake(path, f"must be absent, {name} has no amounts")
            continue
        for i, value in enumerate(values):
            if allowed and not allowed.allow(value):
                yield Mistake((*path, i), f"{allowed.rule}, got {value:g}")
        if len(set(values)) < len(values):
            yield Mistake(path, f"must differ from each other, got {values}")
