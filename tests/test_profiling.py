"""Profiles: stages, counts, cost model, variants of a scenario, and the command."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.evaluation.profiling import profile as profiles
from agent.evaluation.profiling.clocks import best_of
from agent.evaluation.profiling.costmodel import fit
from agent.evaluation.profiling.counts import count_events, state_bytes, window_s
from agent.evaluation.profiling.engines import side_by_side
from agent.evaluation.profiling.profile import Profile, measure
from agent.evaluation.profiling.scaling import Point, Scaling
from agent.evaluation.profiling.simulation import (
    Simulation,
    constant_times,
    copied,
    loaded,
    longer_steps,
    without,
)
from agent.evaluation.profiling.stages import STAGES, Hook, Stages, hooks_of
from agent.evaluation.profiling.text import profile_text
from agent.evaluation.profiling.watched import Watched, watch_study
from agent.evaluation.profiling.whatif import Trial, try_changes
from agent.evaluation.study import Study, evaluate, with_steps
from agent.registry import make_detector, make_policy
from simcore.codes import Event
from simcore.engines.registry import open_session
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from tests.conftest import Invoke


@pytest.fixture
def scenario(tiny: str) -> Scenario:
    return with_steps(load_scenario(tiny), 12)


class _Outer:
    def work(self) -> str:
        return self.inner()

    def inner(self) -> str:
        return "done"

    def breaks(self) -> None:
        raise KeyError("as asked")


class _Heir(_Outer):
    pass


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[int] = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(clock)))


@pytest.mark.usefixtures("ticks")
def test_a_stage_is_charged_without_the_stages_that_it_calls() -> None:
    stages = Stages()
    with stages.watching([Hook(_Outer, "work", "observe"), Hook(_Outer, "inner", "simulate")]):
        assert _Outer().work() == "done"
    # the clock ticks once at each of six looks, so there are five intervals: two outside, two around, one inside
    assert {name: spent for name, spent in stages.seconds.items() if spent} == {
        "other": 2.0,
        "observe": 2.0,
        "simulate": 1.0,
    }
    assert stages.calls["simulate"] == stages.calls["observe"] == 1


@pytest.mark.usefixtures("ticks")
def test_what_a_policy_simulates_is_its_own_cost() -> None:
    stages = Stages()
    with stages.watching([Hook(_Outer, "work", "decide"), Hook(_Outer, "inner", "simulate")]):
        _Outer().work()
    assert stages.seconds["simulate"] == 0.0
    assert stages.seconds["decide"] == 1.0


def test_after_watching_everything_is_as_it_was_also_after_an_error() -> None:
    before = dict(vars(_Outer)), dict(vars(_Heir))
    hooks = [Hook(_Heir, "inner", "act"), Hook(_Outer, "breaks", "act")]
    with Stages().watching(hooks):
        assert "inner" in vars(_Heir)
    with pytest.raises(KeyError), Stages().watching(hooks):
        _Heir().breaks()
    assert (dict(vars(_Outer)), dict(vars(_Heir))) == before


@pytest.mark.parametrize("engine", ["batch", "simpy"])
def test_no_hook_stays_in_the_simulator_or_the_agent(engine: str) -> None:
    detector, policy = make_detector("threshold"), make_policy("bandit")
    hooks = hooks_of(engine, detector=detector, diagnoser="causal_rank", policies=[policy])
    assert {hook.stage for hook in hooks} <= set(STAGES)
    before = [vars(hook.owner).get(hook.name) for hook in hooks]
    with Stages().watching(hooks):
        assert all(vars(h.owner).get(h.name) is not b for h, b in zip(hooks, before, strict=True))
    assert all(vars(h.owner).get(h.name) is b for h, b in zip(hooks, before, strict=True))


def test_watching_changes_no_result_and_leaves_no_time_out(scenario: Scenario) -> None:
    study = Study(scenario=scenario, seed=1, episodes=2, faults=())
    plain = evaluate(study).episodes
    found = watch_study(study, engine="batch", threads=1, detector=None, rounds=2)
    assert (found.runs, found.requests) == (2, plain["offered"].sum())
    assert found.attempts >= found.requests
    assert found.written_bytes > 1000
    # but for what lies between two looks at the clock
    assert sum(found.seconds.values()) == pytest.approx(found.cpu_s, rel=0.2)
    assert found.seconds["simulate"] > 0.0 < found.seconds["write"]
    assert found.seconds["detect"] == found.seconds["decide"] == 0.0


def test_events_are_counted_from_the_log(scenario: Scenario) -> None:
    one = Simulation.of(scenario)
    found = count_events(one)
    session = open_session("simpy", scenario, one.inputs, log=True)
    session.advance(scenario.timing.steps * scenario.timing.step_s)
    log = session.events(0)
    assert found.rows == log.size
    assert found.by_kind["cpu_done"] == int((log["event"] == Event.CPU_DONE).sum())
    assert list(found.by_kind.values()) == sorted(found.by_kind.values(), reverse=True)
    assert found.requests == found.by_kind["offered"]
    assert found.entries > 0


def test_a_window_costs_something_and_state_grows_only(scenario: Scenario) -> None:
    one = Simulation.of(scenario)
    assert 0.0 < window_s(one, windows=4, rounds=3) < 1e-3
    found = state_bytes(one)
    assert found.at_end >= found.at_start > 10_000
    assert list(found.by_array.values()) == sorted(found.by_array.values(), reverse=True)


def test_the_cost_model_finds_known_costs_again() -> None:
    rng = np.random.default_rng(1)
    runs = np.array([1.0, 2, 4, 8, 2, 2, 2, 2])
    events = runs * np.array([1e5, 1e5, 1e5, 1e5, 2e4, 4e4, 8e4, 2e5])
    cost = (2e-3 + 1e-4 * runs + 1e-7 * events) * rng.normal(1.0, 0.005, runs.size)
    found = fit({"session": [1.0] * 8, "run": runs.tolist(), "event": events.tolist()}, cost.tolist())
    for term, true in zip(found.terms, (2e-3, 1e-4, 1e-7), strict=True):
        assert term.low < true < term.high
    assert found.terms[2].shown
    assert found.r_squared > 0.99
    assert found.worst < 0.03
    assert found.predict(session=1, run=4, event=4e5) == pytest.approx(0.0424, rel=0.02)


def test_the_cost_model_refuses_what_it_cannot_tell() -> None:
    with pytest.raises(ValueError, match="2 terms need more than 2 points"):
        fit({"session": [1, 1], "event": [1, 2]}, [1.0, 2.0])
    with pytest.raises(ValueError, match="do not tell run, event apart"):
        fit({"run": [1, 2, 4], "event": [10, 20, 40]}, [1.0, 2.0, 4.0])


def test_variants_are_what_they_say() -> None:
    shop = load_scenario("three_tier")
    twice = copied(shop, 2)
    assert len(twice.services) == 2 * len(shop.services)
    assert set(twice.services["api_2"].pools) == {"db_2"}
    assert [entry.operation for entry in twice.workload.entries] == [
        "api.browse", "api.buy", "api_2.browse", "api_2.buy",
    ]  # fmt: skip
    assert {twice.callee_of(site.site).partition(".")[0] for site in twice.sites} == {
        name for name in twice.services if not name.startswith("api")
    }
    assert loaded(shop, 0.5).workload.rate_rps == shop.workload.rate_rps / 2
    steps = longer_steps(shop, 2).timing
    assert (steps.steps * steps.step_s, steps.step_s) == (shop.timing.steps * shop.timing.step_s, 10.0)
    assert without(shop, "gc").services["api"].gc is None is not shop.services["api"].gc
    text = constant_times(shop).model_dump_json(exclude_unset=True)
    assert "constant" in text
    assert not any(name in text for name in ("lognormal", "exponential", "gamma", "sigma"))


def test_both_engines_do_the_same_work_side_by_side(scenario: Scenario) -> None:
    found = side_by_side(scenario, seed=1, rounds=1)
    assert found.equal
    assert found.ratio > 1.0
    assert found.requests > 0
    assert all(sum(row.stages.values()) == pytest.approx(1.0) for row in found.rows)
    assert found.rows[1].stages["windows"] > 0.0


def test_changes_are_tried_that_the_scenario_has_something_of(scenario: Scenario) -> None:
    names = {trial.change for trial in try_changes(scenario, seed=1, rounds=2)}
    assert "control steps of 10 s" in names
    assert "no network latency (scenario's network)" in names
    assert not names & {"no garbage collection", "no circuit breakers", "constant load instead of constant"}


def _watched(**changes: object) -> Watched:
    seconds = dict.fromkeys(STAGES, 0.0) | {"simulate": 0.6, "detect": 0.3, "write": 0.1}
    values = {
        "seconds": seconds, "calls": dict.fromkeys(STAGES, 1), "cpu_s": 1.0, "wall_s": 1.0, "noise": 0.01, "rounds": 3,
        "runs": 4, "steps": 10, "requests": 100, "attempts": 200, "entries": 1000, "written_bytes": 10,
    }  # fmt: skip
    return Watched(**(values | changes))  # type: ignore[arg-type]


def _made(scenario: Scenario) -> Profile:
    made = Profile(Study(scenario=scenario, seed=1, episodes=4, policies=("noop",)), "batch", 1)
    made.stages, made.half = _watched(), _watched(runs=2, cpu_s=0.8)
    made.trials = [Trial("no network", 0.5, 0.01, True), Trial("longer steps", 0.02, 0.02, True)]
    points = [Point("threads", n, 4, 2, 100, 1000, cost_s, 0.01) for n, cost_s in ((1, 1.0), (2, 0.5))]
    made.scaling = Scaling(tuple(points), None, 10)
    return made


def test_advice_follows_from_the_figures(scenario: Scenario) -> None:
    made = _made(scenario)
    found = {advice.what: round(advice.saves, 6) for advice in made.advice()}
    assert found == {
        "--round-size 4 instead of 2": 0.375,
        "--no-agent": 0.3,
        "no network": 0.3,  # half of the 0.6 that are simulation
        "--threads 2 instead of 1": 0.3,
        "no --out": 0.1,
    }
    made.half, made.trials = _watched(runs=2, cpu_s=0.505), []
    made.threads = 2
    made.stages = _watched(noise=0.2)
    assert [advice.what for advice in made.advice()] == ["--no-agent"]


def test_the_text_fits_a_terminal(scenario: Scenario) -> None:
    lines = profile_text(_made(scenario)).splitlines()
    assert not [line for line in lines if len(line) > 80]
    assert any(line.split()[:3] == ["simulate", "600", "ms"] for line in lines)
    assert any("longer steps (+2.0% +- 4.0%)" in line for line in lines)


def test_an_interrupted_profile_keeps_what_is_finished(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiles, "state_bytes", interrupted)
    study = Study(scenario=scenario, seed=1)
    found = measure(study, engine="batch", threads=1, detector=None, parts=("events", "memory"), rounds=1)
    assert found.interrupted
    assert found.events is not None
    assert found.state is None


def test_minima_ignore_a_slow_round() -> None:
    times = iter([9.0, 5.0, 7.0])
    assert best_of({"a": lambda: None}, rounds=3, clock=lambda piece: next(times)) == {"a": 5.0}


def test_the_command_measures_parts_and_samples(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    given = ("--scenario", tiny, "--steps", 12, "--episodes", 2, "--rounds", 1, "--quiet", "--policy", "noop")
    samples = tmp_path / "samples.json"
    agent = ("--detector", "threshold", "--part", "stages", "--part", "memory", "--memory")
    result = invoke("profile", *given, *agent, "--json", "--speedscope", samples)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["stages"]["seconds"]["detect"] > 0.0
    assert found["stages"]["noise"] is None
    assert found["memory"]["peak"]["simulate"] > 0
    assert "engines" not in found
    assert json.loads(samples.read_text())["$schema"].startswith("https://www.speedscope.app")


def test_the_command_tells_all_mistakes_at_once(tiny: str, tmp_path: Path, invoke: Invoke) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    result = invoke(
        "profile", "--scenario", tiny, "--policy", "noop,bandit", "--speedscope", there, "--part", "events", "--cold"
    )
    assert result.code == 2
    for said in ("--policy takes one name here", "exists; use --force", "--cold needs --part start"):
        assert said in result.err
