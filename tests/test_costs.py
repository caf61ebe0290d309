"""What the parts of an agent cost."""

import json

from tests.conftest import Invoke


def test_the_cost_of_every_part_that_is_named_is_told(tiny: str, invoke: Invoke) -> None:
    parts = ("--detector", "threshold,ewma", "--diagnoser", "max_z", "--policy", "playbook,expert")
    result = invoke("cost", "--scenario", tiny, "--episodes", 4, *parts, "--json", "--quiet")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    named = [(part["kind"], part["name"]) for part in found["parts"]]
    detectors = [("detector", "threshold"), ("detector", "ewma")]
    policies = [("policy", "playbook"), ("policy", "expert")]
    assert named == [*detectors, ("diagnoser", "max_z"), *policies]
    for part in found["parts"]:
        assert part["cpu_s"] > 0
        assert part["share"] > 0
    # of the same simulation: shares are as the times
    ratios = [part["share"] / part["cpu_s"] for part in found["parts"]]
    assert max(ratios) < 1.0001 * min(ratios)


def test_every_mistake_about_costs_is_told_at_once(invoke: Invoke) -> None:
    wrong = ("--detector", "treshold", "--diagnoser", "bayes,bayes", "--policy", "oracle_fair,learned,playbok")
    result = invoke("cost", "--scenario", "nowhere", *wrong)
    assert result.code == 2
    for words in ("nowhere", "did you mean 'threshold'", "names something twice", "looks ahead", "'playbook'"):
        assert words in result.err
    assert "policy learned learns from forks" in result.err
