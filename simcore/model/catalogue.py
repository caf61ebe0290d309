"""The fault catalogue: one row per type. What a fault does is a set of parameters; what follows is the model's affair.

The names, mechanisms and fixes are those of the field (docs/explanation/model.md, "Faults"). A fault heals when the
place it lives in is replaced, or when its time is over; ``fixes`` only says so in words.
"""

__all__ = ["CATALOGUE"]

import math
from collections.abc import Mapping

from simcore.codes import Param, Place
from simcore.model.claims import Claim, Remedy, Sign, Where
from simcore.model.fault_types import Aim, FaultType
from simcore.model.programs import DelayStep
from simcore.model.scenario import Scenario
from simcore.model.visits import visits
from simcore.windows import Metric

_ANYWHERE = frozenset({Place.PROCESS, Place.NODE, Place.VERSION, Place.CONFIG, Place.QUOTA, Place.OUTSIDE})
#: Not PROCESS: each crash would heal what causes it.
_SURVIVES = _ANYWHERE - {Place.PROCESS}


def _nothing(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ()


def _latency_spike(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    name = scenario.service_names[service]
    delays = any(
        isinstance(step.spec, DelayStep) and scenario.operations[step.operation][0] == name for step in scenario.walk()
    )
    network = (Param.NETWORK, 1.0 + 99.0 * strength)
    # A service that waits for nothing has only its work to get slower.
    return (network, (Param.DELAY, 1.0 + 49.0 * strength) if delays else (Param.DEMAND, 1.0 + 1.0 * strength))


def _error_burst(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.OK, 1.0 - 0.7 * strength),)


def _cpu_saturation(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CORES, 1.0 - 0.85 * strength),)


def _slow_replica(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.SPEED, 1.0 - 0.9 * strength),)


def _memory_leak(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    # Full after one minute at strength 1 and the base rate, after four at 0.25. Collecting ever more garbage costs CPU
    # before the memory is gone; a service with a collector pays in pauses instead.
    leak = (Param.LEAK, _leak_bytes(strength, scenario, service, fill_s=60.0))
    collects = scenario.services[scenario.service_names[service]].gc is not None
    return (leak,) if collects else (leak, (Param.DEMAND, 1.0 + 0.4 * strength))


def _leak_bytes(strength: float, scenario: Scenario, service: int, fill_s: float) -> float:
    """Return the bytes a span must leave behind for the memory to be full after ``fill_s / strength``."""
    spec = scenario.services[scenario.service_names[service]]
    span_rate = scenario.workload.rate_rps * visits(scenario)[service] / spec.replicas.initial
    free = spec.memory.limit_bytes - spec.memory.base_bytes
    leak = free / (fill_s / strength * max(span_rate, 1e-3))
    # Two digits, since the sums behind the rate may differ in the last bits between platforms.
    unit = 10.0 ** (math.floor(math.log10(leak)) - 1) if leak >= 100.0 else 1.0
    return float(max(1, round(leak / unit) * round(unit)))


def _crash_loop(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CRASH, 15.0 / strength),)


def _bad_deploy(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.DEPLOY, 1.0), (Param.DEMAND, 1.0 + 1.2 * strength), (Param.OK, 1.0 - 0.15 * strength))


def _traffic_surge(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.SURGE, 0.9 * strength),)


def _cache_flush(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.FLUSH, 1.0),)


def _cache_poison(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.POISON, strength),)


def _cpu_throttle(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CORES, 1.0 - 0.8 * strength),)


def _retry_storm(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.SPEED, 1.0 - 0.9 * strength),)


def _gc_death_spiral(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    # Four fifths of the memory are taken by the time that the fault usually lasts, and stay so: a kill would be a cure.
    return ((Param.LEAK, _leak_bytes(strength, scenario, service, fill_s=75.0)),)


def _pool_exhaustion(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.NETWORK, 1.0 + 299.0 * strength), (Param.DELAY, 1.0 + 49.0 * strength))


def _lock_contention(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.HOLD, 1.0 + 9.0 * strength),)


def _slow_query(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.DEMAND, 1.0 + 2.0 * strength),)


def _hot_key(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.HOT_KEY, 0.9 * strength),)


def _net_delay(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.EDGE_DELAY, 1.0 + 149.0 * strength),)


def _net_loss(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.LOSS_OUT, 0.3 * strength), (Param.LOSS_BACK, 0.3 * strength))


def _partition(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    cut = 0.9 + 0.1 * strength
    return ((Param.LOSS_OUT, cut), (Param.LOSS_BACK, cut))


def _one_way_partition(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.LOSS_BACK, 0.9 + 0.1 * strength),)


def _dependency_down(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.OK, 1.0 - strength),)


def _config_error(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CONFIG, 1.0), (Param.TIMEOUT, 1.0 - 0.97 * strength), (Param.POOL, 1.0 - 0.9 * strength))


def _expiry(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.OK, 1.0 - strength),)


def _queue_backlog(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.DEMAND, 1.0 + 3.0 * strength),)


def _poison_pill(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.PILL, strength),)


def _noisy_neighbour(strength: float, scenario: Scenario, service: int) -> tuple[tuple[Param, float], ...]:
    return ((Param.CORES, 1.0 - 0.7 * strength), (Param.NETWORK, 1.0 + 9.0 * strength))


#: Every fault type by name. The mix in which a scenario draws them is the scenario's.
CATALOGUE: Mapping[str, FaultType] = {
    "none": FaultType(
        mechanism="nothing happens: a control run",
        signature="none",
        fixes="noop",
        aim=Aim.NOTHING,
        effects=_nothing,
        places={Place.OUTSIDE: 1.0},
        profiles=("step",),
    ),
    "latency_spike": FaultType(
        mechanism="network and waiting times of a service grow (its work, where it waits for nothing)",
        signature="its p95 up, errors flat, CPU flat; callers' threads held longer",
        fixes="restart if it lives in the process, rollback if in the configuration or version, else wait",
        aim=Aim.SERVICE,
        effects=_latency_spike,
        places={Place.PROCESS: 0.7, Place.CONFIG: 0.2, Place.NODE: 0.1},
        also=_ANYWHERE,
        claim=Claim(
            (
                Sign(Metric.P95_S),
                Sign(Metric.P95_S, Where.CALLERS),
            ),
            Remedy("restart"),
            Remedy("scale"),
            target="db",
        ),
    ),
    "error_burst": FaultType(
        mechanism="spans of a service fail with a probability",
        signature="its error rate up, latency flat or down",
        fixes="restart if it lives in the process, rollback if in the version",
        aim=Aim.SERVICE,
        effects=_error_burst,
        places={Place.PROCESS: 0.5, Place.VERSION: 0.5},
        also=_ANYWHERE,
        claim=Claim(
            (Sign(Metric.ERROR_RATE),),
            Remedy("restart"),
            Remedy("limit_traffic", Where.SYSTEM, amount=0.7),
            target="db",
        ),
    ),
    "cpu_saturation": FaultType(
        mechanism="background load in a service's processes takes cores",
        signature="CPU at its limit, p95 up",
        fixes="restart, scale",
        aim=Aim.SERVICE,
        effects=_cpu_saturation,
        places={Place.PROCESS: 1.0},
        also=_ANYWHERE,
        claim=Claim(
            (
                Sign(Metric.CPU_UTIL),
                Sign(Metric.P95_S),
            ),
            Remedy("restart"),
            Remedy("limit_traffic", Where.SYSTEM, amount=0.7),
            target="front",
        ),
    ),
    "slow_replica": FaultType(
        mechanism="one replica works slowly, while its health check passes",
        signature="p99 up, p50 flat, skew between replicas",
        fixes="quarantine",
        aim=Aim.REPLICA,
        effects=_slow_replica,
        places={Place.NODE: 1.0},
        also=_ANYWHERE,
        claim=Claim((Sign(Metric.P99_S),), Remedy("quarantine"), Remedy("restart"), target="front/0"),
    ),
    "memory_leak": FaultType(
        mechanism="every finished span leaves memory behind and collecting it costs CPU, until the replica is killed",
        signature="memory ramps up and falls in a saw-tooth, CPU up, errors at each kill",
        fixes="restart (for a while), rollback (for good)",
        aim=Aim.SERVICE,
        effects=_memory_leak,
        places={Place.VERSION: 1.0},
        also=_ANYWHERE,
        claim=Claim((Sign(Metric.MEMORY_FRAC),), Remedy("rollback"), Remedy("restart"), target="db"),
    ),
    "crash_loop": FaultType(
        mechanism="replicas die some seconds after their start, with a growing back-off",
        signature="restarts, capacity in a saw-tooth, resets at the callers",
        fixes="rollback",
        aim=Aim.SERVICE,
        effects=_crash_loop,
        places={Place.VERSION: 1.0},
        also=_SURVIVES,
        claim=Claim((Sign(Metric.REPLICAS_UP, up=False),), Remedy("rollback"), Remedy("restart"), target="db"),
    ),
    "bad_deploy": FaultType(
        mechanism="a new version is rolled out that needs more CPU and fails more often",
        signature="latency and errors step up at a deploy event",
        fixes="rollback",
        aim=Aim.WHOLE_SERVICE,
        effects=_bad_deploy,
        places={Place.VERSION: 1.0},
        claim=Claim(
            (
                Sign(Metric.ERROR_RATE),
                Sign(Metric.P95_S),
            ),
            Remedy("rollback"),
            Remedy("restart"),
            target="front",
        ),
    ),
    "traffic_surge": FaultType(
        mechanism="additional requests arrive",
        signature="rate, queues and CPU up together",
        fixes="scale; limit_traffic when saturated",
        aim=Aim.WORKLOAD,
        effects=_traffic_surge,
        places={Place.WORKLOAD: 1.0},
        claim=Claim(
            (
                Sign(Metric.P95_S, Where.SYSTEM),
                Sign(Metric.REQUEST_RATE_RPS, Where.SYSTEM),
            ),
            Remedy("scale", Where.ENTRY, amount=3.0),
            Remedy("restart", Where.ENTRY),
            load=1.8,
        ),
    ),
    "cache_flush": FaultType(
        mechanism="all entries of a cache are gone; the misses hit what lies behind it",
        signature="hit rate falls before the rate behind it rises",
        fixes="limit_traffic until it is warm; not clear_cache",
        aim=Aim.CACHE,
        effects=_cache_flush,
        places={Place.CONTENT: 1.0},
        profiles=("once", "pulses"),
        claim=Claim(
            (
                Sign(Metric.HIT_RATIO, up=False),
                Sign(Metric.REQUEST_RATE_RPS, Where.BEHIND),
            ),
            Remedy("warm_cache"),
            Remedy("clear_cache"),
            act_after_s=5.0,
            judged_s=(5.0, 20.0),
        ),
    ),
    "cache_poison": FaultType(
        mechanism="a share of a cache's entries turns wrong and never expires",
        signature="errors at a high hit rate",
        fixes="clear_cache, restart",
        aim=Aim.CACHE,
        effects=_cache_poison,
        places={Place.CONTENT: 1.0},
        profiles=("once", "pulses"),
        claim=Claim((Sign(Metric.ERROR_RATE, Where.CALLERS),), Remedy("clear_cache"), Remedy("restart", Where.CALLERS)),
    ),
    "cpu_throttle": FaultType(
        mechanism="the CPU quota of a service shrinks, while its replicas look up",
        signature="CPU at its quota, p99 up, then p95",
        fixes="raise_limit, scale",
        aim=Aim.SERVICE,
        effects=_cpu_throttle,
        places={Place.QUOTA: 1.0},
        also=_ANYWHERE,
        claim=Claim(
            (
                Sign(Metric.CPU_UTIL),
                Sign(Metric.P95_S),
            ),
            Remedy("raise_limit"),
            Remedy("restart"),
            target="front",
        ),
    ),
    "noisy_neighbour": FaultType(
        mechanism="another tenant of the node takes cores and network",
        signature="CPU at its limit and p95 up on one replica, without a change of its own",
        fixes="quarantine, failover; a restart does not leave the node",
        aim=Aim.REPLICA,
        effects=_noisy_neighbour,
        places={Place.NODE: 1.0},
        also=_ANYWHERE,
        claim=Claim((Sign(Metric.P99_S),), Remedy("quarantine"), Remedy("restart"), target="front/0", load=1.5),
    ),
    "slow_query": FaultType(
        mechanism="a service needs more CPU for the same requests",
        signature="its p95 and CPU up first, its callers next",
        fixes="rollback",
        aim=Aim.SERVICE,
        effects=_slow_query,
        places={Place.VERSION: 0.6, Place.CONFIG: 0.4},
        also=_ANYWHERE,
        claim=Claim(
            (
                Sign(Metric.CPU_UTIL),
                Sign(Metric.P95_S),
            ),
            Remedy("rollback"),
            Remedy("restart"),
            target="db",
        ),
    ),
    "retry_storm": FaultType(
        mechanism="a short loss of capacity; time-outs and retries may keep the overload up when it is over",
        signature="retries up, goodput down, after the trigger too",
        fixes="retries off (set_retry_budget), deep shedding, more capacity; not a restart",
        aim=Aim.SERVICE,
        effects=_retry_storm,
        places={Place.OUTSIDE: 1.0},
        profiles=("step",),
        duration_s=20.0,
        claim=Claim(
            (
                Sign(Metric.RETRIES),
                Sign(Metric.ERROR_RATE, Where.SYSTEM),
            ),
            Remedy("set_retry_budget", Where.CALLERS, amount=0.0),
            Remedy("restart"),
            target="db",
            load=2.7,
        ),
    ),
    "gc_death_spiral": FaultType(
        mechanism="memory is taken for a minute and never given back: collections get longer and more frequent",
        signature="memory up, CPU idle in pauses, goodput down",
        fixes="restart, limit_traffic",
        aim=Aim.COLLECTING,
        effects=_gc_death_spiral,
        places={Place.PROCESS: 1.0},
        also=_ANYWHERE,
        profiles=("step",),
        duration_s=60.0,
        claim=Claim(
            (
                Sign(Metric.MEMORY_FRAC),
                Sign(Metric.P99_S),
            ),
            Remedy("restart"),
            Remedy("scale"),
            act_after_s=75.0,
        ),
    ),
    "pool_exhaustion": FaultType(
        mechanism="answers of a service come late, so that its callers run out of connections",
        signature="attempts wait for a connection at its callers, its CPU idle",
        fixes="restart or rollback of the service, resize_pool at its callers",
        aim=Aim.POOLED,
        effects=_pool_exhaustion,
        places={Place.PROCESS: 0.7, Place.CONFIG: 0.3},
        also=_ANYWHERE,
        claim=Claim((Sign(Metric.POOL_WAITING, Where.CALLERS),), Remedy("restart"), Remedy("restart", Where.CALLERS)),
    ),
    "lock_contention": FaultType(
        mechanism="the work inside a service's serial sections grows",
        signature="latency up, CPU low; more replicas do not help",
        fixes="rollback or restart, limit_traffic",
        aim=Aim.LOCKING,
        effects=_lock_contention,
        places={Place.VERSION: 0.5, Place.PROCESS: 0.5},
        also=_ANYWHERE,
        claim=Claim((Sign(Metric.P95_S),), Remedy("rollback"), Remedy("scale")),
    ),
    "hot_key": FaultType(
        mechanism="requests gather on one key of a cache",
        signature="one shard busy, the others idle",
        fixes="limit_traffic; more shards do not help",
        aim=Aim.CACHE,
        effects=_hot_key,
        places={Place.WORKLOAD: 1.0},
        profiles=("step", "pulses"),
        claim=Claim(
            (Sign(Metric.P95_S),), Remedy("limit_traffic", Where.SYSTEM, amount=0.5), Remedy("scale"), load=2.0
        ),
    ),
    "net_delay": FaultType(
        mechanism="the network between two services gets slower",
        signature="latency up at the caller, not at the callee",
        fixes="failover if it lives at the node, open_breaker",
        aim=Aim.EDGE,
        effects=_net_delay,
        places={Place.NODE: 0.5, Place.OUTSIDE: 0.5},
        claim=Claim((Sign(Metric.P95_S, Where.CALLERS),), Remedy("failover"), Remedy("restart"), target="front:db"),
    ),
    "net_loss": FaultType(
        mechanism="messages between two services get lost",
        signature="time-outs at the caller, callee well",
        fixes="failover if it lives at the node, open_breaker",
        aim=Aim.EDGE,
        effects=_net_loss,
        places={Place.NODE: 0.5, Place.OUTSIDE: 0.5},
        claim=Claim((Sign(Metric.TIMEOUTS),), Remedy("failover"), Remedy("restart"), target="front:db"),
    ),
    "partition": FaultType(
        mechanism="next to no message between two services arrives; none at severity 1",
        signature="every attempt times out, the callee idle",
        fixes="failover if it lives at the node, open_breaker",
        aim=Aim.EDGE,
        effects=_partition,
        places={Place.NODE: 0.5, Place.OUTSIDE: 0.5},
        profiles=("step", "pulses"),
        claim=Claim(
            (
                Sign(Metric.TIMEOUTS),
                Sign(Metric.REQUEST_RATE_RPS, up=False),
            ),
            Remedy("failover"),
            Remedy("restart"),
            target="front:stock",
        ),
    ),
    "one_way_partition": FaultType(
        mechanism="requests arrive, next to no answers do; none at severity 1",
        signature="every attempt times out, the callee busy with retries",
        fixes="failover if it lives at the node, open_breaker",
        aim=Aim.EDGE,
        effects=_one_way_partition,
        places={Place.NODE: 0.5, Place.OUTSIDE: 0.5},
        profiles=("step", "pulses"),
        claim=Claim(
            (
                Sign(Metric.TIMEOUTS),
                Sign(Metric.REQUEST_RATE_RPS),
            ),
            Remedy("failover"),
            Remedy("restart"),
            target="front:stock",
        ),
    ),
    "dependency_down": FaultType(
        mechanism="a service beyond our reach fails",
        signature="its errors up, nothing else changed",
        fixes="open_breaker, degrade, escalate",
        aim=Aim.SERVICE,
        effects=_dependency_down,
        places={Place.OUTSIDE: 1.0},
        claim=Claim((Sign(Metric.ERROR_RATE),), Remedy("escalate", Where.SYSTEM), Remedy("restart"), target="advice"),
    ),
    "config_error": FaultType(
        mechanism="time-outs and connection pools of a service are set too small",
        signature="time-outs and denied attempts at a configuration event",
        fixes="rollback",
        aim=Aim.CALLER,
        effects=_config_error,
        places={Place.CONFIG: 1.0},
        claim=Claim((Sign(Metric.ERROR_RATE, Where.SYSTEM),), Remedy("rollback"), Remedy("restart"), target="front"),
    ),
    "expiry": FaultType(
        mechanism="a certificate, name or token of a service runs out",
        signature="errors at once, whatever the load",
        fixes="rotate",
        aim=Aim.WHOLE_SERVICE,
        effects=_expiry,
        places={Place.CREDENTIAL: 1.0},
        profiles=("step",),
        claim=Claim((Sign(Metric.ERROR_RATE),), Remedy("rotate"), Remedy("restart"), target="stock"),
    ),
    "queue_backlog": FaultType(
        mechanism="every message costs its consumer more CPU, until it is slower than messages come",
        signature="lag ramps up while its callers look well; when partitions are full, publishers fail",
        fixes="scale (up to a replica per partition), rollback if it lives in the version; not a restart",
        aim=Aim.CONSUMER,
        effects=_queue_backlog,
        places={Place.VERSION: 0.5, Place.OUTSIDE: 0.5},
        also=_ANYWHERE,
        claim=Claim(
            (
                Sign(Metric.LAG),
                Sign(Metric.CPU_UTIL),
                Sign(Metric.ERROR_RATE, Where.SYSTEM),
            ),
            Remedy("scale", amount=2.0),
            Remedy("restart"),
        ),
    ),
    "poison_pill": FaultType(
        mechanism="a message that cannot be consumed is at the head of a partition, and is tried again and again",
        signature="lag ramps up while the consumer's CPU falls, redeliveries; full partitions fail their publishers",
        fixes="skip_message; a restart or more replicas only deliver it once more",
        aim=Aim.CONSUMER,
        effects=_poison_pill,
        places={Place.CONTENT: 1.0},
        profiles=("once", "pulses"),
        claim=Claim(
            (
                Sign(Metric.LAG),
                Sign(Metric.CPU_UTIL, up=False),
                Sign(Metric.ERROR_RATE, Where.SYSTEM),
            ),
            Remedy("skip_message"),
            Remedy("scale", amount=2.0),
        ),
    ),
}
