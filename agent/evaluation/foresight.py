"""Counterfactuals as text and as JSON: a table of actions for one run, a summary for many."""

__all__ = ["case_object", "case_text", "summary_object", "summary_text", "truth_lines"]

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.evaluation.counterfactual import Case, Regret, Truth
from agent.evaluation.render import grid

#: Runs that a summary names.
_WORST = 5
_HEADS = ["action", "bad", "budget", "recovered", "after s", "cost", "J change", "against noop", "harmed"]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole}"


def _rows(case: Case) -> list[dict[str, Any]]:
    """Return one entry per action, best first: means over the futures that count."""
    out = case.outcomes
    gain, width = case.gain()
    bad, offered = case.judged(out.bad), case.judged(out.offered)
    allowed = (1.0 - case.objective) * offered
    budget = np.divide(bad, allowed, out=np.full(bad.shape, np.nan), where=offered > 0)
    recovery, harmed, mean = case.judged(out.recovery) * case.step_s, case.harmed(), case.mean_j()
    cost, own = case.judged(out.cost), out.j[:, 0]
    rows = []
    for i in np.argsort(-mean, kind="stable").tolist():
        known = recovery[i][~np.isnan(recovery[i])]
        rows.append(
            {
                "action": case.names[int(out.action[i])],
                "bad": float(bad[i].mean()),
                "error_budget_spent": _number(float(budget[i].mean())),
                "recovered": int(known.size),
                "recovery_s": float(np.median(known)) if known.size else None,
                "action_cost": float(cost[i].mean()),
                "j": float(mean[i]),
                "j_own_future": float(own[i]),
                "gain": float(gain[i]),
                "gain_low": _number(float(gain[i] - width[i])),
                "gain_high": _number(float(gain[i] + width[i])),
                "harmed": int(harmed[i].sum()),
                "taken": int(out.action[i]) == case.taken,
            }
        )
    return rows


def case_object(case: Case, then: str) -> dict[str, Any]:
    """Return a case, JSON-able."""
    out, found = case.outcomes, case.regret()
    regret = None
    if found is not None:
        fair, clairvoyant = found
        regret = {
            "mean": fair.mean,
            "low": _number(fair.low),
            "high": _number(fair.high),
            "fair": case.fair,
            "clairvoyant": clairvoyant.mean,
        }
    return {
        "run": case.run.run,
        "step": case.step,
        "time_s": case.step * case.step_s,
        "horizon": case.horizon,
        "followed_by": then,
        "futures": int(out.futures.size - 1),
        "taken": case.names[case.taken] if case.taken >= 0 else None,
        "best": case.names[int(out.action[case.best()])],
        "best_in_own_future": case.names[int(out.action[case.best_of_own()])],
        "regret": regret,
        "margin": case.margin,
        "truth": None if case.truth is None else _truth_object(case.truth),
        "actions": _rows(case),
    }


def _cells(row: dict[str, Any], futures: int) -> list[str]:
    against = f"{row['gain']:+.4f}"
    if row["gain_low"] is not None:
        against += f" [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
    return [
        ("* " if row["taken"] else "  ") + row["action"],
        f"{row['bad']:.0f}",
        "-" if row["error_budget_spent"] is None else f"{row['error_budget_spent']:.2f}",
        _share(row["recovered"], futures),
        "-" if row["recovery_s"] is None else f"{row['recovery_s']:.0f}",
        f"{row['action_cost']:.3f}",
        f"{row['j']:.4f}",
        "" if row["action"] == "noop" else against,
        _share(row["harmed"], futures) if row["harmed"] else "",
    ]


def _regret_words(regret: Regret) -> str:
    if math.isnan(regret.low):
        return f"{regret.mean:.4f}"
    return f"{regret.mean:.4f} [{regret.low:.4f}, {regret.high:.4f}]"


def case_text(case: Case, then: str) -> str:
    """Return the table of a case's actions, best first, and what follows from it."""
    n = case.outcomes.futures.size
    counted = n - 1 if case.fair else 1
    over = f"{n - 1} futures that nobody knew" if case.fair else "the run's own future"
    when = f"run {case.run.run}, edge {case.step} ({case.step * case.step_s:g} s)"
    head = f"{when}: every legal action, then {then}, over {case.horizon} steps, in {over}"
    rows = _rows(case)
    lines = [head, "", grid(_HEADS, [_cells(row, counted) for row in rows]), ""]
    best = rows[0]
    sure = best["gain_low"] is not None and best["gain_low"] > 0
    doubt = "" if sure or not case.fair or best["action"] == "noop" else " (no difference from noop shown)"
    lines.append(f"best action: {best['action']}{doubt}")
    if case.fair:
        lines.append(f"best in the run's own future: {case.names[int(case.outcomes.action[case.best_of_own()])]}")
    if (found := case.regret()) is not None:
        fair, clairvoyant = found
        lines.append(f"the agent (*) takes {case.names[case.taken]}: regret {_regret_words(fair)} of J")
        if case.fair:
            lines.append(f"regret in the run's own future: {_regret_words(clairvoyant)}")
    hurt = [row["action"] for row in rows if 2 * row["harmed"] > counted]
    where = "in most futures " if case.fair else ""
    lines.append(f"harmful, {where}worse than noop by more than {case.margin:g} of J: {', '.join(hurt) or 'none'}")
    if case.truth is not None:
        lines += ["", *truth_lines(case, case.truth)]
    return "\n".join(lines)


def truth_lines(case: Case, truth: Truth) -> list[str]:
    """Return what ablation says, in words."""
    names = [fault.type for fault in case.run.faults]
    found = truth.trigger
    if not found.ill:
        trigger = "nothing: left alone, no incident opens"
    elif found.ill_without:
        trigger = "not a fault: without any there is an incident too"
    else:
        trigger = ", ".join(names[i] for i in found.triggers) or "no fault by itself: only all of them together"
    now = truth.sustaining
    if not now.ill:
        held = "nothing: there is no incident at this edge or after it"
    elif now.heals_itself:
        held = "nothing: left alone, it heals within the horizon"
    elif now.causes:
        held = ", ".join(cause.named(truth.services) for cause in now.causes)
    else:
        held = (
            "only all faults together" if now.together else "nothing that was tried; removing all faults does not help"
        )
    chain = [f"{truth.services[d.service]} ({d.metric.name.lower()}, {d.step * case.step_s:g} s)" for d in truth.chain]
    return [
        f"triggered by: {trigger}",
        f"kept up by (any one removed now, it heals): {held}",
        f"departs from the fault-free twin: {', then '.join(chain) or 'no service'}",
    ]


def _truth_object(truth: Truth) -> dict[str, Any]:
    return {
        "ill": truth.trigger.ill,
        "ill_without_faults": truth.trigger.ill_without,
        "triggers": list(truth.trigger.triggers),
        "necessary": list(truth.trigger.necessary),
        "sufficient": list(truth.trigger.sufficient),
        "heals_itself": truth.sustaining.heals_itself,
        "sustaining": [cause.named(truth.services) for cause in truth.sustaining.causes],
        "sustaining_together": truth.sustaining.together,
        "chain": [
            {"service": truth.services[d.service], "step": d.step, "metric": d.metric.name.lower(), "floors": d.floors}
            for d in truth.chain
        ],
    }


def summary_object(cases: Sequence[Case]) -> dict[str, Any]:
    """Return what many cases have in common: best actions, regret, and how often the agent's action harmed."""
    best = Counter(case.names[int(case.outcomes.action[case.best()])] for case in cases)
    found = [regret for case in cases if (regret := case.regret()) is not None]
    fair = np.array([regret[0].mean for regret in found])
    hurt = [bool(case.harmed()[case.position_of(case.taken)].mean() > 0.5) for case in cases if case.taken >= 0]
    width = 1.96 * fair.std(ddof=1) / math.sqrt(fair.size) if fair.size > 1 else math.nan
    return {
        "runs": len(cases),
        "forks": int(sum(case.outcomes.j.size for case in cases)),
        "best": dict(best.most_common()),
        "regret": _number(float(fair.mean())) if fair.size else None,
        "regret_low": _number(float(fair.mean() - width)) if fair.size else None,
        "regret_high": _number(float(fair.mean() + width)) if fair.size else None,
        "regret_clairvoyant": float(np.mean([r[1].mean for r in found])) if found else None,
        "harmed_by_the_agent": sum(hurt) if hurt else None,
        "largest_regret": _largest_regret(cases),
    }


def _largest_regret(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return the runs that the agent's choice costs most, worst first."""
    found = [(case, regret[0].mean) for case in cases if (regret := case.regret()) is not None]
    found = sorted((pair for pair in found if pair[1] > 0.0), key=lambda pair: (-pair[1], pair[0].run.run))
    return [
        {
            "run": case.run.run,
            "step": case.step,
            "taken": case.names[case.taken],
            "best": case.names[int(case.outcomes.action[case.best()])],
            "regret": regret,
        }
        for case, regret in found[:_WORST]
    ]


def _worst_words(row: dict[str, Any]) -> str:
    return f"{row['taken']} instead of {row['best']} at edge {row['step']} costs {row['regret']:.4f}"


def summary_text(cases: Sequence[Case], n_asked: int) -> str:
    """Return ``summary_object`` in words."""
    found = summary_object(cases)
    lines = [f"{found['runs']} of {n_asked} runs, {found['forks']:,} forks"]
    lines += [f"  best in {count:4d} runs: {name}" for name, count in found["best"].items()]
    if found["regret"] is not None:
        interval = ""
        if found["regret_low"] is not None:
            interval = f" [{found['regret_low']:.4f}, {found['regret_high']:.4f}]"
        lines.append(f"mean regret of the agent: {found['regret']:.4f}{interval} of J")
        lines.append(f"mean regret in the runs' own futures: {found['regret_clairvoyant']:.4f}")
        lines.append(f"runs that the agent's action harms: {found['harmed_by_the_agent']} of {found['runs']}")
        lines += [f"  run {row['run']}: {_worst_words(row)}" for row in found["largest_regret"]]
    return "\n".join(lines)
