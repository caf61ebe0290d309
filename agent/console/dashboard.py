"""The panels of the terminal in their places."""

__all__ = ["Dashboard", "Standing"]

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from agent.console import panels
from agent.console.palette import Palette
from agent.console.view import View
from agent.evaluation.signals import SIGNALS

#: Rows that a chart of its own needs to be worth it.
_CHART = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What is shown besides the episode itself."""

    title: str  #: what is watched
    state: str  #: of the clock
    mode: str  #: who acts
    has_agent: bool
    selected: int  #: row of the service whose signals are drawn
    back: int  #: lines that the log is scrolled back
    page: Text  #: what is asked or told, empty for nothing
    limits: tuple[float | None, ...]  #: (signal,) what was promised of the system


class Dashboard(Vertical):
    """The whole screen but for the keys."""

    DEFAULT_CSS = """
    Dashboard #head { height: 1; background: $panel; }
    Dashboard #tape { height: 2; }
    Dashboard #body { height: 1fr; }
    Dashboard #charts { width: 1fr; height: 100%; padding: 0 1; }
    Dashboard #side { width: 40; border-left: vkey $panel; padding: 0 0 0 1; }
    Dashboard #services { height: auto; }
    Dashboard #agent { height: 1fr; overflow-y: auto; margin-top: 1; }
    Dashboard #page { height: auto; padding: 0 1; background: $warning 30%; display: none; }
    Dashboard #page.paged { display: block; }
    Dashboard #log { height: 6; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    Dashboard.narrow #side { display: none; }
    Dashboard.low #log { height: 2; }
    Dashboard.tall #log { height: 11; }
    Dashboard.tall #side { width: 50; }
    Dashboard.tall #tape { height: 3; padding: 1 0 0 0; }
    """

    def compose(self) -> ComposeResult:
        """See ``Widget``."""
        yield Static(id="head")
        yield Static(id="tape")
        with Horizontal(id="body"):
            yield Static(id="charts")
            with Vertical(id="side"):
                yield Static(id="services")
                yield Static(id="agent")
        yield Static(id="page")
        yield Static(id="log")

    def fit(self, width: int, height: int) -> None:
        """Use the room there is."""
        self.set_class(height >= 32 and width >= 100, "tall")
        self.set_class(width < 70, "narrow")
        self.set_class(height < 18, "low")

    def show(self, view: View, standing: Standing, palette: Palette) -> None:
        """Draw."""
        width = self.size.width
        head, tape, page = (self.query_one(f"#{name}", Static) for name in ("head", "tape", "page"))
        head.update(panels.head_text(view, standing.title, standing.state, standing.mode, width, palette))
        tape.update(panels.tape_text(view, width, palette))
        page.set_class(bool(standing.page), "paged")
        page.update(standing.page)
        charts, services, agent, log = (
            self.query_one(f"#{name}", Static) for name in ("charts", "services", "agent", "log")
        )
        charts.update(self._charts(view, standing, charts.content_size.width, charts.content_size.height, palette))
        room = max(4, self.query_one("#side").content_size.height * 3 // 5)
        services.update(panels.services_text(view, standing.selected, services.content_size.width, room, palette))
        agent.update(panels.agent_text(view, standing.has_agent, agent.content_size.width, palette))
        log.update(panels.log_text(view, max(1, log.content_size.height), standing.back, palette))

    @staticmethod
    def _charts(view: View, standing: Standing, width: int, height: int, palette: Palette) -> Text:
        count = len(SIGNALS) if height >= _CHART * len(SIGNALS) else min(len(SIGNALS) - 1, height)
        promised = standing.selected == len(view.names)
        lines: list[Text] = []
        for signal in range(count):
            limit = standing.limits[signal] if promised else None
            rows = (height - len(lines)) // (count - signal)
            lines += panels.chart_lines(view, signal, standing.selected, limit, width, rows, palette)
        return Text("\n").join(lines)
