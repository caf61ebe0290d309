"""The adapter for Stable-Baselines3: its own checker, masks, and a MaskablePPO that learns a little."""

from __future__ import annotations

import numpy as np
import pytest

from agent.environments.vector import RemediationVectorEnv
from simcore.errors import InputError
from tests.test_environments import SMALL, STEPS, single

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed (extra sb3)", exc_type=ImportError)


def test_the_checker_of_stable_baselines3_passes() -> None:
    from stable_baselines3.common.env_checker import check_env

    check_env(single(layout="scaled"))


def test_the_adapter_plays_the_batch() -> None:
    from agent.environments.sb3 import RemediationVecEnv

    ours = RemediationVecEnv(2, SMALL, layout="scaled")
    other = RemediationVectorEnv(2, SMALL, layout="scaled", autoreset_mode="SameStep")
    ours.seed(4)
    np.testing.assert_array_equal(ours.reset(), other.reset(seed=4)[0])
    assert [info["run"] for info in ours.reset_infos] == [0, 1]
    for _ in range(STEPS):
        actions = np.array([np.flatnonzero(mask)[-1] for mask in ours.env_method("action_masks")])
        seen, rewards, dones, infos = ours.step(actions)
        wanted = other.step(actions)
        np.testing.assert_array_equal(seen, wanted[0])
        np.testing.assert_array_equal(rewards, wanted[1].astype(np.float32))
        np.testing.assert_array_equal(dones, wanted[3])
    assert dones.all()
    np.testing.assert_array_equal(infos[1]["terminal_observation"], wanted[4]["final_obs"][1])
    assert infos[0]["TimeLimit.truncated"]
    assert [info["run"] for info in infos] == [2, 3]
    with pytest.raises(InputError, match="env_method knows action_masks, got 'jump'"):
        ours.env_method("jump")


def test_maskable_ppo_learns_from_it_and_never_takes_what_is_not_legal() -> None:
    from sb3_contrib import MaskablePPO

    from agent.environments.sb3 import RemediationVecEnv

    envs = RemediationVecEnv(2, SMALL, layout="scaled")
    model = MaskablePPO("MlpPolicy", envs, n_steps=STEPS, batch_size=STEPS, n_epochs=1, seed=0, device="cpu")
    before = [weights.detach().clone() for weights in model.policy.parameters()]
    model.learn(2 * 2 * STEPS)
    assert any((new != old).any() for new, old in zip(model.policy.parameters(), before, strict=True))
    assert model.num_timesteps == 2 * 2 * STEPS
    envs.seed(1)
    seen = envs.reset()
    for _ in range(STEPS - 1):
        actions, _ = model.predict(seen, action_masks=envs.envs.action_masks())
        seen, _, _, infos = envs.step(actions)
        assert [info["taken"] for info in infos] == actions.tolist()
