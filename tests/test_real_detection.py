"""Detectors on recorded machines: made-up files in the formats of the real ones, and the real ones where they are."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from agent.evaluation.detection import average_precision, block_counts, events, intervals, points
from agent.evaluation.realdata.detection import judge, machine_topology, means, recorded_detector
from agent.evaluation.realdata.series import Series, find_files, load_series
from agent.registry import DETECTORS
from simcore.errors import InputError
from tests.conftest import Invoke

N_CHANNELS = 6


def machine(n: int = 600, seed: int = 0, name: str = "m") -> Series:
    """Return a machine whose channels move together, and in whose test three things go wrong."""
    rng = np.random.default_rng(seed)
    load = np.sin(np.arange(2 * n) / 6)[:, None] * rng.uniform(0.25, 0.35, N_CHANNELS)
    values = 0.5 + load + rng.normal(0, 0.01, (2 * n, N_CHANNELS))
    values[:, 5] = 0.0
    label = np.zeros(n, np.bool_)
    test = values[n:]
    for first, last, change in ((100, 130, [0.6, 0, 0, 0, 0, 0]), (300, 320, [0, -0.2, 0.2, 0, 0, 0]),
                                (450, 480, [0, 0, 0, 0, 0, 1.0])):  # fmt: skip
        test[first:last] += change
        label[first:last] = True
    return Series(name, tuple(f"c{i}" for i in range(N_CHANNELS)), values[:n], test, label, 60.0)


def save(path: Path, series: Series, **changes: object) -> Path:
    arrays = {"train": series.train, "test": series.test, "label": series.label} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})  # type: ignore[arg-type]
    return path


def table(series: Series) -> pl.DataFrame:
    values = np.concatenate([series.train, series.test])
    assert series.label is not None
    label = np.concatenate([np.zeros(len(series.train), np.int64), series.label])
    time = 60.0 * np.arange(len(values))
    return pl.DataFrame({"time": time} | dict(zip(series.channels, values.T, strict=True)) | {"label": label})


# --- loading


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    made = machine()
    table(made).write_csv(tmp_path / "a.csv")
    table(made).write_parquet(tmp_path / "b.parquet")
    save(tmp_path / "c.npz", made)
    files = find_files([str(tmp_path)])
    assert [path.name for path in files] == ["a.csv", "b.parquet", "c.npz"]
    for path in files:
        loaded = load_series(path, train_share=0.5, step_s=60.0)
        np.testing.assert_allclose(loaded.train, made.train)
        np.testing.assert_allclose(loaded.test, made.test)
        np.testing.assert_array_equal(loaded.label, made.label)
        assert loaded.step_s == 60.0
        assert len(loaded.channels) == N_CHANNELS


def test_a_table_may_have_gaps_dates_and_no_labels(tmp_path: Path) -> None:
    rows = ["time,cpu,mem"] + [f"2024-01-01T{i // 60:02d}:{i % 60:02d}:00,{i % 7},{'' if i % 5 == 0 else 1}"
                               for i in range(200)]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(rows), encoding="utf-8")
    loaded = load_series(tmp_path / "a.csv", train_share=0.6, step_s=1.0)
    assert loaded.channels == ("cpu", "mem")
    assert loaded.train.shape == (120, 2)
    assert np.isnan(loaded.train[0, 1])
    assert loaded.label is None
    assert loaded.step_s == 60.0
    judged = judge("zscore", loaded, seed=0)
    assert judged.auc_pr is None
    assert judged.events is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": None}, "needs the arrays train and test, train missing"),
        ({"label": np.full(600, 2)}, "label must be 0 or 1, got 2"),
        ({"label": np.zeros(5)}, "label must have a value for each of 600 rows of test, got 5"),
        ({"train": np.zeros((600, 3))}, "same channels, got 3 and 6"),
        ({"train": np.zeros((10, 6))}, "at least 50 healthy rows are needed, got 10"),
        ({"test": np.full((600, 6), np.inf)}, "finite or missing, got inf"),
        ({"train": np.zeros(600)}, r"train must be \(row, channel\), got shape"),
        ({"train": np.full((600, 6), "x")}, "train must hold numbers"),
    ],
)
def test_a_broken_archive_is_refused_by_name_and_rule(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = save(tmp_path / "bad.npz", machine(), **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_series(path, train_share=0.5, step_s=60.0)
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "needs a column time"),
        ("time,b\n1,x\n2,y\n", "channel b must hold numbers"),
        ("time,b\n2,1\n1,1\n", "never go back"),
        ("time\n1\n", "at least one channel"),
        ("", "cannot be read"),
    ],
)
def test_a_broken_table_is_refused_by_name_and_rule(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_series(tmp_path / "bad.csv", train_share=0.5, step_s=60.0)


def test_all_missing_paths_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        find_files([str(tmp_path / "no.npz"), str(tmp_path / "empty"), str(tmp_path / "a.txt")])
    assert len(str(caught.value).splitlines()) == 3


# --- measures


def test_average_precision_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for score in (rng.normal(size=300), rng.integers(0, 5, 300).astype(float)):
        label = rng.random(300) < 0.2
        assert average_precision(score, label).item() == pytest.approx(average_precision_score(label, score))
        counts = block_counts(300, 4, rng)
        assert (counts.sum(1) == 300).all()
        for row, area in zip(counts, average_precision(score, label, counts), strict=True):
            expected = average_precision_score(np.repeat(label, row), np.repeat(score, row))
            assert area == pytest.approx(expected)


def test_points_and_events_count_what_they_say() -> None:
    label = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1], np.bool_)
    alarm = np.array([0, 0, 0, 1, 1, 1, 0, 1, 1, 1], np.bool_)
    assert intervals(label).tolist() == [[2, 5], [8, 10]]
    point = points(alarm, label)
    assert (point.precision, point.recall) == (4 / 6, 4 / 5)
    found = events(alarm, label, grace=0)
    # the second alarm was open before its event began
    assert (found.alarms, found.false_alarms, found.events, found.found, found.delay_steps) == (2, 1, 2, 1, 1.0)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)


def test_an_alarm_that_never_closes_finds_nothing() -> None:
    label = np.zeros(100, np.bool_)
    label[20:30] = label[60:70] = True
    found = events(np.ones(100, np.bool_), label, grace=3)
    assert (found.precision, found.recall, found.f1) == (0.0, 0.0, 0.0)


# --- judging


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_finds_what_no_healthy_row_shows(name: str) -> None:
    judged = judge(name, machine(), seed=1)
    assert judged.wrong_share == pytest.approx(80 / 600)
    assert judged.auc_pr is not None
    assert judged.low is not None
    assert judged.high is not None
    assert judged.auc_pr > 1.5 * judged.wrong_share
    assert judged.low <= judged.auc_pr + 0.1
    assert judged.high >= judged.auc_pr - 0.1


def test_what_channels_usually_do_together_is_learned() -> None:
    """The second trouble keeps every channel in its range, and only breaks their relation."""
    series = machine()
    for name, seen in (("zscore", False), ("mahalanobis", True), ("neighbours", True), ("pca", True)):
        detector = recorded_detector(name)
        detector.fit(series.train[None, :, None], machine_topology(series), seed=0)
        score = detector.replay(series.test[None, :, None], machine_topology(series), seed=0)[0, :, 0]
        healthy = np.quantile(score[220:300], 0.99)
        assert (np.median(score[300:320]) > 3 * healthy) == seen, name


def test_labels_and_later_rows_never_reach_the_scores() -> None:
    one = machine()
    other = Series("m", one.channels, one.train, one.test.copy(), ~one.label, 60.0)  # type: ignore[operator]
    other.test[300:] = 9.0

    def scores(series: Series) -> np.ndarray:
        detector = recorded_detector("ensemble")
        detector.fit(series.train[None, :, None], machine_topology(series), seed=0)
        return detector.replay(series.test[None, :, None], machine_topology(series), seed=0)[0, :, 0]

    np.testing.assert_array_equal(scores(one)[:300], scores(other)[:300])


def test_a_judgement_does_not_depend_on_what_else_is_judged() -> None:
    one, other = machine(name="one"), machine(seed=5, name="other")
    together = [judge("mahalanobis", series, seed=3) for series in (one, other)]
    alone = judge("mahalanobis", other, seed=3)
    assert (together[1].auc_pr, together[1].low, together[1].high) == (alone.auc_pr, alone.low, alone.high)
    (mean,) = means(together, seed=3)
    assert mean.auc_pr == pytest.approx((together[0].auc_pr + together[1].auc_pr) / 2)  # type: ignore[operator]
    assert mean.low <= mean.auc_pr <= mean.high  # type: ignore[operator]


# --- the command


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, invoke: Invoke) -> None:
    for i in range(2):
        save(tmp_path / f"machine-{i}.npz", machine(seed=i))
    out = tmp_path / "found.csv"
    command = [
        "detect",
        "evaluate",
        "--data",
        str(tmp_path / "machine-0.npz"),
        "--data",
        str(tmp_path / "machine-1.npz"),
        "--detector",
        "zscore,mahalanobis",
    ]
    result = invoke(*command, "--out", str(out))
    assert result.code == 0, result.err
    assert "mean of 2" in result.out
    written = pl.read_csv(out)
    assert written.height == 4
    assert invoke(*command, "--out", str(out)).code == 2
    told = json.loads(invoke(*command, "--json").out)
    assert [row["detector"] for row in told["means"]] == ["zscore", "mahalanobis"]
    areas = [row["auc_pr"] for row in told["machines"]]
    assert sorted(written["auc_pr"].to_list()) == pytest.approx(sorted(areas))


def test_the_command_tells_all_mistakes_at_once(tmp_path: Path, invoke: Invoke) -> None:
    bad = save(tmp_path / "bad.npz", machine(), label=np.full(600, 7))
    result = invoke("detect", "evaluate", "--data", str(bad), "--data", "nowhere.npz", "--detector", "zscor,ewma,ewma")
    assert result.code == 2
    for part in ("there is no nowhere.npz", "did you mean 'zscore'", "names something twice"):
        assert part in result.err
    result = invoke("detect", "evaluate", "--data", str(bad), "--out", str(tmp_path / "a.txt"))
    assert result.code == 2
    assert "label must be 0 or 1, got 7" in result.err
    assert "--out must name a .csv or .parquet file" in result.err


# --- the real sets

DATA = os.environ.get("MENDSIM_DATA")


@pytest.mark.skipif(DATA is None, reason="MENDSIM_DATA names no folder with the recorded sets")
@pytest.mark.parametrize(
    ("pattern", "goal", "best_reference"), [("machine-*.npz", 0.65, 0.54), ("omi-*.npz", 0.35, 0.28)]
)
def test_the_ensemble_reaches_the_goals_on_real_machines(pattern: str, goal: float, best_reference: float) -> None:
    files = sorted((Path(str(DATA)) / "smd_asd").glob(pattern))
    assert files
    judged = [judge("ensemble", load_series(path, train_share=0.5, step_s=60.0), seed=1) for path in files]
    (mean,) = means(judged, seed=1)
    assert mean.auc_pr is not None
    assert mean.auc_pr >= goal > best_reference
