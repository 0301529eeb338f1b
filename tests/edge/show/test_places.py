import numpy as np
import pytest

from edgecell.edge.show.places import overlap, place_labels
from edgecell.image.records import Box


@pytest.mark.parametrize(
    "boxes",
    [
        [Box(0, 0, 30, 30)],
        [Box(290, 0, 320, 30), Box(290, 210, 320, 240)],
        [Box(100, 100, 120, 120), Box(105, 100, 125, 120), Box(110, 104, 130, 124)],
        [Box(x, y, x + 30, y + 30) for x in range(0, 300, 50) for y in (20, 100, 180)],
    ],
    ids=["corner", "far corners", "crowd", "rows"],
)
def test_labels_lie_in_the_frame_and_off_cells_and_each_other(boxes: list[Box]) -> None:
    places = place_labels(boxes, [(48, 16)] * len(boxes), (240, 320))
    known = [place for place in places if place is not None]
    assert len(known) == len(boxes)
    for i, place in enumerate(known):
        assert (place.width, place.height) == (48, 16)
        assert place.x0 >= 0
        assert place.y0 >= 0
        assert place.x1 <= 320
        assert place.y1 <= 240
        assert all(overlap(place, box) == 0 for box in boxes)
        assert all(overlap(place, other) == 0 for other in known[:i])


def test_where_there_is_no_room_there_is_no_label() -> None:
    assert place_labels([Box(0, 0, 320, 240)], [(60, 16)], (240, 320)) == [None]
    crowd = [Box(x, y, x + 19, y + 19) for x in range(0, 320, 20) for y in (0, 20)]
    places = place_labels(crowd, [(60, 16)] * len(crowd), (40, 320))
    assert set(places) == {None}


def test_a_label_lies_above_its_cell_if_it_can() -> None:
    (place,) = place_labels([Box(100, 100, 140, 140)], [(60, 16)], (240, 320))
    assert place == Box(97, 81, 157, 97)  # 8 % of 40 px away
    (below,) = place_labels([Box(100, 5, 140, 45)], [(60, 16)], (240, 320))
    assert below == Box(97, 48, 157, 64)


def test_random_crowds_never_overlap() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        corners = draw.integers(0, 400, (30, 2))
        boxes = [Box(int(x), int(y), int(x) + 25, int(y) + 25) for x, y in corners]
        found = place_labels(boxes, [(70, 14)] * 30, (430, 430))
        placed = [place for place in found if place is not None]
        everything = [*placed, *boxes]
        for i, place in enumerate(placed):
            assert not any(overlap(place, o) for o in everything[i + 1 :])
