import numpy as np
import pytest

from edgecell.edge.show.strip import (
    RED_CELL_UM,
    Entry,
    Style,
    bar_of,
    make_strip,
    text_size,
)

STYLE = Style(0.5, 1, 1)


@pytest.mark.parametrize(
    ("red_cell_px", "width", "um", "px"),
    [
        (75.0, 640, 10, 100),  # 10 px a micrometre: 20 um were a third of the width
        (75.0, 3960, 50, 500),
        (150.0, 360, 2, 40),
        (7.5, 8000, 100, 100),
        (3000.0, 360, 1, 400),  # the shortest there is
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(
    red_cell_px: float, width: int, um: int, px: int
) -> None:
    assert bar_of(red_cell_px, width) == (um, px)
    assert px == round(um * red_cell_px / RED_CELL_UM)


def test_the_bar_in_the_strip_has_that_length() -> None:
    legend = [Entry("white cell", box=(0, 159, 230))]
    strip = make_strip(640, "f", legend, [], 75.0, STYLE)
    assert strip.shape[1:] == (640, 3)
    dark = np.asarray((strip < 60).all(axis=2)).tolist()
    rows = ("".join("x" if pixel else " " for pixel in row) for row in dark)
    assert max(len(run) for row in rows for run in row.split()) == 100


def test_what_finds_no_room_in_four_rows_is_left_out() -> None:
    few = make_strip(300, "f", [Entry("?")], ["1 SNE 97% at 5,5"], 75.0, STYLE)
    many = make_strip(300, "f", [Entry("?")], ["1 SNE 97% at 5,5"] * 40, 75.0, STYLE)
    assert len(many) == len(few) + 4 * text_size("x", STYLE)[1]


def test_labels_are_all_as_high() -> None:
    for style in (STYLE, Style(1.7, 2, 3)):
        texts = ("a", "1 SNE 97%", "g|y", "")
        assert len({text_size(text, style)[1] for text in texts}) == 1
