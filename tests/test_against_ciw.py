"""mendsim against Ciw, a simulator that shares no code with it: three networks, two independent samples of runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import stdtrit

from simcore.validity import measures
from simcore.validity.experiment import Case, Quantity, observe
from simcore.validity.judge import Estimate
from simcore.validity.systems import Place, demand, network, station

ciw = pytest.importorskip("ciw", reason="Ciw is not installed; pip install 'mendsim[dev]' brings it")

Floats = npt.NDArray[np.float64]

#: Probability that equal simulators differ in one comparison or more, and the widest interval that says something.
FAMILY_ERROR, PRECISION = 0.01, 0.05

_RUNS = 16
_WARM_UP_S = 200.0


@dataclass(frozen=True)
class Pair:
    """The same network for both simulators, and what is compared."""

    case: Case
    theirs: Callable[[], Any]  #: makes Ciw's network
    measured: tuple[Callable[[list[Any]], float], ...]  #: of the records of a run, for each quantity of the case
    horizon_s: float


def _served(records: list[Any]) -> list[Any]:
    return [record for record in records if record.record_type == "service"]


def loss(records: list[Any]) -> float:
    return 1.0 - len(_served(records)) / len(records)


def mean_stay(records: list[Any], node: int = 0) -> float:
    stays = [r.exit_date - r.arrival_date for r in _served(records) if node in (0, r.node)]
    return float(np.mean(stays))


def at(node: int) -> Callable[[list[Any]], float]:
    return lambda records: mean_stay(records, node)


def whole_stay(records: list[Any]) -> float:
    """Mean time from the first arrival of a customer to the last exit."""
    total = sum(r.exit_date - r.arrival_date for r in _served(records))
    return float(total / len({r.id_number for r in records}))


def exponentials(*means: float) -> list[Any]:
    return [ciw.dists.Exponential(1.0 / mean) for mean in means]


def _stays(*names: str) -> tuple[Quantity, ...]:
    return tuple(Quantity(f"mean time at {name}", math.nan, measures.stay(name)) for name in names)


PAIRS = {
    "m_m_2_k": Pair(
        Case(
            "m_m_2_k",
            "two servers, three places to wait",
            station(2.6, demand(1.0), threads=2, cores=2, queue=3),
            (Quantity("loss", math.nan, measures.lost("desk")), *_stays("desk")),
            requests=1_000_000,
        ),
        lambda: ciw.create_network(
            arrival_distributions=exponentials(1.0 / 2.6),
            service_distributions=exponentials(1.0),
            number_of_servers=[2],
            queue_capacities=[3],
        ),
        (loss, mean_stay),
        1200.0,
    ),
    "tandem": Pair(
        Case(
            "tandem",
            "one server, then two",
            network(0.4, [Place("a", demand(1.0)), Place("b", demand(2.0), 2, 2)], [("a", 1.0), ("b", 1.0)]),
            _stays("a", "b", "front"),
            requests=1_000_000,
        ),
        lambda: ciw.create_network(
            arrival_distributions=[ciw.dists.Exponential(0.4), None],
            service_distributions=exponentials(1.0, 2.0),
            number_of_servers=[1, 2],
            routing=[[0.0, 1.0], [0.0, 0.0]],
        ),
        (at(1), at(2), whole_stay),
        8000.0,
    ),
    "jackson": Pair(
        Case(
            "jackson",
            "three stations, two of them visited with probabilities",
            network(
                0.4,
                [Place("a", demand(1.0)), Place("b", demand(1.5)), Place("c", demand(3.0), 2, 2)],
                [("a", 1.0), ("b", 0.5), ("c", 0.4)],
            ),
            _stays("a", "b", "c", "front"),
            requests=1_000_000,
        ),
        lambda: ciw.create_network(
            arrival_distributions=[ciw.dists.Exponential(0.4), None, None],
            service_distributions=exponentials(1.0, 1.5, 3.0),
            number_of_servers=[1, 1, 2],
            # c follows b and, where b is skipped, a
            routing=[[0.0, 0.5, 0.2], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0]],
        ),
        (at(1), at(2), at(3), whole_stay),
        10_000.0,
    ),
}

COMPARISONS = sum(len(pair.measured) for pair in PAIRS.values())


def theirs(pair: Pair) -> Floats:
    """Return (run, quantity) what Ciw shows, of the customers that came after the warm-up and before the horizon."""
    values = []
    for run in range(_RUNS):
        ciw.seed(1000 + run)
        simulation = ciw.Simulation(pair.theirs())
        simulation.simulate_until_max_time(pair.horizon_s + _WARM_UP_S)
        every = simulation.get_all_records()
        first = {r.id_number: r.arrival_date for r in sorted(every, key=lambda r: -r.arrival_date)}
        records = [r for r in every if _WARM_UP_S <= first[r.id_number] < pair.horizon_s]
        values.append([measure(records) for measure in pair.measured])
    return np.array(values)


def difference(ours: Floats, others: Floats) -> Estimate:
    """Return the difference of two means with Welch's interval (Welch, 1947)."""
    one, other = ours.var(ddof=1) / ours.size, others.var(ddof=1) / others.size
    freedom = (one + other) ** 2 / (one**2 / (ours.size - 1) + other**2 / (others.size - 1))
    half = float(stdtrit(freedom, 1.0 - FAMILY_ERROR / COMPARISONS / 2.0)) * math.sqrt(one + other)
    return Estimate(float(ours.mean() - others.mean()), half)


@pytest.mark.parametrize("name", PAIRS)
def test_ciw_shows_the_same(name: str) -> None:
    pair = PAIRS[name]
    ours, others = observe(pair.case, "batch", seed=1), theirs(pair)
    for i, quantity in enumerate(pair.case.quantities):
        mine = np.array(ours[i])
        found = difference(mine, others[:, i])
        assert found.half_width < PRECISION * mine.mean(), f"{quantity.name}: too few runs to say anything"
        assert abs(found.value) < found.half_width, f"{quantity.name}: {mine.mean()} here, {others[:, i].mean()} there"
        # the same interval tells 10 % apart
        assert abs(found.value + 0.1 * mine.mean()) > found.half_width, quantity.name
