"""From an episode to its timeline: golden signals per service, and what happened when."""

__all__ = ["timeline_of"]

import numpy as np
import numpy.typing as npt

from agent.api import AgentTrace
from agent.evaluation.figures import Axis, Band, Curve, Mark, Panel, Timeline
from agent.evaluation.mended import over_s
from simcore.codes import Param
from simcore.env import Episodes
from simcore.model.faults import label
from simcore.windows import Metric

Floats = npt.NDArray[np.float64]

_NAN = float("nan")
_NOISE = {Param.DEPLOY: "deploy", Param.CONFIG: "configuration change", Param.SURGE: "short burst of traffic"}


def timeline_of(episodes: Episodes, trace: AgentTrace | None, *, key: str = "timeline", title: str = "") -> Timeline:
    """Return the golden signals of a finished episode of one run, with what happened in it.

    Parameters
    ----------
    episodes
        One run, finished.
    trace
        What the agent did; None without one.
    key, title
        Of the picture.
    """
    end_s = episodes.n_steps * episodes.scenario.timing.step_s
    bands = [*_fault_bands(episodes), *_open_bands("incident", episodes.incident_open[0], episodes)]
    if trace is not None:
        bands += [*_open_bands("alarm", trace.alarm[0], episodes), *_suspect_bands(episodes, trace)]
    run = episodes.runs[0]
    return Timeline(
        key=key,
        title=title or f"{run.split} run {run.run}, seed {run.seed}",
        about=(
            "The golden signals of every service and of the system as its clients see it (thick), and the agent's"
            " anomaly score. Above them: when the fault was there, when an incident and an alarm were open, whom the"
            " agent suspected, and when it acted."
        ),
        end_s=end_s,
        panels=_panels(episodes, trace),
        bands=tuple(bands),
        marks=(*_action_marks(episodes), *_noise_marks(episodes)),
    )


def _fault_bands(episodes: Episodes) -> list[Band]:
    found = []
    for fault in episodes.runs[0].faults:
        found.append(Band("fault", label(fault, episodes.scenario), fault.onset_s, over_s(fault, episodes)))
    return found


def _open_bands(kind: str, is_open: npt.NDArray[np.bool_], episodes: Episodes) -> list[Band]:
    """Return a band per stretch of steps; an alarm is known at the edge where a step begins, an incident at its end."""
    step_s = episodes.scenario.timing.step_s
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_open.astype(np.int64), [0]])))
    late = 1 if kind == "incident" else 0
    last = episodes.n_steps
    return [
        Band(kind, kind, min(int(a) + late, last) * step_s, min(int(b) + late, last) * step_s)
        for a, b in edges.reshape(-1, 2)
    ]


def _suspect_bands(episodes: Episodes, trace: AgentTrace) -> list[Band]:
    """Return a band per stretch of steps in which a diagnosis is in force and names the same suspect."""
    step_s, names = episodes.scenario.timing.step_s, episodes.topology.services
    suspects = np.where(trace.ranked[0, :, 0] >= 0, trace.suspect[0], -2)
    edges = np.flatnonzero(np.diff(suspects)) + 1
    starts = [0, *edges.tolist()]
    return [
        Band("suspect", names[suspect] if suspect >= 0 else "none of them", start * step_s, end * step_s)
        for start, end in zip(starts, [*starts[1:], suspects.size], strict=True)
        if (suspect := int(suspects[start])) >= -1
    ]


def _action_marks(episodes: Episodes) -> list[Mark]:
    step_s = episodes.scenario.timing.step_s
    return [
        Mark(
            "action", episodes.actions.names[record.action], record.step * step_s,
            f"takes effect after {record.effect_s - record.step * step_s:.0f} s" if record.succeeds else "fails",
        )
        for record in episodes.records
    ]  # fmt: skip


def _noise_marks(episodes: Episodes) -> list[Mark]:
    run, names = episodes.runs[0], episodes.scenario.service_names
    found = []
    for change in run.inputs.changes:
        what = run.inputs.modulations[change.modulation]
        if run.owner[change.modulation] >= 0 or what.param not in _NOISE or change.value <= 0:
            continue
        place = names[what.service] if what.service >= 0 else "the border"
        found.append(Mark("noise", f"{_NOISE[what.param]} at {place}", change.time_s, "harmless"))
    return found


def _panels(episodes: Episodes, trace: AgentTrace | None) -> tuple[Panel, ...]:
    metrics, slo = episodes.metrics[0], episodes.scenario.slo
    step_s, n = episodes.scenario.timing.step_s, episodes.n_steps
    # a window is known at its end
    time_s = tuple(((np.arange(n) + 1) * step_s).tolist())
    system = episodes.topology.n_services
    services = list(enumerate(episodes.topology.services))
    bad = np.minimum(episodes.bad[0] / np.maximum(episodes.offered[0], 1), 1.0)

    def panel(name: str, unit: str, metric: Metric, own: Floats | None, scale: float, limit: float) -> Panel:
        lines = [] if own is None else [Curve("system", time_s, tuple(own.tolist()), look=-1)]
        lines += [Curve(s, time_s, tuple((scale * metrics[:, i, metric]).tolist()), look=i) for i, s in services]
        top = np.nanmax([limit, *(np.nanmax([0.0, *line.y]) for line in lines)])
        axis = Axis(name, 0.0, 1.05 * float(top) or 1.0, unit)
        return Panel(name, axis, tuple(lines), limit)

    found = [
        panel("latency p95", "ms", Metric.P95_S, 1000.0 * metrics[:, system, Metric.P95_S], 1000.0, 1000.0 * slo.p95_s),
        panel("errors", "%", Metric.ERROR_RATE, 100.0 * bad, 100.0, 100.0 * slo.bad_frac),
        panel("traffic", "requests/s", Metric.REQUEST_RATE_RPS, episodes.offered[0] / step_s, 1.0, _NAN),
        panel("saturation (CPU)", "%", Metric.CPU_UTIL, None, 100.0, _NAN),
    ]
    if trace is not None:
        edges = tuple((np.arange(n) * step_s).tolist())
        scores = [Curve("system", edges, tuple(trace.overall[0].tolist()), look=-1)]
        scores += [Curve(s, edges, tuple(trace.score[0, :, i].tolist()), look=i) for i, s in services]
        top = np.nanmax([1e-9, *(np.nanmax([0.0, *line.y]) for line in scores)])
        found.append(Panel("anomaly score", Axis("anomaly score", 0.0, 1.05 * float(top)), tuple(scores)))
    return tuple(found)
