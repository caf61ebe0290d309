"""What the environments share: which episodes are played, and a batch of them in lockstep behind a layout."""

__all__ = ["LAYOUTS", "Batch", "World", "make_world"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded

from agent.environments.scaled import Scaled
from agent.environments.spaces import Layout, Natural
from agent.evaluation.study import with_steps
from simcore.engines.registry import ENGINES
from simcore.env import Episodes
from simcore.env.actions import build_actions
from simcore.errors import ActionError, InputError, suggest
from simcore.model.faults import Fault
from simcore.model.inputs import MIXES, make_run
from simcore.model.loader import load_scenario
from simcore.model.scenario import Scenario
from simcore.streams import SPLITS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LAYOUTS: dict[str, Callable[[Scenario], Layout]] = {"natural": Natural, "scaled": Scaled}


@dataclass(frozen=True, slots=True)
class World:
    """What the episodes of an environment have in common."""

    scenario: Scenario
    split: str
    mix: str
    faults: tuple[Fault, ...] | None
    engine: str
    threads: int | None
    layout: Layout

    def opened(self, seeds: Sequence[int], numbers: Ints) -> Episodes:
        """Return the episodes (seed, split, run), one for each pair of seed and number."""
        runs = [
            make_run(self.scenario, seed=seed, split=self.split, run=number, faults=self.faults, mix=self.mix)
            for seed, number in zip(seeds, numbers.tolist(), strict=True)
        ]
        return Episodes(self.scenario, runs, engine=self.engine, threads=self.threads)


def make_world(
    scenario: str | Scenario,
    *,
    steps: int | None = None,
    split: str = "train",
    mix: str = "default",
    faults: Sequence[Fault] | None = None,
    layout: str = "natural",
    engine: str = "batch",
    threads: int | None = None,
) -> World:
    """Return what the keywords of an environment describe.

    Parameters
    ----------
    scenario
        A shipped one by name, a file (its path holds a dot or a slash), or one that is loaded already.
    steps
        Length of an episode in control steps; by default the scenario's.
    split
        Part of the seed space: learn on ``train``, measure on ``test``.
    mix, faults
        How faults are drawn, or the faults that every episode has.
    layout
        ``natural`` (a dictionary) or ``scaled`` (a vector).
    engine, threads
        How it is simulated; without influence on what comes out.

    Raises
    ------
    InputError
        Naming all keywords that are wrong, or all mistakes in the scenario.
    """
    mistakes = [
        f"{key} must be one of {', '.join(known)}, got {value!r}{suggest(str(value), known)}"
        for key, value, known in (
            ("split", split, SPLITS), ("mix", mix, MIXES), ("layout", layout, tuple(LAYOUTS)),
            ("engine", engine, ENGINES),
        )
        if value not in known
    ]  # fmt: skip
    mistakes += [
        f"{key} must be a whole number >= 1, got {value!r}"
        for key, value in (("steps", steps), ("threads", threads))
        if value is not None and not (isinstance(value, int) and value >= 1)
    ]
    if mistakes:
        raise InputError("\n".join(mistakes))
    made = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    made = made if steps is None else with_steps(made, steps)
    return World(
        made, split, mix, None if faults is None else tuple(faults), engine, threads, LAYOUTS[layout](made)
    )  # fmt: skip


class Batch:
    """Some episodes of a world in lockstep, and which ones come next."""

    def __init__(self, world: World, n: int) -> None:
        self.world, self.n = world, n
        self.actions = build_actions(world.scenario)
        self._episodes: Episodes | None = None
        self._seeds: tuple[int, ...] = ()
        self._next, self._stride = np.zeros(n, np.int64), n

    @property
    def episodes(self) -> Episodes:
        """The present episodes.

        Raises
        ------
        ResetNeeded
            If there are none yet.
        """
        if self._episodes is None:
            raise ResetNeeded("there is no episode yet: call reset() first")
        return self._episodes

    def seed(self, seed: int | Sequence[int]) -> None:
        """Go to the first episodes of a seed, which all share, or of a seed each.

        Raises
        ------
        InputError
            If there is not a seed >= 0 for each.
        """
        shared = isinstance(seed, (int, np.integer))
        seeds = (int(seed),) * self.n if isinstance(seed, (int, np.integer)) else tuple(int(one) for one in seed)
        if len(seeds) != self.n or min(seeds) < 0:
            raise InputError(f"seed must be one number >= 0, or {self.n} of them, got {seed!r}")
        self._seeds = seeds
        self._next, self._stride = (np.arange(self.n), self.n) if shared else (np.zeros(self.n, np.int64), 1)

    def skip_to(self, run: Any) -> None:
        """Let the first environment go on with episode number ``run``, the others with those after it.

        Raises
        ------
        InputError
            If it is not a number >= 0.
        """
        if not isinstance(run, (int, np.integer)) or run < 0:
            raise InputError(f"options['run'] must be a whole number >= 0, got {run!r}")
        self._next = int(run) + (np.arange(self.n) if self._stride == self.n else np.zeros(self.n, np.int64))

    def begin(self) -> None:
        """Open the next episodes."""
        self._episodes = self.world.opened(self._seeds, self._next)
        self._next = self._next + self._stride

    def seen(self) -> Any:
        """Return the present observation, encoded: the last scrape and what is under way, nothing of the truth."""
        return self.world.layout.encode(self.episodes.observation)

    def legal(self) -> Bools:
        """Return (run, action) what may be chosen now."""
        return self.episodes.observation.legal.copy()

    def step(self, wanted: Any) -> tuple[Floats, Ints]:
        """Act and advance one control step.

        Returns
        -------
        (run,) change of J over the step, and (run,) the actions entered: 0 in the place of one that is not legal.
        """
        episodes = self.episodes
        if episodes.finished:
            raise ResetNeeded(f"the episode is over after {episodes.n_steps} steps: call reset()")
        taken = _legal(episodes, wanted)
        return _stepped(episodes, taken), taken

    def simulate(self, actions: Any, rows: Ints, future: int | None) -> tuple[Any, Floats, Bools]:
        """Try actions on forks: what the environments' ``simulate`` are.

        Parameters
        ----------
        actions
            (row, step) action numbers; what is not legal when its turn comes is a noop.
        rows
            (row,) the runs they are tried in, repeats allowed.
        future
            Number of a future that is drawn anew; None: the run's own.

        Returns
        -------
        What is seen at the end (row, ...), the rewards (row, step), and what is legal at the end (row, action).
        """
        plan = np.asarray(actions)
        left = self.episodes.n_steps - self.episodes.step
        if plan.ndim != 2 or plan.shape[0] != rows.size or not 1 <= plan.shape[1] <= left:
            raise InputError(
                f"actions to simulate must be {rows.size} rows of 1 to {left} steps, got shape {plan.shape}"
            )
        if future is not None and future < 0:
            raise InputError(f"future must be None or a whole number >= 0, got {future!r}")
        fork = self.episodes.fork(rows, rekey=None if future is None else np.full(rows.size, future))
        rewards = np.stack([_stepped(fork, _legal(fork, plan[:, k])) for k in range(plan.shape[1])], axis=1)
        return self.world.layout.encode(fork.observation), rewards, fork.observation.legal.copy()

    def close(self) -> None:
        """Let the episodes go."""
        self._episodes = None


def _legal(episodes: Episodes, wanted: Any) -> Ints:
    """Return (run,) the actions wanted, noop where one is not legal now."""
    choice = np.asarray(wanted)
    if choice.shape != (episodes.n_runs,) or not np.issubdtype(choice.dtype, np.integer):
        raise ActionError(
            f"actions must be {episodes.n_runs} whole numbers, got {choice.dtype} of shape {choice.shape}"
        )  # fmt: skip
    choice = choice.astype(np.int64)
    if choice.size and not 0 <= choice.min() <= choice.max() < len(episodes.actions):
        raise ActionError(f"action numbers are 0 to {len(episodes.actions) - 1}, got {choice.tolist()}")
    legal = episodes.observation.legal[np.arange(choice.size), choice]
    return np.where(legal, choice, 0)


def _stepped(episodes: Episodes, choice: Ints) -> Floats:
    """Return (run,) the change of J over one step with these actions."""
    before = np.full(episodes.n_runs, episodes.step)
    episodes.act(choice)
    episodes.advance()
    return episodes.j_between(before, before + 1)
