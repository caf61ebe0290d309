"""Scenario files: every mistake is reported at once, with path, rule, value and line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from simcore.errors import ScenarioError
from simcore.model.loader import build_scenario, load_scenario, schema, shipped
from simcore.model.scenario import Scenario
from simcore.model.visits import visits

GOOD = """\
name: shop
timing: {step_s: 1, steps: 400, follow_up_steps: 60}
services:
  api:
    threads: 8
    operations:
      browse:
        steps:
          - cpu: {mean_s: 0.01}
          - cached:
              to: cache.get
              keys: {count: 100}
              steps:
                - call: {to: db.query, timeout_s: 1}
  cache:
    cache: {slots: 50}
    operations:
      get: {}
  db:
    operations:
      query:
        steps:
          - cpu: {mean_s: 0.02, dist: lognormal, sigma: 0.4}
          - delay: {mean_s: 0.01}
workload:
  rate_rps: 10
  entries:
    - {operation: api.browse}
noise: {deploys_per_hour: 1, targets: [api, db]}
faults:
  onset_s: {min: 100, max: 200}
  mix:
    - {type: error_burst, targets: [db], places: {process: 1}}
    - {type: cache_flush}
    - {type: traffic_surge, duration_s: {min: 10, max: 20}}
actions:
  restart: {targets: [db]}
  scale: {values: [1, -1]}
  clear_cache: {}
  limit_traffic: {values: [0.7, 1.0]}
"""


def write(folder: Path, text: str | bytes, name: str = "shop.yaml") -> str:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


def mistakes(folder: Path, text: str | bytes, name: str = "shop.yaml") -> list[str]:
    """Return the lines of the error that a file raises, without the folder."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(folder, text, name))
    return str(caught.value).replace(str(folder) + "/", "").splitlines()


def change(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, GOOD))
    assert scenario.service_names == ("api", "cache", "db")
    assert scenario.services["api"].threads == 8


def test_the_same_scenario_in_toml_is_the_same_scenario(tmp_path: Path) -> None:
    text = """
name = "shop"
services.api = {threads = 8, operations.browse.steps = [{cpu = {mean_s = 0.01}}]}
[workload]
rate_rps = 10
entries = [{operation = "api.browse"}]
"""
    twin = """
name: shop
services: {api: {threads: 8, operations: {browse: {steps: [{cpu: {mean_s: 0.01}}]}}}}
workload: {rate_rps: 10, entries: [{operation: api.browse}]}
"""
    assert load_scenario(write(tmp_path, text, "shop.toml")) == load_scenario(write(tmp_path, twin))


def test_all_mistakes_are_reported_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = change("threads: 8", "threads: 0\n    queue: many").replace("rate_rps: 10", "rate: 10")
    text = text.replace("to: db.query, timeout_s: 1", "to: db.querry, timeout_s: 0")
    steps = "services.api.operations.browse.steps[1].cached.steps[0].call"
    assert mistakes(tmp_path, text) == [
        "shop.yaml:5: services.api.threads must be >= 1, got 0",
        "shop.yaml:6: services.api.queue must be a whole number, got 'many'",
        f"shop.yaml:15: {steps}.timeout_s must be > 0, got 0",
        "shop.yaml:26: workload.rate_rps is missing",
        "shop.yaml:27: workload.rate is not a known key; did you mean 'rate_rps'?",
    ]


def test_a_wrong_number_does_not_hide_a_wrong_name(tmp_path: Path) -> None:
    text = change("threads: 8", "threads: 0").replace("db.query,", "db.querry,")
    assert mistakes(tmp_path, text) == [
        "shop.yaml:5: services.api.threads must be >= 1, got 0",
        "shop.yaml:14: services.api.operations.browse.steps[1].cached.steps[0].call.to "
        "must name an operation of a service, got 'db.querry'; did you mean 'db.query'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("threads: 8", "thread: 8", "services.api.thread is not a known key; did you mean 'threads'?"),
        ("name: shop", "name: Shop", "name must be lower-case letters, digits and _, beginning with a letter"),
        ("name: shop", "name: 3", "name must be text, got 3"),
        ("threads: 8", "threads: 1.5", "services.api.threads must be a whole number, got 1.5"),
        ("threads: 8", "threads: true", "services.api.threads must be a whole number, got true"),
        (
            "threads: 8",
            "balancer: round_robbin",
            "must be one of round_robin, least_outstanding, random, power_of_two, got 'round_robbin'",
        ),
        ("threads: 8", "memory: 7", "services.api.memory must be a mapping, got 7"),
        ("threads: 8", "speed: .nan", "services.api.speed must be a finite number, got nan"),
        ("threads: 8", "speed: .inf", "services.api.speed must be a finite number, got inf"),
        ("threads: 8", "speed: 1e400", "services.api.speed must be a finite number, got inf"),
        ("threads: 8", f"threads: 1{'0' * 30}", "services.api.threads must be <= 10000, got 1000000"),
        ("threads: 8", f"threads: 1{'0' * 5000}", "services.api.threads must be a number of at most 4300 digits"),
        ("threads: 8", "replicas: {initial: 9, max: 3}", "services.api.replicas: min <= initial <= max must hold"),
        ("threads: 8", "memory: {base_bytes: 5, per_span_bytes: 5, limit_bytes: 10}", "limit_bytes must be > base_"),
        ("get: {}", "Get: {}", "services.cache.operations.Get: the name must be lower-case letters"),
        ("get: {}", "1: {}", "services.cache.operations.1: the name must be lower-case letters"),
        ("get: {}", "true: {}", "services.cache.operations keys must be text, got true; put it in quotes"),
        ("threads: 8", "shed_above: {10: 5}", "services.api.shed_above.10: the name must be <= 9, got 10"),
        ("threads: 8", "shed_above: {low: 5}", "services.api.shed_above.low: the name must be a whole number"),
        ("threads: 8", "shed_above: {1: few}", "services.api.shed_above.1 must be a whole number, got 'few'"),
        ("threads: 8", "shed_above: {1: 2, '1': 3}", "services.api.shed_above.1 is given twice"),
        ("get: {}", "<<: {get: {}}", "services.cache.operations merging with '<<' is not YAML 1.2"),
        (
            "get: {}",
            "get: {steps: [{wait: 3}]}",
            "must have exactly one of the keys cpu, delay, call, cached, lock, parallel, publish",
        ),
        (
            "get: {}",
            "get: {steps: [[1]]}",
            "steps[0] must have exactly one of the keys cpu, delay, call, cached, lock, parallel, publish, got a",
        ),
        ("get: {}", "get: !!binary aGk=", "services.cache.operations.get must be a plain value, got the tag"),
        ("delay: {mean_s: 0.01}", "delay: {mean_s: 0.01, sigma: 2}", "sigma must be absent unless dist is lognormal"),
        ("delay: {mean_s: 0.01}", "delay: {mean_s: -1}", "steps[1].delay.mean_s must be >= 0, got -1"),
        ("to: cache.get", "to: cache", "cached.to must have the form service.operation, got 'cache'"),
        ("to: cache.get", "to: db.query", "cached.to must name a service with a cache (cache), got 'db.query'"),
        ("delay: {mean_s: 0.01}", "call: {to: api.browse}", "the cycle api.browse -> db.query -> api.browse"),
        ("operation: api.browse", "operation: api.brows", "got 'api.brows'; did you mean 'api.browse'?"),
        (
            "targets: [api, db]",
            "targets: [apo]",
            "noise.targets[0] must name a service, got 'apo'; did you mean 'api'?",
        ),
        ("deploys_per_hour: 1", "deploys_per_hour: 1e8", "must give at most 1000 events in an episode"),
        ("deploys_per_hour: 1", "bursts_per_hour: 1, burst_s: {min: 0, max: 1}", "noise.burst_s.min must be > 0"),
        ("deploys_per_hour: 1", "bursts_per_hour: 1, burst_factor: {min: 0.5, max: 1}", "must lie in [1, 100]"),
        ("type: cache_flush", "type: cash_flush", "faults.mix[1].type must be one of latency_spike"),
        ("type: cache_flush", "type: none", "faults.mix[1].type must not be 'none'"),
        ("type: cache_flush", "type: cache_flush, targets: [db]", "faults.mix[1].targets[0] must be one of cache, got"),
        ("type: cache_flush", "type: cache_flush, profile: ramp", "faults.mix[1].profile must be one of once, pulses"),
        ("places: {process: 1}", "places: {content: 1}", "places.content is no place for error_burst; it may live in"),
        ("places: {process: 1}", "severity: {min: 0, max: 1}", "faults.mix[0].severity must lie in (0, 1], got 0 to 1"),
        ("places: {process: 1}", "severity: {min: 0.5}", "faults.mix[0].severity.max is missing"),
        ("duration_s: {min: 10, max: 20}", "duration_s: {min: 0, max: 20}", "duration_s must lie in (0, 1e9], got 0"),
        ("onset_s: {min: 100, max: 200}", "onset_s: {min: 100, max: 350}", "must leave a follow-up of 60 s before"),
        ("onset_s: {min: 100, max: 200}", "onset_s: {min: -1, max: 200}", "faults.onset_s.min must be >= 0, got -1"),
        ("onset_s: {min: 100, max: 200}", "onset_s: {min: 3, max: 1}", "faults.onset_s: min must be <= max, got 3"),
        ("clear_cache: {}", "clear_cash: {}", "actions.clear_cash is not a known action; they are noop, restart"),
        ("clear_cache: {}", "clear_cache: {targets: [db]}", "must name a service with a cache, got 'db'"),
        ("restart: {targets: [db]}", "restart: {targets: [dbb]}", "must name a service, got 'dbb'; did you mean 'db'?"),
        ("restart: {targets: [db]}", "restart: {values: [1]}", "actions.restart.values must be absent"),
        ("values: [1, -1]", "values: [1, 0.5]", "actions.scale.values[1] must be a whole number of replicas"),
        ("values: [1, -1]", "values: [1, 1]", "actions.scale.values must differ from each other"),
        ("values: [0.7, 1.0]", "values: [1.2]", "values[0] must be an admitted fraction in (0, 1], got 1.2"),
        ("values: [0.7, 1.0]", "targets: [api]", "actions.limit_traffic.targets must be absent"),
        ("rate_rps: 10", "rate_rps: 10\n  amplitude: 0.5", "amplitude must be absent unless shape is sinusoidal"),
        ("rate_rps: 10", "rate_rps: 10\n  factor: 2", "workload.factor must be absent unless shape is step or burst"),
        ("rate_rps: 10", "rate_rps: 10\n  shape: burst\n  from_s: 9", "workload.until_s must be > from_s = 9, got 0"),
        ("rate_rps: 10", "rate_rps: 10\n  timeout_s: 0.45", "slo.latency_s must be <= workload.timeout_s = 0.45"),
    ],
)
def test_a_mistake_names_path_and_rule_and_value(tmp_path: Path, old: str, new: str, rule: str) -> None:
    text = change(old, new)
    found = mistakes(tmp_path, text)
    assert len(found) == 1, found
    assert rule in found[0]
    assert re.match(r"shop\.yaml:\d+: ", found[0])


RECORDED = {
    "none": ({}, "workload.series must have at least 1 item if shape is series and there is no series_csv"),
    "same time": ({"series": [(0, 1), (0, 2)]}, "workload.series[1].time_s must be > 0, that of the point before"),
    "back": ({"series": [(0, 1), (5, 2), (4, 2)]}, "workload.series[2].time_s must be > 5, that of the point before"),
    "silent": ({"series": [(0, 0), (5, 0)]}, "workload.series must have a point with a factor > 0"),
    "negative": ({"series": [(0, -1)]}, "workload.series[0].factor must be >= 0, got -1"),
    "both": ({"series": [(0, 1)], "series_csv": "a.csv"}, "series_csv must be absent if series is given, got 'a.csv'"),
    "shape": ({"shape": "constant", "series": [(0, 1)]}, "workload.series must be absent unless shape is series"),
    "csv and shape": ({"shape": "constant", "series_csv": "a.csv"}, "series_csv must be absent unless shape is series"),
    "no file": ({"series_csv": "a.csv"}, "series_csv must be absent in a scenario that is read from no file"),
    "other keys": ({"series": [(0, 1)], "factor": 2.0}, "workload.factor must be absent unless shape is step or burst"),
    "no number": ({"series_csv": 3}, "workload.series_csv must be text, got 3"),
}


def refused(**parts: Any) -> list[str]:
    """Return the mistakes in a small scenario with these parts."""
    plain: dict[str, Any] = {
        "name": "plain",
        "services": {"web": {"operations": {"get": {}}}},
        "workload": {"rate_rps": 10.0, "entries": [{"operation": "web.get"}]},
    }
    for path, value in parts.items():
        plain[path] = plain.get(path, {}) | value
    with pytest.raises(ScenarioError) as caught:
        build_scenario(plain)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("case", RECORDED)
def test_recorded_rates_come_in_one_way_and_in_order(case: str) -> None:
    given, rule = RECORDED[case]
    points = [{"time_s": float(t), "factor": float(factor)} for t, factor in given.get("series", [])]
    (found,) = refused(workload={"shape": "series"} | given | ({"series": points} if points else {}))
    assert rule in found


@pytest.mark.parametrize(
    ("workload", "rule"),
    [
        ({"shape": "step", "factor": 2.0}, "workload.shape must be constant if there are closed users"),
        ({"closed": {"users": 3, "think": {"mean_s": 0.0}}}, "workload.closed.think.mean_s must be > 0, got 0"),
        ({"closed": {"users": 3, "think": {"mean_s": 1.0, "shape": 3.0}}}, "think.shape must be absent unless dist is"),
        ({"closed": {"users": 0, "think": {"mean_s": 1.0}}}, "workload.closed.users must be >= 1, got 0"),
        ({"amplitude": 0.5}, "workload.amplitude must be absent unless shape is sinusoidal"),
    ],
)
def test_what_means_nothing_to_users_who_think_is_refused(workload: dict[str, Any], rule: str) -> None:
    (found,) = refused(workload={"closed": {"users": 3, "think": {"mean_s": 1.0}}} | workload)
    assert rule in found


@pytest.mark.parametrize(
    ("replicas", "autoscaler", "rule"),
    [
        ({"min": 2, "initial": 2, "max": 2}, {}, "autoscaler must be absent unless replicas.min < replicas.max, got 2"),
        ({}, {"target": 1.0}, "autoscaler.target must be < 1 / (1 + tolerance) = 0.9091 (or it never adds a replica)"),
        ({}, {"target": 0.5, "tolerance": 1.0}, "autoscaler.target must be < 1 / (1 + tolerance) = 0.5 "),
        ({}, {"target": 0.0}, "autoscaler.target must be > 0, got 0"),
        ({}, {"every_steps": 0}, "autoscaler.every_steps must be >= 1, got 0"),
    ],
)
def test_an_autoscaler_must_be_able_to_act(replicas: dict[str, Any], autoscaler: dict[str, Any], rule: str) -> None:
    web = {"operations": {"get": {}}, "replicas": replicas, "autoscaler": autoscaler}
    (found,) = refused(services={"web": web})
    assert rule in found


@pytest.mark.parametrize(
    ("cache", "replicas", "cached", "rule"),
    [
        ({"copies": 3}, 9, {}, "services.kv.cache.copies must be absent unless a cached step has replicated keys"),
        ({"negative_ttl_s": 3.0}, 9, {}, "kv.cache.negative_ttl_s must be absent unless a cached step has absent keys"),
        ({"copies": 1}, 9, {"replicated": 2}, "keys.replicated must be absent unless the cache has copies > 1 and"),
        ({}, 1, {"replicated": 2}, "keys.replicated must be absent unless the cache has copies > 1 and replicas.max"),
        ({}, 9, {"replicated": 6}, "services.web.operations.get.steps[0].cached.keys.replicated must be <= count = 5"),
        ({}, 9, {"coalesce": True}, "cached.coalesce must be absent unless there are steps to run once, got True"),
        ({}, 9, {"absent": 1.5}, "cached.keys.absent must be <= 1, got 1.5"),
    ],
)
def test_what_a_cache_cannot_do_alone_is_refused(
    cache: dict[str, Any], replicas: int, cached: dict[str, Any], rule: str
) -> None:
    keys = {"count": 5} | {key: value for key, value in cached.items() if key != "coalesce"}
    step = {"cached": {"to": "kv.get", "keys": keys, "coalesce": "coalesce" in cached}}
    kv = {"operations": {"get": {}}, "cache": {"slots": 9} | cache, "replicas": {"max": replicas}}
    (found,) = refused(services={"web": {"operations": {"get": {"steps": [step]}}}, "kv": kv})
    assert rule in found


def test_what_caches_users_and_autoscalers_can_do_together_is_accepted() -> None:
    keys = {"count": 5, "absent": 0.5, "replicated": 2}
    step = {"cached": {"to": "kv.get", "keys": keys, "coalesce": True, "steps": [{"delay": {"mean_s": 0.01}}]}}
    shard = {"slots": 9, "negative_ttl_s": 2.0, "copies": 3}
    scenario = build_scenario(
        {
            "name": "full",
            "services": {
                "web": {"operations": {"get": {"steps": [step]}}, "autoscaler": {}},
                "kv": {"operations": {"get": {}}, "cache": shard},
            },
            "workload": {
                "rate_rps": 10.0,
                "entries": [{"operation": "web.get"}],
                "closed": {"users": 3, "think": {"mean_s": 1.0}},
            },
        }
    )
    assert scenario.workload.closed is not None
    assert scenario.workload.closed.users == 3


# --- recorded rates in a file


def recorded(folder: Path, rates: str | bytes | None) -> str:
    """Write a scenario with recorded rates, and the rates; return its path."""
    if rates is not None:
        write(folder, rates, "rates.csv")
    return write(folder, change("rate_rps: 10", "rate_rps: 10\n  shape: series\n  series_csv: rates.csv"))


def test_recorded_rates_are_multiples_of_the_rate(tmp_path: Path) -> None:
    scenario = load_scenario(recorded(tmp_path, "time_s,rate_rps\n-5,10\n0,2.5\n60,1e2\n"))
    assert [(point.time_s, point.factor) for point in scenario.workload.series] == [(-5, 1.0), (0, 0.25), (60, 10.0)]
    assert scenario.workload.series_csv is None
    # windows line ends, a byte order mark, the columns the other way round: the same rates
    twin = load_scenario(recorded(tmp_path, b"\xef\xbb\xbfrate_rps,time_s\r\n10,-5\r\n2.5,0\r\n100,60\r\n"))
    assert twin == scenario
    assert Scenario.model_validate(scenario.model_dump()) == scenario


def test_the_digest_covers_the_recorded_rates(tmp_path: Path) -> None:
    one, other = (load_scenario(recorded(tmp_path, f"time_s,rate_rps\n0,{rate}\n")).digest for rate in (10.0, 10.5))
    assert one != other
    listed = change("rate_rps: 10", "rate_rps: 10\n  shape: series\n  series: [{time_s: 0, factor: 1}]")
    assert load_scenario(write(tmp_path, listed)).digest == one


BROKEN: dict[str, tuple[str | bytes | None, str]] = {
    "missing": (None, "rates.csv: no such file beside the scenario"),
    "empty": ("", "rates.csv: must have the columns time_s, rate_rps, got nothing"),
    "no rows": ("time_s,rate_rps\n", "rates.csv: must have a row with a rate_rps > 0"),
    "no text": (b"time_s,rate_rps\n0,\xff\n", "rates.csv: is not UTF-8 text (byte 18)"),
    "columns": ("time,rate\n0,1\n", "rates.csv:1: must have the columns time_s, rate_rps, got time,rate"),
    "a column twice": (
        "time_s,time_s\n0,1\n",
        "rates.csv:1: must have the columns time_s, rate_rps, got time_s,time_s",
    ),
    "three columns": (
        "time_s,rate_rps,x\n0,1,2\n",
        "rates.csv:1: must hold time_s and rate_rps, separated by one comma",
    ),
    "a third value": ("time_s,rate_rps\n0,1\n1,2,3\n", "rates.csv:3: must hold time_s and rate_rps, separated by"),
    "a blank line": ("time_s,rate_rps\n0,1\n\n1,2\n", "rates.csv:3: must hold time_s and rate_rps, separated by"),
    "no number": ("time_s,rate_rps\n0,1\n1,fast\n", "rates.csv:3: rate_rps must be a finite number, got 'fast'"),
    "nothing": ("time_s,rate_rps\n0,1\n,2\n", "rates.csv:3: time_s must be a finite number, got nothing"),
    "nan": ("time_s,rate_rps\n0,nan\n", "rates.csv:2: rate_rps must be a finite number, got 'nan'"),
    "quotes": ('time_s,rate_rps\n0,"1"\n', "rates.csv:2: rate_rps must be a finite number, got '\"1\"'"),
    "negative": ("time_s,rate_rps\n0,1\n1,-2\n", "rates.csv:3: rate_rps must lie between 0 and 100 times workload."),
    "too much": ("time_s,rate_rps\n0,1001\n", "between 0 and 100 times workload.rate_rps = 10, got 1001"),
    "back in time": ("time_s,rate_rps\n0,1\n0,2\n", "rates.csv:3: time_s must be > 0, that of the line before, got 0"),
    "silence": ("time_s,rate_rps\n0,0\n9,0\n", "rates.csv: must have a row with a rate_rps > 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_recording_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    rates, rule = BROKEN[case]
    path = recorded(tmp_path, rates)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    (found,) = str(caught.value).splitlines()
    line = line_of(Path(path).read_text(), "series_csv")
    assert found.startswith(f"{path}:{line}: workload.series_csv: rates.csv:")
    assert rule in found


def test_all_mistakes_of_a_recording_are_listed_beside_the_others(tmp_path: Path) -> None:
    path = recorded(tmp_path, "time_s,rate_rps\n0,a\n1,b\n2,3\n")
    Path(path).write_text(Path(path).read_text().replace("threads: 8", "threads: 0"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert [line.rpartition(" ")[2] for line in str(caught.value).splitlines()] == ["0", "'a'", "'b'"]


def test_a_recording_that_is_wrong_throughout_is_not_listed_throughout(tmp_path: Path) -> None:
    path = recorded(tmp_path, "time_s,rate_rps\n" + "x,y\n" * 100)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("rates.csv: and 190 more mistakes")


def test_a_recording_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path, "time_s,rate_rps\n" + "".join(f"{i},1\n" for i in range(100_001)))
    with pytest.raises(ScenarioError, match=r"rates\.csv: must have at most 100000 rows, got 100001"):
        load_scenario(path)


def test_a_mistake_names_the_line_of_its_key(tmp_path: Path) -> None:
    text = change("- delay: {mean_s: 0.01}", "- delay:\n              mean_s: -1")
    (found,) = mistakes(tmp_path, text)
    assert found.startswith(f"shop.yaml:{line_of(text, 'mean_s: -1')}: ")


def test_a_key_given_twice_names_both_lines(tmp_path: Path) -> None:
    text = change("threads: 8", "threads: 8\n    threads: 9")
    assert mistakes(tmp_path, text) == ["shop.yaml:6: services.api.threads is given twice, first in line 5"]


def test_too_many_steps_are_refused() -> None:
    inner = [{"cached": {"to": "c.get", "keys": {"count": 1}, "steps": [{"cpu": {"mean_s": 0}}] * 64}}] * 64
    data = {
        "name": "long",
        "services": {
            "a": {"operations": {"o": {"steps": inner}}},
            "c": {"cache": {"slots": 1}, "operations": {"get": {}}},
        },
        "workload": {"rate_rps": 1, "entries": [{"operation": "a.o"}]},
    }
    with pytest.raises(ScenarioError, match=r"a\.operations\.o\.steps must be at most 4000 in all.*got 4160"):
        build_scenario(data)


def test_cached_steps_inside_too_many_others_are_refused() -> None:
    step: dict[str, object] = {"cpu": {"mean_s": 0}}
    for _ in range(61):
        step = {"cached": {"to": "c.get", "keys": {"count": 1}, "steps": [step]}}
    data = {
        "name": "deep",
        "services": {
            "a": {"operations": {"o": {"steps": [step]}}},
            "c": {"cache": {"slots": 1}, "operations": {"get": {}}},
        },
        "workload": {"rate_rps": 1, "entries": [{"operation": "a.o"}]},
    }
    with pytest.raises(ScenarioError, match="must not lie in 60 or more other cached steps"):
        build_scenario(data)


def test_yes_and_times_of_day_are_text_as_yaml_1_2_has_it(tmp_path: Path) -> None:
    text = change("name: shop", "name: no\ndescription: 12:30")
    scenario = load_scenario(write(tmp_path, text))
    assert (scenario.name, scenario.description) == ("no", "12:30")


def test_priorities_are_keys_with_or_without_quotes_and_in_toml(tmp_path: Path) -> None:
    for shed in ("{0: 9, 1: 5}", "{'0': 9, \"1\": 5}"):
        scenario = load_scenario(write(tmp_path, change("threads: 8", f"shed_above: {shed}")))
        assert scenario.services["api"].shed_above == {0: 9, 1: 5}
    text = (
        'name = "x"\n[services.api]\nshed_above = {0 = 9, 1 = 5}\noperations = {get = {}}\n'
        '[workload]\nrate_rps = 1\nentries = [{operation = "api.get"}]\n'
    )
    assert load_scenario(write(tmp_path, text, "x.toml")).services["api"].shed_above == {0: 9, 1: 5}


def test_data_with_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"timing\[3\]: keys must be text"):
        build_scenario({"name": "x", "timing": {3: 1}, "services": {}, "workload": {}})


def test_an_alias_is_written_out(tmp_path: Path) -> None:
    text = change("- cpu: {mean_s: 0.01}", "- &work {cpu: {mean_s: 0.01}}\n          - *work")
    steps = load_scenario(write(tmp_path, text)).services["api"].operations["browse"].steps
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "shop.yaml", "a scenario must be a mapping of keys to values, got nothing"),
        ("# nothing\n", "shop.yaml", "a scenario must be a mapping of keys to values, got nothing"),
        ("- a\n- b\n", "shop.yaml", "a scenario must be a mapping of keys to values, got a list"),
        ("42", "shop.yaml", "a scenario must be a mapping of keys to values, got 42"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "shop.yaml", "shop.yaml: is not UTF-8 text (byte 0)"),
        (b"a\x00b: 1", "shop.yaml", "shop.yaml: not valid YAML: "),
        ("name: [1, 2\nb: 3\n", "shop.yaml", r"shop.yaml:\d: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "shop.yaml", "shop.yaml:2: not valid YAML: but found another document"),
        ("a: &x [*x]\n", "shop.yaml", "shop.yaml:1: not valid YAML: an alias that contains itself"),
        ("[" * 5000, "shop.yaml", "shop.yaml: not valid YAML: nested too deeply"),
        ("name = \n", "shop.toml", "shop.toml:1: not valid TOML: Invalid value"),
        ("a = " + "[" * 5000, "shop.toml", "shop.toml: not valid TOML: nested too deeply"),
        ("", "shop.toml", "shop.toml: name is missing"),
        ("{}", "shop.json", "shop.json:1: name is missing"),
        ("name: x", "shop.txt", "shop.txt: a scenario file must end in .yaml, .yml, .json or .toml"),
    ],
)
def test_what_is_no_scenario_is_refused_in_words(tmp_path: Path, text: str | bytes, name: str, message: str) -> None:
    assert (
        re.match(re.escape(message).replace(r"\\d", r"\d"), mistakes(tmp_path, text, name)[0])
        or message in (mistakes(tmp_path, text, name)[0])
    )


def test_aliases_cannot_blow_a_file_up(tmp_path: Path) -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 9)]
    (found,) = mistakes(tmp_path, "\n".join(rows))
    assert "must hold at most 100000 values" in found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: no such file"):
        load_scenario(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ScenarioError, match="is a folder, not a scenario file"):
        load_scenario(str(tmp_path) + "/")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario("a." * 5000)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as stream:
        stream.truncate(20_000_000)
    with pytest.raises(ScenarioError, match="must be at most 10000000 bytes long, got 20000000"):
        load_scenario(str(file))


def test_an_unknown_name_is_answered_with_the_closest_one() -> None:
    with pytest.raises(ScenarioError, match="there is no scenario 'three_teir'; did you mean 'three_tier'"):
        load_scenario("three_teir")
    with pytest.raises(ScenarioError, match="zero byte"):
        load_scenario("a\0.yaml")


def test_toml_mistakes_come_without_a_line(tmp_path: Path) -> None:
    text = 'name = "x"\nservices.a = {threads = 0, operations.o = {}}\n'
    text += 'workload = {rate_rps = 1, entries = [{operation = "a.o"}]}\n'
    assert mistakes(tmp_path, text, "shop.toml") == ["shop.toml: services.a.threads must be >= 1, got 0"]


def test_visits_count_spans_per_request(tmp_path: Path) -> None:
    # 50 slots hold the most popular half of 100 keys: the rest of the harmonic sum misses.
    harmonic = [1.0 / rank for rank in range(1, 101)]
    miss = sum(harmonic[50:]) / sum(harmonic)
    assert visits(load_scenario(write(tmp_path, GOOD))) == pytest.approx((1.0, 1.0, miss))


def test_visits_count_calls_inside_locks_and_branches_and_keys_that_do_not_exist() -> None:
    leaf = {"operations": {"get": {"steps": []}}}
    read = {"to": "cache.get", "keys": {"count": 10, "absent": 0.4}, "steps": [{"call": {"to": "db.get"}}]}
    steps = [
        {"lock": {"name": "row", "steps": [{"call": {"to": "db.get", "probability": 0.5}}]}},
        {"parallel": {"branches": [{"to": "db.get"}, {"to": "ads.get", "probability": 0.25}]}},
        {"cached": read},
    ]
    web = {"operations": {"get": {"steps": steps}}}
    data = {
        "name": "nested",
        "services": {"web": web, "db": leaf, "ads": leaf, "cache": leaf | {"cache": {"slots": 10}}},
        "workload": {"rate_rps": 1, "entries": [{"operation": "web.get"}]},
    }
    assert visits(build_scenario(data)) == pytest.approx((1.0, 0.5 + 1.0 + 0.4, 0.25, 1.0))


def test_a_dump_of_a_scenario_is_the_scenario() -> None:
    for name in shipped():
        scenario = load_scenario(name)
        assert build_scenario(json.loads(scenario.model_dump_json())).digest == scenario.digest


# The shipped files, and the schema. -----------------------------------------------------------------------------


def conforms(value: Any, node: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Return whether a value conforms to the part of JSON Schema that pydantic writes."""
    if "$ref" in node:
        return conforms(value, whole["$defs"][node["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in node or "oneOf" in node:
        matches = [conforms(value, option, whole) for option in node.get("anyOf", node.get("oneOf", []))]
        return sum(matches) == 1 if "oneOf" in node else any(matches)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_a = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "number": number,
        "integer": isinstance(value, int) and number,
        "boolean": isinstance(value, bool),
        "null": value is None,
    }
    if "type" in node and not is_a[node["type"]]:
        return False
    if "enum" in node and value not in node["enum"]:
        return False
    if number and not (
        node.get("minimum", value) <= value <= node.get("maximum", value)
        and node.get("exclusiveMinimum", value - 1) < value < node.get("exclusiveMaximum", value + 1)
    ):
        return False
    if isinstance(value, str) and not (
        len(value) <= node.get("maxLength", len(value)) and re.search(node.get("pattern", ""), value)
    ):
        return False
    if isinstance(value, list):
        return node.get("minItems", 0) <= len(value) <= node.get("maxItems", len(value)) and all(
            conforms(item, node.get("items", {}), whole) for item in value
        )
    if isinstance(value, dict):
        known, more = dict(node.get("properties", {})), node.get("additionalProperties", True)
        for pattern, child in node.get("patternProperties", {}).items():
            known |= {key: child for key in value if re.search(pattern, key)}
        names = node.get("propertyNames", {})
        return (
            set(node.get("required", ())) <= value.keys()
            and len(value) >= node.get("minProperties", 0)
            and all(key in known or more is not False for key in value)
            and all(conforms(key, names, whole) for key in value)
            and all(
                conforms(item, known.get(key, more if isinstance(more, dict) else {}), whole)
                for key, item in value.items()
            )
        )
    return True


def plain(name: str) -> Any:
    from simcore.model.documents import read_document

    return read_document(shipped()[name]).data


@pytest.mark.parametrize("name", ["three_tier", "online_boutique", "mm4", "w2", "w2_hot"])
def test_a_shipped_file_conforms_to_the_json_schema(name: str) -> None:
    assert name in shipped()
    assert conforms(plain(name), schema(), schema())
    assert load_scenario(name).name == name


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), None),
        (("name",), "Three Tier"),
        (("services", "api", "threads"), 0),
        (("services", "api", "thread"), 8),
        (("services", "api", "operations", "browse", "steps", 0), {"cpu": {"mean_s": 1}, "delay": {"mean_s": 1}}),
        (("services", "Api"), {"operations": {"o": {}}}),
        (("workload", "entries"), []),
        (("workload", "shape"), "square"),
        (("slo", "bad_frac"), 1),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(path: tuple[str | int, ...], value: Any) -> None:
    data = plain("three_tier")
    holder = data
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    assert not conforms(data, schema(), schema())
    with pytest.raises(ScenarioError):
        build_scenario(data)


def test_every_key_of_the_schema_says_what_it_is() -> None:
    documented = [node for node in schema()["$defs"].values() if "description" in node]
    assert len(documented) == len(schema()["$defs"])
    assert schema()["title"] == Scenario.__name__


def test_w1_is_a_queue_with_four_servers_and_200000_customers() -> None:
    s = load_scenario("mm4")
    assert s.workload.rate_rps * s.timing.steps * s.timing.step_s == 200_000
    assert (s.services["desk"].threads, s.services["desk"].cores) == (4, 4)


def test_w2_is_the_workload_of_the_performance_contract() -> None:
    for name, rate, timeouts, retries in (("w2", 100, (30, 30), (0, 0)), ("w2_hot", 180, (1, 0.1), (2, 2))):
        s = load_scenario(name)
        assert (s.workload.rate_rps, s.timing.steps, s.timing.step_s, s.timing.burn_in_steps) == (rate, 240, 1, 0)
        assert [(v.threads, v.cores) for v in s.services.values()] == [(8, 8), (4, 4), (8, 8)]
        calls = [s.call_of(i) for i in range(2)]
        assert [c.probability for c in calls] == [1, 0.3]
        assert tuple(c.timeout_s for c in calls) == timeouts
        assert tuple(c.retries for c in calls) == retries


def test_online_boutique_has_ten_services_or_more() -> None:
    assert len(load_scenario("online_boutique").services) >= 10
