"""Both engines on the same examples: equal logs and metrics to the last bit, and what must hold in any log."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from simcore.codes import Event, Kind, Status
from simcore.engines.api import Session
from simcore.engines.registry import ENGINES, open_session
from simcore.errors import InputError, RegistryError
from simcore.reference import attempts, cache, requests
from simcore.windows import ReplicaStat, Total, Windows
from tests.strategies import Example, examples

Log = npt.NDArray[np.void]

_FEW = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_MANY = settings(_FEW, max_examples=200)
_VERY_MANY = settings(_FEW, max_examples=5000, derandomize=False, print_blob=True)


def play(session: Session, example: Example, first: int = 0) -> tuple[list[Windows], list[Session]]:
    """Play an example from stop ``first`` on; return the windows of every stop and the forks made on the way."""
    step_s = example.scenario.timing.step_s
    windows, forks = [], []
    edges = (0, *example.stops)
    for i in range(first, len(example.stops)):
        if i == example.fork_at and first == 0:
            forks.append(session.fork([0, session.n_runs - 1, 0]))
        session.apply(example.due(edges[i]))
        session.advance(edges[i + 1] * step_s)
        windows.append(session.observe())
    return windows, forks


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
    shown = f"row {at} of {one.size} and {other.size}:\n{one[max(0, at - 6) : at + 3]}\n{other[max(0, at - 6) : at + 3]}"
    assert one.tobytes() == other.tobytes(), shown


def assert_equal_windows(one: Sequence[Windows], other: Sequence[Windows]) -> None:
    """Compare windows bit by bit; nan equals nan."""
    for a, b in zip(one, other, strict=True):
        assert a.first == b.first
        for name in ("metrics", "totals", "replicas", "markers"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=f"{name} from window {a.first}")


def assert_engines_agree(example: Example) -> None:
    """Play an example on both engines, with a fork, and compare everything that can be seen."""
    sessions = [open_session(engine, example.scenario, example.inputs, log=True) for engine in ("simpy", "batch")]
    for run in range(len(example.inputs)):
        assert_equal_logs(sessions[0].events(run), sessions[1].events(run))
    played = [play(session, example) for session in sessions]
    for run in range(len(example.inputs)):
        assert_equal_logs(sessions[0].events(run), sessions[1].events(run))
    assert_equal_windows(played[0][0], played[1][0])
    forks = [played[0][1][0], played[1][1][0]]
    continued = [play(fork, forked(example), example.fork_at)[0] for fork in forks]
    for run in range(3):
        assert_equal_logs(forks[0].events(run), forks[1].events(run))
    assert_equal_windows(*continued)


@_MANY
@given(examples())
def test_both_engines_give_the_same_log_and_metrics_to_the_last_bit(example: Example) -> None:
    assert_engines_agree(example)


@pytest.mark.slow
@_VERY_MANY
@given(examples())
def test_both_engines_give_the_same_log_and_metrics_on_thousands_of_scenarios(example: Example) -> None:
    assert_engines_agree(example)


def _first_of_queue_last(service, eligible):  # type: ignore[no-untyped-def]
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


def _swap(one: Kind, other: Kind) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a mutation that exchanges two kinds in the total order."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        from simcore.reference.calendar import Calendar

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
        requests._BALANCERS, "least_outstanding", _first_of_queue_last
    ),
    "a full cache drops its most recent entry": lambda m: m.setattr(cache.Shard, "fill", _evict_most_recent),
    "first in, first out instead of LRU": lambda m: m.setattr(cache.Shard, "lookup", _fifo_lookup),
    "a timed-out attempt's reply still counts": lambda m: m.setattr(attempts.Attempts, "_settled", lambda span: None),
}


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_broken_rule_makes_the_comparison_fail(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[rule](monkeypatch)

    def caught(example: Example) -> bool:
        try:
            assert_engines_agree(example)
        except AssertionError:
            return True
        return False

    search = settings(_FEW, max_examples=2000, phases=[Phase.generate])
    try:
        find(examples(), caught, settings=search)
    except NoSuchExample:
        pytest.fail(f"no example notices: {rule}")
