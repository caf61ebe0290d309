"""What people write: the scenario, as frozen pydantic models. Every time is in seconds unless a name says otherwise.

Numbering, relied on by both engines: services, operations and call sites are numbered in file order; operations
run over services then operations; call sites (calls, cache reads, publications) over operations then steps, pre-order
(a ``cached`` step's lookup comes before the calls inside it). A step's number counts its operation's steps in the same
pre-order. The partitions of all topics are numbered in file order too.
"""

__all__ = [
    "ActionSpec",
    "Closed",
    "Entry",
    "FaultDraw",
    "Faults",
    "MAX_FACTOR",
    "MAX_POINTS",
    "Noise",
    "Observation",
    "Point",
    "Scenario",
    "Slo",
    "Timing",
    "Workload",
]

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simcore.model.programs import CachedStep, Call, CallStep, Numbered, PublishStep, Topic, numbered
from simcore.model.services import Service
from simcore.model.spec import Demand, Fraction, Latency, Name, NonNegative, Positive, Priority, Range, Spec

#: Bounds of a recorded series: points, and multiple of the base rate.
MAX_POINTS, MAX_FACTOR = 100_000, 100.0


class Timing(Spec):
    """The control loop's clock."""

    step_s: Positive = 5.0
    steps: Annotated[int, Field(ge=1, le=100_000)] = 240
    burn_in_steps: Annotated[int, Field(ge=0, le=10_000)] = 12
    """Unrecorded control steps before time 0 that warm caches and queues."""
    follow_up_steps: Annotated[int, Field(ge=1, le=100_000)] = 120
    """Follow-up after the onset, the same for every run."""


class Slo(Spec):
    """What the users were promised."""

    latency_s: Positive = 0.5
    """A request is good if it is answered without error within this time."""
    p95_s: Positive = 0.4
    """A step violates the SLO if the p95 at the client is above this ..."""
    bad_frac: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """... or if more than this fraction of the offered requests is bad."""
    objective: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Promised fraction of good requests; the error budget is 1 - objective."""


class Entry(Spec):
    """One class of requests."""

    operation: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
    weight: Positive = 1.0
    priority: Priority = 0
    """0 is the most important; services may shed the others."""


class Closed(Spec):
    """Users who wait for an answer, think, and send their next request."""

    users: Annotated[int, Field(ge=1, le=100_000)]
    think: Demand


class Point(Spec):
    """From an instant on, the rate is a multiple of ``rate_rps``."""

    time_s: float
    factor: Annotated[float, Field(ge=0, le=MAX_FACTOR)]


class Workload(Spec):
    """Arrivals at the system's border: open, or of a number of users."""

    rate_rps: Positive
    entries: Annotated[list[Entry], Field(min_length=1, max_length=64)]
    timeout_s: Positive = 10.0
    """The client's patience; also the latency of a request that was not answered."""
    deadline_s: Positive | None = None
    """Passed down with every request: nothing is begun for it after its arrival + deadline."""
    arrivals: Literal["poisson", "grid"] = "poisson"
    """``grid``: one arrival every 1 / peak rate, thinned like the Poisson stream."""
    closed: Closed | None = None
    """Users instead of an open stream; ``rate_rps`` then only sizes faults and J."""
    shape: Literal["constant", "sinusoidal", "step", "burst", "series"] = "constant"
    series: Annotated[list[Point], Field(max_length=MAX_POINTS)] = []
    """Series only: the factor holds from its time to the next point's; times increase."""
    series_csv: str | None = None
    """Series only, instead of ``series``: a CSV file beside the scenario with columns ``time_s`` and ``rate_rps``."""
    amplitude: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sinusoidal only: relative swing."""
    period_s: Positive = 1200.0
    """Sinusoidal only."""
    random_phase: bool = True
    """Sinusoidal only: a phase per run, drawn; otherwise 0."""
    phase: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Sinusoidal only: the phase of every run at time 0, turns, instead of a drawn one; at 0.25 the load is highest."""
    factor: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Step and burst: multiple of the rate."""
    from_s: float = 0.0
    """Step and burst: start."""
    until_s: float = 0.0
    """Burst: end."""


class Noise(Spec):
    """Harmless events in all runs, so that a change is not proof of a fault. Rates per simulated hour."""

    deploys_per_hour: NonNegative = 0.0
    """Benign deploys, each at a target drawn uniformly: a rolling restart with a demand within +-3 %."""
    config_changes_per_hour: NonNegative = 0.0
    """Benign changes of configuration: the timeouts of a service's calls change by up to 10 %."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services that are deployed and configured; by default all."""
    bursts_per_hour: NonNegative = 0.0
    burst_s: Range = Range(min=10, max=20)
    burst_factor: Range = Range(min=1.1, max=1.3)


class FaultDraw(Spec):
    """One row of the mix from which a run's fault is drawn."""

    type: str
    weight: Positive = 1.0
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services it may hit; by default those that the catalogue allows."""
    severity: Range = Range(min=0.5, max=1.0)
    duration_s: Range | None = None
    """Absent: until fixed."""
    profile: Literal["step", "ramp", "pulses", "once"] | None = None
    """Absent: the catalogue's."""
    places: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    """Weights of the places it may live in; absent: the catalogue's."""


class Faults(Spec):
    """Which faults are drawn, and how."""

    none_share: Fraction = 0.2
    """Share of runs without a fault."""
    onset_s: Range = Range(min=300, max=600)
    mix: Annotated[list[FaultDraw], Field(max_length=100)] = []


class ActionSpec(Spec):
    """One kind of action that an agent may take."""

    delay_s: NonNegative = 0.0
    """From the decision to the effect; its mean if it is drawn."""
    delay_sigma: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Standard deviation of the logarithm of a lognormal delay; 0: always the same."""
    settle_s: NonNegative = 30.0
    """After the effect, before its outcome is judged."""
    cost: NonNegative = 0.0
    """In units of J: 0.01 is one percent of the horizon's requests."""
    cooldown_s: NonNegative = 60.0
    """Before the same action on the same service may be taken again."""
    failure_probability: Fraction = 0.0
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Services it may be used on; by default every service where it makes sense."""
    values: Annotated[list[float], Field(min_length=1)] | None = None
    """Amounts offered, of the kinds that have one: ``mendsim actions`` says what they mean."""


class Observation(Spec):
    """How telemetry reaches the agent."""

    lag_steps: Annotated[int, Field(ge=0, le=100)] = 1
    """How many windows late a scrape arrives."""
    drop_rate: Fraction = 0.0
    """Chance that a run's scrape is lost; the agent then keeps the previous one."""
    traces: Fraction = 0.0
    """Share of the requests whose traces the agent sees, summed up by window; 0: none."""
    logs: bool = False
    """Whether the agent sees the system's logs, counted by window."""


class Scenario(Spec):
    """A system, its users, its promises, its faults and what an agent may do."""

    name: Name
    description: str = ""
    version: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    timing: Timing = Timing()
    slo: Slo = Slo()
    network: Latency = Latency()
    """One-way latency of every call and of the client's requests."""
    services: Annotated[dict[Name, Service], Field(min_length=1, max_length=200)]
    topics: Annotated[dict[Name, Topic], Field(max_length=200)] = {}
    workload: Workload
    noise: Noise = Noise()
    faults: Faults = Faults()
    actions: dict[str, ActionSpec] = {}
    observation: Observation = Observation()

    @functools.cached_property
    def service_names(self) -> tuple[str, ...]:
        """Names of the services, by number."""
        return tuple(self.services)

    @functools.cached_property
    def operations(self) -> tuple[tuple[str, str], ...]:
        """(service, operation) names, by number."""
        return tuple((s, o) for s, service in self.services.items() for o in service.operations)

    @functools.cached_property
    def programs(self) -> tuple[tuple[Numbered, ...], ...]:
        """Numbered steps of every operation, by operation number."""
        sites = iter(range(1_000_000))
        return tuple(
            numbered(self.services[s].operations[o].steps, number, iter(range(10_000)), sites)
            for number, (s, o) in enumerate(self.operations)
        )

    def walk(self) -> Iterator[Numbered]:
        """Yield every step of every operation in pre-order."""

        def visit(steps: tuple[Numbered, ...]) -> Iterator[Numbered]:
            for step in steps:
                yield step
                yield from visit(step.inner)

        for program in self.programs:
            yield from visit(program)

    @functools.cached_property
    def sites(self) -> tuple[Numbered, ...]:
        """Calls, cached steps and publications, by call site number."""
        return tuple(step for step in self.walk() if step.site >= 0)

    @functools.cached_property
    def calls(self) -> tuple[Numbered, ...]:
        """The call sites that wait for an answer: all but publications."""
        return tuple(step for step in self.sites if not isinstance(step.spec, PublishStep))

    @functools.cached_property
    def consumers(self) -> frozenset[str]:
        """Names of the services that consume a topic."""
        return frozenset(topic.to.partition(".")[0] for topic in self.topics.values())

    def call_of(self, site: int) -> Call:
        """Return the call (a ``cached`` step is one too) of a call site that is no publication."""
        spec = self.sites[site].spec
        if isinstance(spec, CachedStep):
            return spec.cached
        assert isinstance(spec, CallStep)
        return spec.call

    def callee_of(self, site: int) -> str:
        """Return the ``service.operation`` to which a call site leads; of a publication, its topic's consumer."""
        spec = self.sites[site].spec
        return self.topics[spec.publish.topic].to if isinstance(spec, PublishStep) else self.call_of(site).to

    def network_of(self, call: Call) -> Latency:
        """Return the one-way latency of a call."""
        return self.network if call.network is None else call.network

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hex digits that name the scenario's content."""
        # without defaults: what a scenario does not use does not change its name; in order, since order numbers things
        content = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(content, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
