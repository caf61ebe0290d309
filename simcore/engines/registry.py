"""The engines by name."""

__all__ = ["ENGINES", "open_session"]

from collections.abc import Sequence

from simcore.engines.api import RunInputs, Session
from simcore.errors import RegistryError, suggest
from simcore.model.scenario import Scenario

#: Names of the engines: the production engine, and the readable meaning of the model.
ENGINES = ("batch", "simpy")


def open_session(
    engine: str,
    scenario: Scenario,
    inputs: Sequence[RunInputs],
    *,
    log: bool = False,
    share: float = 1.0,
    threads: int | None = None,
) -> Session:
    """Open a session of the named engine, at time 0, after the burn-in.

    Parameters
    ----------
    engine
        One of ``ENGINES``.
    scenario
        The system and its users.
    inputs
        One entry per run.
    log
        Whether to keep the event logs.
    share
        Of the requests whose rows the logs hold; what belongs to no request is always there.
    threads
        Threads of the batch engine, by default one per core; results do not depend on it.

    Raises
    ------
    RegistryError
        If there is no engine of that name.
    """
    # imported here, since each engine loads and compiles what the other does not need
    if engine == "batch":
        from simcore.engines.batch import BatchSession

        return BatchSession(scenario, inputs, log=log, share=share, threads=threads)
    if engine == "simpy":
        from simcore.reference.session import ReferenceSession

        return ReferenceSession(scenario, inputs, log=log, share=share)
    known = ", ".join(ENGINES)
    raise RegistryError(f"engine must be one of {known}, got {engine!r}{suggest(engine, ENGINES)}")
