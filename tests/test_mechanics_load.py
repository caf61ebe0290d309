"""Users who wait and think, recorded rates, autoscaling; times worked out by hand."""

from typing import Any

import numpy as np
import pytest

from simcore.codes import ActionCode, Dist, Event, Param, Place, Purpose
from simcore.engines.api import EngineAction
from simcore.model.modulation import Modulation
from simcore.model.scenario import Scenario
from simcore.reference.session import ReferenceSession
from simcore.samplers import draw
from simcore.streams import keyed
from simcore.windows import Total
from tests.test_reference import CPU, only, opened, scenario, service


def delay(mean_s: float) -> dict[str, Any]:
    return {"delay": {"mean_s": mean_s, "dist": "constant"}}


def closed(users: int, think_s: float, dist: str = "constant") -> dict[str, Any]:
    return {"users": users, "think": {"mean_s": think_s, "dist": dist}}


def act(session: ReferenceSession, code: ActionCode, at_s: float, amount: float = 0.0) -> None:
    session.apply([EngineAction(0, code, at_s, service=0, amount=amount)])


def times(session: ReferenceSession, event: Event) -> list[float]:
    return [row[0] for row in only(session, event)]


# --- users


def test_a_user_thinks_after_every_answer() -> None:
    session = opened(scenario({"web": service(delay(0.25))}, closed=closed(1, 1.0)))
    session.advance(6.0)
    assert times(session, Event.OFFERED) == [1.0, 2.25, 3.5, 4.75]
    assert times(session, Event.REPLIED) == [1.25, 2.5, 3.75, 5.0]


def test_a_user_thinks_after_giving_up_too() -> None:
    session = opened(scenario({"web": service(delay(9.0))}, closed=closed(1, 1.0), timeout_s=0.5))
    session.advance(6.0)
    assert times(session, Event.OFFERED) == [1.0, 2.5, 4.0, 5.5]
    assert times(session, Event.TIMED_OUT) == [1.5, 3.0, 4.5]


def test_a_user_thinks_after_being_shed_too() -> None:
    session = opened(scenario({"web": service(delay(0.25))}, closed=closed(1, 1.0)))
    act(session, ActionCode.LIMIT_TRAFFIC, 0.5)
    act(session, ActionCode.LIMIT_TRAFFIC, 2.5, amount=1.0)
    session.advance(5.0)
    assert times(session, Event.OFFERED) == [1.0, 2.0, 3.0, 4.25]
    assert times(session, Event.SHED) == [1.0, 2.0]


def test_users_slow_down_with_the_service() -> None:
    spec = scenario({"web": service(delay(0.5), queue=9)}, closed=closed(3, 0.5))
    session = opened(spec)
    session.advance(6.0)
    # one thread: an answer every half second, and nobody is turned away
    assert times(session, Event.REPLIED) == [1.0 + 0.5 * i for i in range(10)]
    assert session.observe().totals[0, :, Total.OFFERED].tolist() == [3, 1, 2, 2, 2, 2]
    assert not only(session, Event.REJECTED)


def test_every_user_has_keys_and_numbers_of_its_own() -> None:
    session = opened(scenario({"web": service(threads=9)}, closed=closed(2, 1.0, "exponential")))
    session.advance(9.0)
    base = keyed(session._runs[0].inputs.key, 0)
    expected = []
    for user in range(2):
        now, n = 0.0, 0
        while True:
            root = keyed(keyed(base, 2**32 + user), n)
            now += draw(int(Dist.EXPONENTIAL), 1.0, 1.0, root, 4095, int(Purpose.ARRIVAL))
            if now >= 9.0:
                break
            expected.append((now, (2**20 + user) << 40 | n, np.uint64(root).astype(np.int64)))
            n += 1
    rows = [row for row in session.events(0) if row["event"] == Event.OFFERED]
    assert [(row["time_s"], row["request"], row["span"].astype(np.int64)) for row in rows] == sorted(expected)


def test_users_start_with_the_burn_in() -> None:
    spec = scenario({"web": service()}, closed=closed(1, 1.5)).model_dump()
    spec["timing"]["burn_in_steps"] = 2
    session = opened(Scenario.model_validate(spec))
    session.advance(3.0)
    assert times(session, Event.OFFERED) == [-0.5, 1.0, 2.5]


def test_a_surge_beside_users_is_an_open_stream() -> None:
    surge = (Modulation(Param.SURGE, Place.WORKLOAD), [(0.0, 2.0)])
    session = opened(scenario({"web": service(delay(9.0), threads=20)}, closed=closed(1, 0.25)), surge)
    session.advance(2.0)
    assert times(session, Event.OFFERED) == [0.25, 0.5, 1.0, 1.5]
    assert {int(row["request"]) >> 40 for row in session.events(0) if row["request"] >= 0} == {1, 2**20}


def test_users_think_whatever_the_shape() -> None:
    spec = scenario({"web": service()}, closed=closed(1, 1.0), shape="step", factor=0.0, from_s=-9.0)
    session = opened(spec)
    session.advance(4.0)
    assert times(session, Event.OFFERED) == [1.0, 2.0, 3.0]


def test_a_fork_goes_on_with_the_same_users() -> None:
    session = opened(scenario({"web": service(CPU)}, closed=closed(4, 1.0, "exponential")))
    session.advance(5.0)
    fork = session.fork([0])
    for one in (session, fork):
        one.advance(12.0)
    assert fork.events(0).tobytes() == session.events(0).tobytes()


# --- recorded rates


def series(*points: tuple[float, float]) -> dict[str, Any]:
    return {"shape": "series", "series": [{"time_s": t, "factor": factor} for t, factor in points]}


def test_a_recorded_rate_holds_until_the_next_one() -> None:
    session = opened(scenario({"web": service()}, **series((2.0, 0.0), (5.0, 2.0), (7.0, 0.0))))
    session.advance(12.0)
    # candidates come every half second; before the first point the first one's rate holds
    assert times(session, Event.OFFERED) == [5.0, 5.5, 6.0, 6.5]


def test_the_first_recorded_rate_holds_before_it() -> None:
    session = opened(scenario({"web": service()}, **series((3.0, 1.0), (6.0, 0.0))))
    session.advance(12.0)
    assert times(session, Event.OFFERED) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_recorded_rate_in_between_thins_the_stream() -> None:
    session = opened(scenario({"web": service()}, arrivals="poisson", rate_rps=50.0, **series((0.0, 0.4), (10.0, 1.0))))
    session.advance(20.0)
    offered = np.array(times(session, Event.OFFERED))
    # 200 and 500 on average
    assert abs((offered < 10.0).sum() - 200) < 60
    assert abs((offered >= 10.0).sum() - 500) < 90


def test_a_surge_follows_the_recorded_rate() -> None:
    surge = (Modulation(Param.SURGE, Place.WORKLOAD), [(0.0, 1.0)])
    session = opened(scenario({"web": service()}, **series((0.0, 1.0), (4.0, 0.0))), surge)
    session.advance(9.0)
    assert times(session, Event.OFFERED) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


# --- autoscaling


def scaled(*steps: dict[str, Any], initial: int = 1, most: int = 9, startup_s: float = 0.5, **auto: Any) -> Any:
    spec = {"target": 0.5, "tolerance": 0.1, "every_steps": 1, "stabilisation_steps": 1, **auto}
    replicas = {"initial": initial, "max": most}
    return service(*steps, threads=50, autoscaler=spec, replicas=replicas, startup_s=startup_s, drain_s=0.25)


def test_a_busy_service_gets_what_would_bring_it_to_its_target() -> None:
    # a request of 0.25 four times a second fills the only core from 0.25 on
    session = opened(scenario({"web": scaled(CPU)}, rate_rps=4.0))
    session.advance(2.5 + 0.5)
    # 0.75 / 0.5 -> 2 replicas; both are up from 1.5 on
    assert only(session, Event.SCALED)[0] == (1.0, "SCALED", 1)
    assert only(session, Event.REPLICA_UP)[0] == (1.5, "REPLICA_UP", 0)


def test_it_scales_as_often_as_it_is_told_and_counts_what_is_starting() -> None:
    busy = {"cpu": {"mean_s": 100.0, "dist": "constant"}}
    session = opened(scenario({"web": scaled(busy, every_steps=2, startup_s=100.0)}, rate_rps=4.0))
    session.advance(9.0)
    # full from 0.25 on: twice the 1, 2, 4 replicas that are up or starting, and 9 at most
    assert only(session, Event.SCALED) == [
        (2.0, "SCALED", 1), (4.0, "SCALED", 2), (6.0, "SCALED", 4), (8.0, "SCALED", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("target", "change"), [(0.25, 0), (0.23, 0), (0.22, 1), (0.27, 0), (0.56, -1)])
def test_within_the_tolerance_nothing_is_done(target: float, change: int) -> None:
    # a quarter of the two cores is busy in every window but the first, which is not looked at
    session = opened(scenario({"web": scaled(CPU, target=target, initial=2, every_steps=2)}, rate_rps=2.0))
    session.advance(3.0)
    # out of the tolerance: 2 * 1.136 is rounded up to 3, 2 * 0.446 to 1
    assert only(session, Event.SCALED) == ([(2.0, "SCALED", change)] if change else [])


def test_it_scales_down_to_the_largest_wish_of_late() -> None:
    silent = {"shape": "step", "factor": 0.0, "from_s": 2.125}
    session = opened(scenario({"web": scaled(CPU, initial=4, stabilisation_steps=3)}, rate_rps=4.0, **silent))
    session.advance(9.0)
    # busy: 0.75 of 4 core-seconds, wish 2; 1 of 2.5 (two drain until 1.25), wish 2; 0.25 of 2, wish 1; nothing, wish 1.
    # At 3 and 4 there has been a wish of 2 within three steps, at 5 there has not
    assert only(session, Event.SCALED) == [(1.0, "SCALED", -2), (5.0, "SCALED", -1)]


def test_an_idle_service_keeps_its_least() -> None:
    web = scaled(CPU, initial=3)
    web["replicas"]["min"] = 2
    session = opened(scenario({"web": web}, shape="step", factor=0.0, from_s=-9.0))
    session.advance(4.0)
    assert only(session, Event.SCALED) == [(1.0, "SCALED", -1)]
    assert only(session, Event.REPLICA_DRAINING, Event.SCALED)[0][1] == "REPLICA_DRAINING"


def test_it_acts_after_the_actions_of_the_edge() -> None:
    session = opened(scenario({"web": scaled(CPU, initial=3)}, shape="step", factor=0.0, from_s=-9.0))
    session.advance(1.0)
    act(session, ActionCode.SCALE, 1.0, amount=-1.0)
    session.advance(2.0)
    assert only(session, Event.ACTION_DONE, Event.SCALED) == [(1.0, "ACTION_DONE", 2), (1.0, "SCALED", -1)]


def test_the_burn_in_is_not_acted_on() -> None:
    spec = scenario({"web": scaled(CPU, initial=3)}, shape="step", factor=0.0, from_s=-9.0).model_dump()
    spec["timing"]["burn_in_steps"] = 4
    session = opened(Scenario.model_validate(spec))
    session.advance(2.0)
    assert times(session, Event.SCALED) == [1.0]


def test_a_service_without_replicas_is_left_alone() -> None:
    session = opened(scenario({"web": scaled(CPU)}, shape="step", factor=0.0, from_s=-9.0))
    act(session, ActionCode.SCALE, 0.5, amount=-1.0)
    session.advance(4.0)
    assert not only(session, Event.SCALED)


@pytest.mark.parametrize("runs", [1, 2])
def test_a_fork_remembers_the_wishes(runs: int) -> None:
    spec = scenario({"web": scaled(CPU, initial=4, stabilisation_steps=4)}, rate_rps=4.0, arrivals="poisson")
    session = opened(spec, runs=runs)
    session.advance(3.0)
    fork = session.fork([runs - 1])
    for one in (session, fork):
        one.advance(12.0)
    assert fork.events(0).tobytes() == session.events(runs - 1).tobytes()


def test_wishes_that_count_no_longer_are_forgotten() -> None:
    session = opened(scenario({"web": scaled(CPU, stabilisation_steps=3)}, rate_rps=1.0))
    for edge in range(1, 9):
        session.advance(float(edge))
        wishes = session._runs[0]._autoscalers._wishes[0]
        assert [at for at, _ in wishes] == list(range(max(1, edge - 3), edge))
