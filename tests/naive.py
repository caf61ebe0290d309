"""Oracles: the slow and obvious way to compute what the code computes fast."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from simcore.windows import MIN_SAMPLES, Metric, Tally, Total

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def incidents(
    violating: Sequence[bool], restored: Sequence[bool], fault: int, end: int, step_s: float
) -> list[tuple[str, int, int]]:
    """Return (kind, opened, recovered) of a run's incidents, straight from the definitions."""
    needed = math.ceil(60.0 / step_s)
    found = []
    spans = [(0, end, "false")] if fault < 0 else [(0, min(fault, end), "false"), (fault, end, "incident")]
    for begin, stop, kind in spans:
        step = begin
        while step < stop:
            recent = [violating[k] for k in range(max(begin, step - 2), step + 1)]
            if not (violating[step] and sum(recent) >= 2):
                step += 1
                continue
            healthy = [
                start
                for start in range(step + 1, stop - needed + 1)
                if all(not violating[k] and restored[k] for k in range(start, start + needed))
            ]
            recovered = healthy[0] if healthy else -1
            found.append((kind, step, recovered))
            kind = "false" if kind == "false" else "relapse"
            if recovered < 0:
                break
            step = recovered + needed
    return found


def violating(p95_s: float, offered: int, good: int, bad: int, p95_limit_s: float, bad_frac: float) -> bool:
    if p95_s > p95_limit_s:
        return True
    if offered == 0:
        return bad > 0
    return bad / offered > bad_frac or good == 0


def unhealthy(violating: Sequence[bool], restored: bool, step: int, fault: int) -> bool:
    first = max(0, step - 2, fault if 0 <= fault <= step else 0)
    return sum(violating[first : step + 1]) >= 2 or not restored


def first_time_with_share(times: Sequence[float], happened: Sequence[bool], share: float) -> float | None:
    """Return the Kaplan-Meier quantile, by walking along the runs in order of time, events first."""
    order = sorted(range(len(times)), key=lambda i: (times[i], not happened[i]))
    at_risk, survival = len(times), 1.0
    for place, i in enumerate(order):
        if happened[i]:
            survival *= 1.0 - 1.0 / at_risk
        at_risk -= 1
        last_of_its_time = place + 1 == len(order) or times[order[place + 1]] > times[i]
        if last_of_its_time and survival <= 1.0 - share + 1e-9:
            return times[i]
    return None


def splitmix64(seed: int) -> Iterator[int]:
    """Yield the outputs of SplitMix64 as its authors' code computes them, one state after the other."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


def splitmix64_seed(output: int, index: int) -> int:
    """Return the seed of which SplitMix64 gives ``output`` as number ``index``: every step of it can be undone."""

    def unshift(z: int, shift: int) -> int:
        result = z
        for _ in range(64 // shift):
            result = z ^ (result >> shift)
        return result

    z = unshift(output, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return (unshift(z, 30) - (index + 1) * 0x9E3779B97F4A7C15) % 2**64


def chi_square_z(observed: Ints | Floats, expected: Floats | float) -> float:
    """Return a chi-square statistic as a standard normal score (Wilson and Hilferty, PNAS 17, 1931)."""
    degrees = np.size(observed) - 1
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    spread = 2.0 / (9.0 * degrees)
    return (math.cbrt(statistic / degrees) - (1.0 - spread)) / math.sqrt(spread)


def ks_distance(samples: Floats, cdf: Callable[[Floats], Floats]) -> float:
    """Return Kolmogorov's statistic sqrt(n) D; above 1.95 with probability 0.001 if the samples follow ``cdf``."""
    n = samples.size
    expected = cdf(np.sort(samples))
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * float(max(np.max(steps[1:] - expected), np.max(expected - steps[:-1])))


def quantile(values: Sequence[float], permille: int) -> float:
    """Return the smallest value with at least that share of the values at or below it; nan if there are too few."""
    if len(values) < MIN_SAMPLES:
        return math.nan
    return next(v for i, v in enumerate(sorted(values), 1) if 1000 * i >= permille * len(values))


def close_window(
    ends: npt.NDArray[np.void], tally: Ints, area: Floats, cores: Floats, step_s: float
) -> tuple[Floats, Ints]:
    """Return the metrics (service + 1, metric) and totals (total,) of a window, row by row from the definitions."""
    system = len(cores)
    metrics = np.full((system + 1, len(Metric)), math.nan)
    for row in range(system + 1):
        mine = ends[ends["service"] == row]
        good, failures = (mine["latency_s"][mine["failed"] == outcome].tolist() for outcome in (0, 1))
        count = {name: int(tally[row, name]) for name in Tally}
        # a client that gave up is among the quantiles of the system's row, but it is no success
        gave_up = count[Tally.TIMEOUTS] if row == system else 0
        lost = count[Tally.FAILED] if row < system else 0
        ok = len(good) - gave_up
        bad = len(failures) + gave_up + lost + count[Tally.REJECTED]
        values = {
            Metric.P50_S: quantile(good, 500),
            Metric.P95_S: quantile(good, 950),
            Metric.P99_S: quantile(good, 990),
            Metric.P95_FAILED_S: quantile(failures, 950),
            Metric.OK: ok,
            Metric.ERROR_RATE: bad / (ok + bad) if ok + bad else math.nan,
            Metric.REQUEST_RATE_RPS: count[Tally.ARRIVALS] / step_s,
            Metric.REJECTED: count[Tally.REJECTED],
            Metric.TIMEOUTS: count[Tally.TIMEOUTS],
            Metric.RETRIES: count[Tally.RETRIES],
        }
        if row < system:
            busy, up, in_flight, queue, memory, replicas, waiting, lag = area[row]
            lookups = count[Tally.HITS] + count[Tally.MISSES]
            values |= {
                Metric.CPU_UTIL: busy / (up * cores[row]) if up else math.nan,
                Metric.MEMORY_FRAC: memory,
                Metric.IN_FLIGHT: in_flight / step_s,
                Metric.QUEUE_LENGTH: queue / step_s,
                Metric.HIT_RATIO: count[Tally.HITS] / lookups if lookups else math.nan,
                Metric.REPLICAS_UP: replicas,
                Metric.POOL_WAITING: waiting / step_s,
                Metric.DENIED: count[Tally.DENIED],
                Metric.LAG: lag / step_s,
            }
        for metric, value in values.items():
            metrics[row, metric] = value
    totals = np.zeros(len(Total), np.int64)
    totals[Total.OFFERED], totals[Total.SHED] = tally[system, Tally.ARRIVALS], tally[system, Tally.REJECTED]
    for name in ("GOOD", "BAD", "ERRORS", "TIMEOUTS"):
        totals[Total[name]] = tally[system, Tally[name]]
    totals[Total.ATTEMPTS] = tally[:, Tally.ATTEMPTS].sum()
    return metrics, totals
