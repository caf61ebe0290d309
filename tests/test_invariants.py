"""What must hold in any log does, in either engine; and a log in which it does not is noticed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from simcore.codes import ActionCode, Event, Status
from simcore.engines.api import EngineAction, RunInputs, Session
from simcore.engines.registry import ENGINES
from simcore.model.scenario import Scenario
from simcore.streams import run_key
from simcore.windows import Metric, ReplicaStat, Windows
from tests import invariants
from tests.invariants import CHECKS, Check, Log, family, of
from tests.strategies import Example, examples
from tests.test_engines import FEW, opened, play


@pytest.mark.parametrize("engine", ENGINES)
@FEW
@given(examples())
def test_what_must_hold_in_any_log_does(engine: str, example: Example) -> None:
    session = opened(engine, example)
    windows, _ = play(session, example)
    for check in CHECKS:
        check(session.events(0), example, windows)


# --- when nothing comes any more


#: It is looked this often whether all has drained, seconds, and given up for lost at last.
LOOK_S, LOST_S = 25.0, 5000.0


def calmed(example: Example) -> Example:
    """Return an example in which all arrivals end at its last stop, and everything is repaired there."""
    scenario = example.scenario
    stop_s = example.stops[-1] * scenario.timing.step_s
    workload = {"shape": "step", "factor": 0.0, "from_s": stop_s, "closed": None, "series": []}
    data = scenario.model_dump()
    data["workload"] |= workload
    repair = [(example.stops[-1], EngineAction(run, ActionCode.ESCALATE, stop_s)) for run in range(len(example.inputs))]
    return replace(
        example,
        scenario=Scenario.model_validate(data),
        inputs=tuple(replace(i, changes=tuple(c for c in i.changes if c.time_s < stop_s)) for i in example.inputs),
        actions=(*example.actions, *repair),
        fork_at=-1,
    )


def drained(session: Session) -> bool:
    """Advance until nothing is in flight, queued, waiting or yet to be consumed; return whether that came to pass."""
    step_s = session.scenario.timing.step_s
    levels = [Metric.IN_FLIGHT, Metric.QUEUE_LENGTH, Metric.POOL_WAITING, Metric.LAG]
    while session.now_s < LOST_S:
        session.advance((round(session.now_s / step_s) + round(LOOK_S / step_s)) * step_s)
        if not session.observe().metrics[:, -1, :-1, levels].any():
            return True
    return False


@pytest.mark.parametrize("engine", ENGINES)
@FEW
@given(examples())
def test_after_the_workload_stops_everything_drains(engine: str, example: Example) -> None:
    calm = calmed(example)
    session = opened(engine, calm)
    play(session, calm)
    session.apply(calm.due(calm.stops[-1]))
    assert drained(session)
    for run in range(len(calm.inputs)):
        everything_has_ended(session.events(run), calm.scenario)


def everything_has_ended(log: Log, scenario: Scenario) -> None:
    """Every request has had its fate, every span that arrived its end, every message that was published its own."""
    fates = np.concatenate([of(log, Event.SHED)["span"], of(log, Event.REPLIED, Event.TIMED_OUT)["span"]])
    assert np.isin(of(log, Event.OFFERED)["span"], fates).all()
    ends = (Event.FINISHED, Event.KILLED, Event.CANCELLED, Event.REJECTED, Event.DROPPED)
    assert set(of(log, Event.ARRIVED)["span"]) <= set(of(log, *ends)["span"])
    kin = family(log, scenario)
    changes = invariants.messages(log, scenario, kin).values()
    assert all(sum(change for _, change in moves) == 0 for moves in changes)


# --- a broken rule is noticed


def busy_example() -> Example:
    """Return overlapping requests at two threads, that ask over one connection and leave messages behind."""
    steps = [
        {"cpu": {"mean_s": 0.3, "dist": "constant"}},
        {"publish": {"topic": "mails"}},
        {"call": {"to": "db.get"}},
    ]
    pools = {"db": {"size": 1, "wait_s": 9.0}}
    leaf = {"threads": 9, "operations": {"get": {"steps": [{"delay": {"mean_s": 0.5, "dist": "constant"}}]}}}
    web = {"threads": 2, "cores": 2.0, "queue": 5, "pools": pools, "operations": {"get": {"steps": steps}}}
    scenario = Scenario.model_validate(
        {
            "name": "busy",
            "timing": {"step_s": 1.0, "steps": 3, "burn_in_steps": 0},
            "services": {"web": web, "db": leaf, "post": leaf},
            "topics": {"mails": {"to": "post.get"}},
            "workload": {"rate_rps": 4.0, "arrivals": "grid", "entries": [{"operation": "web.get"}], "timeout_s": 1.0},
        }
    )
    return Example(scenario, (RunInputs(0, run_key(1, "test", 0, 0), 0.0),), (3,), (), -1)


Tamper = Callable[[Log], Log]


def without(*events: Event) -> Tamper:
    return lambda log: log[~np.isin(log["event"], events)]


def again(event: Event) -> Tamper:
    def repeat(log: Log) -> Log:
        first = np.flatnonzero(log["event"] == event)[0]
        return np.insert(log, first, log[first])

    return repeat


#: Ways to break each rule.
TAMPERED: dict[str, list[Tamper]] = {
    "never_goes_back": [lambda log: log[::-1]],
    "nothing_ends_twice": [again(Event.FINISHED), again(Event.PUBLISHED), again(Event.REPLIED)],
    "nothing_comes_from_nowhere": [without(Event.SENT), without(Event.STARTED), without(Event.OFFERED)],
    "every_request_has_one_fate": [without(Event.REPLIED, Event.TIMED_OUT), without(Event.REPLIED)],
    "limits_are_kept": [without(Event.FINISHED)],
    "no_thread_is_idle_while_spans_queue": [without(Event.STARTED)],
    "pools_are_kept": [without(Event.REPLIED, Event.FINISHED, Event.TIMED_OUT)],
    "totals_are_those_of_the_log": [without(Event.OFFERED), without(Event.SENT)],
    "levels_are_arrivals_less_departures": [
        without(Event.FINISHED), without(Event.ARRIVED), without(Event.PUBLISHED), without(Event.REPLIED),
    ],
    "work_is_conserved": [without(Event.CPU_DONE), without(Event.STARTED), again(Event.CPU_DONE)],
}  # fmt: skip


def test_there_is_a_broken_log_for_every_rule() -> None:
    assert set(TAMPERED) == {check.__name__ for check in CHECKS}


def played(engine: str) -> tuple[Log, Example, list[Windows]]:
    example = busy_example()
    session = opened(engine, example)
    windows, _ = play(session, example)
    return session.events(0), example, windows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_log_that_breaks_a_rule_is_noticed(engine: str, check: Check) -> None:
    log, example, windows = played(engine)
    check(log, example, windows)
    for tamper in TAMPERED[check.__name__]:
        with pytest.raises(AssertionError):
            check(tamper(log), example, windows)


@pytest.mark.parametrize("share", [0.99, 1.01])
def test_work_that_is_lost_or_made_up_is_noticed(share: float) -> None:
    log, example, windows = played("batch")
    windows[0].replicas[..., ReplicaStat.BUSY] *= share
    with pytest.raises(AssertionError):
        invariants.work_is_conserved(log, example, windows)


@pytest.mark.parametrize("lost", [Event.REPLIED, Event.FINISHED])
def test_what_has_not_ended_is_noticed(lost: Event) -> None:
    log, example, _ = played("batch")
    with pytest.raises(AssertionError):
        everything_has_ended(without(lost)(log), example.scenario)


def test_busy_example_is_busy() -> None:
    log, _, _ = played("batch")
    seen = {Event(code) for code in set(log["event"].tolist())}
    assert {Event.POOLED, Event.PUBLISHED, Event.TIMED_OUT} <= seen
    assert (of(log, Event.REPLIED)["aux"] == Status.OK).any()


def test_random_scenarios_show_all_that_can_happen() -> None:
    shown: Counter[int] = Counter()

    @settings(FEW, max_examples=400)
    @given(examples())
    def show(example: Example) -> None:
        session = opened("batch", example)
        play(session, example)
        shown.update(set(session.events(0)["event"].tolist()))

    show()
    assert {event.name: shown[event] for event in Event if shown[event] < 3} == {}
