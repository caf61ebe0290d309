"""Where the CPU time of a study goes, stage by stage.

Nothing in the simulator or the agent counts or takes times. While a study is watched, the functions at which one stage
hands over to another are replaced by ones that look at the clock; afterwards they are what they were.
"""

__all__ = ["OPAQUE", "STAGES", "Hook", "Stages", "hooks_of"]

import contextlib
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.api import Detector, Policy
from agent.registry import make_diagnoser

#: Stage -> what it is, in the order in which an episode passes through them.
STAGES = {
    "open": "sessions: plan, state, inputs",
    "burn-in": "events before time 0",
    "simulate": "events",
    "windows": "metrics at a window's end",
    "observe": "scrapes, SLO, what is legal",
    "detect": "detector",
    "diagnose": "diagnoser",
    "decide": "policy, with forks it tries",
    "agent": "history, guardrails, rewards",
    "act": "actions, into the books",
    "learn": "policy, between rounds",
    "score": "tables from episodes",
    "write": "files",
    "other": "everything else",
}

#: Stages that keep what happens inside: a policy that tries actions on forks simulates, which is its own cost.
OPAQUE = frozenset({"detect", "diagnose", "decide", "learn"})


@dataclass(frozen=True, slots=True)
class Hook:
    """A function at which a stage begins and ends."""

    owner: Any  #: module or class
    name: str
    stage: str


def hooks_of(engine: str, *, detector: Detector | None, diagnoser: str, policies: Sequence[Policy]) -> list[Hook]:
    """Return the places where the stages of a study with these parts meet.

    Parameters
    ----------
    engine
        Name of the engine.
    detector, diagnoser, policies
        The agent's parts; None, "" and () without an agent.
    """
    study, episodes, play, writers, loop = (
        importlib.import_module(name)
        for name in (
            "agent.evaluation.study", "simcore.env.episodes", "agent.play", "simcore.telemetry.writers", "agent.loop",
        )
    )  # fmt: skip
    hooks = [
        Hook(episodes, "open_session", "open"),
        Hook(episodes.Episodes, "_run_to", "observe"),
        Hook(episodes.Episodes, "_observe", "observe"),
        Hook(episodes.Episodes, "act", "act"),
        Hook(study, "score", "score"),
        Hook(writers.ResultsWriter, "write", "write"),
        Hook(writers.ResultsWriter, "close", "write"),
    ]
    if engine == "batch":
        hooks.append(Hook(importlib.import_module("simcore.engines.batch").BatchSession, "_run_to", "simulate"))
    else:
        reference = importlib.import_module("simcore.reference.run")
        hooks += [Hook(reference.Run, "step", "simulate"), Hook(reference, "close_window", "windows")]
    if detector is not None:
        hooks += [
            Hook(loop.Agent, "step", "agent"),
            Hook(play, "_set_rewards", "agent"),
            Hook(type(detector), "update", "detect"),
            Hook(type(make_diagnoser(diagnoser)), "diagnose", "diagnose"),
        ]
        for kind in dict.fromkeys(type(policy) for policy in policies):
            hooks += [Hook(kind, "decide", "decide"), Hook(kind, "merge", "learn")]
    return hooks


class Stages:
    """CPU time by stage, all threads; a stage's time is its own, without that of the stages it calls."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.calls = dict.fromkeys(STAGES, 0)
        self._stack = ["other"]
        self._since = 0.0

    @contextlib.contextmanager
    def watching(self, hooks: Sequence[Hook]) -> Iterator["Stages"]:
        """Take times at these places while the block runs, and leave them as they were.

        Parameters
        ----------
        hooks
            Of the process's main thread; no other thread may pass through them.
        """
        with contextlib.ExitStack() as undo:
            for hook in hooks:
                undo.enter_context(self._placed(hook))
            self._since = time.process_time()
            try:
                yield self
            finally:
                self._charge()

    @contextlib.contextmanager
    def _placed(self, hook: Hook) -> Iterator[None]:
        original = getattr(hook.owner, hook.name)
        own = hook.name in vars(hook.owner)
        setattr(hook.owner, hook.name, self._timed(original, hook.stage))
        try:
            yield
        finally:
            if own:
                setattr(hook.owner, hook.name, original)
            else:  # it was inherited
                delattr(hook.owner, hook.name)

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            if self._stack[-1] in OPAQUE:
                return function(*args, **options)
            self._charge()
            here = "burn-in" if stage == "simulate" and "open" in self._stack else stage
            self._stack.append(here)
            self.calls[here] += 1
            try:
                return function(*args, **options)
            finally:
                self._charge()
                self._stack.pop()

        return timed

    def _charge(self) -> None:
        """Book the time since the last look at the clock on the stage that was running."""
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
