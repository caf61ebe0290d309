"""The batch as Stable-Baselines3 and MaskablePPO want it; needs the extra ``sb3``."""

__all__ = ["RemediationVecEnv"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from agent.environments.vector import RemediationVectorEnv
from simcore.errors import InputError
from simcore.model.scenario import Scenario


class RemediationVecEnv(VecEnv):  # type: ignore[misc]
    """``num_envs`` environments in lockstep; ``env_method("action_masks")`` is what MaskablePPO calls.

    ``seed(s)`` and ``reset()`` open runs 0 to n - 1 of seed s; the batches after that go on from there.

    Parameters
    ----------
    num_envs, scenario, keywords
        As ``RemediationVectorEnv`` takes them.
    """

    def __init__(self, num_envs: int, scenario: str | Scenario, **keywords: Any) -> None:
        self.envs = RemediationVectorEnv(num_envs, scenario, autoreset_mode=AutoresetMode.SAME_STEP, **keywords)
        self.render_mode = None
        super().__init__(num_envs, self.envs.single_observation_space, self.envs.single_action_space)
        self._seed: int | None = None
        self._actions: npt.NDArray[np.int64] = np.zeros(num_envs, np.int64)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Let the next ``reset`` begin with run 0 of a seed."""
        self._seed = seed
        return [seed] * self.num_envs

    def reset(self) -> Any:
        """Open the next episodes."""
        options = self._options[0] or None
        seen, info = self.envs.reset(seed=self._seed, options=options)
        self._seed, self.reset_infos = None, self._told(info)
        self._reset_options()
        return seen

    def step_async(self, actions: npt.NDArray[np.int64]) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Act, and see the next scrapes; ``terminal_observation`` is what was seen last of an episode."""
        seen, rewards, _, truncated, info = self.envs.step(self._actions)
        told = self._told(info)
        if "final_obs" in info:
            for i in range(self.num_envs):
                told[i]["terminal_observation"] = info["final_obs"][i]
                told[i]["TimeLimit.truncated"] = True
        return seen, rewards.astype(np.float32), truncated, told

    def _told(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        keys = [key for key in ("seed", "split", "run", "taken") if key in info]
        return [{key: info[key][i] for key in keys} for i in range(self.num_envs)]

    def close(self) -> None:
        """Let the episodes go."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for all that are asked for."""
        return [getattr(self.envs, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: a batch has no attributes of single environments.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(f"{attr_name} cannot be set: the environments of a batch are one")

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        """Return what a method that gives a row for each environment gives to those that are asked for.

        Raises
        ------
        InputError
            If it is not ``action_masks``.
        """
        if method_name != "action_masks":
            raise InputError(f"env_method knows action_masks, got {method_name!r}")
        masks = self.envs.action_masks()
        return [masks[i] for i in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Return that none is."""
        return [False] * len(self._indices(indices))

    def _indices(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))
