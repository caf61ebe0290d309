"""The screen at the end: the truth, the incident report, and the oracle's verdict as it comes in."""

__all__ = ["VerdictScreen"]

from collections.abc import Callable
from concurrent.futures import Executor

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, ProgressBar, Static

from agent.evaluation.replay import Live
from agent.evaluation.verdict import FUTURES, Judged, Twin, judge, points_of, sentences, twins_of


class Skipped(Exception):
    """Raised inside the work when it was told to end."""


class Verdict:
    """What the oracle has found so far; the work is done by ``run``, elsewhere than where it is shown.

    Parameters
    ----------
    live
        A finished episode.
    threads
        As ``Episodes`` takes it.
    """

    def __init__(self, live: Live, *, threads: int | None = None) -> None:
        self._live, self._threads = live, threads
        self.played = live.played()
        self.points, self.left_out = points_of(live)
        self.twins: list[Twin] = []
        self.judged: list[Judged] = []
        self.share, self.done, self.skip = 0.0, False, False

    def run(self, tell: Callable[[], None]) -> None:
        """Do the work, telling whenever there is something new; ``skip`` ends it."""

        def on_share(share: float) -> None:
            if self.skip:
                raise Skipped
            self.share = share
            tell()

        try:
            for twin in twins_of(self._live, threads=self._threads):
                self.twins.append(twin)
                on_share(0.0)
            for found in judge(self._live, self.points, threads=self._threads, on_share=on_share):
                self.judged.append(found)
                tell()
        except Skipped:
            pass
        self.done = True
        tell()

    def lines(self) -> list[str]:
        """Return what is known by now, a line each."""
        lines = sentences(self.played.row, self.twins)
        if self.points:
            lines += ["", f"decisions beside all that was legal, in {FUTURES} futures that nobody knew"]
            lines += [
                f"{'- ' if i == 0 else '  '}{part}"
                for found in self.judged
                for i, part in enumerate(found.words().split("; "))
            ]
            if self.done and len(self.judged) < len(self.points):
                lines.append(f"  skipped: {len(self.points) - len(self.judged)} not judged")
            if self.left_out:
                lines.append(f"  and {self.left_out} later ones, which are not judged")
        else:
            lines += ["", "nothing was done and no incident came: there is nothing to judge"]
        return lines


class VerdictScreen(ModalScreen[None]):
    """Shows a verdict while it is worked on.

    Parameters
    ----------
    verdict
        Begun here if it is not done.
    executor
        Where the work is done.
    """

    BINDINGS = [Binding("escape,v", "back", "Back"), Binding("s", "skip", "Skip"), Binding("q", "app.quit", "Quit")]

    def __init__(self, verdict: Verdict, executor: Executor) -> None:
        super().__init__()
        self._verdict, self._executor = verdict, executor

    def compose(self) -> ComposeResult:
        """See ``Screen``."""
        with VerticalScroll(classes="sheet wide"):
            yield Label("The oracle's verdict", classes="title")
            yield Static(classes="words", id="words")
            yield ProgressBar(total=1.0, show_eta=False, id="work")
            yield Static(self._verdict.played.report, classes="words", markup=False)
            yield Label("escape: back to the episode   s: skip the rest   q: quit", classes="hint")

    def on_mount(self) -> None:
        """See ``Widget``."""
        self._show()
        if not self._verdict.done:
            self.run_worker(self._work(), group="verdict", exclusive=True)

    async def _work(self) -> None:
        import asyncio

        tell = lambda: self.app.call_from_thread(self._show)  # noqa: E731
        await asyncio.get_running_loop().run_in_executor(self._executor, self._verdict.run, tell)

    def _show(self) -> None:
        if not self.is_mounted:
            return
        verdict = self._verdict
        self.query_one("#words", Static).update(Text("\n".join(verdict.lines()) + "\n"))
        work = self.query_one("#work", ProgressBar)
        work.update(progress=verdict.share)
        work.display = not verdict.done

    def action_skip(self) -> None:
        """Leave out what is not judged yet."""
        self._verdict.skip = True

    def action_back(self) -> None:
        """Go back to the episode; the work goes on."""
        self.dismiss()
