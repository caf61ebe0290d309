"""Queueing theory against pooled replications; never against output of our own."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from simcore.codes import Dist, Event, Purpose
from simcore.engines.api import RunInputs
from simcore.engines.registry import ENGINES, open_session
from simcore.model.scenario import Scenario
from simcore.samplers import draw
from simcore.streams import run_key

Floats = npt.NDArray[np.float64]

_RUNS = 24
_HORIZON_S = 400.0
_WARM_UP_S = 50.0


def station(rate_rps: float, threads: int, cores: float, dist: str = "exponential", shape: float = 2.0) -> Scenario:
    """Return one service of mean demand one second, without bounds on its queue."""
    demand = {"mean_s": 1.0, "dist": dist, "shape": shape}
    return Scenario.model_validate(
        {
            "name": "station",
            "timing": {"step_s": _HORIZON_S, "steps": 1, "burn_in_steps": 0},
            "services": {
                "desk": {
                    "threads": threads,
                    "cores": cores,
                    "queue": 100_000,
                    "memory": {"per_span_bytes": 0},
                    "operations": {"serve": {"steps": [{"cpu": demand}]}},
                }
            },
            "workload": {"rate_rps": rate_rps, "entries": [{"operation": "desk.serve"}], "timeout_s": 1e9},
        }
    )


def logs(engine: str, scenario: Scenario) -> list[npt.NDArray[np.void]]:
    inputs = [RunInputs(run, run_key(11, "test", run, 0), 0.0) for run in range(_RUNS)]
    session = open_session(engine, scenario, inputs, log=True)
    session.advance(_HORIZON_S)
    return [session.events(run) for run in range(_RUNS)]


def between(log: npt.NDArray[np.void], first: Event, last: Event) -> tuple[Floats, Floats, npt.NDArray[np.uint64]]:
    """Return (instant of the first event, time from it to the last, span) of the spans that had both."""
    rows = {event: log[log["event"] == event] for event in (first, last)}
    began = {row["span"]: row["time_s"] for row in rows[first]}
    spans = rows[last]["span"]
    starts = np.array([began[span] for span in spans])
    return starts, rows[last]["time_s"] - starts, spans


def assert_mean(samples: list[Floats], theory: float) -> None:
    """Compare the pooled mean with theory: within 4 standard errors, and these must be small."""
    means = np.array([sample.mean() for sample in samples])
    error = means.std(ddof=1) / math.sqrt(means.size)
    assert error < 0.1 * theory, "too few replications to say anything"
    assert abs(means.mean() - theory) < 4 * error


def erlang_c(c: int, load: float) -> float:
    """Return the probability of waiting in an M/M/c queue of the given load in erlangs (Erlang, 1917)."""
    last = load**c / math.factorial(c) * c / (c - load)
    return last / (sum(load**k / math.factorial(k) for k in range(c)) + last)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("servers", "rate_rps"), [(1, 0.5), (4, 2.6)])
def test_mean_waits_in_an_m_m_c_queue_are_erlangs(engine: str, servers: int, rate_rps: float) -> None:
    waits = []
    for log in logs(engine, station(rate_rps, servers, float(servers))):
        arrived, wait, _ = between(log, Event.ARRIVED, Event.STARTED)
        waits.append(wait[arrived > _WARM_UP_S])
    assert_mean(waits, erlang_c(servers, rate_rps) / (servers - rate_rps))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("dist", "shape"), [("exponential", 2.0), ("constant", 2.0), ("gamma", 0.5)])
def test_processor_sharing_depends_on_the_demand_through_its_mean_only(engine: str, dist: str, shape: float) -> None:
    stays = []
    for log in logs(engine, station(0.5, 10_000, 1.0, dist, shape)):
        arrived, stay, _ = between(log, Event.ARRIVED, Event.FINISHED)
        # spans that had not finished by the horizon would be missed: leave the end out
        stays.append(stay[(arrived > _WARM_UP_S) & (arrived < _HORIZON_S - 60.0)])
    assert_mean(stays, 1.0 / (1.0 - 0.5))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_wait_at_a_multi_server_queue_is_that_of_kiefer_and_wolfowitz(engine: str) -> None:
    log = logs(engine, station(2.6, 4, 4.0))[0]
    arrived, wait, spans = between(log, Event.ARRIVED, Event.STARTED)
    free = np.zeros(4)
    expected = []
    for now, span in zip(arrived, spans, strict=True):
        demand = draw(int(Dist.EXPONENTIAL), 1.0, 2.0, np.uint64(span), 0, int(Purpose.WORK))
        first = free.argmin()
        expected.append(max(0.0, free[first] - now))
        free[first] = max(free[first], now) + demand
    np.testing.assert_allclose(wait, expected, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrivals_are_poisson(engine: str) -> None:
    gaps = []
    for log in logs(engine, station(2.0, 1, 1.0)):
        times = log["time_s"][log["event"] == Event.OFFERED]
        gaps.append(np.diff(times))
    assert_mean(gaps, 0.5)
    pooled = np.concatenate(gaps)
    assert pooled.std() / pooled.mean() == pytest.approx(1.0, abs=0.03)
    assert abs(np.corrcoef(pooled[:-1], pooled[1:])[0, 1]) < 0.03
