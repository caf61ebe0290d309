"""The peers of the speed claims: W1 and W2 as plain SimPy scripts, written as a SimPy user would write them."""

__all__ = ["simpy_w1", "simpy_w2"]

import random
from collections.abc import Generator
from typing import Any

import simpy


def simpy_w1(seed: int, customers: int = 200_000) -> list[float]:
    """Run W1 (M/M/4, utilisation 0.8) and return the times that its customers spend in the system.

    Parameters
    ----------
    seed
        Seed of the script's own generator.
    customers
        How many arrive; the run ends when all have left.
    """
    rng = random.Random(seed)
    env = simpy.Environment()
    desk = simpy.Resource(env, capacity=4)
    stays: list[float] = []

    def customer() -> Generator[Any, Any, None]:
        start = env.now
        with desk.request() as slot:
            yield slot
            yield env.timeout(rng.expovariate(1.0))
        stays.append(env.now - start)

    def arrivals() -> Generator[Any, Any, None]:
        for _ in range(customers):
            yield env.timeout(rng.expovariate(3.2))
            env.process(customer())

    env.process(arrivals())
    env.run()
    return stays


def simpy_w2(seed: int, horizon_s: float = 240.0, rate_rps: float = 100.0) -> tuple[int, list[float]]:
    """Run W2 (three tiers, the api worker held during its calls) and return (requests offered, latencies).

    Parameters
    ----------
    seed
        Seed of the script's own generator.
    horizon_s
        Simulated seconds.
    rate_rps
        Arrivals per second.
    """
    rng = random.Random(seed)
    env = simpy.Environment()
    api = simpy.Resource(env, capacity=8)
    cache = simpy.Resource(env, capacity=4)
    db = simpy.Resource(env, capacity=8)
    latencies: list[float] = []
    offered = 0

    def serve(resource: simpy.Resource, mean_s: float) -> Generator[Any, Any, None]:
        with resource.request() as slot:
            yield slot
            yield env.timeout(rng.expovariate(1.0 / mean_s))

    def request() -> Generator[Any, Any, None]:
        start = env.now
        with api.request() as worker:
            yield worker
            yield env.timeout(rng.expovariate(1.0 / 0.020))
            yield from serve(cache, 0.002)
            if rng.random() < 0.3:
                yield from serve(db, 0.040)
        latencies.append(env.now - start)

    def arrivals() -> Generator[Any, Any, None]:
        nonlocal offered
        while True:
            yield env.timeout(rng.expovariate(rate_rps))
            offered += 1
            env.process(request())

    env.process(arrivals())
    env.run(until=horizon_s)
    return offered, latencies
