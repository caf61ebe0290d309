"""What is measured in a run: functions from a trace to a number, or to a sample for a distribution."""

__all__ = [
    "correlated_demands", "correlated_numbers", "correlated_streams", "count_correlation", "departure_gaps",
    "dispersion", "flow", "gap_correlation", "gaps", "in_flight", "little", "lost", "number_moments", "path",
    "queue", "rate", "stay", "throughput", "utilisation", "wait", "waited", "work",
]  # fmt: skip

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import Dist, Event, Purpose
from simcore.model.programs import CpuStep, Numbered, PublishStep
from simcore.model.scenario import Scenario
from simcore.model.spec import Demand
from simcore.samplers import draw
from simcore.streams import child_index, keyed
from simcore.validity.trace import Trace
from simcore.windows import Metric, ReplicaStat

Floats = npt.NDArray[np.float64]
Measure = Callable[[Trace], Any]


def _ratio(part: float, whole: float) -> float:
    """Return part / whole, nan (a miss) where a system is so wrong that there is nothing to divide by."""
    return part / whole if whole else float("nan")


def wait(service: str) -> Measure:
    """Mean time from arrival to a thread: the area under the queue length per span that came in."""

    def measure(trace: Trace) -> float:
        came = trace.level(service, Metric.REQUEST_RATE_RPS) - trace.level(service, Metric.REJECTED) / trace.step_s
        return _ratio(trace.level(service, Metric.QUEUE_LENGTH), came)

    return measure


def waited(service: str) -> Measure:
    """Share of the spans that find all threads taken (needs the log)."""

    def measure(trace: Trace) -> float:
        seen = trace.measured(service)
        return _ratio(float((seen.started_s > seen.arrived_s).sum()), seen.spans.size)

    return measure


def stay(service: str) -> Measure:
    """Mean time from arrival to the end, of the spans that end; the service has one replica."""

    def measure(trace: Trace) -> float:
        ended = trace.replica(service, ReplicaStat.FINISHED)
        return _ratio(float((ended * trace.replica(service, ReplicaStat.MEAN_LATENCY_S)).sum()), float(ended.sum()))

    return measure


def lost(service: str) -> Measure:
    """Share of the arrivals that are turned away."""

    def measure(trace: Trace) -> float:
        came = trace.level(service, Metric.REQUEST_RATE_RPS) * trace.step_s
        return _ratio(trace.level(service, Metric.REJECTED), came)

    return measure


def in_flight(service: str) -> Measure:
    """Time average of the spans that the service holds."""
    return lambda trace: trace.level(service, Metric.IN_FLIGHT)


def throughput(service: str) -> Measure:
    """Spans that arrive per second."""
    return lambda trace: trace.level(service, Metric.REQUEST_RATE_RPS)


def queue(service: str) -> Measure:
    """Time average of the queue length."""
    return lambda trace: trace.level(service, Metric.QUEUE_LENGTH)


def utilisation(service: str) -> Measure:
    """Busy share of the cores."""
    return lambda trace: trace.level(service, Metric.CPU_UTIL)


def number_moments(service: str, every_s: float) -> tuple[Measure, Measure]:
    """Mean and variance of the spans that the service holds at instants a fixed time apart."""

    def numbers(trace: Trace) -> npt.NDArray[np.int64]:
        return trace.numbers(service, np.arange(0.0, trace.horizon_s, every_s))

    return (lambda trace: float(numbers(trace).mean())), (lambda trace: float(numbers(trace).var(ddof=1)))


def correlated_numbers(one: str, other: str, every_s: float) -> Measure:
    """Correlation of the numbers of spans at two stations at the same instant."""

    def measure(trace: Trace) -> float:
        times = np.arange(0.0, trace.horizon_s, every_s)
        return _correlation(trace.numbers(one, times), trace.numbers(other, times))

    return measure


def _correlation(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    off_x, off_y = x - x.mean(), y - y.mean()
    return _ratio(float(off_x @ off_y), float(np.sqrt((off_x @ off_x) * (off_y @ off_y))))


# --- arrivals


def rate(stream: int) -> Measure:
    """Requests per second of a stream."""
    return lambda trace: trace.offered_s(stream).size / trace.horizon_s


def gaps(rate: float, *, stream: int = 0, clock: Callable[[Floats], Floats] = lambda t: t) -> Measure:
    """Gaps of a stream as uniforms: the exponential's distribution function of each.

    Parameters
    ----------
    rate
        Rate of the exponential.
    stream
        0 the base, i the i-th surge.
    clock
        Turns time so that the stream has that rate throughout.
    """
    return lambda trace: -np.expm1(-rate * np.diff(clock(trace.offered_s(stream))))


def departure_gaps(service: str, rate: float) -> Measure:
    """Gaps between departures as uniforms."""

    def measure(trace: Trace) -> Floats:
        ended = np.sort(trace.visits(service).finished_s)
        inside = ended[(ended >= 0.0) & (ended < trace.horizon_s)]
        out: Floats = -np.expm1(-rate * np.diff(inside))
        return out

    return measure


def gap_correlation(stream: int = 0) -> Measure:
    """Correlation of a gap with the next one."""

    def measure(trace: Trace) -> float:
        found = np.diff(trace.offered_s(stream))
        return _correlation(found[:-1], found[1:])

    return measure


def _counts(times_s: Floats, horizon_s: float, bin_s: float) -> npt.NDArray[np.int64]:
    edges = np.arange(round(horizon_s / bin_s) + 1) * bin_s
    return np.histogram(times_s, edges)[0]


def dispersion(bin_s: float, stream: int = 0, clock: Callable[[Floats], Floats] = lambda t: t) -> Measure:
    """Chi-square of the counts in bins over its degrees of freedom: 1 for Poisson (Fisher's index of dispersion)."""

    def measure(trace: Trace) -> float:
        end = float(clock(np.array([trace.horizon_s]))[0])
        counts = _counts(clock(trace.offered_s(stream)), end, bin_s)
        return _ratio(float(counts.var(ddof=1)), float(counts.mean()))

    return measure


def correlated_streams(bin_s: float) -> Measure:
    """Correlation of the counts of the base stream and the first surge."""
    return lambda trace: count_correlation(trace, 0, 1, bin_s)


def count_correlation(trace: Trace, one: int, other: int, bin_s: float) -> float:
    """Return the correlation of the counts of two streams in the same bins."""
    first, second = (_counts(trace.offered_s(stream), trace.horizon_s, bin_s) for stream in (one, other))
    return _correlation(first, second)


def correlated_demands(what: str) -> Measure:
    """Correlation of neighbouring demands, where spans get their CPU at once.

    Parameters
    ----------
    what
        ``"steps"`` of one span; ``"requests"`` that follow one another; ``"call"``: caller and callee.
    """

    def measure(trace: Trace) -> float:
        seen = trace.measured("front")
        first = trace.cpu_done_s(0, seen.spans)
        own = first - seen.started_s
        if what == "requests":
            return _correlation(own[:-1], own[1:])
        second = trace.cpu_done_s(1, seen.spans)
        return _correlation(own, (second - first) if what == "steps" else (seen.finished_s - second))

    return measure


# --- what must hold exactly, for every run


def path(service: str, servers: int) -> Measure:
    """Largest departure of a wait from the recursion of Kiefer and Wolfowitz (1955), relative to the clock."""

    def measure(trace: Trace) -> float:
        visits = trace.visits(service)
        seen = ~np.isnan(visits.started_s)
        spec = _first_demand(trace, service)
        free = [-np.inf] * servers
        worst = 0.0
        for span, arrived, started in zip(
            visits.spans[seen], visits.arrived_s[seen].tolist(), visits.started_s[seen].tolist(), strict=True
        ):
            first = min(range(servers), key=free.__getitem__)
            begin = max(arrived, free[first])
            free[first] = begin + _drawn(spec, span, 0)
            worst = max(worst, abs(started - begin))
        return worst / trace.horizon_s

    return measure


def _first_demand(trace: Trace, service: str) -> Demand:
    step = next(iter(trace.scenario.services[service].operations.values())).steps[0]
    assert isinstance(step, CpuStep)
    return step.cpu


def _drawn(spec: Demand, span: np.uint64, step: int) -> float:
    shape = spec.sigma if spec.dist == "lognormal" else spec.shape
    return float(draw(int(Dist[spec.dist.upper()]), spec.mean_s, shape, span, step, int(Purpose.WORK)))


def flow(trace: Trace) -> float:
    """Requests and spans that came and neither left nor are there, at the horizon and at the end.

    Arrivals are the windows' counts, departures the log's; those in flight are the spans that leave later.
    """
    n = trace.n_measured
    wrong = 0.0
    for row, service in enumerate(trace.scenario.service_names):
        visits, rejected = trace.visits(service), trace.rejected_s(service)
        arrivals = np.rint(trace.metrics[:, row, Metric.REQUEST_RATE_RPS] * trace.step_s)
        left = np.concatenate([visits.finished_s, rejected])
        came = np.concatenate([visits.arrived_s, rejected])
        here = int(((came < trace.horizon_s) & (left >= trace.horizon_s)).sum())
        wrong += abs(arrivals[:n].sum() - int((left < trace.horizon_s).sum()) - here)
        wrong += abs(arrivals.sum() - int((~np.isnan(left)).sum()))
    offered = np.rint(trace.metrics[:, -1, Metric.REQUEST_RATE_RPS] * trace.step_s).sum()
    roots = np.array(list(_roots(trace)), np.uint64)
    ends = sum(int(np.isin(trace.rows(event)["span"], roots).sum()) for event in (Event.REPLIED, Event.TIMED_OUT))
    return float(wrong + abs(offered - trace.rows(Event.SHED).size - ends))


def little(trace: Trace) -> float:
    """Largest relative difference of a service's areas (in flight, queue) and the sums of the times of its spans."""
    worst = 0.0
    for service in trace.scenario.service_names:
        visits = trace.visits(service)
        for metric, ended_s in ((Metric.IN_FLIGHT, visits.finished_s), (Metric.QUEUE_LENGTH, visits.started_s)):
            area = trace.total(service, metric) * trace.step_s
            worst = max(worst, _relative(area, float((ended_s - visits.arrived_s).sum())))
    return worst


def work(trace: Trace) -> float:
    """Largest relative difference of a service's busy time and the demands of its spans, drawn again (utilisation).

    A service that collects garbage may be busy for longer than that, never for less.
    """
    demands = _demands(trace)
    worst = 0.0
    for name, service in trace.scenario.services.items():
        cores = service.cores * service.replicas.initial
        busy = trace.total(name, Metric.CPU_UTIL) * trace.step_s * cores
        needed = demands[name] / service.speed
        # a collection stops the work, but the spans on the CPU keep the cores
        short = service.gc is None or busy < needed
        worst = max(worst, _relative(busy, needed) if short else 0.0)
    return worst


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(one), abs(other), 1e-12)


def _roots(trace: Trace) -> dict[np.uint64, int]:
    """Return root span -> operation of the admitted requests."""
    offered, sent = trace.rows(Event.OFFERED), set(trace.rows(Event.SENT)["span"])
    return {row["span"]: int(row["aux"]) for row in offered if row["span"] in sent}


def _repeats(scenario: Scenario, step: Numbered) -> int:
    """Return how often an attempt of a call site, or a delivery of its message, may be made again."""
    if isinstance(step.spec, PublishStep):
        return scenario.topics[step.spec.publish.topic].redeliveries
    return scenario.call_of(step.site).retries


def _demands(trace: Trace) -> dict[str, float]:
    """Return service -> CPU demand of all its spans, found by walking the tree of keys from the roots."""
    scenario = trace.scenario
    operations = {f"{s}.{o}": number for number, (s, o) in enumerate(scenario.operations)}
    sites: list[list[tuple[int, int, int]]] = [[] for _ in operations]
    steps: dict[tuple[int, int], Demand] = {}
    for step in scenario.walk():
        if step.site >= 0:
            callee = operations[scenario.callee_of(step.site)]
            sites[step.operation].append((step.site, callee, _repeats(scenario, step)))
        elif isinstance(step.spec, CpuStep):
            steps[step.operation, step.step] = step.spec.cpu
    sent = set(trace.rows(Event.SENT)["span"])
    found, todo = {}, list(_roots(trace).items())
    while todo:
        span, operation = todo.pop()
        found[span] = operation
        for site, callee, retries in sites[operation]:
            keys = (keyed(span, int(child_index(site, attempt))) for attempt in range(retries + 1))
            todo += [(key, callee) for key in keys if key in sent]
    total = dict.fromkeys(scenario.service_names, 0.0)
    for row in trace.rows(Event.CPU_DONE):
        operation, number = found[row["span"]], int(row["aux"])
        total[scenario.operations[operation][0]] += _drawn(steps[operation, number], row["span"], number)
    return total
