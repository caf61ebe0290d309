"""Both engines on the same examples: equal logs and metrics to the last bit."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from simcore.codes import ActionCode, Kind, Param, Place
from simcore.engines.api import EngineAction, RunInputs, Session
from simcore.engines.registry import ENGINES, open_session
from simcore.errors import InputError, RegistryError
from simcore.model.modulation import Change, Modulation
from simcore.model.scenario import Scenario
from simcore.reference import attempts, balancers, cache, topics
from simcore.reference.calendar import Calendar
from simcore.streams import run_key
from simcore.windows import Windows
from tests import strategies
from tests.invariants import CHECKS, Log
from tests.shop import EVERY, act, guarded_shop, runs
from tests.strategies import Example, examples

FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
_MANY = settings(FEW, max_examples=200)
_VERY_MANY = settings(FEW, max_examples=5000, derandomize=False, print_blob=True)


def play(session: Session, example: Example, first: int = 0) -> tuple[list[Windows], list[Session]]:
    """Play an example from stop ``first`` on; return the windows of every stop and the forks made on the way."""
    step_s = example.scenario.timing.step_s
    windows, forks = [], []
    edges = (0, *example.stops)
    for i in range(first, len(example.stops)):
        if i == example.fork_at and first == 0:
            forks.append(session.fork([0, session.n_runs - 1, 0], [-1, example.fork_at, 0]))
        session.apply(example.due(edges[i]))
        session.advance(edges[i + 1] * step_s)
        windows.append(session.observe())
    return windows, forks


def opened(engine: str, example: Example) -> Session:
    return open_session(engine, example.scenario, example.inputs, log=True, threads=1)


def forked(example: Example) -> Example:
    """Return what to do with the fork: its run 0 goes on as the original's, run 2 is left alone."""
    same = tuple((edge, action) for edge, action in example.actions if action.run == 0)
    last = len(example.inputs) - 1
    return replace(example, inputs=(example.inputs[0], example.inputs[last], example.inputs[0]), actions=same)


def assert_equal_logs(one: Log, other: Log) -> None:
    """Compare two logs byte by byte, and show the first row that differs."""
    n = min(one.size, other.size)
    differing = np.flatnonzero(one[:n] != other[:n])
    at = int(differing[0]) if differing.size else n
    near = slice(max(0, at - 6), at + 3)
    assert one.tobytes() == other.tobytes(), f"row {at} of {one.size} and {other.size}:\n{one[near]}\n{other[near]}"


def assert_equal_windows(one: Sequence[Windows], other: Sequence[Windows]) -> None:
    """Compare windows bit by bit; nan equals nan."""
    for a, b in zip(one, other, strict=True):
        assert a.first == b.first
        for name in ("metrics", "totals", "replicas", "markers"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=f"{name} from window {a.first}")


def assert_engines_agree(example: Example) -> tuple[Log, list[Windows]]:
    """Play an example on both engines, with a fork, and compare everything that can be seen; return run 0's."""
    sessions = [opened(engine, example) for engine in ("simpy", "batch")]
    played = [play(session, example) for session in sessions]
    for run in range(len(example.inputs)):
        assert_equal_logs(sessions[0].events(run), sessions[1].events(run))
    assert_equal_windows(played[0][0], played[1][0])
    forks = [played[0][1][0], played[1][1][0]]
    continued = [play(fork, forked(example), example.fork_at)[0] for fork in forks]
    for run in range(3):
        assert_equal_logs(forks[0].events(run), forks[1].events(run))
    assert_equal_windows(*continued)
    return sessions[0].events(0), played[0][0]


def assert_rules_hold(example: Example, log: Log, windows: list[Windows]) -> None:
    for check in CHECKS:
        check(log, example, windows)


@_MANY
@given(examples())
def test_both_engines_give_the_same_log_and_metrics_to_the_last_bit(example: Example) -> None:
    assert_rules_hold(example, *assert_engines_agree(example))


@pytest.mark.parametrize("rate_rps", [20.0, 90.0])
def test_both_engines_agree_on_a_shop_with_everything_around_its_calls(rate_rps: float) -> None:
    sessions = [open_session(engine, guarded_shop(rate_rps), runs(2), log=True, threads=1) for engine in ENGINES]
    windows: list[list[Windows]] = [[], []]
    for edge in EVERY:
        for session, seen in zip(sessions, windows, strict=True):
            act(session)
            session.advance(edge)
            seen.append(session.observe())
    for run in range(2):
        assert_equal_logs(sessions[0].events(run), sessions[1].events(run))
    assert_equal_windows(*windows)


@pytest.mark.slow
@_VERY_MANY
@given(examples())
def test_both_engines_give_the_same_log_and_metrics_on_thousands_of_scenarios(example: Example) -> None:
    assert_rules_hold(example, *assert_engines_agree(example))


@pytest.mark.parametrize("engine", ENGINES)
@FEW
@given(examples())
def test_a_fork_that_gets_the_same_actions_continues_bit_for_bit(engine: str, example: Example) -> None:
    session = opened(engine, example)
    windows, (fork,) = play(session, example)
    continued, _ = play(fork, forked(example), example.fork_at)
    assert_equal_logs(fork.events(0), session.events(0))
    for one, other in zip(continued, windows[example.fork_at :], strict=True):
        np.testing.assert_array_equal(one.metrics[0], other.metrics[0])


@pytest.mark.parametrize("engine", ENGINES)
@FEW
@given(examples())
def test_a_run_does_not_depend_on_chunks_neighbours_or_threads(engine: str, example: Example) -> None:
    session = opened(engine, example)
    play(session, example)
    alone = replace(example, inputs=example.inputs[:1], stops=tuple(range(1, example.stops[-1] + 1)))
    alone = replace(alone, actions=tuple((edge, action) for edge, action in example.actions if action.run == 0))
    crowd = tuple(example.inputs[-1:]) * 3 + example.inputs[:1]
    actions = tuple((edge, replace(action, run=3)) for edge, action in alone.actions)
    crowded = replace(alone, inputs=crowd, actions=actions, stops=example.stops)
    solo = open_session(engine, alone.scenario, alone.inputs, log=True, threads=1)
    many = open_session(engine, crowded.scenario, crowded.inputs, log=True, threads=2)
    for other, how in ((solo, alone), (many, crowded)):
        play(other, replace(how, fork_at=-1))
    assert_equal_logs(session.events(0), solo.events(0))
    assert_equal_logs(session.events(0), many.events(3))


# --- the registry


def _busy_example() -> Example:
    """Return ten overlapping requests at one thread."""
    steps = [{"cpu": {"mean_s": 0.3, "dist": "constant"}}]
    service = {"threads": 1, "queue": 5, "operations": {"get": {"steps": steps}}}
    scenario = Scenario.model_validate(
        {
            "name": "busy",
            "timing": {"step_s": 1.0, "steps": 3, "burn_in_steps": 0},
            "services": {"web": service},
            "workload": {"rate_rps": 4.0, "arrivals": "grid", "entries": [{"operation": "web.get"}], "timeout_s": 1.0},
        }
    )
    return Example(scenario, (RunInputs(0, run_key(1, "test", 0, 0), 0.0),), (3,), (), -1)


def test_an_unknown_engine_is_refused_with_a_suggestion() -> None:
    example = _busy_example()
    with pytest.raises(RegistryError, match=r"one of batch, simpy, got 'bach'; did you mean 'batch'\?"):
        open_session("bach", example.scenario, example.inputs)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_without_a_log_has_none_to_show(engine: str) -> None:
    example = _busy_example()
    session = open_session(engine, example.scenario, example.inputs)
    with pytest.raises(InputError, match="log"):
        session.events(0)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_edges_ahead_can_be_advanced_to(engine: str) -> None:
    session = opened(engine, _busy_example())
    session.advance(2.0)
    assert session.now_s == 2.0
    for wrong in (1.0, 2.5):
        with pytest.raises(InputError, match="until_s must"):
            session.advance(wrong)
    with pytest.raises(InputError, match="before"):
        session.apply([EngineAction(0, ActionCode.NOOP, 1.0)])


# --- broken rules are noticed


def _first_of_queue_last(span, eligible):  # type: ignore[no-untyped-def]
    return min(eligible, key=lambda r: (r.outstanding, -r.number))


def _evict_most_recent(self, key, expiry_s):  # type: ignore[no-untyped-def]
    if key not in self._items and self.full:
        self._items.popitem(last=True)
    self._items[key] = cache._Item(expiry_s)
    self._items.move_to_end(key)


def _fifo_lookup(self, key, now):  # type: ignore[no-untyped-def]
    item = self._items.get(key)
    if item is None or now >= item.expiry_s:
        self._items.pop(key, None)
        return False, False
    return True, item.poisoned


def _only_more(self, partition, by):  # type: ignore[no-untyped-def]
    level = self.lag[partition.service.index]
    level.set(level.value + max(0, by), self._world.calendar.now)


class _Cured(attempts.Span):
    """A delivery that is a pill the first time only."""

    __slots__ = ("_pill",)

    @property
    def pill(self) -> bool:
        return self._pill and self.number == 0

    @pill.setter
    def pill(self, value: bool) -> None:
        self._pill = value


def _swap(one: Kind, other: Kind) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a mutation that exchanges two kinds in the total order."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        enter = Calendar.enter
        swapped = {one: other, other: one}

        def wrong(self, entry, time_s, kind, key, attempt):  # type: ignore[no-untyped-def]
            enter(self, entry, time_s, swapped.get(kind, kind), key, attempt)

        monkeypatch.setattr(Calendar, "enter", wrong)

    return mutate


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a timeout before a reply of the same instant": _swap(Kind.REPLY, Kind.TIMEOUT),
    "an arrival before a grant": _swap(Kind.GRANT, Kind.ARRIVE),
    "least outstanding: ties to the highest number": lambda m: m.setitem(
        balancers.BALANCERS, "least_outstanding", _first_of_queue_last
    ),
    "a full cache drops its most recent entry": lambda m: m.setattr(cache.Shard, "fill", _evict_most_recent),
    "first in, first out instead of LRU": lambda m: m.setattr(cache.Shard, "lookup", _fifo_lookup),
    "answered attempts stay outstanding": lambda m: m.setattr(attempts.Attempts, "_settled", lambda self, span: None),
    "messages that have been consumed still count": lambda m: m.setattr(topics.Topics, "_changed", _only_more),
    "skipping spares what waits to be delivered again": lambda m: m.setattr(
        topics.Partition, "stuck", property(lambda self: self.attempt > 0 and self.delivery is not None)
    ),
    "a message gets over being a pill": lambda m: m.setattr(topics, "Span", _Cured),
}

#: What the rules above are about; examples that have nothing else show them sooner.
ABOUT = dict.fromkeys(list(MUTATIONS)[-3:], frozenset({"topics"}))


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_broken_rule_makes_the_comparison_fail(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[rule](monkeypatch)
    monkeypatch.setattr(strategies, "FEATURES", ABOUT.get(rule, frozenset()))

    def caught(example: Example) -> bool:
        try:
            assert_engines_agree(example)
        except AssertionError:
            return True
        return False

    search = settings(FEW, max_examples=2000, phases=[Phase.generate])
    try:
        find(examples(), caught, settings=search, random=random.Random(3))  # so that it takes as long in every run
    except NoSuchExample:
        pytest.fail(f"no example notices: {rule}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("mods", "changes", "message"),
    [
        ((Modulation(Param.SPEED, Place.NODE, 7),), (), r"modulations\[0\]\.service must be in 0 \.\. 0, got 7"),
        ((Modulation(Param.SPEED, Place.NODE),), (), r"service must be in 0 \.\. 0, got -1"),
        ((), (Change(1.0, 0, 2.0),), r"changes\[0\]\.modulation must be in 0 \.\. -1, got 0"),
        ((Modulation(Param.SPEED, Place.NODE, 0),), (Change(-9.0, 0, 2.0),), "must not lie before"),
        ((Modulation(Param.SPEED, Place.NODE, 0),), (Change(2.0, 0, 2.0), Change(1.0, 0, 1.0)), r"changes\[1\]"),
        ((Modulation(Param.SPEED, Place.NODE, 0),), (Change(float("nan"), 0, 2.0),), r"changes\[0\]"),
    ],
)
def test_inputs_that_no_engine_could_index_by_are_refused(
    engine: str, mods: tuple[Modulation, ...], changes: tuple[Change, ...], message: str
) -> None:
    plain = {"services": {"web": {"operations": {"get": {}}}}, "timing": {"burn_in_steps": 0}}
    work = {"rate_rps": 1.0, "entries": [{"operation": "web.get"}]}
    scenario = Scenario.model_validate({"name": "plain", "workload": work} | plain)
    with pytest.raises(InputError, match=message):
        open_session(engine, scenario, [RunInputs(0, run_key(1, "test", 0, 0), 0.0, mods, changes)])
