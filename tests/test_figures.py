"""Pictures before they are drawn: colours for everybody, places in per cent, and the numbers behind them."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from agent.evaluation.drawing import draw
from agent.evaluation.figures import (
    Axis,
    Band,
    Bar,
    Bars,
    CallTree,
    Cell,
    Curve,
    Curves,
    Figure,
    Forest,
    ForestRow,
    HeatMap,
    Mark,
    Panel,
    SpanBar,
    Timeline,
)  # fmt: skip
from agent.evaluation.figures_of import heat_map_of, slug
from agent.evaluation.palette import DARK, DASHES, DIVERGING, LIGHT, SEQUENTIAL, Palette, contrast, dash, ink_on, shade
from agent.evaluation.report_page.geometry import percent, plot_of, ticks

Floats = npt.NDArray[np.float64]

NAN = math.nan
#: What readers without one kind of cone see: linear RGB to linear RGB (Machado, Oliveira and Fernandes 2009).
SIGHT = {
    name: np.reshape(of, (3, 3))
    for name, of in {
        "all cones": (1, 0, 0, 0, 1, 0, 0, 0, 1),
        "protanopia": (
            0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998,
        ),
        "deuteranopia": (
            0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881,
        ),
        "tritanopia": (
            1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900,
        ),
    }.items()
}  # fmt: skip
#: CIE 1976 distance at which two colours are told apart side by side with ease.
APART = 12.0

LINE = Curve("api", (0.0, 10.0, 20.0), (1.0, NAN, 3.0), 1, low=(0.5, NAN, 2.0), high=(1.5, NAN, 3.5))
FIGURES: tuple[Figure, ...] = (
    Curves("curves", "Curves", "Lines.", Axis("t", 0.0, 20.0, "s"), Axis("y", 0.0, 4.0), (LINE,), limit=2.0),
    Forest("forest", "Forest", "Rows.", Axis("d", -1.0, 1.0), (ForestRow("a", 0.2, -0.1, 0.5, "worse"),
                                                                ForestRow("b", 0.1, NAN, NAN))),
    Bars("bars", "Bars", "Bars.", Axis("b", 0.0, 2.0, "s"), (Bar("a", 1.0, 0.5, 1.5), Bar("b", 0.3))),
    HeatMap("heat", "Heat", "Map.", "x", "y", ("1", "2"), ("lo", "hi"), Axis("v", 0.0, 1.0, percent=True),
            (Cell(0, 0, 0.25, 0.1, 0.4, 9), Cell(1, 1, 0.75))),
    Timeline("time", "Time", "An episode.", 120.0, (Panel("p", Axis("p", 0.0, 5.0), (LINE,), 2.0),),
             (Band("fault", "bad_deploy@api", 30.0, 120.0), Band("alarm", "alarm", 40.0, 60.0)),
             (Mark("action", "rollback(api)", 45.0, "takes effect after 5 s"), Mark("noise", "deploy at db", 10.0))),
    CallTree("tree", "Tree", "A request.", (SpanBar("api get", 0, 0.0, 0.2, 0.05),
                                            SpanBar("db query", 1, 0.1, 0.3, failed=True))),
)  # fmt: skip


def lab(colour: str, sight: Floats) -> Floats:
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(sight @ linear, 0.0, 1.0)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.array([v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / np.array([0.9505, 1.0, 1.089])])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_tones_stand_out_from_the_ground_and_text_can_be_read(palette: Palette) -> None:
    marks = (*palette.tones, palette.fault, palette.incident, palette.alarm, palette.action)
    assert min(contrast(tone, palette.ground) for tone in marks) >= 3.0
    assert min(contrast(text, palette.ground) for text in (palette.ink, palette.faint)) >= 4.5


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_tones_differ_for_every_reader(palette: Palette, sight: str) -> None:
    seen = [lab(tone, SIGHT[sight]) for tone in palette.tones]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) >= APART


def test_red_and_green_of_equal_lightness_would_not_pass() -> None:
    seen = [lab(tone, SIGHT["deuteranopia"]) for tone in ("#B05A00", "#8A7000")]
    assert float(np.linalg.norm(seen[0] - seen[1])) < APART


def test_looks_that_share_a_colour_have_other_dashes() -> None:
    looks = [(LIGHT.tone(n), dash(n)) for n in range(len(LIGHT.tones) * len(DASHES))]
    assert len(set(looks)) == len(looks)
    assert (LIGHT.tone(-1), dash(-1)) == (LIGHT.ink, ())


@pytest.mark.parametrize("sight", SIGHT)
def test_the_scale_of_colours_grows_lighter_for_every_reader(sight: str) -> None:
    lightness = [lab(shade(SEQUENTIAL, i / 20), SIGHT[sight])[0] for i in range(21)]
    assert all(a < b for a, b in itertools.pairwise(lightness))


def test_text_on_every_shade_can_be_read() -> None:
    shades = [shade(colours, i / 50) for colours in (SEQUENTIAL, DIVERGING) for i in range(51)]
    assert min(contrast(colour, ink_on(colour)) for colour in shades) >= 4.5
    assert (shade(SEQUENTIAL, -1.0), shade(SEQUENTIAL, 2.0)) == (SEQUENTIAL[0], SEQUENTIAL[-1])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-23.1, 17.4), (0.0, 4000.0), (0.0, 1e-9), (3.0, 3.0)])
def test_ticks_are_round_few_and_within_the_axis(low: float, high: float) -> None:
    found = ticks(Axis("x", low, high))
    assert len(found) <= 7
    assert len({tick.text for tick in found}) == len(found)
    assert all(0.0 <= tick.at <= 100.0 for tick in found)


def test_times_have_ticks_at_whole_minutes() -> None:
    found = ticks(Axis("time", 0.0, 1200.0, "min:s"), 8)
    assert [tick.text for tick in found] == ["0:00", "3:00", "6:00", "9:00", "12:00", "15:00", "18:00"]
    assert percent(300.0, 0.0, 1200.0) == 25.0


def test_a_path_stops_where_a_value_is_unknown_and_steps_hold_until_the_next() -> None:
    x, y = Axis("t", 0.0, 20.0), Axis("y", 0.0, 4.0)
    (line,) = plot_of([LINE], x, y).lines
    assert line.path == "M0 750M1000 250"
    assert line.band.count("M") == line.band.count("Z") == 2
    steps = Curve("s", (0.0, 10.0, 20.0), (4.0, 2.0, 2.0))
    assert plot_of([steps], x, y, steps=True).lines[0].path == "M0 0 500 0 500 500 1000 500 1000 500"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.key)
def test_every_figure_has_its_numbers_and_can_be_drawn(figure: Figure) -> None:
    table = figure.table()
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.heads)}
    drawn = draw(figure)
    assert drawn.get_suptitle() == figure.title
    assert any(axis.lines or axis.patches for axis in drawn.axes)
    from matplotlib import pyplot

    pyplot.close(drawn)


def test_a_heat_map_has_a_field_per_known_cell_and_one_scale() -> None:
    import polars as pl

    cells = pl.DataFrame({
        "a": [1.0, 2.0, 1.0, 2.0], "b": ["u", "u", "v", "v"], "n": [5, 5, 5, 5],
        "m_mean": [1.0, 2.0, None, 4.0], "m_low": [0.5, None, None, 3.0], "m_high": [1.5, None, None, 5.0],
    })  # fmt: skip
    found = heat_map_of(cells, "a", "b", "m", units={"a": "s"}, ends=(0.0, 4.0))
    assert found is not None
    assert (found.x, found.columns, found.rows) == ("a, s", ("1", "2"), ("u", "v"))
    assert [(cell.column, cell.row, cell.value) for cell in found.cells] == [(0, 0, 1.0), (1, 0, 2.0), (1, 1, 4.0)]
    assert found.table().rows == (("v", "-", "4 [3, 5]"), ("u", "1 [0.5, 1.5]", "2"))
    assert found.share(4.0) == 1.0
    none = cells.with_columns(pl.lit(None, pl.Float64).alias("m_mean"))
    assert heat_map_of(none, "a", "b", "m", units={}, ends=(0.0, 4.0)) is None


def test_a_slug_is_a_file_name() -> None:
    assert slug("fault.onset_s over <b>/load: 0.8") == "fault-onset-s-over-b-load-0-8"
