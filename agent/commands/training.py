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
    unseen: dict[str, list[dict[str, Any]]] | None = None,
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
    unseen
        Policy -> states by the type of fault that was left out, to be filled for those that are trained; None: no.
    """
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.contest import train
    from agent.evaluation.taught import learns
    from agent.evaluation.training import trained_detector
    from agent.evaluation.unseen import train_unseen, unseen_types

    threads, quiet = options["threads"], options["quiet"]
    pupils = [name for name in study.policies if name not in states and learns(name)]
    course = plan.trainings * plan.train_episodes
    courses = 1 + (0 if unseen is None else len(unseen_types(study.scenario)))
    lessons = len(pupils) * courses * course
    players = sum(len(states.get(name, [None])) for name in study.policies if name not in pupils)
    players += len(pupils) * plan.trainings * (1 if unseen is None else 2)
    with Compiling(quiet=quiet), Progress(lessons + (rounds or players) * study.episodes, quiet=quiet) as progress:
        detector = trained_detector(study.detector, study.scenario, seed=study.detector_seed, threads=threads)
        for number, name in enumerate(pupils):
            before = number * courses * course
            states[name] = train(
                study, name, plan, detector, threads=threads,
                on_progress=lambda runs, before=before: progress.show(before + runs),  # type: ignore[misc]
            )  # fmt: skip
            if unseen is not None:
                unseen[name] = train_unseen(
                    study, name, plan, detector, threads=threads,
                    on_progress=lambda runs, before=before: progress.show(before + course + runs),  # type: ignore[misc]
                )  # fmt: skip
        yield detector, lambda runs: progress.show(lessons + runs)
