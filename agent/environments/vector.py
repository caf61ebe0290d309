"""Many systems at once: a batch in lockstep in one call of the engine, as a Gymnasium vector environment."""

__all__ = ["RemediationVectorEnv"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from agent.environments.world import Batch, make_world
from simcore.errors import InputError
from simcore.model.scenario import Scenario

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Stepped = tuple[Any, Floats, Bools, Bools, dict[str, Any]]

_MODES = {mode.value: mode for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)}


class RemediationVectorEnv(VectorEnv[Any, Ints, Any]):
    """``num_envs`` times ``RemediationEnv``, simulated together; all episodes are as long, so all end at once.

    ``reset(seed=s)`` opens runs 0 to n - 1 of seed s, one for each environment, and the next episodes are runs n to
    2n - 1: together the runs of ``mendsim eval --seed s --split ...``, whatever n is. With a list of seeds each
    environment plays the runs 0, 1, 2 ... of its own. ``autoreset_mode`` is ``NextStep`` (the step after the last one
    resets, its action is ignored and its reward 0) or ``SameStep`` (the last step resets and gives what was seen last
    as ``info["final_obs"]``). Other keywords are those of ``agent.environments.world.make_world``.
    """

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Scenario | None = None,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **keywords: Any,
    ) -> None:
        mistakes = []
        if not isinstance(num_envs, int) or num_envs < 1:
            mistakes.append(f"num_envs must be a whole number >= 1, got {num_envs!r}")
        mode = getattr(autoreset_mode, "value", autoreset_mode)
        if mode not in _MODES:
            mistakes.append(f"autoreset_mode must be one of {', '.join(_MODES)}, got {mode!r}")
        if scenario is None:
            mistakes.append('scenario must be given, such as make_vec("mendsim/Scenario-v0", scenario="./shop.yaml")')
        if mistakes:
            raise InputError("\n".join(mistakes))
        assert scenario is not None
        world = make_world(scenario, **keywords)
        self.num_envs, self._mode, self._batch = num_envs, _MODES[mode], Batch(world, num_envs)
        self.metadata = {"autoreset_mode": self._mode}
        self.single_observation_space = world.layout.space
        self.single_action_space = spaces.Discrete(len(self._batch.actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_names, self.observation_units = world.layout.names, world.layout.units
        self.action_names = self._batch.actions.names

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Open the next episodes; ``options["run"]``: the number of the first one.

        Raises
        ------
        InputError
            If there is not a seed >= 0 for each, or the run is below 0.
        """
        fresh = self._np_random is None
        if seed is not None:
            self._batch.seed(seed)
            super().reset(seed=seed if isinstance(seed, (int, np.integer)) else int(seed[0]))
        elif fresh:
            drawn = self.np_random_seed
            self._batch.seed(0 if drawn is None else drawn)
        if options and "run" in options:
            self._batch.skip_to(options["run"])
        return self._begin()

    def step(self, actions: Any) -> Stepped:
        """Act in all environments, and see their next scrapes.

        Raises
        ------
        ResetNeeded
            If there are no episodes yet.
        ActionError
            If there is not an action for each, or none of that number.
        """
        n, never = self.num_envs, np.zeros(self.num_envs, np.bool_)
        if self._batch.episodes.finished:
            seen, info = self._begin()
            return seen, np.zeros(n), never, never.copy(), info
        rewards, taken = self._batch.step(actions)
        over = np.full(n, self._batch.episodes.finished)
        seen, info = self._batch.seen(), self._info({"taken": taken, "action_mask": self._masks()})
        if over.any() and self._mode is AutoresetMode.SAME_STEP:
            final, last = self._rows(seen), info
            seen, info = self._begin()
            info |= self._info({"final_obs": final, "final_info": last})
        return seen, rewards, never, over, info

    def action_masks(self) -> Bools:
        """Return (environment, action) what may be chosen now."""
        return self._batch.legal()

    def simulate(
        self, actions: Any, *, rows: Sequence[int] | Ints | None = None, future: int | None = 0
    ) -> tuple[Any, Floats, Bools, Bools, dict[str, Any]]:
        """Try actions on forks of the episodes, which stay where they are; see ``RemediationEnv.simulate``.

        Parameters
        ----------
        actions
            (row,) or (row, step) action numbers.
        rows
            (row,) the environments they are tried in, repeats allowed: all actions of one in one call. By default
            all environments in turn.
        future
            Number of a future that is drawn anew, None: the own ones.

        Returns
        -------
        What ``step`` returns at the end, with a first axis of rows; rewards are sums, ``info["rewards"]`` (row, step)
        has each.
        """
        index = np.arange(self.num_envs) if rows is None else np.asarray(rows, np.int64)
        plan = np.asarray(actions)
        plan = plan[:, None] if plan.ndim == 1 else plan
        seen, rewards, legal = self._batch.simulate(plan, index, future)
        episodes = self._batch.episodes
        never, over = np.zeros(index.size, np.bool_), episodes.step + plan.shape[1] == episodes.n_steps
        info = {"rewards": rewards, "action_mask": legal.astype(np.int8)}
        return seen, rewards.sum(axis=1), never, np.full(index.size, over), info

    def close_extras(self, **kwargs: Any) -> None:
        """Let the episodes go."""
        self._batch.close()

    def _begin(self) -> tuple[Any, dict[str, Any]]:
        self._batch.begin()
        runs = self._batch.episodes.runs
        labels = {
            "seed": np.array([run.seed for run in runs], object),
            "split": np.array([run.split for run in runs], object),
            "run": np.array([run.run for run in runs]),
            "action_mask": self._masks(),
        }
        return self._batch.seen(), self._info(labels)

    def _masks(self) -> npt.NDArray[np.int8]:
        return self._batch.legal().astype(np.int8)

    def _rows(self, seen: Any) -> npt.NDArray[np.object_]:
        rows = np.empty(self.num_envs, object)
        for i in range(self.num_envs):
            rows[i] = self._batch.world.layout.row(seen, i)
        return rows

    def _info(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with Gymnasium's masks of the environments that have them: all."""
        return {k: v for key, value in values.items() for k, v in ((key, value), (f"_{key}", self._every()))}

    def _every(self) -> Bools:
        return np.ones(self.num_envs, np.bool_)
