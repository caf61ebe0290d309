"""The systems of the textbooks, as scenarios."""

__all__ = ["PLENTY", "Place", "demand", "network", "station"]

from dataclasses import dataclass
from typing import Any

from simcore.model.scenario import Scenario

#: Threads and cores that never run out.
PLENTY = 10_000

#: A queue that never overflows, and a patience that never ends, seconds.
_ENDLESS, _PATIENT_S = 1_000_000, 1e9


def demand(mean: float, dist: str = "exponential", shape: float = 1.0) -> dict[str, Any]:
    """Return a demand (``shape``: sigma of a lognormal, shape of a gamma)."""
    extra = {"lognormal": {"sigma": shape}, "gamma": {"shape": shape}}.get(dist, {})
    return {"mean_s": mean, "dist": dist, **extra}


@dataclass(frozen=True, slots=True)
class Place:
    """A station of a network: FIFO if threads equal cores, processor sharing if threads are plenty."""

    name: str
    demand: dict[str, Any]
    threads: int = 1
    cores: int = 1


def station(
    rate: float,
    work: dict[str, Any],
    *,
    threads: int = 1,
    cores: int = 1,
    queue: int = _ENDLESS,
    **workload: Any,
) -> Scenario:
    """Return one service ``desk`` that all requests visit once."""
    steps = [{"cpu": work}]
    return _scenario({"desk": _service(steps, threads, cores, queue)}, "desk", rate, workload)


def network(
    rate: float, places: list[Place], route: list[tuple[str, float]], *, own: int = 0, **workload: Any
) -> Scenario:
    """Return stations that a front operation with plenty of threads calls one after the other.

    Parameters
    ----------
    rate
        Requests per second.
    places
        The stations.
    route
        (station, probability of the visit); a station may come up again.
    own
        CPU steps of one second on average that the front does itself before, on cores that never run out.
    workload
        Further keys of the workload, such as ``closed``.
    """
    calls = [
        {"call": {"to": f"{name}.serve", "probability": chance, "timeout_s": _PATIENT_S}} for name, chance in route
    ]
    steps = [*({"cpu": demand(1.0)} for _ in range(own)), *calls]
    services = {"front": _service(steps, PLENTY, PLENTY, _ENDLESS)}
    for place in places:
        services[place.name] = _service([{"cpu": place.demand}], place.threads, place.cores, _ENDLESS)
    return _scenario(services, "front", rate, workload)


def _service(steps: list[dict[str, Any]], threads: int, cores: int, queue: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "cores": cores,
        "queue": queue,
        "memory": {"base_bytes": 0, "per_span_bytes": 0},
        "operations": {"serve": {"steps": steps}},
    }


def _scenario(services: dict[str, Any], entry: str, rate: float, workload: dict[str, Any]) -> Scenario:
    arrivals = {"rate_rps": rate, "entries": [{"operation": f"{entry}.serve"}], "timeout_s": _PATIENT_S}
    return Scenario.model_validate({"name": "system", "services": services, "workload": arrivals | workload})
