"""What lies over the terminal at times: help, the choice of an action, and the verdict at the end."""

__all__ = ["Choosing", "Help", "Offer"]

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option

_HELP = """\
[b]The clock[/b]
  space      go on, or pause
  n + - e    one step; faster; slower; on to the end
[b]You are on call[/b]
  o          take over, or hand back; on call, only you act, and
             you are paged when the agent would
  a          choose an action, also while the agent is in charge
  enter w    do what the agent advises; leave everything as it is
[b]Looking[/b]
  up down    the service whose signals are drawn
  page keys  back and forth in the log
  r          show what the agent cannot see (marked ~), or hide it
  d          dark or light
[b]Marks[/b]
  ▲ agent  ◆ you  ? suspect  * action under way  ╌ the SLO
  health: ▅ alarm, or SLO broken  █ both
Numbers are what was scraped: late, and at times lost.
v, at the end: an oracle says what every decision cost."""


class Help(ModalScreen[None]):
    """The keys, and how to read the screen."""

    BINDINGS = [Binding("escape,question_mark,q,enter", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        """See ``Screen``."""
        with VerticalScroll(classes="sheet"):
            yield Static(_HELP, classes="words")
            yield Label("escape: back", classes="hint")


@dataclass(frozen=True, slots=True)
class Offer:
    """An action that may be taken now."""

    number: int
    name: str
    words: str  #: what it costs, and when it takes effect


class Choosing(ModalScreen[int | None]):
    """Type to narrow the list, enter to choose; gives the number of an action, None if it was left.

    Parameters
    ----------
    offers
        What is legal now.
    advised
        Number of the action that the agent would take, -1: it would do nothing or there is no agent.
    """

    BINDINGS = [
        Binding("escape", "leave", "Back"),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
    ]

    def __init__(self, offers: list[Offer], advised: int) -> None:
        super().__init__()
        self._offers = sorted(offers, key=lambda offer: (offer.number != advised, offer.number))
        self._advised = advised

    def compose(self) -> ComposeResult:
        """See ``Screen``."""
        with Vertical(classes="sheet"):
            yield Label(f"Which action? {len(self._offers)} are legal now", classes="title")
            yield Input(placeholder="type to narrow, such as restart db")
            yield OptionList(*self._fitting(""))
            yield Label("enter: do it   up down: move   escape: back", classes="hint")

    def on_mount(self) -> None:
        """See ``Widget``."""
        self.query_one(Input).focus()
        self.query_one(OptionList).highlighted = 0

    def _fitting(self, typed: str) -> list[Option]:
        words = typed.lower().split()
        found = [offer for offer in self._offers if all(word in offer.name.lower() for word in words)]
        width = max((len(offer.name) for offer in self._offers), default=1)
        return [
            Option(
                Text.assemble(
                    (f"{offer.name:<{width}}", "bold" if offer.number == self._advised else ""),
                    (f"  {offer.words}", "dim"),
                    ("  advised" if offer.number == self._advised else "", "bold"),
                ),
                id=str(offer.number),
            )
            for offer in found
        ]

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits."""
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(self._fitting(event.value))
        listed.highlighted = 0 if listed.option_count else None

    def on_input_submitted(self) -> None:
        """Take what is highlighted."""
        listed = self.query_one(OptionList)
        if listed.highlighted is not None:
            self._take(listed.get_option_at_index(listed.highlighted))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take what was clicked."""
        self._take(event.option)

    def _take(self, option: Option) -> None:
        assert option.id is not None
        self.dismiss(int(option.id))

    def action_move(self, by: int) -> None:
        """Move in the list while the cursor stays in the input."""
        listed = self.query_one(OptionList)
        if listed.option_count:
            listed.highlighted = ((listed.highlighted or 0) + by) % listed.option_count

    def action_leave(self) -> None:
        """Go back without an action."""
        self.dismiss(None)
