"""The loop on threads: a task is reached by its address, and does what it would do if called."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from simcore.jit import njit, record_of, rows_of
from simcore.threads import address_of, on_threads, task_address

CELL = np.dtype([("value", "f8")], align=True)
JOB = np.dtype([("cells", "i8"), ("scale", "f8")], align=True)

job_of = record_of(JOB)
cell_at = rows_of(CELL, "cells")


@njit(internal=True)
def _scaled(job, i):  # type: ignore[no-untyped-def]
    return job.scale * cell_at(job, i).value


@njit(task=True)
def _scale(address, i):  # type: ignore[no-untyped-def]
    job = job_of(address)
    cell_at(job, i).value = _scaled(job, i)
    return i * i


@pytest.mark.parametrize("threads", [1, numba.config.NUMBA_NUM_THREADS])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_every_task_runs_once_and_its_result_is_at_its_place(n: int, threads: int) -> None:
    cells, job = np.zeros(n, CELL), np.zeros(1, JOB)
    cells["value"] = np.arange(n)
    job["cells"], job["scale"] = address_of(cells), 3.0
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        results = on_threads(_scale, job, n)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(results, np.arange(n) ** 2)
    assert np.array_equal(cells["value"], 3.0 * np.arange(n))


def test_a_task_has_one_address() -> None:
    assert task_address(_scale) == task_address(_scale) != 0


def test_rows_that_are_not_one_after_the_other_have_no_address() -> None:
    with pytest.raises(AssertionError):
        address_of(np.zeros(8)[::2])


PARTS = "from simcore.jit import njit\n\n\n@njit(internal=True)\ndef part(x):\n    return x + 1\n"
TASK = (
    "import numpy as np\nfrom simcore.jit import njit\nfrom simcore.parts import part\n"
    "from simcore.threads import on_threads\n\n\n"
    "@njit\ndef {name}(x):\n    return part(x)\n\n\n"
    "@njit(task=True)\ndef task(job, i):\n    return part(i)\n\n\n"
    "assert (on_threads(task, np.zeros(1), 9) == np.arange(1, 10)).all()\nassert {name}(1) == 2\n"
    "print(sum(task.stats.cache_hits.values()), sum(part.stats.cache_hits.values()))\n"
)


def test_tasks_and_the_kernels_they_call_come_from_the_cache(tmp_path: Path) -> None:
    package = tmp_path / "simcore"
    package.mkdir()
    root = Path(__file__).resolve().parent.parent / "simcore"
    for name in ("__init__", "jit", "patience", "threads"):
        (package / f"{name}.py").write_text((root / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")
    (package / "parts.py").write_text(PARTS, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MENDSIM_CACHE_DIR": str(tmp_path / "cache")}
    # the last one finds the part, but not what it is part of
    for name, expected in (("a", ["0", "0"]), ("a", ["1", "0"]), ("b", ["0", "1"])):
        (package / "tasks.py").write_text(TASK.format(name=name), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "simcore.tasks"], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == expected
