"""Queueing theory: what a simulated system must show in the long run. Rates are per second, times in seconds.

Sources: Kleinrock, "Queueing Systems, Volume 1: Theory" (1975), cited as K; Gross, Shortle, Thompson and Harris,
"Fundamentals of Queueing Theory" (4th ed., 2008), cited as GSTH.
"""

__all__ = [
    "Station", "d_m_1_busy", "erlang_b", "erlang_c", "kingman_bound", "m_m_c", "m_m_c_k", "m_m_c_wait",
    "mean_value_analysis", "pollaczek_khinchine", "processor_sharing", "scv_of",
]  # fmt: skip

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Station:
    """Long-run means of one station."""

    in_flight: float  #: spans that wait or are served
    queue: float  #: spans that wait
    utilisation: float  #: busy share of a server
    loss: float = 0.0  #: share of the arrivals that is turned away


def scv_of(dist: str, shape: float = 0.0) -> float:
    """Return the squared coefficient of variation of a demand (``shape``: sigma of a lognormal, shape of a gamma)."""
    return {
        "constant": lambda: 0.0,
        "exponential": lambda: 1.0,
        "lognormal": lambda: math.expm1(shape * shape),
        "gamma": lambda: 1.0 / shape,
    }[dist]()


def erlang_b(c: int, load: float) -> float:
    """Return the share of arrivals lost by c servers without a queue (Erlang, 1917; GSTH 2.6).

    Holds for any distribution of the demand with the load ``rate * mean`` (Sevastyanov, 1957).
    """
    inverse = 1.0
    for k in range(1, c + 1):
        inverse = 1.0 + inverse * k / load
    return 1.0 / inverse


def erlang_c(c: int, load: float) -> float:
    """Return the probability of waiting in M/M/c with ``load = rate * mean < c`` (Erlang, 1917; GSTH 2.4)."""
    lost = erlang_b(c, load)
    return c * lost / (c - load * (1.0 - lost))


def m_m_c_wait(c: int, rate: float, mean: float) -> float:
    """Return the mean wait in M/M/c (GSTH 2.4)."""
    return erlang_c(c, rate * mean) * mean / (c - rate * mean)


def m_m_c(c: int, rate: float, mean: float) -> Station:
    """Return M/M/c, a station of a Jackson network too (Jackson, "Networks of waiting lines", 1957)."""
    queue = rate * m_m_c_wait(c, rate, mean)
    return Station(queue + rate * mean, queue, rate * mean / c)


def m_m_c_k(c: int, k: int, rate: float, mean: float) -> Station:
    """Return M/M/c with room for k spans, those served included (GSTH 2.5), from its birth-death balance."""
    weights = [1.0]
    for n in range(1, k + 1):
        weights.append(weights[-1] * rate * mean / min(n, c))
    shares = [weight / sum(weights) for weight in weights]
    in_flight = sum(n * share for n, share in enumerate(shares))
    served = rate * (1.0 - shares[k]) * mean
    return Station(in_flight, in_flight - served, served / c, shares[k])


def pollaczek_khinchine(rate: float, mean: float, scv: float) -> float:
    """Return the mean wait in M/G/1 (Pollaczek, 1930; Khinchine, 1932; K 5.6)."""
    return rate * mean * mean * (1.0 + scv) / (2.0 * (1.0 - rate * mean))


def processor_sharing(rate: float, mean: float) -> float:
    """Return the mean time in M/G/1-PS, whatever the distribution (Sakata, Noguchi and Oizumi, 1971)."""
    return mean / (1.0 - rate * mean)


def d_m_1_busy(rate: float, mean: float) -> float:
    """Return the probability of waiting in D/M/1: the root in (0, 1) of s = exp(-(1 - s) / (rate * mean)) (K 6.4).

    The mean wait is ``mean * s / (1 - s)``.
    """
    low, high = 0.0, 1.0 - 1e-12
    while high - low > 1e-15:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        # below the root the right-hand side is the larger one
        low, high = (middle, high) if math.exp(-(1.0 - middle) / (rate * mean)) > middle else (low, middle)
    return 0.5 * (low + high)


def kingman_bound(rate: float, mean: float, arrival_scv: float, demand_scv: float) -> float:
    """Return an upper bound of the mean wait in GI/G/1 (Kingman, "Some inequalities for the queue GI/G/1", 1962)."""
    variances = arrival_scv / rate**2 + demand_scv * mean**2
    return rate * variances / (2.0 * (1.0 - rate * mean))


def mean_value_analysis(users: int, think: float, work: Sequence[float]) -> tuple[float, list[float]]:
    """Return throughput and the mean numbers at the stations of a closed network.

    Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing networks", JACM 27(2), 1980.

    Parameters
    ----------
    users
        Users who think, go through all stations, and think again.
    think
        Mean time of thinking; its distribution does not matter.
    work
        (station,) mean demand times visits; one FIFO server with exponential demands each.
    """
    at = [0.0] * len(work)
    throughput = 0.0
    for n in range(1, users + 1):
        times = [demand * (1.0 + number) for demand, number in zip(work, at, strict=True)]
        throughput = n / (think + sum(times))
        at = [throughput * time for time in times]
    return throughput, at
