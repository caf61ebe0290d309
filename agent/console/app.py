"""The terminal in which an episode is watched: the clock, the keys, and who acts."""

__all__ = ["SPEEDS", "Console"]

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Footer

from agent.console.dashboard import Dashboard, Standing
from agent.console.palette import DARK, LIGHT
from agent.console.screens import Choosing, Help, Offer
from agent.console.verdict import Verdict, VerdictScreen
from agent.console.view import View, look
from agent.evaluation.replay import Live
from agent.loop import AgentStep
from simcore.errors import SimError

#: Control steps a second.
SPEEDS = (1, 2, 4, 8, 16, 32, 64)
#: How often it is drawn while it goes as fast as it can, seconds.
_GLANCE_S = 0.1


class Console(App[None]):
    """Watch an episode, or take it over.

    Parameters
    ----------
    live
        The episode, at its first edge.
    speed
        Control steps a second, one of ``SPEEDS``.
    on_call
        Begin in charge.
    paused
        Begin with the clock stopped.
    reveal
        Show what the agent cannot see.
    threads
        Of the verdict.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "mendsim watch"
    CSS = """
    Screen { layout: vertical; }
    ModalScreen { align: center middle; }
    .sheet { width: 78; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; }
    .sheet { background: $surface; border: round $primary; }
    .wide { width: 110; }
    .title { text-style: bold; }
    .hint { color: $text-muted; }
    OptionList { height: auto; max-height: 14; }
    """
    BINDINGS = [
        Binding("space", "pause", "Go/pause"),
        Binding("n", "once", "Step"),
        Binding("plus,equals_sign", "speed(1)", "Fast", key_display="+"),
        Binding("minus", "speed(-1)", "Slow", key_display="-"),
        Binding("o", "take_over", "On call"),
        Binding("a", "act", "Act"),
        Binding("enter", "advised", "As advised", show=False),
        Binding("w", "wait", "Wait", show=False),
        Binding("e", "end", "End"),
        Binding("v", "verdict", "Verdict", show=False),
        Binding("r", "reveal", "Reveal", show=False),
        Binding("d", "dark", "Dark", show=False),
        Binding("up", "select(-1)", show=False),
        Binding("down", "select(1)", show=False),
        Binding("pageup", "scroll_log(5)", show=False),
        Binding("pagedown", "scroll_log(-5)", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(
        self,
        live: Live,
        *,
        speed: int = 8,
        on_call: bool = False,
        paused: bool = False,
        reveal: bool = False,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.live, self.on_call, self.reveal = live, on_call, reveal
        self.running = not paused
        self.verdict: Verdict | None = None
        self.interrupted = False  # by Ctrl-C
        self._speed, self._threads = SPEEDS.index(speed), threads
        self._selected = live.episodes.topology.n_services
        self._back = 0
        self._said: AgentStep | None = None  # what the agent says at this edge, while somebody is paged
        self._hurry = False
        # kernels are entered from one thread only
        self._executor = ThreadPoolExecutor(1)
        self._busy = asyncio.Lock()
        self._view: View = look(live, reveal=reveal)

    # what is shown

    def compose(self) -> ComposeResult:
        """See ``App``."""
        yield Dashboard()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """See ``App``."""
        self.theme = "textual-dark"
        self._show()
        if self.running:
            self._go()

    def on_unmount(self) -> None:
        """Let the work end."""
        self.running = False
        if self.verdict is not None:
            self.verdict.skip = True
        self._executor.shutdown(wait=True)

    def on_resize(self) -> None:
        """Draw anew, and use the room there is."""
        self._dashboard.fit(self.size.width, self.size.height)
        self.call_after_refresh(self._show)

    @property
    def paged(self) -> bool:
        """Whether somebody on call is asked what to do."""
        return self._said is not None

    @property
    def _dashboard(self) -> Dashboard:
        return self.screen_stack[0].query_one(Dashboard)

    def _show(self) -> None:
        palette = DARK if self.current_theme.dark else LIGHT
        episodes, slo = self.live.episodes, self.live.episodes.scenario.slo
        run = episodes.runs[0]
        self._dashboard.show(
            self._view,
            Standing(
                title=f"{episodes.scenario.name} seed {run.seed} run {run.run}",
                state=self._state(),
                mode=self._mode(),
                has_agent=self.live.playing is not None,
                selected=self._selected,
                back=self._back,
                page=self._page(),
                limits=(None, slo.bad_frac, slo.p95_s, None, None),
            ),
            palette,
        )

    def _state(self) -> str:
        if self._view.finished:
            return "over"
        return f"▶ {SPEEDS[self._speed]}/s" if self.running else "paused"

    def _mode(self) -> str:
        if self.on_call:
            return "YOU ARE ON CALL"
        return "agent shadows" if self.live.replay.study.shadow else self.live.replay.policy or "nobody acts"

    def _page(self) -> Text:
        if self._view.finished:
            told = "v: the oracle's verdict   r: what was hidden   q: quit"
            return Text.assemble(("The episode is over. ", "bold"), told)
        if self._said is None:
            return Text()
        names = self.live.episodes.actions.names
        return Text.assemble(
            ("You are paged. ", "bold"), (names[int(self._said.choice[0])], "bold"), "?",
            "   enter: do it   a: something else   w: leave it",
        )  # fmt: skip

    # the clock

    def _go(self) -> None:
        self.run_worker(self._run(), group="clock", exclusive=True)

    async def _run(self) -> None:
        """Go on while the clock runs."""
        loop, drawn = asyncio.get_running_loop(), 0.0
        while self.running and not self.live.finished:
            begun = loop.time()
            # what nobody could see need not be drawn
            await self._step(draw=not self._hurry or begun - drawn > _GLANCE_S)
            drawn = drawn if begun - drawn <= _GLANCE_S else begun
            pause = 0.0 if self._hurry else 1.0 / SPEEDS[self._speed] - (loop.time() - begun)
            await asyncio.sleep(max(0.0, pause))

    async def _step(self, action: int | None = None, *, draw: bool = True) -> None:
        """Go on by one step; somebody on call is asked first if the agent would act."""
        async with self._busy:
            if self.live.finished:
                return
            loop = asyncio.get_running_loop()
            try:
                paged = await loop.run_in_executor(self._executor, self._think, action)
            except SimError as error:
                self.notify(str(error), severity="error")
                self.running = False
                paged = None
            self._said = paged
            if paged is not None:
                self.running = self._hurry = False
                self.bell()
            if self.live.finished:
                self.running, self.reveal = False, True
            draw = draw or paged is not None or self.live.finished
            if draw:
                self._view = await loop.run_in_executor(self._executor, self._look)
        if draw:
            self._show()

    def _think(self, action: int | None) -> AgentStep | None:
        """Take a step, in the thread that may; return what the agent would do if somebody has to be asked first."""
        if action is None and self.on_call:
            said = self.live.advice()
            if said is not None and (said.choice[0] > 0 or said.opened):
                return said
            action = 0
        self.live.step(action)
        return None

    def _look(self) -> View:
        return look(self.live, self._said, reveal=self.reveal)

    async def _redraw(self) -> None:
        async with self._busy:
            self._view = await asyncio.get_running_loop().run_in_executor(self._executor, self._look)
        self._show()

    # the keys

    def action_pause(self) -> None:
        """Go on, or pause."""
        self._hurry = False
        self.running = not self.running and not self.live.finished and self._said is None
        self._show()
        if self.running:
            self._go()

    async def action_once(self) -> None:
        """Take one step."""
        self.running = False
        if self._said is None:
            await self._step()

    def action_speed(self, by: int) -> None:
        """Go faster or slower."""
        self._speed = min(max(self._speed + by, 0), len(SPEEDS) - 1)
        self._show()

    def action_end(self) -> None:
        """Go on to the end as fast as it goes."""
        if self._said is None and not self.live.finished:
            self.running = self._hurry = True
            self._go()

    async def action_take_over(self) -> None:
        """Take over from the agent, or hand back."""
        self.on_call = not self.on_call
        if not self.on_call:
            self._said = None
        await self._redraw()

    def action_act(self) -> None:
        """Choose an action."""
        if self.live.finished:
            return
        went = self.running or self._said is not None
        self.running = False
        self._show()
        self.run_worker(self._choose(went), group="choice", exclusive=True)

    async def _choose(self, went: bool) -> None:
        async with self._busy:  # let a step under way end
            loop = asyncio.get_running_loop()
            said = await loop.run_in_executor(self._executor, self.live.advice)
        table, legal = self.live.episodes.actions, self.live.episodes.observation.legal[0]
        offers = [
            Offer(i, name, f"cost {table.cost[i]:g}, after {table.delay_s[i]:g} s")
            for i, name in enumerate(table.names)
            if legal[i]
        ]
        advised = -1 if said is None or said.choice[0] == 0 else int(said.choice[0])
        chosen = await self.push_screen_wait(Choosing(offers, advised))
        if chosen is not None:
            await self._decide(chosen, went)
        elif went and self._said is None:
            self.action_pause()

    async def action_advised(self) -> None:
        """Do what the agent advises."""
        if self._said is not None:
            await self._decide(int(self._said.choice[0]), True)

    async def action_wait(self) -> None:
        """Leave everything as it is."""
        if self._said is not None:
            await self._decide(0, True)

    async def _decide(self, action: int, go_on: bool) -> None:
        await self._step(action)
        self.running = go_on and not self.live.finished
        if self.running:
            self._go()
        self._show()

    def action_select(self, by: int) -> None:
        """Draw another service."""
        n = self.live.episodes.topology.n_services + 1
        # the system is on top
        self._selected = ((self._selected + 1) % n + by - 1) % n
        self._show()

    def action_scroll_log(self, by: int) -> None:
        """Go back and forth in the log."""
        self._back = min(max(0, self._back + by), max(0, len(self._view.lines) - 1))
        self._show()

    async def action_reveal(self) -> None:
        """Show what the agent cannot see, or hide it."""
        self.reveal = not self.reveal
        await self._redraw()

    def action_dark(self) -> None:
        """Change between dark and light."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"
        self._show()

    def action_interrupt(self) -> None:
        """Leave at once."""
        self.interrupted = True
        self.exit()

    def action_help(self) -> None:
        """Show the keys."""
        self.running = False
        self._show()
        self.push_screen(Help())

    def action_verdict(self) -> None:
        """Show the verdict."""
        if self.live.finished and not isinstance(self.screen, VerdictScreen):
            if self.verdict is None:
                self.verdict = Verdict(self.live, threads=self._threads)
            self.push_screen(VerdictScreen(self.verdict, self._executor))
