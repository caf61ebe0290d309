"""The second process of a first use: what it compiles is what the first one needs."""

import os
import sys
from typing import Any

import numba
import pytest

from agent.commands.progress import Compiling
from agent.commands.setup import DEFAULTS
from agent.commands.warm import Helper, helper_for, main
from agent.detectors.forest import score_forests
from agent.diagnosers.evidence import weigh
from agent.evaluation.study import Study
from agent.policies.arms import worst_slot
from simcore.engines.registry import open_session
from simcore.kernels.batch import LARGE_PARTS
from simcore.model.inputs import make_run
from simcore.model.loader import load_scenario

MM4 = load_scenario("mm4")


def _entries(kernel: Any) -> set[Any]:
    """Return the keys of a kernel's entries in the cache on the disk."""
    return set(kernel._cache._cache_file._load_index())


def test_the_large_parts_have_the_types_that_the_event_loop_asks_for() -> None:
    open_session("batch", MM4, [make_run(MM4, seed=1, split="tune", run=0).inputs], threads=1).advance(
        MM4.timing.step_s
    )
    for kernel, types in LARGE_PARTS:
        before = _entries(kernel)
        assert before, f"{kernel.__name__} is not compiled by itself"
        kernel.compile(types)
        assert _entries(kernel) == before, f"{kernel.__name__} is wanted with other types"


def test_the_second_process_lets_every_part_of_the_agent_work() -> None:
    main(list(DEFAULTS.values()))
    for kernel in (score_forests, weigh, worst_slot):
        assert kernel.signatures, kernel.__name__


class _Noted(Helper):
    started = stopped = 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> None:
        self.stopped += 1


def test_the_helper_starts_with_the_first_kernel_to_compile_and_ends_with_the_work() -> None:
    helper = _Noted()
    with Compiling(quiet=True, helper=helper):
        assert helper.started == 0
        for number in (1, 2):
            numba.njit(lambda x, n=number: x + n)(1.0)
    assert (helper.started, helper.stopped) == (1, 1)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_helper_is_one_process_and_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/cat")
    helper = Helper("name")
    helper.start()
    process = helper._process
    helper.start()
    assert helper._process is process is not None
    helper.stop()
    assert process.returncode is not None
    helper.stop()


def test_only_the_batch_engine_has_a_helper() -> None:
    study = Study(scenario=MM4, seed=1, detector="a", diagnoser="b", policies=("c", "d"))
    assert helper_for(study, "simpy") is None
    helper = helper_for(study, "batch")
    assert helper is not None
    assert helper._parts == ("a", "b", "c")
    assert helper_for(Study(scenario=MM4, seed=1), "batch")._parts == ()  # type: ignore[union-attr]
