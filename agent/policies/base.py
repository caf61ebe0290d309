"""What policies share: nothing learned, nothing to save, and the step from arms to actions."""

__all__ = ["FixedPolicy", "check_owner", "pick"]

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.api import Choices, Decision
from simcore.errors import InputError
from simcore.observation import ActionTable, Topology

Ints = npt.NDArray[np.int64]


class FixedPolicy:
    """A policy that does not learn; subclasses add ``decide``."""

    name: ClassVar[str]

    def start(self, topology: Topology, actions: ActionTable) -> None:
        """Begin a batch."""

    def merge(self, decisions: Sequence[Decision]) -> None:
        """Learn nothing."""

    def freeze(self) -> None:
        """Change nothing: there is no exploration."""

    def state(self) -> dict[str, Any]:
        """Return the name and version; there is nothing learned."""
        return {"version": 1, "name": self.name}

    def load(self, state: dict[str, Any]) -> None:
        """Check that the state is this policy's.

        Raises
        ------
        InputError
            If it is not.
        """
        check_owner(state, self.name)


def check_owner(state: dict[str, Any], name: str) -> None:
    """Check that a state was saved by the policy of this name.

    Raises
    ------
    InputError
        If it was not.
    """
    if state.get("name") != name or state.get("version") != 1:
        raise InputError(f"policy state: expected {name} version 1, got {state.get('name')} {state.get('version')}")


def pick(action: Ints, explain: Callable[[int], str]) -> Choices:
    """Return certain choices (row,) of a policy without expectations."""
    return Choices(action, np.ones(action.size), np.full(action.size, np.nan), explain)
