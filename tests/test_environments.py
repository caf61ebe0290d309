"""The Gymnasium environments: public checkers, the runs of eval, masks, both autoreset modes, nothing hidden."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agent.environments.registration import name_of, register
from agent.environments.single import RemediationEnv
from agent.environments.vector import RemediationVectorEnv
from agent.environments.world import LAYOUTS
from simcore.env import Episodes
from simcore.errors import ActionError, InputError
from simcore.model.faults import parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario, load_scenario, shipped
from simcore.model.scenario import Scenario
from tests.pages import ROOT

STEPS = 12
THREE_TIER = "mendsim/ThreeTier-v0"


def scenario(**observation: Any) -> Scenario:
    """Return three tiers at a low rate, with scrapes that come late and get lost."""
    whole = load_scenario("three_tier").model_dump()
    whole["timing"] |= {"steps": STEPS, "burn_in_steps": 2, "follow_up_steps": 3}
    whole["workload"] |= {"rate_rps": 20.0}
    whole["observation"] |= {"lag_steps": 2, "drop_rate": 0.2} | observation
    whole["faults"] |= {"onset_s": {"min": 10.0, "max": 30.0}}
    return build_scenario(whole)


SMALL = scenario()


def single(**keywords: Any) -> RemediationEnv:
    made = gymnasium.make("mendsim/Scenario-v0", **{"scenario": SMALL} | keywords).unwrapped
    assert isinstance(made, RemediationEnv)
    return made


def vector(n: int, **keywords: Any) -> RemediationVectorEnv:
    made = gymnasium.make_vec("mendsim/Scenario-v0", num_envs=n, **{"scenario": SMALL} | keywords)
    assert isinstance(made, RemediationVectorEnv)
    return made


def chosen(mask: np.ndarray, seed: int) -> int:
    """Return a legal action, drawn."""
    return int(np.random.default_rng(seed).choice(np.flatnonzero(mask)))


def test_names_are_there_at_once_and_the_simulator_is_loaded_when_one_is_made() -> None:
    code = (
        "import sys, gymnasium;"
        "import agent.environments;"
        "assert gymnasium.spec('mendsim/ThreeTier-v0');"
        "assert not {'numba', 'pydantic', 'polars'} & set(sys.modules);"
        "gymnasium.make('agent.environments:mendsim/ThreeTier-v0', steps=60)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_shipped_scenario_has_an_environment_and_registering_twice_does_no_harm() -> None:
    register()
    assert {f"mendsim/{name_of(scenario)}" for scenario in shipped()} <= set(gymnasium.registry)
    assert gymnasium.spec(THREE_TIER).kwargs == {"scenario": "three_tier"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_public_checker_has_nothing_to_say(layout: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(single(layout=layout))


def test_three_tier_passes_too() -> None:
    check_env(gymnasium.make(THREE_TIER, steps=STEPS).unwrapped)


@pytest.mark.parametrize("engine", ["batch", "simpy"])
def test_rewards_add_up_to_j_of_the_same_run_and_the_horizon_truncates(engine: str) -> None:
    env = single(engine=engine, split="test", layout="scaled")
    run = make_run(SMALL, seed=5, split="test", run=2)
    episodes = Episodes(SMALL, [run], threads=1)
    seen, info = env.reset(seed=5, options={"run": 2})
    assert (info["seed"], info["split"], info["run"]) == (5, "test", 2)
    total, truncated = 0.0, False
    while not truncated:
        action = chosen(env.action_masks(), episodes.step)
        np.testing.assert_array_equal(env.action_masks(), episodes.observation.legal[0])
        seen, reward, terminated, truncated, info = env.step(action)
        episodes.act(np.array([action]))
        episodes.advance()
        np.testing.assert_array_equal(seen, LAYOUTS["scaled"](SMALL).encode(episodes.observation)[0])
        assert info["taken"] == action
        assert not terminated
        total += reward
    assert episodes.finished
    assert total == pytest.approx(float(episodes.j_between(np.zeros(1, np.int64), np.full(1, STEPS))[0]), abs=1e-12)
    with pytest.raises(ResetNeeded, match="the episode is over after 12 steps"):
        env.step(0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_vector_environment_is_single_environments_in_lockstep(layout: str) -> None:
    many, ones = vector(3, layout=layout), [single(layout=layout) for _ in range(3)]
    seen, info = many.reset(seed=9)
    alone = [env.reset(seed=9, options={"run": i}) for i, env in enumerate(ones)]
    for step in range(STEPS):
        assert seen in many.observation_space
        for i, (own, label) in enumerate(alone):
            assert data_equivalence(many._batch.world.layout.row(seen, i), own, exact=True)
            np.testing.assert_array_equal(info["action_mask"][i], label["action_mask"])
        actions = [chosen(mask, step + 100 * i) for i, mask in enumerate(many.action_masks())]
        seen, rewards, _, truncated, info = many.step(np.array(actions))
        stepped = [env.step(action) for env, action in zip(ones, actions, strict=True)]
        alone = [(own[0], own[4]) for own in stepped]
        np.testing.assert_array_equal(rewards, [own[1] for own in stepped])
        assert truncated.tolist() == [own[3] for own in stepped]
    assert truncated.all()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_is_that_of_gymnasiums_own_vectors(mode: AutoresetMode) -> None:
    """With a seed each, the batch and Gymnasium's loop over single environments play the same episodes."""
    ours = vector(2, autoreset_mode=mode.value)
    theirs = SyncVectorEnv([lambda: single(), lambda: single()], autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is mode
    assert data_equivalence(ours.reset(seed=[3, 4])[0], theirs.reset(seed=[3, 4])[0], exact=True)
    for _ in range(STEPS + 3):
        own, other = ours.step(np.zeros(2, np.int64)), theirs.step(np.zeros(2, np.int64))
        for mine, their in zip(own[:4], other[:4], strict=True):
            assert data_equivalence(mine, their) or np.array_equal(mine, their)
        assert ("final_obs" in own[4]) == ("final_obs" in other[4])
        if "final_obs" in own[4]:
            for mine, their in zip(own[4]["final_obs"], other[4]["final_obs"], strict=True):
                assert data_equivalence(mine, their, exact=True)
            np.testing.assert_array_equal(own[4]["final_info"]["taken"], other[4]["final_info"]["taken"])


@pytest.mark.parametrize("n", [1, 2, 4])
def test_episodes_follow_one_another_as_eval_numbers_them(n: int) -> None:
    env = vector(n, autoreset_mode="SameStep", steps=2)
    runs = list(env.reset(seed=7)[1]["run"])
    while len(runs) < 4:
        info = env.step(np.zeros(n, np.int64))[4]
        runs += list(info.get("run", ()))
    assert runs == [0, 1, 2, 3]


def test_nothing_of_a_fault_is_seen_before_its_first_scrape() -> None:
    of = scenario(drop_rate=0.0)
    fault = parse_fault("error_burst@db", of, onset_s=4 * of.timing.step_s, severity=1.0)
    for layout in LAYOUTS:
        ill, well = (single(scenario=of, layout=layout, faults=faults) for faults in ([fault], []))
        same = [data_equivalence(ill.reset(seed=1), well.reset(seed=1), exact=True)]
        paid = []
        for _ in range(STEPS):
            one, other = ill.step(0), well.step(0)
            same.append(data_equivalence((one[0], one[4]), (other[0], other[4]), exact=True))
            paid.append(one[1] == other[1])
        # the fault begins with window 4, which is closed at edge 5 and arrives two edges later
        assert same == [edge < 7 for edge in range(STEPS + 1)]
        assert paid[:4] == [True] * 4
        assert not all(paid[4:])


def test_traces_and_logs_are_seen_where_the_scenario_has_them() -> None:
    of = scenario(traces=0.5, logs=True)
    env, plain = single(scenario=of, layout="natural"), single(scenario=of, layout="scaled")
    seen, vectored = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    assert not seen["signals_known"].any()
    for _ in range(6):
        seen, vectored = env.step(0)[0], plain.step(0)[0]
    assert seen in env.observation_space
    assert vectored in plain.observation_space
    work = env.observation_names["signals"].index("db.work_s")
    assert seen["signals"].ravel()[work] > 0.0
    assert env.observation_units["signals"][work] == "s"
    assert vectored[plain.observation_names.index("db.work_s")] > 0.0


def test_every_number_has_a_name_and_a_unit() -> None:
    env = single()
    for key, space in env.observation_space.spaces.items():  # type: ignore[attr-defined]
        assert len(env.observation_names[key]) == len(env.observation_units[key]) == int(np.prod(space.shape))
        assert len(set(env.observation_names[key])) == len(env.observation_names[key])
    flat = single(layout="scaled")
    assert len(flat.observation_names) == len(flat.observation_units) == flat.observation_space.shape[0]  # type: ignore[index]
    assert len(set(flat.observation_names)) == len(flat.observation_names)
    assert env.action_names[0] == "noop"
    assert len(env.action_names) == env.action_space.n  # type: ignore[attr-defined]


def test_an_action_that_is_not_legal_is_a_noop() -> None:
    env, other = single(), single()
    env.reset(seed=2)
    other.reset(seed=2)
    action = env.action_names.index("restart(db)")
    assert env.step(action)[4]["taken"] == other.step(action)[4]["taken"] == action
    assert not env.action_masks()[action]
    again, noop = env.step(action), other.step(0)
    assert again[4]["taken"] == 0
    assert data_equivalence(again[:4], noop[:4], exact=True)


def test_simulate_leaves_the_episode_alone_and_its_own_future_comes_true() -> None:
    env = single()
    env.reset(seed=3)
    env.step(0)
    plan = [env.action_names.index("restart(db)"), 0, 0]
    ahead = env.simulate(plan, future=None)
    others = [env.simulate(plan, future=future) for future in (0, 1)]
    again = env.simulate(plan, future=1)
    stepped = [env.step(action) for action in plan]
    assert data_equivalence(ahead[0], stepped[-1][0], exact=True)
    np.testing.assert_array_equal(ahead[4]["rewards"], [step[1] for step in stepped])
    assert ahead[1] == pytest.approx(sum(step[1] for step in stepped))
    assert data_equivalence(others[1], again, exact=True)
    assert len({part[0]["metrics"].tobytes() for part in (ahead, *others)}) == 3
    assert env.simulate([0] * (STEPS - 4))[3]


def test_a_vector_tries_all_actions_of_an_environment_in_one_call() -> None:
    env = vector(2)
    env.reset(seed=3)
    legal = np.flatnonzero(env.action_masks()[1])[:4]
    seen, rewards, _, over, info = env.simulate(legal, rows=np.ones(4, np.int64), future=None)
    assert seen["metrics"].shape[0] == rewards.size == 4
    assert not over.any()
    assert info["rewards"].shape == (4, 1)
    np.testing.assert_array_equal(env.simulate(np.array([0, legal[2]]), future=None)[1][1], rewards[2])


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as told:
        single(split="tets", layout="flat", engine="simpi", mix="any", steps=0, threads=0)
    for what in ("split must be one of", "layout must", "engine must", "mix must", "steps must", "threads must"):
        assert what in str(told.value)
    with pytest.raises(InputError, match=r"num_envs must be.*\nautoreset_mode must be one of NextStep, SameStep"):
        RemediationVectorEnv(0, SMALL, autoreset_mode="never")
    with pytest.raises(InputError, match="scenario must be given"):
        gymnasium.make("mendsim/Scenario-v0")
    with pytest.raises(InputError, match="scenario must be given"):
        gymnasium.make_vec("mendsim/Scenario-v0")


def test_wrong_actions_seeds_and_orders_are_refused() -> None:
    env, many = single(), vector(2)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    with pytest.raises(InputError, match=r"options\['run'\] must be a whole number >= 0, got -1"):
        env.reset(seed=1, options={"run": -1})
    env.reset(seed=1)
    with pytest.raises(ActionError, match="action numbers are 0 to"):
        env.step(999)
    with pytest.raises(InputError, match="rows of 1 to 12 steps, got shape"):
        env.simulate([0] * 13)
    with pytest.raises(InputError, match="future must be None"):
        env.simulate(0, future=-1)
    with pytest.raises(InputError, match="seed must be one number >= 0, or 2 of them"):
        many.reset(seed=[1, 2, 3])
    many.reset(seed=[1, 2])
    with pytest.raises(ActionError, match="actions must be 2 whole numbers"):
        many.step(np.zeros(2))
    many.close()
    with pytest.raises(ResetNeeded, match="call reset"):
        many.step(np.zeros(2, np.int64))


def test_without_a_seed_episodes_differ_from_one_environment_to_the_next() -> None:
    seeds = {single().reset()[1]["seed"] for _ in range(2)} | {int(vector(1).reset()[1]["seed"][0])}
    assert len(seeds) == 3
