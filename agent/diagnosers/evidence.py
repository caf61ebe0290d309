"""The arithmetic of ``causal_rank``: what speaks against each service of a run, in kernels.

Every piece of evidence is in [0, 1]. Callees explain callers, in the units of the metric: a caller's latency rose by
so many seconds, of which its slowest callee accounts for so many; likewise errors. More requests explain a busy or
slow service, be it the workload's (all rates up) or a cache's (more misses); what is left is the service's own.
"""

__all__ = ["LAGS", "N_PARTS", "PARTS", "weigh"]

import numpy as np

from agent.history import DELAY, WINDOW
from simcore.codes import ReplicaState
from simcore.jit import njit
from simcore.windows import Metric, ReplicaStat

#: Pieces of evidence, the last axis of ``parts``.
PARTS = ("latency", "errors", "cpu", "memory", "replicas", "hits", "skew", "poison")
N_PARTS = len(PARTS)
#: A metric may run this many steps (less one) ahead of the symptoms.
LAGS = 4

_P95, _ERRORS, _UTIL, _MEMORY = int(Metric.P95_S), int(Metric.ERROR_RATE), int(Metric.CPU_UTIL), int(Metric.MEMORY_FRAC)
_RATE, _TIMEOUTS, _RETRIES = int(Metric.REQUEST_RATE_RPS), int(Metric.TIMEOUTS), int(Metric.RETRIES)
_HIT, _UP, _FLIGHT = int(Metric.HIT_RATIO), int(Metric.REPLICAS_UP), int(Metric.IN_FLIGHT)
_STATE, _QUARANTINED = int(ReplicaStat.STATE), int(ReplicaStat.QUARANTINED)
_FINISHED, _MEAN = int(ReplicaStat.FINISHED), int(ReplicaStat.MEAN_LATENCY_S)
_ALIVE = int(ReplicaState.UP)
#: Scrapes that "now" averages over.
_RECENT = 3
#: Answers that a replica's mean latency must rest on.
_MIN_FINISHED = 5
#: Pairs that a correlation must rest on.
_MIN_PAIRS = 8


@njit(internal=True)
def _squash(deviation):  # type: ignore[no-untyped-def]
    """Return evidence from a deviation in spreads: 0 up to 2, a half at 6, towards 1; nan is no evidence."""
    d = deviation - 2.0
    return d / (d + 4.0) if d > 0.0 else 0.0


@njit(internal=True)
def _now(ring, step, now):  # type: ignore[no-untyped-def]
    """Fill now (service + 1, metric) with the mean over the last scrapes that have the metric, of a run's ring."""
    for row in range(now.shape[0]):
        for m in range(now.shape[1]):
            total, n = 0.0, 0
            for back in range(min(2 * _RECENT, step + 1)):
                x = ring[(step - back) % WINDOW, row, m]
                if not np.isnan(x):
                    total += x
                    n += 1
                    if n == _RECENT:
                        break
            now[row, m] = total / n if n > 0 else np.nan


@njit(internal=True)
def _symptom(ring, step, back, p95_slo, bad_slo):  # type: ignore[no-untyped-def]
    """Return how badly the system looked ``back`` steps ago, in units of its limits; nan if unknown."""
    slot = (step - back) % WINDOW
    system = ring.shape[1] - 1
    late = ring[slot, system, _P95] / p95_slo
    bad = ring[slot, system, _ERRORS] / bad_slo
    if np.isnan(late):
        return bad
    return late if np.isnan(bad) else max(late, bad)


@njit(internal=True)
def _correlation(ring, step, service, metric, lag, symptom, span):  # type: ignore[no-untyped-def]
    """Return Pearson's r of a service's metric ``lag`` steps earlier with the symptom; 0 where undefined."""
    n = 0
    sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
    for back in range(span - lag):
        y = symptom[back]
        x = ring[(step - back - lag) % WINDOW, service, metric]
        if np.isnan(x) or np.isnan(y):
            continue
        n += 1
        sx += x
        sy += y
        sxx += x * x
        syy += y * y
        sxy += x * y
    if n < _MIN_PAIRS:
        return 0.0
    vx, vy = n * sxx - sx * sx, n * syy - sy * sy
    if not (vx > 1e-12 * n * sxx and vy > 1e-12 * n * syy):
        return 0.0
    return (n * sxy - sx * sy) / np.sqrt(vx * vy)


@njit(internal=True)
def _follow(ring, step, p95_slo, bad_slo, symptom, r, lags):  # type: ignore[no-untyped-def]
    """Fill r (service,) with the best positive lagged correlation of any metric, and its lag; ties to the shortest."""
    span = min(WINDOW, step + 1)
    for back in range(span):
        symptom[back] = _symptom(ring, step, back, p95_slo, bad_slo)
    for s in range(r.size):
        r[s] = 0.0
        lags[s] = 0
        for metric in (_P95, _ERRORS, _UTIL, _MEMORY, _FLIGHT):
            for lag in range(LAGS):
                value = _correlation(ring, step, s, metric, lag, symptom, span)
                if value > r[s]:
                    r[s] = value
                    lags[s] = lag


@njit(internal=True)
def _ratio(now, base):  # type: ignore[no-untyped-def]
    """Return now / base, 1 if either is unknown or the base is 0."""
    if np.isnan(now) or not base > 0.0:
        return 1.0
    return now / base


@njit(internal=True)
def _failing(now, row, step_s):  # type: ignore[no-untyped-def]
    """Return the share of a service's calls that failed or were given up, as its callers see it."""
    errors = 0.0 if np.isnan(now[row, _ERRORS]) else now[row, _ERRORS]
    sent = now[row, _RATE] * step_s
    given_up = now[row, _TIMEOUTS] / sent if sent > 0.0 else 0.0
    return min(1.0, max(errors, given_up))


@njit(internal=True)
def _skew(replicas, usual):  # type: ignore[no-untyped-def]
    """Return evidence that one of a service's replicas (slot, stat) is slow while the others are not.

    Under overload all are slow, and unevenly so: the others' mean has to be below the service's usual p95.
    """
    worst, total, n = 0.0, 0.0, 0
    for i in range(replicas.shape[0]):
        row = replicas[i]
        if row[_STATE] == _ALIVE and not row[_QUARANTINED] > 0 and row[_FINISHED] >= _MIN_FINISHED and row[_MEAN] > 0.0:
            total += row[_MEAN]
            n += 1
            worst = max(worst, row[_MEAN])
    if n < 2:
        return 0.0
    others = (total - worst) / (n - 1)
    if others > usual:
        return 0.0
    ratio = worst / others
    return min(1.0, max(0.0, ratio - 1.5))


@njit(internal=True)
def _explained(calls, now, base, step_s, s):  # type: ignore[no-untyped-def]
    """Return which shares of a service's rise in latency and in errors its callees account for, each in [0, 1]."""
    late = now[s, _P95] - base[s, _P95]
    failed = _failing(now, s, step_s) - _failing(base, s, step_s)
    late_share, failed_share = 0.0, 0.0
    for c in range(calls.shape[0]):
        if not calls[s, c] or c == s:
            continue
        rise = now[c, _P95] - base[c, _P95]
        given_up = _failing(now, c, step_s) - _failing(base, c, step_s)
        if late > 0.0:
            if rise > 0.0:
                late_share = max(late_share, min(1.0, 1.25 * rise / late))
            # a callee that does not answer at all has no quantile, but its callers wait for it
            late_share = max(late_share, min(1.0, 4.0 * given_up))
        if failed > 0.0 and given_up > 0.0:
            failed_share = max(failed_share, min(1.0, 1.25 * given_up / failed))
    return late_share, failed_share


@njit(internal=True)
def _poisoned(now, base, caller, cache):  # type: ignore[no-untyped-def]
    """Return the share of a caller's new errors that came after it had asked the cache.

    A caller that fails by itself fails first and asks the cache less often; one that got a wrong entry has asked.
    """
    rise = now[caller, _ERRORS] - base[caller, _ERRORS]
    if not rise > 0.05 or not now[caller, _RATE] > 0.0 or not base[caller, _RATE] > 0.0 or not base[cache, _RATE] > 0.0:
        return 0.0
    asked = (now[cache, _RATE] / now[caller, _RATE]) / (base[cache, _RATE] / base[caller, _RATE])
    # a wrong first answer spares later look-ups, so that some fall is normal
    return min(1.0, max(0.0, 2.5 - 3.0 * (1.0 - asked) / rise))


@njit(internal=True)
def _own(calls, caches, replicas, now, base, scale, step_s, surge, parts):  # type: ignore[no-untyped-def]
    """Fill parts (service, part) of one run with what is each service's own."""
    n_services = calls.shape[0]
    system = n_services
    for s in range(n_services):
        late_share, failed_share = _explained(calls, now, base, step_s, s)
        fresh_now = now[s, _RATE] - now[s, _RETRIES] / step_s
        fresh_base = base[s, _RATE] - base[s, _RETRIES] / step_s
        growth = _ratio(fresh_now, fresh_base) / max(0.2, _ratio(now[system, _RATE], base[system, _RATE]))
        asked = min(1.0, max(0.0, (growth - 1.2) / 0.5))
        out = parts[s]
        own_late = (1.0 - late_share) * (1.0 - asked) * (1.0 - surge)
        out[0] = _squash((now[s, _P95] - base[s, _P95]) / scale[s, _P95]) * own_late
        out[1] = (
            _squash((now[s, _ERRORS] - base[s, _ERRORS]) / scale[s, _ERRORS])
            * (1.0 - failed_share)
            * (1.0 - 0.5 * surge)
        )
        # busier than its own requests explain
        expected = base[s, _UTIL] * max(1.0, _ratio(now[s, _RATE], base[s, _RATE]))
        out[2] = _squash((now[s, _UTIL] - expected) / scale[s, _UTIL])
        out[3] = _squash((now[s, _MEMORY] - base[s, _MEMORY]) / scale[s, _MEMORY]) * own_late
        missing = base[s, _UP] - now[s, _UP]
        out[4] = min(1.0, missing) if missing > 0.0 else 0.0
        lost = 4.0 * (base[s, _HIT] - now[s, _HIT]) - 0.2
        out[5] = min(1.0, lost) if caches[s] and lost > 0.0 else 0.0
        # shards of a cache are unequal by nature
        out[6] = 0.0 if caches[s] else _skew(replicas[s], base[s, _P95])
        out[7] = 0.0
    for s in range(n_services):
        for c in range(n_services):
            if calls[s, c] and caches[c]:
                share = _poisoned(now, base, s, c)
                moved = share * parts[s, 1]
                parts[c, 7] = max(parts[c, 7], moved)
                parts[s, 1] -= moved


@njit
def weigh(  # type: ignore[no-untyped-def]
    rings, step, centres, spreads, floors, excess, replicas, age, runs, calls, caches, slo, parts, r, lags, blame
):
    """Weigh the evidence of some runs.

    Parameters
    ----------
    rings, step, centres, spreads, floors
        Of the ``History``; floors (metric, 2).
    excess
        (run, service) of the ``Detection``.
    replicas, age
        (run, service, slot, stat) and (run, service) of the ``Observation``.
    runs
        (row,) runs to look at.
    calls, caches, slo
        (service, service), (service,) of the ``Topology``; slo = (p95, bad fraction, step_s).
    parts, r, lags
        (row, service, part), (row, service), (row, service), overwritten.
    blame
        (row, service + 1), overwritten; last the workload.
    """
    n_services = calls.shape[0]
    now = np.empty((n_services + 1, rings.shape[3]))
    scale = np.empty_like(now)
    symptom = np.empty(WINDOW)
    for row in range(runs.size):
        run = runs[row]
        base = centres[run]
        _now(rings[run], step, now)
        for i in range(now.shape[0]):
            for m in range(now.shape[1]):
                scale[i, m] = max(spreads[run, i, m], max(floors[m, 0] * abs(base[i, m]), floors[m, 1]))
        _follow(rings[run], step, slo[0], slo[1], symptom, r[row], lags[row])
        # a load wave moves by some percent while the normal value follows; a surge is another matter
        surge = min(1.0, max(0.0, (_ratio(now[n_services, _RATE], base[n_services, _RATE]) - 1.4) / 0.3))
        _own(calls, caches, replicas[run], now, base, scale, slo[2], surge, parts[row])
        blame[row, n_services] = 0.6 * surge
        for s in range(n_services):
            clear = 1.0
            for part in range(N_PARTS):
                clear *= 1.0 - parts[row, s, part]
            strange = excess[run, s]
            strange = 0.0 if np.isnan(strange) else min(1.5, max(0.0, strange))
            changed = 1.2 if age[run, s] <= DELAY * 4 * slo[2] else 1.0
            clear += (1.0 - clear) * 0.6 * surge  # too many requests explain errors, queues and cold caches too
            blame[row, s] = ((1.0 - clear) * (0.4 + 0.4 * strange) * (0.5 + 0.5 * r[row, s]) + 0.02 * strange) * changed
