"""The cases: what theory knows and the simulator must show. A new one is one more entry of a list below."""

__all__ = ["CASES", "COMPARISONS", "named"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.codes import Param
from simcore.codes import Place as FaultPlace
from simcore.engines.api import Modulation
from simcore.errors import RegistryError, suggest
from simcore.model.loader import load_scenario, shipped
from simcore.validity import measures, theory
from simcore.validity.experiment import Case, Quantity
from simcore.validity.judge import Rule
from simcore.validity.systems import PLENTY, Place, demand, network, station


def _m_m_c(name: str, servers: int, rate: float, requests: int) -> Case:
    expected = theory.m_m_c(servers, rate, 1.0)
    return Case(
        name,
        f"{servers} servers with one FIFO queue: Erlang C",
        station(rate, demand(1.0), threads=servers, cores=servers),
        (
            Quantity("mean wait, s", theory.m_m_c_wait(servers, rate, 1.0), measures.wait("desk")),
            Quantity("mean time, s", expected.in_flight / rate, measures.stay("desk")),
            Quantity("queue length", expected.queue, measures.queue("desk")),
            Quantity("utilisation", expected.utilisation, measures.utilisation("desk")),
        ),
        requests=requests,
    )


def _p_wait(name: str, servers: int, rate: float, requests: int) -> Case:
    return Case(
        name,
        f"{servers} servers with one FIFO queue: who has to wait",
        station(rate, demand(1.0), threads=servers, cores=servers),
        (Quantity("P(wait)", theory.erlang_c(servers, rate), measures.waited("desk")),),
        log=True,
        requests=requests,
    )


def _m_m_c_k(name: str, servers: int, room: int, rate: float, requests: int) -> Case:
    expected = theory.m_m_c_k(servers, room, rate, 1.0)
    return Case(
        name,
        f"{servers} servers, room for {room}: the rest is lost",
        station(rate, demand(1.0), threads=servers, cores=servers, queue=room - servers),
        (
            Quantity("loss", expected.loss, measures.lost("desk")),
            Quantity("in flight", expected.in_flight, measures.in_flight("desk")),
            Quantity("utilisation", expected.utilisation, measures.utilisation("desk")),
        ),
        requests=requests,
    )


def _m_g_c_c(name: str, servers: int, rate: float, requests: int) -> Case:
    return Case(
        name,
        f"{servers} servers without a queue, lognormal demands: Erlang B",
        station(rate, demand(1.0, "lognormal", 1.0), threads=servers, cores=servers, queue=0),
        (Quantity("loss", theory.erlang_b(servers, rate), measures.lost("desk")),),
        requests=requests,
    )


def _m_g_1(dist: str, shape: float, rate: float, requests: int) -> Case:
    wait = theory.pollaczek_khinchine(rate, 1.0, theory.scv_of(dist, shape))
    return Case(
        f"m_g_1_{dist}",
        f"one FIFO server, {dist} demands: Pollaczek and Khinchine",
        station(rate, demand(1.0, dist, shape)),
        (
            Quantity("mean wait, s", wait, measures.wait("desk")),
            Quantity("queue length", rate * wait, measures.queue("desk")),
        ),
        requests=requests,
    )


def _m_g_1_ps(dist: str, shape: float, rate: float, requests: int) -> Case:
    stay = theory.processor_sharing(rate, 1.0)
    return Case(
        f"m_g_1_ps_{dist}",
        f"one shared core, {dist} demands: only their mean counts",
        station(rate, demand(1.0, dist, shape), threads=PLENTY),
        (
            Quantity("mean time, s", stay, measures.stay("desk")),
            Quantity("in flight", rate * stay, measures.in_flight("desk")),
        ),
        requests=requests,
    )


def _m_m_c_ps(name: str, cores: int, rate: float, requests: int) -> Case:
    return Case(
        name,
        f"{cores} shared cores: as many in flight as in M/M/{cores}",
        station(rate, demand(1.0), threads=PLENTY, cores=cores),
        (Quantity("in flight", theory.m_m_c(cores, rate, 1.0).in_flight, measures.in_flight("desk")),),
        requests=requests,
    )


def _m_g_infinity(name: str, rate: float, requests: int) -> Case:
    mean, variance = measures.number_moments("desk", 1.0)
    return Case(
        name,
        "servers for all, lognormal demands: Poisson in flight",
        station(rate, demand(1.0, "lognormal", 1.0), threads=PLENTY, cores=PLENTY),
        (
            Quantity("in flight", rate, mean),
            Quantity("variance of in flight", rate, variance),
        ),
        log=True,
        requests=requests,
    )


def _d_m_1(name: str, rate: float, requests: int) -> Case:
    busy = theory.d_m_1_busy(rate, 1.0)
    return Case(
        name,
        "arrivals on a grid, one FIFO server: the root of its equation",
        station(rate, demand(1.0), arrivals="grid"),
        (Quantity("mean wait, s", busy / (1.0 - busy), measures.wait("desk")),),
        requests=requests,
    )


def _d_m_1_p_wait(name: str, rate: float, requests: int) -> Case:
    return Case(
        name,
        "arrivals on a grid, one FIFO server: who has to wait",
        station(rate, demand(1.0), arrivals="grid"),
        (Quantity("P(wait)", theory.d_m_1_busy(rate, 1.0), measures.waited("desk")),),
        log=True,
        requests=requests,
    )


def _kingman(name: str, arrivals: str, dist: str, shape: float, rate: float, requests: int) -> Case:
    arrival_scv = 1.0 if arrivals == "poisson" else 0.0
    bound = theory.kingman_bound(rate, 1.0, arrival_scv, theory.scv_of(dist, shape))
    return Case(
        name,
        f"{arrivals} arrivals, {dist} demands: Kingman's bound",
        station(rate, demand(1.0, dist, shape), arrivals=arrivals),
        (Quantity("mean wait, s", bound, measures.wait("desk"), Rule.AT_MOST),),
        requests=requests,
    )


def _network(
    name: str,
    about: str,
    rate: float,
    places: list[Place],
    route: list[tuple[str, float]],
    requests: int,
) -> Case:
    """Return a network of product form: each station as if alone, with the rate of its visits."""
    visits = {place.name: sum(chance for station, chance in route if station == place.name) for place in places}
    alone = {
        place.name: theory.m_m_c(place.cores, rate * visits[place.name], place.demand["mean_s"]) for place in places
    }
    total = sum(expected.in_flight for expected in alone.values())
    return Case(
        name,
        about,
        network(rate, places, route),
        (
            *(Quantity(f"in flight at {s}", e.in_flight, measures.in_flight(s)) for s, e in alone.items()),
            Quantity("mean time, s", total / rate, measures.stay("front")),
        ),
        requests=requests,
    )


def _closed(
    name: str,
    users: int,
    think: dict[str, Any],
    places: list[Place],
    route: list[tuple[str, float]],
    requests: int,
) -> Case:
    """Return a closed network of product form: users who think, and stations with one server each."""
    visits = {place.name: sum(chance for station, chance in route if station == place.name) for place in places}
    work = [place.demand["mean_s"] * visits[place.name] for place in places]
    throughput, at = theory.mean_value_analysis(users, think["mean_s"], work)
    return Case(
        name,
        f"{users} users who think: mean value analysis",
        network(throughput, places, route, closed={"users": users, "think": think}),
        (
            Quantity("throughput, 1/s", throughput, measures.throughput("front")),
            *(
                Quantity(f"in flight at {p.name}", n, measures.in_flight(p.name))
                for p, n in zip(places, at, strict=True)
            ),
            Quantity("mean time, s", sum(at) / throughput, measures.stay("front")),
        ),
        requests=requests,
    )


_TANDEM = _network(
    "tandem",
    "M/M/1, then M/M/2: Burke, Jackson",
    0.5,
    [Place("first", demand(1.0)), Place("second", demand(2.0), threads=2, cores=2)],
    [("first", 1.0), ("second", 1.0)],
    1_300_000,
)

_BURKE = Case(
    "tandem_burke",
    "the same tandem: stations independent, departures Poisson",
    _TANDEM.scenario,
    (
        Quantity("correlation of the two", 0.0, measures.correlated_numbers("first", "second", 5.0)),
        Quantity("gaps of departures", 0.0, measures.departure_gaps("first", 0.5), Rule.DISTRIBUTION),
    ),
    log=True,
    requests=300_000,
)

_ROUTED = _network(
    "jackson_routed",
    "three stations, visited with probabilities",
    0.6,
    [Place("a", demand(1.0)), Place("b", demand(1.5)), Place("c", demand(4.0), threads=2, cores=2)],
    [("a", 1.0), ("b", 0.5), ("c", 0.3)],
    1_900_000,
)

_REVISITS = _network(
    "jackson_revisits",
    "a station visited twice, from two call sites",
    0.3,
    [Place("a", demand(1.0)), Place("b", demand(1.5))],
    [("a", 1.0), ("b", 1.0), ("a", 1.0)],
    1_100_000,
)

_BCMP = _network(
    "bcmp",
    "FIFO with exponential and shared cores with lognormal demands",
    0.3,
    [
        Place("fifo", demand(1.5)),
        Place("shared", demand(0.8, "lognormal", 1.0), threads=PLENTY),
    ],
    [("shared", 1.0), ("fifo", 1.0), ("shared", 1.0)],
    1_200_000,
)


# --- randomness

_WAVE = {"rate": 2.0, "amplitude": 0.5, "period_s": 100.0}


def _wave_clock(times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the expected number of arrivals by then, over the rate."""
    turn = 2.0 * np.pi / _WAVE["period_s"]
    out: npt.NDArray[np.float64] = times_s + _WAVE["amplitude"] / turn * (1.0 - np.cos(turn * times_s))
    return out


def _poisson() -> list[Case]:
    quick = demand(0.01)
    wave: dict[str, Any] = {"shape": "sinusoidal", "amplitude": _WAVE["amplitude"], "period_s": _WAVE["period_s"]}
    return [
        Case(
            "poisson",
            "arrivals at a constant rate",
            station(2.0, quick),
            (
                Quantity("rate, 1/s", 2.0, measures.rate(0)),
                Quantity("chi-square of counts / d.f.", 1.0, measures.dispersion(2.0)),
                Quantity("gaps from exponential", 0.0, measures.gaps(2.0), Rule.DISTRIBUTION),
                Quantity("correlation of gaps", 0.0, measures.gap_correlation()),
            ),
            log=True,
            requests=700_000,
        ),
        Case(
            "poisson_wave",
            "arrivals at a sinusoidal rate, thinned",
            station(_WAVE["rate"], quick, random_phase=False, **wave),
            (
                Quantity("chi-square of counts / d.f.", 1.0, measures.dispersion(2.0, clock=_wave_clock)),
                Quantity("gaps from exponential", 0.0, measures.gaps(2.0, clock=_wave_clock), Rule.DISTRIBUTION),
            ),
            log=True,
            requests=700_000,
        ),
        Case(
            "streams",
            "a surge is a stream of its own beside the base",
            station(2.0, quick),
            (
                Quantity("rate of the surge, 1/s", 1.0, measures.rate(1)),
                Quantity("gaps from exponential", 0.0, measures.gaps(1.0, stream=1), Rule.DISTRIBUTION),
                Quantity("correlation of counts", 0.0, measures.correlated_streams(5.0)),
            ),
            log=True,
            requests=700_000,
            throughout=((Modulation(Param.SURGE, FaultPlace.WORKLOAD), 0.5),),
        ),
        Case(
            "demands",
            "demands of neighbouring spans are independent",
            network(2.0, [Place("back", demand(1.0), PLENTY, PLENTY)], [("back", 1.0)], own=2),
            (
                Quantity("correlation of steps", 0.0, measures.correlated_demands("steps")),
                Quantity("correlation of requests", 0.0, measures.correlated_demands("requests")),
                Quantity("correlation of caller and callee", 0.0, measures.correlated_demands("call")),
            ),
            log=True,
            requests=150_000,
        ),
    ]


# --- what holds exactly


def _laws() -> list[Case]:
    return [
        Case(
            f"laws_{name}",
            f"conservation in the shipped scenario {name}",
            load_scenario(name),
            (
                Quantity("arrivals - departures - in flight", 0.0, measures.flow, Rule.IDENTITY),
                Quantity("Little: area against times", 0.0, measures.little, Rule.IDENTITY),
                Quantity("utilisation: busy against work", 0.0, measures.work, Rule.IDENTITY),
            ),
            log=True,
            runs=2,
        )
        for name in shipped()
    ]


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        _m_m_c("m_m_1", 1, 0.5, 2_400_000),
        _p_wait("m_m_1_p_wait", 1, 0.5, 300_000),
        _m_m_c("m_m_4", 4, 2.6, 7_500_000),
        _p_wait("m_m_4_p_wait", 4, 3.2, 1_000_000),
        Case(
            "m_m_4_path",
            "every single wait, by the recursion of Kiefer and Wolfowitz",
            station(2.6, demand(1.0), threads=4, cores=4),
            (Quantity("largest departure / horizon", 0.0, measures.path("desk", 4), Rule.IDENTITY),),
            log=True,
            requests=20_000,
            runs=4,
        ),
        _m_m_c_k("m_m_2_k", 2, 5, 1.8, 1_500_000),
        _m_g_c_c("m_g_3_3", 3, 2.0, 600_000),
        _m_g_1("constant", 0.0, 0.6, 1_900_000),
        _m_g_1("gamma", 0.5, 0.4, 2_900_000),
        _m_g_1("lognormal", 0.8, 0.5, 3_600_000),
        _m_g_1_ps("constant", 0.0, 0.5, 800_000),
        _m_g_1_ps("exponential", 0.0, 0.5, 1_000_000),
        _m_g_1_ps("lognormal", 1.0, 0.5, 1_300_000),
        _m_g_1_ps("gamma", 0.5, 0.5, 1_300_000),
        _m_m_c_ps("m_m_3_ps", 3, 2.0, 1_400_000),
        _m_g_infinity("m_g_infinity", 1.0, 500_000),
        _d_m_1("d_m_1", 0.6, 3_300_000),
        _d_m_1_p_wait("d_m_1_p_wait", 0.6, 600_000),
        _kingman("kingman_d_g_1", "grid", "gamma", 0.5, 0.5, 1_800_000),
        _kingman("kingman_m_g_1", "poisson", "lognormal", 0.8, 0.5, 1_000_000),
        _TANDEM,
        _BURKE,
        _ROUTED,
        _REVISITS,
        _BCMP,
        _closed("closed_one", 8, demand(4.0), [Place("desk", demand(1.0))], [("desk", 1.0)], 1_000_000),
        _closed(
            "closed_three",
            12,
            demand(3.0, "lognormal", 1.0),
            [Place("a", demand(0.5)), Place("b", demand(0.8)), Place("c", demand(0.6))],
            [("a", 1.0), ("b", 0.5), ("c", 1.0), ("a", 0.4)],
            1_500_000,
        ),
        *_poisson(),
        *_laws(),
    )
}

#: Rows of the whole table that could be wrong by chance. A case on its own is judged as strictly as among the others.
COMPARISONS = sum(quantity.rule is not Rule.IDENTITY for case in CASES.values() for quantity in case.quantities)


def named(names: Sequence[str]) -> list[Case]:
    """Return the cases of these names, all if there are none, in the order of the table.

    Raises
    ------
    RegistryError
        Listing every name that there is no case of.
    """
    wrong = [f"there is no case '{name}'{suggest(name, CASES)}" for name in dict.fromkeys(names) if name not in CASES]
    if wrong:
        raise RegistryError("\n".join([*wrong, f"cases: {', '.join(CASES)}"]))
    return [case for case in CASES.values() if not names or case.name in names]
