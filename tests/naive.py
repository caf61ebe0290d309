"""Oracles: the slow and obvious way to compute what the code computes fast."""

import math
from collections.abc import Sequence


def incidents(
    violating: Sequence[bool], restored: Sequence[bool], fault: int, end: int, step_s: float
) -> list[tuple[str, int, int]]:
    """Return (kind, opened, recovered) of a run's incidents, straight from the definitions."""
    needed = math.ceil(60.0 / step_s)
    found = []
    spans = [(0, end, "false")] if fault < 0 else [(0, min(fault, end), "false"), (fault, end, "incident")]
    for begin, stop, kind in spans:
        step = begin
        while step < stop:
            recent = [violating[k] for k in range(max(begin, step - 2), step + 1)]
            if not (violating[step] and sum(recent) >= 2):
                step += 1
                continue
            healthy = [
                start
                for start in range(step + 1, stop - needed + 1)
                if all(not violating[k] and restored[k] for k in range(start, start + needed))
            ]
            recovered = healthy[0] if healthy else -1
            found.append((kind, step, recovered))
            kind = "false" if kind == "false" else "relapse"
            if recovered < 0:
                break
            step = recovered + needed
    return found


def violating(p95_s: float, offered: int, good: int, bad: int, p95_limit_s: float, bad_frac: float) -> bool:
    if p95_s > p95_limit_s:
        return True
    if offered == 0:
        return bad > 0
    return bad / offered > bad_frac or good == 0


def unhealthy(violating: Sequence[bool], restored: bool, step: int, fault: int) -> bool:
    first = max(0, step - 2, fault if 0 <= fault <= step else 0)
    return sum(violating[first : step + 1]) >= 2 or not restored


def first_time_with_share(times: Sequence[float], happened: Sequence[bool], share: float) -> float | None:
    """Return the Kaplan-Meier quantile, by walking along the runs in order of time, events first."""
    order = sorted(range(len(times)), key=lambda i: (times[i], not happened[i]))
    at_risk, survival = len(times), 1.0
    for place, i in enumerate(order):
        if happened[i]:
            survival *= 1.0 - 1.0 / at_risk
        at_risk -= 1
        last_of_its_time = place + 1 == len(order) or times[order[place + 1]] > times[i]
        if last_of_its_time and survival <= 1.0 - share + 1e-9:
            return times[i]
    return None
