import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecell.edge.find.field import field_of
from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.quality import frame_gate
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.model.modelfile import bundled_finder

FRAMES = sorted((SAMPLES / "frames").glob("*.jpg"))
GLASS = (210, 220, 225)


def bccd() -> Bgr:
    return read_image(SAMPLES / "frames" / "bccd_1.jpg")


def circle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width]
    radius = 0.49 * min(height, width)
    return np.asarray(np.hypot(x - width / 2, y - height / 2) <= radius)


def in_circle(frame: Bgr) -> Bgr:
    return Bgr(np.where(circle(frame.shape)[..., None], frame, 0).astype(np.uint8))


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_a_picture_that_is_all_field_is_left_alone(path: object) -> None:
    frame = read_image(path)  # type: ignore[arg-type]
    field = field_of(frame)
    assert field.image is frame
    assert field.surround is None
    assert not field.cuts(Box(0, 0, 10, 10))


def test_a_round_field_is_found_and_its_surround_is_glass() -> None:
    field = field_of(in_circle(bccd()))
    assert field.surround is not None
    height, width = field.surround.shape
    size = (width, height)
    inside = circle(field.image.shape).astype(np.uint8)
    round_ = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST) > 0
    assert field.surround[~round_].all()
    assert field.surround[round_].mean() < 0.1, "no more than the rim"
    corner = field.image[0, 0].astype(int)
    assert corner.min() > 150
    assert (field.small[field.surround] == corner).all()


def test_no_cell_is_found_in_a_surround_and_those_at_its_edge_are_cut() -> None:
    plain = bccd()
    localiser = Localiser.open(bundled_finder())
    known = localiser.look(plain, 105.0).detections
    field = field_of(in_circle(plain))
    found = localiser.look(field.image, 105.0).detections
    assert 0 < len(found) <= len(known)
    for one in found:
        x, y = one.box.centre
        away = np.hypot(x - plain.shape[1] / 2, y - plain.shape[0] / 2)
        assert away < 0.49 * min(plain.shape[:2]) + 10
    assert field.cuts(Box(0, 0, 60, 60))
    middle = plain.shape[1] // 2, plain.shape[0] // 2
    assert not field.cuts(Box(middle[0] - 40, middle[1] - 40, *middle))


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 225])
def test_a_cell_is_whole_though_its_boxs_corner_is_outside(angle: int) -> None:
    frame = in_circle(Bgr(np.full((1200, 1600, 3), GLASS, np.uint8)))
    field = field_of(frame)
    radius, cell = 0.49 * 1200, 100

    def cut(gap: float) -> bool:
        """Whether a cell is cut that ends some pixels before the rim."""
        away = radius - cell - gap
        x = 800 + away * np.cos(np.deg2rad(angle))
        y = 600 + away * np.sin(np.deg2rad(angle))
        return field.cuts(
            Box(*(int(v) for v in (x - cell, y - cell, x + cell, y + cell)))
        )

    # a pixel of the small picture is 6 here; its rim is 4, and boxes are within 3
    assert not cut(50)
    assert cut(0)
    assert cut(-20)


def test_bars_at_the_sides_are_taken_out() -> None:
    plain = bccd()
    bars = plain.copy()
    bars[:, :80] = bars[:, -80:] = 3
    field = field_of(Bgr(bars))
    assert field.surround is not None
    assert frame_gate(field.small) is None
    share = field.surround.mean()
    assert 160 / 640 < share < 180 / 640
    assert np.array_equal(field.image[:, 100:540], plain[:, 100:540])


@pytest.mark.parametrize("seed", range(6))
def test_a_cameras_stamp_at_the_edge_holds_no_cell(seed: int) -> None:
    """Black and white bars, which are smaller than a surround."""
    picture = np.full((800, 640, 3), 235, np.uint8)
    picture[:640] = cv2.resize(read_image(SAMPLES / "frames" / "bcd_1.jpg"), (640, 640))
    bits = np.random.default_rng(seed).integers(0, 2, 40)
    picture[-16:] = np.repeat(255 * bits, 16)[:, None]
    field = field_of(Bgr(picture))
    found = Localiser.open(bundled_finder()).look(field.image, None).detections
    assert found
    assert all(one.box.y1 < 700 for one in found)


def test_a_dark_nucleus_at_the_edge_is_no_bar() -> None:
    frame = np.full((480, 640, 3), GLASS, np.uint8)
    for depth, x in ((12, 100), (24, 300), (40, 500)):
        cv2.circle(frame, (x, 480 + 40 - depth), 40, (20, 10, 30), -1)
    field = field_of(Bgr(frame))
    assert field.surround is None
    assert field.image is frame


def test_an_empty_field_in_a_surround_is_empty() -> None:
    glass = np.full((480, 640, 3), GLASS, np.uint8)
    assert frame_gate(field_of(in_circle(Bgr(glass))).small) == "empty field"


def test_a_dark_frame_is_not_taken_for_a_surround() -> None:
    for level in (0, 20):
        frame = Bgr(np.full((240, 320, 3), level, np.uint8))
        assert field_of(frame).image is frame


@pytest.mark.parametrize("periods", [3, 4, 9])
@pytest.mark.parametrize("amplitude", [0.05, 0.08])
def test_a_lamps_bands_are_taken_out(periods: int, amplitude: float) -> None:
    plain = bccd()
    height = plain.shape[0]
    rows = np.arange(height)
    lamp = 1 + amplitude * np.sin(2 * np.pi * periods * rows / height + 1)
    # Darker throughout, so that nothing is clipped and the truth is known.
    dim = plain * 0.85
    banded = Bgr(np.rint(dim * lamp[:, None, None]).astype(np.uint8))
    even = field_of(banded).image
    glass = np.percentile(even[..., 1], 98, axis=1) / np.percentile(
        dim[..., 1], 98, axis=1
    )
    before = np.percentile(banded[..., 1], 98, axis=1) / np.percentile(
        dim[..., 1], 98, axis=1
    )
    assert glass.std() < before.std() / 2
