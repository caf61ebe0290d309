"""Loaders of recorded incidents, on tiny made-up files in the formats of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agent.evaluation.realdata import nezha, petshop, table
from agent.evaluation.realdata.case import N_SIGNALS, Case, incident_of
from agent.evaluation.realdata.sources import KINDS, load_cases
from agent.history import WINDOW, WIRE_S
from simcore.errors import InputError
from simcore.windows import Metric

SHOP, STOCK, BANK = range(3)
NODES = ("shop", "stock", "bank")


def write(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(str(cell) for cell in row) for row in rows) + "\n", encoding="utf-8")


def petshop_table(path: Path, start: int, latency: list[float], requests: float = 600.0) -> None:
    """Write a metrics file in which stock takes so long at every time, and its caller the same more."""
    metrics = [("latency", "Average"), ("latency", "p90"), ("latency", "p95"), ("requests", "Sum")]
    metrics.append(("availability", "Average"))
    heads = [(node, *metric) for node in NODES for metric in metrics]
    rows: list[list[object]] = [
        [name, *(head[i] for head in heads)] for i, name in enumerate(("microservice", "metric", "statistic"))
    ]
    rows.append(["unix_timestamp"] + [""] * len(heads))
    for i, slow in enumerate(latency):
        cells: list[object] = []
        for node in NODES:
            seconds = {"shop": 0.1 + slow, "stock": slow, "bank": 0.01}[node]
            asked = 0 if node == "bank" and i == 1 else requests
            cells += [
                seconds if asked else "",
                "",
                2 * seconds if asked else "",
                asked,
                98.0 if node == "shop" else 100,
            ]
        rows.append([start + 300 * i, *cells])
    write(path, rows)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write(
        tmp_path / "graph.csv", [["microservice", *NODES], ["shop", 0, 1, 1.0], ["stock", 0, 0, 0], ["bank", 0, 0, 0]]
    )
    rng = np.random.default_rng(1)
    petshop_table(tmp_path / "noissue" / "metrics.csv", 9_000_000, list(0.05 + 0.002 * rng.random(30)))
    for number, name in enumerate(("train/issue_0", "train/issue_10", "train/issue_2")):
        start = 1000 + 100_000 * number
        petshop_table(tmp_path / name / "metrics.csv", start, [0.05, 0.05, 0.4, 0.4, 0.05])
        target = {"node": "shop", "metric": "latency", "agg": "Average", "timestamp": start + 450}
        told = {"target": target, "root_cause": {"node": "stock", "metric": None}}
        (tmp_path / name / "target.json").write_text(json.dumps(told), encoding="utf-8")
    return tmp_path


def test_petshop_is_read_up_to_the_first_scrape_after_the_alarm(pets: Path) -> None:
    cases = petshop.load(pets)
    assert [case.name for case in cases] == ["train/issue_0", "train/issue_2", "train/issue_10"]
    case = cases[0]
    assert case.services == NODES
    assert np.argwhere(case.calls).tolist() == [[SHOP, STOCK], [SHOP, BANK]]
    assert (case.entry, case.truth, case.step_s, case.onset) == (SHOP, {STOCK}, 300.0, 2)
    assert case.series.shape == (3, 4, N_SIGNALS)
    assert case.normal.shape == (30, 4, N_SIGNALS)
    assert case.series[2, STOCK, Metric.REQUEST_RATE_RPS] == 2.0
    assert case.series[2, STOCK, Metric.P95_S] == pytest.approx(0.8)
    assert case.series[2, SHOP, Metric.ERROR_RATE] == pytest.approx(0.02)
    # Little's law: 2 requests a second that take 0.4 s
    assert case.series[2, STOCK, Metric.IN_FLIGHT] == pytest.approx(0.8)
    assert case.series[1, BANK, Metric.IN_FLIGHT] == 0.0
    assert np.isnan(case.series[1, BANK, Metric.P95_S])


def test_the_symptom_of_petshop_is_only_the_metric_that_raised_the_alarm(pets: Path) -> None:
    late = petshop.load(pets)[0]
    assert late.series[2, -1, Metric.P95_S] == late.series[2, SHOP, Metric.P95_S]
    assert np.isnan(late.series[:, -1, Metric.ERROR_RATE]).all()
    path = pets / "train" / "issue_0" / "target.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"latency"', '"availability"'), encoding="utf-8")
    failing = petshop.load(pets)[0]
    assert failing.series[2, -1, Metric.ERROR_RATE] == pytest.approx(0.02)
    assert np.isnan(failing.normal[:, -1, Metric.P95_S]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "graph.csv").unlink(), r"cannot read .*graph\.csv"),
        (lambda p: write(p / "graph.csv", [["", "a", "b"], ["a", 0, 1]]), "must be a square table"),
        (lambda p: write(p / "noissue" / "metrics.csv", [["time"], [1]]), "must begin with the rows microservice"),
        (lambda p: (p / "train" / "issue_2" / "target.json").write_text("{"), "issue_2.*must be JSON"),
        (lambda p: (p / "train" / "issue_2" / "target.json").write_text("{}"), "must hold target.node"),
        (
            lambda p: (p / "train" / "issue_2" / "target.json").write_text(
                (p / "train" / "issue_0" / "target.json").read_text().replace('"stock"', '"stick"')
            ),
            "root_cause.node must be a node of graph.csv, got 'stick'",
        ),
    ],
)  # fmt: skip
def test_a_petshop_folder_that_breaks_the_format_is_refused_with_file_and_rule(
    pets: Path, change: object, message: str
) -> None:
    change(pets)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        petshop.load(pets)


PODS = {"web": "web-5f-abc", "cart": "cart-77-x1z", "mail": "mail-9d-q7"}
POD_HEAD = [
    "Time", "TimeStamp", "PodName", "CpuUsageRate(%)", "MemoryUsageRate(%)", "PodServerLatencyP95(s)",
    "PodServerLatencyP99(s)", "PodWorkload(Ops)",
]  # fmt: skip
MINUTES = 60
FAULT_MINUTE = 40


def clock(minute: int, second: int = 19) -> str:
    return f"2022-08-22 {3 + minute // 60:02d}:{minute % 60:02d}:{second:02d}.6 +0000 UTC m=+1"


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    for service, pod in PODS.items():
        rows: list[list[object]] = [list(POD_HEAD)]
        for minute in range(MINUTES):
            busy = 80 if service == "cart" and FAULT_MINUTE < minute < FAULT_MINUTE + 4 else 10
            rows.append([clock(minute), 1_861_140_279, pod, busy + minute % 3, 50, 0.05 + 0.001 * (minute % 4), 0.1, 6])
        if service == "mail":
            rows[5] = ["garbage", *rows[5][1:]]
            rows[7] = rows[7][:4]
        write(tmp_path / f"{pod}_metric.csv", rows)
    write(tmp_path / "dependency.csv", [["Source", "Target", "Weight"], ["web", "cart", 1], ["mail", "10.0.0.1", 1]])
    for name, seen in (("source_50.csv", 0.03), ("destination_50.csv", 0.01)):
        rows = [["time", "timestamp", "web_mail", "web_cart"]]
        rows += [[clock(minute), 0, seen, 2 * seen] for minute in range(MINUTES)]
        write(tmp_path / name, rows)
    front: list[list[object]] = [
        ["Time", "TimeStamp", "ServiceName", "SuccessRate(%)", "LatencyP50(s)", "LatencyP95(s)"]
    ]
    front += [[clock(minute), 0, "Web", 90 if minute == 41 else 100, 0.1, 0.7] for minute in range(MINUTES)]
    write(tmp_path / "front_service.csv", front)
    fault = {"inject_time": clock(FAULT_MINUTE, 50)[:19], "inject_pod": PODS["cart"], "inject_type": "cpu_contention"}
    early = fault | {"inject_time": clock(30, 0)[:19], "inject_pod": PODS["mail"]}
    (tmp_path / "fault_list.json").write_text(json.dumps({"03": [early, fault]}), encoding="utf-8")
    return tmp_path


def test_nezha_is_read_by_its_times_in_words_and_garbage_is_left_out(pods: Path) -> None:
    early, case = nezha.load(pods)
    services = case.services
    web, cart, mail = (services.index(name) for name in ("web", "cart", "mail"))
    assert (early.truth, case.truth) == ({mail}, {cart})
    assert case.name == "03:40:50 cpu_contention"
    assert case.entry == web
    assert case.calls[web].tolist() == [name in ("cart", "mail") for name in services]
    assert case.series.shape == (WINDOW, 4, N_SIGNALS)
    # minutes 41 to 44 lie within the fault and one scrape after it
    assert WINDOW - case.onset == 4
    assert (case.series[case.onset : case.onset + 3, cart, Metric.CPU_UTIL] >= 0.8).all()
    assert case.series[case.onset, -1, Metric.ERROR_RATE] == pytest.approx(0.1)
    assert case.series[case.onset, web, Metric.ERROR_RATE] == pytest.approx(0.1)
    assert case.series[-1, cart, WIRE_S] == pytest.approx(0.04)
    assert case.series[-1, mail, WIRE_S] == pytest.approx(0.02)
    assert np.isnan(case.series[-1, web, WIRE_S])
    assert np.isnan(case.normal[:, mail, Metric.CPU_UTIL]).sum() == 2


def test_the_trouble_of_one_nezha_case_is_neither_normal_nor_past_for_another(pods: Path) -> None:
    _, case = nezha.load(pods)
    assert len(case.normal) == MINUTES - 2 * 5
    assert np.nanmax(case.normal[..., Metric.CPU_UTIL]) < 0.2
    before = case.series[: case.onset, 0, Metric.P95_S]
    assert np.isnan(before[30 - 21 : 35 - 21]).all()
    assert not np.isnan(before[: 30 - 21]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: [path.unlink() for path in p.glob("*_metric.csv")], "must hold a file POD_metric.csv"),
        (lambda p: (p / "fault_list.json").write_text("[]"), "must list faults with inject_time"),
        (lambda p: (p / "fault_list.json").write_text('{"03": []}'), "at least one fault"),
        (
            lambda p: (p / "fault_list.json").write_text(
                (p / "fault_list.json").read_text().replace("cart-77", "card-77")
            ),
            "inject_pod must have a metric file",
        ),
        (lambda p: write(p / "dependency.csv", [["a", "b"]]), "must begin with Source,Target"),
        (lambda p: write(p / "web-5f-abc_metric.csv", [["Time", "x"], [clock(1), 1]]), "must have the column CpuUsage"),
        (lambda p: write(p / "web-5f-abc_metric.csv", [POD_HEAD]), "found none"),
    ],
)  # fmt: skip
def test_a_nezha_folder_that_breaks_the_format_is_refused_with_file_and_rule(
    pods: Path, change: object, message: str
) -> None:
    change(pods)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        nezha.load(pods)


def common(folder: Path, *, parquet: bool = False, **told: object) -> Path:
    """Write a case in the common layout: db_1 takes longer from time 50 on."""
    folder.mkdir(parents=True, exist_ok=True)
    times = [float(t) for t in range(60)]
    columns = {"time": times, "web_cpu": [0.5] * 60, "web_p95": [0.2] * 50 + [0.6] * 10}
    columns |= {"db_1_p95": [0.1] * 50 + [0.5] * 10, "db_1_diskio": [1.0] * 60}
    frame = pl.DataFrame(columns)
    if parquet:
        frame.write_parquet(folder / "metrics.parquet")
    else:
        frame.write_csv(folder / "metrics.csv")
    case = {"root_cause": "db_1", "onset": 50.0} | told
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
    return folder


@pytest.mark.parametrize("parquet", [False, True])
def test_the_common_layout_is_read_from_csv_and_parquet(tmp_path: Path, parquet: bool) -> None:
    common(tmp_path / "set" / "one", parquet=parquet)
    write(tmp_path / "set" / "graph.csv", [["caller", "callee"], ["web", "db_1"]])
    (case,) = table.load(tmp_path / "set")
    assert case.name == "one"
    assert case.services == ("db_1", "web")
    assert case.calls.tolist() == [[False, False], [True, False]]
    assert (case.entry, case.truth, case.step_s) == (1, {0}, 1.0)
    assert len(case.normal) == 50
    assert WINDOW - case.onset == 10
    assert case.series[-1, 0, Metric.P95_S] == 0.5
    assert case.series[-1, -1, Metric.P95_S] == 0.6
    assert np.isnan(case.series[-1, 0, Metric.CPU_UTIL])


def test_a_case_may_say_when_it_is_diagnosed_and_where_it_shows(tmp_path: Path) -> None:
    common(tmp_path, diagnosed=52, entry="db_1", root_cause=["db_1", "web"])
    (case,) = table.load(tmp_path)
    assert (case.entry, case.truth) == (0, {0, 1})
    assert WINDOW - case.onset == 3
    assert not case.calls.any()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"root_cause": "db1"}, "root_cause must be a service of the table, got 'db1'; did you mean 'db_1'"),
        ({"onset": "soon"}, "must hold root_cause and onset, a number"),
        ({"onset": 99.0}, "onset must lie within metrics.csv"),
        ({"when": 1}, "may hold diagnosed, entry, onset, root_cause, got when"),
        ({"entry": "wbe"}, "entry must be a service"),
    ],
)
def test_a_case_that_breaks_the_layout_is_refused_with_file_and_rule(
    tmp_path: Path, told: dict[str, object], message: str
) -> None:
    common(tmp_path, **told)
    with pytest.raises(InputError, match=message):
        table.load(tmp_path)


def test_a_table_with_odd_rows_or_columns_is_refused(tmp_path: Path) -> None:
    common(tmp_path)
    (tmp_path / "metrics.csv").write_text("time,web_p95\n1,2\n2\n", encoding="utf-8")
    with pytest.raises(InputError, match="must have 2 cells in every row, not so in line 3"):
        table.load(tmp_path)
    (tmp_path / "metrics.csv").write_text("clock,web_p95\n1,2\n2,2\n3,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="must begin with the column time"):
        table.load(tmp_path)
    (tmp_path / "metrics.csv").write_text("time,web_p33\n1,2\n2,2\n3,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="must have columns <service>_<metric>"):
        table.load(tmp_path)


def test_sources_are_named_by_kind_and_folder(pets: Path) -> None:
    assert len(load_cases(f"petshop:{pets}")) == 3
    with pytest.raises(InputError, match="KIND one of nezha, petshop, table, got 'petshob:x'; did you mean 'petshop'"):
        load_cases("petshob:x")
    with pytest.raises(InputError, match="there is no folder"):
        load_cases(f"petshop:{pets / 'graph.csv'}")
    assert all(KINDS.values())


def test_a_case_becomes_a_batch_of_one_run_as_the_loop_would_hand_it_over(pets: Path) -> None:
    case: Case = petshop.load(pets)[0]
    incident = incident_of(case)
    history = incident.history
    assert history.ring.shape == (1, WINDOW, 4, N_SIGNALS)
    np.testing.assert_array_equal(history.ring[0, -3:], case.series)
    assert np.isnan(history.ring[0, :-3]).all()
    assert history.step - history.onset[0] == 0
    np.testing.assert_allclose(history.centre[0, STOCK, Metric.P95_S], case.normal[:, STOCK, Metric.P95_S].mean())
    np.testing.assert_array_equal(incident.observation.metrics[0], case.series[-1])
    # the deviation of stock is far beyond any alarm, that of a node as usual is not
    assert incident.detection.excess[0, STOCK] > 5
    assert incident.detection.excess[0, BANK] < 1
    assert incident.topology.entry == SHOP
