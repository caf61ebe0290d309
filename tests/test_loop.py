"""The loop: when decisions open and close, what they are paid, and that the parts fit together on a real system."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from agent.api import AgentTrace, Choices, Detection, Observation, Situation
from agent.detectors.threshold import ThresholdDetector
from agent.diagnosers.causal_rank import CausalRank
from agent.loop import Agent
from agent.play import play, reward
from agent.policies.base import FixedPolicy, pick
from agent.policies.noop import NoopPolicy
from agent.policies.playbook import Playbook
from simcore.env.episodes import UNHEALTHY_PENALTY
from simcore.windows import Metric
from tests.agent_world import API, DB, SYSTEM, TOPOLOGY, actions, failing, healthy, observe

TABLE = actions()
NUMBER = {name: i for i, name in enumerate(TABLE.names)}


class Tape:
    """Stands in for ``Episodes``: plays given metrics, whatever is done about them."""

    def __init__(self, metrics: np.ndarray, numbers: list[int] | None = None) -> None:
        self.n_runs, self.n_steps = metrics.shape[:2]
        self.metrics, self.topology, self.actions, self.step = metrics, TOPOLOGY, TABLE, 0
        self.runs = [SimpleNamespace(seed=1, split="tune", run=n) for n in numbers or range(self.n_runs)]
        self.bad = np.where(metrics[:, :, SYSTEM, Metric.ERROR_RATE] > 0.05, 60.0, 0.0)
        self.unhealthy = self.bad > 0
        self.admitted = np.ones(self.n_runs)
        self.acted: list[np.ndarray] = []

    @property
    def finished(self) -> bool:
        return self.step >= self.n_steps

    @property
    def observation(self) -> Observation:
        return observe(self.metrics, self.step, admitted=self.admitted)

    def act(self, choice: np.ndarray, shadow: bool = False) -> None:
        self.acted.append(choice.copy())
        for run in np.flatnonzero(TABLE.code[choice] == 4) if not shadow else ():
            self.admitted = self.admitted.copy()
            self.admitted[run] = TABLE.amount[choice[run]]

    def advance(self) -> None:
        self.step += 1

    def j_between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        total = [self.bad[i, a:b].sum() for i, (a, b) in enumerate(zip(first, last, strict=True))]
        before = np.array([self.unhealthy[i, a - 1] if a else False for i, a in enumerate(first)], float)
        after = np.array([self.unhealthy[i, b - 1] if b else False for i, b in enumerate(last)], float)
        return -np.array(total) / (200.0 * self.n_steps) - UNHEALTHY_PENALTY * (after - before)


class Scripted(FixedPolicy):
    """Takes the named actions one after the other in every run, as far as allowed."""

    name = "scripted"

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[Situation] = []

    def decide(self, situation: Situation) -> Choices:
        self.asked.append(situation)
        wanted = NUMBER[self.names[min(len(self.asked), len(self.names)) - 1]]
        action = np.where(situation.allowed[:, wanted], wanted, 0)
        return pick(action, lambda row: "as told")


@dataclass
class Quiet:
    """A detector that says what it is told, by step."""

    alarms: np.ndarray  # (run, step)
    name = "quiet"

    def start(self, topology, keys) -> None:  # type: ignore[no-untyped-def]
        pass

    def update(self, observation: Observation) -> Detection:
        n = self.alarms.shape[0]
        return Detection(self.alarms[:, observation.step], np.zeros(n), np.zeros((n, 3)), np.ones((n, 3)))


def run(metrics: np.ndarray, policy, alarms: np.ndarray | None = None, **options) -> tuple[AgentTrace, Tape]:  # type: ignore[no-untyped-def]
    tape = Tape(metrics, options.pop("numbers", None))
    detector = Quiet(np.zeros(metrics.shape[:2], np.bool_) if alarms is None else alarms)
    return play(tape, Agent(detector, CausalRank(), policy), **options), tape  # type: ignore[arg-type]


def test_a_healthy_run_is_left_alone() -> None:
    trace, tape = run(healthy(2, 40), Playbook())
    assert trace.decisions == []
    assert not np.array(tape.acted).any()
    assert (trace.suspect == -1).all()
    assert (trace.ranked == -1).all()
    assert np.isnan(trace.confidence).all()


def test_two_broken_scrapes_of_three_open_a_decision_without_any_alarm() -> None:
    metrics = healthy(1, 40)
    metrics[0, [10, 12], SYSTEM, Metric.ERROR_RATE] = 0.2
    trace, _ = run(metrics, NoopPolicy())
    assert [d.opened for d in trace.decisions] == [14]  # window 12 is seen at edge 14
    assert np.flatnonzero(trace.triggered[0]).tolist() == [14]
    metrics[0, 12, SYSTEM, Metric.ERROR_RATE] = 0.0
    assert run(metrics, NoopPolicy())[0].decisions == []


def test_traffic_without_any_good_answer_breaks_the_slo() -> None:
    metrics = healthy(1, 40)
    metrics[0, 10:, SYSTEM, [Metric.P95_S, Metric.ERROR_RATE]] = np.nan
    metrics[0, 10:, SYSTEM, Metric.OK] = 0
    assert run(metrics, NoopPolicy())[0].decisions[0].opened == 13


def test_a_lasting_alarm_is_decided_again_after_delay_and_settle_time() -> None:
    alarms = np.zeros((1, 60), np.bool_)
    alarms[0, 5:] = True
    trace, _ = run(healthy(1, 60), Scripted("restart(db)", "noop"), alarms)
    opened = [(d.opened, d.closed, TABLE.names[d.action]) for d in trace.decisions]
    # a restart takes 5 s and settles for 30 s; waiting is judged after 30 s
    assert opened[:3] == [(5, 12, "restart(db)"), (12, 18, "noop"), (18, 24, "noop")]
    assert opened[-1] == (54, 60, "noop")  # due at the very end, and judged


def test_waiting_ends_when_the_slo_breaks_meanwhile_and_no_sooner() -> None:
    alarms = np.zeros((1, 60), np.bool_)
    alarms[0, 5:] = True
    metrics = healthy(1, 60)
    metrics[0, 6:30, SYSTEM, Metric.ERROR_RATE] = 0.2
    # windows 6 and 7 are broken, which is seen at edge 9; from then on waiting takes its time, and actions always do
    waits, _ = run(metrics, NoopPolicy(), alarms)
    assert [(d.opened, d.closed) for d in waits.decisions][:3] == [(5, 9), (9, 15), (15, 21)]
    acts, _ = run(metrics, Scripted("restart(db)"), alarms)
    assert (acts.decisions[0].opened, acts.decisions[0].closed) == (5, 12)


def test_an_alarm_that_ends_leaves_the_decision_to_be_judged_and_opens_no_other() -> None:
    alarms = np.zeros((1, 60), np.bool_)
    alarms[0, 5:7] = True
    trace, _ = run(healthy(1, 60), Scripted("restart(db)"), alarms)
    assert [(d.opened, d.closed) for d in trace.decisions] == [(5, 12)]


def test_a_decision_cut_off_by_the_end_has_no_reward() -> None:
    alarms = np.ones((1, 10), np.bool_)
    trace, _ = run(healthy(1, 10), Scripted("restart(db)"), alarms)
    assert [(d.opened, d.closed) for d in trace.decisions] == [(0, 7), (7, -1)]
    assert trace.decisions[0].reward == 1.0
    assert np.isnan(trace.decisions[1].reward)


def test_what_did_not_help_is_struck_from_the_list_and_comes_back_after_the_incident() -> None:
    metrics = healthy(1, 80)
    failing(metrics, 0, DB, 5)
    metrics[0, 30:50] = healthy(1, 80)[0, 30:50]
    policy = Scripted("restart(db)")
    run(metrics, policy)
    allowed = [bool(s.allowed[0, NUMBER["restart(db)"]]) for s in policy.asked]
    steps = [s.observation.step for s in policy.asked]
    assert allowed[0]
    assert not any(a for a, t in zip(allowed, steps, strict=True) if 8 < t < 32)
    assert allowed[steps.index(next(t for t in steps if t >= 50))]


def test_a_limit_on_the_traffic_is_lifted_in_steps_once_the_slo_holds_again() -> None:
    metrics = healthy(1, 60)
    metrics[0, 8:16, SYSTEM, Metric.ERROR_RATE] = 0.3
    trace, _ = run(metrics, Scripted("limit_traffic(0.7)", "noop"))
    names = [(t, TABLE.names[a]) for t, a in enumerate(trace.choice[0]) if a]
    assert [name for _, name in names] == ["limit_traffic(0.7)", "limit_traffic(0.85)", "limit_traffic(1)"]
    assert names[1][0] == 21  # four good scrapes after window 15, which is seen at edge 17
    assert names[2][0] == 25
    assert len([d for d in trace.decisions if d.action]) == 1  # lifting is no decision


def test_the_reward_is_one_for_health_and_zero_for_a_stalled_system() -> None:
    metrics = healthy(3, 20)
    tape = Tape(metrics)
    tape.bad[1:] = 200.0
    tape.unhealthy[1] = True
    tape.unhealthy[2, :9] = True
    first, last = np.full(3, 2), np.full(3, 12)
    np.testing.assert_allclose(reward(tape, first, last), [1.0, 0.0, 0.5])  # type: ignore[arg-type]
    assert np.isnan(reward(tape, last, last)).all()  # type: ignore[arg-type]


def test_the_reward_takes_bad_requests_by_share_and_not_the_penalty_twice() -> None:
    tape = Tape(healthy(1, 20))
    tape.bad[0] = 50.0  # a quarter of all
    tape.unhealthy[0, 11] = True
    assert reward(tape, np.array([2]), np.array([12]))[0] == pytest.approx(0.5 * 0.75)  # type: ignore[arg-type]
    assert reward(tape, np.array([12]), np.array([18]))[0] == pytest.approx(0.5 + 0.5 * 0.75)  # type: ignore[arg-type]


def test_decisions_come_in_order_of_runs_under_their_numbers() -> None:
    metrics = healthy(3, 60)
    for i, onset in enumerate((30, 10, 20)):
        failing(metrics, i, DB, onset)
    trace, _ = run(metrics, NoopPolicy(), numbers=[7, 8, 9])
    order = [(d.run, d.opened) for d in trace.decisions]
    assert order == sorted(order)
    assert {d.run for d in trace.decisions} == {7, 8, 9}
    assert all(d.rationale.startswith("never acts; db:") for d in trace.decisions)
    assert all(0 in d.legal for d in trace.decisions)


def test_the_trace_holds_the_diagnosis_in_force() -> None:
    metrics = healthy(1, 60)
    failing(metrics, 0, API, 20)
    metrics[0, 40:] = healthy(1, 60)[0, 40:]
    trace, _ = run(metrics, NoopPolicy())
    seen = np.flatnonzero(trace.ranked[0, :, 0] >= 0)
    assert seen[0] == 23
    assert (trace.suspect[0, seen] == API).all()
    assert (trace.suspect[0, 45:] == -1).all()


def test_in_shadow_the_agent_thinks_and_nothing_is_applied() -> None:
    metrics = healthy(1, 40)
    metrics[0, 8:16, SYSTEM, Metric.ERROR_RATE] = 0.3
    trace, tape = run(metrics, Scripted("limit_traffic(0.7)"), shadow=True)
    assert trace.choice.any()
    assert tape.admitted[0] == 1.0


def test_on_step_is_told_after_every_step() -> None:
    seen: list[int] = []
    run(healthy(1, 5), NoopPolicy(), on_step=lambda episodes: seen.append(episodes.step))
    assert seen == [1, 2, 3, 4, 5]


def test_a_run_does_not_depend_on_its_batch() -> None:
    metrics = healthy(5, 60, seed=3)
    for i, onset in enumerate((30, 10, 20, 15, 40)):
        failing(metrics, i, i % 3, onset)

    def played(rows: list[int]) -> AgentTrace:
        detector = ThresholdDetector()
        detector.fit(healthy(1, 10), TOPOLOGY, seed=0)
        tape = Tape(metrics[rows], rows)
        return play(tape, Agent(detector, CausalRank(), Playbook()))  # type: ignore[arg-type]

    together, alone = played([0, 1, 2, 3, 4]), played([3])
    for name in ("alarm", "overall", "score", "choice", "suspect", "confidence", "ranked"):
        np.testing.assert_array_equal(getattr(together, name)[3], getattr(alone, name)[0])
    assert [str(d) for d in together.decisions if d.run == 3] == [str(d) for d in alone.decisions]


def test_the_whole_loop_plays_a_real_system() -> None:
    from simcore.env import Episodes
    from simcore.model.inputs import make_run
    from simcore.model.loader import load_scenario

    scenario = load_scenario("three_tier")
    timing = scenario.timing.model_copy(update={"steps": 30, "follow_up_steps": 10})
    onset = scenario.faults.model_copy(
        update={"onset_s": type(scenario.faults.onset_s)(min=40, max=50), "none_share": 0.0}
    )
    scenario = scenario.model_copy(update={"timing": timing, "faults": onset})
    episodes = Episodes(scenario, [make_run(scenario, seed=1, split="tune", run=i) for i in range(4)])
    detector = ThresholdDetector()
    detector.fit(episodes.metrics, episodes.topology, seed=0)
    trace = play(episodes, Agent(detector, CausalRank(), Playbook()))
    assert episodes.finished
    assert trace.alarm.shape == (4, 30)
    assert len(trace.decisions) > 0
    assert all(np.isnan(d.reward) or 0 <= d.reward <= 1 for d in trace.decisions)
    assert (trace.choice > 0).sum() == len(episodes.records)
