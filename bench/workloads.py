"""What is measured: the workloads that peers are measured on, and the default scenario; each checks the work done."""

__all__ = [
    "LOGNORMAL", "THREE_TIER", "W1", "W2", "W2_HOT", "W3", "WORKLOADS", "Work", "Workload", "chain", "closed_loop",
    "equal_windows", "light_scenario", "simulate", "station",
]  # fmt: skip

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.evaluation.study import Study, with_steps
from simcore.engines.api import RunInputs
from simcore.engines.registry import open_session
from simcore.model.faults import parse_fault
from simcore.model.inputs import make_run
from simcore.model.loader import build_scenario, load_scenario
from simcore.model.scenario import Scenario
from simcore.model.services import Memory, Service
from simcore.windows import Metric, Total, Windows

SEED = 1


@dataclass(frozen=True, slots=True)
class Work:
    """What a simulation did."""

    windows: Windows
    scenario: Scenario

    @property
    def requests(self) -> int:
        """Requests offered, all runs."""
        return int(self.windows.totals[..., Total.OFFERED].sum())

    @property
    def attempts(self) -> int:
        """Sends of requests and calls, all runs."""
        return int(self.windows.totals[..., Total.ATTEMPTS].sum())

    def mean_of(self, service: str, metric: Metric) -> float:
        """Return the mean of a service's metric over all runs and windows."""
        return float(self.windows.metrics[:, :, self.scenario.service_names.index(service), metric].mean())

    def seconds_in(self, service: str) -> float:
        """Return the mean time of a span at a service, by Little's law."""
        return self.mean_of(service, Metric.IN_FLIGHT) / self.mean_of(service, Metric.REQUEST_RATE_RPS)

    def timed_out_share(self, service: str) -> float:
        """Return the share of the attempts at a service that their callers gave up."""
        lost = self.mean_of(service, Metric.TIMEOUTS) / self.scenario.timing.step_s
        return lost / self.mean_of(service, Metric.REQUEST_RATE_RPS)


def simulate(engine: str, scenario: Scenario, inputs: Sequence[RunInputs], *, threads: int = 1) -> Work:
    """Run a scenario from its start to its end without an agent; opening the session counts as work."""
    session = open_session(engine, scenario, inputs, threads=threads)
    session.advance(scenario.timing.steps * scenario.timing.step_s)
    return Work(session.observe(), scenario)


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario at the size that is measured."""

    label: str
    scenario_name: str
    n_runs: int  #: of the batch engine
    short_steps: int  #: the SimPy engine's horizon, for one run
    check: Callable[[Work], None]  #: raises AssertionError if the work is not what the workload stands for
    change: Callable[[Scenario], Scenario] = lambda scenario: scenario
    faults: tuple[str, ...] = ()  #: from a quarter of the horizon on

    def scenario(self, steps: int | None = None) -> Scenario:
        """Return the scenario, cut to so many control steps if given."""
        scenario = self.change(load_scenario(self.scenario_name))
        return scenario if steps is None else with_steps(scenario, steps)

    def inputs(self, scenario: Scenario, n_runs: int | None = None) -> list[RunInputs]:
        """Return the inputs of the first runs."""
        runs = range(self.n_runs if n_runs is None else n_runs)
        onset_s = 0.25 * scenario.timing.steps * scenario.timing.step_s
        faults = [parse_fault(text, scenario, onset_s=onset_s, severity=0.5) for text in self.faults] or None
        return [make_run(scenario, seed=SEED, split="tune", run=run, faults=faults).inputs for run in runs]

    def verify(self, work: Work, n_runs: int) -> None:
        """Check that the work was done, and that it is this workload's.

        Raises
        ------
        AssertionError
            If it was not.
        """
        timing = work.scenario.timing
        assert work.windows.metrics.shape[:2] == (n_runs, timing.steps)
        expected = n_runs * timing.steps * timing.step_s * work.scenario.workload.rate_rps
        # Five standard deviations of a Poisson count; the wave and the surges of three_tier come on top.
        waves = work.scenario.workload.shape != "constant"
        spread = 5 * expected**0.5 + (0.3 * expected if waves else 0)
        assert abs(work.requests - expected) < spread, f"{self.label}: {work.requests} requests instead of {expected}"
        self.check(work)


def _check_w1(work: Work) -> None:
    # Erlang C: 1.7455 s in the system, 0.7455 s of it waiting; the mean wait of 200,000 customers has a standard
    # deviation of 3.5 %.
    assert work.attempts == work.requests
    assert abs(work.seconds_in("desk") / 1.7455 - 1.0) < (0.5 if work.requests < 150_000 else 0.08)


def _check_w2(work: Work) -> None:
    assert abs(work.attempts / work.requests - 2.3) < 0.05
    # PEERS: every engine that holds the api worker agrees on 34.1 to 34.3 ms.
    assert abs(work.seconds_in("api") / 0.0342 - 1.0) < (0.15 if work.requests < 10_000 else 0.02)
    assert work.mean_of("db", Metric.TIMEOUTS) == 0


def _check_w2_hot(work: Work) -> None:
    assert work.timed_out_share("db") > 0.05
    assert work.attempts / work.requests > 2.3


def _check_three_tier(work: Work) -> None:
    assert work.attempts / work.requests > 2.0
    assert 0.2 < work.mean_of("cache", Metric.HIT_RATIO) < 1.0


#: W3 is the boutique at so many requests a second, each replica so many times as large.
_W3_RPS, _W3_SIZE = 500.0, 20
_W3_STEPS = 24


def _resilient(scenario: Scenario) -> Scenario:
    """Return the boutique at W3's load, with two retries, a pool and a breaker on every call."""
    plain = scenario.model_dump(mode="json", exclude_unset=True)
    plain["workload"] |= {"rate_rps": _W3_RPS, "shape": "constant"}
    for key in ("amplitude", "period_s", "random_phase"):
        plain["workload"].pop(key, None)
    plain["timing"] |= {"steps": _W3_STEPS, "burn_in_steps": 1, "follow_up_steps": 1}
    plain["faults"] = {}
    for service in plain["services"].values():
        callees = set()
        for operation in service["operations"].values():
            for step in operation.get("steps", []):
                for call in (step[kind] for kind in ("call", "cached") if kind in step):
                    call |= {"retries": 2, "breaker": {"failure_rate": 0.8}}
                    callees.add(call["to"].partition(".")[0])
        service["pools"] = {callee: {"size": 40 * _W3_SIZE} for callee in sorted(callees)}
        for key in ("threads", "queue", "cores"):
            service[key] = service.get(key, Service.model_fields[key].default) * _W3_SIZE
        memory = service.setdefault("memory", {})
        memory["limit_bytes"] = memory.get("limit_bytes", Memory.model_fields["limit_bytes"].default) * _W3_SIZE
    return build_scenario(plain)


def _check_w3(work: Work) -> None:
    assert len(work.scenario.services) >= 10
    assert work.attempts / work.requests > 8.0
    # the two faults are felt
    assert work.mean_of("productcatalog", Metric.ERROR_RATE) > 0.05
    assert work.mean_of("productcatalog", Metric.RETRIES) > 10.0


def chain(n_services: int) -> Scenario:
    """Return a front that calls all the other services one after the other: 20 requests/s at a third of the CPU."""
    leaf = {"threads": 16, "cores": 1.0, "operations": {"serve": {"steps": [{"cpu": {"mean_s": 0.015}}]}}}
    calls = [{"call": {"to": f"s{i}.serve", "timeout_s": 1.0, "retries": 1}} for i in range(1, n_services)]
    front = {"threads": 200, "cores": 1.0, "operations": {"serve": {"steps": [{"cpu": {"mean_s": 0.015}}, *calls]}}}
    return build_scenario(
        {
            "name": f"chain_{n_services}",
            "timing": {"step_s": 5, "steps": 1200 // n_services, "burn_in_steps": 1, "follow_up_steps": 1},
            "services": {"s0": front} | {f"s{i}": leaf for i in range(1, n_services)},
            "workload": {"rate_rps": 20, "entries": [{"operation": "s0.serve"}]},
        }
    )


def station(threads: int) -> Scenario:
    """Return one service in which about four fifths of the threads are on the CPU at once."""
    return build_scenario(
        {
            "name": f"station_{threads}",
            "timing": {"step_s": 5, "steps": 400, "burn_in_steps": 10, "follow_up_steps": 1},
            "services": {
                "desk": {
                    "threads": threads,
                    "cores": threads,
                    "queue": 10_000,
                    "memory": {"per_span_bytes": 0},
                    "operations": {"serve": {"steps": [{"cpu": {"mean_s": threads / 125.0}}]}},
                }
            },
            "workload": {"rate_rps": 100, "entries": [{"operation": "desk.serve"}], "timeout_s": 1000},
        }
    )


W1 = Workload("w1", "mm4", 1, 25, _check_w1)
W2 = Workload("w2", "w2", 4, 24, _check_w2)
W2_HOT = Workload("w2_hot", "w2_hot", 2, 12, _check_w2_hot)
THREE_TIER = Workload("three_tier", "three_tier", 2, 12, _check_three_tier)
#: A shop that stays as it is while the shipped one grows.
LOGNORMAL = Workload("lognormal", str(Path(__file__).with_name("lognormal_shop.yaml")), 2, 12, _check_three_tier)
W3 = Workload(
    "w3", "online_boutique", 1, 3, _check_w3, _resilient, ("error_burst@productcatalog", "slow_replica@frontend/0")
)
WORKLOADS = (W1, W2, W2_HOT, THREE_TIER, W3)


def light_scenario(folder: Path) -> Path:
    """Write three_tier at a twentieth of its length and a fifth of its load: many episodes in little time."""
    plain = with_steps(load_scenario("three_tier"), 12).model_dump(mode="json")
    plain["name"] = "light"
    plain["workload"]["rate_rps"] /= 5
    plain["timing"]["burn_in_steps"] = 2
    path = folder / "light.yaml"
    path.write_text(json.dumps(plain), encoding="utf-8")
    return path


def closed_loop(*, n_runs: int, steps: int, shadow: bool) -> Study:
    """Return one round of three_tier with the default agent.

    A shorter episode has a shorter burn-in, in which no agent thinks: the share of its work stays the same.
    """
    scenario = THREE_TIER.scenario()
    plain = with_steps(scenario, steps).model_dump()
    plain["timing"]["burn_in_steps"] = round(scenario.timing.burn_in_steps * steps / scenario.timing.steps)
    return Study(
        scenario=Scenario.model_validate(plain),
        seed=SEED,
        episodes=n_runs,
        split="tune",
        detector="isolation_forest",
        diagnoser="causal_rank",
        policies=("bandit",),
        shadow=shadow,
    )


def equal_windows(one: Windows, other: Windows) -> bool:
    """Return whether two results are the same to the last bit; nan equals nan."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("metrics", "replicas"))
        for name in ("metrics", "totals", "replicas", "markers")
    )
