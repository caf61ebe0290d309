"""The terminal in which an episode is watched, driven without one."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from agent.console.app import Console
from agent.console.charts import area, ceiling
from agent.console.screens import Choosing, Help
from agent.console.verdict import VerdictScreen
from agent.console.view import look
from agent.evaluation.mended import over_s
from agent.evaluation.replay import Live, Replay, play_replay
from agent.evaluation.study import Study
from agent.evaluation.timeline import TRUTH
from agent.evaluation.verdict import judge, points_of, twins_of
from simcore.errors import ActionError
from simcore.model.faults import parse_fault
from simcore.model.loader import load_scenario
from tests.conftest import TINY, Invoke

Drive = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Return an episode in which a fault breaks the SLO and the agent acts."""
    path = tmp_path_factory.mktemp("console") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    scenario = load_scenario(str(path))
    fault = parse_fault("error_burst@db", scenario, onset_s=60.0, severity=0.9)
    parts: dict[str, Any] = {"detector": "threshold", "diagnoser": "max_z", "policies": ("playbook",)}
    return Replay(Study(scenario=scenario, seed=1, faults=(fault,), **parts), 0, "playbook")


def drive(app: Console, how: Drive, size: tuple[int, int] = (80, 24)) -> None:
    async def main() -> None:
        async with app.run_test(size=size) as pilot:
            await how(pilot)

    asyncio.run(main())


async def settled(pilot: Pilot[None], until: Callable[[], bool]) -> None:
    """Wait for something that the clock brings about."""
    for _ in range(2000):
        if until():
            await pilot.pause()
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came about")


def words(app: Console, name: str) -> str:
    return str(app.screen_stack[0].query_one(f"#{name}", Static).render())


def test_an_episode_that_is_left_alone_ends_as_run_ends(replay: Replay) -> None:
    app = Console(Live(replay), speed=64)

    async def how(pilot: Pilot[None]) -> None:
        await pilot.press("e")
        await settled(pilot, lambda: app.live.finished)

    drive(app, how)
    assert app.live.played().row == play_replay(replay).row
    assert app.live.played().timeline == play_replay(replay).timeline


def test_on_call_the_clock_stops_when_the_agent_would_act_and_goes_on_as_told(replay: Replay) -> None:
    app = Console(Live(replay), speed=64, on_call=True)
    asked: list[int] = []

    async def how(pilot: Pilot[None]) -> None:
        await settled(pilot, lambda: app._said is not None)
        asked.append(app.live.episodes.step)
        assert not app.running
        await settled(pilot, lambda: "You are paged" in words(app, "page"))
        await pilot.press("n", "space")
        assert app.live.episodes.step == asked[0], "the clock stands until there is an answer"
        await pilot.press("w")
        await settled(pilot, lambda: app.live.episodes.step > asked[0])
        assert not app.live.episodes.records
        await settled(pilot, lambda: app._said is not None)
        await pilot.press("enter")
        await settled(pilot, lambda: len(app.live.episodes.records) == 1)
        await pilot.press("o", "e")
        await settled(pilot, lambda: app.live.finished)

    drive(app, how)
    own = play_replay(replay)
    assert asked[0] == next(decision.opened for decision in own.trace.decisions if decision.action)  # type: ignore[union-attr]
    assert app.live.interventions == [(asked[0], 0)]
    assert app.live.played().row["policy"] == "on_call"
    assert app.live.played().row["j"] != own.row["j"]


def test_somebody_who_always_does_as_advised_gets_the_agents_row(replay: Replay) -> None:
    live = Live(replay)
    while not live.finished:
        said = live.advice()
        assert said is not None
        live.step(int(said.choice[0]))
    assert not live.interventions
    assert live.played().row == play_replay(replay).row


def test_an_action_is_found_by_typing_and_taken(replay: Replay) -> None:
    app = Console(Live(replay), paused=True)

    async def how(pilot: Pilot[None]) -> None:
        await pilot.press("n", "a")
        await settled(pilot, lambda: isinstance(app.screen, Choosing) and isinstance(app.focused, Input))
        listed = app.screen.query_one(OptionList)
        assert listed.option_count == int(app.live.episodes.observation.legal[0].sum())
        await pilot.press(*"restart db")
        await settled(pilot, lambda: listed.option_count == 1)
        assert app.screen.query_one(Input).value == "restart db"
        await pilot.press("enter")
        await settled(pilot, lambda: bool(app.live.episodes.records) and "restart(db)" in words(app, "agent"))
        assert not app.running, "it was paused before"

    drive(app, how)
    record = app.live.episodes.records[0]
    assert app.live.episodes.actions.names[record.action] == "restart(db)"
    assert app.live.interventions[0][1] == record.action


def test_what_is_not_legal_is_refused_and_changes_nothing(replay: Replay) -> None:
    live = Live(replay)
    illegal = int(np.flatnonzero(~live.episodes.observation.legal[0])[0])
    with pytest.raises(ActionError, match="not legal"):
        live.step(illegal)
    assert live.episodes.step == 0
    assert not live.interventions


def test_the_fault_is_hidden_until_asked_for(replay: Replay) -> None:
    app = Console(Live(replay), paused=True)

    async def how(pilot: Pilot[None]) -> None:
        await pilot.press(*["n"] * 14)
        await settled(pilot, lambda: app._view.step == 14)
        assert "error_burst" not in words(app, "log")
        assert not app._view.faults
        await pilot.press("r")
        await settled(pilot, lambda: "error_burst@db" in words(app, "log"))
        assert app._view.faults == ((12.0, 60.0),)
        await pilot.press("r")
        await settled(pilot, lambda: "error_burst" not in words(app, "log"))

    drive(app, how)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 12)])
def test_every_panel_fits_at_every_size(replay: Replay, size: tuple[int, int]) -> None:
    app = Console(Live(replay), paused=True)

    async def how(pilot: Pilot[None]) -> None:
        await pilot.press(*["n"] * 16, "down", "d")
        await settled(pilot, lambda: app._view.step == 16)
        assert app.query_one("#charts", Static).content_size
        for name in ("charts", "services", "log", "tape"):
            panel = app.query_one(f"#{name}", Static)
            if panel.content_size:
                lines = words(app, name).splitlines()
                assert len(lines) <= panel.content_size.height, name
                widest = max((len(line) for line in lines if name != "log"), default=0)
                assert widest <= panel.content_size.width, name
        await pilot.press("question_mark")
        await settled(pilot, lambda: isinstance(app.screen, Help))
        await pilot.press("escape")

    drive(app, how, size)


def test_the_verdict_comes_at_the_end_and_can_be_skipped(replay: Replay) -> None:
    app = Console(Live(replay), speed=64)

    async def how(pilot: Pilot[None]) -> None:
        await pilot.press("v")
        assert not isinstance(app.screen, VerdictScreen)
        await pilot.press("e")
        await settled(pilot, lambda: app.live.finished)
        assert any(line[2] == TRUTH for line in app._view.lines), "at the end everything is shown"
        await pilot.press("v", "s")
        assert app.verdict is not None
        await settled(pilot, lambda: app.verdict.done)  # type: ignore[union-attr]
        assert "nobody acts" in "\n".join(app.verdict.lines())

    drive(app, how)


def test_the_oracle_judges_what_was_done_and_what_was_left_undone(replay: Replay) -> None:
    live = Live(replay)
    while not live.finished:
        live.step(0)
    assert [twin.name for twin in twins_of(live)] == ["nobody acts", "the agent alone (playbook)"]
    points, left_out = points_of(live)
    assert not left_out
    found = list(judge(live, points))
    first = found[0]
    assert first.case.step == points[0][0] == live.interventions[0][0]
    regret = first.case.regret()
    assert regret is not None
    assert regret[0].low > 0, "to leave a lasting fault alone costs"
    assert "(you)" in first.words()
    assert "was better" in first.words()
    assert len(found) == len(points)


def test_a_view_without_an_agent_has_no_thoughts(replay: Replay) -> None:
    live = Live(Replay(Study(replay.study.scenario, seed=1, faults=replay.study.faults), 0, None))
    live.step()
    assert live.advice() is None
    assert look(live).thought is None


def test_the_area_of_a_chart_is_as_high_as_its_value() -> None:
    values = np.array([np.nan, np.nan, 0.0, 1.0, 2.0, 4.0, 8.0, 8.0])
    look = {"plain": "below", "over": "above", "faint": "line"}
    upper, lower = area(values, 4, 2, top=8.0, limit=4.0, **look)
    assert (upper.plain, lower.plain) == ("   ⣿", "╌⣀⣼⣿")
    assert [span.style for span in upper.spans][-1] == "above"
    assert {span.style for span in lower.spans} == {"line", "below"}


@pytest.mark.parametrize(
    ("values", "least", "top"), [([0.2, 3.2], 1.0, 4.0), ([np.nan], 0.5, 0.5), ([150.0], 1.0, 150.0)]
)
def test_charts_end_at_round_numbers(values: list[float], least: float, top: float) -> None:
    assert ceiling(np.array(values), least) == pytest.approx(top)


def test_watch_says_everything_that_keeps_it_from_starting(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = invoke("watch", "--row", 3, "--policy", "wizard", "--detector", "nose")
    assert result.code == 2
    for words_of in (
        "watch needs textual: install mendsim[watch]",
        "watch needs a terminal; mendsim run --render prints an episode as text",
        "--from RESULTS and --row N belong together",
        "--policy must be one of",
        "--detector must be one of",
    ):
        assert words_of in result.err
    assert "Traceback" not in result.err


def test_watch_prints_the_row_that_run_prints(invoke: Invoke, tiny: str, terminal: None) -> None:
    given = ("--scenario", tiny, "--seed", 3, "--policy", "playbook", "--detector", "threshold", "--json")
    watched, ran = invoke("watch", *given), invoke("run", *given)
    assert watched.code == ran.code == 0
    assert watched.out == ran.out


def test_an_episode_is_drawn_with_all_services_and_marks(invoke: Invoke, tiny: str, tmp_path: Path) -> None:
    given = ("--scenario", tiny, "--policy", "playbook", "--detector", "threshold", "--fault", "error_burst@db")
    drawn = tmp_path / "episode.svg"
    assert invoke("run", *given, "--onset", "60", "--plot", drawn).code == 0
    again = tmp_path / "again.svg"
    assert invoke("run", *given, "--onset", "60", "--png", again).code == 0
    assert drawn.read_bytes() == again.read_bytes()
    refused = invoke("run", *given, "--onset", "60", "--plot", drawn)
    assert refused.code == 2
    assert "use --force" in refused.err


def test_a_fault_is_over_when_its_place_was_replaced(replay: Replay) -> None:
    live = Live(replay)
    while live.episodes.step < 14:
        live.step(0)
    fault = live.episodes.runs[0].faults[0]
    assert over_s(fault, live.episodes) == live.episodes.n_steps * 5.0
    names = live.episodes.actions.names
    live.step(names.index("restart(api)"))
    live.step(names.index("restart(db)"))
    record = live.episodes.records[-1]
    assert record.succeeds
    assert over_s(fault, live.episodes) == record.effect_s
    brief = dataclasses.replace(fault, duration_s=6.0)
    assert over_s(brief, live.episodes) == fault.onset_s + 6.0


def test_ctrl_c_leaves_at_once_and_says_where(
    invoke: Invoke, tiny: str, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(app: Console) -> None:
        async def how(pilot: Pilot[None]) -> None:
            await pilot.press("n")
            await settled(pilot, lambda: app.live.episodes.step == 1)
            await pilot.press("ctrl+c")

        drive(app, how)

    monkeypatch.setattr(Console, "run", run)
    result = invoke("watch", "--scenario", tiny, "--detector", "threshold", "--policy", "playbook", "--paused")
    assert result.code == 1
    assert "left at 0:05 of 5:00" in result.err
    assert not result.out
