"""What a cell of a study comes to: its scenario, its faults, its runs, and the parts of its agent."""

__all__ = ["Parts", "Worlds"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.evaluation.sweep.axes import Cell, Value
from agent.evaluation.sweep.keys import DERIVED, Key, key_of
from agent.evaluation.sweep.sweep import FaultSpec, Sweep
from simcore.errors import FaultError, InputError, ScenarioError
from simcore.model.faults import Fault, parse_fault
from simcore.model.inputs import Run, draw_faults, make_run
from simcore.model.loader import build_scenario
from simcore.model.scenario import Scenario
from simcore.streams import run_key

#: Scenarios kept; the cells of a batch share one.
_KEPT = 8

#: Fields of a fault that may also change one that is drawn.
_OF_DRAWN = ("onset_s", "duration_s", "severity")


@dataclass(frozen=True, slots=True)
class Parts:
    """Names of the parts of an agent."""

    detector: str
    diagnoser: str
    policy: str


class Worlds:
    """Turns the cells of a study into what is simulated."""

    def __init__(self, sweep: Sweep) -> None:
        """Look the keys up.

        Raises
        ------
        InputError
            Listing every key that there is not or that does not go with the others, one a line.
        """
        self.sweep = sweep
        self._plain = sweep.scenario.model_dump()
        self._scenarios: dict[tuple[Value, ...], Scenario] = {}
        self.keys: list[Key] = []
        mistakes: list[str] = []
        for name in sweep.keys:
            try:
                self.keys.append(key_of(name, self._plain, step_s=sweep.scenario.timing.step_s))
            except InputError as error:
                mistakes += str(error).splitlines()
        mistakes += self._clashes()
        if mistakes:
            raise InputError("\n".join(mistakes))

    def _clashes(self) -> Iterable[str]:
        """Yield what does not go together."""
        names = [key.name for key in self.keys]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"{name}: is varied twice"
        for name in names:
            for other in DERIVED[name].clashes if name in DERIVED else ():
                if other in names:
                    yield f"{name}: changes {other}, which is varied too; vary one of them"
        count = len(self.sweep.faults)
        fields = {key.field for key in self.keys}
        typed = count > 0 or bool(fields & {"type", "fault"})
        for key in self.keys:
            if key.role == "agent" and not self.sweep.detector:
                yield f"{key.name}: there is no agent"
            if key.role != "fault":
                continue
            if count > 1 and key.fault < 0:
                known = " or ".join(key.name.replace("fault", f"fault[{i}]", 1) for i in range(count))
                yield f"{key.name}: there are {count} faults, name one of them: {known}"
            elif key.fault >= max(count, 1):
                yield f"{key.name}: there is no fault of that number, there are {count}"
            elif not typed and key.field not in _OF_DRAWN:
                yield f"{key.name}: needs a fault that is not drawn: give --fault or vary fault.type"
            elif not typed and not self.sweep.scenario.faults.mix:
                yield f"{key.name}: scenario {self.sweep.scenario.name} draws no faults: give --fault TYPE@TARGET"
        if "fault" in fields and fields & {"type", "target"}:
            yield "fault: is TYPE@TARGET, so it leaves no room for fault.type and fault.target"

    def _of(self, role: str, cell: Cell) -> tuple[Value, ...]:
        return tuple(value for key, value in zip(self.keys, cell.values, strict=True) if key.role == role)

    def world_of(self, cell: Cell) -> tuple[Value, ...]:
        """Return what names the scenario of a cell: cells with equal names share it."""
        return self._of("scenario", cell)

    def strike_of(self, cell: Cell) -> tuple[Value, ...]:
        """Return what names the faults of a cell, within its scenario."""
        return self._of("fault", cell)

    def scenario(self, cell: Cell) -> Scenario:
        """Return the scenario of a cell.

        Raises
        ------
        ScenarioError
            Listing every rule that the changed scenario breaks, one a line.
        """
        name = self.world_of(cell)
        if not name:
            return self.sweep.scenario
        if name not in self._scenarios:
            plain = self._plain
            changes = list(zip((key for key in self.keys if key.role == "scenario"), name, strict=True))
            changes.sort(key=lambda change: not (change[0].name in DERIVED and DERIVED[change[0].name].first))
            for key, value in changes:
                assert key.change is not None
                plain = key.change(plain, value)
            while len(self._scenarios) >= _KEPT:
                del self._scenarios[next(iter(self._scenarios))]
            try:
                self._scenarios[name] = build_scenario(plain)
            except ScenarioError as error:
                raise ScenarioError("\n".join(_bare(line) for line in str(error).splitlines())) from None
        return self._scenarios[name]

    def faults(self, cell: Cell, run: int) -> tuple[Fault, ...]:
        """Return the faults of a run of a cell; none in a control run.

        Raises
        ------
        FaultError
            Listing every rule that a fault breaks, one a line.
        """
        scenario, sweep = self.scenario(cell), self.sweep
        changes: dict[int, dict[str, Value]] = {}
        for key, value in zip(self.keys, cell.values, strict=True):
            if key.role == "fault":
                changes.setdefault(max(key.fault, 0), {})[key.field] = value
        given = changes.get(0, {})
        if not sweep.faults and not given.keys() & {"type", "fault"}:
            drawn = draw_faults(scenario, run_key(sweep.seed, sweep.split, run, 1), sweep.mix)
            _check_changes(given, scenario)
            return tuple(replace(fault, **given) for fault in drawn)  # type: ignore[arg-type]
        specs = sweep.faults or (FaultSpec(""),)
        return tuple(_parsed(spec, changes.get(i, {}), scenario) for i, spec in enumerate(specs))

    def run(self, cell: Cell, number: int) -> Run:
        """Return a run of a cell; the same number has the same randomness in every cell."""
        sweep = self.sweep
        faults = self.faults(cell, number)
        return make_run(self.scenario(cell), seed=sweep.seed, split=sweep.split, run=number, faults=faults)

    def parts(self, cell: Cell) -> Parts | None:
        """Return the parts of a cell's agent; None without one."""
        sweep = self.sweep
        if not sweep.detector:
            return None
        parts = Parts(sweep.detector, sweep.diagnoser, sweep.policy)
        named = {key.field: value for key, value in zip(self.keys, cell.values, strict=True) if key.role == "agent"}
        return replace(parts, **named)  # type: ignore[arg-type]

    def named(self, part: str) -> tuple[str, ...]:
        """Return the names of all detectors, diagnosers or policies of the study."""
        axis = next((axis for axis in self.sweep.axes if axis.key == part), None)
        if axis is not None:
            return tuple(str(value) for value in axis.values)
        name: str = getattr(self.sweep, part)
        return (name,) if name else ()

    def mistakes(self, cells: Sequence[Cell]) -> list[str]:
        """Return every rule that the cells break, each with the first values that break it."""
        found: dict[str, tuple[str, str]] = {}
        seen: set[tuple[tuple[Value, ...], ...]] = set()
        for cell in cells:
            name = self.world_of(cell), self.strike_of(cell)
            if name in seen:
                continue
            seen.add(name)
            try:
                self.faults(cell, 0)
            except InputError as error:
                for line in str(error).splitlines():
                    # a rule is told once, not for every target that a fault may have
                    found.setdefault(line.rpartition(": ")[2], (line, self._told(cell)))
        return [f"{line} (at {where})" if where else line for line, where in found.values()]

    def _told(self, cell: Cell) -> str:
        named = zip(self.keys, cell.values, strict=True)
        shown = (
            (key.name, f"{value:g}" if isinstance(value, float) else value)
            for key, value in named
            if key.role != "agent"
        )
        return ", ".join(f"{name}={value}" for name, value in shown)


def _bare(line: str) -> str:
    """Return a rule that a scenario breaks without the name of its source."""
    return line.partition(": ")[2]


def _check_changes(changes: dict[str, Value], scenario: Scenario) -> None:
    """Check the numbers of a drawn fault, which follow the rules of one that is written; there may be none to draw."""
    try:
        parse_fault("none", scenario, **changes)  # type: ignore[arg-type]
    except FaultError as error:
        raise FaultError("\n".join(f"fault: {_bare(line)}" for line in str(error).splitlines())) from None


def _parsed(spec: FaultSpec, changes: dict[str, Value], scenario: Scenario) -> Fault:
    name, at, target = spec.fault.partition("@")
    if "fault" in changes:
        name, at, target = str(changes["fault"]).partition("@")
    name = str(changes.get("type", name))
    if "target" in changes:
        at, target = "@", str(changes["target"])
    numbers = {field: getattr(spec, field) for field in ("onset_s", "duration_s", "severity", "profile", "place")}
    numbers |= {field: value for field, value in changes.items() if field in numbers}
    if not name:
        raise FaultError("a fault needs a type: give --fault or vary fault.type")
    return parse_fault(f"{name}{at}{target}", scenario, **numbers)
