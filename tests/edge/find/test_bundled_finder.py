"""The bundled finder on sample frames, at any scale, and on pictures without cells."""

import cv2
import numpy as np
import pytest

from edgecell.edge.find.finder import read_finder
from edgecell.edge.find.localise import Localiser, Seen
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr
from edgecell.model.modelfile import bundled_finder

WHITE_CELLS = {
    "bccd_1": [(244, 140)],
    "bccd_2": [(140, 309)],
    "bcd_2": [(256, 94), (321, 356)],
    "pbc_1": [(185, 186)],
    "pbc_3": [(181, 180)],
    "raabin_1": [(287, 262)],
    "raabin_3": [(285, 288)],
}
RED_CELL_PX = {"bccd_1": 111.7, "bcd_1": 77.7, "pbc_1": 82.7, "raabin_1": 135.5}
"""Centres and median size, pixels, of the boxes that TXL-PBC labels them with."""


@pytest.fixture(scope="module")
def localiser() -> Localiser:
    return Localiser.open(bundled_finder())


def sample(name: str, zoom: float = 1.0) -> Bgr:
    image = read_image(SAMPLES / "frames" / f"{name}.jpg")
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=how)
    return Bgr(np.asarray(resized, np.uint8))


def whites(seen: Seen) -> np.ndarray:
    centres = [d.box.centre for d in seen.detections if d.kind == "white"]
    return np.array(sorted(centres))


def test_its_record_is_whole() -> None:
    _, record = read_finder(bundled_finder())
    assert record.network["name"] == "finder"
    assert record.metrics["val"]["frames"] > 100


@pytest.mark.parametrize("zoom", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("name", list(WHITE_CELLS))
def test_white_cells_are_found_at_any_magnification(
    localiser: Localiser, name: str, zoom: float
) -> None:
    found = whites(localiser.look(sample(name, zoom))) / zoom
    assert found == pytest.approx(np.array(sorted(WHITE_CELLS[name])), abs=18)


@pytest.mark.parametrize("zoom", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("name", list(RED_CELL_PX))
def test_red_cells_are_measured_at_any_magnification(
    localiser: Localiser, name: str, zoom: float
) -> None:
    found = localiser.look(sample(name, zoom)).red_cell_px
    assert found == pytest.approx(zoom * RED_CELL_PX[name], rel=0.1)


@pytest.mark.parametrize("zoom", [0.25, 1.0])
def test_each_cell_of_a_wide_field_is_found_once(
    localiser: Localiser, zoom: float
) -> None:
    frame = sample("bccd_2")
    field = np.tile(frame, (4, 5, 1))
    size = (round(3200 * zoom), round(1920 * zoom))
    wide = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    seen = localiser.look(Bgr(np.asarray(wide, np.uint8)))
    found = whites(seen) / zoom
    assert len(found) == 20
    for i in range(5):
        for j in range(4):
            away = found - (140 + 640 * i, 309 + 480 * j)
            assert np.hypot(*away.T).min() < 18


def test_the_cell_of_a_known_scale_is_found_whole(localiser: Localiser) -> None:
    seen = localiser.look(sample("pbc_1"), 83.0)
    (cell,) = [d for d in seen.detections if d.kind == "white"]
    assert 100 < cell.box.width < 220
    assert not cell.cut_by_border
    scores = [d.score for d in seen.detections]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("shape", [(1, 1), (8, 200), (15, 15), (16, 16), (17, 900)])
def test_odd_frames_do_not_fail(localiser: Localiser, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    localiser.look(Bgr(noise))
    assert localiser.look(Bgr(np.zeros_like(noise))) == Seen([], None)


def nothing() -> dict[str, Bgr]:
    """Pictures without any cell."""
    rng = np.random.default_rng(0)
    stripes = np.full((700, 900, 3), (215, 225, 230), np.uint8)
    stripes[:, ::40] = (165, 150, 195)
    broad = np.full((300, 400, 3), 225, np.uint8)
    for x in range(0, 400, 20):
        broad[:, x : x + 6] = (190, 120, 150)
    return {
        "glass": Bgr(np.full((480, 640, 3), 230, np.uint8)),
        "black": Bgr(np.zeros((240, 320, 3), np.uint8)),
        "noise": Bgr(rng.integers(0, 256, (700, 900, 3), np.uint8)),
        "stripes": Bgr(stripes),
        "broad stripes": Bgr(broad),
    }


@pytest.mark.parametrize("name", list(nothing()))
def test_what_shows_no_red_cells_has_no_scale(localiser: Localiser, name: str) -> None:
    assert localiser.look(nothing()[name]) == Seen([], None)


def test_a_frame_is_left_as_it_was(localiser: Localiser) -> None:
    frame = sample("bccd_1")
    before = frame.copy()
    localiser.look(frame)
    assert np.array_equal(frame, before)


def test_it_is_known_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to try it: that takes as long as the rest of the start."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.run", refused)
    Localiser.open(bundled_finder())
