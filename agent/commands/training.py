"""What the commands that compare frozen agents share: the trained detector, the trainings, and a bar over it all."""

__all__ = ["with_trainings"]

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.api import Detector
    from agent.evaluation.contest import Plan
    from agent.evaluation.study import Study


@contextlib.contextmanager
def with_trainings(
    study: "Study",
    plan: "Plan",
    states: dict[str, list[dict[str, Any]]],
    options: dict[str, Any],
    *,
    rounds: int | None = None,
) -> "Iterator[tuple[Detector, Callable[[float], None]]]":
    """Yield the trained detector and who is to be told of the test runs that are done.

    Parameters
    ----------
    study
        What is tested; its policies that learn and have no state are trained first.
    plan
        How they are trained.
    states
        Policy -> states; those trained are added.
    options
        ``threads`` and ``quiet``.
    rounds
        How often all test runs are played; by default once for every state, or policy without one.
    """
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.contest import learns, train
    from agent.evaluation.training import trained_detector

    threads, quiet = options["threads"], options["quiet"]
    pupils = [name for name in study.policies if name not in states and learns(name)]
    lessons = len(pupils) * plan.trainings * plan.train_episodes
    players = sum(len(states.get(name, [None])) for name in study.policies if name not in pupils)
    players += len(pupils) * plan.trainings
    with Compiling(quiet=quiet), Progress(lessons + (rounds or players) * study.episodes, quiet=quiet) as progress:
        detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
        for number, name in enumerate(pupils):
            before = number * plan.trainings * plan.train_episodes
            states[name] = train(
                study, name, plan, detector, threads=threads,
                on_progress=lambda runs, before=before: progress.show(before + runs),  # type: ignore[misc]
            )  # fmt: skip
        yield detector, lambda runs: progress.show(lessons + runs)
