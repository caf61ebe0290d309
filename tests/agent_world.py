"""A made-up system for the agent's tests: three services with metrics written by hand, no simulation behind them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.api import Detection, Diagnosis, Situation
from agent.history import History
from agent.policies.signature import signatures
from simcore.codes import ActionCode, ReplicaState
from simcore.model.action_types import ACTIONS, ActionAim
from simcore.observation import ActionTable, Observation, Topology
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]

API, CACHE, DB, SYSTEM = range(4)
N_SLOTS = 4
STEP_S = 5.0

TOPOLOGY = Topology(
    services=("api", "cache", "db"),
    calls=np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]], np.bool_),
    optional=np.zeros((3, 3), np.bool_),
    required=np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]], np.bool_),
    entry=API,
    caches=np.array([False, True, False]),
    p95_slo_s=0.4,
    bad_frac_slo=0.05,
    step_s=STEP_S,
    rate_rps=40.0,
)

#: (service + 1) normal p95, CPU, memory and request rate.
_NORMAL = {
    Metric.P95_S: (0.12, 0.01, 0.05, 0.13),
    Metric.CPU_UTIL: (0.5, 0.3, 0.4, np.nan),
    Metric.MEMORY_FRAC: (0.4, 0.5, 0.6, np.nan),
    Metric.REQUEST_RATE_RPS: (40.0, 50.0, 20.0, 40.0),
    Metric.IN_FLIGHT: (4.0, 0.5, 1.5, np.nan),
}


def _places(aim: ActionAim) -> list[tuple[int, int]]:
    """Return the (service, slot) that an aim allows here; -1 for none."""
    if aim is ActionAim.SYSTEM:
        return [(-1, -1)]
    if aim is ActionAim.REPLICA:
        return [(service, slot) for service in range(3) for slot in range(N_SLOTS)]
    calls = TOPOLOGY.calls
    fitting = {
        ActionAim.CACHE: TOPOLOGY.caches,
        ActionAim.CALLER: calls.any(axis=1),
        ActionAim.POOLING: calls.any(axis=1),
        ActionAim.CALLEE: calls.any(axis=0),
    }.get(aim, np.ones(3, np.bool_))
    return [(int(service), -1) for service in np.flatnonzero(fitting)]


@functools.cache
def actions() -> ActionTable:
    """Return a table with every kind of action."""
    rows: list[tuple[str, ActionCode, int, int, float]] = []
    for name, kind in ACTIONS.items():
        usual = (0.7, 0.85, 1.0) if kind.code == ActionCode.LIMIT_TRAFFIC else kind.values.usual if kind.values else ()
        for service, slot in _places(kind.aim):
            at = TOPOLOGY.services[service] if service >= 0 else ""
            at += f"/{slot}" if slot >= 0 else ""
            for amount in usual or (kind.amount,):
                text = f"{amount:+g}" if kind.code == ActionCode.SCALE else f"{amount:g}" if usual else ""
                inside = ",".join(part for part in (at, text) if part)
                rows.append((f"{name}({inside})" if inside else name, kind.code, service, slot, amount))
    code = np.array([row[1] for row in rows], np.int64)
    amount = np.array([row[4] for row in rows])
    noop = code == ActionCode.NOOP
    return ActionTable(
        names=tuple(row[0] for row in rows),
        kinds=tuple(row[0].partition("(")[0] for row in rows),
        code=code,
        service=np.array([row[2] for row in rows], np.int64),
        slot=np.array([row[3] for row in rows], np.int64),
        amount=amount,
        delay_s=np.where(noop, 0.0, 5.0),
        delay_sigma=np.zeros(len(rows)),
        settle_s=np.where(noop, 0.0, 30.0),
        cost=np.where(noop, 0.0, 0.002),
        cooldown_s=np.where(noop, 0.0, 60.0),
        failure_probability=np.zeros(len(rows)),
        disruptive=np.array([ACTIONS[row[0].partition("(")[0]].is_disruptive(row[4]) for row in rows]),
    )


def healthy(n_runs: int, n_steps: int, seed: int = 0) -> Floats:
    """Return (run, step, service + 1, metric) of fault-free runs."""
    rng = np.random.default_rng(seed)
    shape = (n_runs, n_steps, 4)
    metrics = np.full((*shape, len(Metric)), np.nan)
    for metric, values in _NORMAL.items():
        metrics[..., metric] = np.array(values) * np.exp(rng.normal(0, 0.06, shape))
    metrics[..., Metric.OK] = metrics[..., Metric.REQUEST_RATE_RPS] * STEP_S
    metrics[..., Metric.ERROR_RATE] = rng.binomial(200, 0.002, shape) / 200
    metrics[..., :3, Metric.REPLICAS_UP] = 2.0
    metrics[..., CACHE, Metric.HIT_RATIO] = 0.8
    for metric in (
        Metric.REJECTED,
        Metric.TIMEOUTS,
        Metric.RETRIES,
        Metric.QUEUE_LENGTH,
        Metric.POOL_WAITING,
        Metric.LAG,
    ):
        metrics[..., metric] = 0.0
    return metrics


def slow(metrics: Floats, run: int, service: int, step: int, seconds: float = 0.6) -> None:
    """Make a service slow from a step on, in place; its callers wait for it, and so do the clients."""
    metrics[run, step:, [service, SYSTEM], Metric.P95_S] += seconds
    metrics[run, step:, service, Metric.IN_FLIGHT] *= 4.0
    metrics[run, step:, service, Metric.MEMORY_FRAC] += 0.2
    for caller in np.flatnonzero(TOPOLOGY.calls[:, service]):
        metrics[run, step:, caller, Metric.P95_S] += seconds
        metrics[run, step:, caller, Metric.IN_FLIGHT] *= 3.0


def failing(metrics: Floats, run: int, service: int, step: int, share: float = 0.3) -> None:
    """Make spans of a service fail from a step on, in place; callers and clients fail with it."""
    rows = [service, SYSTEM, *np.flatnonzero(TOPOLOGY.calls[:, service])]
    metrics[run, step:, rows, Metric.ERROR_RATE] = share
    if service == API:  # it fails before it calls anybody
        metrics[run, step:, [CACHE, DB], Metric.REQUEST_RATE_RPS] *= 1.0 - share


def replicas(n_runs: int) -> Floats:
    """Return (run, service, slot, stat): two replicas up in every service, equally fast."""
    stats = np.full((n_runs, 3, N_SLOTS, len(ReplicaStat)), np.nan)
    stats[..., ReplicaStat.ORDINAL] = -1
    stats[:, :, :2, ReplicaStat.ORDINAL] = np.arange(2)
    stats[:, :, :2, ReplicaStat.STATE] = ReplicaState.UP
    stats[:, :, :2, ReplicaStat.QUARANTINED] = 0
    stats[:, :, :2, ReplicaStat.FINISHED] = 50
    stats[:, :, :2, ReplicaStat.MEAN_LATENCY_S] = 0.03
    return stats


def nothing_set(n_runs: int) -> npt.NDArray[np.bool_]:
    """Return (run, action): all is legal but putting back what nobody has set; limits are for the loop to skip."""
    table = actions()
    undoing = [ACTIONS[kind].is_undoing(float(amount)) for kind, amount in zip(table.kinds, table.amount, strict=True)]
    legal: npt.NDArray[np.bool_] = ~np.array(undoing) | (table.code == ActionCode.LIMIT_TRAFFIC)
    return np.tile(legal, (n_runs, 1))


def observe(metrics: Floats, step: int, **changes: object) -> Observation:
    """Return what is seen at an edge of (run, step, service + 1, metric): the window before, one step late."""
    n_runs = metrics.shape[0]
    window = step - 2
    observation = Observation(
        step=step,
        window=np.full(n_runs, max(window, -1), np.int64),
        fresh=np.full(n_runs, window >= 0),
        metrics=metrics[:, window].copy() if window >= 0 else np.full((n_runs, *metrics.shape[2:]), np.nan),
        replicas=replicas(n_runs),
        change_age_s=np.full((n_runs, 3), np.nan),
        admitted=np.ones(n_runs),
        pending=np.zeros((n_runs, 3), np.bool_),
        legal=nothing_set(n_runs),
    )
    return dataclasses.replace(observation, **changes)  # type: ignore[arg-type]


def strange(n_runs: int, service: int, by: float = 2.0) -> Detection:
    """Return a detection in which one service stands out."""
    excess = np.zeros((n_runs, 3))
    excess[:, service] = by
    return Detection(np.ones(n_runs, np.bool_), excess.mean(1), excess.copy(), excess)


def remember(metrics: Floats, until: int, quiet_until: int) -> History:
    """Return the history after the observations up to an edge; quiet before the other edge."""
    history = History(TOPOLOGY, metrics.shape[0])
    for step in range(until + 1):
        history.push(observe(metrics, step), np.full(metrics.shape[0], step < quiet_until))
    return history


def keys(n_runs: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Return (run,) keys."""
    return np.random.default_rng(seed).integers(0, 2**63, n_runs).astype(np.uint64)


class MadeUpRollouts:
    """Values by action and future, the same for all runs: a later action is worth more, and the last is a lure.

    The last action looks best in the futures 0 and 1 and is bad in all others.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def values(
        self, runs: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_], futures: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        self.asked.append(tuple(futures))
        n = allowed.shape[1]
        values = np.repeat(np.arange(n)[:, None] / n, len(futures), axis=1)
        values[-1] = [2.0 if future in (0, 1) else -9.0 for future in futures]
        return np.where(allowed[:, :, None], values[None], np.nan)


def ask(
    metrics: Floats,
    step: int,
    suspect: int,
    *,
    seed: int = 0,
    allowed: npt.NDArray[np.bool_] | None = None,
    in_vain: int = 0,
    **changes: object,
) -> Situation:
    """Return a situation in which every run has a decision to take on the same suspect."""
    n_runs = metrics.shape[0]
    runs, target = np.arange(n_runs), np.full(n_runs, suspect)
    observation, history = observe(metrics, step, **changes), remember(metrics, step, step - 8)
    return Situation(
        runs=runs,
        keys=keys(n_runs, seed),
        observation=observation,
        history=history,
        diagnosis=Diagnosis(runs, target, np.ones(n_runs), np.tile(np.arange(3), (n_runs, 1)), lambda row: "because"),
        signature=signatures(TOPOLOGY, observation, history, runs, target, np.zeros(n_runs, np.bool_)),
        allowed=observation.legal if allowed is None else allowed,
        in_vain=np.full(n_runs, in_vain),
    )
