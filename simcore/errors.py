"""Every error mendsim raises on purpose.

::

    SimError                     anything below; one message each
    +-- InputError               the user's input is wrong (exit code 2)
    |   +-- ScenarioError        a scenario file breaks a rule
    |   +-- FaultError           a fault specification breaks a rule
    |   +-- ActionError          an action is not legal in this scenario
    |   +-- RegistryError        no engine, detector, diagnoser or policy of that name
    |   +-- ResultsError         a results file or folder cannot be read or written
    +-- CapacityError            a run needs more state than the stated limit
    +-- EngineError              an engine broke one of its own rules
"""

__all__ = [
    "ActionError",
    "CapacityError",
    "EngineError",
    "FaultError",
    "InputError",
    "RegistryError",
    "ResultsError",
    "ScenarioError",
    "SimError",
    "suggest",
]

import difflib
from collections.abc import Iterable


class SimError(Exception):
    """Root of the tree. Takes exactly one message, since SimPy re-raises ``type(e)(*e.args)``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class InputError(SimError):
    """The user's input is wrong; the message names the key, the rule and the value."""


class ScenarioError(InputError):
    """A scenario file breaks a rule; the message lists every mistake, one a line."""


class FaultError(InputError):
    """A fault specification breaks a rule."""


class ActionError(InputError):
    """An action is not legal in this scenario."""


class RegistryError(InputError):
    """Nothing of that name is registered."""


class ResultsError(InputError):
    """A results file or folder cannot be read or written."""


class CapacityError(SimError):
    """A run needs more state than the stated limit; names run and service."""


class EngineError(SimError):
    """An engine broke one of its own rules: a bug of ours."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
