"""Tests of simcore.env.slo."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcore.env.slo import Incident, IncidentTracker, fault_step, incidents, recovery_steps, violates
from simcore.model.scenario import Slo
from tests import naive

Bools = npt.NDArray[np.bool_]
STEP = st.tuples(st.sampled_from([False, False, False, True]), st.sampled_from([True] * 9 + [False]))


def follow(
    violating: list[bool], restored: list[bool] | None = None, fault: int = -1, step_s: float = 5.0
) -> tuple[Bools, Bools]:
    """Return the (step,) open and unhealthy flags of one run."""
    tracker = IncidentTracker(np.array([fault]), step_s)
    full = restored or [True] * len(violating)
    pairs = [tracker.close(k, np.array([v]), np.array([full[k]])) for k, v in enumerate(violating)]
    return np.array([o[0] for o, _ in pairs], np.bool_), np.array([sick[0] for _, sick in pairs], np.bool_)


def found(violating: list[bool], restored: list[bool] | None = None, fault: int = -1, end: int = 0) -> list[Incident]:
    open_, _ = follow(violating, restored, fault)
    return incidents(open_, fault, end or len(violating), 5.0)


def steps(count: int, *broken: int) -> list[bool]:
    return [k in broken for k in range(count)]


@pytest.mark.parametrize(
    ("p95_s", "offered", "good", "bad", "expected"),
    [
        (0.4, 100, 95, 5, False),
        (0.41, 100, 100, 0, True),
        (np.nan, 100, 94, 6, True),
        (np.nan, 100, 95, 5, False),
        (np.nan, 3, 0, 0, True),
        (np.nan, 0, 0, 0, False),
        (np.nan, 0, 0, 1, True),
    ],
)
def test_a_step_violates_by_its_p95_its_bad_fraction_or_without_a_good_answer(
    p95_s: float, offered: int, good: int, bad: int, expected: bool
) -> None:
    args = (np.array([p95_s]), np.array([offered]), np.array([good]), np.array([bad]))
    assert violates(*args, Slo(p95_s=0.4, bad_frac=0.05))[0] == expected
    assert naive.violating(p95_s, offered, good, bad, 0.4, 0.05) == expected


def test_an_incident_opens_at_two_violating_steps_out_of_three() -> None:
    assert found(steps(30, 4)) == []
    assert found(steps(30, 4, 7)) == []
    assert [incident.opened for incident in found(steps(30, 4, 6))] == [6]
    assert [incident.opened for incident in found(steps(30, 4, 5))] == [5]


def test_recovery_is_the_start_of_the_first_healthy_minute_and_not_the_first_healthy_step() -> None:
    assert found(steps(40, 0, 1, 8), fault=0) == [Incident("incident", 1, 9)]


def test_recovery_waits_until_all_traffic_is_admitted() -> None:
    limited = [k >= 20 for k in range(40)]
    assert found(steps(40, 0, 1), limited, fault=0) == [Incident("incident", 1, 20)]


def test_what_has_no_whole_healthy_minute_before_the_end_is_censored() -> None:
    assert found(steps(13, 0, 1), fault=0) == [Incident("incident", 1, -1)]
    assert found(steps(14, 0, 1), fault=0) == [Incident("incident", 1, 2)]
    assert found(steps(60, 0, 1), fault=0, end=13) == [Incident("incident", 1, -1)]


def test_a_reopening_is_a_relapse() -> None:
    kinds = [incident.kind for incident in found(steps(60, 3, 4, 30, 31), fault=2)]
    assert kinds == ["incident", "relapse"]


def test_what_opens_before_the_fault_is_false_and_the_fault_gets_its_own_incident() -> None:
    assert found(steps(40, 8, 9, 10, 11, 12), fault=11) == [Incident("false", 9, -1), Incident("incident", 12, 13)]


def test_without_a_fault_every_incident_is_false() -> None:
    assert [incident.kind for incident in found(steps(60, 3, 4, 30, 31))] == ["false", "false"]


def test_a_run_is_unhealthy_while_two_of_three_steps_violate_or_traffic_is_turned_away() -> None:
    _, sick = follow(steps(8, 1, 3), [True, True, True, True, True, True, False, True])
    assert sick.tolist() == [False, False, False, True, False, False, True, False]


def test_the_healthy_minute_is_covered_by_whole_steps() -> None:
    assert [recovery_steps(s) for s in (1.0, 5.0, 7.0, 60.0, 90.0)] == [60, 12, 9, 1, 1]


@given(st.floats(0.0, 1e4), st.floats(0.01, 100.0))
def test_a_fault_begins_in_the_step_whose_edge_is_the_last_before_it(onset_s: float, step_s: float) -> None:
    k = fault_step(onset_s, step_s)
    assert k * step_s <= onset_s < (k + 1) * step_s


@settings(deadline=None)
@given(
    st.lists(STEP, max_size=80),
    st.integers(-1, 60),
    st.integers(1, 80),
    st.sampled_from([5.0, 20.0, 30.0, 60.0]),
)
def test_incidents_are_those_of_the_definitions(
    history: list[tuple[bool, bool]], fault: int, end: int, step_s: float
) -> None:
    violating, restored = [v for v, _ in history], [r for _, r in history]
    end = min(end, len(violating))
    fault = fault if fault < len(violating) else -1
    open_, sick = follow(violating, restored, fault, step_s)
    listed = [(i.kind, i.opened, i.recovered) for i in incidents(open_, fault, end, step_s)]
    assert listed == naive.incidents(violating, restored, fault, end, step_s)
    assert sick.tolist() == [naive.unhealthy(violating, restored[k], k, fault) for k in range(len(violating))]
