"""``mendsim validate``: the simulator against queueing theory."""

__all__ = ["fault_table", "play", "table", "try_faults", "validate"]

import json
import math
from typing import TYPE_CHECKING, Any

import click

from agent.commands.base import Command, option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simcore.validity.experiment import Row
    from simcore.validity.faults import Outcome, Trial


@click.command(cls=Command, short_help="The simulator against queueing theory.")
@option("--case", "names", multiple=True, metavar="NAME", help="Only this one, named as in the table; repeatable.")
@option("--faults", is_flag=True, show_default=False, help="Instead try what the fault catalogue claims of each type.")
@option("--engine", type=click.Choice(["batch", "simpy"]), default="batch", help="simpy takes hours for all cases.")
@option("--seed", type=click.IntRange(0), metavar="N", default=1, help="Every draw follows from it.")
@option("--threads", type=click.IntRange(1, 100_000), metavar="N", help="Else one per core; no matter to the results.")
@option("--json", "as_json", is_flag=True, show_default=False, help="One JSON object on stdout instead of text.")
@option("--quiet", is_flag=True, show_default=False, help="Nothing on stderr but errors.")
def validate(
    names: tuple[str, ...],
    faults: bool,
    engine: str,
    seed: int,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Hold the simulator against what queueing theory knows exactly, or the fault catalogue against the simulator.

    Exits with 1 if a simulated value misses theory, or is not precise enough to tell. With --faults: if a fault's
    signs do not appear, its fix does not mend it, or a wrong action does; --case then names fault types.
    """
    if faults:
        return _validate_faults(names, engine, seed, threads, as_json, quiet)
    from agent.commands.progress import Compiling, Progress
    from simcore.validity.cases import named
    from simcore.validity.judge import Verdict

    total = sum(case.runs for case in named(names))
    with Compiling(quiet=quiet), Progress(total, quiet=quiet) as progress:
        rows = play(names, engine=engine, seed=seed, threads=threads, on_progress=progress.show)
    click.echo(json.dumps(_object(rows, engine, seed), indent=2, allow_nan=False) if as_json else table(rows))
    return int(any(row.verdict is not Verdict.OK for row in rows))


def _validate_faults(
    names: tuple[str, ...], engine: str, seed: int, threads: int | None, as_json: bool, quiet: bool
) -> int:
    from agent.commands.progress import Compiling, Progress
    from simcore.validity.faults import N_RUNS, claimed

    chosen = claimed(names)
    with Compiling(quiet=quiet), Progress(N_RUNS * len(chosen), quiet=quiet) as progress:
        trials = try_faults(chosen, engine=engine, seed=seed, threads=threads, on_progress=progress.show)
    if as_json:
        rows = [_trial(trial) for trial in trials]
        whole = {"passed": all(trial.holds for trial in trials), "engine": engine, "seed": seed, "faults": rows}
        click.echo(json.dumps(whole, indent=2, allow_nan=False))
    else:
        click.echo(fault_table(trials))
    return int(not all(trial.holds for trial in trials))


def try_faults(
    names: "Sequence[str]",
    *,
    engine: str = "batch",
    seed: int = 1,
    threads: int | None = None,
    on_progress: "Callable[[float], None]" = lambda runs: None,
) -> "list[Trial]":
    """Return the trials of the named fault types."""
    from simcore.validity.faults import N_RUNS, try_fault

    trials = []
    for name in names:
        trials.append(try_fault(name, engine=engine, seed=seed, threads=threads))
        on_progress(N_RUNS * len(trials))
    return trials


def fault_table(trials: "Sequence[Trial]") -> str:
    """Return the trials as text, the same on every machine."""
    from simcore.validity.faults import N_RUNS

    lines = [
        f"Changes against the same {N_RUNS} runs without the fault, in scenario clinic; 99 % intervals over the runs.",
        "",
    ]
    for trial in trials:
        lines.append(f"{trial.fault}: {'holds' if trial.holds else 'FAILS'}")
        for sign, usual, shift in zip(trial.claim.signs, trial.usual, trial.shift, strict=True):
            lines.append(f"    shows      {sign!s:<42}{_outcome(shift):<28}usually {usual:.3g}")
        first = str(trial.claim.signs[0])
        lines.append(f"    lasts      {first:<42}{_outcome(trial.noop)}")
        lines.append(f"    mended by  {trial.claim.fix!s:<42}{_outcome(trial.fix):<28}{'' if trial.mended else 'NO'}")
        lines.append(
            f"    not by     {trial.claim.wrong!s:<42}{_outcome(trial.wrong):<28}{'' if trial.useless else 'NO'}"
        )
    failed = sum(not trial.holds for trial in trials)
    lines += ["", f"{failed} of {len(trials)} claims fail" if failed else f"all {len(trials)} claims hold"]
    return "\n".join(line.rstrip() for line in lines)


def _outcome(found: "Outcome") -> str:
    return f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _trial(trial: "Trial") -> dict[str, Any]:
    def of(found: "Outcome") -> dict[str, float | None]:
        return {name: _finite(getattr(found, name)) for name in ("mean", "low", "high")}

    return {
        "fault": trial.fault,
        "holds": trial.holds,
        "signs": [
            {"sign": str(sign), "usual": _finite(usual), "shift": of(shift)}
            for sign, usual, shift in zip(trial.claim.signs, trial.usual, trial.shift, strict=True)
        ],
        "lasts": of(trial.noop),
        "fix": {"action": str(trial.claim.fix), "left": of(trial.fix)},
        "wrong": {"action": str(trial.claim.wrong), "left": of(trial.wrong)},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def play(
    names: "Sequence[str]" = (),
    *,
    engine: str = "batch",
    seed: int = 1,
    threads: int | None = None,
    on_progress: "Callable[[float], None]" = lambda runs: None,
) -> "list[Row]":
    """Return the rows of the named cases, of all if there are none.

    Raises
    ------
    RegistryError
        If there is no case of a name.
    """
    from simcore.validity.cases import COMPARISONS, named
    from simcore.validity.experiment import check

    rows: list[Row] = []
    done = 0
    for case in named(names):
        rows += check(case, engine, seed=seed, n_comparisons=COMPARISONS, threads=threads)
        done += case.runs
        on_progress(done)
    return rows


def table(rows: "Sequence[Row]") -> str:
    """Return the rows as text, the same on every machine."""
    from simcore.validity.cases import COMPARISONS
    from simcore.validity.judge import FAMILY_ERROR, PRECISION, Verdict

    wide = max(len(row.case) for row in rows) + 2
    lines = [f"{'case':<{wide}}{'quantity':<34}{'theory':>11}  {'simulated':<22}verdict"]
    for row in rows:
        theory, simulated = _cells(row)
        lines.append(f"{row.case:<{wide}}{row.quantity:<34}{theory:>11}  {simulated:<22}{row.verdict.value}")
    failed = sum(row.verdict is not Verdict.OK for row in rows)
    lines += [
        "",
        f"Intervals of 1 - {FAMILY_ERROR:g}/{COMPARISONS} each: all {COMPARISONS} of the full table hold together with "
        f"probability {1 - FAMILY_ERROR:g} at least.",
        f"A half-width above {PRECISION:.0%} of theory (above {PRECISION:g} where that is 0) is imprecise, and fails.",
        f"{failed} of {len(rows)} rows fail" if failed else f"all {len(rows)} rows hold",
    ]
    return "\n".join(lines)


def _cells(row: "Row") -> tuple[str, str]:
    from simcore.validity.judge import Rule, Verdict

    if row.rule is Rule.IDENTITY:
        # what rounding leaves depends on the machine's order of summation
        return "0", "0 but for rounding" if row.verdict is Verdict.OK else f"{row.found.value:.3g}"
    sign = "<= " if row.rule is Rule.AT_MOST else ""
    return f"{sign}{row.theory:.5g}", f"{row.found.value:.5f} +- {row.found.half_width:.5f}"


def _object(rows: "Sequence[Row]", engine: str, seed: int) -> dict[str, Any]:
    from simcore.validity.cases import COMPARISONS
    from simcore.validity.judge import FAMILY_ERROR, PRECISION, Verdict

    return {
        "passed": all(row.verdict is Verdict.OK for row in rows),
        "engine": engine,
        "seed": seed,
        "family_error": FAMILY_ERROR,
        "comparisons": COMPARISONS,
        "precision": PRECISION,
        "rows": [
            {
                "case": row.case,
                "quantity": row.quantity,
                "rule": row.rule.value,
                "theory": row.theory,
                "simulated": _finite(row.found.value),
                "half_width": _finite(row.found.half_width),
                "verdict": row.verdict.value.lower(),
            }
            for row in rows
        ],
    }
