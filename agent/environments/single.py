"""One system to keep healthy, as a Gymnasium environment."""

__all__ = ["RemediationEnv"]

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agent.environments.world import Batch, make_world
from simcore.errors import InputError
from simcore.model.scenario import Scenario


class RemediationEnv(gymnasium.Env[Any, np.int64]):
    """An episode of one run: at every control step, see the last scrape and take one action.

    Observation
        ``observation_names`` and ``observation_units`` say what the numbers are. It is made of the scrape alone, late
        and sometimes lost as the scenario has it.
    Action
        A number, ``action_names`` says what it does; one that is not legal now (``action_masks()``,
        ``info["action_mask"]``) is a noop, ``info["taken"]`` tells.
    Reward
        The change of J over the step (``simcore.env.Episodes``), never above 0.1: minus the share of the episode's
        expected requests that turned bad, minus the action's cost, minus 0.1 when the system falls ill and plus 0.1
        when it is well again. Rewards add up to J.
    End
        The horizon truncates; nothing terminates, since after a recovery the system can fall ill again.
    Seed
        ``reset(seed=s)`` is run 0 of seed s and the environment's split, each reset after it the next run;
        ``options={"run": 7}`` goes there. They are the runs of ``mendsim eval --seed s --split ...``.

    Keywords are those of ``agent.environments.world.make_world``.
    """

    metadata = {"render_modes": []}

    def __init__(self, scenario: str | Scenario | None = None, **keywords: Any) -> None:
        if scenario is None:
            raise InputError('scenario must be given, such as make("mendsim/Scenario-v0", scenario="./shop.yaml")')
        world = make_world(scenario, **{"threads": 1} | keywords)
        self._batch = Batch(world, 1)
        self.observation_space = world.layout.space
        self.action_space = spaces.Discrete(len(self._batch.actions))
        self.observation_names, self.observation_units = world.layout.names, world.layout.units
        self.action_names = self._batch.actions.names

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Open the next episode; ``options["run"]``: which one.

        Raises
        ------
        InputError
            If the seed or the run is below 0.
        """
        fresh = self._np_random is None
        super().reset(seed=seed)
        if seed is not None:
            self._batch.seed(seed)
        elif fresh:
            drawn = self.np_random_seed
            self._batch.seed(0 if drawn is None else drawn)
        if options and "run" in options:
            self._batch.skip_to(options["run"])
        self._batch.begin()
        run = self._batch.episodes.runs[0]
        return self._seen(), {"seed": run.seed, "split": run.split, "run": run.run, "action_mask": self._mask()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, and see the next scrape.

        Raises
        ------
        ResetNeeded
            If there is no episode, or it is over.
        ActionError
            If there is no action of that number.
        """
        rewards, taken = self._batch.step(np.asarray(action).reshape(1))
        over = self._batch.episodes.finished
        return self._seen(), float(rewards[0]), False, over, {"taken": int(taken[0]), "action_mask": self._mask()}

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return (action,) what may be chosen now, as MaskablePPO asks for it."""
        mask: npt.NDArray[np.bool_] = self._batch.legal()[0]
        return mask

    def simulate(
        self, actions: int | Sequence[int], *, future: int | None = 0
    ) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Try an action, or one for each of the next steps, on a fork of the episode, which stays where it is.

        It looks ahead with a perfect model and from the true state of the system, which an agent cannot see.

        Parameters
        ----------
        actions
            One number or several; each takes a step.
        future
            Which of the possible futures: requests, delays and failures of actions are drawn anew, and faults that
            have not begun never come. None: the very future that this episode will have.

        Returns
        -------
        What ``step`` returns at the end; the reward is the sum, ``info["rewards"]`` (step,) has each.
        """
        plan = np.atleast_1d(np.asarray(actions))[None]
        seen, rewards, legal = self._batch.simulate(plan, np.zeros(1, np.int64), future)
        over = self._batch.episodes.step + plan.shape[1] == self._batch.episodes.n_steps
        info = {"rewards": rewards[0], "action_mask": legal[0].astype(np.int8)}
        return self._batch.world.layout.row(seen, 0), float(rewards.sum()), False, over, info

    def close(self) -> None:
        """Let the episode go."""
        self._batch.close()

    def _seen(self) -> Any:
        return self._batch.world.layout.row(self._batch.seen(), 0)

    def _mask(self) -> npt.NDArray[np.int8]:
        """Return the mask as ``Discrete.sample`` asks for it."""
        return self.action_masks().astype(np.int8)
