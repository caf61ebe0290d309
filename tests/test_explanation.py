"""Why a run came out as it did: the twins are what they say, and the first request to differ is the first."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agent.evaluation.explanation import Explanation, explain, first_divergence
from agent.evaluation.replay import replay_of
from simcore.codes import Event, Status
from simcore.eventlog import LOG
from simcore.telemetry.writers import read_table
from tests.conftest import TINY, Invoke

LINES = [
    (1.0, 7, 70, Event.OFFERED, 0),
    (1.0, 7, 70, Event.SENT, 2),
    (1.1, -1, 3, Event.ACTION_DONE, 1),
    (1.2, 8, 80, Event.OFFERED, 0),
    (1.4, 7, 70, Event.REPLIED, Status.OK),
    (1.9, 8, 80, Event.REPLIED, Status.ERROR),
]


def log_of(lines: list[tuple[float, int, int, Event, int]]) -> np.ndarray:
    return np.array([(t, request, span, int(event), int(aux)) for t, request, span, event, aux in lines], LOG)


def test_equal_logs_diverge_nowhere_and_what_belongs_to_no_request_does_not_count() -> None:
    without_action = [line for line in LINES if line[1] >= 0]
    assert first_divergence(log_of(LINES), log_of(LINES)) is None
    assert first_divergence(log_of(LINES), log_of(without_action)) is None
    assert first_divergence(log_of([]), log_of([])) is None


def test_the_first_divergence_names_the_request_and_what_became_of_it() -> None:
    other = [*LINES[:4], (1.3, 7, 70, Event.TIMED_OUT, 0), LINES[5]]
    found = first_divergence(log_of(LINES), log_of(other))
    assert found is not None
    assert (found.request, found.stream, found.time_s) == (7, 0, 1.3)
    assert found.here == "replied at 1.400 s"
    assert found.there == "timed out at 1.300 s"
    assert found.fate_here == "answered after 0.400 s"
    assert found.fate_there == "given up after 0.300 s"


def test_a_request_that_only_one_log_has_is_a_divergence() -> None:
    number = (3 << 40) + 5
    more = [*LINES, (2.0, number, 90, Event.OFFERED, 0), (2.0, number, 90, Event.SHED, 0)]
    found = first_divergence(log_of(LINES), log_of(more))
    assert found is not None
    assert (found.request, found.stream, found.time_s) == (5, 3, 2.0)
    assert (found.here, found.fate_here) == ("nothing more happens to it", "never sent")
    assert found.fate_there == "turned away"
    failed = first_divergence(log_of(LINES), log_of([*LINES[:5], (1.8, 8, 80, Event.REPLIED, Status.OK)]))
    assert failed is not None
    assert failed.fate_here == "failed after 0.700 s (error)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return results of noop and playbook on the same runs."""
    from agent.evaluation.study import Study, evaluate
    from simcore.model.loader import load_scenario
    from simcore.telemetry.writers import ResultsWriter, describe

    folder = tmp_path_factory.mktemp("results")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    scenario = load_scenario(str(folder / "tiny.yaml"))
    study = Study(
        scenario, seed=5, episodes=6, detector="threshold", diagnoser="max_score", policies=("noop", "playbook"),
        frozen=True,
    )  # fmt: skip
    metadata = describe(scenario, seed=study.seed, arguments=study.arguments())
    with ResultsWriter(folder / "rows.parquet", metadata=metadata) as writer:
        evaluated = evaluate(study, writer=writer)
        writer.close({"policy_states": evaluated.states})
    return folder / "rows.parquet"


def row_that_acts(results: Path) -> int:
    table = read_table(results).with_row_index()
    return int(
        table.filter((pl.col("policy") == "playbook") & (pl.col("actions") > 0) & pl.col("incident"))["index"][0]
    )


@pytest.fixture(scope="module")
def told(results: Path) -> Explanation:
    return explain(replay_of(results, row_that_acts(results)))


def test_the_twins_are_the_rows_that_a_study_gives(told: Explanation, results: Path) -> None:
    table = read_table(results)
    noop = table.filter((pl.col("policy") == "noop") & (pl.col("run") == told.played.row["run"])).row(0, named=True)
    for name in ("bad", "j", "t_v_s", "t_r_s", "error_budget_spent"):
        assert told.noop_row[name] == noop[name]
    assert told.played.differences == []
    assert told.clear_row["fault_type"] == "none"
    assert told.clear_row["bad"] <= told.noop_row["bad"]


def test_nothing_differs_before_the_fault_and_before_the_first_action(told: Explanation) -> None:
    episodes = told.played.episodes
    assert told.from_clear is not None
    assert told.from_noop is not None
    onset, effect = episodes.runs[0].faults[0].onset_s, min(record.effect_s for record in episodes.records)
    assert onset <= told.from_clear.time_s < onset + 2.0
    assert effect <= told.from_noop.time_s < effect + 10.0


def test_the_sentences_say_what_happened(told: Explanation) -> None:
    text = " ".join(told.sentences())
    for words in (
        "The fault is",
        "nobody acting",
        "(playbook) takes",
        "feel the fault",
        "feel the agent",
        "first decision",
    ):
        assert words in text
    assert "nan" not in text


def test_the_best_action_is_never_worse_than_what_was_done_on_its_futures(told: Explanation) -> None:
    best = told.best
    assert best is not None
    assert best.gain >= 0.0
    assert best.episodes.finished
    np.testing.assert_array_equal(best.episodes.bad[:, : best.step], told.played.episodes.bad[:, : best.step])


def test_both_engines_tell_the_same_story(told: Explanation, results: Path) -> None:
    other = explain(replay_of(results, row_that_acts(results)), engine="simpy", best=False)
    assert other.sentences() == told.sentences()[:-1]


def test_a_run_in_which_nobody_acts_does_not_differ_from_its_noop_twin(results: Path) -> None:
    story = explain(replay_of(results, 0), best=False)
    assert story.played.row["policy"] == "noop"
    assert story.from_noop is None
    assert story.best is None
    assert "It made no difference." in story.sentences()


def test_explain_tells_and_draws(results: Path, tmp_path: Path, invoke: Invoke) -> None:
    row = row_that_acts(results)
    result = invoke("explain", "--from", results, "--row", row, "--json", "--quiet")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["run"]["policy"] == "playbook"
    assert found["noop_twin"]["policy"] is None
    assert found["first_request_to_feel_the_agent"]["time_s"] > found["first_request_to_feel_the_fault"]["time_s"]
    assert "The fault is" in invoke("explain", "--from", results, "--row", row, "--no-best").out
    if importlib.util.find_spec("matplotlib") is not None:
        png = tmp_path / "why.png"
        assert invoke("explain", "--from", results, "--row", row, "--png", png).code == 0
        assert png.stat().st_size > 10_000


def test_what_cannot_be_explained_is_told_at_once(results: Path, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("explain", "--from", results, "--row", 999, "--png", tmp_path / "no" / "a.gif")
    assert result.code == 2
    for words in ("row 999 is not in", ".png or .svg", "there is no folder"):
        assert words in result.err
    assert "Traceback" not in result.err
