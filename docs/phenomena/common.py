"""What the phenomena share: two tiers to break, paired runs, tables and pictures."""

__all__ = ["COLOURS", "Played", "Variant", "cli", "goodput", "pair", "picture", "play", "table"]

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.engines.api import Change, EngineAction, Modulation, RunInputs
from simcore.engines.registry import open_session
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.streams import run_key
from simcore.windows import Total

#: Colours that the colour-blind tell apart (Okabe and Ito, "Color Universal Design", 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SEED = 1


@dataclass(frozen=True, slots=True)
class Variant:
    """What happens to a run: one parameter that changes over time, and actions."""

    modulation: Modulation | None = None
    changes: tuple[tuple[float, float], ...] = ()  #: (time, value)
    actions: tuple[EngineAction, ...] = ()  #: their ``run`` is filled in


@dataclass(frozen=True, slots=True)
class Played:
    """What the runs of some variants did; run i of every variant has the same arrivals and work."""

    totals: npt.NDArray[np.int64]  #: (variant, run, window, ``Total``)
    metrics: npt.NDArray[np.float64]  #: (variant, run, window, service + 1, ``Metric``)


def pair(**changes: Any) -> Scenario:
    """Return front -> db, which can serve 400 requests/s; the front gives up after 0.5 s and tries 4 times.

    Nobody tells the db that its caller has given up, unless ``cancellable``. Further ``changes`` are ``load``
    (utilisation of the db), ``cores`` (of the db, each for 100 requests/s), ``steps``, keys of the call, and keys
    of the db.
    """
    load, cores = changes.pop("load", 0.8), changes.pop("cores", 4)
    call = {"to": "db.query", "timeout_s": 0.5, "retries": 3, "backoff_s": 0.05}
    query = {"steps": [{"cpu": {"mean_s": 0.01}}], "cancellable": changes.pop("cancellable", False)}
    db: dict[str, Any] = {
        "cores": cores,
        "threads": cores,
        "queue": 500 * cores,
        "replicas": {"initial": 1, "min": 1, "max": 4},
    }
    timing = {"step_s": 1, "steps": changes.pop("steps", 40), "burn_in_steps": 5}
    for key, value in changes.items():
        (call if key in ("timeout_s", "retries", "backoff_s", "jitter") else db)[key] = value
    db["operations"] = {"query": query}
    front = {"cores": 64, "threads": 10_000, "operations": {"view": {"steps": [{"call": call}]}}}
    # the front is never what is short: its memory must hold all who wait
    front["memory"] = {"limit_bytes": 2**40}
    db["memory"] = {"limit_bytes": 2**40}
    return build_scenario(
        {
            "name": "pair",
            "timing": timing,
            "slo": {"latency_s": 1.0, "p95_s": 0.4},
            "network": {"mean_s": 0.001},
            "services": {"front": front, "db": db},
            "workload": {"rate_rps": load * 100 * cores, "entries": [{"operation": "front.view"}], "timeout_s": 5},
        }
    )


def play(scenario: Scenario, variants: Sequence[Variant], n_runs: int) -> Played:
    """Simulate every variant on the same ``n_runs`` runs, to the end of the scenario."""
    keys = [run_key(SEED, "test", run, 0) for run in range(n_runs)]
    inputs: list[RunInputs] = []
    actions: list[EngineAction] = []
    for variant in variants:
        modulations = () if variant.modulation is None else (variant.modulation,)
        changes = tuple(Change(time_s, 0, value) for time_s, value in variant.changes)
        for key in keys:
            position = len(inputs)
            inputs.append(RunInputs(position, key, 0.0, modulations, changes))
            actions += [EngineAction(position, a.code, a.at_s, a.service, a.replica, a.amount) for a in variant.actions]
    session = open_session("batch", scenario, inputs)
    session.apply(actions)
    session.advance(scenario.timing.steps * scenario.timing.step_s)
    seen = session.observe()
    shape = (len(variants), n_runs)
    return Played(
        seen.totals.reshape(*shape, *seen.totals.shape[1:]), seen.metrics.reshape(*shape, *seen.metrics.shape[1:])
    )


def goodput(played: Played, last: int) -> npt.NDArray[np.float64]:
    """Return the share of the requests offered in the last windows that were answered in time, (variant, run)."""
    sums = played.totals[:, :, -last:].sum(axis=2)
    return np.asarray(sums[..., Total.GOOD] / sums[..., Total.OFFERED])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below a header, numbers with two decimals, everything flush right."""
    texts = [list(header), *[[f"{x:.2f}" if isinstance(x, float) else str(x) for x in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)))


def picture(n_panels: int = 1) -> tuple[Any, list[Any]]:
    """Return a figure with panels side by side, and the panels; needs the extra ``pictures``."""
    import matplotlib
    from cycler import cycler

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "0.9",
            "legend.frameon": False,
            "font.size": 9,
        }
    )
    figure, axes = pyplot.subplots(1, n_panels, figsize=(3.6 * n_panels + 0.8, 3.2), squeeze=False)
    return figure, list(axes[0])


def cli(measure: Callable[[int], Any], show: Callable[[Any], None], draw: Callable[[Any], Any], n_runs: int) -> None:
    """Run a phenomenon from the command line: ``--runs N``, ``--picture FILE.png``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=n_runs, help="runs of every variant")
    parser.add_argument("--picture", type=Path, help="draw into this PNG file")
    given = parser.parse_args()
    found = measure(given.runs)
    show(found)
    if given.picture:
        figure = draw(found)
        figure.tight_layout()
        figure.savefig(given.picture, dpi=100)
