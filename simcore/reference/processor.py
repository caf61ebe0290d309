"""Processor sharing on a replica's cores, by a virtual clock."""

__all__ = ["Job", "Processor"]

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from simpy.events import Event

from simcore.codes import Kind
from simcore.reference.calendar import Calendar, Entry, Signal


class Job(Signal):
    """A job at a processor; happens at its completion."""

    def __init__(self, processor: "Processor") -> None:
        super().__init__(processor.calendar)
        self._processor = processor

    def cancel(self) -> None:
        """Take the job off the processor; nobody who waits for it will hear of it again."""
        self._processor.cancel(self)


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
        self.calendar = calendar
        self._changed = changed
        self._virtual = 0.0
        self._since_s = calendar.now
        self._rate = speed
        self.jobs: list[tuple[float, int, int, Job]] = []  #: a heap of (end in virtual time, key, attempt, job)
        self._completion: Entry | None = None

    def join(self, demand_s: float, key: int, attempt: int) -> Job:
        """Start a job of the given CPU demand; the event happens at its completion."""
        self._sync()
        done = Job(self)
        job = (self._virtual + demand_s, key, attempt, done)
        heappush(self.jobs, job)
        if self._pace_up() or self.jobs[0] is job:
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

    def cancel(self, job: Job) -> None:
        """Take a job off; the others go on with its share."""
        self._sync()
        first = self.jobs[0][-1]
        self.jobs = [other for other in self.jobs if other[-1] is not job]
        heapify(self.jobs)
        if not self.jobs:
            self._virtual = 0.0
        if self._pace_up() or first is job:
            self._rearm()
        self._changed()

    def clear(self) -> None:
        """Drop all jobs; nobody hears of them again."""
        self.jobs.clear()
        self._sync()
        self._pace_up()
        self._rearm()
        self._changed()

    def _sync(self) -> None:
        now = self.calendar.now
        self._virtual = self._virtual + (now - self._since_s) * self._rate if self.jobs else 0.0
        self._since_s = now

    def _pace_up(self) -> bool:
        """Recompute the rate per job and say whether it has changed."""
        before, n = self._rate, len(self.jobs)
        self._rate = self.speed if n <= self.cores else self.speed * (self.cores / n)
        return self._rate != before

    def _rearm(self) -> None:
        """Enter the next completion anew."""
        if self._completion is not None:
            self._completion.cancel()
            self._completion = None
        if self.jobs and self._rate > 0.0:
            end, key, attempt, _ = self.jobs[0]
            wait_s = max(0.0, (end - self._virtual) * (1.0 / self._rate))
            self._completion = self.calendar.at(self.calendar.now + wait_s, Kind.CPU, key, attempt, self._complete)

    def _complete(self, _: Event) -> None:
        end, _key, _attempt, done = heappop(self.jobs)
        self._completion = None
        self._virtual = end if self.jobs else 0.0
        self._since_s = self.calendar.now
        self._pace_up()
        self._rearm()
        self._changed()
        done.succeed()
