"""What all tests share: Hypothesis settings, a tiny scenario, and the command line called in this process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import cli

# The first example compiles kernels; examples are the same on every machine.
settings.register_profile("mendsim", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mendsim")

TINY = """
name: tiny
description: Two services at 8 requests/s; an episode of 300 s
timing: {step_s: 5, steps: 60, burn_in_steps: 2, follow_up_steps: 36}
slo: {latency_s: 0.5, p95_s: 0.3, bad_frac: 0.05, objective: 0.99}
network: {mean_s: 0.001}
services:
  api:
    replicas: {initial: 2, min: 1, max: 3}
    threads: 8
    cores: 1.0
    startup_s: 2
    operations:
      get:
        steps:
          - cpu: {mean_s: 0.02}
          - call: {to: db.query, timeout_s: 0.4, retries: 1}
  db:
    replicas: {initial: 1, min: 1, max: 3}
    threads: 8
    cores: 1.0
    startup_s: 2
    operations:
      query:
        steps:
          - cpu: {mean_s: 0.03}
workload:
  rate_rps: 8
  timeout_s: 2
  entries: [{operation: api.get}]
noise: {deploys_per_hour: 6, config_changes_per_hour: 6, bursts_per_hour: 6}
faults:
  none_share: 0.2
  onset_s: {min: 60, max: 90}
  mix:
    - {type: error_burst, targets: [db]}
    - {type: latency_spike, targets: [db]}
actions:
  restart: {delay_s: 5, settle_s: 15, cost: 0.002}
  rollback: {delay_s: 5, settle_s: 15, cost: 0.004}
  scale: {delay_s: 5, settle_s: 15, cost: 0.003, values: [1, -1]}
"""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Invoke = Callable[..., Result]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """Return the path of a small scenario."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return str(path)


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Return a function that runs ``mendsim`` with these arguments."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, out, err)

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``mendsim watch`` believe that there is a terminal, at which somebody goes to the end and quits."""
    from agent.commands import watch
    from agent.console.app import Console

    def run(app: Console) -> None:
        async def somebody() -> None:
            async with app.run_test() as pilot:
                while not app.live.finished:
                    # on call: whatever the agent advises
                    await pilot.press("enter", "e")
                    await asyncio.sleep(0.1)
                await pilot.press("q")

        asyncio.run(somebody())

    monkeypatch.setattr(watch, "at_terminal", lambda: True)
    monkeypatch.setattr(Console, "run", run)
