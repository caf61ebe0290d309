"""Processor sharing on a replica's cores, by a virtual clock."""

__all__ = ["Processor"]

from collections.abc import Callable
from heapq import heappop, heappush

from simpy.events import Event

from simcore.codes import Kind
from simcore.reference.calendar import Calendar, Entry


class Processor:
    """The CPU-bound spans of one replica share its cores; each progresses at ``speed * min(1, cores / n)``.

    Parameters
    ----------
    calendar
        The run's calendar.
    speed, cores
        Effective values at the start.
    changed
        Called whenever the number of jobs or the cores have changed.
    """

    def __init__(self, calendar: Calendar, speed: float, cores: float, changed: Callable[[], None]) -> None:
        self.speed = speed
        self.cores = cores
        self._calendar = calendar
        self._changed = changed
        self._virtual = 0.0
        self._since_s = calendar.now
        self._rate = speed
        self._jobs: list[tuple[float, int, int, Event]] = []
        self._completion: Entry | None = None

    @property
    def n(self) -> int:
        """Number of jobs."""
        return len(self._jobs)

    def join(self, demand_s: float, key: int, attempt: int) -> Event:
        """Start a job of the given CPU demand; the event happens at its completion."""
        self._sync()
        done = self._calendar.event()
        job = (self._virtual + demand_s, key, attempt, done)
        heappush(self._jobs, job)
        if self._pace_up() or self._jobs[0] is job:
            self._rearm()
        self._changed()
        return done

    def retune(self, speed: float, cores: float) -> None:
        """Take over effective speed and cores; without a change nothing happens."""
        if speed == self.speed and cores == self.cores:
            return
        self._sync()
        self.speed = speed
        self.cores = cores
        self._pace_up()
        self._rearm()
        self._changed()

    def clear(self) -> None:
        """Drop all jobs; nobody hears of them again."""
        self._jobs.clear()
        self._sync()
        self._pace_up()
        self._rearm()
        self._changed()

    def _sync(self) -> None:
        now = self._calendar.now
        self._virtual = self._virtual + (now - self._since_s) * self._rate if self._jobs else 0.0
        self._since_s = now

    def _pace_up(self) -> bool:
        """Recompute the rate per job and say whether it has changed."""
        before, n = self._rate, len(self._jobs)
        self._rate = self.speed if n <= self.cores else self.speed * (self.cores / n)
        return self._rate != before

    def _rearm(self) -> None:
        """Enter the next completion anew."""
        if self._completion is not None:
            self._completion.cancel()
            self._completion = None
        if self._jobs and self._rate > 0.0:
            end, key, attempt, _ = self._jobs[0]
            wait_s = max(0.0, (end - self._virtual) * (1.0 / self._rate))
            self._completion = self._calendar.at(self._calendar.now + wait_s, Kind.CPU, key, attempt, self._complete)

    def _complete(self, _: Event) -> None:
        end, _key, _attempt, done = heappop(self._jobs)
        self._completion = None
        self._virtual = end if self._jobs else 0.0
        self._since_s = self._calendar.now
        self._pace_up()
        self._rearm()
        self._changed()
        done.succeed()
