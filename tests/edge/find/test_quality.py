"""The gate on real frames, as they are and spoilt."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.quality import (
    BLURRED,
    BRIGHT,
    CAST,
    DARK,
    EMPTY,
    NO_COLOUR,
    SWAPPED,
    cell_gate,
    focus,
    frame_gate,
)
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr, resize
from edgecell.image.red_cells import red_cell_diameter
from edgecell.model.modelfile import bundled_finder

FRAMES = sorted((SAMPLES / "frames").iterdir())
Picture = npt.NDArray[np.uint8]


def scaled(*factors: float) -> Callable[[Picture], Picture]:
    def change(frame: Picture) -> Picture:
        changed = np.clip(frame * np.asarray(factors), 0, 255)
        return np.asarray(changed, np.uint8)

    return change


def defocused(frame: Picture) -> Picture:
    """By 8 % of a red cell, about where the network begins to fail."""
    diameter = red_cell_diameter(frame) or max(frame.shape) / 6
    return blurred(frame, 0.08 * diameter)


def blurred(picture: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def glass(frame: Picture) -> Picture:
    rng = np.random.default_rng(0)
    noise = rng.normal(215, 4, frame.shape)
    return np.clip(noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("path", FRAMES, ids=lambda p: p.stem)
def test_real_frames_and_their_cells_pass(path: Path) -> None:
    frame = read_image(path)
    assert frame_gate(frame) is None
    detections = Localiser.open(bundled_finder()).look(Bgr(frame)).detections
    assert "white" in {found.kind for found in detections}
    for found in detections:
        box = found.box
        cell = frame[box.y0 : box.y1, box.x0 : box.x1]
        if found.kind == "white":
            assert cell_gate(resize(cell, 112)) is None


def grey(frame: Picture) -> Picture:
    """What a monochrome camera gives."""
    mono = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(mono, cv2.COLOR_GRAY2BGR), np.uint8)


def raw(frame: Picture) -> Picture:
    """A colour sensor's pixels before they are made colours: RGGB."""
    mosaic = frame[..., 1].copy()
    mosaic[0::2, 0::2] = frame[0::2, 0::2, 2]
    mosaic[1::2, 1::2] = frame[1::2, 1::2, 0]
    return np.asarray(cv2.cvtColor(mosaic, cv2.COLOR_GRAY2BGR), np.uint8)


def swapped(frame: Picture) -> Picture:
    return np.ascontiguousarray(frame[..., ::-1])


@pytest.mark.parametrize("path", FRAMES, ids=lambda p: p.stem)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (scaled(0.35), DARK),
        (scaled(3.0), BRIGHT),
        (scaled(0.4, 1.0, 1.0), CAST),
        (defocused, BLURRED),
        (glass, EMPTY),
        (grey, NO_COLOUR),
        (raw, NO_COLOUR),
        (lambda frame: np.zeros_like(frame), DARK),
        (lambda frame: np.full_like(frame, 255), BRIGHT),
    ],
    ids="dark bright cast defocused glass grey raw black white".split(),
)
def test_spoilt_frames_are_gated_with_their_reason(
    path: Path, spoil: Callable[[Picture], Picture], reason: str
) -> None:
    assert frame_gate(spoil(read_image(path))) == reason


def test_swapped_channels_are_told_by_the_nuclei() -> None:
    gated = [frame_gate(swapped(read_image(path))) for path in FRAMES]
    assert set(gated) <= {SWAPPED, None}
    # In one frame the nucleus is too pale to tell.
    assert gated.count(SWAPPED) >= len(FRAMES) - 1


def test_a_cell_out_of_focus_is_gated() -> None:
    cell = read_image(SAMPLES / "cells" / "SNE_2.jpg")[56:168, 56:168]
    assert cell_gate(cell) is None
    assert cell_gate(blurred(cell, 5)) == BLURRED
    assert cell_gate(np.full((112, 112, 3), 200, np.uint8)) == BLURRED


def test_focus_does_not_depend_on_exposure() -> None:
    green = read_image(FRAMES[0])[::2, ::2, 1]
    bright = focus(green)
    dim = focus((green * 0.5).astype(np.uint8))
    assert dim == pytest.approx(bright, rel=0.1)


def test_focus_of_a_step_is_as_worked_out_by_hand() -> None:
    """A vertical step of 100: Laplacian 100 on each side of it, Sobel 400."""
    green = np.zeros((30, 30), np.uint8)
    green[:, 15:] = 100
    sharpness, detail = focus(green)
    assert sharpness == pytest.approx(100 / 400)
    assert detail == pytest.approx(100 / 100)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 700, 3), (16, 16, 3)])
def test_tiny_frames_are_no_error(shape: tuple[int, ...]) -> None:
    assert frame_gate(np.full(shape, 220, np.uint8)) == EMPTY
