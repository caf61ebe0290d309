"""Who called whom: the tree of keys over the spans of an event log, which holds no parents."""

__all__ = ["Kinship", "kinship_of"]

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simcore.codes import Event
from simcore.model.programs import PublishStep
from simcore.model.scenario import Scenario
from simcore.streams import child_index, mix_all

Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Log = npt.NDArray[np.void]

_ODD = np.uint64(0xD1342543DE82EF95)

#: Parents whose possible children are looked for at once.
_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class Kinship:
    """Where the spans of a log come from; all arrays are (span,), in order of their keys."""

    keys: Keys  #: span keys, sorted; of several runs: each mixed with its run's number
    runs: Ints  #: position of the run
    parents: Ints  #: index of the span that has made the attempt, -1: a client
    sites: Ints  #: call site, -1: a client
    numbers: Ints  #: attempt + 32 * hedge
    operations: Ints  #: operation that is asked for

    def index_of(self, spans: Keys, runs: Ints | None = None) -> Ints:
        """Return the index of each of these spans, all of which must be known; ``runs`` as for ``kinship_of``."""
        return np.searchsorted(self.keys, spans if runs is None else spans ^ _salt(runs))


def _salt(runs: Ints) -> Keys:
    """Return what keeps the keys of runs apart, which may be equal: forks share them."""
    return runs.astype(np.uint64) * _ODD


def kinship_of(scenario: Scenario, log: Log, runs: Ints | None = None) -> Kinship:
    """Return where the spans of a log come from.

    A span's key is that of its caller, mixed with call site and attempt number (model.md, *Draws*): so the tree is
    found from its roots, by looking which of the possible children there are.

    Parameters
    ----------
    scenario
        What was simulated.
    log
        Dtype ``LOG``; of every request either all rows from OFFERED on, or none.
    runs
        (row,) position of the run that a row of the log belongs to; None: all rows are of one run, 0.
    """
    own = log["request"] >= 0
    of = np.zeros(log.size, np.int64) if runs is None else runs
    keys, first = np.unique(log["span"][own] ^ _salt(of[own]), return_index=True)
    run = of[own][first]
    salt = _salt(run)
    offered = np.flatnonzero(log["event"] == int(Event.OFFERED))
    found = np.searchsorted(keys, log["span"][offered] ^ _salt(of[offered]))
    parents, sites, numbers, operations = (np.full(keys.size, -1, np.int64) for _ in range(4))
    numbers[found] = 0
    operations[found] = log["aux"][offered]
    candidates = _candidates(scenario)
    front = found
    while front.size:
        born = []
        for operation, (of_site, of_number, callee, index) in candidates.items():
            callers = front[operations[front] == operation]
            for first in range(0, callers.size, _CHUNK):
                some = callers[first : first + _CHUNK]
                children = mix_all((keys[some] ^ salt[some])[:, None], index[None, :]) ^ salt[some][:, None]
                at = np.minimum(np.searchsorted(keys, children), keys.size - 1)
                who, which = np.nonzero(keys[at] == children)
                child = at[who, which]
                parents[child], sites[child], numbers[child] = some[who], of_site[which], of_number[which]
                operations[child] = callee[which]
                born.append(child)
        front = np.concatenate(born) if born else np.zeros(0, np.int64)
    return Kinship(keys, run, parents, sites, numbers, operations)


def _candidates(scenario: Scenario) -> dict[int, tuple[Ints, Ints, Ints, Keys]]:
    """Return by operation the call site, number, callee and key index of all attempts that its spans can make."""
    operation_of = {f"{service}.{name}": number for number, (service, name) in enumerate(scenario.operations)}
    rows: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
    for step in scenario.sites:
        callee = operation_of[scenario.callee_of(step.site)]
        for number in _numbers(scenario, step.site):
            rows[step.operation].append((step.site, number, callee, int(child_index(step.site, number))))
    return {
        operation: (*(np.array(column, np.int64) for column in columns), np.array(index, np.uint64))  # type: ignore[misc]
        for operation, of in rows.items()
        for *columns, index in [tuple(zip(*of, strict=True))]
    }


def _numbers(scenario: Scenario, site: int) -> list[int]:
    spec = scenario.sites[site].spec
    if isinstance(spec, PublishStep):
        return list(range(scenario.topics[spec.publish.topic].redeliveries + 1))
    call = scenario.call_of(site)
    hedges = call.hedge.max if call.hedge else 0
    return [attempt + 32 * hedge for attempt in range(call.retries + 1) for hedge in range(hedges + 1)]
