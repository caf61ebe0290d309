"""What things cost in the batch engine: CPU time of one more step, message, draw or gate in a request.

``python -m bench.prices`` prints the table in ``docs/explanation/performance.md``. Each price is a difference between
two scenarios that differ in one thing only, divided by how often it happened; times are minima of interleaved rounds.
"""

__all__ = ["PRICES", "Price", "measured", "table"]

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.evaluation.profiling.clocks import best_of
from bench.workloads import SEED, simulate
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario

Plain = dict[str, Any]

_RPS = 400.0
_STEPS, _STEP_S = 25, 5


def _base() -> Plain:
    """Return a front with one CPU step and nothing else: no network, no queue, no call."""
    return {
        "name": "prices",
        "timing": {"step_s": _STEP_S, "steps": _STEPS, "burn_in_steps": 1, "follow_up_steps": 1},
        "services": {
            "front": {"threads": 64, "cores": 64, "operations": {"serve": {"steps": [_cpu("constant")]}}},
            "back": {"threads": 64, "cores": 64, "operations": {"serve": {"steps": [_cpu("constant")]}}},
            "cache": {
                "threads": 64,
                "cores": 64,
                "cache": {"slots": 100, "ttl_s": 1e6},
                "operations": {"get": {"steps": [_cpu("constant")]}},
            },
        },
        "network": {"mean_s": 0.0, "dist": "constant"},
        "workload": {"rate_rps": _RPS, "entries": [{"operation": "front.serve"}], "timeout_s": 10},
    }


def _cpu(dist: str, **shape: float) -> Plain:
    return {"cpu": {"mean_s": 0.004, "dist": dist, **shape}}


def _steps(plain: Plain) -> list[Plain]:
    steps: list[Plain] = plain["services"]["front"]["operations"]["serve"]["steps"]
    return steps


def _first(step: Plain) -> Callable[[Plain], None]:
    def change(plain: Plain) -> None:
        _steps(plain)[0] = step

    return change


def _then(step: Plain) -> Callable[[Plain], None]:
    def change(plain: Plain) -> None:
        _steps(plain).append(copy.deepcopy(step))

    return change


def _with_call(**more: Any) -> Callable[[Plain], None]:
    return _then({"call": {"to": "back.serve", "timeout_s": 5.0, **more}})


def _few_threads(plain: Plain) -> None:
    # one thread at 0.8 of its time: four fifths of the arrivals wait for it
    plain["services"]["front"] |= {"threads": 1, "cores": 1, "queue": 10_000}
    _steps(plain)[0] = {"cpu": {"mean_s": 0.002, "dist": "constant"}}


def _short_threads(plain: Plain) -> None:
    _steps(plain)[0] = {"cpu": {"mean_s": 0.002, "dist": "constant"}}


def _slow_network(dist: str, **shape: float) -> Callable[[Plain], None]:
    def change(plain: Plain) -> None:
        plain["network"] = {"mean_s": 0.001, "dist": dist, **shape}

    return change


def _pooled(plain: Plain) -> None:
    _with_call()(plain)
    plain["services"]["front"]["pools"] = {"back": {"size": 500}}


def _none(plain: Plain) -> None:
    del plain


_READ = {"cached": {"to": "cache.get", "keys": {"count": 50, "zipf": 1.0}, "timeout_s": 5.0, "steps": []}}


@dataclass(frozen=True, slots=True)
class Price:
    """What one thing costs."""

    what: str
    change: Callable[[Plain], None]  #: of the base, to have the thing
    without: Callable[[Plain], None] | None = _none  #: ... and not to have it; None: compared with nothing at all
    per_request: float = 1.0  #: how often it happens in a request


PRICES = (
    Price("a request: arrival, timer, thread, one CPU step, reply", _none, None),
    Price("one more CPU step", _then(_cpu("constant"))),
    Price("a delay step", _then({"delay": {"mean_s": 0.004, "dist": "constant"}})),
    Price("a wait for a thread", _few_threads, _short_threads, 0.8),
    Price("a call with its CPU step, no network", _with_call()),
    Price("a message over the network, constant latency", _slow_network("constant"), per_request=2.0),
    Price("an exponential draw instead of a constant", _first(_cpu("exponential"))),
    Price("a lognormal draw", _first(_cpu("lognormal", sigma=0.5))),
    Price("a gamma draw", _first(_cpu("gamma", shape=2.0))),
    Price("a read through a cache that has the key, with its CPU step", _then(_READ)),
    Price("a connection pool at a call", _pooled, _with_call()),
    Price("a circuit breaker at a call", _with_call(breaker={}), _with_call()),
)


def _piece(change: Callable[[Plain], None]) -> Callable[[], object]:
    plain = _base()
    change(plain)
    scenario = build_scenario(plain)
    inputs = [make_run(scenario, seed=SEED, split="tune", run=0).inputs]
    return lambda: simulate("batch", scenario, inputs)


def measured(prices: tuple[Price, ...] = PRICES, *, rounds: int = 15) -> dict[str, float]:
    """Return what each thing costs, nanoseconds of CPU time."""
    n_requests = _RPS * _STEPS * _STEP_S
    found = {}
    for price in prices:
        pieces = {"with": _piece(price.change)}
        if price.without is not None:
            pieces["without"] = _piece(price.without)
        best = best_of(pieces, rounds=rounds)
        found[price.what] = 1e9 * (best["with"] - best.get("without", 0.0)) / (n_requests * price.per_request)
    return found


def table(found: dict[str, float]) -> str:
    """Return prices as a Markdown table."""
    return "\n".join(["| what | ns |", "|---|---|", *(f"| {what} | {ns:.0f} |" for what, ns in found.items())])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="Of each pair of scenarios; the best one counts.")
    print(table(measured(rounds=parser.parse_args().rounds)))
