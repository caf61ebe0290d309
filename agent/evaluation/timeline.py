"""One episode as a readable timeline, and the incident report at its end. Both engines give the same text."""

__all__ = ["TRUTH", "Line", "Seen", "clock", "describe", "lines_of", "render"]

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace, Decision
from agent.evaluation.scoring import Labels, score
from simcore.codes import Param
from simcore.env import Episodes
from simcore.model.faults import Fault, label
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]

#: A line of the timeline: time in steps, order within an instant, mark, text.
Line = tuple[float, int, str, str]

#: Mark of what the agent cannot see.
TRUTH = "~"
_LOOK_S = 300.0
_LAST = 1000  # order of what comes after everything else of its instant
_NOISE = {Param.DEPLOY: "deploy", Param.CONFIG: "change of configuration", Param.SURGE: "short burst of traffic"}


class Seen:
    """Keeps what the agent saw of run 0 at every edge; pass ``take`` as ``on_step``."""

    def __init__(self, episodes_steps: int) -> None:
        self.metrics: list[Floats | None] = [None] * (episodes_steps + 1)

    def take(self, episodes: Episodes) -> None:
        """Keep the observation at the present edge."""
        self.metrics[episodes.step] = episodes.observation.metrics[0].copy()


def clock(time_s: float) -> str:
    """Return a simulated time as minutes and seconds."""
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}"


def render(episodes: Episodes, trace: AgentTrace | None, seen: Seen, labels: Labels) -> str:
    """Return the timeline and the report of a finished episode of one run.

    Parameters
    ----------
    episodes
        One run, finished.
    trace
        What the agent did; None without one.
    seen
        What it saw.
    labels
        As for ``scoring.score``.
    """
    step_s = episodes.scenario.timing.step_s
    shown = [f"{clock(k * step_s):>6}  {mark} {text}" for k, _, mark, text in lines_of(episodes, trace, seen)]
    tables = score(episodes, trace, labels, tables=("episodes", "actions"))
    report = _report(episodes, tables["episodes"].row(0, named=True), tables["actions"].to_dicts())
    return "\n".join([*_head(episodes, labels), "", *shown, "", *report])


def lines_of(episodes: Episodes, trace: AgentTrace | None, seen: Seen) -> list[Line]:
    """Return the timeline in order, as far as the episode has come.

    Parameters
    ----------
    episodes
        One run.
    trace
        What the agent did up to here; None without one.
    seen
        What it saw.
    """
    lines = [*_faults(episodes), *_noise(episodes), *_slo(episodes)]
    if trace is not None:
        lines += [*_looks(episodes, seen), *_alarms(episodes, trace, seen)]
        lines += [*_suspects(episodes, trace), *_decisions(episodes, trace, seen)]
    lines += _effects(episodes)
    until = episodes.step if not episodes.finished else np.inf
    return sorted((line for line in dict.fromkeys(lines) if line[0] <= until), key=_order)


def _order(line: Line) -> tuple[float, int]:
    return line[0], line[1]


def _head(episodes: Episodes, labels: Labels) -> list[str]:
    run, scenario = episodes.runs[0], episodes.scenario
    agent = "no agent"
    if labels.get("policy"):
        agent = f"detector {labels['detector']}, diagnoser {labels['diagnoser']}, policy {labels['policy']}"
    return [
        f"{scenario.name} ({scenario.digest}), {episodes.n_steps} steps of {scenario.timing.step_s:g} s, "
        f"seed {run.seed}, {run.split} run {run.run}",
        agent,
        f"promised: p95 <= {_ms(scenario.slo.p95_s)}, at most {scenario.slo.bad_frac:.0%} of a step's requests bad",
        f"marked {TRUTH}: what the agent cannot see",
    ]


def _faults(episodes: Episodes) -> list[Line]:
    lines: list[Line] = []
    step_s = episodes.scenario.timing.step_s
    for fault in episodes.runs[0].faults:
        text = f"fault begins: {describe(fault, episodes)}"
        lines.append((fault.onset_s / step_s, 0, TRUTH, text))
        end = fault.onset_s + fault.duration_s
        if fault.duration_s > 0 and end < episodes.n_steps * step_s:
            lines.append((end / step_s, 0, TRUTH, f"fault's time is over: {label(fault, episodes.scenario)}"))
    return lines


def _noise(episodes: Episodes) -> list[Line]:
    """Return the harmless events that happen in all runs."""
    run, names = episodes.runs[0], episodes.scenario.service_names
    lines: list[Line] = []
    for change in run.inputs.changes:
        what = run.inputs.modulations[change.modulation]
        if run.owner[change.modulation] >= 0 or what.param not in _NOISE or change.value <= 0:
            continue
        place = names[what.service] if what.service >= 0 else "the border"
        text = f"{_NOISE[what.param]} at {place} (harmless)"
        lines.append((change.time_s / episodes.scenario.timing.step_s, 0, TRUTH, text))
    return lines


def _looks(episodes: Episodes, seen: Seen) -> list[Line]:
    """Return what was observed every few minutes, so that quiet times show too."""
    every = max(1, round(_LOOK_S / episodes.scenario.timing.step_s))
    return [(k, 2, " ", f"observed: {_observed(seen, k)}") for k in range(every, episodes.step, every)]


def describe(fault: Fault, episodes: Episodes) -> str:
    """Return a fault in words: what and where, how bad, and how long."""
    lasts = f"for {clock(fault.duration_s)}" if fault.duration_s > 0 else "until fixed"
    return (
        f"{label(fault, episodes.scenario)}, severity {fault.severity:.2f}, {fault.profile}, "
        f"lives in: {fault.place.name.lower()}, {lasts}"
    )


def _slo(episodes: Episodes) -> list[Line]:
    lines: list[Line] = []
    open_ = np.concatenate([[False], episodes.incident_open[0]])
    for k in range(episodes.step):
        if open_[k + 1] and not open_[k]:
            lines.append((k + 1, 1, TRUTH, f"incident opens: {_users(episodes, k)}"))
        elif open_[k] and not open_[k + 1]:
            lines.append((k + 1, 1, TRUTH, f"incident closes: {_users(episodes, k)}"))
    return lines


def _users(episodes: Episodes, k: int) -> str:
    offered, bad = int(episodes.offered[0, k]), int(episodes.bad[0, k])
    share = f"{bad} of {offered} requests bad" if offered else "no requests"
    return f"{share}, p95 {_ms(float(episodes.metrics[0, k, -1, Metric.P95_S]))}"


def _alarms(episodes: Episodes, trace: AgentTrace, seen: Seen) -> list[Line]:
    lines: list[Line] = []
    names = episodes.topology.services
    alarm = np.concatenate([[False], trace.alarm[0]])
    for k in range(episodes.step):
        if alarm[k + 1] and not alarm[k]:
            scores = trace.score[0, k]
            order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:3]
            worst = ", ".join(f"{names[s]} {scores[s]:.2f}" for s in order if not np.isnan(scores[s]))
            lines.append((k, 2, " ", f"observed: {_observed(seen, k)}"))
            lines.append((k, 3, "!", f"ALARM, anomaly score {trace.overall[0, k]:.2f} ({worst})"))
        elif alarm[k] and not alarm[k + 1]:
            lines.append((k, 3, "!", f"alarm over: {_observed(seen, k)}"))
    return lines


def _observed(seen: Seen, k: int) -> str:
    metrics = seen.metrics[k]
    if metrics is None or np.isnan(metrics[-1, Metric.REQUEST_RATE_RPS]):
        return "nothing yet"
    row = metrics[-1]
    return (
        f"p95 {_ms(float(row[Metric.P95_S]))}, errors {_percent(float(row[Metric.ERROR_RATE]))}, "
        f"{row[Metric.REQUEST_RATE_RPS]:.0f} requests/s"
    )


def _suspects(episodes: Episodes, trace: AgentTrace) -> list[Line]:
    lines: list[Line] = []
    names = episodes.topology.services
    before = -2
    for k in range(episodes.step):
        known = trace.ranked[0, k, 0] >= 0
        suspect = int(trace.suspect[0, k]) if known else -2
        if known and suspect != before:
            name = names[suspect] if suspect >= 0 else "none of the services (the workload, or nothing)"
            others = [names[s] for s in trace.ranked[0, k].tolist() if s >= 0 and s != suspect][:2]
            then = f"; then {', '.join(others)}" if others else ""
            lines.append((k, 4, "?", f"suspect: {name}, confidence {trace.confidence[0, k]:.2f}{then}"))
        before = suspect
    return lines


def _decisions(episodes: Episodes, trace: AgentTrace, seen: Seen) -> list[Line]:
    lines: list[Line] = []
    for decision in trace.decisions:
        lines.append((decision.opened, 5, ">", f"decision: {episodes.actions.names[decision.action]}"))
        reasons = [part.strip() for part in decision.rationale.split("; ") if part.strip()]
        lines += [(decision.opened, 6 + i, " ", f"  {reason}") for i, reason in enumerate(reasons)]
        if decision.closed >= 0:
            lines.append((decision.closed, 1, "=", _judged(episodes, decision, seen)))
    return lines


def _judged(episodes: Episodes, decision: Decision, seen: Seen) -> str:
    name = episodes.actions.names[decision.action]
    before, after = _observed(seen, decision.opened), _observed(seen, decision.closed)
    return f"effect of {name}: {before} -> {after}; reward {decision.reward:.2f}"


def _effects(episodes: Episodes) -> list[Line]:
    lines: list[Line] = []
    step_s = episodes.scenario.timing.step_s
    for record in episodes.records:
        name = episodes.actions.names[record.action]
        if record.effect_s < episodes.n_steps * step_s:
            text = f"{name} takes effect" if record.succeeds else f"{name} fails"
            # an effect without delay follows its decision and the reasons
            order = _LAST if record.effect_s <= record.step * step_s else 0
            lines.append((record.effect_s / step_s, order, TRUTH, text))
    return lines


def _report(episodes: Episodes, row: dict[str, Any], actions: list[dict[str, Any]]) -> list[str]:
    """Return the incident report: what happened, how long each part took, what it cost."""
    faults = [describe(fault, episodes) + f", from {clock(fault.onset_s)}" for fault in episodes.runs[0].faults]
    taken = [f"{action['action']} at {clock(action['decided_s'])}" for action in actions]
    rows = [
        ("fault", "; ".join(faults) or "none"),
        ("incident", _incident(row)),
        ("alarm", f"{_at(row['t_alarm_s'])}{_after('TTD', row['ttd_s'])}; false alarms: {row['false_alarms']}"),
        ("diagnosis", _diagnosis(row)),
        ("actions", f"{', '.join(taken) or 'none'} (cost {row['action_cost']:.3f})"),
        ("recovery", _recovery(row)),
        ("users", f"{row['offered']} requests offered, {row['good']} good, {row['bad']} bad, {row['shed']} shed"),
        ("SLO", f"{row['violation_steps']} of {row['steps']} steps violated, {_budget(row['error_budget_spent'])}"),
        ("J", f"{row['j']:.4f}"),
    ]
    return ["Incident report", *(f"  {name:<11}{text}" for name, text in rows)]


def _incident(row: dict[str, Any]) -> str:
    text = f"opened at {clock(row['t_v_s'])}" if row["incident"] else "none"
    if row["relapses"]:
        text += f", {row['relapses']} relapses"
    return text + (f", {row['false_incidents']} without a fault" if row["false_incidents"] else "")


def _diagnosis(row: dict[str, Any]) -> str:
    if row["diagnosed"] is None:
        return "none"
    verdict = {1.0: "right", 0.0: "wrong"}.get(row["ac1"], "in part right")
    return f"{row['diagnosed']} ({verdict}){_after('TTL', row['ttl_s'])}"


def _recovery(row: dict[str, Any]) -> str:
    if not row["incident"]:
        return "nothing to recover from"
    if row["recovered"]:
        return f"{_at(row['t_r_s'])}{_after('TTM', row['ttm_s'])}"
    return f"not by {clock(row['censored_s'])} (censored)"


def _budget(spent: float | None) -> str:
    return "no error budget" if spent is None else f"{spent:.2f} x the error budget spent"


def _at(time_s: float | None) -> str:
    return "none" if time_s is None else f"at {clock(time_s)}"


def _after(name: str, time_s: float | None) -> str:
    return "" if time_s is None else f", {name} {time_s:.0f} s"


def _ms(seconds: float) -> str:
    return "unknown" if np.isnan(seconds) else f"{1000 * seconds:.0f} ms"


def _percent(share: float) -> str:
    return "unknown" if np.isnan(share) else f"{100 * share:.1f} %"
