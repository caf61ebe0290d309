"""``mendsim train diagnoser``: the Bayesian diagnoser learns from simulated incidents."""

__all__ = ["diagnoser"]

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option
from agent.commands.drawn import draw_into, png_option
from agent.commands.files import check_file, check_picture

if TYPE_CHECKING:
    from agent.evaluation.learning import Examples
    from agent.evaluation.study import Study


@click.command(cls=Command, short_help="The Bayesian diagnoser, from simulated incidents.")
@option(
    "--scenario", "scenarios", default="three_tier,online_boutique", metavar="NAMES|FILES", help="Joined by commas."
)
@option("--diagnoser", "name", type=click.Choice(["bayes", "bayes_all"]), default="bayes", help="Which one learns.")
@option("--traces", type=click.FloatRange(0, 1), metavar="SHARE", help="bayes_all: of the requests, sampled; else 0.1.")
@option("--episodes", type=click.IntRange(10), metavar="N", default=400, help="Runs of each to learn from.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--detector", metavar="NAME", help="When something is wrong; else the default detector.")
@option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Else one per core; results do not depend on it.")
@option("--out", required=True, metavar="FILE", help="Where the learned state goes (JSON).")
@option("--force", is_flag=True, show_default=False, help="Replace a file that is there already.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
@png_option("How often the suspect was right, by its probability")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
def diagnoser(**options: Any) -> None:
    """Teach a diagnoser on simulated incidents of one or more scenarios.

    Weights are fitted on the split train, probabilities calibrated on half as many runs of calibrate, and verified on
    as many of tune: accuracy, Brier score, and how often the suspect was right beside its probability. `bayes_all`
    learns apart for metrics alone, with traces, with logs and with both; `mendsim rca sources` holds them against
    each other.
    """
    from agent.commands.setup import Mistakes

    mistakes = Mistakes()
    if options["traces"] is not None and options["name"] != "bayes_all":
        mistakes.lines.append("--traces is for --diagnoser bayes_all; bayes looks at metrics alone")
    studies = _studies(options, mistakes)
    check_file("--out", options["out"], options["force"], mistakes)
    check_picture("--png", options["png"], options["force"], mistakes)
    mistakes.report()
    if options["name"] == "bayes_all":
        _teach_all(studies, options)
        return
    from agent.evaluation.learning import calibrated, fit
    from agent.evaluation.reliability import reliability
    from simcore.telemetry.files import write_json

    learned = _examples(studies, options, "train", options["episodes"])
    held = {
        split: _examples(studies, options, split, max(10, options["episodes"] // 2)) for split in ("calibrate", "tune")
    }
    names = ", ".join(study.scenario.name for study in studies)
    made = fit(learned, learned_from=f"{names}: {options['episodes']} runs each, seed {options['seed']}")
    made, temperature = calibrated(made, held["calibrate"])
    found = reliability(made, held["tune"])
    write_json(Path(options["out"]), made.state())
    if options["png"] is not None:
        from agent.evaluation.figures_of_tables import calibration_of

        draw_into(options["png"], calibration_of(found["bins"]), quiet=options["quiet"])
    if options["as_json"]:
        click.echo(
            json.dumps({"temperature": temperature, **found, "state": options["out"]}, indent=2, allow_nan=False)
        )
        return
    click.echo(f"learned from {made.learned_from}; temperature {temperature:.2f}")
    click.echo(
        f"on the split tune: AC@1 {found['ac1']:.2f}, Brier score {found['brier']:.3f}, gap {found['gap']:.3f}\n"
    )
    click.echo(f"{'probability':>14}{'mean':>7}{'right':>7}{'share':>7}")
    for bin_ in found["bins"]:
        between = f"{bin_['low']:.2f} .. {bin_['high']:.2f}"
        click.echo(f"{between:>14}{bin_['mean']:>7.2f}{bin_['right']:>7.2f}{bin_['share']:>7.0%}")
    click.echo(f"\nstate in {options['out']}")


def _teach_all(studies: "list[Study]", options: dict[str, Any]) -> None:
    """Teach the diagnoser that looks at traces and logs too."""
    import dataclasses

    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.evidence_sources import SETS, observing, teach
    from simcore.telemetry.files import write_json

    share = 0.1 if options["traces"] is None else options["traces"]
    seen = [dataclasses.replace(study, scenario=observing(study.scenario, share, True)) for study in studies]
    episodes, quiet = options["episodes"], options["quiet"]
    total = len(seen) * (episodes + max(10, episodes // 2))
    with Compiling(quiet=quiet), Progress(total, quiet=quiet) as progress:
        made = teach(seen, episodes, threads=options["threads"], on_progress=progress.show)
    write_json(Path(options["out"]), made.state())
    if options["as_json"]:
        click.echo(json.dumps({"learned_from": made.learned_from, "sets": SETS, "state": options["out"]}, indent=2))
        return
    click.echo(f"learned from {made.learned_from}, by {', '.join(SETS)}; state in {options['out']}")


def _studies(options: dict[str, Any], mistakes: Any) -> "list[Study]":
    from agent.commands.setup import DEFAULTS
    from agent.evaluation.study import Study
    from agent.registry import DETECTORS
    from simcore.errors import suggest
    from simcore.model.loader import load_scenario

    detector = options["detector"] or DEFAULTS["detector"]
    if detector not in DETECTORS:
        known = ", ".join(DETECTORS)
        mistakes.lines.append(f"--detector must be one of {known}, got '{detector}'{suggest(detector, DETECTORS)}")
    studies = []
    for name in options["scenarios"].split(","):
        with mistakes.collect():
            scenario = load_scenario(name.strip())
            if not scenario.faults.mix:
                mistakes.lines.append(f"--scenario: {scenario.name} draws no faults, there is nothing to learn from")
            studies.append(Study(scenario, seed=options["seed"], detector=detector))
    return studies


def _examples(studies: "list[Study]", options: dict[str, Any], split: str, episodes: int) -> "Examples":
    import dataclasses

    from agent.commands.progress import Compiling, Progress
    from agent.evaluation.learning import collect, joined

    found = []
    for study in studies:
        part = dataclasses.replace(study, split=split, episodes=episodes)
        with Compiling(quiet=options["quiet"]), Progress(episodes, quiet=options["quiet"]) as progress:
            found.append(collect(part, threads=options["threads"], on_progress=progress.show))
    return joined(found)
