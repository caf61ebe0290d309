"""Which policies learn, and how one that has learned is frozen for a test."""

__all__ = ["frozen", "learns", "needs_state"]

from typing import Any

from agent.api import Policy
from agent.policies.base import FixedPolicy
from agent.registry import make_policy


def learns(name: str) -> bool:
    """Return whether a registered policy changes by playing."""
    return not isinstance(make_policy(name), FixedPolicy) and not needs_state(name)


def needs_state(name: str) -> bool:
    """Return whether a registered policy is of no use without a state, which playing does not give it."""
    return bool(getattr(make_policy(name), "from_forks", False))


def frozen(name: str, state: dict[str, Any] | None) -> Policy:
    """Return a registered policy that neither explores nor learns, with what it learned if that is given."""
    policy = make_policy(name)
    if state is not None:
        policy.load(state)
    policy.freeze()
    return policy
