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
        ("get: {}", "1: {}", "services.cache.operations keys must be text, got 1; put it in quotes"),
        ("get: {}", "<<: {get: {}}", "services.cache.operations merging with '<<' is not YAML 1.2"),
        ("get: {}", "get: {steps: [{wait: 3}]}", "must have exactly one of the keys cpu, delay, call, cached"),
        (
            "get: {}",
            "get: {steps: [[1]]}",
            "steps[0] must have exactly one of the keys cpu, delay, call, cached, got a",
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
