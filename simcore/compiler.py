"""From a scenario to the plan that machines run: nested steps become flat programs, names become numbers."""

__all__ = ["compile_plan"]

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import BalancerCode, DisciplineCode, Dist, StepCode
from simcore.errors import InputError
from simcore.layout import (
    ABSENT,
    ALIAS,
    BOARD,
    END,
    ENTRY_CLASS,
    FAIL,
    FILL,
    GATE,
    PLAN,
    POINT,
    PRIORITIES,
    RULES,
    SEED_KEY,
    SERVICE,
    SHED,
    SITE,
    STEP,
    TOPIC,
    UNLOCK,
    Plan,
    Records,
)
from simcore.model.popularity import alias_table
from simcore.model.programs import (
    Breaker,
    CachedStep,
    Call,
    CallStep,
    CpuStep,
    DelayStep,
    LockStep,
    Numbered,
    ParallelStep,
    PublishStep,
    RetryBudget,
)
from simcore.model.scenario import Scenario
from simcore.model.services import Pool, Service
from simcore.model.spec import Demand, Latency
from simcore.streams import keyed, uniform


def _dist(spec: Demand | Latency) -> tuple[int, float, float]:
    dist = Dist[spec.dist.upper()]
    shape = {Dist.LOGNORMAL: spec.sigma, Dist.GAMMA: spec.shape}.get(dist, 0.0)
    return int(dist), spec.mean_s, shape


def _is_absent(cache_key: int, share: float) -> bool:
    return share > 0.0 and uniform(keyed(np.uint64(ABSENT), cache_key), np.uint64(0)) < share


class _Compiler:
    """Turns the nested steps of a scenario into flat programs."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.services = {name: i for i, name in enumerate(scenario.service_names)}
        self.operations = {f"{s}.{o}": i for i, (s, o) in enumerate(scenario.operations)}
        self.steps: list[tuple[float, float, int, int, int, int, int, int]] = []
        self.locks: dict[tuple[int, str], int] = {}
        self.first: list[int] = []
        for (service, _), program in zip(scenario.operations, scenario.programs, strict=True):
            self.first.append(len(self.steps))
            self._emit(program, self.services[service], -1)
            self.steps.append((0.0, 0.0, END, 0, -1, -1, len(self.steps) + 1, -1))
        self.pill = len(self.steps)
        self.steps.append((0.0, 0.0, FAIL, 0, -1, -1, len(self.steps) + 1, -1))

    def _emit(self, program: tuple[Numbered, ...], service: int, lock: int) -> None:
        for step in program:
            at = len(self.steps)
            spec = step.spec
            if isinstance(spec, CpuStep | DelayStep):
                cpu = isinstance(spec, CpuStep)
                dist, mean, shape = _dist(spec.cpu if isinstance(spec, CpuStep) else spec.delay)
                kind = StepCode.CPU if cpu else StepCode.DELAY
                self.steps.append((mean, shape, int(kind), dist, step.step, -1, at + 1, lock))
            elif isinstance(spec, CallStep):
                self.steps.append((0.0, 0.0, int(StepCode.CALL), 0, step.step, step.site, at + 1, lock))
            elif isinstance(spec, LockStep):
                if lock >= 0:
                    raise InputError(f"services.{self.scenario.service_names[service]}: a lock must not hold another")
                mine = self.locks.setdefault((service, spec.lock.name), len(self.locks))
                self.steps.append((0.0, 0.0, int(StepCode.LOCK), 0, step.step, -1, at + 1, mine))
                self._emit(step.inner, service, mine)
                self.steps.append((0.0, 0.0, UNLOCK, 0, step.step, -1, len(self.steps) + 1, mine))
            elif isinstance(spec, ParallelStep):
                first = step.inner[0].site
                self.steps.append((0.0, 0.0, int(StepCode.PARALLEL), 0, step.step, first, at + 1, lock))
            elif isinstance(spec, PublishStep):
                self.steps.append((0.0, 0.0, int(StepCode.PUBLISH), 0, step.step, step.site, at + 1, lock))
            else:
                self.steps.append((0.0, 0.0, int(StepCode.CACHED), 0, step.step, step.site, 0, lock))
                if spec.cached.coalesce:
                    self.steps.append((0.0, 0.0, BOARD, 0, step.step, step.site, 0, lock))
                self._emit(step.inner, service, lock)
                self.steps.append((0.0, 0.0, FILL, 0, step.step, step.site, len(self.steps) + 1, lock))
                for skipping in range(at, at + 1 + spec.cached.coalesce):
                    self.steps[skipping] = (*self.steps[skipping][:-2], len(self.steps), lock)

    def _depths(self) -> Iterator[tuple[int, int]]:
        """Yield (site, number of cached steps that it lies in)."""

        def visit(program: tuple[Numbered, ...], depth: int) -> Iterator[tuple[int, int]]:
            for step in program:
                if step.site >= 0:
                    yield step.site, depth
                yield from visit(step.inner, depth + isinstance(step.spec, CachedStep))

        for program in self.scenario.programs:
            yield from visit(program, 0)

    def _call_of(self, site: int) -> Call:
        """Return the call of a call site; a topic calls its consumer, and calls again."""
        spec = self.scenario.sites[site].spec
        if not isinstance(spec, PublishStep):
            return self.scenario.call_of(site)
        topic = self.scenario.topics[spec.publish.topic]
        return Call.model_construct(
            to=topic.to, probability=spec.publish.probability, required=spec.publish.required,
            timeout_s=topic.timeout_s, retries=topic.redeliveries,
            backoff_s=topic.backoff_s, backoff_limit_s=topic.backoff_limit_s, jitter=topic.jitter,
        )  # fmt: skip

    def sites(self) -> tuple[list[tuple[Any, ...]], list[tuple[float, int]], dict[int, int], int]:
        """Return SITE rows, ALIAS rows, the number of keys per cache service, and the number of timer rings."""
        rows: list[tuple[Any, ...]] = []
        tables: list[tuple[float, int]] = []
        keys: dict[int, int] = {}
        rings: dict[float, int] = {}
        depths = dict(self._depths())
        for site, numbered in enumerate(self.scenario.sites):
            call = self._call_of(site)
            dist, mean, shape = _dist(self.scenario.network_of(call))
            service = self.services[call.to.partition(".")[0]]
            ring = rings.setdefault(call.timeout_s, len(rings) + 1)
            offset, first, count = 0, 0, 0
            special: tuple[float, int, int, int] = (0.0, 0, 0, 0)
            if isinstance(numbered.spec, CachedStep):
                offset, first, count = keys.get(service, 0), len(tables), numbered.spec.cached.keys.count
                keys[service] = offset + count
                of, coalesces = numbered.spec.cached.keys, numbered.spec.cached.coalesce
                special = (of.absent, of.replicated, coalesces, bool(of.absent or of.replicated or coalesces))
                accept, alias = alias_table(count, numbered.spec.cached.keys.zipf)
                tables += zip(accept.tolist(), alias.tolist(), strict=True)
            operation = self.operations[call.to]
            rows.append(
                (
                    call.probability, call.timeout_s, call.backoff_s, call.backoff_limit_s, call.jitter,
                    mean, shape, dist, service, self.first[operation], operation, call.retries, int(call.required),
                    ring,
                    int(isinstance(numbered.spec, CachedStep)), offset, first, count, depths[site],
                    *special, 0,
                )
            )  # fmt: skip
        return rows, tables, keys, 1 + len(rings)

    def gates(self) -> list[tuple[Any, ...]]:
        """Return GATE rows."""
        scenario = self.scenario
        first_branch = {
            step.inner[0].site: (len(step.inner), int(step.spec.parallel.fail_fast))
            for step in scenario.walk()
            if isinstance(step.spec, ParallelStep)
        }
        branches = {first + i: fast for first, (n, fast) in first_branch.items() for i in range(n)}
        rows: list[tuple[Any, ...]] = []
        counts: dict[tuple[int, str], int] = {}
        topics = list(scenario.topics)
        for site, numbered in enumerate(scenario.sites):
            call, (name, _) = self._call_of(site), scenario.operations[numbered.operation]
            spec = numbered.spec
            caller, callee = self.services[name], call.to.partition(".")[0]
            breaker, budget = call.breaker or Breaker(), call.retry_budget or RetryBudget()
            pools = scenario.services[name].pools if not isinstance(spec, PublishStep) else {}
            pool = pools.get(callee, Pool())
            numbers = []
            for kind, there in (("breaker", call.breaker), ("budget", call.retry_budget)):
                numbers.append(counts.get((caller, kind), 0) if there else -1)
                counts[caller, kind] = counts.get((caller, kind), 0) + (there is not None)
            rows.append(
                (
                    caller, call.loss, int(self.cancellable(call.to)), call.hedge.max if call.hedge else 0,
                    call.hedge.after_s if call.hedge else 0.0,
                    int(site in branches), first_branch.get(site, (0, 0))[0], branches.get(site, 0),
                    numbers[0], breaker.window, breaker.min_calls, breaker.failure_rate, breaker.open_s,
                    breaker.probes,
                    numbers[1], budget.rate_per_s, budget.burst,
                    list(pools).index(callee) if callee in pools else -1, float(pool.size), pool.queue, pool.wait_s,
                    topics.index(spec.publish.topic) if isinstance(spec, PublishStep) else -1,
                )
            )  # fmt: skip
        return rows

    def topics(self) -> list[tuple[int, int, int, int]]:
        """Return TOPIC rows."""
        rows: list[tuple[int, int, int, int]] = []
        for topic in self.scenario.topics.values():
            first = sum(row[1] for row in rows)
            rows.append((first, topic.partitions, topic.limit, self.services[topic.to.partition(".")[0]]))
        return rows

    def publishes(self) -> int:
        """Return how many messages one walk through a program may publish."""
        counts = [0] * len(self.scenario.operations)
        for numbered in self.scenario.sites:
            counts[numbered.operation] += isinstance(numbered.spec, PublishStep)
        return max(counts)

    def boards(self) -> bool:
        """Return whether any misses are coalesced."""
        return any(step[2] == BOARD for step in self.steps)

    def cancellable(self, operation: str) -> bool:
        """Return whether the spans of an operation stop when their callers give up."""
        service, _, name = operation.partition(".")
        return self.scenario.services[service].operations[name].cancellable

    def seeds(self, service: int) -> list[tuple[int, int]]:
        """Return a cache's keys in order of popularity, with their copies: by rank, sites taking turns within a rank.

        Keys that do not exist are left out.
        """
        cache = self.scenario.services[self.scenario.service_names[service]].cache
        copies = cache.copies if cache else 1
        offset, spaces = 0, []
        for site, numbered in enumerate(self.scenario.sites):
            to = self.scenario.callee_of(site)
            if isinstance(numbered.spec, CachedStep) and self.services[to.partition(".")[0]] == service:
                spaces.append((offset, numbered.spec.cached.keys))
                offset += numbered.spec.cached.keys.count
        top = max((of.count for _, of in spaces), default=0)
        return [
            (first + rank, copies if rank < of.replicated else 1)
            for rank in range(top)
            for first, of in spaces
            if rank < of.count and not _is_absent(first + rank, of.absent)
        ]


_SHAPES = {"constant": 0, "sinusoidal": 1, "step": 2, "burst": 3, "series": 4}


def _plain(gates: Records) -> npt.NDArray[np.bool_]:
    """Return which call sites have nothing beside the call."""
    none = [gates[number] < 0 for number in ("breaker", "budget", "pool")]
    none += [gates["topic"] < 0] + [gates[amount] == 0 for amount in ("loss", "cancellable", "hedges", "branch")]
    plain: npt.NDArray[np.bool_] = np.logical_and.reduce(none)
    return plain


def _points(scenario: Scenario) -> list[tuple[float, float]]:
    work = scenario.workload
    return [(point.time_s, point.factor) for point in work.series] if work.shape == "series" else []


def _head(scenario: Scenario, n_rings: int) -> dict[str, float]:
    """Return the fields of PLAN that say how the system is used."""
    work = scenario.workload
    a, b, c, top = {
        "constant": (0.0, 1.0, 1.0, 1.0),
        "sinusoidal": (work.amplitude, work.period_s, 1.0, 1.0 + work.amplitude),
        "step": (work.factor, work.from_s, 1.0, max(1.0, work.factor)),
        "burst": (work.factor, work.from_s, work.until_s, max(1.0, work.factor)),
        "series": (0.0, 1.0, 1.0, max((point.factor for point in work.series), default=0.0)),
    }[work.shape]
    think_dist, think_mean, think_shape = _dist(work.closed.think) if work.closed else (0, 0.0, 0.0)
    dist, mean, shape = _dist(scenario.network)
    step_s = scenario.timing.step_s
    return {
        "start_s": -scenario.timing.burn_in_steps * step_s, "step_s": step_s, "latency_s": scenario.slo.latency_s,
        "client_timeout_s": work.timeout_s, "rate_rps": work.rate_rps, "top": top, "a": a, "b": b, "c": c,
        "net_mean": mean, "net_shape": shape, "net_dist": dist, "shape": _SHAPES[work.shape],
        "n_services": len(scenario.services), "n_rings": n_rings,
        "slots_max": max(s.replicas.max for s in scenario.services.values()), "n_classes": len(work.entries),
        "deadline_s": np.inf if work.deadline_s is None else work.deadline_s,
        "n_points": len(_points(scenario)), "n_users": work.closed.users if work.closed else 0,
        "think_dist": think_dist, "think_mean": think_mean, "think_shape": think_shape,
    }  # fmt: skip


def _extent(code: _Compiler, gates: Records, classes: Records, topics: Records) -> dict[str, int]:
    """Return the fields of PLAN that say how much of what there may be."""
    branches = max(1, int(gates["branches"].max(initial=0)))
    publishes = code.publishes()
    skips = int(np.bincount(topics["service"], topics["partitions"]).max(initial=0))
    return {
        "n_sites": len(gates), "n_locks": len(code.locks),
        "breakers_wide": int(gates["breaker"].max(initial=-1)) + 1,
        "window_wide": int(gates["window"][gates["breaker"] >= 0].max(initial=0)),
        "budgets_wide": int(gates["budget"].max(initial=-1)) + 1,
        "pools_wide": int(gates["pool"].max(initial=-1)) + 1,
        "plain": int(code.scenario.workload.deadline_s is None and not classes["cancellable"].any()),
        "cancels": int(gates["cancellable"].any() or classes["cancellable"].any()),
        "wishes_wide": max(
            -(-of.stabilisation_steps // of.every_steps) if (of := spec.autoscaler) else 0
            for spec in code.scenario.services.values()
        ),
        "n_topics": len(topics), "n_partitions": int(topics["partitions"].sum()), "skips": skips, "pill": code.pill,
        # every branch of a parallel step may be followed by a hedge; a miss may become one that others wait for;
        # a message may be delivered at once
        "span_room": 2 * branches + code.boards() + publishes,
        "message_room": publishes,
        # three rows per branch at most; and a program may take and leave locks, and publish, without waiting; a
        # message that is skipped makes room for the next one to be sent
        "log_room": 64 + 3 * branches + len(code.steps) + publishes + 2 * skips,
    }  # fmt: skip


def _rules(spec: Service) -> tuple[Any, ...]:
    warmup, gc, health, scaler = spec.warmup, spec.gc, spec.health, spec.autoscaler
    return (
        int(DisciplineCode[spec.discipline.upper()]), spec.lifo_above, spec.codel.target_s, spec.codel.interval_s,
        warmup.duration_s if warmup else 0.0, warmup.factor if warmup else 1.0,
        *((1, gc.garbage_bytes, gc.least_bytes, gc.share, gc.pause_s, gc.pause_s_per_gb) if gc else (0,) * 6),
        *((health.interval_s, health.unhealthy_after, health.healthy_after) if health else (0.0, 0, 0)),
        (spec.cache.negative_ttl_s or 0.0) if spec.cache else 0.0, spec.cache.copies if spec.cache else 1,
        *((scaler.target, scaler.tolerance, scaler.every_steps, scaler.stabilisation_steps) if scaler else (0,) * 4),
        spec.replicas.min, spec.replicas.max,
    )  # fmt: skip


def compile_plan(scenario: Scenario) -> Plan:
    """Compile a scenario into flat arrays."""
    code = _Compiler(scenario)
    sites, tables, keys, n_rings = code.sites()
    services: list[tuple[Any, ...]] = []
    seeds: list[tuple[int, int]] = []
    rules, sheds = [], []
    for number, spec in enumerate(scenario.services.values()):
        own_seeds = code.seeds(number)
        memory = spec.memory
        rules.append(_rules(spec))
        sheds += [(spec.shed_above.get(priority, -1),) for priority in range(PRIORITIES)]
        services.append(
            (
                spec.cores, spec.speed, spec.startup_s, spec.drain_s, spec.cache.ttl_s if spec.cache else 0.0,
                memory.base_bytes, memory.per_span_bytes, memory.limit_bytes, memory.leak_bytes,
                spec.threads, spec.queue, int(BalancerCode[spec.balancer.upper()]), spec.replicas.initial,
                spec.cache.slots if spec.cache else 0, keys.get(number, 0), len(seeds), len(own_seeds),
                int(spec.discipline == "fifo" and not spec.shed_above and spec.gc is None),
            )
        )  # fmt: skip
        seeds += own_seeds
    # added up one by one, since Python's own sum rounds differently from version to version
    total = 0.0
    for entry in scenario.workload.entries:
        total += entry.weight
    entries, reached = [], 0.0
    for entry in scenario.workload.entries:
        reached += entry.weight
        operation = code.operations[entry.operation]
        service = code.services[entry.operation.partition(".")[0]]
        cancellable = int(code.cancellable(entry.operation))
        entries.append((reached / total, operation, service, code.first[operation], entry.priority, cancellable))
    arrays = {
        name: np.array(rows, dtype)
        for name, rows, dtype in (
            ("services", services, SERVICE), ("rules", rules, RULES), ("sheds", sheds, SHED),
            ("steps", code.steps, STEP), ("sites", sites, SITE), ("aliases", tables, ALIAS), ("seeds", seeds, SEED_KEY),
            ("classes", entries, ENTRY_CLASS), ("gates", code.gates(), GATE), ("points", _points(scenario), POINT),
            ("topics", code.topics(), TOPIC),
        )
    }  # fmt: skip
    arrays["sites"]["plain"] = _plain(arrays["gates"])
    head = np.zeros(1, PLAN)
    fields = _head(scenario, n_rings) | _extent(code, arrays["gates"], arrays["classes"], arrays["topics"])
    for name, value in fields.items():
        head[name] = value
    for name, array in arrays.items():
        head[name] = array.ctypes.data
    return Plan(head, **arrays)
