"""A small shop with everything in it, its trouble, and what is done about it, for tests of the batch engine."""

from collections.abc import Sequence

import numpy as np

from simcore.codes import ActionCode, Param, Place
from simcore.engines.api import Change, EngineAction, Modulation, RunInputs, Session
from simcore.engines.batch import BatchSession
from simcore.model.scenario import Scenario
from simcore.streams import run_key

END_S = 12.0
EVERY = tuple(float(edge) for edge in range(1, 13))


def shop(rate_rps: float = 40.0, memory: int = 10**9) -> Scenario:
    """Return three services with everything in them: a cache, retries, time-outs, queues, two balancers."""
    db = {"call": {"to": "db.query", "timeout_s": 0.12, "retries": 2, "backoff_s": 0.02}}
    steps = [
        {"cpu": {"mean_s": 0.01}},
        {"cached": {"to": "cache.get", "timeout_s": 0.2, "keys": {"count": 60, "zipf": 0.9}, "steps": [db]}},
        {"delay": {"mean_s": 0.01, "dist": "gamma"}},
    ]
    per_span = {"base_bytes": 1000, "per_span_bytes": 10, "limit_bytes": memory, "leak_bytes": 1}
    common = {"threads": 6, "cores": 1.0, "startup_s": 0.4, "drain_s": 0.5, "memory": per_span}
    services: dict[str, dict[str, object]] = {
        "api": {"replicas": {"initial": 2, "min": 1, "max": 9}, "balancer": "least_outstanding", "queue": 8}
        | {"operations": {"view": {"steps": steps}, "ping": {"steps": [{"cpu": {"mean_s": 0.002}}]}}},
        "cache": {"replicas": {"initial": 2, "min": 1, "max": 4}, "cache": {"slots": 15, "ttl_s": 4.0}}
        | {"operations": {"get": {"steps": [{"cpu": {"mean_s": 0.001}}]}}},
        "db": {"operations": {"query": {"steps": [{"cpu": {"mean_s": 0.025, "dist": "lognormal"}}]}}},
    }
    return Scenario.model_validate(
        {
            "name": "shop",
            "timing": {"step_s": 1.0, "steps": 12, "burn_in_steps": 2},
            "slo": {"latency_s": 0.2},
            "network": {"mean_s": 0.004, "dist": "exponential"},
            "services": {name: common | spec for name, spec in services.items()},
            "workload": {
                "rate_rps": rate_rps,
                "timeout_s": 1.0,
                "entries": [{"operation": "api.view"}, {"operation": "api.ping", "weight": 0.3}],
                "shape": "sinusoidal",
                "amplitude": 0.3,
                "period_s": 8.0,
            },
        }
    )


def guarded_shop(rate_rps: float = 90.0) -> Scenario:
    """Return a shop whose calls have everything around them, and whose replicas do all that they may do."""
    guards = {
        "timeout_s": 0.12,
        "retries": 2,
        "backoff_s": 0.02,
        "loss": 0.02,
        "breaker": {"window": 8, "min_calls": 4, "open_s": 0.5, "probes": 2},
        "retry_budget": {"rate_per_s": 2.0, "burst": 3.0},
        "hedge": {"after_s": 0.03, "max": 2},
    }
    branches = [guards | {"to": to, "required": to == "db.query"} for to in ("db.query", "db.query", "rank.sort")]
    lock = {"name": "cart", "steps": [{"cpu": {"mean_s": 0.004}}, {"call": guards | {"to": "rank.sort"}}]}
    view = [
        {"cpu": {"mean_s": 0.005}},
        {"parallel": {"branches": branches}},
        {"lock": lock},
        {"parallel": {"branches": branches * 5, "fail_fast": False}},
    ]
    common = {"startup_s": 0.4, "drain_s": 0.5, "threads": 8, "health": {"interval_s": 0.5, "unhealthy_after": 2}}
    memory = {"memory": {"base_bytes": 1000, "per_span_bytes": 10, "limit_bytes": 5000, "leak_bytes": 1}}
    services: dict[str, dict[str, object]] = {
        "api": {
            "replicas": {"initial": 3, "min": 1, "max": 9},
            "pools": {"db": {"size": 3, "wait_s": 0.05, "queue": 4}},
            "operations": {"view": {"steps": view, "cancellable": True}},
        },
        "rank": {
            "discipline": "codel",
            "codel": {"target_s": 0.005, "interval_s": 0.05},
            "queue": 40,
            "balancer": "power_of_two",
            "operations": {"sort": {"steps": [{"cpu": {"mean_s": 0.008}}]}},
        },
        "db": {
            "gc": {"garbage_bytes": 40, "share": 0.1, "least_bytes": 400, "pause_s": 0.01},
            "balancer": "random",
            "warmup": {"duration_s": 2.0},
            "shed_above": {0: 6},
            "operations": {"query": {"steps": [{"delay": {"mean_s": 0.02}}], "cancellable": True}},
        },
    }
    return Scenario.model_validate(
        {
            "name": "guarded",
            "timing": {"step_s": 1.0, "steps": 12, "burn_in_steps": 0},
            "slo": {"latency_s": 0.2},
            "network": {"mean_s": 0.004, "dist": "exponential"},
            "services": {name: common | memory | spec for name, spec in services.items()},
            "workload": {
                "rate_rps": rate_rps,
                "timeout_s": 0.6,
                "deadline_s": 0.5,
                "entries": [{"operation": "api.view"}],
            },
        }
    )


def elastic_shop() -> Scenario:
    """Return a shop whose load comes and goes, with replicas that follow it, and reads of which one is made for all."""
    query = {"call": {"to": "db.query", "timeout_s": 0.5, "retries": 1}}
    keys = {"count": 12, "zipf": 1.0, "absent": 0.3, "replicated": 3}
    read = {"cached": {"to": "cache.get", "keys": keys, "coalesce": True, "steps": [query]}}
    auto = {"target": 0.5, "every_steps": 1, "stabilisation_steps": 2}
    services: dict[str, dict[str, object]] = {
        "api": {"autoscaler": auto, "operations": {"view": {"steps": [{"cpu": {"mean_s": 0.02}}, read]}}},
        "cache": {"replicas": {"initial": 3}, "cache": {"slots": 4, "ttl_s": 0.3, "negative_ttl_s": 0.1}}
        | {"operations": {"get": {}}},
        "db": {"autoscaler": auto, "operations": {"query": {"steps": [{"cpu": {"mean_s": 0.04}}]}}},
    }
    rates = [(0.0, 0.4), (2.0, 1.0), (6.0, 0.1), (9.0, 0.7)]
    return Scenario.model_validate(
        {
            "name": "elastic",
            "timing": {"step_s": 1.0, "steps": 12, "burn_in_steps": 1},
            "network": {"mean_s": 0.004, "dist": "exponential"},
            "services": {name: {"startup_s": 0.4, "drain_s": 0.5} | spec for name, spec in services.items()},
            "workload": {
                "rate_rps": 60.0,
                "timeout_s": 1.0,
                "entries": [{"operation": "api.view"}],
                "shape": "series",
                "series": [{"time_s": time_s, "factor": factor} for time_s, factor in rates],
            },
        }
    )


def queued_shop() -> Scenario:
    """Return a shop that leaves most of its work to topics, with more messages than it can consume."""
    orders = {"publish": {"topic": "orders"}}
    mail = {"publish": {"topic": "mail", "required": False}}
    audit = {"publish": {"topic": "audit", "probability": 0.5}}
    query = {"call": {"to": "db.query", "timeout_s": 0.2, "retries": 1}}
    again = {"redeliveries": 2, "backoff_s": 0.03, "timeout_s": 0.15}
    common = {"threads": 4, "startup_s": 0.4, "drain_s": 0.5}
    services: dict[str, dict[str, object]] = {
        "api": {"operations": {"view": {"steps": [orders, mail, {"cpu": {"mean_s": 0.004}}, mail, mail]}}},
        "rank": {
            "replicas": {"initial": 2, "max": 9},
            "operations": {"sort": {"steps": [{"cpu": {"mean_s": 0.03}}, query, audit], "cancellable": True}},
        },
        "db": {"operations": {"query": {"steps": [{"cpu": {"mean_s": 0.01}}]}, "send": {"steps": []}}},
    }
    return Scenario.model_validate(
        {
            "name": "queued",
            "timing": {"step_s": 1.0, "steps": 12, "burn_in_steps": 1},
            "network": {"mean_s": 0.004, "dist": "exponential"},
            "services": {name: common | spec for name, spec in services.items()},
            "topics": {
                "orders": again | {"to": "rank.sort", "partitions": 8, "limit": 60},
                "mail": again | {"to": "db.send", "partitions": 2, "limit": 7},
                "audit": again | {"to": "db.query", "limit": 1000},
            },
            "workload": {"rate_rps": 90.0, "timeout_s": 1.0, "entries": [{"operation": "api.view"}]},
        }
    )


TROUBLE = (
    Modulation(Param.SPEED, Place.PROCESS, 2),
    Modulation(Param.CRASH, Place.NODE, 0, 1),
    Modulation(Param.SURGE, Place.WORKLOAD),
    Modulation(Param.DEPLOY, Place.VERSION, 1),
    Modulation(Param.POISON, Place.CONTENT, 1),
    Modulation(Param.OK, Place.VERSION, 0),
    Modulation(Param.PILL, Place.CONTENT, 1),
)
CHANGES = tuple(
    Change(time_s, number, value)
    for time_s, number, value in [
        (0.5, 6, 1.0), (1.5, 0, 0.4), (2.0, 1, 1.5), (3.0, 5, 0.9), (3.2, 2, 1.5), (4.0, 3, 1.0), (4.1, 6, 0.7),
        (5.1, 4, 0.5), (7.0, 0, 1.0), (7.5, 2, 0.0), (8.0, 1, 0.0),
    ]
)  # fmt: skip

ACTIONS: dict[float, list[tuple[ActionCode, int, int, float]]] = {
    2.0: [(ActionCode.SCALE, 2, -1, 3.0), (ActionCode.LIMIT_TRAFFIC, -1, -1, 0.8)],
    4.0: [(ActionCode.QUARANTINE, 0, 0, 0.0), (ActionCode.SCALE, 1, -1, 2.0), (ActionCode.SKIP_MESSAGE, 1, -1, 0.0)],
    6.0: [(ActionCode.CLEAR_CACHE, 1, -1, 0.0), (ActionCode.RELEASE, 0, 0, 0.0), (ActionCode.SCALE, 2, -1, -2.0)],
    8.0: [(ActionCode.RESTART, 0, -1, 0.0), (ActionCode.ROLLBACK, 1, -1, 0.0), (ActionCode.SCALE, 0, -1, 7.0)],
}


def runs(n: int, *, trouble: bool = True, first: int = 0) -> list[RunInputs]:
    """Return inputs of different runs."""
    given_trouble = (TROUBLE, CHANGES) if trouble else ((), ())
    return [RunInputs(run, run_key(3, "test", run, 0), 0.1 * run, *given_trouble) for run in range(first, first + n)]


def act(session: Session) -> None:
    """Apply what ``ACTIONS`` says at the present edge, to every run."""
    for run in range(session.n_runs):
        for code, service, replica, amount in ACTIONS.get(session.now_s, ()):
            session.apply([EngineAction(run, code, session.now_s + 0.25, service, replica, amount)])


Played = list[tuple[bytes, ...]]


def windows_of(session: BatchSession) -> list[Played]:
    """Return the bytes of the windows just closed, (run, window)."""
    seen = session.observe()
    arrays = (seen.metrics, seen.totals, seen.replicas, seen.markers)
    windows = range(seen.metrics.shape[1])
    return [[tuple(array[run, w].tobytes() for array in arrays) for w in windows] for run in range(session.n_runs)]


def play(session: BatchSession, edges: Sequence[float] = EVERY) -> list[Played]:
    """Advance to the edges, acting at those of ``ACTIONS``; return the bytes of all windows, (run, window)."""
    played: list[Played] = [[] for _ in range(session.n_runs)]
    for edge in edges:
        act(session)
        session.advance(edge)
        for run, windows in enumerate(windows_of(session)):
            played[run] += windows
    return played


def logs_of(session: BatchSession) -> list[bytes]:
    return [session.events(run).tobytes() for run in range(session.n_runs)]


def lane_of(session: BatchSession, run: int) -> np.void:
    lane = session._arenas.lanes[run]
    assert isinstance(lane, np.void)
    return lane
