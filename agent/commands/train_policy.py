"""``mendsim train policy``: teaches a policy from what every action leads to on forks."""

__all__ = ["policy"]

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, common_options, diagnoser_in, option
from agent.commands.files import check_file

if TYPE_CHECKING:
    from agent.evaluation.lessons import Lessons
    from agent.evaluation.teaching import Report
    from simcore.model.scenario import Scenario


@click.command("policy", cls=Command, short_help="A policy, from what every action leads to on forks.")
@common_options()
@option("--episodes", type=click.IntRange(1), metavar="N", default=100, help="Runs to learn from, of each scenario.")
@option("--also", multiple=True, metavar="NAME|FILE", help="A further scenario to learn from; repeatable.")
@option("--without", multiple=True, metavar="TYPE", help="A fault type that no lesson is on; repeatable.")
@option("--horizon", type=click.IntRange(1), metavar="STEPS", default=60, help="Steps over which an action is judged.")
@option("--futures", type=click.IntRange(1), metavar="K", default=1, help="Re-keyed futures an action is tried in.")
@option("--round-size", type=click.IntRange(1), metavar="N", default=24, help="Runs side by side.")
@option("--detector", metavar="NAME", help="When something is wrong; else the default detector.")
@option("--detector-seed", type=click.IntRange(0), metavar="N", default=0, help="Of the runs it learns from.")
@option("--diagnoser", metavar="NAME", help="Where it is; else the default diagnoser.")
@diagnoser_in()
@option("--out", required=True, metavar="FILE", help="Where the taught policy goes (JSON), for --policy-in.")
@option("--force", is_flag=True, show_default=False, help="Replace the file of --out.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def policy(**options: Any) -> int:
    """Teach the policy "learned": try every candidate of many decisions on forks, and fit trees to what it gained.

    Decisions are those of runs in which the playbook acts, and at times something else. Ctrl-C ends the lessons; the
    policy is taught from what there is.
    """
    from agent.commands.setup import Mistakes, learned_diagnoser

    mistakes = Mistakes()
    scenarios = _scenarios(options, mistakes)
    detector, diagnoser = _parts(options, mistakes)
    state = None
    with mistakes.collect():
        state = learned_diagnoser(options["diagnoser_in"], [diagnoser]).get(diagnoser)
    check_file("--out", options["out"], options["force"], mistakes)
    mistakes.report()

    from agent.evaluation.teaching import teach
    from simcore.telemetry.files import write_json

    lessons, interrupted = _lessons(scenarios, detector, (diagnoser, state), options)
    taught, report = teach(lessons, seed=options["seed"], scenarios=[scenario.digest for scenario in scenarios])
    write_json(Path(options["out"]), {"policies": {taught.name: taught.state()}})
    if options["as_json"]:
        click.echo(json.dumps(dataclasses.asdict(report) | {"interrupted": interrupted}, indent=2, allow_nan=False))
    else:
        click.echo(_text(report) + f"\npolicy in {options['out']}")
    return 1 if interrupted else 0


def _scenarios(options: dict[str, Any], mistakes: Any) -> "list[Scenario]":
    from agent.evaluation.study import with_steps
    from agent.evaluation.unseen import without
    from simcore.errors import InputError, suggest
    from simcore.model.loader import load_scenario

    found: list[Scenario] = []
    for name in (options["scenario"], *options["also"]):
        with mistakes.collect():
            scenario = load_scenario(name)
            scenario = with_steps(scenario, options["steps"] or scenario.timing.steps)
            known = {row.type for row in scenario.faults.mix}
            if not known:
                raise InputError(f"scenario {scenario.name} draws no faults: there is nothing to learn from")
            for kind in options["without"]:
                if kind not in known:
                    raise InputError(f"--without: {scenario.name} draws no fault '{kind}'{suggest(kind, known)}")
            if known <= set(options["without"]):
                raise InputError(f"--without leaves no fault of scenario {scenario.name}")
            found.append(without(scenario, options["without"]))
    return found


def _parts(options: dict[str, Any], mistakes: Any) -> tuple[str, str]:
    """Return the names of detector and diagnoser."""
    from agent.commands.setup import DEFAULTS
    from agent.registry import DETECTORS, DIAGNOSERS
    from simcore.errors import suggest

    names = []
    for part, known in (("detector", DETECTORS), ("diagnoser", DIAGNOSERS)):
        name = options[part] or DEFAULTS[part]
        names.append(name)
        if name not in known:
            mistakes.lines.append(f"--{part} must be one of {', '.join(known)}, got '{name}'{suggest(name, known)}")
    return names[0], names[1]


def _lessons(
    scenarios: "list[Scenario]", detector: str, diagnoser: tuple[str, dict[str, Any] | None], options: dict[str, Any]
) -> "tuple[Lessons, bool]":
    """Return the lessons of all scenarios, and whether Ctrl-C ended them."""
    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.lessons import Lessons, collect
    from agent.evaluation.training import trained_detector
    from agent.registry import make_diagnoser
    from simcore.env import Episodes
    from simcore.model.inputs import make_run

    episodes, size, engine, threads = (options[name] for name in ("episodes", "round_size", "engine", "threads"))
    parts: list[Lessons] = []
    done, interrupted = 0, False
    with Compiling(quiet=options["quiet"]), Progress(episodes * len(scenarios), quiet=options["quiet"]) as progress:
        try:
            for number, scenario in enumerate(scenarios):
                ready = trained_detector(detector, scenario, seed=options["detector_seed"], threads=threads)
                for first in range(0, episodes, size):
                    runs = [
                        make_run(scenario, seed=options["seed"], split="train", run=number * 1_000_000 + run)
                        for run in range(first, min(first + size, episodes))
                    ]
                    batch = Episodes(scenario, runs, engine=engine, threads=threads)

                    def tell(played: Episodes, done: int = done, steps: int = scenario.timing.steps) -> None:
                        progress.show(done + played.n_runs * played.step / steps)

                    parts.append(
                        collect(
                            batch, ready, make_diagnoser(*diagnoser), futures=options["futures"],
                            horizon=options["horizon"], on_step=tell,
                        )
                    )  # fmt: skip
                    done += len(runs)
        except KeyboardInterrupt:
            interrupted = True
    if not parts:
        raise KeyboardInterrupt
    return Lessons.joined(parts), interrupted


def _text(report: "Report") -> str:
    lines = [
        f"{report.candidates} candidates tried in {report.decisions} decisions",
        "mean gain of J over waiting, a decision (predicted from the decisions of other runs):",
        f"  the best candidate, if it were known  {report.best:+.4f}",
        f"  what the playbook does                {report.playbook:+.4f}",
        f"  what the policy does                  {report.gained:+.4f}",
        f"it waits in {report.waited:.0%} of the decisions, departs from the playbook in {report.departed:.0%}, "
        f"does harm in {report.harmed:.1%}",
        f"it acts above a predicted gain of {report.threshold:g}, and departs for {report.margin:g} more",
    ]
    return "\n".join(lines)
