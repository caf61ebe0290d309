"""The batch engine: forks, independence of everything that may not matter, and its errors."""

import numba
import pytest

from simcore.codes import ActionCode
from simcore.engines.api import EngineAction
from simcore.engines.batch import BatchSession, Capacity
from simcore.errors import InputError
from tests.shop import END_S, EVERY, logs_of, play, runs, shop, windows_of


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> object:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


# --- forks


def test_forks_with_repeats_continue_bit_for_bit() -> None:
    whole, forked = (BatchSession(shop(), runs(4), log=True) for _ in range(2))
    expected = play(whole)
    play(forked, [1.0, 2.0, 3.0, 4.0])
    order = [2, 0, 2, 3, 2]
    fork = forked.fork(order)
    assert fork.now_s == 4.0
    assert fork.n_runs == 5
    assert windows_of(fork) == [windows_of(forked)[run] for run in order]
    played = play(fork, [6.0, 7.0, 8.0, 12.0])
    assert played == [expected[run][4:] for run in order]
    assert logs_of(fork) == [logs_of(whole)[run] for run in order]
    # the original has not moved, and continues as if there had been no fork
    assert forked.now_s == 4.0
    play(forked, [5.0, 6.0, 8.0, 12.0])
    assert logs_of(forked) == logs_of(whole)


def test_a_fork_and_its_original_do_not_touch_each_other() -> None:
    session = BatchSession(shop(), runs(2), log=True, capacity=Capacity(spans=1))
    session.advance(3.0)
    fork = session.fork([1, 1, 0])
    before = logs_of(session)
    fork.apply([EngineAction(0, ActionCode.RESTART, 3.0, 0), EngineAction(0, ActionCode.SCALE, 3.5, 2, -1, 9.0)])
    fork.advance(END_S)
    assert logs_of(session) == before
    assert session.now_s == 3.0
    logs = logs_of(fork)
    assert logs[0] != logs[1]
    session.advance(END_S)
    assert [logs[2], logs[1]] == logs_of(session)


def test_a_fork_of_no_run_has_none() -> None:
    session = BatchSession(shop(), runs(2))
    fork = session.fork([])
    fork.advance(2.0)
    assert fork.n_runs == 0
    assert fork.observe().metrics.shape[:2] == (0, 2)


# --- what may not matter


def test_results_do_not_depend_on_threads_chunks_order_or_neighbours() -> None:
    scenario, inputs = shop(), runs(9)
    reference = BatchSession(scenario, inputs, threads=1, log=True)
    expected = play(reference)
    logs = logs_of(reference)
    acting = [2.0, 4.0, 6.0, 8.0, 12.0]
    for threads, chunks in ((2, EVERY), (2, acting), (1, acting), (None, acting)):
        session = BatchSession(scenario, inputs, threads=threads, log=True)
        assert play(session, chunks) == expected
        assert logs_of(session) == logs
    for order in ([8, 3, 5], [4], [7, 6, 5, 4, 3, 2, 1, 0, 8], [1, 1, 1]):
        session = BatchSession(scenario, [inputs[run] for run in order], threads=2, log=True)
        assert play(session, acting) == [expected[run] for run in order]
        assert logs_of(session) == [logs[run] for run in order]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread anyway")
def test_a_session_that_names_no_threads_takes_all_whatever_was_named_before() -> None:
    BatchSession(shop(), runs(1), threads=1)
    BatchSession(shop(), runs(2)).advance(1.0)
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_a_log_changes_nothing_but_the_log() -> None:
    with_log, without = (BatchSession(shop(), runs(3), log=log) for log in (True, False))
    assert play(with_log) == play(without)


def test_looking_changes_nothing() -> None:
    one, other = (BatchSession(shop(), runs(2), log=True) for _ in range(2))
    for edge in EVERY:
        one.advance(edge)
        other.advance(edge)
        for _ in range(2):
            one.observe()
            one.events(0)
            one.events_run()
    assert logs_of(one) == logs_of(other)
    one.events(0)["time_s"] = -1.0
    assert logs_of(one) == logs_of(other)


def test_different_runs_are_different() -> None:
    session = BatchSession(shop(), runs(9), log=True)
    session.advance(END_S)
    assert len(set(logs_of(session))) == 9


def test_advancing_by_nothing_gives_no_window() -> None:
    session = BatchSession(shop(), runs(2))
    assert session.observe().metrics.shape[:2] == (2, 0)
    session.advance(3.0)
    assert session.observe().first == 0
    assert session.observe().metrics.shape[:2] == (2, 3)
    session.advance(3.0)
    assert session.observe().first == 3
    assert session.observe().metrics.shape[:2] == (2, 0)


def test_windows_come_in_order_whatever_the_chunk() -> None:
    session = BatchSession(shop(), runs(1))
    seen: list[bytes] = []
    for edge in (1.0, 5.0, 12.0):
        session.advance(edge)
        assert session.observe().first == len(seen)
        seen += [row.tobytes() for row in session.observe().metrics[0]]
    whole = BatchSession(shop(), runs(1))
    whole.advance(END_S)
    assert seen == [row.tobytes() for row in whole.observe().metrics[0]]


# --- errors


_NAN, _INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "until_s",
    [
        2.5, 3.0000001, 1.0, -1.0,
        _NAN, _INF,
    ],
)  # fmt: skip
def test_only_edges_from_the_present_one_on_can_be_advanced_to(until_s: float) -> None:
    session = BatchSession(shop(), runs(1), log=True)
    session.advance(2.0)
    before = logs_of(session)
    with pytest.raises(InputError, match=r"until_s must .*, got "):
        session.advance(until_s)
    assert session.now_s == 2.0
    assert logs_of(session) == before


def test_edges_are_multiples_as_floats_have_them() -> None:
    timing = {"step_s": 0.7, "steps": 12, "burn_in_steps": 0}
    scenario = shop().model_copy(update={"timing": type(shop().timing).model_validate(timing)})
    session = BatchSession(scenario, runs(1))
    for k in range(1, 12):
        session.advance(k * 0.7)
    assert session.now_s == 11 * 0.7
    with pytest.raises(InputError, match="multiple"):
        session.advance(sum([0.7] * 12))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (EngineAction(2, ActionCode.RESTART, 5.0, 0), r"run must be in 0 \.\. 1, got 2"),
        (EngineAction(-1, ActionCode.RESTART, 5.0, 0), r"run must be in 0 \.\. 1, got -1"),
        (EngineAction(0, ActionCode.RESTART, 1.999, 0), r"before 2\.0 s, got 1\.999"),
        pytest.param(
            EngineAction(0, ActionCode.RESTART, _NAN, 0),
            r"before 2\.0 s, got nan",
        ),
        pytest.param(
            EngineAction(0, ActionCode.RESTART, 5.0),
            r"service must be in 0 \.\. 2, got -1",
        ),
    ],
)
def test_if_one_action_is_wrong_none_is_entered(wrong: EngineAction, message: str) -> None:
    session, untouched = (BatchSession(shop(), runs(2), log=True) for _ in range(2))
    for each in (session, untouched):
        each.advance(2.0)
    good = EngineAction(0, ActionCode.RESTART, 2.0, 0)
    with pytest.raises(InputError, match=message):
        session.apply([good, wrong])
    for each in (session, untouched):
        each.advance(END_S)
    assert logs_of(session) == logs_of(untouched)


def test_there_are_no_events_without_a_log() -> None:
    with pytest.raises(InputError, match="without log=True"):
        BatchSession(shop(), runs(1)).events(0)
