"""The environments by name. Nothing of the simulator is imported before one is made."""

__all__ = ["NAMESPACE", "name_of", "register"]

import re
from importlib.resources import files

import gymnasium
from gymnasium.envs.registration import namespace

NAMESPACE = "mendsim"
_SINGLE, _VECTOR = "agent.environments.single:RemediationEnv", "agent.environments.vector:RemediationVectorEnv"


def name_of(scenario: str) -> str:
    """Return the environment of a shipped scenario: ``three_tier`` -> ``ThreeTier-v0``."""
    return "".join(part[:1].upper() + part[1:] for part in scenario.split("_")) + "-v0"


def register() -> None:
    """Register an environment for every shipped scenario, and ``Scenario-v0``, which takes ``scenario="FILE"``."""
    folder = files("simcore.model") / "scenarios"
    names = sorted(re.sub(r"\.yaml$", "", file.name) for file in folder.iterdir() if file.name.endswith(".yaml"))
    with namespace(NAMESPACE):
        for name in names:
            _register(name_of(name), {"scenario": name})
        _register("Scenario-v0", {})


def _register(name: str, keywords: dict[str, str]) -> None:
    if f"{NAMESPACE}/{name}" not in gymnasium.registry:
        # the horizon truncates by itself, so there is no limit of steps to wrap around it
        gymnasium.register(name, entry_point=_SINGLE, vector_entry_point=_VECTOR, kwargs=dict(keywords))
