"""What must hold in any log and its windows, whatever the scenario and whatever happens in it."""

__all__ = ["CHECKS", "Check", "Log", "family", "messages", "of"]

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simcore.codes import ActionCode, Event, Param, Purpose, Status
from simcore.model.programs import CpuStep, PublishStep
from simcore.model.scenario import Scenario
from simcore.reference.attempts import amount
from simcore.streams import child_index, keyed
from simcore.windows import Metric, ReplicaStat, Total, Windows
from tests.strategies import Example

Log = npt.NDArray[np.void]
#: Raises AssertionError if the log of run 0 of an example, or its windows, break a rule.
Check = Callable[[Log, Example, list[Windows]], None]

#: The end of a span at a replica.
_ENDS = (Event.FINISHED, Event.KILLED, Event.CANCELLED, Event.DROPPED)


def of(log: Log, *events: Event) -> Log:
    return log[np.isin(log["event"], events)]


class Kin(NamedTuple):
    """Where a span comes from, found by walking the tree of keys from the roots."""

    operation: int
    parent: int  #: span, -1: a client
    site: int  #: -1: a client
    number: int  #: of the attempt


def family(log: Log, scenario: Scenario) -> dict[int, Kin]:
    """Return what is known of every attempt that was sent, denied or let wait, and of every delivery."""
    operations = {f"{s}.{o}": number for number, (s, o) in enumerate(scenario.operations)}
    known = set(of(log, Event.SENT, Event.DENIED, Event.POOLED)["span"].tolist())
    branches: dict[int, list[tuple[int, int, list[int]]]] = defaultdict(list)
    for step in scenario.sites:
        if isinstance(step.spec, PublishStep):
            numbers = list(range(scenario.topics[step.spec.publish.topic].redeliveries + 1))
        else:
            call = scenario.call_of(step.site)
            hedges = call.hedge.max if call.hedge else 0
            numbers = [a + 32 * h for a in range(call.retries + 1) for h in range(hedges + 1)]
        branches[step.operation].append((step.site, operations[scenario.callee_of(step.site)], numbers))
    offered = of(log, Event.OFFERED)
    found = {int(row["span"]): Kin(int(row["aux"]), -1, -1, 0) for row in offered if int(row["span"]) in known}
    todo = list(found)
    while todo:
        parent = todo.pop()
        key = np.uint64(parent)
        for site, callee, numbers in branches[found[parent].operation]:
            for number in numbers:
                span = int(keyed(key, int(child_index(site, number))))
                if span in known:
                    found[span] = Kin(callee, parent, site, number)
                    todo.append(span)
    assert known == set(found), "an attempt that nobody can have made"
    return found


def _service_of(scenario: Scenario, kin: Kin) -> int:
    return scenario.service_names.index(scenario.operations[kin.operation][0])


# --- order, and one end for everything


def never_goes_back(log: Log, _: Example, __: list[Windows]) -> None:
    assert np.all(np.diff(log["time_s"]) >= 0.0)


def nothing_ends_twice(log: Log, _: Example, __: list[Windows]) -> None:
    """A span starts and ends once at most; its caller hears one thing of it at most; so with messages."""
    for events in (
        [Event.OFFERED], [Event.SENT, Event.DENIED], [Event.ARRIVED, Event.REFUSED],
        [Event.STARTED, Event.REJECTED, Event.DROPPED], [Event.REPLIED, Event.TIMED_OUT],
        [Event.FINISHED, Event.KILLED, Event.REJECTED, Event.REFUSED, Event.CANCELLED, Event.DROPPED],
        [Event.PUBLISHED, Event.OVERFLOW], [Event.SKIPPED],
    ):  # fmt: skip
        spans = of(log, *events)["span"]
        assert np.unique(spans).size == spans.size, events


def nothing_comes_from_nowhere(log: Log, example: Example, _: list[Windows]) -> None:
    """What arrived was sent, what started had arrived, what finished had started, what was answered was sent."""
    for later, earlier in (
        (Event.ARRIVED, Event.SENT), (Event.STARTED, Event.ARRIVED), (Event.FINISHED, Event.STARTED),
        (Event.KILLED, Event.ARRIVED), (Event.TIMED_OUT, Event.SENT), (Event.CANCELLED, Event.SENT),
        (Event.DROPPED, Event.ARRIVED), (Event.BLOCKED, Event.STARTED), (Event.LOCKED, Event.STARTED),
        (Event.SKIPPED, Event.PUBLISHED),
    ):  # fmt: skip
        assert np.isin(of(log, later)["span"], of(log, earlier)["span"]).all(), later
    answered = of(log, Event.REPLIED)["span"]
    assert np.isin(answered, of(log, Event.SENT, Event.DENIED)["span"]).all()
    family(log, example.scenario)


def every_request_has_one_fate(log: Log, example: Example, _: list[Windows]) -> None:
    """An offered request is shed, answered, given up by its client, or younger than the client's patience."""
    end_s = example.stops[-1] * example.scenario.timing.step_s
    roots = of(log, Event.OFFERED)
    shed = of(log, Event.SHED)["span"]
    heard = of(log, Event.REPLIED, Event.TIMED_OUT)["span"]
    fates = np.isin(roots["span"], shed).astype(int) + np.isin(roots["span"], heard)
    young = roots["time_s"] + example.scenario.workload.timeout_s >= end_s
    assert np.all((fates == 1) | ((fates == 0) & young))


# --- bounds


def limits_are_kept(log: Log, example: Example, _: list[Windows]) -> None:
    """No more spans run at a replica than it has threads, nor are there more than threads and queue together."""
    scenario, kin = example.scenario, family(log, example.scenario)
    services = list(scenario.services.values())
    for _, replica, running, present in _populations(log):
        some = next(iter(present or running), None)
        if some is not None:
            home = services[_service_of(scenario, kin[some])]
            assert len(running) <= home.threads, replica
            assert len(present) <= home.threads + home.queue, replica


def no_thread_is_idle_while_spans_queue(log: Log, example: Example, _: list[Windows]) -> None:
    """When an instant is over, a replica at which spans queue has all its threads at work."""
    scenario, kin = example.scenario, family(log, example.scenario)
    services = list(scenario.services.values())
    for at_once in _instants(log):
        for replica, running, present in at_once:
            queued = present - running
            if queued:
                home = services[_service_of(scenario, kin[next(iter(queued))])]
                assert len(running) == home.threads, replica


def _instants(log: Log) -> Iterator[list[tuple[int, set[int], set[int]]]]:
    """Yield the replicas whose population has changed at an instant, as it is when the instant is over."""
    changed: dict[int, tuple[int, set[int], set[int]]] = {}
    now = -math.inf
    for time_s, replica, running, present in _populations(log):
        if time_s > now:
            yield list(changed.values())
            changed.clear()
        now = time_s
        changed[replica] = (replica, set(running), set(present))
    yield list(changed.values())


def _populations(log: Log) -> Iterator[tuple[float, int, set[int], set[int]]]:
    """Yield (time, replica, spans with a thread, spans there) whenever a span comes, starts or goes."""
    rejected = set(of(log, Event.REJECTED)["span"].tolist())
    place: dict[int, int] = {}
    running: dict[int, set[int]] = defaultdict(set)
    present: dict[int, set[int]] = defaultdict(set)
    for row in of(log, Event.ARRIVED, Event.STARTED, *_ENDS):
        event, span = row["event"], int(row["span"])
        if span in rejected or (event == Event.CANCELLED and span not in place):
            continue
        at = place.setdefault(span, int(row["aux"]))
        if event in _ENDS:
            present[at].discard(span)
            running[at].discard(span)
        else:
            (present if event == Event.ARRIVED else running)[at].add(span)
        yield float(row["time_s"]), at, running[at], present[at]


def pools_are_kept(log: Log, example: Example, _: list[Windows]) -> None:
    """No replica has more connections to a service than its pool, at the largest size that it ever had."""
    scenario, kin = example.scenario, family(log, example.scenario)
    names = scenario.service_names
    place = {int(row["span"]): int(row["aux"]) for row in of(log, Event.SENT)}
    held: dict[tuple[int, str], set[int]] = defaultdict(set)
    by_parent: dict[int, set[int]] = defaultdict(set)
    largest = [_pool_factor(example, service) for service in range(len(names))]
    for row in of(log, Event.SENT, Event.REPLIED, Event.TIMED_OUT, *_ENDS):
        event, span = row["event"], int(row["span"])
        own = kin[span]
        if event in _ENDS:
            # whoever ends drops what it has called and not heard of
            gone = by_parent.pop(span, set())
        elif event == Event.SENT:
            gone = set()
        else:
            gone = {span}
            if event == Event.REPLIED and row["aux"] == Status.OK:
                # and so does a call with its other members
                gone |= {other for other in by_parent[own.parent] if kin[other].site == own.site}
        for connection in gone:
            by_parent[kin[connection].parent].discard(connection)
            for spans in held.values():
                spans.discard(connection)
        if event != Event.SENT or own.site < 0 or isinstance(scenario.sites[own.site].spec, PublishStep):
            continue
        caller = _service_of(scenario, kin[own.parent])
        callee = names[_service_of(scenario, own)]
        pool = scenario.services[names[caller]].pools.get(callee)
        by_parent[own.parent].add(span)
        if pool is not None:
            spans = held[place[own.parent], callee]
            spans.add(span)
            assert len(spans) <= math.floor(pool.size * largest[caller])


def _pool_factor(example: Example, service: int) -> float:
    """Return the largest multiple of its pools' sizes that a service may have had."""
    run, factor = example.inputs[0], 1.0
    for i, modulation in enumerate(run.modulations):
        if modulation.param is Param.POOL and modulation.service == service:
            factor *= max([1.0, *(change.value for change in run.changes if change.modulation == i)])
    resized = [a.amount for _, a in example.actions if a.code is ActionCode.RESIZE_POOL and a.service == service]
    return factor * max([1.0, *resized])


# --- conservation


def totals_are_those_of_the_log(log: Log, example: Example, windows: list[Windows]) -> None:
    recorded = log[log["time_s"] >= 0.0]
    totals = np.concatenate([w.totals[0] for w in windows]).sum(axis=0)
    roots = of(log, Event.OFFERED)["span"]
    heard = of(recorded, Event.REPLIED)
    assert totals[Total.OFFERED] == of(recorded, Event.OFFERED).size
    assert totals[Total.SHED] == of(recorded, Event.SHED).size
    assert totals[Total.ATTEMPTS] == of(recorded, Event.SENT).size
    assert totals[Total.TIMEOUTS] == np.isin(of(recorded, Event.TIMED_OUT)["span"], roots).sum()
    assert totals[Total.ERRORS] == (np.isin(heard["span"], roots) & (heard["aux"] != Status.OK)).sum()
    begun = of(log, Event.OFFERED).size - of(recorded, Event.OFFERED).size
    assert totals[Total.GOOD] + totals[Total.BAD] <= totals[Total.OFFERED] + begun
    assert 0 <= totals[Total.GOOD] <= of(recorded, Event.REPLIED).size


def levels_are_arrivals_less_departures(log: Log, example: Example, windows: list[Windows]) -> None:
    """What is in flight, queued or yet to be consumed is what has come less what has gone, at any time."""
    scenario, kin = example.scenario, family(log, example.scenario)
    moves: dict[tuple[Metric, int], list[tuple[float, int]]] = defaultdict(list)
    rejected = set(of(log, Event.REJECTED)["span"].tolist())
    there, waiting = set(), set()
    for row in of(log, Event.ARRIVED, Event.STARTED, *_ENDS):
        event, span, time_s = row["event"], int(row["span"]), float(row["time_s"])
        service = _service_of(scenario, kin[span])
        if event == Event.ARRIVED and span not in rejected:
            there.add(span)
            waiting.add(span)
            moves[Metric.IN_FLIGHT, service].append((time_s, 1))
            moves[Metric.QUEUE_LENGTH, service].append((time_s, 1))
        elif event == Event.STARTED or span in waiting:
            waiting.discard(span)
            moves[Metric.QUEUE_LENGTH, service].append((time_s, -1))
        if event in _ENDS and span in there:
            there.remove(span)
            moves[Metric.IN_FLIGHT, service].append((time_s, -1))
    for name, changes in messages(log, scenario, kin).items():
        moves[Metric.LAG, scenario.service_names.index(name)] += changes
    first = windows[0].first
    metrics = np.concatenate([w.metrics[0] for w in windows])
    step_s = scenario.timing.step_s
    edges = (first + np.arange(metrics.shape[0] + 1)) * step_s
    for metric in (Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.LAG):
        for service in range(len(scenario.services)):
            area = np.diff(_area(moves[metric, service], edges))
            np.testing.assert_allclose(metrics[:, service, metric] * step_s, area, atol=1e-7, err_msg=metric.name)


def _area(moves: list[tuple[float, int]], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the time integral of a level up to each edge, from its (time, change) pairs."""
    times, changes = (np.array(values, float) for values in zip(*moves, strict=True)) if moves else (np.zeros(0),) * 2
    area: npt.NDArray[np.float64] = (np.maximum(0.0, edges[:, None] - times) * changes).sum(axis=1)
    return area


def messages(log: Log, scenario: Scenario, kin: dict[int, Kin]) -> dict[str, list[tuple[float, int]]]:
    """Return (time, change) of the messages that each consumer has yet to consume."""
    partitions = [topic.to.partition(".")[0] for topic in scenario.topics.values() for _ in range(topic.partitions)]
    moves: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in of(log, Event.PUBLISHED):
        moves[partitions[int(row["aux"])]].append((float(row["time_s"]), 1))
    for row in of(log, Event.SKIPPED):
        moves[partitions[int(row["aux"])]].append((float(row["time_s"]), -1))
    for row in of(log, Event.GAVE_UP, Event.REPLIED):
        own = kin.get(int(row["span"]))
        done = row["event"] == Event.GAVE_UP or row["aux"] == Status.OK
        if done and own and own.site >= 0 and isinstance(scenario.sites[own.site].spec, PublishStep):
            name = scenario.callee_of(own.site).partition(".")[0]
            moves[name].append((float(row["time_s"]), -1))
    return moves


def work_is_conserved(log: Log, example: Example, windows: list[Windows]) -> None:
    """The cores of a service that no fault changes do as much work as its spans have drawn: no more, no less."""
    scenario, kin = example.scenario, family(log, example.scenario)
    if of(log, Event.REPLICA_DRAINING, Event.REPLICA_GONE).size:
        # their work is in no slot of the windows
        return
    least, most = _work(log, scenario, kin)
    step_s = scenario.timing.step_s
    for service, (name, spec) in enumerate(scenario.services.items()):
        if spec.gc or spec.warmup or not _steady(example, service) or _crowded(log, example, service):
            continue
        shares = np.concatenate([w.replicas[0, :, service, :, ReplicaStat.BUSY] for w in windows])
        done = float(np.nansum(shares)) * step_s * spec.cores * spec.speed
        assert least[name] - 1e-6 <= done <= most[name] + 1e-6, name


def _steady(example: Example, service: int) -> bool:
    """Return whether nothing changes how fast a service works, or how much."""
    changing = {Param.SPEED, Param.CORES, Param.DEMAND, Param.HOLD}
    return not any(m.param in changing and m.service == service for m in example.inputs[0].modulations)


def _crowded(log: Log, example: Example, service: int) -> bool:
    """Return whether a service may have more replicas than the windows have slots."""
    scenario = example.scenario
    added = of(log, Event.SCALED)["aux"].sum() if of(log, Event.SCALED).size else 0
    added += sum(a.amount for _, a in example.actions if a.code is ActionCode.SCALE and a.service == service)
    slots = max(spec.replicas.max for spec in scenario.services.values())
    return bool(scenario.services[scenario.service_names[service]].replicas.initial + added > slots)


def _work(log: Log, scenario: Scenario, kin: dict[int, Kin]) -> tuple[Counter[str], Counter[str]]:
    """Return by service the least and the most CPU work that may have been done since time 0."""
    steps = {
        operation: {step.step: step.spec.cpu for step in _flat(program) if isinstance(step.spec, CpuStep)}
        for operation, program in enumerate(scenario.programs)
    }
    before = {int(row["span"]) for row in of(log, Event.STARTED) if row["time_s"] < 0.0}
    over = {int(row["span"]) for row in of(log, Event.FINISHED)}
    over |= {int(row["span"]) for row in of(log, *_ENDS) if row["time_s"] < 0.0}
    left = {int(row["span"]): dict(steps[kin[int(row["span"])].operation]) for row in of(log, Event.STARTED)}
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for row in of(log, Event.CPU_DONE):
        span, number = int(row["span"]), int(row["aux"])
        assert number in left.get(span, {}), "a step that was never begun, or is done twice"
        demand = left[span].pop(number)
        if row["time_s"] < 0.0:
            continue
        work = amount(demand, np.uint64(span), number, Purpose.WORK)
        name = scenario.operations[kin[span].operation][0]
        most[name] += work
        if span in before:
            # it may have been begun before time 0
            before.remove(span)
        else:
            least[name] += work
    for span, undone in left.items():
        if span not in over:
            name = scenario.operations[kin[span].operation][0]
            most[name] += sum(amount(d, np.uint64(span), number, Purpose.WORK) for number, d in undone.items())
    return least, most


def _flat(steps: Iterable) -> Iterator:  # type: ignore[type-arg]
    for step in steps:
        yield step
        yield from _flat(step.inner)


CHECKS: tuple[Check, ...] = (
    never_goes_back, nothing_ends_twice, nothing_comes_from_nowhere, every_request_has_one_fate, limits_are_kept,
    no_thread_is_idle_while_spans_queue, pools_are_kept, totals_are_those_of_the_log,
    levels_are_arrivals_less_departures, work_is_conserved,
)  # fmt: skip
