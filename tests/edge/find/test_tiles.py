import numpy as np
import pytest

from edgecell.edge.find.tiles import tiles
from edgecell.image.records import Box


def test_a_small_frame_is_one_tile() -> None:
    (tile,) = tiles((480, 640, 3), 640, 100)
    assert tile.core == tile.whole == Box(0, 0, 640, 480)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(480, 640, 300), (2178, 3960, 1520), (90, 7, 10)]
)
def test_each_pixel_is_in_one_core(height: int, width: int, side: int) -> None:
    times = np.zeros((height, width), int)
    for tile in tiles((height, width), side, 30):
        core, whole = tile.core, tile.whole
        assert max(core.width, core.height) <= side
        times[core.y0 : core.y1, core.x0 : core.x1] += 1
        assert whole.x0 == max(0, core.x0 - 30)
        assert whole.y1 == min(height, core.y1 + 30)
    assert (times == 1).all()


def test_a_point_on_the_seam_is_in_one_tile_or_with_slack_in_both() -> None:
    left, right = tiles((100, 200), 100, 10)
    seam = (100.0, 50.0)
    assert not left.owns(seam, 0)
    assert right.owns(seam, 0)
    assert left.owns(seam, 5)
    assert not left.owns((105.0, 50.0), 5)
