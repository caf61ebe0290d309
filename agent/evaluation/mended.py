"""When a fault was over: its time was up, or an action replaced the place where it lives."""

__all__ = ["over_s"]

from collections.abc import Mapping

from simcore.codes import ActionCode, Place
from simcore.env import Episodes
from simcore.model.faults import Fault

#: What each action replaces at its service (docs/explanation/model.md, *Faults*); escalation mends everything.
_REPLACED: Mapping[ActionCode, tuple[Place, ...]] = {
    ActionCode.RESTART: (Place.PROCESS,),
    ActionCode.ROLLBACK: (Place.VERSION, Place.CONFIG, Place.PROCESS),
    ActionCode.FAILOVER: (Place.NODE, Place.PROCESS),
    ActionCode.RAISE_LIMIT: (Place.QUOTA,),
    ActionCode.ROTATE: (Place.CREDENTIAL,),
    ActionCode.CLEAR_CACHE: (Place.CONTENT,),
    ActionCode.SKIP_MESSAGE: (Place.CONTENT,),
}


def over_s(fault: Fault, episodes: Episodes, row: int = 0) -> float:
    """Return when a fault was over, in seconds: the end of the episode if it never was.

    An action counts from its effect on; where replicas are replaced one after the other, the last follow a little
    later. What strikes at once is over with the step in which it strikes, though what it leaves behind may last.

    Parameters
    ----------
    fault
        Of the run.
    episodes
        Finished, or as far as they have come.
    row
        Position of the run.
    """
    step_s = episodes.scenario.timing.step_s
    end_s = episodes.n_steps * step_s
    if fault.profile == "once":
        return min(fault.onset_s + step_s, end_s)
    if fault.duration_s > 0:
        end_s = min(end_s, fault.onset_s + fault.duration_s)
    for record in episodes.records:
        if record.run == row and record.succeeds and fault.onset_s <= record.effect_s < end_s:
            code = ActionCode(int(episodes.actions.code[record.action]))
            at = int(episodes.actions.service[record.action])
            if code is ActionCode.ESCALATE or (at == fault.service and fault.place in _REPLACED.get(code, ())):
                end_s = float(record.effect_s)
    return end_s
